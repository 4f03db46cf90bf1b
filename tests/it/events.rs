//! What happens is told, by whom it was done, and what others do with systemctl is respected.

use std::time::Duration;

use serde_json::Value;

use super::cluster::{Cluster, HELLO, SOON, app, cluster, shop};

const HANDLE: &str = "project-cluster@api";
const MASTER: &str = "project-cluster.service";
const TWO: &str = "project-cluster-api@2.1.1.service";

/// All that the master has kept.
#[track_caller]
fn events(cluster: &Cluster) -> Vec<Value> {
    let text = cluster.cli(&["events", "--json", "-n", "1000"]).ok();
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// `worker.stop api:02 outside`, as far as an event has these.
fn word(event: &Value) -> String {
    let parts = ["kind", "uid", "by"].map(|key| event[key].as_str().unwrap_or_default());
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// The events that are not steps of a roll, once the last of them is this one.
#[track_caller]
fn told(cluster: &Cluster, last: &str) -> Vec<String> {
    let mut words = Vec::new();
    cluster.wait_until(&format!("the last event is `{last}`"), SOON, || {
        words = events(cluster).iter().map(word).filter(|word| !word.starts_with("roll.step")).collect();
        words.last().is_some_and(|word| word == last)
    });
    words
}

#[test]
pub fn what_others_do_to_workers_is_told_and_respected() {
    let cluster = shop(2, "");
    // A kill, and one that systemd sends for somebody.
    cluster.crash(TWO);
    told(&cluster, "worker.start api:02");
    let all = events(&cluster);
    let crash = all.iter().find(|event| event["kind"] == "worker.restart").unwrap();
    assert_eq!((word(crash).as_str(), &crash["signal"], &crash["unit"]), ("worker.restart api:02 outside", &9.into(), &TWO.into()));
    assert_eq!(all.iter().filter(|event| event["kind"] == "worker.startfailed").count(), 0, "{all:#?}");
    // Noise: nothing was done to anybody.
    cluster.systemctl(&["daemon-reload"]).ok();
    cluster.systemctl(&["daemon-reexec"]).ok();
    cluster.cli(&["ls"]).ok();
    assert_eq!(events(&cluster).len(), all.len());
    cluster.systemctl(&["restart", TWO]).ok();
    let words = told(&cluster, "worker.start api:02 outside");
    assert_eq!(words[words.len() - 2], "worker.stop api:02 outside");
    assert_eq!(cluster.app("api")["outside"].as_array().unwrap().len(), 0, "a restart is no stop");

    // A stop of one is a person's wish: it is shown, and no roll brings it back.
    cluster.systemctl(&["stop", TWO]).ok();
    told(&cluster, "worker.stop api:02 outside");
    cluster.wait_until("it is shown", SOON, || {
        let listed = cluster.cli(&["ls"]).ok();
        listed.contains("api:02: stopped from outside at ") && listed.contains("`project-cluster start api:02`")
    });
    assert_eq!(
        cluster.ls().iter().map(|row| (row.uid().to_owned(), row.state().to_owned())).collect::<Vec<_>>(),
        [("api:01".to_owned(), "online".to_owned()), ("api:02".into(), "stopped".into())]
    );
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!(cluster.workers("api"), ["project-cluster-api@1.2.1.service"]);
    // Started the same way, it is wanted again.
    cluster.systemctl(&["start", "project-cluster-api@2.2.1.service"]).ok();
    told(&cluster, "worker.start api:02 outside");
    cluster.wait_until("it counts again", SOON, || cluster.app("api")["target"] == 2);
    cluster.cli(&["reload", "api"]).ok();
    assert_eq!((cluster.generations("api"), cluster.workers("api").len()), (vec![3], 2));

    // All of them: it is shown that nobody answers, and none is remembered as one that shall stay down.
    cluster.systemctl(&["stop", "project-cluster-api@*.service"]).ok();
    cluster.wait_until("it is shown", SOON, || cluster.cli(&["ls"]).ok().contains("api: no worker answers, connections wait."));
    let client = cluster.client();
    cluster.wait_until("both count", SOON, || cluster.app("api")["target"] == 2);
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
    client.wait(SOON).exits(0);
}

#[test]
pub fn a_shutdown_and_a_stop_of_the_handle_are_no_stops_of_workers() {
    let mut cluster = shop(2, "");
    cluster.systemctl(&["stop", HANDLE]).ok();
    // Which of two workers that stop at once is down first is chance.
    let told_all = || {
        let words: Vec<String> = events(&cluster).iter().map(word).collect();
        ["stop outside", "worker.stop api:01 outside", "worker.stop api:02 outside"].iter().all(|one| words.iter().any(|word| word == one))
    };
    cluster.wait_until("all three are told", SOON, told_all);
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(cluster.workers("api").len(), 2);
    // At a shutdown workers begin to stop before their handle does.
    cluster.systemctl(&["enable", "project-cluster.target"]).ok();
    cluster.reboot();
    cluster.wait_for_state(HANDLE, "active", SOON);
    cluster.wait_until("all are back", SOON, || cluster.workers("api").len() == 2);
    cluster.systemctl(&["stop", "project-cluster.target"]).ok();
    cluster.systemctl(&["start", "project-cluster.target"]).ok();
    cluster.wait_until("all are back", SOON, || cluster.workers("api").len() == 2);
}

#[test]
pub fn a_lost_socket_and_masked_units_are_shown_with_what_mends_them() {
    let cluster = shop(1, "");
    let socket = "project-cluster-api-:::3000.socket";
    cluster.systemctl(&["stop", socket]).ok();
    told(&cluster, "socket.down outside");
    assert!(
        cluster
            .cli(&["events", "api", "-n", "1"])
            .ok()
            .contains("`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`")
    );
    cluster.systemctl(&["restart", HANDLE]).ok();
    told(&cluster, "start outside");
    cluster.systemctl(&["mask", HANDLE]).ok();
    let listed = cluster.cli(&["ls"]).ok();
    assert!(
        listed.contains("project-cluster@api.service is masked, it cannot be started. `systemctl unmask project-cluster@api.service && "),
        "{listed}"
    );
    let worker = cluster.workers("api").remove(0);
    cluster.systemctl(&["mask", "--runtime", &worker]).ok();
    assert!(cluster.cli(&["show", "api"]).ok().contains(&format!("`systemctl unmask {worker} && ")));
    // What is printed mends both kinds.
    for unit in ["project-cluster@api.service", &worker] {
        cluster.sh(&format!("systemctl unmask {unit} && systemctl unmask --runtime {unit}")).ok();
    }
    assert!(!cluster.cli(&["ls"]).ok().contains("masked"));
}

#[test]
pub fn restarts_that_one_burst_hides_are_told() {
    // Up again before a reading of its end could begin.
    let cluster = cluster(&app("api", 1, "sleep infinity", "ready = \"none\"\nreload.min_ready = \"1ms\"\ntimeout.restart = \"0ms\""));
    let unit = "project-cluster-api@1.1.1.service";
    let count = |kind: &str| events(&cluster).iter().filter(|event| event["kind"] == kind).count();
    // The master may have come up behind the first start.
    let starts = count("worker.start");
    for crashes in 1..=3 {
        cluster.crash(unit);
        cluster.wait_until("the restart is told", SOON, || count("worker.restart") == crashes);
        cluster.wait_until("the start is told", SOON, || count("worker.start") == starts + crashes);
    }
    assert_eq!(count("worker.startfailed"), 0);
}

#[test]
pub fn followed_over_a_restart_of_the_master_it_tells_the_gap_and_ends_when_nobody_reads() {
    let cluster = shop(2, "");
    let following = cluster.spawn(&["project-cluster", "events", "-f", "--json"]);
    let plain = cluster.spawn(&["project-cluster", "events", "api:02", "-f", "-n", "0"]);
    let heard = || following.stdout().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let hears = |kind: &str| cluster.wait_until(&format!("{kind} is heard"), SOON, || heard().iter().any(|event| event["kind"] == kind));
    hears("master.start");
    cluster.deploy("v2", HELLO);
    cluster.systemctl(&["reload", HANDLE]).ok();
    hears("roll.done");
    let roll = |event: &Value| event["roll"].as_u64();
    let all = heard();
    let begin = all.iter().find(|event| event["kind"] == "roll.begin").expect("it begins");
    assert_eq!((&begin["by"], &begin["asked_by"]), (&"outside".into(), &Value::Null), "by systemctl, and its reload step is nobody");
    let id = roll(begin).expect("the roll has a number");
    let steps: Vec<&str> = all
        .iter()
        .filter(|event| event["kind"] == "roll.step" && roll(event) == Some(id))
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps[..3],
        ["api:01 (generation 2) starts", "api:01 (generation 2) is ready", "api:01 (generation 1) retires"],
        "{steps:?}"
    );
    cluster.wait_until("both old ones were stopped by the roll", SOON, || {
        heard().iter().filter(|event| event["kind"] == "worker.stop" && event["by"] == "roll" && event["generation"] == 1).count() == 2
    });

    let pid = cluster.main_pid(MASTER).unwrap();
    cluster.kill(pid, "KILL");
    hears("gap");
    cluster.crash("project-cluster-api@2.2.1.service");
    hears("worker.restart");
    let all = heard();
    assert_eq!(all.iter().filter(|event| event["kind"] == "gap").count(), 1);
    assert_eq!(all.iter().filter(|event| event["kind"] == "master.start").count(), 2);
    assert!(all.windows(2).all(|two| two[0]["seq"].as_u64() < two[1]["seq"].as_u64()), "numbers grow: {all:#?}");
    // Who resumes where it left off misses nothing and hears nothing twice.
    let seq = all.last().unwrap()["seq"].as_u64().unwrap();
    let behind = format!("http://x/v1/events?follow=false&after={}", seq - 1);
    let text = cluster.run(&["curl", "-sS", "--unix-socket", "/run/project-cluster/api.sock", &behind]).ok();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap()[0]["seq"].as_u64(), Some(seq));

    // For people: of one worker, and of what concerns it.
    cluster.wait_until("the plain one is through", SOON, || plain.stdout().contains("worker.restart"));
    let text = plain.stdout();
    assert!(text.contains("gap  ") && !text.contains("api:01 (generation 2) is ready  ("), "{text}");
    plain.signal(libc::SIGINT);
    assert_eq!(plain.wait(SOON).exits(0).stderr, "");
    // Its reader goes away and nothing happens any more: it ends all the same.
    cluster.run(&["sh", "-c", "project-cluster events -f | head -n 1"]).ok();
    let follows = || cluster.run(&["pgrep", "-fc", "events -f -n|events -f$"]).stdout;
    cluster.wait_until("nobody follows a closed pipe", Duration::from_secs(5), || follows().trim() == "0");
}

