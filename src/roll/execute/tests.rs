//! Whole rolls over the fake, in virtual time.

use std::sync::Mutex;

use self::fatal::Fatal;
use super::*;
use crate::config::settings::{Amount, OnFailure, Reload};
use crate::names::{Generation, Slot};
use crate::roll::plan::{Version, Wish, plan};
use crate::systemd::fake::{App, Fake, Signals, Start};

mod fatal;
mod gone;
mod histories;
mod judge;
mod steered;
mod unseen;

const OLD: Version = Version { generation: Generation(4), pin: None };
const HANDLE: &str = "project-cluster@api.service";
const NEW: Version = Version { generation: Generation(5), pin: None };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn unit(instance: &str) -> String {
    format!("project-cluster-api@{instance}.service")
}

fn all(generation: u64, count: u16) -> Vec<String> {
    Slot::first(count).map(|slot| unit(&format!("{}.{generation}.1", slot.get()))).collect()
}

/// What the master keeps and sees.
#[derive(Default)]
struct Book {
    kept: Mutex<Option<String>>,
    steps: Mutex<Vec<String>>,
    troubles: Mutex<Vec<Error>>,
    full: Mutex<bool>,
    /// How often it can still be written, where that is known.
    room: Mutex<Option<usize>>,
    /// An app's keys, where what somebody stops is remembered.
    respects: Mutex<Option<Reload>>,
}

impl Keeper for Arc<Book> {
    fn persist(&mut self, roll: &Roll) -> Result<(), String> {
        let mut room = self.room.lock().unwrap();
        let full = *self.full.lock().unwrap() || *room == Some(0);
        *room = room.map(|left| left.saturating_sub(1));
        if full {
            return Err("the disk is full".into());
        }
        *self.kept.lock().unwrap() = Some(serde_json::to_string(roll).unwrap());
        Ok(())
    }
    fn report(&mut self, step: &Step, roll: &Roll) {
        let (served, of) = roll.served();
        self.steps.lock().unwrap().push(format!("{} ({served}/{of})", step.text(&names().1)));
    }
    fn trouble(&mut self, error: &Error) {
        self.troubles.lock().unwrap().push(error.clone());
    }
    fn emptied(&mut self, workers: &[Instance]) -> Option<Target> {
        let of = (*self.respects.lock().unwrap())?;
        let left = Slot::first(4).filter(|slot| !workers.iter().any(|worker| worker.slot == *slot));
        Some(Target::of(left.collect(), &of))
    }
}

/// Four old workers, and how the new version's n-th start of a slot goes.
struct Stage {
    fake: Fake,
    book: Arc<Book>,
    clock: Clock,
    reload: Reload,
    orders: Mutex<Option<mpsc::Receiver<Asked>>>,
    steer: mpsc::Sender<Asked>,
}

impl Stage {
    async fn set(mut new: impl FnMut(u16, u32) -> App + Send + 'static) -> Self {
        let (cluster, app) = names();
        let fake = Fake::new(move |name, start| match AppUnits::new(&cluster, &app).instance(name) {
            Some(worker) if worker.generation == NEW.generation => new(worker.slot.get(), start),
            _ => App::ready_after(ms(50)),
        });
        for unit in std::iter::once(HANDLE.to_owned()).chain(all(4, 4)) {
            assert_eq!(fake.job(Verb::Start, &unit, ms(1000)).await, Ok(JobEnd::Done));
        }
        let (steer, orders) = mpsc::channel(1);
        let reload = Reload { min_ready: ms(1000), ..Reload::default() };
        Self { fake, book: Arc::default(), clock: Clock::showing(77_000), reload, orders: Mutex::new(Some(orders)), steer }
    }

    async fn roll(&self) -> Roll {
        let (cluster, app) = names();
        let since = self.fake.active_since(HANDLE).await.unwrap();
        let eyes = Eyes { units: &AppUnits::new(&cluster, &app), handle_since: since, sockets: &[] };
        let Ok(Reading::World { world, .. }) = eyes.read(&self.fake, vec![]).await else { panic!("no handle") };
        let reload = self.reload;
        let (slots, scope) = (Slot::first(4).collect(), Scope::App);
        let wish = Wish { app: &app, from: OLD, to: NEW, slots: &slots, scope, reload: &reload, sockets_down: &[], world: &world };
        Roll::new(plan(&wish).unwrap(), &world, self.clock.now())
    }

