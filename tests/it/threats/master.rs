//! Who owns the master: its process inside its sandbox, its user outside of it, and what root reads of what it wrote.

use super::{Tries, Try, leave};
use crate::cluster::{Cluster, SOON, app, cluster};

const SECRET: &str = "a-secret-of-the-app";
const WORKER: &str = "project-cluster-api@1.1.1.service";
const MEMORY: &str = "/var/lib/project-cluster/state/apps.json";
const STATE: &str = "/run/project-cluster/state";

fn shop() -> Cluster {
    let cluster = cluster(&app("api", 1, "node /srv/apps/hello.js 3000", &format!("listen = 3000\nenv = {{ KEY = \"{SECRET}\" }}")));
    cluster.sh("chmod 600 /etc/project-cluster/cluster.toml; cp /usr/bin/id /srv/rootid; chmod 4755 /srv/rootid").ok();
    cluster
}

/// Runs these as the master would: the same unit, user and sandbox, another program.
#[track_caller]
fn instead_of_the_master(cluster: &Cluster, tries: &[Try]) -> String {
    let path = leave(cluster, tries);
    let unit = cluster.read("/etc/systemd/system/project-cluster.service");
    let ours = ["Type=", "ExecStart=", "WatchdogSec=", "Restart=", "RestartSec="];
    let mut text: String =
        unit.lines().filter(|line| !ours.iter().any(|key| line.starts_with(key))).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("Type=oneshot\nExecStart=/usr/bin/python3 /srv/apps/hostile.py {}\n", path.display()));
    cluster.unit("rogue.service", &text);
    cluster.systemctl(&["start", "rogue.service"]).ok();
    cluster.journal_of("rogue.service")
}

#[test]
fn the_master_s_process_can_do_its_work_alone() {
    let cluster = shop();
    let pid = cluster.main_pid(WORKER).unwrap();
    let copy = "/run/project-cluster-api/1.1.1/pin.json";
    let reads = |paths: &[&str]| {
        let all: Vec<String> = paths.iter().map(|path| format!("outcome(\"read('{path}')\")")).collect();
        format!("'+'.join(sorted({{{}}}))", all.join(", "))
    };
    let writes = |paths: &[&str]| reads(paths).replace("read(", "write(");
    let fine = "(it may: the try itself works)";
    let tries: Vec<Try> = vec![
        ("writes into its own directory", fine, format!("write('{STATE}/mine')"), "None"),
        ("reads the settings that `install` left it", fine, "'api' in read('/var/lib/project-cluster/settings.json')".into(), "True"),
        (
            "becomes root, or the app's user",
            "EPERM",
            "'+'.join({outcome('os.setuid(0)'), outcome('os.setresuid(1, 1, 1)')})".into(),
            "EPERM",
        ),
        ("becomes root by a set-user-ID program", "runs as itself", "run('/srv/rootid', '-u') == str(os.getuid())".into(), "True"),
        (
            "makes a symlink for root to follow",
            "EPERM: no such call in its filter",
            format!("os.symlink('/etc/shadow', '{STATE}/link')"),
            "EPERM",
        ),
        ("makes a hard link of a file of root's", "EPERM", format!("os.link('/etc/passwd', '{STATE}/link')"), "EPERM"),
        (
            "opens a listener, on TCP or a unix socket",
            "no family, and EPERM",
            "'+'.join([outcome('listens(9999)'), outcome('abstract(\"x\")')])".into(),
            "EAFNOSUPPORT+EPERM",
        ),
        ("connects over TCP or UDP", "EAFNOSUPPORT", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)".into(), "EAFNOSUPPORT"),
        (
            "mounts, makes a namespace, enters one",
            "EPERM",
            "'+'.join({outcome(f'call({n})') for n in ('165, 0, 0, 0, 0, 0', '272, 0x10000000', '308, 0, 0')})".into(),
            "EPERM",
        ),
        (
            "ptrace, bpf, keyctl, io_uring, userfaultfd, perf",
            "EPERM",
            "'+'.join({outcome(f'call({n}, 0, 0, 0, 0, 0)') for n in (101, 321, 250, 425, 323, 298)})".into(),
            "EPERM",
        ),
        ("memory that is written and executed", "EPERM or EACCES", "call(9, 0, 4096, 7, 0x22, -1, 0)".into(), "EPERM|EACCES"),
        ("signals a worker", "EPERM", format!("os.kill({pid}, 9)"), "EPERM"),
        (
            "reads a worker's memory, or takes a descriptor of it",
            "EPERM",
            format!("'+'.join({{outcome('call(310, {pid}, 0, 0, 0, 0, 0)'), outcome('call(438, 0, 0, 0)')}})"),
            "EPERM",
        ),
        (
            "reads a worker's environment, memory and descriptors in /proc",
            "EACCES",
            format!(
                "'+'.join({{outcome('read(\"/proc/{pid}/environ\")'), outcome('read(\"/proc/{pid}/mem\")'), outcome('os.listdir(\"/proc/{pid}/fd\")')}})"
            ),
            "EACCES",
        ),
        ("reads a worker's copy of its pin", "EACCES", reads(&[copy]), "EACCES"),
        (
            "changes a worker's copy of its pin, or puts another in its place",
            "EACCES",
            format!(
                "'+'.join({{outcome('write(\"{copy}\")'), outcome('os.rename(\"{STATE}/mine\", \"{copy}\")'), outcome('os.unlink(\"{copy}\")')}})"
            ),
            "EACCES",
        ),
        (
            "reads pins, the configuration, the operators' token",
            "EACCES",
            reads(&[
                "/var/lib/project-cluster/pins/settings.json",
                "/var/lib/project-cluster/pins/api/1.json",
                "/etc/project-cluster/cluster.toml",
                "/var/lib/project-cluster/operators/token",
            ]),
            "EACCES",
        ),
        (
            "writes a pin or the counter of generations",
            "EACCES",
            writes(&["/var/lib/project-cluster/pins/api/1.json", "/var/lib/project-cluster/pins/api/counter.json"]),
            "EACCES",
        ),
        (
            "writes its settings, the published generations, the counts of crashes",
            "EROFS or EACCES",
            writes(&[
                "/var/lib/project-cluster/settings.json",
                "/var/lib/project-cluster/generations/api",
                "/run/project-cluster/crashes/api/1.1.1.json",
            ]),
            "EROFS|EACCES+EROFS",
        ),
        (
            "writes a unit, a drop-in or a polkit rule",
            "EROFS or EACCES",
            writes(&[
                "/etc/systemd/system/project-cluster-api@.service",
                "/run/systemd/system/x.service",
                "/etc/systemd/system/project-cluster-api@.service.d",
                "/etc/polkit-1/rules.d/50-project-cluster.rules",
            ]),
            "EROFS|EACCES+EROFS",
        ),
        ("moves a process into a control group of others", "EROFS", "write('/sys/fs/cgroup/init.scope/cgroup.procs', '1')".into(), "EROFS"),
        (
            "runs a command as root by systemd",
            "refused by polkit, or its client by the filter",
            "manager('StartTransientUnit', 'ssa(sv)a(sa(sv))', 'x.service', 'replace', '0', '0')".into(),
            "denied|hung up",
        ),
    ];
    let mut by = Tries::by("the master's process");
    let printed = instead_of_the_master(&cluster, &tries);
    by.script(&tries, &printed);
    assert_eq!(cluster.main_pid(WORKER), Some(pid), "the worker is as it was");
    by.end();
}

