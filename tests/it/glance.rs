//! A question is answered by the present, though nobody asks systemd for more than what changed.

use serde_json::Value;

use super::cluster::{SOON, app, cluster};

const ONE: &str = "project-cluster-api@1.1.1.service";

/// How often each is asked. The signals of a change take some milliseconds, so an answer of before is no rare one.
const TIMES: usize = 8;

#[test]
pub fn what_has_just_been_stopped_started_or_killed_is_listed_so() {
    let cluster = cluster(&app("api", 3, "sleep infinity", "ready = \"none\"\nreload.min_ready = \"10ms\""));
    // In one go, so that nothing lies between the change and the question.
    let row = |change: &str| -> Value {
        let text = cluster.sh(&format!("{change}\nproject-cluster --json ls api:01")).ok();
        let rows: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
        rows[0].clone()
    };
    for turn in 0..TIMES {
        // PID 1 may forget who listens while it reloads.
        let noise = ["true", "systemctl daemon-reload", "systemctl daemon-reload &", "systemctl daemon-reexec"][turn % 4];
        let stopped = row(&format!("{noise}\nsystemctl stop {ONE}"));
        assert!(stopped["state"] == "stopped" || stopped["state"] == "offline", "turn {turn}, {noise}: {stopped}");
        assert_eq!(stopped["pid"], Value::Null, "turn {turn}, {noise}: {stopped}");
        let started = row(&format!("{noise}\nsystemctl start {ONE}"));
        assert_eq!(started["state"], "online", "turn {turn}, {noise}: {started}");
        let pid = started["pid"].as_u64().unwrap();
        // It is gone when PID 1 has seen it end.
        let killed = row(&format!("kill -9 {pid}; while [ -e /proc/{pid} ]; do :; done"));
        assert_ne!(killed["pid"], pid, "turn {turn}: {killed}");
        assert!(killed["restarts"] != 0 || killed["state"] != "online", "turn {turn}: {killed}");
        cluster.wait_until("it is back", SOON, || row("true")["state"] == "online");
    }
}

#[test]
pub fn fifty_who_ask_at_once_get_one_answer_each() {
    let cluster = cluster(&app("api", 2, "sleep infinity", "ready = \"none\"\nreload.min_ready = \"10ms\""));
    let script = format!(
        "systemctl stop {ONE}\nfor asker in $(seq 50); do project-cluster --json ls > /run/answer.$asker & done\nwait\ncat /run/answer.*"
    );
    let text = cluster.sh(&script).ok();
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(answers.len(), 50);
    for answer in answers {
        let states: Vec<&str> = answer.as_array().unwrap().iter().filter_map(|row| row["state"].as_str()).collect();
        assert!(states.len() == 2 && states[0] != "online" && states[1] == "online", "{states:?}");
    }
}
