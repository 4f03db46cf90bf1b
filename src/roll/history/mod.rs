//! Random histories of an app: rolls one after another as they are asked for, a small world of workers, all that can
//! happen to it, and the invariants of a roll after every event. What is compared is what the roll asked for and what the
//! world is, never the roll's own books.
//!
//! What somebody else does, or a call that never arrives, is forgiven for the worker concerned alone.
//!
//! The numbers of the invariants: 1 ready workers, 2 surge, 4 replaced before retired, 5 the end, 6 one roll at a time,
//! 7 the death of the master and no double start, 8 what an abort leaves alone and that every wait ends, 9 an outcome goes
//! to who asked for this very roll; which exit code it becomes is held by `upheaval.rs` and `reload.rs` in `tests/it`. 3 (the
//! socket): an [`Action`](super::words::Action) can name nothing but a worker; what the executor makes of it is held in
//! whole rolls over the fake, `execute::tests::histories`, and the inode itself by `tests/it/reload.rs` and `master.rs`.

mod blows;
mod check;
mod invariants;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::diagram::{self, PHASES, WORKERS};
use crate::config::settings::{Amount, OnFailure, Reload};
use crate::systemd::{JobEnd, Verb};

/// Milliseconds.
const DEADLINE: u64 = 60_000;

/// How one start goes. Milliseconds.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Ready(u64),
    Fails(u64),
    /// Ready after the first, dies that much later.
    Dies(u64, u64),
}

/// How a slot's old worker is found.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Old {
    Up,
    /// In a crash loop without end.
    Ill,
    Absent,
    /// Up, and a second one on its way down.
    Draining,
    /// Two of them.
    Twice,
}

/// What the world does to a roll. The number chooses the worker, or the call.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Crash(usize),
    PersonStops(usize),
    PersonStarts(usize),
    /// Somebody asks for a reload.
    Reload,
    /// Somebody asks for a restart of one worker.
    Restart(usize),
    /// Other slots are wanted: a set of bits, the lowest for slot 1.
    Resize(usize),
    Abort,
    Pause,
    Resume,
    /// The app is stopped, and is started again so much later.
    HandleLeft(u64),
    /// The master dies before its n-th call from now and comes back so much later.
    MasterDies(usize, u64),
    /// Nobody hears how the next job ended.
    ResultLost,
    /// The next call never arrives.
    CallLost,
    /// The next call is refused.
    Refused,
}

/// A whole history. It begins with a reload.
#[derive(Debug, Clone)]
struct Scenario {
    old: Vec<Old>,
    /// Slots beyond the target that still run.
    surplus: usize,
    reload: Reload,
    new: Vec<Fate>,
    again: Vec<Fate>,
    signals_lost: bool,
    /// As systemd 257 does with a start in the delay of an automatic restart.
    hurries: bool,
    blows: Vec<(u64, Blow)>,
    /// Each time that the roll is paused, when somebody says a word, and whether that is `resume`; then `abort`.
    words: Vec<(u64, bool)>,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => (0..3_u64).prop_map(Fate::Ready),
        4 => (0..3000_u64).prop_map(Fate::Ready),
        1 => (0..3000_u64).prop_map(Fate::Fails),
        1 => (0..500_u64, 0..3000_u64).prop_map(|(ready, dies)| Fate::Dies(ready, dies)),
    ]
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let good = (0..3000_u64).prop_map(Fate::Ready);
    prop_oneof![1 => vec(good, 8), 3 => vec(fate(), 8)]
}

fn old() -> impl Strategy<Value = Old> {
    prop_oneof![12 => Just(Old::Up), 1 => Just(Old::Ill), 1 => Just(Old::Absent), 1 => Just(Old::Draining), 1 => Just(Old::Twice)]
}

fn blow() -> impl Strategy<Value = Blow> {
    let number = 0..12_usize;
    prop_oneof![
        3 => number.clone().prop_map(Blow::Crash),
        2 => number.clone().prop_map(Blow::PersonStops),
        2 => number.clone().prop_map(Blow::PersonStarts),
        3 => Just(Blow::Reload),
        2 => (0..6_usize).prop_map(Blow::Restart),
        3 => (0..128_usize).prop_map(Blow::Resize),
        1 => Just(Blow::Abort),
        2 => Just(Blow::Pause),
        1 => Just(Blow::Resume),
        1 => (1..5000_u64).prop_map(Blow::HandleLeft),
        4 => (0..5_usize, 0..4000_u64).prop_map(|(call, away)| Blow::MasterDies(call, away)),
        1 => Just(Blow::ResultLost),
        1 => Just(Blow::CallLost),
        1 => Just(Blow::Refused),
    ]
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![2 => (0..3_u16).prop_map(Amount::Count), 1 => (0..=100_u16).prop_map(Amount::Percent)]
}

