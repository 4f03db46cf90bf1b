//! Reloads over the fake systemd, in virtual time: the queue, holds, and a master after another.

mod blind;
mod older;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, watch as channel};

use super::*;
use crate::config::settings::Settings;
use crate::intent::{AppIntent, Intent};
use crate::journal::Journal;
use crate::master::{Places, events, watch};
use crate::names::HookKind;
use crate::points::pass;
use crate::systemd::fake::{App, Fake, Service};
use crate::systemd::{Change, Details, Error, JobEnd, UnitState, Verb};
use crate::worker::published::{Published, Told};

mod back;
mod deaths;
mod hooks;
mod left;
mod past;
mod reading;
mod remembering;
mod steer;
mod stops;

const SOCKET: &str = "project-cluster-api-:::3000.socket";
const API: &str = "[apps.api]\nworkers = 3\ncommand = \"/usr/bin/node x.js\"\ncwd = \"/srv\"\nlisten = 3000\n";
const SECOND: Duration = Duration::from_secs(1);

/// The fake as one master sees it: from that master's death on nobody hears it any more.
struct Mortal {
    fake: Fake,
    dead: channel::Receiver<bool>,
    deaf: Arc<AtomicBool>,
    var: std::path::PathBuf,
}

impl Mortal {
    /// What a worker's `prepare` leaves: the highest generation that was ever started, `1` of `3.1.1`.
    fn pin(&self, verb: Verb, unit: &str) {
        let worker = unit.strip_prefix("project-cluster-api@").and_then(|worker| worker.strip_suffix(".service"));
        let hook = unit.strip_prefix("project-cluster-api:before@").and_then(|hook| hook.strip_suffix(".service"));
        if let Some(worker) = worker.filter(|_| verb == Verb::Start).and_then(|worker| worker.parse::<Instance>().ok()) {
            tell(&self.var, worker.generation, worker.pinned());
        } else if let Some(generation) = hook.filter(|_| verb == Verb::Start).and_then(|hook| hook.parse().ok()).map(Generation) {
            tell(&self.var, generation, generation);
        }
    }

    async fn live<T>(&self, call: impl Future<Output = T>) -> T {
        let mut dead = self.dead.clone();
        let died = async { dead.wait_for(|dead| *dead).await.is_ok() };
        tokio::select! {
            biased;
            true = died => std::future::pending().await,
            answer = call => answer,
        }
    }
}

impl Systemd for Mortal {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(Error::Refused { what: "list units".into(), why: "no memory".into() });
        }
        self.live(self.fake.units(patterns)).await
    }
    async fn details(&self, unit: &str) -> Result<Details, Error> {
        self.live(self.fake.details(unit)).await
    }
    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        self.live(self.fake.active_since(unit)).await
    }
    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        self.live(std::future::ready(())).await;
        pass(format_args!("{verb} {unit} is to be asked for"));
        self.pin(verb, unit);
        let mut job = std::pin::pin!(self.fake.job(verb, unit, limit));
        let asked = std::future::poll_fn(|context| std::task::Poll::Ready(job.as_mut().poll(context))).await;
        pass(format_args!("{verb} {unit} is asked for"));
        let end = match asked {
            std::task::Poll::Ready(end) => end,
            std::task::Poll::Pending => self.live(job).await,
        };
        pass(format_args!("{verb} {unit} has ended"));
        end
    }
    async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        self.live(self.fake.reset_failed(unit)).await
    }
    async fn settle(&self) -> Result<(), Error> {
        self.live(self.fake.settle()).await
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        self.fake.changes()
    }
}

/// What a worker's `prepare` tells of its generation and its pin, whose release is there.
fn tell(var: &std::path::Path, generation: Generation, maker: Generation) {
    let file = var.join("generations/api");
    let mut published = Published::parse(&std::fs::read_to_string(&file).unwrap_or_default());
    published.add(generation, 0);
    let pin = Told { generation, maker, ready: true, release: "/".into() };
    published.tell([published.pins(), &[pin]].concat());
    std::fs::write(file, published.to_string()).unwrap();
}

/// A systemd with three workers of generation 1 up, and a directory for the files of the masters to come.
struct Stage {
    fake: Fake,
    directory: tempfile::TempDir,
    app: AppName,
    death: channel::Sender<bool>,
    deaf: Arc<AtomicBool>,
    toml: &'static str,
}

