//! `project-cluster --user`: the scenarios of root's cluster, run by the same functions as an ordinary user in her own systemd; and
//! what is hers alone. `proof::rootless` has the scenarios that `make test` has no time for.

use super::cluster::{ADDRESS, SOON, app, rootless};
use super::support::sandbox::Options;
use super::support::{Output, Sandbox};

macro_rules! as_a_user {
    ($($room:ident::$test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                rootless(super::$room::$test);
            }
        )*
    };
}

as_a_user! {
    reload::systemctl_reload_under_load_replaces_all_new_before_old,
    master::killed_in_a_roll_the_next_one_ends_it_and_who_waits_hears_the_true_end,
    swap::node_go_and_asyncio_share_one_socket_as_they_are,
    demand::the_first_connection_is_answered_and_sleep_brings_it_back_to_that,
}

/// What stands before each of her commands here, as after `su`: no session, no `XDG_RUNTIME_DIR`. Nothing is translated.
const ADA: &str = "setpriv --reuid=ada --regid=ada --init-groups env -u XDG_RUNTIME_DIR HOME=/home/ada USER=ada";

/// A unix socket of hers.
const SOCKET: &str = "/run/user/1500/sockets/shop.sock";

/// A sandbox with ada in it, and her configuration.
fn ada() -> Sandbox {
    let sandbox = Sandbox::start_with(Options { ordinary: true, ..Options::default() });
    let api = app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000\nlimits = { CPUWeight = 50 }");
    let unix = app("unix", 1, &format!("node /srv/apps/hello.js {SOCKET}"), &format!("listen = \"{SOCKET}\""));
    sandbox.write("/etc/project-cluster/cluster.toml", api + &unix);
    sandbox.write("/srv/shop/current/VERSION", "v1");
    sandbox
}

/// Runs `project-cluster --user` with these words, as hers.
fn pc(sandbox: &Sandbox, words: &str) -> Output {
    sandbox.root(&format!("exec {ADA} project-cluster --user {words}"))
}

