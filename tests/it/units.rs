//! The units as a real systemd reads them: verified, complete, explained, with the owners and rights of the design.

use std::collections::BTreeSet;

use super::cluster::{Cluster, app, cluster};
use super::support::Output;

/// An app of each kind.
fn every_kind() -> String {
    [
        app(
            "api",
            2,
            "node /srv/apps/hello.js 3000",
            "listen = [3000]\nlimits = { MemoryHigh = \"1G\" }\nreload.hooks.before = \"true 100%\"",
        ),
        app("api-v2", 1, "node /srv/apps/hello.js 3001", "listen = \"127.0.0.1:3001\"\nuser = \"games\""),
        app("unix", 1, "node /srv/apps/hello.js /run/unix-app/a.sock", "listen = { path = \"/run/unix-app/a.sock\", mode = \"0600\" }"),
        app("own", 1, "node /srv/apps/hello.js", "spawn = \"child\"\nport = 4100\nports = \"4150-4151\"\nready = { http = \"/\" }"),
        app("asleep", 1, "node /srv/apps/hello.js 3002", "listen = 3002\non_demand = true"),
        app("bg", 1, "node /srv/apps/worker.js '100%' '$HOME'", "systemd = { LimitNOFILE = \"1234\" }"),
    ]
    .concat()
}

/// All units of the cluster that are loaded, its sockets, triggers and workers included.
fn ours(cluster: &Cluster) -> Vec<String> {
    let patterns = ["project-cluster.*", "project-cluster@*", "project-cluster-*"];
    patterns.iter().flat_map(|pattern| cluster.units(pattern, &[])).collect()
}

#[test]
fn every_unit_verifies_explains_itself_and_names_units_that_exist() {
    let cluster = cluster(&every_kind());
    let units = ours(&cluster);
    for expected in ["project-cluster.target", "project-cluster.socket", "project-cluster@bg.service", "project-cluster-api@2.1.1.service"]
    {
        assert!(units.iter().any(|unit| unit == expected), "{expected} in {units:?}");
    }
    for app in ["api", "api-v2", "unix", "asleep"] {
        assert!(units.contains(&format!("project-cluster-first@{app}.service")), "{app}: {units:?}");
    }
    // In an argument of `verify` a colon sets an alias off, so sockets and hooks go by a copy whose name has none.
    cluster.sh("mkdir /root/copies; cd /etc/systemd/system; for unit in project-cluster-*:*; do cp -- $unit /root/copies/$(echo $unit | tr : _); done").ok();
    let copies = cluster.sh("ls -d /root/copies/*").ok();
    assert_eq!((copies.lines().count(), copies.contains("/project-cluster-api_before@.service")), (5, true), "{copies}");
    let mut verify = vec!["systemd-analyze", "verify"];
    verify.extend(units.iter().map(String::as_str).filter(|unit| !unit.contains(':')).chain(copies.lines()));
    let verified = cluster.run(&verify).exits(0);
    assert_eq!((verified.stdout.as_str(), verified.stderr.as_str()), ("", ""), "systemd-analyze verify is silent");

    // Everything that one of them names is there and loads.
    let properties = [
        "Wants",
        "Requires",
        "PartOf",
        "After",
        "Before",
        "Triggers",
        "TriggeredBy",
        "StopPropagatedFrom",
        "ConsistsOf",
        "PropagatesStopTo",
    ];
    let mut named = BTreeSet::new();
    for unit in &units {
        for property in properties {
            named.extend(cluster.property(unit, property).split_whitespace().map(String::from));
        }
        assert_eq!(cluster.property(unit, "NeedDaemonReload"), "no", "{unit}");
    }
    // `Sockets=` of a template is no property of its own: read as written.
    let written = cluster
        .sh("find /etc/systemd/system -maxdepth 1 -type f -name 'project-cluster*' -exec sed -n 's/^\\(Sockets\\|Service\\)=//p' {} +")
        .ok();
    named.extend(written.lines().map(String::from));
    let named: Vec<String> = named.into_iter().filter(|unit| unit.starts_with("project-cluster")).collect();
    assert!(named.len() > 10, "{named:?}");
    for unit in &named {
        assert_eq!(cluster.property(unit, "LoadState"), "loaded", "{unit} is named and not there");
    }

    let bg = cluster.systemctl(&["cat", "project-cluster@bg.service"]).ok();
    for word in ["node /srv/apps/worker.js", "100%", "/srv/shop/current", "1 worker"] {
        assert!(bg.contains(word), "{word}: {bg}");
    }
    assert!(cluster.property("project-cluster@bg.service", "Description").contains("node /srv/apps/worker.js '100%' '$HOME'"));
    let worker = cluster.systemctl(&["cat", "project-cluster-api@1.1.1.service"]).ok();
    assert!(worker.contains("A worker of api") && worker.contains("node /srv/apps/hello.js 3000"), "{worker}");
    for unit in &units {
        let description = cluster.property(unit, "Description");
        assert!(description.starts_with("project-cluster: ") && description != *unit, "{unit}: {description}");
        assert!(
            cluster.systemctl(&["cat", "--", unit]).ok().lines().filter(|line| line.starts_with("# ")).count() > 2,
            "{unit} has comments"
        );
    }
}