prop_compose! {
    fn scenario()(
        old in vec(old(), 1..6),
        surplus in prop_oneof![5 => Just(0), 1 => 1..3_usize],
        (max_surge, max_unavailable) in (amount(), amount()),
        min_ready in prop_oneof![Just(0), Just(1000)],
        (new, again) in (fates(), fates()),
        (signals_lost, hurries) in (prop::bool::weighted(0.2), any::<bool>()),
        (canary, bake, live) in (prop_oneof![2 => Just(Amount::Count(0)), 1 => amount()], 0..3000_u64, proptest::option::of((0..8_u16).prop_map(Amount::Count))),
        (pauses, words) in (prop::bool::weighted(0.3), vec((1..100_000_u64, any::<bool>()), 0..4)),
        blows in prop_oneof![1 => Just(Vec::new()), 3 => vec((0..12_000_u64, blow()), 0..6)],
    ) -> Scenario {
        let (min_ready, deadline) = (Duration::from_millis(min_ready), Duration::from_millis(DEADLINE));
        let reload = Reload { max_surge, max_unavailable, min_ready, deadline, ..Reload::default() };
        // Without room beside the old ones there are none.
        let canary = if matches!(max_surge, Amount::Count(0) | Amount::Percent(0)) { Amount::Count(0) } else { canary };
        let on_failure = if pauses { OnFailure::Pause } else { OnFailure::Abort };
        let reload = Reload { canary, bake: Duration::from_millis(bake), on_failure, max_live: live, ..reload };
        Scenario { old, surplus, reload, new, again, signals_lost, hurries, blows, words }
    }
}

