//! Random histories of whole rolls over the fake, which is held against a real systemd by `tests/it/trace.rs`.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::fatal::Call;
use super::*;
use crate::roll::plan::Target;
use crate::systemd::fake::{Service, Times, Trace};

pub(super) const SOCKET: &str = "project-cluster-api-8080.socket";
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

/// What the world does to a roll. The first number chooses the worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Blow {
    Crash(usize),
    PersonStops(usize),
    PersonStarts(usize),
    Signals(Signals),
    DaemonReload,
    /// For so many milliseconds.
    BusAway(u64),
    /// Nothing can be written for so many milliseconds.
    DiskFull(u64),
    SocketDown,
    /// Other slots are wanted: a set of bits, the lowest for slot 1.
    Target(usize),
    Handle(Verb),
    /// The master is killed, and the next is there so many milliseconds later.
    Dies(u64),
    /// Its n-th call from now is its last act.
    DiesAtCall(usize, u64),
}

#[derive(Debug, Clone)]
pub(super) struct Scenario {
    /// Whether a slot has a worker when it begins.
    pub old: Vec<bool>,
    pub reload: Reload,
    /// How starts of the new generation go, and how those of the old one.
    pub new: Vec<App>,
    pub again: Vec<App>,
    hurries: bool,
    /// Whether a master's fatal call still arrives.
    arrives: bool,
    pub blows: Vec<(u64, Blow)>,
}

/// All that can be known of a history from outside.
pub(super) struct Record<'a> {
    pub scenario: &'a Scenario,
    pub born: Instant,
    pub begun: Instant,
    pub ended: Instant,
    /// How long the trace was when it ended.
    pub seen: usize,
    pub outcome: Outcome,
    pub trace: Vec<Trace>,
    pub calls: Vec<Call>,
    /// What was done to which unit.
    pub blows: Vec<(Instant, Blow, Option<String>)>,
    /// What was wanted from when on.
    pub targets: Vec<(Instant, Target)>,
    /// Between deaths and lives.
    pub dead: Duration,
}

fn app() -> impl Strategy<Value = App> {
    let start = prop_oneof![
        12 => (0..3000_u64).prop_map(|after| Start::Ready(ms(after))),
        1 => (0..3000_u64).prop_map(|after| Start::Crash(ms(after))),
        1 => Just(Start::Never),
        1 => Just(Start::Skipped),
    ];
    let crash_after = prop_oneof![12 => Just(None), 1 => (0..3000_u64).prop_map(|after| Some(ms(after)))];
    let stop = prop_oneof![6 => (1..500_u64).prop_map(|after| Some(ms(after))), 1 => Just(None)];
    (start, crash_after, stop).prop_map(|(start, crash_after, stop)| App { start, crash_after, stop })
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![2 => (0..3_u16).prop_map(Amount::Count), 1 => (0..=100_u16).prop_map(Amount::Percent)]
}

fn blow() -> impl Strategy<Value = Blow> {
    let number = 0..8_usize;
    let signals = prop_oneof![2 => Just(Signals::Lost), 1 => Just(Signals::Doubled), 1 => Just(Signals::Kept)];
    prop_oneof![
        2 => number.clone().prop_map(Blow::Crash),
        1 => number.clone().prop_map(Blow::PersonStops),
        1 => number.clone().prop_map(Blow::PersonStarts),
        2 => signals.prop_map(Blow::Signals),
        1 => Just(Blow::DaemonReload),
        2 => (1..8000_u64).prop_map(Blow::BusAway),
        1 => (1..3000_u64).prop_map(Blow::DiskFull),
        1 => Just(Blow::SocketDown),
        2 => (1..64_usize).prop_map(Blow::Target),
        1 => prop_oneof![Just(Verb::Stop), Just(Verb::Restart)].prop_map(Blow::Handle),
        3 => (0..3000_u64).prop_map(Blow::Dies),
        3 => (1..5_usize, 0..3000_u64).prop_map(|(call, away)| Blow::DiesAtCall(call, away)),
    ]
}

prop_compose! {
    fn scenario()(
        old in vec(prop::bool::weighted(0.9), 1..6).prop_filter("one runs", |old| old.contains(&true)),
        (max_surge, max_unavailable) in (amount(), amount()),
        min_ready in prop_oneof![Just(ms(0)), Just(ms(1000))],
        (new, again) in (vec(app(), 6), vec(app(), 6)),
        good in prop::bool::weighted(0.4),
        (hurries, arrives) in (any::<bool>(), any::<bool>()),
        blows in vec((0..12_000_u64, blow()), 0..6),
    ) -> Scenario {
        let healed = |app: App| App { start: if let Start::Ready(_) = app.start { app.start } else { Start::Ready(ms(200)) }, crash_after: None, ..app };
        let new = if good { new.into_iter().map(healed).collect() } else { new };
        let reload = Reload { max_surge, max_unavailable, min_ready, deadline: DEADLINE, ..Reload::default() };
        Scenario { old, reload, new, again, hurries, arrives, blows }
    }
}