#[test]
pub fn streams_are_bounded_and_frames_are_those_of_the_standard() {
    let cluster = shop(1, "");
    cluster.systemctl(&["restart", "project-cluster-api@1.1.1.service"]).ok();
    told(&cluster, "worker.start api:01 outside");
    const SCRIPT: &str = r#"
import json, os, signal, socket, subprocess, sys
def ask(path, *headers):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect('/run/project-cluster/api.sock')
    client.sendall(('GET ' + path + ' HTTP/1.1\r\nHost: x\r\n' + ''.join(h + '\r\n' for h in headers) + '\r\n').encode())
    text = b''
    while b'\r\n\r\n' not in text:
        text += client.recv(65536)
    return client, text.decode()
first, head = ask('/v1/events?after=0')
assert 'text/event-stream' in head, head
while '\n\n' not in head.split('\r\n\r\n', 1)[1]:
    head += first.recv(65536).decode()
lines = head.split('\r\n\r\n', 1)[1].split('\n\n')[0].split('\n')
fields = dict(line.split(': ', 1) for line in lines if ': ' in line)
data = json.loads(fields['data'])
assert fields['event'] == data['kind'] == 'master.start', head
assert fields['id'] == str(data['seq']), head
seq = data['seq']
_, head = ask('/v1/events', 'Accept: application/json')
assert 'application/json' in head, head
resumed, head = ask('/v1/events', 'Last-Event-ID: %d' % seq)
while 'event: worker.start' not in head:
    head += resumed.recv(65536).decode()
assert 'master.start' not in head, head
_, head = ask('/v1/events', 'Last-Event-ID: no')
assert ' 400 ' in head, head
# Who asks without a number learns at once where the stream begins, though nothing happens.
quiet, head = ask('/v1/events')
while '\n\n' not in head.split('\r\n\r\n', 1)[1]:
    head += quiet.recv(65536).decode()
position = [line for line in head.split('\r\n\r\n', 1)[1].split('\n') if line.startswith('id: ')]
assert len(position) == 1 and 'data:' not in head and 'event:' not in head, head
position = int(position[0][4:])
_, kept = ask('/v1/events?follow=false')
assert '"seq":%d,' % position in kept and '"seq":%d,' % (position + 1) not in kept, (position, kept)
# As many as the unix socket takes, with the three above.
streams = [ask('/v1/events') for _ in range(205)]
assert all(' 200 ' in head for _, head in streams)
_, head = ask('/v1/events')
assert ' 503 ' in head, head
_, head = ask('/v1/health')
assert ' 200 ' in head, head
del streams
while True:
    _, head = ask('/v1/events')
    if ' 200 ' in head: break
# What one master has told, another cannot know: a reader that connects again is told that it may have missed something.
# So is one that had heard nothing of it.
known = str(position)
pid = int(subprocess.check_output(['systemctl', 'show', '--value', '-pMainPID', 'project-cluster.service']))
os.kill(pid, signal.SIGKILL)
while resumed.recv(65536): pass
again, head = ask('/v1/events', 'Last-Event-ID: ' + known)
while head.count('\n\n') < 2 or 'master.start' not in head:
    head += again.recv(65536).decode()
events = [json.loads(line[6:]) for line in head.split('\n') if line.startswith('data: ')]
assert [event['kind'] for event in events[:2]] == ['gap', 'master.start'], events
assert events[0]['seq'] + 1 == events[1]['seq'] and events[0]['seq'] > int(known), events
# Behind the gap nothing is missed, and nothing is told twice.
again.close()
again, head = ask('/v1/events', 'Last-Event-ID: %d' % events[0]['seq'])
while 'master.start' not in head:
    head += again.recv(65536).decode()
assert 'event: gap' not in head, head
"#;
    cluster.run(&["python3", "-c", SCRIPT]).ok();
}

