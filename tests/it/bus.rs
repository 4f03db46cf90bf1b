//! The edge to systemd when D-Bus, polkit or PID 1 itself are in trouble.

use std::future::Future;
use std::time::{Duration, Instant};

use project_cluster::systemd::dbus::Bus;
use project_cluster::systemd::{ActiveState, Change, Error, JobEnd, Systemd, Verb};
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

use super::cluster::{SOON, cluster, node};
use super::support::Sandbox;
use super::trace::address;

/// How long a call may take here; 25 s would make a test of a minute.
const CALL: Duration = Duration::from_secs(1);

const SLOW: &str = "slow.service";

/// A sandbox with a unit that needs two seconds to start, and one that fails after as long, and a bus.
fn with_bus<F: Future<Output = ()>>(play: impl FnOnce(Sandbox, Bus) -> F) {
    let sandbox = Sandbox::start();
    for (unit, ends) in [(SLOW, "true"), ("bad.service", "false")] {
        let text = format!("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'sleep 2; {ends}'\n");
        sandbox.unit(unit, &text);
    }
    sandbox.unit("quick.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    // A bus is started by whoever needs it first.
    sandbox.systemctl(&["start", "dbus.service"]).ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bus = Bus::at(&address(&sandbox), CALL).await.unwrap();
        play(sandbox, bus).await;
    });
}

/// Starts a unit that is slow, does something to the system meanwhile, and tells how the job ended.
async fn meanwhile(bus: &Bus, unit: &str, act: impl FnOnce()) -> Result<JobEnd, Error> {
    let job = tokio::spawn({
        let (bus, unit) = (bus.clone(), unit.to_owned());
        async move { bus.job(Verb::Start, &unit, SOON).await }
    });
    until(bus, unit, ActiveState::Activating).await;
    act();
    job.await.unwrap()
}

