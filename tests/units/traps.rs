//! One regression test per trap of systemd that the text of a unit can step into, and what must hold between units.

use std::collections::BTreeSet;
use std::path::Path;

use project_cluster::config::settings::{App, Ready, Settings};
use project_cluster::names::{AppName, AppUnits};
use project_cluster::units::model::{Host, Tree};

use crate::samples;
use crate::unit::{directives, text, tree, values};

/// Every cluster of the golden trees with its tree.
fn everything() -> Vec<(Settings, Tree)> {
    samples::all().into_iter().flat_map(|(_, clusters)| clusters).map(|settings| (settings.clone(), tree(&settings))).collect()
}

/// For each app of each cluster.
fn each_app(check: impl Fn(&Tree, &AppUnits<'_>, &AppName, &App)) {
    for (settings, tree) in everything() {
        for (name, app) in &settings.apps {
            check(&tree, &AppUnits::new(&settings.name, name), name, app);
        }
    }
}

fn worker<'t>(tree: &'t Tree, units: &AppUnits<'_>) -> &'t str {
    text(tree, &format!("{}@.service", units.prefix()))
}

fn one(text: &str, section: &str, key: &str) -> String {
    let mut found = values(text, section, key);
    assert_eq!(found.len(), 1, "{key} in\n{text}");
    found.remove(0)
}

#[test]
fn trap_01_start_limit_off_in_workers() {
    each_app(|tree, units, _, _| assert_eq!(one(worker(tree, units), "Unit", "StartLimitIntervalSec"), "0"));
}

#[test]
fn trap_02_trigger_and_start_limits_off_in_sockets_handles_and_triggers() {
    each_app(|tree, units, _, app| {
        for socket in app.listen.iter().map(|listen| text(tree, &units.socket(&listen.address))) {
            assert_eq!(one(socket, "Socket", "TriggerLimitIntervalSec"), "0");
            assert_eq!(one(socket, "Unit", "StartLimitIntervalSec"), "0");
        }
        for template in ["", "-first"] {
            assert_eq!(one(text(tree, &format!("{}{template}@.service", units.cluster)), "Unit", "StartLimitIntervalSec"), "0");
        }
    });
}

#[test]
fn trap_03_nothing_is_ordered_after_handle_or_master() {
    const ORDER: [&str; 2] = ["After", "Before"];
    each_app(|tree, units, _, app| {
        assert_eq!(one(worker(tree, units), "Unit", "After"), "network.target remote-fs.target nss-lookup.target");
        let sockets = app.listen.iter().map(|listen| units.socket(&listen.address));
        for name in sockets.chain([format!("{}@.service", units.cluster), format!("{}.d/50-app.conf", units.handle())]) {
            for (_, key, value) in directives(text(tree, &name)) {
                assert!(!ORDER.contains(&key.as_str()), "{name}: {key}={value}");
            }
        }
    });
}

#[test]
fn trap_04_workers_depend_on_neither_master_nor_handle_and_the_stop_step_is_stop_post() {
    const DEPENDENCIES: [&str; 9] =
        ["Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "PropagatesStopTo", "StopPropagatedFrom", "Conflicts"];
    each_app(|tree, units, _, _| {
        for (_, key, value) in directives(worker(tree, units)) {
            assert!(!DEPENDENCIES.contains(&key.as_str()), "{key}={value}");
        }
        let handle = text(tree, &format!("{}@.service", units.cluster));
        assert_eq!(values(handle, "Service", "ExecStop"), Vec::<String>::new());
        assert!(one(handle, "Service", "ExecStopPost").starts_with("+/"), "the stop works without master, D-Bus and polkit");
        assert!(one(handle, "Service", "ExecStart").starts_with("+/"));
        assert!(one(handle, "Service", "ExecReload").starts_with('/'), "a reload runs as the cluster's user");
        assert_eq!(one(handle, "Service", "SuccessExitStatus"), "SIGTERM");
    });
}

#[test]
fn trap_06_a_socket_is_named_by_its_address() {
    let before = tree(&samples::minimal());
    let mut settings = samples::minimal();
    settings.apps.values_mut().next().unwrap().listen = vec![samples::listen("8081")];
    let after = tree(&settings);
    let sockets = |tree: &Tree| tree.units(&Host::default()).filter(|name| name.contains(':')).map(String::from).collect::<Vec<_>>();
    assert_eq!(sockets(&before), ["project-cluster-web-:::8080.socket"]);
    assert_eq!(sockets(&after), ["project-cluster-web-:::8081.socket"]);
}

#[test]
fn trap_10_only_the_instance_is_left_to_systemd() {
    for (_, tree) in everything() {
        for unit in tree.units(&Host::default()) {
            for (_, key, value) in directives(text(&tree, unit)) {
                let rest = value.replace("%%", "").replace("%i", "");
                assert!(!rest.contains('%'), "{unit}: {key}={value}");
                assert!(!key.starts_with("Exec") || !value.contains("/sh"), "{unit}: {key}={value} runs a shell");
            }
        }
    }
}

#[test]
fn trap_14_the_service_of_a_socket_is_the_trigger() {
    each_app(|tree, units, _, app| {
        for socket in app.listen.iter().map(|listen| text(tree, &units.socket(&listen.address))) {
            assert_eq!(one(socket, "Socket", "Service"), units.trigger());
            assert_eq!(values(socket, "Socket", "Accept"), Vec::<String>::new());
        }
    });
}

#[test]
fn trap_15_a_trigger_runs_once_and_cancels_no_stop() {
    for (settings, tree) in everything() {
        let trigger = text(&tree, &format!("{}-first@.service", settings.name));
        assert_eq!(one(trigger, "Service", "Type"), "oneshot");
        assert_eq!(one(trigger, "Service", "RemainAfterExit"), "yes");
        let start = one(trigger, "Service", "ExecStart");
        assert_eq!(start, format!("/usr/bin/systemctl start --no-block --job-mode=fail {}@%i.service", settings.name));
    }
}

#[test]
fn trap_16_the_master_may_crash_as_often_as_it_likes() {
    for (settings, tree) in everything() {
        let (master, socket) = (text(&tree, &settings.name.master()), text(&tree, &settings.name.api_socket()));
        assert_eq!(one(master, "Unit", "StartLimitIntervalSec"), "0");
        assert_eq!(one(master, "Service", "Restart"), "always");
        assert_eq!(one(socket, "Unit", "StartLimitIntervalSec"), "0");
        assert_eq!(one(socket, "Socket", "TriggerLimitIntervalSec"), "0");
    }
}

#[test]
fn trap_18_users_are_not_private_unless_asked_for() {
    let settings = samples::shop();
    let tree = tree(&settings);
    assert_eq!(values(text(&tree, "project-cluster-api@.service"), "Service", "PrivateUsers"), Vec::<String>::new());
}

#[test]
fn trap_19_the_step_that_knows_why_ends_before_systemd_does() {
    let full = tree(&samples::every_option());
    let api = text(&full, "full-api@.service");
    assert!(values(api, "Service", "ExecStartPost").iter().any(|step| step.contains(" --timeout-ms 2500 %i")));
    assert_eq!(one(api, "Service", "TimeoutStartSec"), "60s");
    assert_eq!(one(text(&full, "full-speaks@.service"), "Service", "TimeoutStartSec"), "30s");
}

/// Whoever may speak to systemd puts off its own SIGKILL: none but those whose readiness it is. The step that drains speaks as
/// well; then the socket is hidden from the app.
#[test]
fn only_apps_that_say_that_they_are_ready_are_heard() {
    each_app(|tree, units, _, app| {
        let worker = worker(tree, units);
        let (heard, says) = (!values(worker, "Service", "NotifyAccess").is_empty(), app.ready == Ready::Notify);
        assert_eq!(heard, says || app.drain().is_some(), "{}", units.app);
        let hidden = values(worker, "Service", "InaccessiblePaths").contains(&"-/run/systemd/notify".to_owned());
        assert_eq!(hidden, heard && !says && !app.systemd.contains_key("WatchdogSec"), "{}", units.app);
    });
}

/// One limit of systemd's for the step that drains and for SIGTERM to SIGKILL: the step begins within it and asks for more.
#[test]
fn trap_20_a_drain_does_not_make_the_way_from_sigterm_to_sigkill_longer() {
    each_app(|tree, units, _, app| {
        let worker = worker(tree, units);
        let steps = values(worker, "Service", "ExecStop");
        assert_eq!(steps.len(), usize::from(app.drain().is_some()), "{}", units.app);
        assert!(steps.iter().all(|step| step.starts_with("-+/") && step.ends_with(" %i")), "{steps:?}");
        let limit = if app.drain().is_some() { app.timeout.kill.max(std::time::Duration::from_secs(2)) } else { app.timeout.kill };
        assert_eq!(app.kill_limit(), limit);
    });
}

#[test]
fn trap_22_slices_do_not_nest_and_dynamic_users_are_named() {
    let tree = tree(&samples::dashes());
    text(&tree, r"system-my\x2dshop\x2dapi.slice.d/50-limits.conf");
    text(&tree, r"system-my\x2dshop\x2dapi\x2dv2.slice.d/50-limits.conf");
    each_app(|tree, units, _, _| {
        let worker = worker(tree, units);
        assert_eq!(values(worker, "Service", "User").len(), 1, "systemd would take the unit's name");
        assert_eq!(values(worker, "Service", "Slice"), Vec::<String>::new());
    });
}

#[test]
fn trap_23_no_secret_command_or_directory_is_a_directive() {
    for (_, tree) in everything() {
        for unit in tree.units(&Host::default()) {
            for (_, key, value) in directives(text(&tree, unit)) {
                let told = ["Environment", "EnvironmentFile", "PassEnvironment", "WorkingDirectory"];
                assert!(!told.contains(&key.as_str()), "{unit}: {key}={value}");
            }
        }
    }
    let full = tree(&samples::every_option());
    let secret = Host::default().paths().prepare_settings(&full.cluster);
    for (path, file) in &full.files {
        assert_eq!(file.contents.contains("only-in-the-pin"), *path == secret, "{}", path.display());
        assert_eq!(file.secret, *path == secret);
    }
    assert_eq!(full.files[&secret].mode, 0o600);
    assert_eq!(full.files[&Host::default().paths().master_settings(&full.cluster)].mode, 0o640);
    assert_eq!(full.directories[secret.parent().unwrap()], 0o700);
}

#[test]
fn trap_24_every_unit_that_another_names_exists() {
    for (settings, tree) in everything() {
        let host = Host::default();
        let units: BTreeSet<&str> = tree.units(&host).collect();
        let known = ["multi-user.target", "network.target", "remote-fs.target", "nss-lookup.target"];
        let exists = |name: &str| {
            let template = name.split_once('@').map(|(prefix, rest)| format!("{prefix}@.{}", rest.rsplit_once('.').unwrap().1));
            units.contains(name) || known.contains(&name) || template.is_some_and(|template| units.contains(template.as_str()))
        };
        let keys = ["Wants", "Requires", "After", "Before", "PartOf", "StopPropagatedFrom", "Sockets", "Service", "WantedBy"];
        for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with("/etc/systemd")) {
            for (_, key, value) in directives(&file.contents).into_iter().filter(|(_, key, _)| keys.contains(&key.as_str())) {
                for name in value.split(' ') {
                    assert!(exists(name), "{}: {key}={name}", path.display());
                }
            }
        }
        for (name, app) in &settings.apps {
            assert!(exists(&AppUnits::new(&settings.name, name).handle()));
            assert!(app.listen.iter().all(|listen| exists(&AppUnits::new(&settings.name, name).socket(&listen.address))));
        }
    }
}

#[test]
fn trap_25_a_socket_file_never_lies_in_a_runtime_directory() {
    each_app(|tree, units, _, app| {
        let directory = one(worker(tree, units), "Service", "RuntimeDirectory");
        assert_eq!(directory, format!("{}/%i", units.prefix()));
        for listen in &app.listen {
            let own = Path::new("/run").join(units.prefix());
            assert!(!Path::new(&listen.address.to_string()).starts_with(own));
        }
    });
    for (settings, tree) in everything() {
        let state = one(text(&tree, &settings.name.master()), "Service", "RuntimeDirectory");
        assert!(!Host::default().paths().api(&settings.name).starts_with(Path::new("/run").join(state)));
    }
}

/// `Sockets=` of systemd 252 drops a backslash, so that the worker would want a socket that does not exist.
#[test]
fn no_name_of_a_unit_that_another_names_holds_a_backslash() {
    for (_, tree) in everything() {
        for unit in tree.units(&Host::default()) {
            assert!(!unit.contains('\\'), "{unit}");
        }
    }
}

/// A stop of 0 ms is at once; systemd would read 0 as never.
#[test]
fn no_time_limit_of_zero() {
    let mut settings = samples::minimal();
    let app = settings.apps.values_mut().next().unwrap();
    (app.timeout.kill, app.reload.drain) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    assert_eq!(one(text(&tree(&settings), "project-cluster-web@.service"), "Service", "TimeoutStopSec"), "1ms");
}

#[test]
fn workers_get_their_sockets_in_the_order_written() {
    let full = tree(&samples::every_option());
    let order = ["full-api-0.0.0.0:3000.socket", "full-api-2001:db8::1:3001.socket", "full-api-unix:run:shop:api.sock.socket"];
    assert_eq!(values(text(&full, "full-api@.service"), "Service", "Sockets"), order);
}

#[test]
fn what_is_written_verbatim_comes_last() {
    let full = tree(&samples::every_option());
    let all = directives(text(&full, "full-api@.service"));
    let tail: Vec<_> = all.iter().rev().take(3).map(|(_, key, value)| format!("{key}={value}")).collect();
    assert_eq!(tail, ["LoadCredential=b:/etc/b", "LoadCredential=a:/etc/a", "LimitNOFILE=65536"]);
}

#[test]
fn an_on_demand_app_has_its_sockets_at_boot_and_they_end_with_the_target() {
    let tree = tree(&samples::on_demand());
    let wants = values(text(&tree, "rare.target"), "Unit", "Wants");
    let sockets = ["rare-api-127.0.0.1:3000.socket", "rare-api-unix:run:rare-api.sock.socket"];
    assert_eq!(wants, ["rare.socket", "rare.service", "rare-tcp.socket", "rare@always.service", sockets[0], sockets[1]]);
    for socket in sockets {
        assert_eq!(one(text(&tree, socket), "Unit", "StopPropagatedFrom"), "rare.target");
    }
    // Without workers nobody would answer there.
    let mut none = samples::on_demand();
    none.apps.values_mut().for_each(|app| app.workers = project_cluster::config::settings::Workers::Count(0));
    assert_eq!(values(text(&crate::unit::tree(&none), "rare.target"), "Unit", "Wants"), ["rare.socket", "rare.service", "rare-tcp.socket"]);
}

/// Every text file begins with the mark of its cluster, which is how a later run knows it.
#[test]
fn every_text_file_bears_the_mark() {
    for (settings, tree) in everything() {
        for (path, file) in tree.files.iter().filter(|(path, _)| path.extension().is_none_or(|extension| extension != "json")) {
            assert!(project_cluster::units::is_marked(file.contents.as_bytes(), &settings.name), "{}", path.display());
            assert_eq!(project_cluster::units::marked_by(file.contents.as_bytes()).as_ref(), Some(&settings.name));
        }
    }
}

/// No two apps share a unit, whatever their names and addresses.
#[test]
fn names_with_dashes_never_meet() {
    let settings = samples::cluster("c", &[("a", samples::server("x", &["/b/c"])), ("a-b", samples::server("x", &["/c"]))]);
    let sockets = tree(&settings).units(&Host::default()).filter(|name| name.contains(':')).count();
    assert_eq!(sockets, 2);
}

/// What broke for others, by the issues where they told of it.
#[test]
fn no_unit_holds_what_broke_for_others() {
    for (settings, tree) in everything() {
        for (path, file) in tree.files.iter().filter(|(path, _)| path.starts_with(Host::default().units)) {
            let name = path.file_name().unwrap().to_string_lossy();
            for (_, key, value) in directives(&file.contents) {
                // A second name can start a unit twice (systemd#38817); daemon-reload once kept one of several
                // SO_REUSEPORT sockets (#19843); OnFailure fires on each automatic restart (snapd#13998).
                assert!(!["Alias", "ReusePort", "OnFailure"].contains(&key.as_str()), "{name}: {key}");
                // Without MONOTONIC_USEC it hangs, and once it never timed out (ergo#2454, systemd#37515).
                assert!(key != "Type" || value != "notify-reload", "{name}");
                // Its children must not speak for an app (systemd#31256, #5239).
                assert!(key != "NotifyAccess" || value == "exec", "{name}: {value}");
                // Watchdogs bite on starvation (systemd#13843).
                assert!(key != "WatchdogSec" || value == "60s", "{name}: {value}");
            }
            // A whole unit file for one instance goes stale (systemd#19974).
            let whole_instance = name.contains('@') && !name.contains("@.") && name.ends_with(".service");
            assert!(!whole_instance, "{name} of {}", settings.name);
        }
    }
}

#[test]
fn what_plain_permissions_forbid_costs_no_mount_and_root_gets_it_all() {
    let worker_of = |app: App| {
        let settings = samples::cluster("one", &[("api", app)]);
        worker(&tree(&settings), &AppUnits::new(&settings.name, &"api".parse().unwrap())).to_owned()
    };
    let has = |text: &str, key: &str| values(text, "Service", key) == ["yes"];
    let plain = samples::app("app");
    let mut without = [plain.clone(), plain.clone()];
    without[0].sandbox.privileges = false;
    without[1].sandbox.syscalls = false;
    let named = |user| App { user: samples::named(user), ..plain.clone() };
    let cases = [(plain.clone(), false), (named("shop"), false), (named("root"), true), (named("0"), true)];
    for (app, all) in cases.into_iter().chain(without.into_iter().map(|app| (app, true))) {
        let text = worker_of(app);
        for key in ["ProtectKernelTunables", "ProtectKernelModules"] {
            assert_eq!(has(&text, key), all, "{key} in\n{text}");
        }
        for key in ["ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "ProtectHostname"] {
            assert!(has(&text, key), "{key} in\n{text}");
        }
    }
    let mut off = plain;
    off.sandbox.kernel = false;
    assert!(!worker_of(off).contains("ProtectKernel"));
}