    /// For a roll that began when the handle stood as it does.
    async fn deps(&self) -> Deps<Arc<Book>> {
        let (cluster, app) = names();
        let handle_since = self.fake.active_since(HANDLE).await.unwrap();
        let limits = Limits { start: Duration::from_secs(60), stop: Duration::from_secs(60) };
        let target = watch::channel(None).1;
        let sockets = Vec::new();
        // The next master has a channel of its own, of which nothing is told here.
        let orders = self.orders.lock().unwrap().take().unwrap_or_else(|| mpsc::channel(1).1);
        Deps { cluster, app, limits, clock: self.clock, keeper: Arc::clone(&self.book), handle_since, sockets, target, orders }
    }

    async fn execute(&self) -> Outcome {
        self.with(|_| async {}).await
    }

    /// Rolls, while something else happens.
    async fn with<F: Future<Output = ()>>(&self, meanwhile: impl FnOnce(Fake) -> F) -> Outcome {
        let (mut roll, deps) = (self.roll().await, self.deps().await);
        let (outcome, ()) = tokio::join!(execute(Arc::new(self.fake.clone()), &mut roll, deps), meanwhile(self.fake.clone()));
        self.settle().await;
        outcome
    }

    /// Lets stops that go on by themselves come to their end.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    /// The workers that are up.
    fn active(&self) -> Vec<String> {
        self.fake.active().into_iter().filter(|unit| unit != HANDLE).collect()
    }

    fn steps(&self) -> Vec<String> {
        self.book.steps.lock().unwrap().clone()
    }

    fn calls(&self) -> Vec<String> {
        self.fake
            .calls()
            .iter()
            .skip(5)
            .filter(|(_, unit)| unit != HANDLE)
            .map(|(verb, unit)| format!("{verb} {}", unit.trim_start_matches("project-cluster-api@").trim_end_matches(".service")))
            .collect()
    }
}

fn names() -> (ClusterName, AppName) {
    (ClusterName::default(), "api".parse().unwrap())
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::AllOld { reason } | Outcome::Mixed { reason, .. } => reason,
        Outcome::AllNew | Outcome::Overtaken => "",
    }
}