#[test]
fn places_have_the_owners_and_modes_of_the_design() {
    let cluster = cluster(&every_kind());
    let expected = [
        ("/etc/systemd/system/project-cluster.service", "root:root 644"),
        ("/etc/systemd/system/project-cluster-api@.service", "root:root 644"),
        ("/etc/polkit-1/rules.d/50-project-cluster.rules", "root:root 644"),
        ("/etc/sysusers.d/project-cluster.conf", "root:root 644"),
        ("/var/lib/project-cluster", "root:root 755"),
        ("/var/lib/project-cluster/settings.json", "root:project-cluster 640"),
        ("/var/lib/project-cluster/pins", "root:root 700"),
        ("/var/lib/project-cluster/pins/settings.json", "root:root 600"),
        ("/var/lib/project-cluster/pins/api", "root:root 700"),
        ("/var/lib/project-cluster/pins/api/1.json", "root:root 600"),
        ("/var/lib/project-cluster/generations", "root:root 755"),
        ("/var/lib/project-cluster/state", "project-cluster:project-cluster 700"),
        ("/run/project-cluster", "root:root 755"),
        ("/run/project-cluster/state", "project-cluster:project-cluster 700"),
        ("/run/project-cluster/api.sock", "root:project-cluster 660"),
        ("/run/project-cluster-api", "root:root 755"),
        ("/run/project-cluster-api/1.1.1", "project-cluster-api:project-cluster-api 700"),
        ("/run/project-cluster-api/1.1.1/pin.json", "project-cluster-api:project-cluster-api 400"),
        ("/run/project-cluster-api-v2/1.1.1/pin.json", "games:games 400"),
        ("/run/unix-app/a.sock", "root:root 600"),
    ];
    let mut command = vec!["stat", "-c", "%n %U:%G %a"];
    command.extend(expected.iter().map(|(path, _)| *path));
    let found = cluster.run(&command).ok();
    let wanted: Vec<String> = expected.iter().map(|(path, access)| format!("{path} {access}")).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted);
    // The master is nobody special.
    let master = cluster.main_pid("project-cluster.service").unwrap();
    let status = cluster.read(format!("/proc/{master}/status"));
    assert!(status.contains("CapPrm:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(cluster.run(&["stat", "-c", "%U", &format!("/proc/{master}")]).ok(), "project-cluster");
    // And what it can write leads nowhere that systemd or a worker reads: no file of its own is outside of its two places.
    let own = "find / -xdev -user project-cluster -not -path '/proc/*' -not -path '/sys/*'; find /run -user project-cluster";
    for path in cluster.sh(own).ok().lines() {
        let place = path.starts_with("/var/lib/project-cluster/state") || path.starts_with("/run/project-cluster/state");
        assert!(place, "{path} is the master's");
    }
}

const MANAGER: [&str; 3] = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];

/// What the master's user gets when it calls this.
fn as_master(cluster: &Cluster, call: &[&str]) -> Output {
    let mut command = vec!["busctl", "--allow-interactive-authorization=false", "call"];
    command.extend(MANAGER);
    command.extend(call);
    cluster.run_as("project-cluster", &command)
}