/// `HISTORIES` in the environment sets another number.
fn run(histories: u32, runner: impl FnOnce(Config) -> TestRunner, check: impl Fn(Scenario) -> Result<(), String>) {
    let asked = std::env::var("HISTORIES").ok().map(|number| number.parse().expect("a number of histories"));
    let config = Config { cases: asked.unwrap_or(histories), failure_persistence: None, ..Config::default() };
    let mut runner = runner(config);
    let result = runner.run(&scenario(), |scenario| check(scenario).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(broken, shrunken)) => panic!("{broken}\nof {shrunken:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_invariants_hold_in_ten_thousand_random_histories() {
    run(10_000, TestRunner::new, |scenario| check::live(&scenario, None));
}

/// One that goes well, but for this.
fn quiet(old: Vec<Old>, blows: Vec<(u64, Blow)>) -> Scenario {
    let (max_surge, max_unavailable) = (Amount::Count(1), Amount::Count(0));
    let reload =
        Reload { max_surge, max_unavailable, min_ready: Duration::ZERO, deadline: Duration::from_millis(DEADLINE), ..Reload::default() };
    let (new, again) = (vec![Fate::Ready(0)], vec![Fate::Ready(0)]);
    Scenario { old, surplus: 0, reload, new, again, signals_lost: false, hurries: false, blows, words: vec![] }
}

#[test]
fn a_handle_that_left_while_the_master_was_dead_is_found_out_and_the_app_rolls_again_later() {
    let mut blows = vec![(0, Blow::MasterDies(0, 2000)), (500, Blow::HandleLeft(10))];
    for signals_lost in [false, true] {
        check::live(&Scenario { signals_lost, ..quiet(vec![Old::Up; 2], blows.clone()) }, Some("Overtaken")).unwrap();
    }
    blows.push((8000, Blow::Reload));
    check::live(&quiet(vec![Old::Up; 2], blows), Some("AllNew")).unwrap();
}

#[test]
fn a_start_in_the_delay_of_an_automatic_restart_ends_when_that_start_does() {
    for (hurries, expected) in [(false, world::RESTART + 71), (true, 71)] {
        let mut world = world::Units::new(&Scenario { again: vec![Fate::Ready(70)], hurries, ..quiet(vec![Old::Up], vec![]) }, false);
        let (worker, began) = (*world.units.keys().next().unwrap(), world.now);
        world.crash(worker);
        world.call(Verb::Start, worker, Some(0));
        let told = loop {
            let ((time, _), due) = world.due.pop_first().unwrap();
            world.now = time;
            match due {
                world::Due::Unit(instance, epoch) => world.move_on(instance, epoch),
                world::Due::Told { end, .. } => break end,
                _ => {}
            }
        };
        assert_eq!((told, world.now - began), (Some(Ok(JobEnd::Done)), expected), "{hurries}");
    }
}

/// With a fixed seed, so that a rare edge does not depend on luck.
#[test]
fn every_edge_of_the_drawing_is_walked() {
    diagram::tests::WALKED.take();
    let seeded = |config| TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    run(10_000, seeded, |scenario| check::live(&scenario, None));
    // Too rare for luck: an app that is stopped while its roll is paused.
    let stopped = quiet(vec![Old::Up; 2], vec![(10, Blow::Pause), (500, Blow::HandleLeft(10))]);
    check::live(&Scenario { new: vec![Fate::Ready(100)], words: vec![(5000, true)], ..stopped }, Some("Overtaken")).unwrap();
    // Too rare for luck: a worker that an earlier roll still drains is started again, and is up at once.
    let restarted = Scenario { new: vec![Fate::Ready(5000)], ..quiet(vec![Old::Draining, Old::Up], vec![(1000, Blow::PersonStarts(0))]) };
    check::live(&restarted, Some("AllNew")).unwrap();
    let walked = diagram::tests::WALKED.take();
    let drawn: BTreeSet<_> = PHASES.iter().chain(WORKERS).map(|edge| (edge.0, edge.2)).collect();
    assert_eq!(drawn.difference(&walked).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new(), "drawn and never walked");
}

/// Canaries that fail leave the others untouched, whatever the person then says.
#[test]
fn canaries_stand_trial_beside_all_old_ones_and_a_pause_waits_for_a_word() {
    let reload = Reload { canary: Amount::Count(2), bake: Duration::from_secs(2), ..quiet(vec![], vec![]).reload };
    let trial = |new: Vec<Fate>, on_failure, words| {
        let reload = Reload { on_failure, ..reload };
        Scenario { reload, new, words, ..quiet(vec![Old::Up; 4], vec![]) }
    };
    let (good, dies) = (vec![Fate::Ready(200)], vec![Fate::Dies(200, 1500)]);
    let mended = vec![Fate::Ready(200), Fate::Dies(200, 1500), Fate::Ready(200), Fate::Ready(200), Fate::Ready(200), Fate::Ready(200)];
    check::live(&trial(good, OnFailure::Abort, vec![]), Some("AllNew")).unwrap();
    check::live(&trial(dies.clone(), OnFailure::Abort, vec![]), Some("AllOld")).unwrap();
    check::live(&trial(dies, OnFailure::Pause, vec![(5000, false)]), Some("AllOld")).unwrap();
    check::live(&trial(mended, OnFailure::Pause, vec![(200_000, true)]), Some("AllNew")).unwrap();
    // A master after another, before the pause and in it.
    let dies = |at| (at, Blow::MasterDies(0, 700));
    let blows = vec![dies(0), (300, Blow::Pause), dies(400), (900, Blow::Crash(4)), dies(2000)];
    let paused = Scenario { blows, words: vec![(90_000, true)], ..trial(vec![Fate::Ready(200)], OnFailure::Abort, vec![]) };
    check::live(&paused, Some("AllNew")).unwrap();
}

/// What the world does not disturb ends as a person expects, whatever the bounds, and however often the master dies.
#[test]
fn a_good_version_gets_through_and_a_bad_one_changes_nothing() {
    run(3_000, TestRunner::new, |mut scenario| {
        scenario.blows.retain(|(_, blow)| matches!(blow, Blow::MasterDies(..) | Blow::ResultLost));
        if !scenario.old.iter().any(|old| !matches!(old, Old::Absent)) {
            scenario.old[0] = Old::Up;
        }
        // Of what a person says to one that is paused nothing is foretold.
        scenario.reload.on_failure = OnFailure::Abort;
        scenario.again = vec![Fate::Ready(100)];
        scenario.new = vec![Fate::Ready(200)];
        check::live(&scenario, Some("AllNew"))?;
        scenario.old.iter_mut().filter(|old| **old == Old::Ill).for_each(|old| *old = Old::Up);
        scenario.new = [vec![Fate::Ready(200); 2], vec![Fate::Fails(300); 1000]].concat();
        check::live(&scenario, Some(if scenario.old.len() < 3 { "AllNew" } else { "AllOld" }))
    });
}