impl Stage {
    /// `broken`: generations of which slot 2 never starts.
    async fn set(broken: &'static [u64]) -> Self {
        Self::with(API, move |unit| {
            let is_broken = broken.iter().any(|generation| unit == format!("project-cluster-api@2.{generation}.1.service"));
            if is_broken { App::crashing(Duration::from_millis(30)) } else { App::ready_after(Duration::from_millis(100)) }
        })
        .await
    }

    /// With this configuration, and apps and hooks that do this.
    async fn with(toml: &'static str, behaves: impl Fn(&str) -> App + Send + 'static) -> Self {
        let fake = Fake::new(move |unit, _| behaves(unit));
        for (kind, generation) in HookKind::ALL.into_iter().flat_map(|kind| (2..6).map(move |generation| (kind, generation))) {
            fake.define(&format!("project-cluster-api:{kind}@{generation}.service"), Service::handle(Duration::ZERO));
        }
        for kind in HookKind::ALL {
            fake.define(&format!("project-cluster-api:{kind}@3-1.service"), Service::handle(Duration::ZERO));
        }
        for unit in [SOCKET, "project-cluster@api.service"] {
            assert_eq!(fake.job(Verb::Start, unit, SECOND).await, Ok(JobEnd::Done));
        }
        let stage = Self {
            fake,
            directory: tempfile::tempdir().unwrap(),
            app: "api".parse().unwrap(),
            death: channel::Sender::new(false),
            deaf: Arc::default(),
            toml,
        };
        for slot in 1..=3 {
            stage.start(&format!("{slot}.1.1")).await;
        }
        std::fs::create_dir_all(stage.places().var.join("state")).unwrap();
        std::fs::create_dir_all(stage.places().var.join("generations")).unwrap();
        std::fs::create_dir_all(stage.places().run.join("state")).unwrap();
        stage
    }

    async fn start(&self, instance: &str) {
        let unit = format!("project-cluster-api@{instance}.service");
        assert_eq!(self.fake.job(Verb::Start, &unit, SECOND).await, Ok(JobEnd::Done));
    }

    fn places(&self) -> Places {
        Places { var: self.directory.path().join("var"), run: self.directory.path().join("run") }
    }

    /// A master as `main` makes it: what the one before left is taken up.
    async fn master(&self) -> Arc<Master<Mortal>> {
        let settings = settings(self.toml);
        let intent = Intent::read(&self.places().intent()).unwrap();
        let mortal = Mortal { fake: self.fake.clone(), dead: self.death.subscribe(), deaf: Arc::clone(&self.deaf), var: self.places().var };
        let master = Master::new(Arc::new(mortal), settings, intent, self.places(), Journal::read_by("true"));
        master.look().await.unwrap();
        let rolled = master.take_up();
        master.recall(&rolled);
        tokio::spawn(events::watch_strays(master.clone()));
        let (follower, changes) = (master.clone(), self.fake.changes());
        tokio::spawn(async move { follower.follow(changes).await });
        master
    }

    /// `kill -9` of all masters: none acts any more, and what lies in the files at this moment is what the next finds.
    fn kill(&mut self) {
        let files = snapshot(self.directory.path());
        self.death.send_replace(true);
        (self.directory, self.death) = (files, channel::Sender::new(false));
    }

    async fn ended(&self, master: &Master<Mortal>, roll: &types::Roll) -> types::Roll {
        let mut roll = roll.clone();
        while roll.under_way() {
            roll = master.roll(&self.app, roll.id, Some(roll.sequence), 600 * SECOND).await.unwrap();
        }
        roll
    }

    /// The instances of the workers that are up.
    fn up(&self) -> Vec<String> {
        let workers = self.fake.active();
        workers.iter().filter_map(|unit| Some(unit.strip_prefix("project-cluster-api@")?.strip_suffix(".service")?.to_owned())).collect()
    }

    fn intent(&self) -> AppIntent {
        Intent::read(&self.places().intent()).unwrap().apps.remove(&self.app).unwrap_or_default()
    }
}

