//! The API over TCP: who comes in, what the master knows of the token, a listener that changes or cannot listen.

use super::cluster::{Cluster, SOON, cluster, installed, node};

const TOKEN: &str = "/var/lib/project-cluster/operators/token";
const MASTER: &str = "project-cluster.service";

/// Status of a request over TCP with these arguments of curl, 0 where nobody listens.
fn curl(cluster: &Cluster, arguments: &str) -> u16 {
    cluster.sh(&format!("curl -sS -m 20 -o /dev/null -w '%{{http_code}}' {arguments} || true")).ok().parse().unwrap()
}

/// The same with the token, at the port of the configuration.
fn with_token(cluster: &Cluster, path: &str) -> u16 {
    curl(cluster, &format!("-H \"Authorization: Bearer $(cat {TOKEN})\" http://127.0.0.1:8887{path}"))
}

#[test]
fn a_token_opens_it_and_its_own_master_cannot_read_that() {
    let cluster = cluster(&node(1));
    assert_eq!(curl(&cluster, "http://127.0.0.1:8887/v1/apps"), 401);
    assert_eq!(curl(&cluster, "-X POST http://127.0.0.1:8887/v1/apps/api/stop"), 401);
    assert_eq!(curl(&cluster, "http://127.0.0.1:8887/healthz"), 200, "what monitors ask");
    assert_eq!(curl(&cluster, "-H 'Host: evil.example' http://127.0.0.1:8887/healthz"), 421);
    assert_eq!(cluster.workers("api").len(), 1);
    // What the document says to type.
    let document = include_str!("../../docs/rest.md");
    let line =
        document.lines().find(|line| line.starts_with("curl ") && line.contains("Authorization")).expect("the document has the command");
    let answer = cluster.sh(&format!("sudo() {{ \"$@\"; }}; {}", line.replace("curl ", "curl -sS "))).ok();
    assert!(answer.contains("\"name\":\"api\""), "{answer}");
    assert_eq!(with_token(&cluster, "/v1/workers"), 200);
    let authorized = format!("-H \"Authorization: Bearer $(cat {TOKEN})\"");
    assert_eq!(curl(&cluster, &format!("{authorized} -H 'Host: evil.example' http://127.0.0.1:8887/v1/apps")), 421);
    assert_eq!(curl(&cluster, &format!("{authorized} -H 'Origin: http://evil.example' http://127.0.0.1:8887/v1/apps")), 403);

    // Operators read it, others do not, and the master sees an empty place, as whatever user.
    let access = cluster.run(&["stat", "-c", "%U:%G %a", TOKEN, "/var/lib/project-cluster/token.sha256"]).ok();
    assert_eq!(access, "root:project-cluster 640\nroot:project-cluster 640");
    cluster.run(&["useradd", "-G", "project-cluster", "alice"]).ok();
    assert_eq!(cluster.run_as("alice", &["cat", TOKEN]).ok().len(), 64);
    assert_ne!(cluster.run_as("nobody", &["cat", TOKEN]).code, 0);
    let master = cluster.main_pid(MASTER).unwrap();
    let seen = cluster.run(&["nsenter", "-m", "-t", &master.to_string(), "cat", TOKEN]);
    assert!(seen.code != 0 && seen.stdout.is_empty(), "{}", seen.stdout);
    assert!(cluster.run(&["nsenter", "-m", "-t", &master.to_string(), "cat", "/var/lib/project-cluster/token.sha256"]).success());

    // Who ordered what.
    assert_eq!(curl(&cluster, &format!("-X POST {authorized} http://127.0.0.1:8887/v1/apps/api/reset")), 200);
    cluster.run_as("alice", &["project-cluster", "reset", "api"]).ok();
    let alice = cluster.run(&["id", "-u", "alice"]).ok();
    let journal = || cluster.journal_of(MASTER);
    cluster.wait_until("the journal has both", SOON, || {
        let said = journal();
        said.lines().any(|line| line.contains("127.0.0.1:") && line.contains(" orders POST /v1/apps/api/reset"))
            && said
                .lines()
                .any(|line| line.contains(&format!("user {alice}, process ")) && line.contains(" orders POST /v1/apps/api/reset"))
    });
    let token = cluster.read(TOKEN);
    assert!(!journal().contains(token.trim_end()));

    // Another install leaves it; the documented way renews it, without a new master.
    cluster.cli(&["install"]).ok();
    assert_eq!(cluster.read(TOKEN), token);
    let renew = include_str!("../../docs/architecture.md")
        .split('`')
        .find(|text| text.starts_with("sudo rm "))
        .expect("the document has the command");
    cluster.sh(&format!("sudo() {{ \"$@\"; }}; {renew}")).ok();
    assert_ne!(cluster.read(TOKEN), token);
    cluster.wait_until("the new one opens", SOON, || with_token(&cluster, "/v1/health") == 200);
    assert_eq!(curl(&cluster, &format!("-H 'Authorization: Bearer {}' http://127.0.0.1:8887/v1/health", token.trim_end())), 401);
    assert_eq!(cluster.main_pid(MASTER), Some(master));
    // A restarted one has the same listener, and the hash.
    cluster.kill(master, "KILL");
    cluster.wait_until("the next one answers", SOON, || {
        cluster.main_pid(MASTER).is_some_and(|next| next != master) && with_token(&cluster, "/v1/health") == 200
    });

    cluster.cli(&["uninstall"]).ok();
    assert!(!cluster.exists("/var/lib/project-cluster"));
    assert_eq!(curl(&cluster, "http://127.0.0.1:8887/v1/health"), 0);
}

