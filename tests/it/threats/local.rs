//! A user of the machine who is no operator, and lines that somebody writes into the log.

use super::{Tries, Try, leave};
use crate::cluster::{SOON, app, cluster};

#[test]
fn a_local_user_is_nobody() {
    let secret =
        "env = { KEY = \"a-secret\" }\nlisten = [3000, { path = \"/run/api.sock\", mode = \"0660\", group = \"mail\" }]\nready = \"none\"";
    let cluster = cluster(&app("api", 1, "node /srv/apps/worker.js", secret));
    cluster.sh("chmod 600 /etc/project-cluster/cluster.toml").ok();
    let pid = cluster.main_pid("project-cluster-api@1.1.1.service").unwrap();
    let order = |verb: &str| format!("run('project-cluster', '{verb}', 'api')[:2]");
    let tries: Vec<Try> = vec![
        ("asks what runs", "the message says which group may; exit 3", "run('project-cluster', 'ls')[:2]".into(), "3:"),
        ("stops, restarts, reloads an app by the command line", "exit 3, nothing happens", format!("'+'.join({{{}, {}, {}}})", order("stop"), order("restart"), order("reload")), "3:"),
        ("installs, applies, uninstalls", "refused", "each(\"run('project-cluster', 'install')[0] != '0'\", \"run('project-cluster', 'uninstall', '--yes')[0] != '0'\")".into(), "True"),
        ("orders by TCP without a token, or with a guess", "401", "'+'.join({tcp(8887, f'POST /v1/apps/api/stop HTTP/1.1\\r\\nHost: localhost:8887\\r\\n{line}\\r\\n') for line in ('', 'Authorization: Bearer x\\r\\n', 'Authorization: Bearer ' + 64 * '0' + '\\r\\n')})".into(), "HTTP/1.1 401 Unauthorized"),
        ("connects to the app's unix socket, which only a group may", "EACCES", "unix('/run/api.sock')".into(), "EACCES"),
        ("takes the app's port beside it", "EADDRINUSE", "each('listens(3000)', 'listens(3000, True)')".into(), "EADDRINUSE"),
        ("reads the configuration, pins, copies, the token", "EACCES", "each(\"read('/etc/project-cluster/cluster.toml')\", \"read('/var/lib/project-cluster/pins/api/1.json')\", \"read('/run/project-cluster-api/1.1.1/pin.json')\", \"read('/var/lib/project-cluster/operators/token')\")".into(), "EACCES"),
        ("looks for secrets in what systemd tells everybody", "nothing there", "'a-secret' in run('systemctl', 'show', '--all', 'project-cluster*')".into(), "False"),
        ("reads the worker's environment, signals it", "EACCES, EPERM", format!("each(\"read('/proc/{pid}/environ')\", \"os.kill({pid}, 9)\")"), "EACCES+EPERM"),
        ("runs root's steps by hand", "they can do no more than their caller", "each(\"run('project-cluster', 'worker', 'prepare', '--cluster', 'project-cluster', '--app', 'api', '1.1.1')[0] != '0'\", \"run('project-cluster', 'handle', 'stop', '--cluster', 'project-cluster', 'api')[0] != '0'\")".into(), "True"),
        ("asks systemd for the cluster's units", "refused by polkit", "'+'.join({manager(verb, 'ss', unit, 'replace') for verb in ('StartUnit', 'StopUnit') for unit in ('project-cluster@api.service', 'project-cluster-api@1.1.1.service', 'project-cluster.service')})".into(), "denied"),
    ];
    let path = leave(&cluster, &tries);
    let mut by = Tries::by("a local user");
    by.script(&tries, &cluster.run_as("nobody", &["python3", "/srv/apps/hostile.py", path.to_str().unwrap()]).ok());
    assert_eq!(cluster.main_pid("project-cluster-api@1.1.1.service"), Some(pid));
    by.end();
}

/// Who has a directory directly in `/var/lib`, an app of ours with `StateDirectory=` or any other service, waits for the next
/// upgrade of the package, whose script is root's.
#[test]
fn a_directory_in_var_lib_is_no_cluster_of_ours() {
    let cluster = cluster(&app("api", 1, "node /srv/apps/worker.js", "ready = \"none\""));
    let mut by = Tries::by("who owns a directory in /var/lib");
    let files = || cluster.sh("find /etc /run -name '*evil*' | sort").ok();
    // All that an install would have kept of a cluster `evil`, whose app runs as root.
    let forge = "cp -r /var/lib/project-cluster/pins /srv/forged; cd /srv/forged; \
        sed -i 's/\"name\": *\"project-cluster\"/\"name\": \"evil\"/' installed.json settings.json; \
        sed -i 's/\"format\"/\"retired\": {\"enabled\": true, \"up\": true}, \"format\"/' installed.json";
    cluster.sh(forge).ok();
    assert!(cluster.read("/srv/forged/installed.json").contains("evil") && cluster.read("/srv/forged/installed.json").contains("retired"));
    let upgrade = ["package", "upgrade"];
    for (what, place) in [
        (
            "lays the ledger and settings of a cluster there",
            "mkdir -p /var/lib/evil; cp -rT /srv/forged /var/lib/evil/pins; chown -R games /var/lib/evil",
        ),
        (
            "has a link of systemd's lead there, as that of a dynamic user",
            "rm -rf /var/lib/evil; mkdir -p /var/lib/private/evil; cp -rT /srv/forged /var/lib/private/evil/pins; chown -R games /var/lib/private/evil; ln -s private/evil /var/lib/evil",
        ),
        (
            "has root's directory hold files of its own, by a link",
            "rm -rf /var/lib/evil; mkdir -p /var/lib/evil; ln -s /var/lib/private/evil/pins /var/lib/evil/pins",
        ),
    ] {
        cluster.sh(place).ok();
        let said = cluster.cli(&upgrade);
        let nothing = said.success() && files().is_empty() && !said.stdout.contains("evil");
        by.row(what, "an upgrade of the package passes it over", nothing, (said, files()));
    }
    // That of a cluster of ours, changed by mistake, is told.
    cluster.sh("chown games /var/lib/project-cluster/pins").ok();
    let said = cluster.cli(&upgrade);
    assert!(said.code == 1 && said.stderr.contains("is not root's alone, so nothing of it is believed"), "{said:?}");
    cluster.sh("chown root /var/lib/project-cluster/pins").ok();
    cluster.sh("rm -rf /var/lib/evil; mkdir -p /var/lib/evil; cp -rT /srv/forged /var/lib/evil/pins; chown -R root:root /var/lib/evil; chmod -R go-w /var/lib/evil").ok();
    let said = cluster.cli(&upgrade);
    by.row("is root itself", "(it may: the try itself works)", files().contains("evil"), said);
    by.end();
}

