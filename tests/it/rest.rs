//! The REST API as another program sees it: what it refuses and in which form, how orders are waited for, lists in parts.

use std::time::Duration;

use project_cluster::api::limits::UNIX;
use serde_json::Value;

use super::cluster::{Cluster, HELLO, SOON, app, installed, shop};

/// An answer.
struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|why| panic!("{why}: {}", self.text))
    }
    fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ &str| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
        self.head.lines().find(line).and_then(|line| line.split_once(": ")).map(|(_, value)| value.trim())
    }
}

#[track_caller]
fn ask_with(cluster: &Cluster, method: &str, path: &str, more: &str) -> Answer {
    let script = format!("curl -sS -i --max-time 60 -X {method} {more} --unix-socket /run/project-cluster/api.sock 'http://x/{path}'");
    let text = cluster.sh(&script).ok();
    let (head, body) = text.replace("\r\n", "\n").split_once("\n\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Answer { status, head, text: body }
}

#[track_caller]
fn ask(cluster: &Cluster, method: &str, path: &str) -> Answer {
    ask_with(cluster, method, &format!("v1/{path}"), "")
}

/// The refusal has this status, code and field, and says something.
#[track_caller]
fn refused(answer: &Answer, expected: (u16, &str, Option<&str>)) {
    let problem = answer.json();
    let field = problem.get("field").and_then(Value::as_str);
    assert_eq!((answer.status, problem["code"].as_str().unwrap(), field), expected, "{problem}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("project-cluster-version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(problem["type"], format!("/v1/problems#{}", expected.1));
    assert_eq!(problem["status"], expected.0);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
}

#[test]
pub fn a_mistyped_request_changes_nothing_and_every_refusal_has_the_same_form() {
    let cluster = shop(2, "");
    let pids = cluster.pids("api");
    let wrong = [
        ("POST", "apps/api/stop?slot=1", Some("slot")),
        ("POST", "apps/api/rolls?slots=", Some("slots")),
        ("POST", "apps/api/rolls?slots=1&slots=2", Some("slots")),
        ("POST", "apps/api/sleep?slots=1", Some("slots")),
        ("POST", "apps/api/remove", Some("slots")),
        ("POST", "apps/api/scale?count=many", Some("count")),
        ("POST", "apps/api/scale?count=1025", Some("count")),
        ("POST", "apps/api/add", Some("count")),
        ("POST", "apps/api/start?wait=30", Some("wait")),
        ("GET", "apps/api/rolls/last", Some("id")),
        ("GET", "apps/%ff", Some("app")),
        ("GET", "workers/api", Some("uid")),
        ("GET", "health?verbose=1", Some("verbose")),
        ("GET", "rolls?limit=0", Some("limit")),
        ("GET", "events?follow=maybe", Some("follow")),
        ("GET", "events?follow=true&limit=5", Some("limit")),
        ("GET", "events?limit=5", Some("limit")),
    ];
    for (method, path, field) in wrong {
        refused(&ask(&cluster, method, path), (400, "bad-request", field));
    }
    refused(&ask_with(&cluster, "POST", "v1/apps/api/stop", "-d '{\"slots\":[1]}'"), (400, "unexpected-body", None));
    refused(&ask_with(&cluster, "POST", "v1/apps/api/stop", "-H 'Transfer-Encoding: chunked' -d x"), (411, "length-required", None));
    for path in ["apps/apo", "apps/apo/workers", "apps/apo/rolls"] {
        refused(&ask(&cluster, "GET", path), (404, "not-found", Some("app")));
    }
    refused(&ask(&cluster, "GET", "workers/api:09"), (404, "not-found", Some("uid")));
    refused(&ask(&cluster, "GET", "nothing"), (404, "not-found", None));
    // What is not below /v1 is answered as the first version did.
    let elsewhere = ask_with(&cluster, "GET", "nothing", "");
    assert_eq!((elsewhere.status, elsewhere.text.contains("Cannot GET /nothing")), (404, true), "{}", elsewhere.text);
    let method = ask(&cluster, "DELETE", "apps/api");
    refused(&method, (405, "method-not-allowed", None));
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
    refused(&ask(&cluster, "POST", "apps/api/sleep"), (409, "conflict", None));
    refused(&ask(&cluster, "POST", "apps/api/add?count=1024"), (409, "conflict", None));
    assert_eq!(cluster.pids("api"), pids);

    // What explains it comes from the master itself.
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, file, form) in
        [("openapi.json", "docs/openapi.json", "application/json"), ("problems", "docs/problems.md", "text/markdown; charset=utf-8")]
    {
        let answer = ask(&cluster, "GET", path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(form)));
        assert_eq!(answer.text.trim_end(), std::fs::read_to_string(here.join(file)).unwrap().trim_end());
    }
    // The command line says which.
    cluster.cli(&["remove", "api"]).ok();
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
}