/// The master's files as they lie at this moment.
fn snapshot(directory: &std::path::Path) -> tempfile::TempDir {
    let files = tempfile::tempdir().unwrap();
    for place in ["var/state", "var/generations", "run/state"] {
        std::fs::create_dir_all(files.path().join(place)).unwrap();
        for file in std::fs::read_dir(directory.join(place)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), files.path().join(place).join(file.file_name())).unwrap();
        }
    }
    files
}

fn settings(text: &str) -> Settings {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    std::fs::write(&path, text).unwrap();
    crate::config::load(&path, &crate::config::SystemAccounts).unwrap_or_else(|problems| panic!("{problems}")).settings
}

#[tokio::test(start_paused = true)]
async fn a_master_adopts_what_runs_and_rolls_it() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    assert_eq!(stage.intent().generation, Some(Generation(1)));
    let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!((roll.state, roll.generation, roll.ready, roll.target), (RollState::Done, Some(Generation(2)), 3, 3), "{roll:?}");
    assert_eq!(stage.up(), ["1.2.1", "2.2.1", "3.2.1"]);
    assert_eq!(stage.intent().generation, Some(Generation(2)));
    assert!(roll.steps.iter().any(|step| step.text == "api:03 (generation 2) is ready"), "{roll:?}");
}

#[tokio::test(start_paused = true)]
async fn three_reloads_at_once_are_two_rolls() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let first = master.reload(&stage.app).await.unwrap();
    let second = master.reload(&stage.app).await.unwrap();
    let third = master.reload(&stage.app).await.unwrap();
    assert_eq!((second.state, second.id), (RollState::Waiting, third.id));
    assert!(stage.places().next_roll(&stage.app).exists());
    assert_eq!(stage.ended(&master, &first).await.generation, Some(Generation(2)));
    assert_eq!(stage.ended(&master, &third).await.generation, Some(Generation(3)));
    assert_eq!(stage.up(), ["1.3.1", "2.3.1", "3.3.1"]);
    assert!(!stage.places().next_roll(&stage.app).exists());
}