async fn until(bus: &Bus, unit: &str, state: ActiveState) {
    let end = Instant::now() + SOON;
    loop {
        // It may be away for a moment.
        let rows = bus.units(&[unit.to_owned()]).await.unwrap_or_default();
        if rows.first().map_or(ActiveState::Inactive, |row| row.active) == state {
            return;
        }
        assert!(Instant::now() < end, "{unit} never was {state}: {rows:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for this change, among others.
async fn hears(changes: &mut Receiver<Change>, wanted: &Change) {
    timeout(SOON, async { while changes.recv().await.unwrap() != *wanted {} }).await.unwrap_or_else(|_| panic!("nobody told {wanted:?}"));
}

/// Signals still come: a unit that somebody else stops is told of.
async fn signals_come(sandbox: &Sandbox, bus: &Bus) {
    let quick = "quick.service";
    assert_eq!(bus.job(Verb::Start, quick, SOON).await, Ok(JobEnd::Done));
    // Those of before it started.
    sleep(Duration::from_millis(100)).await;
    let mut changes = bus.changes();
    sandbox.systemctl(&["stop", quick]).ok();
    hears(&mut changes, &Change::Unit(quick.into())).await;
}

#[test]
fn a_bus_that_hangs_ends_calls_by_their_deadline_and_is_left_for_another() {
    with_bus(|sandbox, bus| async move {
        let mut changes = bus.changes();
        let daemon = sandbox.main_pid("dbus.service").unwrap();
        let begun = Instant::now();
        let ended = meanwhile(&bus, SLOW, || sandbox.kill(daemon, "STOP"));
        let calls = async {
            sleep(Duration::from_millis(500)).await;
            for _ in 0..4 {
                let asked = Instant::now();
                let answer = bus.units(&["*.service".into()]).await;
                let Err(Error::Unreachable(why)) = answer else { panic!("{answer:?}") };
                assert!(why.starts_with("no answer to `list units` within 1s") && why.ends_with("`systemctl status dbus`"), "{why}");
                assert!(asked.elapsed() < 3 * CALL, "{:?}", asked.elapsed());
            }
            // The job's own end is not waited for longer than asked.
            let asked = Instant::now();
            assert!(bus.job(Verb::Start, "quick.service", CALL).await.is_err());
            assert!(asked.elapsed() < 3 * CALL, "{:?}", asked.elapsed());
            sandbox.kill(daemon, "CONT");
        };
        let (ended, ()) = tokio::join!(ended, calls);
        println!("the bus hung for {:?}", begun.elapsed());
        assert_eq!(ended, Ok(JobEnd::Done), "the job that was asked for before");
        // The connection was given up for another one.
        hears(&mut changes, &Change::All).await;
        until(&bus, SLOW, ActiveState::Active).await;
        signals_come(&sandbox, &bus).await;
    });
}

#[test]
fn jobs_are_heard_of_across_a_new_bus_a_daemon_reexec_and_daemon_reloads() {
    with_bus(|sandbox, bus| async move {
        for upheaval in
            [&["restart", "dbus.service"][..], &["daemon-reexec"], &["daemon-reload"], &["kill", "--signal=KILL", "dbus.service"]]
        {
            let mut changes = bus.changes();
            // The one ends well, the other does not.
            let ends =
                tokio::join!(meanwhile(&bus, SLOW, || drop(sandbox.systemctl(upheaval).ok())), bus.job(Verb::Start, "bad.service", SOON),);
            assert_eq!(ends, (Ok(JobEnd::Done), Ok(JobEnd::Failed)), "across {upheaval:?}");
            hears(&mut changes, &Change::All).await;
            assert_eq!(bus.job(Verb::Stop, SLOW, SOON).await, Ok(JobEnd::Done));
            signals_come(&sandbox, &bus).await;
        }
    });
}

#[test]
fn a_start_that_failed_unheard_is_not_taken_for_the_later_one_that_went_well() {
    with_bus(|sandbox, bus| async move {
        // The first try of the one fails, and systemd's own next goes well.
        for (unit, fails) in [("again.service", "mkdir /run/tried 2>/dev/null && exit 1; exit 0"), ("well.service", "exit 0")] {
            let text = format!("[Service]\nRestart=always\nExecStart=/bin/sleep 1000\nExecStartPost=/bin/sh -c 'sleep 1; {fails}'\n");
            sandbox.unit(unit, &text);
        }
        let away = |unit: &'static str| {
            let sandbox = &sandbox;
            move || {
                sandbox.systemctl(&["stop", "dbus.socket", "dbus.service"]).ok();
                sandbox.wait_for_state(unit, "active", SOON);
                sandbox.systemctl(&["start", "dbus.service"]).ok();
            }
        };
        assert_eq!(meanwhile(&bus, "well.service", away("well.service")).await, Ok(JobEnd::Done));
        assert_eq!(meanwhile(&bus, "again.service", away("again.service")).await, Ok(JobEnd::Failed));
        assert_eq!(bus.details("again.service").await.unwrap().restarts, 1);
        // Started while it is on its way down, and restarted: it was inactive meanwhile, and by no failure.
        let restart = tokio::spawn({
            let bus = bus.clone();
            async move { bus.job(Verb::Restart, "again.service", SOON).await }
        });
        until(&bus, "again.service", ActiveState::Activating).await;
        away("again.service")();
        assert_eq!(restart.await.unwrap(), Ok(JobEnd::Done));
    });
}

#[test]
fn a_daemon_reload_kills_nobody_and_a_job_that_was_over_at_once_is_heard_of() {
    with_bus(|sandbox, _| async move {
        // A daemon-reload is answered when all is read again, which takes its time on a busy machine.
        let bus = Bus::at(&address(&sandbox), SOON).await.unwrap();
        let quick = "quick.service".to_owned();
        assert_eq!(bus.job(Verb::Start, &quick, SOON).await, Ok(JobEnd::Done));
        let before = bus.details(&quick).await.unwrap();
        for _ in 0..3 {
            let mut changes = bus.changes();
            bus.reload().await.unwrap();
            // UnitRemoved, UnitNew and Reloading(false), and it never was gone.
            hears(&mut changes, &Change::All).await;
            assert_eq!(bus.units(std::slice::from_ref(&quick)).await.unwrap()[0].active, ActiveState::Active);
        }
        assert_eq!(bus.details(&quick).await.unwrap(), before);
        // Its JobRemoved comes with the answer, or before it.
        let begun = Instant::now();
        for _ in 0..20 {
            assert_eq!(bus.job(Verb::Start, &quick, SOON).await, Ok(JobEnd::Done));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "no waiter slept over its job's end: {:?}", begun.elapsed());
        drop(sandbox);
    });
}

#[test]
fn without_polkit_or_under_a_mask_a_refusal_says_what_to_do() {
    let cluster = cluster(&node(1));
    let handle = "project-cluster@api.service";
    // Killed, it comes back when it is needed.
    cluster.systemctl(&["start", "polkit.service"]).ok();
    cluster.systemctl(&["kill", "--signal=KILL", "polkit.service"]).ok();
    cluster.cli(&["reload", "api"]).ok();
    // Masked, it does not; and without the rule it says no.
    let refused = |next: &str| {
        for verb in ["stop", "reload"] {
            let refused = cluster.cli(&[verb, "api"]).exits(1);
            assert!(refused.stderr.contains("systemd refused") && refused.stderr.contains(next), "{verb}: {}", refused.stderr);
        }
        assert_eq!((cluster.generations("api"), cluster.state(handle)), (vec![2], "active".into()), "nothing was touched");
    };
    cluster.systemctl(&["mask", "--runtime", "--now", "polkit.service"]).ok();
    refused("systemctl unmask polkit.service");
    cluster.systemctl(&["unmask", "--runtime", "polkit.service"]).ok();
    cluster.sh("mv /etc/polkit-1/rules.d/50-project-cluster.rules /root/rules; systemctl restart polkit").ok();
    refused("systemctl status polkit");
    cluster.sh("mv /root/rules /etc/polkit-1/rules.d/50-project-cluster.rules; systemctl restart polkit").ok();
    cluster.cli(&["stop", "api"]).ok();

    cluster.systemctl(&["mask", "--runtime", handle]).ok();
    let refused = cluster.cli(&["start", "api"]).exits(1);
    assert!(refused.stderr.contains(&format!("systemctl unmask {handle}")), "{}", refused.stderr);
    cluster.systemctl(&["unmask", "--runtime", handle]).ok();
    cluster.cli(&["start", "api"]).ok();
    assert_eq!(cluster.workers("api").len(), 1);
}

#[test]
fn more_calls_at_once_than_the_bus_bears_wait_for_their_turn() {
    with_bus(async |sandbox, _| {
        let bus = Bus::at(&address(&sandbox), SOON).await.unwrap();
        // Eight calls each, where the bus refuses the 129th.
        let all = futures_util::future::join_all((0..40).map(|_| bus.details("quick.service"))).await;
        let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
        assert!(refused.is_empty(), "{} of 40: {}", refused.len(), refused[0]);
    });
}