#[test]
fn all_of_it_is_at_home_and_hers_and_uninstall_leaves_nothing() {
    let sandbox = ada();
    // A second one, who must get nowhere near it; and what is there before.
    sandbox.root("useradd --uid 1501 bob; touch /before; sleep 0.01").ok();
    let said = pc(&sandbox, "install --now").ok();
    assert!(said.contains("created /home/ada/.config/systemd/user/project-cluster-api@.service"), "{said}");
    assert!(!said.contains("linger"), "she lingers: {said}");
    assert!(sandbox.get(ADDRESS, "/").unwrap().body.starts_with("v1 "));
    let asked = sandbox.root(&format!("exec {ADA} curl -sS --unix-socket {SOCKET} http://x/")).ok();
    assert!(asked.starts_with("v1 "), "{asked}");
    assert_eq!(sandbox.property(r"app-project\x2dcluster\x2dapi.slice", "CPUWeight"), "50", "limits are those of her slice");
    pc(&sandbox, "reload all").ok();
    pc(&sandbox, "scale api 3").ok();
    // A token of hers, for one app.
    let token = pc(&sandbox, "token add watch --app api").ok();
    let over_tcp = |path: &str| {
        let header = format!("Authorization: Bearer {token}");
        sandbox.root(&format!("curl -sS -o /dev/null -w '%{{http_code}}' -H '{header}' http://127.0.0.1:8887{path}")).ok()
    };
    assert_eq!([over_tcp("/v1/apps/api"), over_tcp("/v1/apps/unix"), over_tcp("/v1/config")], ["200", "404", "403"]);
    assert_eq!(sandbox.root("stat -c '%U %a' /home/ada/.local/state/project-cluster/tokens.json").ok(), "ada 600");
    pc(&sandbox, "token revoke watch").ok();
    assert_eq!(over_tcp("/v1/apps/api"), "401");
    let user = sandbox.root("ps -eo user:16,args | grep -E 'project-cluster|node |pc-swap' | grep -v grep").ok();
    assert!(user.lines().count() >= 4 && user.lines().all(|line| line.starts_with("ada ")), "{user}");
    // A worker: no privilege to gain, a filter, and no namespace that would hide it.
    let pid = sandbox.main_pid("project-cluster-api@1.2.1.service").unwrap();
    let status = sandbox.root(&format!("cat /proc/{pid}/status; readlink /proc/{pid}/ns/user; readlink /proc/self/ns/user")).ok();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let spaces: Vec<&str> = status.lines().filter(|line| line.starts_with("user:")).collect();
    assert_eq!(spaces[0], spaces[1], "{status}");
    let outside = "find / -xdev -newer /before ! -type d ! -path '/proc/*' ! -path '/home/ada/*' ! -path '/var/log/*' ! -path '/var/lib/systemd/*' ! -path '/tmp/*' ! -path '/sys/*'; \
                   find /run -newer /before ! -type d ! -path '/run/user/1500/*' ! -path '/run/systemd/*' ! -path '/run/log/*' ! -path '/run/udev/*'";
    assert_eq!(sandbox.root(outside).ok().lines().filter(|line| line.contains("project")).collect::<Vec<_>>(), Vec::<&str>::new());
    for secret in [
        "/run/user/1500/project-cluster/api.sock",
        "/home/ada/.local/state/project-cluster/pins",
        "/home/ada/.local/state/project-cluster/settings.json",
    ] {
        assert!(sandbox.root(&format!("test -e {secret}")).success(), "{secret}");
        let seen = sandbox.root(&format!("setpriv --reuid=bob --regid=bob --init-groups stat {secret}"));
        assert!(!seen.success(), "another user sees {secret}");
    }
    assert!(pc(&sandbox, "complete -- project-cluster --user show ap").ok().contains("api:01"), "and to complete");
    // The words are hers to type.
    sandbox.systemctl(&["stop", "project-cluster@api"]).ok();
    let listed = pc(&sandbox, "ls").ok();
    assert!(listed.contains("Start it: `project-cluster --user start api`"), "{listed}");
    let refused = pc(&sandbox, "reload api").exits(1).stderr;
    assert!(refused.contains("`project-cluster --user start api`"), "{refused}");
    assert_eq!(pc(&sandbox, "install").ok(), "nothing to change for cluster project-cluster");

    pc(&sandbox, "uninstall").ok();
    let left =
        "find /home/ada /run/user/1500 -path '*project-cluster*' ! -path '/home/ada/bin*' ! -path '/home/ada/.config/project-cluster*'";
    assert_eq!(sandbox.root(left).ok(), "");
    assert_eq!(sandbox.units("project-cluster*", &[]), Vec::<String>::new());
    assert_eq!(sandbox.root("ls -d /home/ada/.local /home/ada/.config/systemd 2> /dev/null || :").ok(), "", "they were not there before");
}

#[test]
fn where_her_systemd_does_not_run_the_error_says_what_starts_it() {
    let sandbox = ada();
    sandbox.root("systemctl stop user@1500.service; rm /var/lib/systemd/linger/ada").ok();
    sandbox.wait_until("it is gone", SOON, || !sandbox.root("test -e /run/user/1500/systemd/private").success());
    pc(&sandbox, "check").ok();
    for (verb, code) in [("install --now", 1), ("install", 1), ("uninstall", 1), ("ls", 3), ("reload api", 3)] {
        let said = pc(&sandbox, verb).exits(code).stderr;
        for part in [
            "your systemd does not run",
            "`sudo loginctl enable-linger ada`",
            "machinectl shell ada@",
            "export XDG_RUNTIME_DIR=/run/user/1500",
        ] {
            assert!(said.contains(part), "{verb}: {part}: {said}");
        }
    }
    // It runs, and only as long as she is logged in.
    sandbox.root("systemctl start user@1500.service").ok();
    let said = pc(&sandbox, "ls").exits(3).stderr;
    assert!(
        said.contains("`systemctl --user start project-cluster.socket`") && said.contains("`project-cluster --user install --now`"),
        "{said}"
    );
    // After `su` the variable may be missing, or another's.
    let said = sandbox.root(&format!("exec {ADA} XDG_RUNTIME_DIR=/run/user/0 project-cluster --user install --now")).ok();
    assert!(said.contains("you do not linger") && said.contains("`sudo loginctl enable-linger ada`"), "{said}");
    assert!(sandbox.get(ADDRESS, "/").is_ok());
    // Neither is for root, nor without a home.
    let root = sandbox.root("exec project-cluster --user ls").exits(2).stderr;
    assert!(root.contains("`--user` is for ordinary users"), "{root}");
    let homeless = sandbox.root(&format!("exec {ADA} env -u HOME project-cluster --user ls"));
    assert!(homeless.exits(2).stderr.contains("HOME"));
}