#[test]
pub fn an_order_is_answered_when_it_is_begun_or_with_its_end() {
    let cluster = shop(1, "env = { SECRET = \"hush\" }\ntimeout.start = \"5s\"\n");
    // By a roll: it can be watched.
    let add = ask(&cluster, "POST", "apps/api/add?count=1");
    let roll = add.json()["roll"].clone();
    let place = add.header("location").unwrap();
    assert_eq!((add.status, place), (202, format!("/v1/apps/api/rolls/{}", roll["id"]).as_str()));
    assert_eq!((add.json()["under_way"].as_bool(), add.json()["message"].as_str()), (Some(true), Some("begun")));
    let end = ask(&cluster, "GET", &format!("{}?wait=30s", place.strip_prefix("/v1/").unwrap()));
    assert_eq!((end.status, end.json()["state"].as_str()), (200, Some("done")), "{}", end.text);
    assert_eq!(cluster.workers("api").len(), 2);
    // To its end, but the wait ends before.
    let roll = ask(&cluster, "POST", "apps/api/rolls?wait=1ms");
    assert_eq!((roll.status, roll.json()["under_way"].as_bool()), (202, Some(true)), "{}", roll.text);
    let roll = ask(&cluster, "POST", "apps/api/rolls?wait=30s&slots=2");
    assert_eq!((roll.status, roll.json()["message"].as_str()), (200, Some("done")), "{}", roll.text);
    assert_eq!(roll.json()["roll"]["state"], "done");
    let roll = ask(&cluster, "POST", "apps/api/rolls?wait=1h&watch=true");
    assert_eq!((roll.status, roll.json()["message"].as_str()), (202, Some("begun")), "{}", roll.text);
    assert_eq!(ask(&cluster, "POST", "apps/api/scale?count=1&wait=30s").status, 200);
    assert_eq!(ask(&cluster, "POST", "apps/api/scale?count=1&wait=30s").json()["message"], "nothing to do, 1 of 1 ready");

    // By a job of systemd's: at once, or with its end.
    let stop = ask(&cluster, "POST", "apps/api/stop");
    assert_eq!((stop.status, stop.json()["message"].as_str(), stop.header("location")), (202, Some("ordered"), None));
    cluster.wait_for_state("project-cluster@api", "inactive", SOON);
    let start = ask(&cluster, "POST", "apps/api/start?wait=30s");
    assert_eq!((start.status, start.json()["message"].as_str()), (200, Some("1 of 1 ready")), "{}", start.text);

    // One that fails, for who waits and for who does not.
    cluster.deploy("v2", "console.error('no database'); process.exit(3);");
    let failed = ask(&cluster, "POST", "apps/api/rolls?wait=30s");
    refused(&failed, (500, "failed", None));
    let problem = failed.json();
    let place = problem["instance"].as_str().and_then(|place| place.strip_prefix('/')).unwrap();
    assert!(failed.json()["detail"].as_str().unwrap().contains("no database"), "{}", failed.text);
    assert_eq!(ask_with(&cluster, "GET", place, "").json()["state"], "failed");
    assert_eq!(ask(&cluster, "POST", "apps/api/stop?wait=30s").status, 200);
    // A start begins a fresh generation only where one was up: this one goes by the release that failed.
    cluster.sh("rm -r /srv/shop/v1").ok();
    assert_eq!(ask(&cluster, "POST", "apps/api/start").status, 202);
    let said = || cluster.journal_of("project-cluster.service").contains("api: the start of project-cluster@api.service failed");
    cluster.wait_until("its failure is in the journal", SOON, said);

    // What is installed is told, without the secret.
    let config = ask(&cluster, "GET", "config");
    assert_eq!((config.status, config.json()["apps"]["api"]["workers"]["count"].as_u64()), (200, Some(1)));
    assert!(!config.text.contains("hush") && !config.text.contains("SECRET"));
}

