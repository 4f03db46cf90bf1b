//! Whole rolls of two slots, from the plan to the outcome.

use std::sync::{Arc, Mutex};

use project_cluster::config::settings::Reload;
use project_cluster::names::{AppName, AppUnits, ClusterName, Generation, Instance, Slot};
use project_cluster::roll::plan::Scope;
use project_cluster::roll::{Clock, Deps, Keeper, Limits, Roll, Step, Version, Wish, execute, plan};
use project_cluster::systemd::fake::{App, Service, Times};
use project_cluster::systemd::{Error, JobEnd, Systemd, Verb};
use tokio::join;
use tokio::sync::{mpsc, watch};

use super::ground::{Hand, Unit};
use super::scenarios::{crash, never, ready, stubborn, times, worker};
use super::stage::{LONG, Scenario, Stage, phase};

const OLD: Version = Version { generation: Generation(4), pin: None };
const NEW: Version = Version { generation: Generation(5), pin: None };

/// Writes down what is told, and keeps nothing.
struct Scribe(Arc<Mutex<Vec<String>>>, AppName);

impl Keeper for Scribe {
    fn persist(&mut self, _: &Roll) -> Result<(), String> {
        Ok(())
    }
    fn report(&mut self, step: &Step, _: &Roll) {
        self.0.lock().unwrap().push(step.text(&self.1));
    }
    fn trouble(&mut self, error: &Error) {
        panic!("{error}");
    }
    fn emptied(&mut self, _: &[project_cluster::names::Instance]) -> Option<project_cluster::roll::Target> {
        None
    }
}

pub fn all<S: Systemd, H: Hand>() -> Vec<Scenario<S, H>> {
    let short = |start, stop| Service { times: Some(Times { start, stop, ..times() }), ..worker() };
    vec![
        roll("roll-good", worker(), ready(), [ready(), ready()], false),
        roll("roll-crashes", worker(), ready(), [ready(), crash()], false),
        roll("roll-never-ready", short(2 * phase(), times().stop), ready(), [ready(), never()], false),
        roll("roll-stubborn", short(times().start, 2 * phase()), stubborn(), [ready(), ready()], false),
        roll("roll-overtaken", worker(), ready(), [ready(), ready()], true),
    ]
}

/// Old workers of one kind, the new ones of each slot; whether the handle is stopped while the second one starts.
fn roll<S: Systemd, H: Hand>(name: &'static str, service: Service, old: App, new: [App; 2], stopped: bool) -> Scenario<S, H> {
    let unit = |instance: &str, app: App| Unit {
        name: format!("project-cluster-{name}@{instance}.service"),
        service: service.clone(),
        starts: vec![app],
    };
    let mut units = vec![Unit {
        name: format!("project-cluster@{name}.service"),
        service: Service { times: Some(times()), ..Service::handle(phase()) },
        starts: vec![ready()],
    }];
    units.extend(["1.4.1", "2.4.1", "1.4.2", "2.4.2"].map(|instance| unit(instance, old)));
    units.extend([unit("1.5.1", new[0]), unit("2.5.1", new[1])]);
    Scenario::new(name, units, move |stage| play(stage, name, stopped))
}

async fn play<S: Systemd, H: Hand>(stage: Stage<S, H>, name: &'static str, stopped: bool) {
    let (cluster, app): (ClusterName, AppName) = (ClusterName::default(), name.parse().unwrap());
    let units = AppUnits::new(&cluster, &app);
    let handle = units.handle();
    let job = |verb, unit: String| {
        let systemd = Arc::clone(&stage.systemd);
        async move { assert_eq!(systemd.job(verb, &unit, LONG).await, Ok(JobEnd::Done), "{verb} {unit}") }
    };
    let old = |slot: &str| units.worker(&slot.parse::<Instance>().unwrap());
    join!(job(Verb::Start, handle.clone()), job(Verb::Start, old("1.4.1")), job(Verb::Start, old("2.4.1")));

    let rows = stage.systemd.units(&[units.worker_glob()]).await.unwrap();
    let world = rows.iter().map(|row| (units.instance(&row.name).unwrap(), execute::sight(row))).collect();
    let reload = Reload { min_ready: phase(), deadline: LONG, ..Reload::default() };
    let slots = Slot::first(2).collect();
    let (scope, sockets_down) = (Scope::App, &[]);
    let wish = Wish { app: &app, from: OLD, to: NEW, slots: &slots, scope, reload: &reload, sockets_down, world: &world };
    let clock = Clock::showing(0);
    let mut roll = Roll::new(plan(&wish).unwrap(), &world, clock.now());
    let steps = Arc::default();
    let deps = Deps {
        cluster: cluster.clone(),
        app: app.clone(),
        limits: Limits { start: LONG, stop: LONG },
        clock,
        keeper: Scribe(Arc::clone(&steps), app.clone()),
        sockets: Vec::new(),
        target: watch::channel(None).1,
        orders: mpsc::channel(1).1,
        handle_since: stage.systemd.active_since(&handle).await.unwrap(),
    };
    let meanwhile = async {
        if stopped {
            stage.until(&units.worker(&"2.5.1".parse().unwrap()), "activating/start-post").await;
            stage.within().await;
            job(Verb::Stop, handle.clone()).await;
        }
    };
    let (outcome, ()) = join!(execute(Arc::clone(&stage.systemd), &mut roll, deps), meanwhile);
    let steps: Vec<String> = std::mem::take(&mut *steps.lock().unwrap());
    steps.into_iter().for_each(|step| stage.note(step));
    stage.note(format!("{outcome:?}"));
    // The stops that go on by themselves.
    tokio::time::sleep(4 * phase()).await;
}