pub(super) fn instance(unit: &str) -> Option<Instance> {
    let (cluster, app) = names();
    AppUnits::new(&cluster, &app).instance(unit)
}

/// A world, and the masters that come and go in it.
struct Life<'a> {
    scenario: &'a Scenario,
    fake: Fake,
    book: Arc<Book>,
    fatal: Arc<Fatal>,
    target: watch::Sender<Option<Target>>,
    blows: Mutex<Vec<(Instant, Blow, Option<String>)>>,
    targets: Mutex<Vec<(Instant, Target)>>,
    /// Tells that the master is to die, and for how long.
    deaths: watch::Sender<Option<u64>>,
    away: Mutex<u64>,
}

impl Life<'_> {
    async fn strike(&self, blow: Blow) {
        let workers = || {
            let mut known: BTreeSet<String> = self.fake.trace().into_iter().map(|trace| trace.unit).collect();
            known.retain(|unit| instance(unit).is_some());
            known.into_iter().collect::<Vec<_>>()
        };
        let chosen = |number: usize| workers().get(number).cloned();
        let unit = match blow {
            Blow::Crash(number) | Blow::PersonStops(number) | Blow::PersonStarts(number) => chosen(number),
            _ => None,
        };
        self.blows.lock().unwrap().push((Instant::now(), blow, unit.clone()));
        let job = |verb, unit: &str| {
            let (fake, unit) = (self.fake.clone(), unit.to_owned());
            async move { fake.job(verb, &unit, Duration::from_secs(60)).await }
        };
        match (blow, unit) {
            (Blow::Crash(_), Some(unit)) => self.fake.crash(&unit),
            (Blow::PersonStops(_), Some(unit)) => drop(tokio::spawn(job(Verb::Stop, &unit))),
            (Blow::PersonStarts(_), Some(unit)) => drop(tokio::spawn(job(Verb::Start, &unit))),
            (Blow::Signals(signals), _) => self.fake.set_signals(signals),
            (Blow::DaemonReload, _) => self.fake.daemon_reload(),
            (Blow::BusAway(for_ms), _) => {
                self.fake.set_reachable(false);
                tokio::time::sleep(ms(for_ms)).await;
                self.fake.set_reachable(true);
            }
            (Blow::DiskFull(for_ms), _) => {
                *self.book.full.lock().unwrap() = true;
                tokio::time::sleep(ms(for_ms)).await;
                *self.book.full.lock().unwrap() = false;
            }
            (Blow::SocketDown, _) => drop(tokio::spawn(job(Verb::Stop, SOCKET))),
            (Blow::Target(bits), _) => {
                let slots = Slot::first(6).filter(|slot| bits & (1 << (slot.get() - 1)) != 0).collect();
                let target = Target::of(slots, &self.scenario.reload);
                self.targets.lock().unwrap().push((Instant::now(), target.clone()));
                self.target.send_replace(Some(target));
            }
            (Blow::Handle(verb), _) => drop(tokio::spawn(job(verb, HANDLE))),
            (Blow::Dies(away), _) => drop(self.deaths.send_replace(Some(away))),
            (Blow::DiesAtCall(call, away), _) => {
                *self.away.lock().unwrap() = away;
                *self.fatal.calls_left.lock().unwrap() = call;
            }
            _ => {}
        }
        // What somebody asked for arrives before the bus goes away.
        tokio::task::yield_now().await;
    }

    /// One blow after the other, none before the one of before is over.
    async fn blows(&self, begun: Instant) {
        for (after, blow) in &self.scenario.blows {
            sleep_until(begun + ms(*after)).await;
            self.strike(*blow).await;
        }
        std::future::pending().await
    }

    /// The master's lives; at the end how long it was dead.
    async fn rolls(&self, roll: Roll, clock: Clock, handle_since: u64) -> (Outcome, Duration) {
        let (mut roll, mut dead) = (roll, Duration::ZERO);
        let mut deaths = self.deaths.subscribe();
        loop {
            let (cluster, app) = names();
            let limits = Limits { start: Duration::from_secs(10), stop: Duration::from_secs(5) };
            let (keeper, target) = (Arc::clone(&self.book), self.target.subscribe());
            let deps = Deps {
                cluster,
                app,
                limits,
                clock,
                keeper,
                handle_since,
                sockets: vec![SOCKET.into()],
                target,
                orders: mpsc::channel(1).1,
            };
            let away = tokio::select! {
                biased;
                outcome = execute(Arc::clone(&self.fatal), &mut roll, deps) => return (outcome, dead),
                _ = deaths.changed() => deaths.borrow_and_update().unwrap_or(0),
                // A moment, so that the call is under way.
                () = async { self.fatal.died.notified().await; tokio::time::sleep(ms(1)).await } => *self.away.lock().unwrap(),
            };
            *self.fatal.calls_left.lock().unwrap() = usize::MAX;
            tokio::time::sleep(ms(away)).await;
            dead += ms(away + 1);
            deaths.mark_unchanged();
            let kept = self.book.kept.lock().unwrap().clone().unwrap();
            roll = serde_json::from_str::<Roll>(&kept).unwrap().resumed();
        }
    }
}