#[test]
fn the_master_s_user_asks_systemd_for_more_than_its_units() {
    let cluster = shop();
    for unit in ["victim.service", "project-cluster-apix@.service", "xproject-cluster-api@.service"] {
        cluster.unit(unit, "[Service]\nExecStart=/bin/sleep infinity\n");
    }
    cluster.systemctl(&["start", "victim.service"]).ok();
    // A method with one unit and a mode; what came of each, once.
    let units = |methods: &[&str], units: &[&str]| {
        format!("'+'.join({{manager(method, 'ss', unit, 'replace') for method in {methods:?} for unit in {units:?}}})")
    };
    let all = ["StartUnit", "StopUnit", "RestartUnit", "ReloadUnit", "TryRestartUnit", "ReloadOrRestartUnit"];
    let most = ["StartUnit", "StopUnit"];
    let mine = "project-cluster-api@1.1.1.service";
    let denied = "refused by polkit";
    let tries: Vec<Try> = vec![
        ("starts a worker of its own", "(it may: the try itself works)", units(&["StartUnit"], &[mine]), "o \"/org/freedesktop/systemd1/job/*"),
        ("starts, stops, restarts, reloads another unit", denied, units(&all, &["victim.service"]), "denied"),
        ("starts or stops what is the system's", denied, units(&most, &["dbus.service", "rescue.target", "multi-user.target"]), "denied"),
        ("the same of its own master, target and API socket", denied, units(&most, &["project-cluster.service", "project-cluster.target", "project-cluster.socket"]), "denied"),
        ("the same of units that are called nearly as its own", denied, units(&most, &["project-cluster-apix@1.1.1.service", "xproject-cluster-api@1.1.1.service", "project-cluster@other.service", "project-cluster-api@01.1.1.service", "project-cluster-api@1.1.1.socket", "project-cluster-api@0.1.1.service"]), "denied"),
        ("verbs that it does not need, of its own worker", denied, units(&["ReloadUnit", "TryRestartUnit", "ReloadOrRestartUnit", "ReloadOrTryRestartUnit"], &[mine]), "denied"),
        ("signals, freezes, limits its own worker", denied, format!("'+'.join({{manager('KillUnit', 'ssi', '{mine}', 'all', '9'), manager('FreezeUnit', 's', '{mine}'), manager('SetUnitProperties', 'sba(sv)', '{mine}', 'true', '1', 'MemoryMax', 't', '1'), manager('CleanUnit', 'sas', '{mine}', '1', 'runtime')}})"), "denied"),
        ("mounts something into its worker", denied, format!("manager('BindMountUnit', 'sssbb', '{mine}', '/srv', '/etc', 'false', 'false')"), "denied"),
        ("makes a unit of its own: as root, as another user, under the name of a worker", denied, "'+'.join({manager('StartTransientUnit', 'ssa(sv)a(sa(sv))', name, 'replace', '1', 'User', 's', user, '0') for name in ('x.service', 'project-cluster-api@2.1.1.service') for user in ('root', 'games')})".into(), "denied|denied+refused"),
        ("reloads or re-executes systemd, sets its environment", denied, "'+'.join({manager('Reload'), manager('Reexecute'), manager('SetEnvironment', 'as', '1', 'LD_PRELOAD=/srv/x.so')})".into(), "denied"),
        ("enables, masks or links unit files", denied, "'+'.join({manager('EnableUnitFiles', 'asbb', '1', 'victim.service', 'false', 'false'), manager('MaskUnitFiles', 'asbb', '1', 'victim.service', 'true', 'false'), manager('LinkUnitFiles', 'asbb', '1', '/srv/x.service', 'true', 'false')})".into(), "denied"),
        ("cancels jobs, forgets all failures", denied, "'+'.join({manager('ClearJobs'), manager('ResetFailed')})".into(), "denied"),
        ("isolates a unit, which would stop all others", "refused by systemd", format!("manager('StartUnit', 'ss', '{mine}', 'isolate').split(': ')[-1]"), "Operation refused, unit may not be isolated."),
        ("powers off", "refused", "run('busctl', 'call', 'org.freedesktop.systemd1', '/org/freedesktop/systemd1', 'org.freedesktop.systemd1.Manager', 'PowerOff')[:2]".into(), "1:"),
        ("starts workers out of bounds: slot 1025, a generation that is none, a pin that is none", "the first step refuses; none of them becomes the app", "'+'.join({run('systemctl', 'start', f'project-cluster-api@{name}.service')[:2] for name in ('1025.1.1', '1.99.1', '1.9-5.1', '1.3-1.1')})".into(), "1:"),
    ];
    let path = leave(&cluster, &tries);
    let mut by = Tries::by("the master's user");
    let command = ["python3", "/srv/apps/hostile.py", path.to_str().unwrap()];
    by.script(&tries, &cluster.run_as("project-cluster", &command).ok());
    assert_eq!((cluster.state("victim.service").as_str(), cluster.workers("api").len()), ("active", 1));
    assert!(cluster.journal(&["_COMM=node", "-u", "project-cluster-api@1025.1.1.service", "-o", "cat"]).is_empty());
    // While an app comes or goes there is no unit file of a name that the rule knows: systemd 257 would take a made-up one.
    cluster.systemctl(&["stop", "project-cluster@api.service"]).ok();
    cluster.sh("mv /etc/systemd/system/project-cluster-api@.service /srv; systemctl daemon-reload").ok();
    let made_up = "manager('StartTransientUnit', 'ssa(sv)a(sa(sv))', 'project-cluster-api@7.7.7.service', 'replace', '1', 'ExecStart', 'a(sasb)', '1', '/bin/touch', '2', '/bin/touch', '/root/owned', 'false', '0')";
    cluster.write("/srv/made-up.json", serde_json::to_string(&[made_up]).unwrap());
    let said = cluster.run_as("project-cluster", &["python3", "/srv/apps/hostile.py", "/srv/made-up.json"]).ok();
    by.row(
        "makes one up under the name of a worker while an app's unit files come or go",
        denied,
        said == "TRIED [\"denied\"]" && !cluster.exists("/root/owned"),
        said,
    );
    cluster.sh("mv /srv/project-cluster-api@.service /etc/systemd/system; systemctl daemon-reload").ok();
    // One that can never be is not tried again and again at full speed.
    let often = || cluster.journal_of("project-cluster-api@1025.1.1.service").matches("is no worker of api").count();
    cluster.unit("control.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=100ms\n");
    cluster.systemctl(&["start", "--no-block", "control.service"]).ok();
    let control = || cluster.property("control.service", "NRestarts").parse::<u32>().unwrap();
    cluster.wait_until("it was tried, and another one very often", SOON, || often() >= 2 && control() >= 8);
    let restarts = cluster.property("project-cluster-api@1025.1.1.service", "NRestarts");
    by.row(
        "lets such a one come back for ever",
        "from its second return on it waits 30 s each time",
        restarts.parse::<u32>().is_ok_and(|count| count <= 2),
        restarts,
    );
    // The same rule for others: who is not the master may not even what it may.
    for user in ["nobody", "games"] {
        let handles = ["project-cluster@api.service", mine, "project-cluster-first@api.service", "project-cluster.service"];
        cluster.write("/srv/others.json", serde_json::to_string(&[units(&most, &handles)]).unwrap());
        let said = cluster.run_as(user, &["python3", "/srv/apps/hostile.py", "/srv/others.json"]).ok();
        by.row(&format!("the user `{user}` starts or stops the cluster's units"), denied, said == "TRIED [\"denied\"]", said);
    }
    by.end();
}

