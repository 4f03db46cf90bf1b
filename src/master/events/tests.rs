//! Readings as systemd gives them, one after another, and what is told of each.

use super::asked::Ledger;
use super::between::{Scene, Told, between};
use super::*;
use crate::api::events::Cause;
use crate::roll::plan::Scope;
use crate::systemd::{Details, UnitState};

const API: &str = "[apps.api]\nworkers = 2\ncommand = \"/usr/bin/node x.js\"\ncwd = \"/srv\"\nlisten = 3000\n";
const HANDLE: &str = "project-cluster@api.service";
const TRIGGER: &str = "project-cluster-first@api.service";
const SOCKET: &str = "project-cluster-api-:::3000.socket";
const ONE: &str = "project-cluster-api@1.1.1.service";
const TWO: &str = "project-cluster-api@2.1.1.service";

/// A row: unit, state, sub-state; times and counts as told.
#[derive(Clone)]
struct Row(UnitState, Details);

fn row(unit: &str, active: ActiveState, sub: &str) -> Row {
    Row(UnitState { name: unit.into(), active, sub: sub.into(), job: None, masked: false, gone: false }, Details::default())
}

impl Row {
    fn times(mut self, begun: u64, since: u64) -> Self {
        (self.1.begun_us, self.1.active_since_us) = (begun, since);
        self
    }
    fn restarts(mut self, restarts: u32) -> Self {
        self.1.restarts = restarts;
        self
    }
    fn end(mut self, result: &str, status: i32, by_signal: bool) -> Self {
        (self.1.result, self.1.exit_status, self.1.by_signal) = (result.into(), status, by_signal);
        self
    }
    fn job(mut self, job: &str) -> Self {
        self.0.job = Some(job.into());
        self
    }
}

fn up(unit: &str, since: u64) -> Row {
    row(unit, ActiveState::Active, "running").times(since - 5, since)
}

fn starting(unit: &str, begun: u64) -> Row {
    row(unit, ActiveState::Activating, "start-post").times(begun, 0)
}

fn waiting(unit: &str, begun: u64, since: u64) -> Row {
    row(unit, ActiveState::Activating, "auto-restart").times(begun, since).end("exit-code", 3, false)
}

fn leaving(unit: &str, begun: u64, since: u64) -> Row {
    row(unit, ActiveState::Deactivating, "stop-sigterm").times(begun, since)
}

/// A world that goes from reading to reading.
struct Story {
    settings: Settings,
    world: World,
    asked: Ledger,
    last: Told,
}

impl Story {
    /// The app is up with two workers since 100.
    fn begin() -> Self {
        Self::with(vec![up(HANDLE, 100), up(SOCKET, 50), up(ONE, 100), up(TWO, 100)])
    }