async fn live(scenario: &Scenario) -> Result<(), String> {
    let born = Instant::now();
    let (new, again) = (scenario.new.clone(), scenario.again.clone());
    let fake = Fake::new(move |name, start| match instance(name) {
        Some(Instance { attempt: 1, generation, slot, .. }) if generation == OLD.generation && start == 1 => {
            App { stop: again[usize::from(slot.get()) % again.len()].stop, ..App::ready_after(ms(50)) }
        }
        Some(Instance { attempt, generation, slot, .. }) => {
            let fates = if generation == OLD.generation { &again } else { &new };
            fates[(usize::from(slot.get() + attempt) + start as usize) % fates.len()]
        }
        None => App::ready_after(ms(50)),
    });
    fake.set_times(Times { start: Duration::from_secs(5), stop: Duration::from_secs(2), restart: ms(100) });
    fake.set_hurries(scenario.hurries);
    fake.define(SOCKET, Service::socket("none.service"));
    let slots: BTreeSet<Slot> = Slot::first(u16::try_from(scenario.old.len()).unwrap()).collect();
    let there = slots.iter().zip(&scenario.old).filter(|(_, there)| **there).map(|(slot, _)| unit(&OLD.worker(*slot, 1).to_string()));
    for unit in [HANDLE.to_owned(), SOCKET.to_owned()].into_iter().chain(there) {
        assert_eq!(fake.job(Verb::Start, &unit, ms(1000)).await, Ok(JobEnd::Done));
    }
    let (cluster, app) = names();
    let handle_since = fake.active_since(HANDLE).await.unwrap();
    let eyes = Eyes { units: &AppUnits::new(&cluster, &app), handle_since, sockets: &[] };
    let Ok(Reading::World { world, .. }) = eyes.read(&fake, vec![]).await else { panic!("no handle") };
    let (clock, reload) = (Clock::showing(77_000), &scenario.reload);
    let wish = Wish { app: &app, from: OLD, to: NEW, slots: &slots, scope: Scope::App, reload, sockets_down: &[], world: &world };
    let roll = Roll::new(plan(&wish).unwrap(), &world, clock.now());
    let begun = Instant::now();
    let life = Life {
        scenario,
        book: Arc::default(),
        fatal: Arc::new(Fatal::new(fake.clone(), usize::MAX, scenario.arrives)),
        fake: fake.clone(),
        target: watch::Sender::new(None),
        blows: Mutex::default(),
        targets: Mutex::new(vec![(begun, Target::of(slots.clone(), reload))]),
        deaths: watch::Sender::new(None),
        away: Mutex::default(),
    };
    // As the master does before it begins.
    Arc::clone(&life.book).persist(&roll).unwrap();
    let (outcome, dead) = tokio::select! {
        biased;
        ended = life.rolls(roll, clock, handle_since) => ended,
        () = life.blows(begun) => unreachable!("blows do not end"),
        () = tokio::time::sleep(DEADLINE * 4) => return Err(format!("invariant 8: it does not end\n{}", life.book.steps.lock().unwrap().join("\n"))),
    };
    let (ended, seen) = (Instant::now(), fake.trace().len());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let record = Record {
        scenario,
        born,
        begun,
        ended,
        seen,
        outcome,
        trace: fake.trace(),
        calls: life.fatal.calls.lock().unwrap().clone(),
        blows: life.blows.into_inner().unwrap(),
        targets: life.targets.into_inner().unwrap(),
        dead,
    };
    record.judge().map_err(|broken| format!("{broken}\n{}\n{record}", life.book.steps.lock().unwrap().join("\n")))
}

#[test]
fn the_invariants_hold_in_a_thousand_random_rolls_over_the_fake() {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&scenario(), |mut scenario| {
        scenario.blows.sort_by_key(|(after, _)| *after);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(live(&scenario)).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(broken, shrunken)) => panic!("{broken}\nof {shrunken:?}"),
        Err(error) => panic!("{error}"),
    }
}

/// Found by one of them: a socket is down in the first reading of a master that was away while a worker crashed. It turned back,
/// and stopped three of the four that it remembered as ready.
#[test]
fn a_master_that_comes_back_makes_no_move_on_what_it_remembers() {
    let quick = App { stop: Some(ms(1)), ..App::ready_after(ms(0)) };
    let scenario = Scenario {
        old: vec![false, true, true, false],
        reload: Reload {
            max_surge: Amount::Count(2),
            max_unavailable: Amount::Count(1),
            min_ready: ms(1000),
            deadline: DEADLINE,
            ..Reload::default()
        },
        new: vec![quick; 6],
        again: vec![quick; 6],
        hurries: false,
        arrives: true,
        blows: vec![(4, Blow::DiesAtCall(2, 1001)), (490, Blow::BusAway(7228)), (490, Blow::SocketDown), (8590, Blow::Crash(5))],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(&scenario)).unwrap();
}