#[test]
fn root_believes_nothing_that_the_master_wrote() {
    let cluster = shop();
    let mut by = Tries::by("what the master wrote");
    let as_master = |script: &str| cluster.run_as("project-cluster", &["sh", "-euc", script]).ok();
    let handle = "project-cluster@api.service";
    let restart = || cluster.run_within(SOON, &["systemctl", "restart", handle]);
    let told = || cluster.journal(&[]).contains(SECRET);
    let lies = [
        ("leaves a symlink to root's settings as its memory", format!("ln -sfn /var/lib/project-cluster/pins/settings.json {MEMORY}")),
        ("leaves a FIFO", format!("rm -f {MEMORY}; mkfifo {MEMORY}")),
        ("leaves a file of 8 GiB", format!("rm -f {MEMORY}; truncate -s 8G {MEMORY}")),
        ("leaves JSON a million brackets deep", format!("rm -f {MEMORY}; head -c 1000000 /dev/zero | tr '\\0' '[' > {MEMORY}")),
        ("remembers a generation and a pin that are none, and slots beyond all bounds", {
            let memory =
                r#"{"format":1,"apps":{"api":{"generation":18446744073709551615,"pin":77,"slots":[1,1024,1025,65535],"stopped":[3]}}}"#;
            format!("rm -f {MEMORY}; echo '{memory}' > {MEMORY}")
        }),
    ];
    for (what, lie) in lies {
        cluster.systemctl(&["stop", "project-cluster.service", "project-cluster.socket", "project-cluster-tcp.socket"]);
        as_master(&lie);
        let end = restart();
        let up = cluster.workers("api");
        let bounded = !up.is_empty()
            && cluster.units("project-cluster-api@*", &["active"]).iter().all(|unit| !unit.contains("@1025.") && !unit.contains("@65535."));
        by.row(what, "the start step goes by the pins, and tells nothing of what it read", end.success() && bounded && !told(), (end, up));
        as_master(&format!("rm -f {MEMORY}"));
    }
    cluster.write("/srv/victim/file", "mine");
    as_master(&format!("rm -rf {STATE}/sleep-api; ln -sfn /srv/victim/file {STATE}/sleep-api"));
    let end = cluster.systemctl(&["stop", handle]);
    by.row(
        "leaves a symlink as a mark that root removes",
        "the link goes, what it leads to stays",
        end.success() && cluster.exists("/srv/victim/file"),
        end,
    );
    as_master(&format!("mkdir -p {STATE}/sleep-api; touch {STATE}/sleep-api/x"));
    let end = cluster.systemctl(&["start", handle]);
    by.row("leaves a directory as that mark", "root's step goes on without", end.success(), end);
    let moved = cluster.run_as("project-cluster", &["sh", "-c", "mv /run/project-cluster/state /run/project-cluster/x || ln -s /etc /run/project-cluster/crashes/x || ln -s /etc /var/lib/project-cluster/generations/x"]);
    by.row(
        "moves its directory away, or puts links where root writes",
        "EACCES: all above it is root's",
        moved.stderr.matches("Permission denied").count() == 3,
        &moved,
    );
    as_master(&format!(
        "rm -rf /var/lib/project-cluster/state/*; ln -s /srv/victim /var/lib/project-cluster/state/tree; ln -sfn /etc/shadow {MEMORY}"
    ));
    let end = cluster.cli(&["install"]);
    by.row("leaves links in its state before an `install`", "it follows none", end.success() && !told(), end);
    let end = cluster.cli(&["uninstall", "--purge"]);
    let end = if end.success() { end } else { cluster.cli(&["uninstall"]) };
    by.row(
        "leaves links in its state before an `uninstall`",
        "the links go, what they lead to stays",
        end.success() && cluster.exists("/srv/victim/file") && cluster.exists("/etc/shadow"),
        end,
    );
    by.end();
}