    fn with(rows: Vec<Row>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, API).unwrap();
        let settings = crate::config::load(&path, &crate::config::SystemAccounts).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let mut world = World::default();
        world.update(None, rows.into_iter().map(|row| (row.0, row.1)).collect());
        Self { settings, world, asked: Ledger::default(), last: Told::default() }
    }

    /// The next reading: these units are read, and those named `gone` are no longer loaded. `kind by uid` of each event.
    #[track_caller]
    fn read(&mut self, rows: Vec<Row>, gone: &[&str]) -> Vec<String> {
        let before = self.world.clone();
        let asked: Vec<String> = rows.iter().map(|row| row.0.name.clone()).chain(gone.iter().map(|unit| (*unit).to_owned())).collect();
        self.world.update(Some(&asked), rows.into_iter().map(|row| (row.0, row.1)).collect());
        self.last = between(&Scene { settings: &self.settings, before: &before, after: &self.world, asked: &self.asked });
        let word = |what: &Happening| {
            let by = what.by.map_or_else(String::new, |by| format!(" {}", by.word()));
            let uid = what.uid.as_ref().map_or_else(String::new, |uid| format!(" {uid}"));
            format!("{}{by}{uid}", what.kind.word())
        };
        self.last.happenings.iter().map(word).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_worker_that_crashes_and_comes_back() {
    let mut story = Story::begin();
    assert_eq!(story.read(vec![leaving(ONE, 95, 100)], &[]), NOTHING);
    assert_eq!(story.read(vec![waiting(ONE, 200, 100)], &[]), ["worker.restart api:01"]);
    let told = &story.last.happenings[0];
    assert_eq!((told.cause, told.exit_code, told.signal), (Some(Cause::Exit), Some(3), None));
    assert_eq!(told.text, "api:01 (generation 1) ended (it exited with 3) and comes back");
    assert_eq!(story.read(vec![starting(ONE, 210).times(210, 100).restarts(1)], &[]), NOTHING);
    assert_eq!(story.read(vec![up(ONE, 220).restarts(1)], &[]), ["worker.start api:01"]);
    assert_eq!(story.last.happenings[0].restarts, Some(1));
    assert!(story.last.strays.is_empty());
}

#[test]
fn a_burst_hides_no_restart() {
    for (after, told) in [
        // The whole of it between two readings.
        (up(ONE, 300).restarts(1), &["worker.restart api:01", "worker.start api:01"][..]),
        // Its end alone.
        (starting(ONE, 300).restarts(1), &["worker.restart api:01"]),
        // It came back and ended again: at least one of each is told.
        (waiting(ONE, 300, 290).restarts(1), &["worker.restart api:01", "worker.start api:01", "worker.restart api:01"]),
        // Somebody's `systemctl restart` counts from 0.
        (up(ONE, 300), &["worker.stop outside api:01", "worker.start outside api:01"]),
    ] {
        assert_eq!(Story::begin().read(vec![after], &[]), told);
    }
    // A reading that was torn: the row of before its end, the times of behind it.
    let mut story = Story::begin();
    assert_eq!(story.read(vec![leaving(ONE, 200, 100).end("exit-code", 1, false)], &[]), NOTHING);
    assert_eq!(story.read(vec![waiting(ONE, 200, 100)], &[]), ["worker.restart api:01"]);
}

#[test]
fn starts_that_fail_are_told_each_time() {
    let mut story = Story::with(vec![up(HANDLE, 100), up(SOCKET, 50), waiting(ONE, 200, 100)]);
    assert_eq!(story.read(vec![starting(ONE, 210).times(210, 100).restarts(1)], &[]), NOTHING);
    let failed = waiting(ONE, 230, 100).restarts(1).end("timeout", 15, true);
    assert_eq!(story.read(vec![failed], &[]), ["worker.startfailed api:01"]);
    let told = &story.last.happenings[0];
    assert_eq!((told.cause, told.signal, told.restarts), (Some(Cause::Timeout), Some(15), Some(1)));
    // systemd counts before the next start, and from 257 on says that it is queued: neither is another failure.
    let queued = row(ONE, ActiveState::Activating, "auto-restart-queued").times(230, 100).restarts(2);
    assert_eq!(story.read(vec![queued], &[]), NOTHING);
    // A burst over a whole try.
    assert_eq!(story.read(vec![waiting(ONE, 260, 100).restarts(2)], &[]), ["worker.startfailed api:01"]);
    assert_eq!(story.read(vec![starting(ONE, 300).times(300, 100).restarts(4)], &[]), ["worker.startfailed api:01"]);
    assert_eq!(story.read(vec![up(ONE, 320).restarts(5)], &[]), ["worker.startfailed api:01", "worker.start api:01"]);
    // A moment of 254 and later.
    assert_eq!(
        story.read(vec![row(ONE, ActiveState::Failed, "failed-before-auto-restart").times(315, 320).restarts(5)], &[]),
        ["worker.restart api:01"]
    );
}

#[test]
fn a_stop_is_ours_the_apps_or_from_outside() {
    // Nobody here asked for it, and the app is up.
    let mut story = Story::begin();
    assert_eq!(story.read(vec![leaving(TWO, 95, 100)], &[]), NOTHING);
    assert_eq!(story.read(vec![], &[TWO]), ["worker.stop outside api:02"]);
    assert_eq!(story.last.strays, [("api".parse().unwrap(), "2.1.1".parse().unwrap())]);
    assert!(story.last.happenings[0].text.ends_with("`project-cluster start api:02`"), "{}", story.last.happenings[0].text);
    // The first half of somebody's restart: it is no stop.
    let mut story = Story::begin();
    assert_eq!(story.read(vec![row(TWO, ActiveState::Inactive, "dead").job("restart")], &[]), ["worker.stop outside api:02"]);
    assert!(story.last.strays.is_empty());
    // A roll asked, or a person here.
    let single = Scope::Slots(std::collections::BTreeSet::new());
    for (who, told) in [
        (Who::roll(7, &Scope::App, None), "worker.stop roll api:02"),
        (Who::roll(7, &single, Some("token ci".into())), "worker.stop operator api:02"),
        (Who::OPERATOR, "worker.stop operator api:02"),
    ] {
        let mut story = Story::begin();
        story.asked.note(TWO, Verb::Stop, who.clone());
        assert_eq!(story.read(vec![], &[TWO]), [told]);
        assert_eq!((story.last.happenings[0].roll, &story.last.happenings[0].asked_by), (who.roll, &who.asked_by));
        assert!(story.last.strays.is_empty());
    }
    // And it is started so.
    let mut story = Story::with(vec![up(HANDLE, 100), up(SOCKET, 50), up(ONE, 100)]);
    assert_eq!(story.read(vec![up(TWO, 200)], &[]), ["worker.start outside api:02"]);
    assert_eq!(story.last.returned, [("api".parse().unwrap(), "2.1.1".parse().unwrap())]);
    // One that waits for its restart is stopped too.
    let mut story = Story::with(vec![up(HANDLE, 100), up(SOCKET, 50), waiting(ONE, 200, 100)]);
    assert_eq!(story.read(vec![], &[ONE]), ["worker.stop outside api:01"]);
    assert_eq!(story.last.strays.len(), 1);
}

#[test]
fn a_stop_of_the_app_is_no_stop_of_a_worker_from_outside() {
    for (asked, by) in [(false, "outside"), (true, "operator")] {
        let mut story = Story::begin();
        if asked {
            story.asked.note(HANDLE, Verb::Stop, Who::OPERATOR);
        }
        let down = row(HANDLE, ActiveState::Deactivating, "stop-post").job("stop").times(95, 100);
        assert_eq!(story.read(vec![down, row(SOCKET, ActiveState::Inactive, "dead"), leaving(ONE, 95, 100)], &[]), [format!("stop {by}")]);
        assert_eq!(story.read(vec![], &[ONE, TWO]), [format!("worker.stop {by} api:01"), format!("worker.stop {by} api:02")]);
        assert_eq!(story.read(vec![], &[HANDLE]), NOTHING);
        assert!(story.last.strays.is_empty());
    }
    // At a shutdown workers stop before the handle, whose job is there already.
    let mut story = Story::begin();
    assert_eq!(story.read(vec![up(HANDLE, 100).job("stop")], &[ONE]), ["worker.stop outside api:01"]);
    assert!(story.last.strays.is_empty());
}

#[test]
fn an_app_starts_restarts_and_fails() {
    let mut story = Story::with(vec![]);
    story.asked.note(HANDLE, Verb::Start, Who::OPERATOR);
    assert_eq!(story.read(vec![row(HANDLE, ActiveState::Activating, "start"), up(SOCKET, 60), starting(ONE, 90)], &[]), NOTHING);
    assert_eq!(story.read(vec![up(ONE, 100)], &[]), ["worker.start operator api:01"]);
    assert_eq!(story.read(vec![up(HANDLE, 110), up(TWO, 109)], &[]), ["worker.start operator api:02", "start operator"]);
    // Somebody's restart, in one burst: its time of becoming active tells.
    let mut story = Story::begin();
    let fresh = ["project-cluster-api@1.2.1.service", "project-cluster-api@2.2.1.service"];
    assert_eq!(
        story.read(vec![up(HANDLE, 300), up(fresh[0], 290), up(fresh[1], 295)], &[ONE, TWO]),
        [
            "stop outside",
            "worker.stop outside api:01",
            "worker.start outside api:01",
            "worker.stop outside api:02",
            "worker.start outside api:02",
            "start outside"
        ]
    );
    assert!(story.last.strays.is_empty());
    // A reload of the handle is none of these.
    assert_eq!(story.read(vec![row(HANDLE, ActiveState::Reloading, "reload").times(1, 300).job("reload")], &[]), NOTHING);
    // A start that fails.
    let failed = || row(HANDLE, ActiveState::Failed, "failed").end("exit-code", 1, false);
    for (listens, text) in [
        (true, "the start of api failed, its port is closed. `project-cluster show api` says why"),
        (false, "the start of api failed. `project-cluster show api` says why"),
    ] {
        let mut story = Story::with(vec![row(HANDLE, ActiveState::Activating, "start")]);
        if !listens {
            story.settings.apps.values_mut().for_each(|app| app.listen.clear());
        }
        assert_eq!(story.read(vec![failed()], &[]), ["startfailed outside"]);
        assert_eq!(story.last.happenings[0].text, text);
        assert_eq!(story.read(vec![failed()], &[]), NOTHING);
    }
    // A stop that does: its start step had gone well.
    let mut story = Story::begin();
    let stopping = row(HANDLE, ActiveState::Deactivating, "stop-post").times(95, 100);
    assert_eq!(story.read(vec![stopping], &[]), ["stop outside"]);
    assert_eq!(story.read(vec![row(HANDLE, ActiveState::Failed, "failed").end("timeout", 0, false)], &[]), ["stop outside"]);
    assert_eq!(story.last.happenings[0].text, "the stop of api failed, some of it may still run. `project-cluster stop api`");
    // A connection that wakes it is nobody's doing.
    let mut story = Story::with(vec![up(SOCKET, 50), up(TRIGGER, 80), row(HANDLE, ActiveState::Activating, "start")]);
    assert_eq!(story.read(vec![up(HANDLE, 110)], &[]), ["start"]);
}

#[test]
fn a_socket_that_goes_under_a_running_app() {
    let mut story = Story::begin();
    assert_eq!(story.read(vec![row(SOCKET, ActiveState::Failed, "failed")], &[]), ["socket.down outside"]);
    assert!(
        story.last.happenings[0]
            .text
            .contains("`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`")
    );
    assert_eq!(story.read(vec![up(SOCKET, 400)], &[]), ["socket.up outside"]);
}

#[test]
fn noise_is_no_event() {
    let mut story = Story::begin();
    let all = || vec![up(HANDLE, 100), up(SOCKET, 50), up(ONE, 100), up(TWO, 100)];
    assert_eq!(story.read(all(), &[]), NOTHING);
    // daemon-reload, and a unit of no app of ours.
    assert_eq!(story.read(vec![up("project-cluster-old@1.1.1.service", 10)], &[]), NOTHING);
    // A worker of a roll that is still on its way up.
    let new = "project-cluster-api@1.2.1.service";
    story.asked.note(new, Verb::Start, Who::roll(7, &Scope::App, None));
    assert_eq!(story.read(vec![starting(new, 500)], &[]), NOTHING);
    assert_eq!(story.read(vec![up(new, 510)], &[]), ["worker.start roll api:01"]);
}

#[test]
fn how_it_ended_is_told_as_far_as_systemd_says() {
    let cases = [
        ("signal", 9, true, "signal 9 (SIGKILL) ended it", Cause::Signal, Some(By::Outside)),
        ("success", 15, true, "signal 15 (SIGTERM) ended it", Cause::Signal, Some(By::Outside)),
        ("core-dump", 11, true, "signal 11 (SIGSEGV) ended it, with a core dump", Cause::Signal, None),
        ("success", 0, false, "it exited with 0", Cause::Exit, None),
        ("oom-kill", 9, true, "the kernel killed it: out of memory", Cause::Oom, None),
        ("watchdog", 6, true, "it stopped telling systemd that it is alive", Cause::Watchdog, None),
        ("resources", 0, false, "systemd calls it `resources`", Cause::Other, None),
    ];
    for (result, status, by_signal, text, cause, by) in cases {
        let mut story = Story::begin();
        story.read(vec![waiting(ONE, 200, 100).end(result, status, by_signal)], &[]);
        let told = &story.last.happenings[0];
        assert_eq!((told.cause, told.by), (Some(cause), by), "{result}");
        assert_eq!(told.text, format!("api:01 (generation 1) ended ({text}) and comes back"));
    }
    // One that did not end in time when it was asked to.
    let mut story = Story::begin();
    story.asked.note(ONE, Verb::Stop, Who::roll(7, &Scope::App, None));
    assert_eq!(
        story.read(vec![row(ONE, ActiveState::Failed, "failed").times(95, 100).end("timeout", 9, true)], &[]),
        ["worker.stop roll api:01"]
    );
    assert!(story.last.happenings[0].text.contains("`timeout.kill` and was killed"));
}

#[tokio::test]
async fn readers_take_their_time_and_hear_what_they_missed() {
    let events = Arc::new(Events::default());
    let mut reader = events.reader(None).unwrap();
    let mut slow = events.reader(None).unwrap();
    events.tell(Happening::new(Kind::Start, "first"));
    let first = reader.next().await;
    assert_eq!((first.len(), first[0].what.text.as_str()), (1, "first"));
    for _ in 0..KEPT + 5 {
        events.tell(Happening::new(Kind::Stop, "more"));
    }
    let batch = slow.next().await;
    assert_eq!((batch[0].what.kind, batch[0].what.missed, batch.len()), (Kind::Gap, Some(6), BATCH + 1));
    let mut heard = batch.len() - 1;
    while heard < KEPT {
        heard += slow.next().await.len();
    }
    assert_eq!(heard, KEPT, "and nothing twice");
    // Who resumes by the last number it saw.
    let mut resumed = events.reader(Some(events.kept(0)[KEPT - 2].seq)).unwrap();
    assert_eq!(resumed.next().await.len(), 1);
    drop((reader, slow, resumed));
    let readers: Vec<Reader> = (0..READERS).map(|_| events.reader(None).unwrap()).collect();
    assert_eq!(events.reader(None).unwrap_err().code(), Code::Busy);
    drop(readers);
    assert!(events.reader(None).is_ok());
}