#[tokio::test(start_paused = true)]
async fn a_failed_roll_holds_the_app_until_one_succeeds() {
    let stage = Stage::set(&[2]).await;
    let master = stage.master().await;
    let roll = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!(roll.state, RollState::Failed, "{roll:?}");
    assert!(roll.reason.as_ref().unwrap().contains("The old workers serve as before"), "{roll:?}");
    assert_eq!(stage.up(), ["1.1.2", "2.1.1", "3.1.1"]);
    let intent = stage.intent();
    assert_eq!((intent.generation, intent.held.unwrap().generation), (Some(Generation(1)), Generation(2)));
    // Neither time nor another master ends the hold.
    let master = stage.master().await;
    assert_eq!(master.app(&stage.app).unwrap().held.unwrap().generation, Generation(2));
    // `show` of a new master still knows how the last roll ended.
    assert_eq!(master.app(&stage.app).unwrap().roll.unwrap().reason, roll.reason);
    let next = stage.ended(&master, &master.reload(&stage.app).await.unwrap()).await;
    assert_eq!((next.state, next.generation), (RollState::Done, Some(Generation(3))), "{next:?}");
    assert!(next.id > roll.id);
    assert_eq!(stage.intent().held, None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_roll_ends_it_and_holds_nothing() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let first = master.reload(&stage.app).await.unwrap();
    let waits = master.reload(&stage.app).await.unwrap();
    let stopped = stage.fake.job(Verb::Stop, "project-cluster@api.service", SECOND).await;
    assert_eq!(stopped, Ok(JobEnd::Done));
    let roll = stage.ended(&master, &first).await;
    assert!(roll.reason.unwrap().contains("was stopped or restarted meanwhile"));
    let waited = stage.ended(&master, &waits).await;
    assert!(waited.reason.unwrap().contains("was stopped before this reload could begin"));
    assert_eq!(stage.intent().held, None);
    let refused = master.reload(&stage.app).await.unwrap_err();
    assert!(refused.to_string().contains("`project-cluster start api`"), "{refused}");
    // The roll's own worker, which the fake's stop has left, is stopped. The old ones are the handle's, and the socket,
    // which nobody has opened again, may be that of an app asleep.
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
    assert!(stage.fake.active().contains(&SOCKET.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_a_late_start_opened_again_is_closed() {
    let stage = Stage::set(&[]).await;
    assert_eq!(stage.fake.job(Verb::Restart, SOCKET, SECOND).await, Ok(JobEnd::Done));
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster@api.service", SECOND).await, Ok(JobEnd::Done));
    stage.ended(&master, &roll).await;
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
    assert!(!stage.fake.active().contains(&SOCKET.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_down_refuses_the_roll_with_what_mends_it() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    assert_eq!(stage.fake.job(Verb::Stop, SOCKET, SECOND).await, Ok(JobEnd::Done));
    let refused = master.reload(&stage.app).await.unwrap_err();
    assert!(
        refused.to_string().contains("`systemctl stop project-cluster@api.service && systemctl start project-cluster@api.service`"),
        "{refused}"
    );
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
}

#[tokio::test(start_paused = true)]
async fn old_workers_that_are_dead_are_not_said_to_serve() {
    let stage = Stage::set(&[2]).await;
    // Before any master was there: nobody knows that it served.
    assert_eq!(stage.fake.job(Verb::Stop, "project-cluster-api@2.1.1.service", SECOND).await, Ok(JobEnd::Done));
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    let reason = stage.ended(&master, &roll).await.reason.unwrap();
    assert!(
        reason.starts_with("api:02 (generation 2) failed: it exited with 1. ") && reason.contains("Only 2 of 3 old workers serve"),
        "{reason}"
    );
    // What is remembered says nothing that may change.
    assert_eq!(stage.intent().held.unwrap().reason, "api:02 (generation 2) failed: it exited with 1");
}

#[tokio::test(start_paused = true)]
async fn a_roll_of_an_app_that_left_the_settings_ends() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    // Before it is carried out.
    master.set_settings(settings("[apps.other]\ncommand = \"/usr/bin/node x.js\"\ncwd = \"/srv\"\n"));
    let roll = stage.ended(&master, &roll).await;
    assert_eq!((roll.state, roll.reason.as_deref()), (RollState::Failed, Some("api was removed from the configuration")));
    // Where it comes back, that roll does not.
    let next = stage.master().await;
    assert_eq!(next.roll(&stage.app, roll.id, None, SECOND).await.unwrap().reason, roll.reason);
    assert!(!lock(&next.rolls).under_way(&stage.app));
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_by_a_later_generation_alone_and_an_app_that_left_is_forgotten() {
    let stage = Stage::set(&[]).await;
    let held = Some(crate::intent::Hold::new(1, "it failed", Generation(2)));
    let mut intent = Intent::default();
    // The master's memory of the generation is lost; what failed is not.
    intent.apps.insert(stage.app.clone(), AppIntent { held, ..AppIntent::default() });
    intent.apps.insert("gone".parse().unwrap(), AppIntent { generation: Some(Generation(4)), ..AppIntent::default() });
    intent.write(&stage.places().intent()).unwrap();
    let master = stage.master().await;
    let known = stage.intent();
    assert_eq!((known.generation, known.held.map(|held| held.generation)), (Some(Generation(1)), Some(Generation(2))));
    assert_eq!(Intent::read(&stage.places().intent()).unwrap().apps.len(), 1);
    // A person's restart.
    for slot in 1..=3 {
        let old = format!("project-cluster-api@{slot}.1.1.service");
        assert_eq!(stage.fake.job(Verb::Stop, &old, SECOND).await, Ok(JobEnd::Done));
        stage.start(&format!("{slot}.3.1")).await;
    }
    master.glance().await.unwrap();
    assert_eq!((stage.intent().generation, stage.intent().held), (Some(Generation(3)), None));
}

#[tokio::test(start_paused = true)]
async fn behind_a_restart_none_of_its_own_is_left_beside_another() {
    let stage = Stage::set(&[]).await;
    let master = stage.master().await;
    let roll = master.reload(&stage.app).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(stage.fake.job(Verb::Restart, "project-cluster@api.service", SECOND).await, Ok(JobEnd::Done));
    assert!(stage.ended(&master, &roll).await.reason.unwrap().contains("stopped or restarted meanwhile"));
    assert_eq!(stage.up(), ["1.1.1", "2.1.1", "3.1.1"]);
}
