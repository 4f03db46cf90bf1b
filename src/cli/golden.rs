//! What people see, whole, at 80 and at 200 columns: `tests/golden/cli/`. `UPDATE_GOLDEN=1` writes it anew.

use std::path::Path;

use serde_json::json;

use super::client::Client;
use super::select::selection;
use super::show::golden::{Facts, app as shown_app, worker as shown_worker};
use super::{Failure, history, list, outcome, time, token};
use crate::api::history::Entry;
use crate::api::tokens::Tokens;
use crate::api::types::App;

/// What is shown is what the file says.
#[track_caller]
pub(super) fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/cli/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} differs (UPDATE_GOLDEN=1 writes it anew):\n--- golden\n{golden}--- now\n{text}", path.display());
}

/// Twelve minutes before now.
fn then() -> u64 {
    time::now_ms() - 12 * 60_000
}

fn tokens() -> Tokens {
    let row = |name: &str, role: &str, apps: serde_json::Value| json!({ "name": name, "role": role, "apps": apps, "sha256": "0".repeat(64), "made_ms": then() });
    let rows = [row("deploy-shop", "operate", json!(["api", "background"])), row("monitoring", "view", json!(null))];
    Tokens::read(json!({ "format": 1, "tokens": rows }).to_string().as_bytes()).unwrap()
}

fn apps() -> Vec<App> {
    let row = |app: &str, slot: u16, state: &str, pid: Option<u32>, more: serde_json::Value| {
        let mut row = json!({
            "uid": format!("{app}:{slot:02}"), "app": app, "slot": slot, "generation": pid.map(|_| 12), "state": state, "pid": pid,
            "unit": pid.map(|_| format!("project-cluster-{app}@{slot}.12.1.service")), "uptime_ms": pid.map(|_| 740_000), "restarts": 0,
            "memory_bytes": pid.map(|_| 45_200_000), "cpu_ms": pid.map(|_| 61_000),
        });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let command = ["node", "--max-old-space-size=512", "--enable-source-maps", "apps/api/server.js", "--listen", "3000", "--log", "json"];
    let api = json!({
        "name": "api", "state": "degraded", "target": 3, "ready": 2, "configured": 3, "generation": 12, "latest": 13, "command": command,
        "cwd": "/srv/shop/current", "user": "shop", "handle": "project-cluster@api.service",
        "held": { "generation": 13, "reason": "api:01 (generation 13) did not get ready in time\nError: no database", "since_ms": then() },
        "sockets": [{ "address": "[::]:3000", "unit": "project-cluster-api-:::3000.socket", "active": true }],
        "roll": {
            "app": "api", "id": 7, "generation": 13, "state": "failed", "sequence": 4, "ready": 0, "target": 3, "took_ms": 31_200,
            "steps": [{ "at_ms": 16, "text": "api:01 (generation 13) starts" }, { "at_ms": 30_100, "text": "going back: no database" }],
            "reason": "no database",
        },
        "workers": [
            row("api", 1, "online", Some(48_213), json!({})),
            row("api", 2, "online", Some(48_220), json!({ "restarts": 2, "generation": 11 })),
            row("api", 3, "crash-loop", Some(51_007), json!({
                "restarts": 7, "uptime_ms": null, "crash_loop": { "ends": 7, "looping_ms": 95_000, "next_start_ms": 8000 },
            })),
        ],
        "crash_loop": {
            "workers": 1, "ends": 7, "looping_ms": 95_000, "next_start_ms": 8000, "worker": "api:03", "lines": ["Error: no database"],
        },
    });
    let mail = "mail-of-the-shop-and-of-everything-else-there-is-in-the-house";
    let long = json!({
        "name": mail, "state": "stopped", "target": 1, "ready": 0, "generation": null, "command": ["mail"], "cwd": "/", "user": "x",
        "handle": "h", "sockets": [], "held": null, "roll": null, "workers": [row(mail, 1, "offline", None, json!({}))],
    });
    [api, long].into_iter().map(|app| serde_json::from_value(app).unwrap()).collect()
}

fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.fill(
        &json!({
            "seq": 1, "time_ms": then(), "kind": "worker.restart", "app": "api", "uid": "api:03", "cause": "exit", "exit_code": 1,
            "text": "api:03 (generation 12) ended with exit code 1 and is started again",
        }),
        then(),
    );
    facts
}