#[test]
pub fn without_a_token_is_written_and_a_taken_port_harms_nothing_else() {
    let api = |more: &str| format!("[api]\n{more}\n{}", node(1));
    let cluster = installed(&api("auth = \"none\"\nhost = \"0.0.0.0\""));
    let refused = cluster.cli(&["check"]).exits(2);
    assert!(refused.stderr.contains("open-door") && refused.stderr.contains("only a loopback `host`"), "{}", refused.stderr);
    cluster.config(&api("auth = \"none\""));
    cluster.cli(&["install", "--now"]).ok();
    assert!(!cluster.exists(TOKEN));
    assert_eq!(curl(&cluster, "http://localhost:8887/v1/apps"), 200);
    for foreign in ["-H 'Origin: http://evil.example'", "-H 'Origin: null'", "-H 'Sec-Fetch-Site: cross-site'"] {
        assert_eq!(curl(&cluster, &format!("-X POST {foreign} http://localhost:8887/v1/apps/api/stop")), 403, "{foreign}");
    }
    assert_eq!(cluster.workers("api").len(), 1);

    // To another port, which is taken: said, and all else goes on.
    let worker = cluster.pids("api");
    let other = cluster.spawn(&["python3", "-m", "http.server", "-b", "127.0.0.1", "9000"]);
    cluster.wait_until("the other one has the port", SOON, || curl(&cluster, "http://127.0.0.1:9000/") == 200);
    cluster.config(&api("port = 9000"));
    let said = cluster.cli(&["install"]).ok();
    assert!(said.contains("does not listen on 127.0.0.1:9000") && said.contains("systemctl restart project-cluster"), "{said}");
    assert_eq!((cluster.state("project-cluster-tcp.socket").as_str(), cluster.state(MASTER).as_str()), ("failed", "active"));
    assert_eq!((cluster.ls().len(), cluster.pids("api")), (1, worker.clone()));
    assert_eq!(curl(&cluster, "http://127.0.0.1:8887/v1/apps"), 0, "the old one is closed");
    drop(other);
    cluster.systemctl(&["restart", "project-cluster"]).ok();
    cluster.wait_until("it listens", SOON, || curl(&cluster, "http://127.0.0.1:9000/v1/apps") == 401);

    // Off, by `apply`.
    cluster.config(&api("enabled = false"));
    cluster.cli(&["apply"]).ok();
    assert_eq!(curl(&cluster, "http://127.0.0.1:9000/v1/apps"), 0);
    assert!(!cluster.exists("/etc/systemd/system/project-cluster-tcp.socket"));
    assert_eq!((cluster.ls().len(), cluster.pids("api")), (1, worker));
}
