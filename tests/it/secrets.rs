//! What is written in `env` reaches its app, and nobody else.

use super::cluster::{app, cluster};

const SECRET: &str = "hunter2-of-the-tests";

#[test]
fn secrets_in_env_reach_their_app_and_nobody_else() {
    let env = format!("env = {{ TOKEN = \"{SECRET}\" }}");
    let alone = app("alone", 1, "node /srv/apps/hello.js 3000", &format!("listen = 3000\n{env}"));
    let named = app("named", 1, "node /srv/apps/hello.js 3001", &format!("listen = 3001\nuser = \"games\"\n{env}"));
    let other = app("other", 1, "node /srv/apps/hello.js 3002", "listen = 3002\nuser = \"mail\"");
    let config = [alone, named, other].concat();
    let cluster = cluster(&config);
    cluster.sh("chmod 600 /etc/project-cluster/cluster.toml").ok();
    let pid = |app: &str| cluster.main_pid(&format!("project-cluster-{app}@1.1.1.service")).unwrap();
    let mine = ["alone", "named"];
    for app in mine {
        let environment = cluster.read(format!("/proc/{}/environ", pid(app)));
        assert!(environment.split('\0').any(|variable| variable == format!("TOKEN={SECRET}")), "{app} has it");
    }
    cluster.cli(&["reload", "all"]).ok();

    // Files: in none but root's own and the workers' copies.
    let with = cluster.sh(&format!("grep -rlFs {SECRET} /etc /var/lib /run /usr/lib/systemd /tmp || :")).ok();
    for file in with.lines() {
        let roots = file.starts_with("/var/lib/project-cluster/pins/") || file == "/etc/project-cluster/cluster.toml";
        let copy = mine.iter().any(|app| file.starts_with(&format!("/run/project-cluster-{app}/")) && file.ends_with("/pin.json"));
        assert!(roots || copy, "{file} has it");
    }
    assert!(with.lines().count() >= 5, "the search finds what is there: {with}");

    // D-Bus: every property of every unit, as anybody and as the master.
    let all = ["systemctl", "show", "--all", "--no-pager", "project-cluster*", "system-project*"];
    for user in ["root", "nobody", "project-cluster", "mail"] {
        let shown = cluster.run_as(user, &all).ok();
        assert!(shown.contains("ExecStart=") && shown.contains("Id=project-cluster-alone@1.2.1.service"), "{user} sees units");
        assert!(!shown.contains(SECRET), "{user} sees it over D-Bus");
        let path = "/org/freedesktop/systemd1/unit/project_2dcluster_2dalone_401_2e2_2e1_2eservice";
        let bus = cluster.run_as(user, &["busctl", "introspect", "--full", "org.freedesktop.systemd1", path]).ok();
        assert!(bus.contains(".Environment") && !bus.contains(SECRET), "{user}");
        let processes = cluster.run_as(user, &["ps", "-eo", "args"]).ok();
        assert!(!processes.contains(SECRET));
    }

    // Other users: neither a copy, nor an environment, nor what root keeps.
    for app in mine {
        let pid = cluster.main_pid(&format!("project-cluster-{app}@1.2.1.service")).unwrap();
        let files = [
            format!("/run/project-cluster-{app}/1.2.1/pin.json"),
            format!("/proc/{pid}/environ"),
            "/var/lib/project-cluster/pins/settings.json".to_owned(),
            format!("/var/lib/project-cluster/pins/{app}/2.json"),
            "/etc/project-cluster/cluster.toml".to_owned(),
        ];
        for file in files {
            assert_ne!(cluster.run(&["cat", &file]).exits(0).stdout, "", "{file} is there");
            for user in ["nobody", "project-cluster", "mail"] {
                let read = cluster.run_as(user, &["cat", &file]);
                assert!(read.code != 0 && read.stderr.contains("Permission denied"), "{user} reads {file}: {read:?}");
            }
        }
    }
    // The other app, from inside of its own sandbox: not even the processes are there to be seen.
    let inside = format!(
        "cat /proc/{}/environ /run/project-cluster-alone/*/pin.json /var/lib/project-cluster/settings.json",
        pid_of_other(&cluster)
    );
    let read = cluster.run(&[
        "nsenter",
        "-t",
        &pid_of_other(&cluster).to_string(),
        "-m",
        "setpriv",
        "--reuid=mail",
        "--clear-groups",
        "sh",
        "-c",
        &inside,
    ]);
    assert!(!read.stdout.contains(SECRET), "{read:?}");

    // What is told: journal, API, diff.
    assert!(!cluster.journal(&[]).contains(SECRET), "the journal has it");
    for arguments in [&["show", "all", "--json"][..], &["show", "all"], &["ls", "--json"], &["logs", "all"], &["check", "--json"]] {
        assert!(!cluster.cli(arguments).ok().contains(SECRET), "{arguments:?}");
    }
    assert!(cluster.cli(&["show", "alone", "--json"]).ok().contains("hello.js"));
    cluster.config(&config.replace(SECRET, "another-secret"));
    let diff = cluster.cli(&["install", "--diff"]).exits(0);
    assert!(diff.stdout.contains("not shown") && !(diff.stdout + &diff.stderr).contains("-secret"));
    let said = cluster.cli(&["install"]).exits(0);
    assert!(!(said.stdout + &said.stderr).contains("another-secret"));
    assert!(!cluster.read("/var/lib/project-cluster/settings.json").contains("TOKEN"), "the master knows of no variable at all");
}

fn pid_of_other(cluster: &super::cluster::Cluster) -> i32 {
    cluster.main_pid("project-cluster-other@1.2.1.service").unwrap()
}
