//! Tokens: what each opens, that nothing else is there for it, how it ends, and who is told of it.

use serde_json::Value;

use super::cluster::{Cluster, SOON, app, cluster};

const MASTER: &str = "project-cluster.service";
const FILE: &str = "/var/lib/project-cluster/tokens.json";

/// Two apps, one of them shop's and one that is none of its business.
fn two() -> Cluster {
    cluster(
        &[
            app("api", 2, "node /srv/apps/hello.js 3000", "listen = 3000"),
            app("bg", 1, "sleep infinity", "ready = \"none\"\nreload.min_ready = \"1ms\""),
        ]
        .concat(),
    )
}

/// Status and body of a request over TCP with this token.
#[track_caller]
fn ask(cluster: &Cluster, token: &str, method: &str, path: &str) -> (u16, String) {
    let text = cluster
        .sh(&format!("curl -sS -m 60 -X {method} -w '\n%{{http_code}}' -H 'Authorization: Bearer {token}' 'http://127.0.0.1:8887/{path}'"))
        .ok();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// The same, as JSON.
#[track_caller]
fn json(cluster: &Cluster, token: &str, path: &str) -> Value {
    let (status, body) = ask(cluster, token, "GET", path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {body}"))
}

/// The status, and the code of a problem.
#[track_caller]
fn refused(cluster: &Cluster, token: &str, method: &str, path: &str) -> (u16, String) {
    let (status, body) = ask(cluster, token, method, path);
    let code = serde_json::from_str::<Value>(&body).ok().and_then(|problem| Some(problem["code"].as_str()?.to_owned()));
    (status, code.unwrap_or(body))
}

#[track_caller]
fn made(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.cli(&[&["token", "add"], arguments].concat());
    let token = output.stdout.trim_end().to_owned();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{output:?}");
    assert!(output.stderr.contains("shown this once") && !output.stderr.contains(&token), "{}", output.stderr);
    token
}

#[test]
fn each_opens_what_its_role_and_apps_allow_and_ends_at_once() {
    let cluster = two();
    let watch = made(&cluster, &["watch"]);
    cluster.cli(&["token", "add", "ci", "--role", "operate", "--app", "api", "--output", "/root/ci"]).ok();
    assert_eq!(cluster.run(&["stat", "-c", "%U %a", "/root/ci"]).ok(), "root 600");
    let ci = cluster.read("/root/ci").trim_end().to_owned();
    let boss = made(&cluster, &["boss", "--role", "admin"]);

    // Roles.
    assert_eq!(json(&cluster, &watch, "v1/workers").as_array().unwrap().len(), 3);
    for (token, role, may) in
        [(&watch, "view", [200, 403, 403, 403]), (&ci, "operate", [200, 200, 403, 403]), (&boss, "admin", [200, 200, 200, 200])]
    {
        let asked =
            [("GET", "v1/apps/api"), ("POST", "v1/apps/api/reset?wait=30s"), ("GET", "v1/config"), ("POST", "v1/apps/api/apply?wait=30s")];
        let told = asked.map(|(method, path)| ask(&cluster, token, method, path).0);
        assert_eq!(told, may, "{role}");
    }
    assert_eq!(refused(&cluster, &watch, "POST", "v1/apps/api/stop"), (403, "forbidden".into()));
    assert_eq!(refused(&cluster, &watch, "POST", "api/stop"), (403, "forbidden".into()));

    // What is not on its list does not exist for it.
    let apps =
        |rows: &Value, key: &str| rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(apps(&json(&cluster, &ci, "v1/apps"), "name"), ["api"]);
    assert_eq!(apps(&json(&cluster, &ci, "v1/apps?limit=9"), "name"), ["api"]);
    for path in ["v1/workers", "v1/workers?limit=9"] {
        assert_eq!(apps(&json(&cluster, &ci, path), "uid"), ["api:01", "api:02"], "{path}");
    }
    assert_eq!(apps(&json(&cluster, &ci, "stat"), "uid"), ["api:01", "api:02"]);
    let bg = cluster.pids("bg");
    for (method, path) in [
        ("GET", "v1/apps/bg"),
        ("GET", "v1/apps/bg/workers"),
        ("GET", "v1/workers/bg:01"),
        ("GET", "v1/apps/bg/rolls"),
        ("GET", "v1/apps/bg/rolls/1"),
        ("POST", "v1/apps/bg/rolls"),
        ("POST", "v1/apps/bg/stop"),
        ("POST", "v1/apps/bg/scale?count=0"),
    ] {
        let (status, hidden) = ask(&cluster, &ci, method, path);
        let (_, none) = ask(&cluster, &ci, method, &path.replace("bg", "no"));
        assert_eq!((status, hidden.replace("bg", "no")), (404, none), "as one that does not exist: {method} {path}");
        assert!(!hidden.contains("are: api, bg"), "{hidden}");
    }
    assert_eq!(ask(&cluster, &ci, "POST", "bg/stop"), (200, "[]".into()));
    assert_eq!(ask(&cluster, &ci, "POST", "bg:01/stop"), (400, "Invalid id: no process found".into()));
    assert_eq!(ask(&cluster, &ci, "POST", "bg/add"), (400, "Worker bg:01 failed to start".into()), "as of a type that is none");
    assert_eq!(cluster.pids("bg"), bg);

    // Events, and who is told to have asked.
    let stream = cluster.spawn(&["curl", "-sSN", "-H", &format!("Authorization: Bearer {ci}"), "http://127.0.0.1:8887/v1/events?after=0"]);
    let everything =
        cluster.spawn(&["curl", "-sSN", "-H", &format!("Authorization: Bearer {watch}"), "http://127.0.0.1:8887/v1/events?after=0"]);
    cluster.cli(&["reload", "bg"]).ok();
    let (status, rolled) = ask(&cluster, &ci, "POST", "v1/apps/api/rolls?wait=60s");
    assert_eq!(status, 200, "{rolled}");
    assert_eq!(serde_json::from_str::<Value>(&rolled).unwrap()["roll"]["asked_by"], "token ci");
    cluster.wait_until("the stream has the end of the roll", SOON, || stream.stdout().contains("event: roll.done"));
    let heard = stream.stdout();
    assert!(!heard.contains("bg") && !heard.contains("3 workers"), "{heard}");
    assert!(heard.contains(r#""by":"operator","asked_by":"token ci""#), "{heard}");
    cluster.wait_until("the other has both", SOON, || {
        let heard = everything.stdout();
        heard.contains(r#""app":"bg""#) && heard.contains(r#""asked_by":"user 0""#) && heard.contains(r#""asked_by":"token ci""#)
    });
    assert_eq!(apps(&json(&cluster, &ci, "v1/rolls"), "app").into_iter().filter(|app| app != "api").count(), 0);
    assert!(!ask(&cluster, &ci, "GET", "v1/events?follow=false&after=0").1.contains("bg"));

    // Its end: of requests at that moment, of a stream that is open as well.
    let revoked = cluster.cli(&["token", "revoke", "ci"]).ok();
    assert!(revoked.contains("ci opens nothing"), "{revoked}");
    assert_eq!(refused(&cluster, &ci, "GET", "v1/apps/api"), (401, "unauthorized".into()));
    stream.wait(SOON).exits(0);
    assert_eq!(ask(&cluster, &watch, "GET", "v1/apps/bg").0, 200);
    assert!(everything.runs(), "that of another goes on");

    // The journal: orders with the name of the token, changes with who made them, no secret; one line of all wrong ones.
    cluster.wait_until("the journal has it all", SOON, || {
        let (said, changes) = (cluster.journal_of(MASTER), cluster.sh("journalctl -t project-cluster -o cat").ok());
        said.lines().any(|line| line.contains("token ci, 127.0.0.1:") && line.contains(" orders POST /v1/apps/api/rolls"))
            && said
                .lines()
                .any(|line| line.contains("token watch, 127.0.0.1:") && line.contains(" is refused POST /v1/apps/api/stop (403)"))
            && said.contains("with a wrong token from 127.0.0.1")
            && changes.contains("token ci: role operate, apps: api; made by user 0")
            && changes.contains("token ci: withdrawn by user 0")
    });
    let kept = cluster.sh(&format!("cat {FILE}; journalctl -o cat")).ok();
    for secret in [&watch, &ci, &boss] {
        assert!(!kept.contains(secret.as_str()));
    }
}

#[test]
fn they_are_roots_to_make_and_a_damaged_file_opens_nothing() {
    let cluster = two();
    let watch = made(&cluster, &["watch", "--app", "bg", "--app", "api"]);
    assert_eq!(cluster.run(&["stat", "-c", "%U:%G %a", FILE]).ok(), "root:project-cluster 640");
    // Wrong ones change nothing.
    let file = cluster.read(FILE);
    for (arguments, said) in [
        (&["token", "add", "watch"][..], "`project-cluster token revoke watch`"),
        (&["token", "add", "operator"], "is the token that `install` makes"),
        (&["token", "add", "a/b"], "letters, digits"),
        (&["token", "add", "x", "--app", "apj"], "Apps: api, bg"),
        (&["token", "add", "x", "--role", "root"], "view, operate, admin"),
        (&["token", "revoke", "none"], "`project-cluster token ls`"),
        (&["token", "revoke", "operator"], "operators/token"),
    ] {
        let refused = cluster.cli(arguments).exits(2);
        assert!(refused.stderr.contains(said) && refused.stdout.is_empty(), "{arguments:?}: {}", refused.stderr);
    }
    cluster.write("/root/there", "mine");
    let there = cluster.cli(&["token", "add", "x", "--output", "/root/there"]).exits(1);
    assert!(there.stderr.contains("no token was made"), "{}", there.stderr);
    assert_eq!(cluster.read("/root/there"), "mine");
    cluster.cli(&["token", "add", "x", "--app", "apj", "--output", "/root/x"]).exits(2);
    assert!(!cluster.exists("/root/x"));
    cluster.run(&["useradd", "-G", "project-cluster", "alice"]).ok();
    cluster.run_as("alice", &["project-cluster", "token", "add", "mine"]).exits(1);
    assert!(
        cluster
            .run_as("alice", &["project-cluster", "token", "revoke", "watch"])
            .exits(1)
            .stderr
            .contains("sudo project-cluster token revoke")
    );
    assert_eq!(cluster.read(FILE), file);

    // Who may see them.
    let rows: Value = serde_json::from_str(&cluster.run_as("alice", &["project-cluster", "token", "ls", "--json"]).ok()).unwrap();
    assert_eq!((rows[0]["name"].as_str(), rows[0]["role"].as_str(), &rows[0]["made_ms"]), (Some("operator"), Some("admin"), &Value::Null));
    assert_eq!(
        (rows[1]["name"].as_str(), rows[1]["role"].as_str(), rows[1]["apps"][1].as_str()),
        (Some("watch"), Some("view"), Some("bg"))
    );
    assert!(!rows.to_string().contains("sha256"));
    assert!(cluster.cli(&["token", "ls"]).ok().contains("watch"));
    assert_ne!(cluster.run_as("nobody", &["project-cluster", "token", "ls"]).code, 0);

    // A socket that a drop-in opens to all opens nothing; its group is let in.
    let socket =
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", "/run/project-cluster/api.sock", "http://x/v1/apps"];
    assert_eq!(cluster.run_as("nobody", &socket).stdout.trim(), "000");
    cluster.run(&["chmod", "0666", "/run/project-cluster/api.sock"]).ok();
    assert_eq!(cluster.run_as("nobody", &socket).stdout.trim(), "403");
    assert_eq!(cluster.run_as("alice", &socket).stdout.trim(), "200");
    assert_eq!(cluster.run(&socket).stdout.trim(), "200");

    // Another install and a master that is killed leave them; a damaged file ends all but the operators'.
    cluster.cli(&["install"]).ok();
    let master = cluster.main_pid(MASTER).unwrap();
    cluster.kill(master, "KILL");
    cluster.wait_until("the next master knows it", SOON, || ask_or_none(&cluster, &watch) == 200);
    let operator = cluster.read("/var/lib/project-cluster/operators/token").trim_end().to_owned();
    cluster.write(FILE, "{\"format\":1,\"tokens\":[");
    assert_eq!((ask(&cluster, &watch, "GET", "v1/apps").0, ask(&cluster, &operator, "GET", "v1/apps").0), (401, 200));
    cluster.wait_until("it says so", SOON, || cluster.journal_of(MASTER).contains("tokens.json: it is damaged"));
    assert!(cluster.cli(&["token", "add", "y"]).exits(1).stderr.contains("it is damaged"));
    cluster.write(FILE, &file);
    assert_eq!(ask(&cluster, &watch, "GET", "v1/apps").0, 200);
    // What goes by a job of systemd's and not by a roll says as well who asked.
    cluster.cli(&["stop", "bg"]).ok();
    cluster.wait_until("the event of it says who", SOON, || {
        let events: Value = serde_json::from_str(&cluster.cli(&["events", "bg", "--json"]).ok()).unwrap();
        let told = |kind: &str| events.as_array().unwrap().iter().any(|event| event["kind"] == kind && event["asked_by"] == "user 0");
        told("stop") && told("worker.stop")
    });
    assert!(cluster.cli(&["events", "bg"]).ok().contains("bg is stopped  (user 0)"));
    cluster.cli(&["uninstall"]).ok();
    assert!(!cluster.exists("/var/lib/project-cluster"));
}

/// The status, 0 while nobody answers.
fn ask_or_none(cluster: &Cluster, token: &str) -> u16 {
    let script =
        format!("curl -s -m 20 -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' http://127.0.0.1:8887/v1/apps || true");
    cluster.sh(&script).ok().trim().parse().unwrap_or(0)
}