#[test]
fn a_log_line_is_text() {
    let bad = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31mred";
    let script = format!(
        "const out = Buffer.from({:?}, 'hex'); process.stdout.write(out); process.stdout.write('\\n<0>of the highest priority\\nplain {{\"level\":50}}\\n'); \
         process.stdout.write(Buffer.from([0xff, 0xfe, 0x00, 0x41, 0x0a])); process.stdout.write('x'.repeat(200000) + '\\n'); console.log('last'); setInterval(() => {{}}, 1e6)",
        bad.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    let cluster = cluster(
        &[app("api", 0, "node /srv/talks.js", "ready = \"notify\""), app("other", 1, "node /srv/apps/worker.js", "ready = \"none\"")]
            .concat(),
    );
    cluster.write("/srv/talks.js", script);
    // It never says that it is ready.
    cluster.systemctl(&["start", "--no-block", "project-cluster-api@1.1.1.service"]).ok();
    cluster.wait_until("it has spoken", SOON, || cluster.journal_of("project-cluster-api@1.1.1.service").contains("last\n"));
    let mut by = Tries::by("a hostile log line");
    let raw = |text: &str| text.chars().any(|ch| ch.is_control() && !matches!(ch, '\n' | '\t' | '\r'));
    let logs = cluster.cli(&["logs", "api"]).ok();
    by.row(
        "holds escape sequences, a bell, a title for the terminal",
        "`logs` shows them as text",
        logs.contains("red") && !raw(&logs),
        logs.chars().take(300).collect::<String>(),
    );
    by.row("holds bytes that are no text, and NUL", "shown as text", logs.contains('A') && logs.contains("last"), ());
    by.row("is 200,000 bytes long", "journald cuts it; what follows is shown", logs.lines().any(|line| line.ends_with("last")), logs.len());
    let json = cluster.cli(&["logs", "api", "--json"]).ok();
    let parsed = json.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    by.row("holds quotes, braces and line ends for `--json`", "each line is JSON", parsed && !raw(&json), json.lines().count());
    // Anybody may write these fields; an app's lines are known by those that journald itself sets.
    let forged = "printf 'MESSAGE=forged by nobody\\nPROJECT_CLUSTER_NAME=project-cluster\\nPROJECT_CLUSTER_APP=other\\nPROJECT_CLUSTER_INSTANCE=1.1.1\\nSYSLOG_IDENTIFIER=project-cluster-other\\n_SYSTEMD_UNIT=project-cluster-other@1.1.1.service\\n' | logger --journald";
    cluster.run_as("nobody", &["sh", "-euc", forged]).ok();
    cluster.run(&["journalctl", "--sync"]).ok();
    assert!(cluster.journal(&["-o", "cat"]).contains("forged by nobody"), "it is in the journal");
    let other = cluster.cli(&["logs", "other"]).ok();
    by.row("says by its fields that it is of another app", "not shown as that app's", !other.contains("forged"), other);
    // What a failed start showed of it, in the command line's message and the master's log.
    cluster.write(
        "/srv/talks.js",
        format!(
            "process.stderr.write(Buffer.from({:?}, 'hex')); process.stderr.write('\\n'); process.exit(3)",
            bad.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
        ),
    );
    cluster.systemctl(&["stop", "project-cluster-api@1.1.1.service"]).ok();
    let said = cluster.cli(&["add", "api"]);
    let shown = format!("{}{}", said.stdout, said.stderr);
    by.row(
        "is what a worker wrote last before it failed",
        "the message shows it as text",
        said.code != 0 && shown.contains("red") && !raw(&shown),
        &shown,
    );
    let show = cluster.cli(&["show", "api"]).ok() + &cluster.cli(&["ls"]).ok() + &cluster.cli(&["show", "all", "--json"]).ok();
    by.row("the same in `show`, `ls` and the API", "text", !raw(&show), show.len());
    by.end();
}