#[test]
pub fn systemctl_status_shows_the_step_of_a_reload_and_what_it_leaves() {
    let cluster = shop(2, "reload.min_ready = \"500ms\"");
    const UP: &str = "up; `project-cluster show api` tells its workers";
    let status = || cluster.property(HANDLE, "StatusText");
    assert_eq!(status(), UP);
    cluster.deploy("v2", HELLO);
    let reload = cluster.spawn(&["systemctl", "reload", HANDLE]);
    cluster.wait_until("the status is a step", SOON, || status().starts_with("roll to generation 2: api:"));
    let shown = cluster.systemctl(&["status", HANDLE]);
    assert!(shown.stdout.contains("Status: \"roll to generation 2: api:"), "{}", shown.stdout);
    reload.wait(SOON).exits(0);
    assert_eq!(status(), UP);
    // One that others began is shown as well. A reload that is asked for meanwhile is another one, behind it.
    let roll = cluster.spawn(&["project-cluster", "reload", "api"]);
    cluster.wait_until("the status is a step", SOON, || status().starts_with("roll to generation 3: api:"));
    assert_eq!(cluster.state(HANDLE), "reloading");
    cluster.systemctl(&["reload", HANDLE]).ok();
    roll.wait(SOON).exits(0);
    assert_eq!((status().as_str(), cluster.generations("api")), (UP, vec![4]));
    // A hold stays there until it ends.
    cluster.cli(&["scale", "api", "1"]).ok();
    assert_eq!(status(), UP);
    cluster.deploy("v3", "process.exit(3);");
    assert_ne!(cluster.systemctl(&["reload", HANDLE]).code, 0);
    assert!(status().starts_with("held since ") && status().contains("because generation 5 failed: api:01"), "{}", status());
    cluster.cli(&["reload", "api"]).exits(1);
    cluster.wait_for_state(HANDLE, "active", SOON);
    assert!(cluster.journal(&["-u", HANDLE, "-o", "cat"]).matches("the roll to generation 6 failed: api:").count() >= 1);
    assert!(!cluster.exists("/run/project-cluster/state/shown-api"), "taken");
    cluster.release("v2");
    cluster.systemctl(&["restart", HANDLE]).ok();
    assert_eq!(status(), UP);
    cluster.systemctl(&["stop", HANDLE]).ok();
    assert_eq!(status(), "", "nothing is left standing");
}