#[tokio::test(start_paused = true)]
async fn one_after_the_other_new_before_old() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    assert_eq!(stage.execute().await, Outcome::AllNew);
    assert_eq!(stage.active(), all(5, 4));
    let pairs: Vec<String> = (1..=4).flat_map(|slot| [format!("start {slot}.5.1"), format!("stop {slot}.4.1")]).collect();
    assert_eq!(stage.calls(), pairs);
    assert_eq!(
        stage.steps()[..4],
        [
            "api:01 (generation 5) starts (0/4)",
            "api:01 (generation 5) is ready (1/4)",
            "api:01 (generation 4) retires (1/4)",
            "api:02 (generation 5) starts (1/4)"
        ]
    );
    // What was kept last is the end.
    let kept: Roll = serde_json::from_str(&stage.book.kept.lock().unwrap().clone().unwrap()).unwrap();
    assert_eq!(kept.phase().name(), "AllNew");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_at_once_changes_nothing() {
    let stage = Stage::set(|_, _| App::crashing(ms(30))).await;
    let outcome = stage.execute().await;
    assert_eq!(reason(&outcome), "api:01 (generation 5) failed: it exited with 1");
    assert_eq!(outcome, Outcome::AllOld { reason: reason(&outcome).into() });
    assert_eq!(stage.active(), all(4, 4));
    assert_eq!(stage.calls(), ["start 1.5.1", "stop 1.5.1"]);
    assert_eq!(stage.fake.state(&unit("1.5.1")), "inactive/dead");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_at_the_third_of_four_goes_all_the_way_back() {
    let stage = Stage::set(|slot, _| if slot == 3 { App::crashing(ms(30)) } else { App::ready_after(ms(200)) }).await;
    let outcome = stage.execute().await;
    assert_eq!(outcome, Outcome::AllOld { reason: "api:03 (generation 5) failed: it exited with 1".into() });
    // Slots 1 and 2 were emptied: fresh workers of the old generation, the next try.
    assert_eq!(stage.active(), [unit("1.4.2"), unit("2.4.2"), unit("3.4.1"), unit("4.4.1")]);
    let back = stage.calls().into_iter().skip_while(|call| call != "stop 3.5.1").collect::<Vec<_>>();
    assert_eq!(back, ["stop 3.5.1", "start 1.4.2", "stop 1.5.1", "start 2.4.2", "stop 2.5.1"]);
}

#[tokio::test(start_paused = true)]
async fn an_old_version_that_does_not_come_back_leaves_a_named_mix() {
    let stage = Stage::set(|slot, _| if slot == 2 { App::crashing(ms(30)) } else { App::ready_after(ms(200)) }).await;
    // The old version cannot be started any more either.
    stage.fake.refuse(Verb::Start, &unit("1.4.2"));
    let outcome = stage.execute().await;
    let Outcome::Mixed { reason, who } = outcome else { panic!("{outcome:?}") };
    assert!(
        reason.contains("api:02 (generation 5) failed") && reason.contains("api:01 (generation 4) failed: systemd refused"),
        "{reason}"
    );
    let who: Vec<String> = who.iter().map(|(worker, stage)| format!("{worker} {}", stage.name())).collect();
    assert_eq!(who, ["1.5.1 Up", "2.4.1 Up", "3.4.1 Up", "4.4.1 Up"]);
    assert_eq!(stage.active().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_old_worker_that_cannot_be_stopped_turns_the_roll_back_and_a_new_one_ends_it() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    stage.fake.refuse(Verb::Stop, &unit("2.4.1"));
    let outcome = stage.execute().await;
    assert!(reason(&outcome).starts_with("api:02 (generation 4) cannot be stopped: systemd refused"), "{outcome:?}");
    assert_eq!(outcome, Outcome::AllOld { reason: reason(&outcome).into() });
    assert_eq!(stage.active(), [unit("1.4.2"), unit("2.4.1"), unit("3.4.1"), unit("4.4.1")]);

    let stage = Stage::set(|slot, _| if slot == 2 { App::crashing(ms(30)) } else { App::ready_after(ms(200)) }).await;
    stage.fake.refuse(Verb::Stop, &unit("1.5.1"));
    let outcome = stage.execute().await;
    assert!(matches!(&outcome, Outcome::Mixed { reason, .. } if reason.contains("api:01 (generation 5) cannot be stopped")), "{outcome:?}");
    assert_eq!(stage.calls().iter().filter(|call| *call == "stop 1.5.1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_waited_for_and_one_without_end_is_not() {
    let stage = Stage::set(|_, _| App::ready_after(Duration::from_secs(29))).await;
    assert_eq!(stage.execute().await, Outcome::AllNew);

    let stage = Stage::set(|_, _| App { start: Start::Never, ..App::ready_after(ms(0)) }).await;
    assert_eq!(reason(&stage.execute().await), "api:01 (generation 5) failed: it was not ready within its `timeout.start`");
    assert_eq!(stage.active(), all(4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_a_condition_skipped_is_done_and_yet_no_start() {
    let stage = Stage::set(|_, _| App { start: Start::Skipped, ..App::ready_after(ms(0)) }).await;
    assert_eq!(reason(&stage.execute().await), "api:01 (generation 5) failed: its job is done and yet it is inactive");
    assert_eq!(stage.active(), all(4, 4));
}

#[test]
fn a_failure_is_told_by_what_failed() {
    let told = |result: &str, exit_status: i32, by_signal: bool| {
        reason_of(&Details { result: result.into(), exit_status, by_signal, ..Details::default() }).unwrap()
    };
    assert_eq!(told("exit-code", 3, false), "it exited with 3");
    assert_eq!(told("signal", 11, true), "signal 11 ended it");
    // Its readiness was given up, and systemd then ended it: by SIGTERM, which some take as an order to exit well.
    for (status, by_signal) in [(15, true), (9, true), (0, false), (143, false)] {
        assert_eq!(told("exit-code", status, by_signal), "it was not ready, and was ended");
    }
    assert_eq!(told("timeout", 15, true), "it was not ready within its `timeout.start`");
    assert_eq!(reason_of(&Details::default()), None);
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_while_it_soaks_is_no_replacement() {
    let stage = Stage::set(|_, _| App { crash_after: Some(ms(900)), ..App::ready_after(ms(100)) }).await;
    assert!(reason(&stage.execute().await).starts_with("api:01 (generation 5) left"));
    assert_eq!(stage.calls(), ["start 1.5.1", "stop 1.5.1"]);
}

#[tokio::test(start_paused = true)]
async fn an_old_worker_that_ignores_sigterm_delays_nothing_and_leaves_no_failed_unit() {
    let stage = Stage::set(|_, _| App::ready_after(ms(100))).await;
    stage.fake.turn_into(&unit("2.4.1"), App { stop: None, ..App::ready_after(ms(10)) });
    assert_eq!(stage.execute().await, Outcome::AllNew);
    assert!(stage.fake.trace().iter().any(|trace| trace.unit == unit("2.4.1") && trace.state == "failed/failed"));
    assert_eq!(stage.fake.state(&unit("2.4.1")), "inactive/dead");
}

#[tokio::test(start_paused = true)]
async fn lost_and_doubled_signals_and_a_daemon_reload_change_nothing() {
    for signals in [Signals::Lost, Signals::Doubled] {
        let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        stage.fake.set_signals(signals);
        let noise = |fake: Fake| async move {
            for _ in 0..50 {
                fake.daemon_reload();
                tokio::time::sleep(ms(97)).await;
            }
        };
        assert_eq!(stage.with(noise).await, Outcome::AllNew);
        assert_eq!(stage.active(), all(5, 4));
        assert_eq!(stage.calls().len(), 8);
    }
    // A crash that no signal tells of is seen within the poll.
    let stage =
        Stage::set(|slot, _| App { crash_after: (slot == 1).then_some(ms(1500)), ..App::ready_after(Duration::from_secs(8)) }).await;
    stage.fake.set_signals(Signals::Lost);
    stage.fake.set_times(crate::systemd::fake::Times { restart: Duration::from_secs(6), ..Default::default() });
    assert!(reason(&stage.execute().await).starts_with("api:01 (generation 5) left"));
}

#[tokio::test(start_paused = true)]
async fn other_units_noise_hides_no_crash() {
    let slow_restart = crate::systemd::fake::Times { restart: ms(300), ..Default::default() };
    // More often than a reading takes.
    let stage = Stage::set(|_, _| App { crash_after: Some(ms(500)), ..App::ready_after(ms(100)) }).await;
    stage.fake.set_times(slow_restart);
    let storm = |fake: Fake| async move {
        for _ in 0..3000 {
            fake.rumour("other.service");
            tokio::time::sleep(ms(1)).await;
        }
    };
    assert!(reason(&stage.with(storm).await).starts_with("api:01 (generation 5) left"));
    // More at once than the channel holds: the one that matters is lost.
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    stage.fake.set_times(slow_restart);
    let burst = |fake: Fake| async move {
        tokio::time::sleep(ms(600)).await;
        fake.crash(&unit("1.5.1"));
        (0..200).for_each(|_| fake.rumour("other.service"));
        fake.set_signals(Signals::Lost);
    };
    assert!(reason(&stage.with(burst).await).starts_with("api:01 (generation 5) left"));
}

#[tokio::test(start_paused = true)]
async fn when_the_handle_leaves_active_nothing_more_is_asked() {
    // Also where no signal tells of it, or where it is back before anybody looks.
    for (signals, verb) in [(Signals::Kept, Verb::Stop), (Signals::Lost, Verb::Stop), (Signals::Lost, Verb::Restart)] {
        let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        let leave = move |fake: Fake| async move {
            tokio::time::sleep(ms(1300)).await;
            fake.set_signals(signals);
            assert_eq!(fake.job(verb, HANDLE, ms(1000)).await, Ok(JobEnd::Done));
        };
        assert_eq!(stage.with(leave).await, Outcome::Overtaken, "{signals:?} {verb}");
        assert_eq!(stage.calls(), ["start 1.5.1", "stop 1.4.1", "start 2.5.1"], "{signals:?} {verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_goes_away_is_waited_for() {
    for gone_at in [0, 100, 205, 1190, 1205, 1300, 3000] {
        let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
        let cut = move |fake: Fake| async move {
            tokio::time::sleep(ms(gone_at)).await;
            fake.set_reachable(false);
            tokio::time::sleep(Duration::from_secs(12)).await;
            fake.set_reachable(true);
        };
        assert_eq!(stage.with(cut).await, Outcome::AllNew, "gone at {gone_at}");
        assert_eq!(stage.active(), all(5, 4), "gone at {gone_at}");
        assert!(!stage.book.troubles.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_stays_away_ends_the_roll_all_the_same() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let cut = |fake: Fake| async move {
        tokio::time::sleep(ms(1100)).await;
        fake.set_reachable(false);
    };
    let outcome = stage.with(cut).await;
    assert!(matches!(&outcome, Outcome::Mixed { reason, .. } if reason.contains("ran out after 600 s")), "{outcome:?}");
    assert_eq!(stage.active().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_gone_on_with() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    *stage.book.full.lock().unwrap() = true;
    assert_eq!(stage.execute().await, Outcome::AllOld { reason: "the state of the roll could not be written: the disk is full".into() });
    assert_eq!(stage.active(), all(4, 4));
    assert!(!stage.calls().iter().any(|call| call.starts_with("start")), "{:?}", stage.calls());
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_not_written_down_and_so_not_made_costs_no_second_old_worker() {
    let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
    let fills = |_| async {
        sleep_until(Instant::now() + ms(300)).await;
        *stage.book.full.lock().unwrap() = true;
    };
    assert!(matches!(stage.with(fills).await, Outcome::AllOld { .. }));
    let calls = stage.calls();
    assert!(!calls.iter().any(|call| call.starts_with("start") && call != "start 1.5.1" || call.contains(".4.")), "{calls:?}");
    assert_eq!(stage.active(), all(4, 4));
}

/// Kills the master at its n-th call, and lets another go on from what was kept, after `away`.
async fn killed(stage: &Stage, call: usize, arrives: bool, away: Duration) -> Outcome {
    let fatal = Arc::new(Fatal::new(stage.fake.clone(), call, arrives));
    let (mut roll, deps) = (stage.roll().await, stage.deps().await);
    tokio::select! {
        outcome = execute(Arc::clone(&fatal), &mut roll, deps) => return outcome,
        // A moment, so that the call is under way.
        () = async { fatal.died.notified().await; tokio::time::sleep(ms(1)).await } => {}
    }
    tokio::time::sleep(away).await;
    let kept = stage.book.kept.lock().unwrap().clone().unwrap();
    let mut roll = serde_json::from_str::<Roll>(&kept).unwrap().resumed();
    let outcome = execute(Arc::new(stage.fake.clone()), &mut roll, stage.deps().await).await;
    stage.settle().await;
    outcome
}

#[tokio::test(start_paused = true)]
async fn a_master_killed_at_any_call_ends_as_one_that_lived() {
    for call in 1..=9 {
        for arrives in [true, false] {
            for away in [ms(0), ms(150), Duration::from_secs(20)] {
                let at = format!("call {call}, arrives {arrives}, away {away:?}");
                let stage = Stage::set(|_, _| App::ready_after(ms(200))).await;
                assert_eq!(killed(&stage, call, arrives, away).await, Outcome::AllNew, "{at}");
                assert_eq!(stage.active(), all(5, 4), "{at}");
                once_each(&stage, &at);

                let stage = Stage::set(|slot, _| if slot == 3 { App::crashing(ms(30)) } else { App::ready_after(ms(200)) }).await;
                let outcome = killed(&stage, call, arrives, away).await;
                assert!(matches!(outcome, Outcome::AllOld { .. }), "{at}: {outcome:?}");
                assert_eq!(stage.active(), [unit("1.4.2"), unit("2.4.2"), unit("3.4.1"), unit("4.4.1")], "{at}");
                once_each(&stage, &at);
            }
        }
    }
}

/// No worker was asked to start twice, and never stood more than target + surge.
fn once_each(stage: &Stage, at: &str) {
    let starts: Vec<String> = stage.calls().into_iter().filter(|call| call.starts_with("start")).collect();
    assert_eq!(starts.iter().collect::<std::collections::BTreeSet<_>>().len(), starts.len(), "{at}: {starts:?}");
    let mut standing = std::collections::BTreeSet::new();
    for trace in stage.fake.trace() {
        if trace.unit == HANDLE {
            continue;
        }
        if trace.state.starts_with("acti") {
            standing.insert(trace.unit)
        } else {
            standing.remove(&trace.unit)
        };
        assert!(standing.len() <= 5, "{at}: {standing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_the_way_back_an_old_worker_that_crashes_is_waited_for_and_one_that_somebody_stopped_is_not() {
    for stopped in [false, true] {
        let stage = Stage::set(|slot, _| if slot == 2 { App::crashing(ms(30)) } else { App::ready_after(ms(100)) }).await;
        let begun = Instant::now();
        let outcome = stage
            .with(|fake| async move {
                while fake.state(&unit("2.5.1")).starts_with("inactive") {
                    sleep_until(Instant::now() + ms(10)).await;
                }
                if stopped {
                    assert_eq!(fake.job(Verb::Stop, &unit("4.4.1"), ms(1000)).await, Ok(JobEnd::Done));
                }
                // Else again and again, for a while.
                for _ in 0..if stopped { 0 } else { 100 } {
                    fake.crash(&unit("4.4.1"));
                    sleep_until(Instant::now() + ms(100)).await;
                }
            })
            .await;
        assert!(matches!(&outcome, Outcome::AllOld { .. }), "{outcome:?}: {:?}", stage.steps());
        let all = ["1.4.2", "2.4.1", "3.4.1", "4.4.1"];
        let left = if stopped { &all[..3] } else { &all[..] };
        assert_eq!(stage.active(), left.iter().map(|worker| unit(worker)).collect::<Vec<_>>(), "{:?}", stage.steps());
        assert!(begun.elapsed() < Duration::from_secs(60), "not its deadline: {:?}", begun.elapsed());
    }
}