#[test]
fn polkit_lets_the_master_do_its_work_and_nothing_else() {
    let cluster = cluster(&every_kind());
    cluster.unit("foreign@.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    cluster.unit("project-cluster-other.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    let socket = "project-cluster-asleep-:::3002.socket";
    let worker = "project-cluster-api@2.1.1.service";
    for (verb, unit) in [
        ("StopUnit", worker),
        ("StartUnit", worker),
        ("RestartUnit", worker),
        ("StartUnit", "project-cluster-api@2.2-1.1.service"),
        ("StopUnit", "project-cluster-api@2.2-1.1.service"),
        ("StopUnit", socket),
        ("StartUnit", socket),
        ("StopUnit", "project-cluster@bg.service"),
        ("StartUnit", "project-cluster@bg.service"),
        ("ReloadUnit", "project-cluster@bg.service"),
        ("StartUnit", "project-cluster-first@api.service"),
        ("StopUnit", "project-cluster-first@api.service"),
        ("StartUnit", "project-cluster-api:before@2.service"),
        ("StopUnit", "project-cluster-api:before@2.service"),
    ] {
        as_master(&cluster, &[verb, "ss", unit, "replace"]).ok();
    }
    as_master(&cluster, &["ResetFailedUnit", "s", worker]).ok();

    // systemd 257 asks polkit for a transient unit as for any start, and then refuses what has a unit file, as all of ours do.
    let taken = "was already loaded or has a fragment file";
    let refused = |call: &[&str]| {
        let output = as_master(&cluster, call);
        let mut words = vec!["Access denied", "Interactive authentication required", "AccessDenied"];
        if call[0] == "StartTransientUnit" {
            words.push(taken);
        }
        let denied = words.iter().any(|word| output.stderr.contains(word));
        assert!(output.code != 0 && denied, "{call:?} was not refused: {output:?}");
    };
    for unit in [
        "foreign@1.service",
        "project-cluster-other.service",
        "systemd-journald.service",
        "project-cluster.service",
        "project-cluster.socket",
        "project-cluster.target",
        "project-cluster@nothing.service",
        "project-cluster@api.socket",
        "project-cluster-api@1.2.3.4.service",
        "project-cluster-api@x.service",
        "project-cluster-api@1.1.service",
        "project-cluster-api@0.1.1.service",
        "project-cluster-api@01.1.1.service",
        "project-cluster-api@1.1-0.1.service",
        "project-cluster-api@1.1.1-1.service",
        "project-cluster-apiv2@1.1.1.service",
        "project-cluster-api:after@2.service",
        "project-cluster-bg:before@2.service",
    ] {
        for verb in ["StartUnit", "StopUnit", "RestartUnit"] {
            refused(&[verb, "ss", unit, "replace"]);
        }
    }
    refused(&["KillUnit", "ssi", worker, "main", "9"]);
    refused(&["SetUnitProperties", "sba(sv)", worker, "true", "1", "CPUWeight", "t", "1"]);
    refused(&["FreezeUnit", "s", worker]);
    refused(&["ReloadUnit", "ss", worker, "replace"]);
    refused(&["TryRestartUnit", "ss", worker, "replace"]);
    refused(&["EnqueueUnitJob", "sss", worker, "stop", "replace"]);
    refused(&["ResetFailed", ""]);
    refused(&["Reload", ""]);
    refused(&["EnableUnitFiles", "asbb", "1", "foreign@1.service", "false", "false"]);
    refused(&["SetEnvironment", "as", "1", "A=1"]);
    let exec = ["3", "Description", "s", "x", "Type", "s", "oneshot", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false"];
    for name in ["transient.service", "project-cluster-api@9.9.9.service"] {
        let mut call = vec!["StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace"];
        call.extend(exec);
        call.push("0");
        refused(&call);
    }
    // A job, even one of its own unit.
    cluster.unit("slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 1000\n");
    cluster.systemctl(&["start", "--no-block", "slow.service"]).ok();
    let jobs = cluster.systemctl(&["list-jobs", "--no-legend"]).ok();
    let job = jobs.split_whitespace().next().unwrap_or_else(|| panic!("no job"));
    refused(&["CancelJob", "u", job]);
    // Nobody else has any of this.
    let command = [
        "busctl",
        "--allow-interactive-authorization=false",
        "call",
        MANAGER[0],
        MANAGER[1],
        MANAGER[2],
        "StopUnit",
        "ss",
        worker,
        "replace",
    ];
    assert_ne!(cluster.run_as("games", &command).code, 0);
    assert_eq!(cluster.state(worker), "active");
}