fn past(at: u64) -> Vec<Entry> {
    let row = |id: u64, more: serde_json::Value| {
        let mut row = json!({
            "id": id, "app": "api", "verb": "reload", "slots": null, "count": null, "asked_by": "user 0", "systemctl": false,
            "begun_ms": at, "took_ms": 5231, "waited_ms": 0, "end": "done", "text": null, "roll": 1_795_530_543_642_u64,
            "generation": 13, "steps": [],
        });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(row).unwrap()
    };
    let steps = json!([{ "at_ms": 16, "text": "api:01 (generation 13) starts" }, { "at_ms": 30_100, "text": "going back: no database" }]);
    let why = "api:01 (generation 13) did not get ready in time. The old workers serve as before\nError: no database";
    let failed =
        json!({ "asked_by": "token deploy-shop", "took_ms": 35_300, "waited_ms": 4100, "end": "failed", "text": why, "steps": steps });
    let restart =
        json!({ "app": "background", "verb": "restart", "slots": [1, 2, 12], "asked_by": "192.0.2.7", "end": "running", "took_ms": null });
    let scale = json!({ "verb": "scale", "count": 12, "end": "refused", "text": "api can have 1024 workers at most", "took_ms": 3 });
    let lost = json!({ "app": null, "verb": "history", "asked_by": null, "took_ms": null, "end": "failed", "text": "what happened before this is not here" });
    vec![row(1041, restart), row(1040, failed), row(1039, json!({ "systemctl": true })), row(1038, scale), row(9, lost)]
}

const LOG: [&str; 2] = ["14:01:59  api:03  listening on the inherited socket", "14:02:00  api:03  Error: no database"];

#[test]
fn what_people_see_at_80_and_at_200_columns() {
    let (apps, log) = (apps(), LOG.map(str::to_owned));
    let workers: Vec<_> = apps.iter().flat_map(|app| app.workers.clone()).collect();
    // The only thing in it that depends on when it is made.
    let fixed = |text: String| text.replace(&time::since(then()), "14:02 (12 min ago)");
    for width in [80, 200] {
        let table = list::workers(&workers, &apps, width, false);
        let rows = table.lines().take(1 + workers.len());
        assert!(rows.clone().all(|row| super::table::width(row) <= width), "{table}");
        is_golden(&format!("ls-{width}"), &fixed(table));
        // Of today, whenever that is.
        let now = time::now_ms();
        let (past, second) = (past(now), time::second(now));
        let fixed_second = |text: String| text.replace(&second, "14:02:11");
        let table = history::rows(&past, width, false);
        assert!(table.lines().all(|row| super::table::width(row) <= width), "{table}");
        is_golden(&format!("history-{width}"), &(fixed_second(table) + "\n" + &fixed_second(history::full(&past[1], false))));
        is_golden(&format!("token-ls-{width}"), &fixed(token::shown(true, &tokens(), width, false)));
        is_golden(&format!("show-{width}"), &fixed(shown_app(&apps[0], &facts(), &log, width)));
        let mut other = facts();
        other.of_another_time(&["node", "apps/api/old.js"]);
        is_golden(&format!("show-changed-{width}"), &fixed(shown_app(&apps[0], &other, &log, width)));
        is_golden(&format!("show-worker-{width}"), &fixed(shown_worker(&apps[0], &apps[0].workers[2], &facts(), &log, width)));
    }
}

#[tokio::test]
async fn errors_say_what_happened_why_and_what_to_type() {
    let apps = apps();
    let mut roll = apps[0].roll.clone().unwrap();
    roll.reason =
        Some("api:01 (generation 13) did not get ready within 30 s. It wrote last:\nError: no database\n\u{1b}[2Jat connect".into());
    let typos = ["apj".to_owned(), "api:09".to_owned()];
    let nobody = Client::new(&"nowhere".parse().unwrap());
    let unreachable = nobody.call::<Vec<App>>(hyper::Method::GET, "/v1/apps", super::READ).await.unwrap_err();
    let failures = [
        Failure::Failed(outcome::failed(&roll)),
        Failure::Failed(outcome::unfinished("api", "reload")),
        Failure::Failed(outcome::unfinished("api", "stop")),
        selection(&apps, &typos).unwrap_err(),
        unreachable.into(),
    ];
    let told = failures.map(|failure| match failure {
        Failure::Failed(text) => format!("[exit 1] project-cluster: {text}\n"),
        Failure::Usage(text) => format!("[exit 2] project-cluster: {text}\n"),
        Failure::Unreachable(text) => format!("[exit 3] project-cluster: {text}\n"),
    });
    is_golden("errors", &told.concat());
}