#[test]
pub fn lists_come_in_parts_that_lead_to_the_next() {
    let cluster = shop(3, "");
    cluster.program("v1", HELLO);
    for _ in 0..2 {
        cluster.cli(&["reload", "api"]).ok();
    }
    cluster.cli(&["restart", "api:02"]).ok();
    // Follows `next` to the end.
    let parts = |first: &str, key: &str| {
        let (mut path, mut seen) = (first.to_owned(), Vec::new());
        for _ in 0..10 {
            let answer = ask_with(&cluster, "GET", &path, "");
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            seen.push(answer.json().as_array().unwrap().iter().map(|entry| entry[key].clone()).collect::<Vec<_>>());
            let Some(next) = answer.header("link").map(str::to_owned) else { break };
            path = next.strip_prefix("</").and_then(|next| next.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
        }
        seen
    };
    let of_app = parts("v1/apps/api/rolls?limit=2", "id");
    assert_eq!(of_app.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let ids: Vec<u64> = of_app.concat().iter().filter_map(Value::as_u64).collect();
    assert!(ids.windows(2).all(|two| two[0] > two[1]), "newest first: {ids:?}");
    assert_eq!(parts("v1/rolls?limit=2", "id").concat(), of_app.concat());
    assert_eq!(parts("v1/workers?limit=1", "uid"), [["api:01"], ["api:02"], ["api:03"]]);
    assert_eq!(parts("v1/apps/api/workers?after=api:01", "uid"), [["api:02", "api:03"]]);
    assert_eq!(parts("v1/workers/api:02", "generation"), [[3]]);
    assert_eq!(parts("v1/apps?limit=1", "name"), [["api"]]);
    assert_eq!(parts("v1/apps?after=api", "name"), [[""; 0]]);
    let events = parts("v1/events?follow=false&limit=40", "seq");
    assert_eq!(events.concat(), parts("v1/events?follow=false", "seq").concat());
    assert!(events.len() > 1 && events[0].len() == 40, "{events:?}");

    // Watched from where it is known: the next change, then the end.
    let begun = ask(&cluster, "POST", "apps/api/rolls").json();
    let place = format!("v1/apps/api/rolls/{}", begun["roll"]["id"]);
    let (mut sequence, mut state) = (begun["roll"]["sequence"].as_u64().unwrap(), String::new());
    let mut asked = 0;
    while state != "done" && asked < 100 {
        let roll = ask_with(&cluster, "GET", &format!("{place}?after={sequence}&wait=20s"), "").json();
        assert!(roll["sequence"].as_u64().unwrap() > sequence || roll["state"] == "done", "{roll}");
        (sequence, state) = (roll["sequence"].as_u64().unwrap(), roll["state"].as_str().unwrap().to_owned());
        asked += 1;
    }
    assert_eq!(state, "done");
    assert!(asked > 3, "each change was told: {asked}");
    cluster.wait_until("the master is as idle as before", Duration::from_secs(20), || cluster.app("api")["state"] == "running");
}

#[test]
fn orders_that_hang_are_bounded_and_questions_go_on() {
    let cluster = installed(&app("api", 1, "sleep infinity", "listen = 3000\ntimeout.start = \"5m\""));
    cluster.cli(&["install"]).ok();
    cluster.systemctl(&["start", "--no-block", "project-cluster.target"]).ok();
    cluster.wait_for_state("project-cluster@api", "activating", SOON);
    // Each is answered at once, and goes on for as long as the start takes.
    let script = "import http.client, socket, collections\nclass Unix(http.client.HTTPConnection):\n    def connect(self):\n        self.sock = socket.socket(socket.AF_UNIX)\n        self.sock.settimeout(60)\n        self.sock.connect('/run/project-cluster/api.sock')\nseen = collections.Counter()\nfor _ in range(270):\n    client = Unix('x')\n    client.request('POST', '/v1/apps/api/start')\n    answer = client.getresponse()\n    seen[answer.status] += 1\n    answer.read()\nprint(dict(seen))";
    let seen = cluster.run_within(Duration::from_secs(100), &["python3", "-c", script]).ok();
    assert_eq!(seen, format!("{{202: {0}, 503: {1}}}", UNIX.orders, 270 - UNIX.orders));
    refused(&ask(&cluster, "POST", "apps/api/reset"), (503, "busy", None));
    assert_eq!(cluster.ls().len(), 1);
    // All of them wait for one job: with that they end, one reading of the world after the other.
    cluster.systemctl(&["stop", "project-cluster@api"]).ok();
    cluster.wait_until("there is room again", SOON, || matches!(ask(&cluster, "POST", "apps/api/reset?wait=1ms").status, 200 | 202));
}
