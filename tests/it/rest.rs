//! The REST API as another program sees it: what it refuses, and in which form.

use serde_json::Value;

use super::cluster::{Cluster, SOON, shop};

/// Status, content type and answer.
#[track_caller]
fn ask(cluster: &Cluster, method: &str, path: &str) -> (String, String, Value) {
    let script = format!(
        "curl -sS -X {method} -w '\\n%{{http_code}}\\n%{{content_type}}' --unix-socket /run/project-cluster/api.sock 'http://x/v1/{path}'"
    );
    let text = cluster.sh(&script).ok();
    let lines: Vec<&str> = text.rsplitn(3, '\n').collect();
    (lines[1].into(), lines[0].into(), serde_json::from_str(lines[2]).unwrap_or_else(|why| panic!("{why}: {text}")))
}

#[test]
fn a_mistyped_request_changes_nothing_and_every_refusal_has_the_same_form() {
    let cluster = shop(2, "");
    let pids = cluster.pids("api");
    let wrong = [
        ("POST", "apps/api/stop?slot=1"),
        ("POST", "apps/api/reload?slots=1"),
        ("POST", "apps/api/remove"),
        ("POST", "apps/api/scale?count=many"),
        ("POST", "apps/api/add"),
        ("GET", "apps/api/rolls/last"),
        ("GET", "apps/%ff"),
        ("GET", "events?follow=maybe"),
    ];
    for (method, path) in wrong {
        let (status, form, problem) = ask(&cluster, method, path);
        assert_eq!(
            (status.as_str(), form.as_str(), problem["code"].as_str()),
            ("400", "application/problem+json", Some("bad-request")),
            "{path}"
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{path}: {problem}");
    }
    assert_eq!(cluster.pids("api"), pids);

    // Without waiting: the order is taken, and that it fails is said where somebody looks.
    let (status, _, done) = ask(&cluster, "POST", "apps/api/add?count=1024&wait=false");
    assert_eq!((status.as_str(), done["message"].as_str()), ("200", Some("ordered")), "{done}");
    let said = || cluster.journal_of("project-cluster.service").contains("api can have 1024 workers at most");
    cluster.wait_until("its failure is in the journal", SOON, said);
    assert!(cluster.cli(&["add", "api", "--no-wait"]).ok().contains("ordered"));
    cluster.wait_until("the third one is up", SOON, || cluster.workers("api").len() == 3);
    // The command line says which.
    cluster.cli(&["remove", "api"]).ok();
    assert_eq!(cluster.workers("api"), Vec::<String>::new());
}