#[test]
fn no_bus_of_hers_and_no_master_are_needed_and_roots_cluster_of_the_same_name_is_another() {
    let sandbox = ada();
    // A session bus is not on every machine; where there is one it must not matter.
    sandbox.root("systemctl --user -M ada@ stop dbus.socket dbus.service 2> /dev/null || :; rm -f /run/user/1500/bus").ok();
    pc(&sandbox, "install --now").ok();
    pc(&sandbox, "reload api").ok();
    let inode = |port: u16| sandbox.root(&format!("ss -Hltne 'sport = :{port}' | grep -o 'ino:[0-9]*'")).ok();
    let before = inode(3000);
    sandbox.systemctl(&["mask", "--runtime", "--now", "project-cluster.socket", "project-cluster.service"]).ok();
    sandbox.systemctl(&["restart", "project-cluster@api"]).ok();
    assert_eq!((inode(3000), sandbox.units("project-cluster-api@*", &["active"]).len()), (before.clone(), 2));
    sandbox.systemctl(&["unmask", "--runtime", "project-cluster.socket", "project-cluster.service"]).ok();
    sandbox.systemctl(&["start", "project-cluster.service"]).ok();

    let toml = app("api", 1, "node /srv/apps/hello.js 4000", "listen = 4000\n").replace("[apps", "api.port = 8888\n[apps");
    sandbox
        .root(&format!(
            "mkdir -p /etc/project-cluster; cat > /etc/project-cluster/cluster.toml <<'END'\n{toml}END\nproject-cluster install --now"
        ))
        .ok();
    assert!(sandbox.get("127.0.0.1:4000", "/").is_ok());
    let generations = |words: &str| sandbox.root(&format!("{words} ls --json | grep -o '\"generation\": [0-9]*' | sort | uniq -c")).ok();
    assert_eq!(generations("project-cluster").trim(), "1 \"generation\": 1");
    assert!(generations(&format!("{ADA} project-cluster --user")).contains("2 \"generation\": 3"), "her restart and her reload");
    sandbox.root("project-cluster uninstall").ok();
    assert!(sandbox.get(ADDRESS, "/").unwrap().body.starts_with("v1 "), "hers goes on");
    assert_eq!(inode(3000), before);
}

#[test]
fn a_journal_in_memory_is_not_hers_to_read_and_logs_says_so() {
    let sandbox = ada();
    pc(&sandbox, "install --now").ok();
    sandbox.wait_until("her lines are hers", SOON, || pc(&sandbox, "logs").stdout.contains("Started project-cluster-api@1.1.1.service"));
    sandbox.root("mkdir -p /run/systemd/journald.conf.d; printf '[Journal]\\nStorage=volatile\\n' > /run/systemd/journald.conf.d/a.conf; rm -rf /var/log/journal; systemctl restart systemd-journald; journalctl --sync").ok();
    let said = pc(&sandbox, "logs").exits(1).stderr;
    assert!(said.contains("in memory") && said.contains("`sudo mkdir -p /var/log/journal"), "{said}");
}
