//! What `apply` does with one app, by what the master tells of it.
//!
//! Pure. Both sides decide by it: the command line before it installs, so that it can say what will be done, and the
//! master when it does it.

use std::collections::BTreeSet;

use super::types::{App, AppState, WorkerState};
use crate::names::Slot;

/// What shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How many workers.
    pub configured: u16,
    /// Whether the first connection starts it.
    pub on_demand: bool,
    /// The revision of the settings that are installed, or are about to be.
    pub revision: u64,
    /// It does not run because 0 workers were configured, and that changes.
    pub wake: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is as configured.
    Unchanged,
    /// It is started.
    Start,
    /// Its sockets are opened; the first connection starts it.
    Listen,
    /// All workers are replaced by those of a new generation.
    Reload,
    /// Workers come or go.
    Scale,
    /// It is stopped: 0 workers are configured.
    Stop,
    /// Nothing: a person stopped it.
    Stopped,
    /// Nothing now: it is asleep.
    Asleep,
    /// Nothing: it failed with just this configuration.
    Held,
    /// Its hold ends: what serves is what is configured, and it was something else that failed.
    Release,
    /// The roll under way brings all of it; its end is waited for.
    Join,
}

impl Step {
    /// The word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Start => "start",
            Self::Listen => "listen",
            Self::Reload => "reload",
            Self::Scale => "scale",
            Self::Stop => "stop",
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
            Self::Held => "held",
            Self::Release => "release",
            Self::Join => "join",
        }
    }
}

/// What is done with an app; none is one that is not installed yet.
pub fn step(app: Option<&App>, wish: Wish) -> Step {
    let new = if wish.on_demand { Step::Listen } else { Step::Start };
    let Some(app) = app else { return if wish.configured == 0 { Step::Unchanged } else { new } };
    let stopped = matches!(app.state, AppState::Stopped | AppState::Failed);
    if wish.configured == 0 {
        return if stopped { Step::Unchanged } else { Step::Stop };
    }
    let becomes = becomes(app, wish);
    let failed_so = app.revisions.failed == Some(wish.revision);
    match app.state {
        AppState::Stopped if wish.wake || app.latest.is_none() => new,
        AppState::Stopped => Step::Stopped,
        AppState::Failed if failed_so => Step::Held,
        AppState::Failed => Step::Start,
        AppState::Sleeping if becomes && app.latest.is_some() || starts_others(app, wish.configured) => Step::Asleep,
        AppState::Sleeping => Step::Unchanged,
        _ if becomes && !failed_so => Step::Reload,
        AppState::Rolling if app.target == wish.configured => Step::Join,
        _ if other_slots(app, wish.configured) != Slots::default() => Step::Scale,
        _ if failed_so => Step::Held,
        _ if releases(app, wish) => Step::Release,
        _ => Step::Unchanged,
    }
}

/// Whether the settings make other workers than those that serve, or that the next start makes, and it is theirs to do so.
pub fn becomes(app: &App, wish: Wish) -> bool {
    differs(app, wish) && !rolled_back_from(app, wish)
}

/// Whether what serves is of other settings and stays so, since a person rolled it back from just these.
pub fn stays(app: &App, wish: Wish) -> bool {
    differs(app, wish) && rolled_back_from(app, wish)
}

fn differs(app: &App, wish: Wish) -> bool {
    app.revisions.serves != Some(wish.revision)
}

fn rolled_back_from(app: &App, wish: Wish) -> bool {
    app.rolled_back.is_some_and(|back| back.installed == wish.revision)
}

/// Whether the hold of an app that is up ends: what failed is not what is configured, and what serves is. Where nobody knows
/// what failed, since it failed before it was made, the hold stays.
pub fn releases(app: &App, wish: Wish) -> bool {
    let up = matches!(app.state, AppState::Running | AppState::Degraded);
    up && app.held.is_some() && app.revisions.failed.is_some_and(|failed| failed != wish.revision) && !differs(app, wish)
}

/// Slots in which workers come, and from which they go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// They have none yet.
    pub come: BTreeSet<Slot>,
    /// They have one and shall not.
    pub go: BTreeSet<Slot>,
}

/// The slots in which a worker lives or comes back.
pub fn taken(app: &App) -> BTreeSet<Slot> {
    let stands = |state| match state {
        WorkerState::Online | WorkerState::Starting | WorkerState::Restarting | WorkerState::CrashLoop => true,
        WorkerState::Stopping | WorkerState::Retiring | WorkerState::Failed | WorkerState::Stopped | WorkerState::Offline => false,
    };
    app.workers.iter().filter(|worker| stands(worker.state)).filter_map(|worker| Slot::new(worker.slot)).collect()
}

/// What differs from so many workers in the first places, whatever a person asked for.
pub fn other_slots(app: &App, configured: u16) -> Slots {
    let (taken, wanted): (_, BTreeSet<Slot>) = (taken(app), Slot::first(configured).collect());
    Slots { come: &wanted - &taken, go: &taken - &wanted }
}

/// Whether its next start would be of others than so many workers in the first places, by what a person asked for.
pub fn starts_others(app: &App, configured: u16) -> bool {
    app.target != configured || app.workers.iter().any(|worker| worker.unit.is_none() && worker.slot > configured)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::types::{Revisions, Worker};
    use crate::intent::{Hold, RolledBack};
    use crate::names::{AppName, Generation, Uid};

    /// An app `api` in this state, with workers in these slots, that was started before.
    pub(crate) fn app(state: AppState, taken: &[u16]) -> App {
        let name: AppName = "api".parse().unwrap();
        let worker = |slot: &u16| Worker {
            uid: Uid { app: name.clone(), slot: Slot::new(*slot).unwrap() },
            app: name.clone(),
            slot: *slot,
            generation: Some(Generation(3)),
            pin: None,
            release: None,
            unit: Some(String::new()),
            state: WorkerState::Online,
            crash_loop: None,
            pid: None,
            uptime_ms: None,
            restarts: 0,
            errors: None,
            warnings: None,
            memory_bytes: None,
            cpu_ms: None,
        };
        App {
            name: name.clone(),
            state,
            target: 2,
            ready: 2,
            configured: 2,
            on_demand: false,
            generation: Some(Generation(3)),
            pin: None,
            release: None,
            past: vec![],
            rolled_back: None,
            latest: Some(Generation(3)),
            changed: None,
            revisions: Revisions::default(),
            held: None,
            command: vec![],
            cwd: String::new(),
            user: String::new(),
            sockets: vec![],
            handle: String::new(),
            roll: None,
            workers: taken.iter().map(worker).collect(),
            crash_loop: None,
            masked: vec![],
            outside: vec![],
        }
    }

    #[test]
    fn what_is_done_with_an_app() {
        use AppState::{Degraded, Failed, Rolling, Running, Sleeping, Stopped};
        // What serves is of the first revision in all of these, and what is installed of the first or the second.
        let changed = |mut app: App| {
            app.revisions.installed = 1;
            app
        };
        let so = |mut app: App| {
            app.revisions.failed = Some(app.revisions.installed);
            app
        };
        let held = |failed: Option<u64>, app: App| {
            let revisions = Revisions { failed, ..app.revisions };
            App { held: Some(Hold::new(1, "no", Generation(4))), revisions, ..app }
        };
        let back = |installed: u64, app: App| App { rolled_back: Some(RolledBack { to: Generation(1), since_ms: 1, installed }), ..app };
        let never = |mut app: App| {
            (app.latest, app.generation) = (None, None);
            app
        };
        let same = Wish { configured: 2, on_demand: false, revision: 0, wake: false };
        let (becomes, none) = (Wish { revision: 1, ..same }, Wish { configured: 0, ..same });
        let (wake, demand) = (Wish { wake: true, ..same }, Wish { on_demand: true, ..same });
        let up = || app(Running, &[1, 2]);
        let scaled = |mut app: App| {
            app.target = 5;
            app
        };
        let cases = [
            // New, or never started.
            (None, same, Step::Start),
            (None, demand, Step::Listen),
            (None, none, Step::Unchanged),
            (Some(never(app(Stopped, &[]))), same, Step::Start),
            (Some(never(app(Sleeping, &[]))), demand, Step::Unchanged),
            // What runs.
            (Some(up()), same, Step::Unchanged),
            (Some(up()), becomes, Step::Reload),
            (Some(changed(up())), becomes, Step::Reload),
            (Some(changed(up())), same, Step::Unchanged),
            (Some(app(Running, &[1, 3])), same, Step::Scale),
            (Some(app(Running, &[1, 2, 3])), same, Step::Scale),
            (Some(app(Degraded, &[1])), same, Step::Scale),
            (Some(changed(app(Degraded, &[1]))), becomes, Step::Reload),
            (Some(up()), none, Step::Stop),
            (Some(app(Sleeping, &[])), none, Step::Stop),
            // What a person stopped, and what was stopped because 0 workers were configured.
            (Some(app(Stopped, &[])), same, Step::Stopped),
            (Some(app(Stopped, &[])), becomes, Step::Stopped),
            (Some(app(Stopped, &[])), none, Step::Unchanged),
            (Some(app(Stopped, &[])), wake, Step::Start),
            (Some(app(Stopped, &[])), Wish { on_demand: true, ..wake }, Step::Listen),
            // Asleep.
            (Some(app(Sleeping, &[])), demand, Step::Unchanged),
            (Some(app(Sleeping, &[])), Wish { revision: 1, ..demand }, Step::Asleep),
            (Some(scaled(app(Sleeping, &[]))), demand, Step::Asleep),
            // What failed with just this is left alone, but for its number; anything else is another try.
            (Some(so(changed(up()))), becomes, Step::Held),
            (Some(so(up())), same, Step::Held),
            (Some(so(app(Running, &[1]))), same, Step::Scale),
            (Some(so(changed(up()))), Wish { revision: 2, ..same }, Step::Reload),
            // A person rolled it back from what was installed then: that is no change of the configuration, another one is.
            (Some(back(0, changed(up()))), becomes, Step::Reload),
            (Some(back(1, changed(up()))), becomes, Step::Unchanged),
            (Some(back(1, changed(app(Running, &[1])))), becomes, Step::Scale),
            (Some(back(1, changed(up()))), Wish { revision: 2, ..same }, Step::Reload),
            (Some(back(1, changed(up()))), same, Step::Unchanged),
            (Some(held(Some(2), back(1, changed(up())))), becomes, Step::Unchanged),
            (Some(back(1, changed(app(Sleeping, &[])))), Wish { revision: 1, ..demand }, Step::Unchanged),
            // Changed back to what serves.
            (Some(held(Some(1), changed(up()))), same, Step::Release),
            (Some(held(Some(1), app(Degraded, &[1]))), same, Step::Scale),
            (Some(held(Some(1), changed(up()))), becomes, Step::Held),
            (Some(held(Some(0), up())), same, Step::Held),
            (Some(held(None, up())), same, Step::Unchanged),
            (Some(held(Some(1), app(Stopped, &[]))), same, Step::Stopped),
            (Some(up()), same, Step::Unchanged),
            (Some(so(app(Failed, &[]))), same, Step::Held),
            (Some(so(app(Failed, &[]))), becomes, Step::Start),
            (Some(app(Failed, &[])), same, Step::Start),
            // Under way.
            (Some(app(Rolling, &[1, 2])), same, Step::Join),
            (Some(app(Rolling, &[1, 2])), Wish { configured: 3, ..same }, Step::Scale),
            (Some(changed(app(Rolling, &[1, 2]))), becomes, Step::Reload),
        ];
        for (app, wish, expected) in cases {
            assert_eq!(step(app.as_ref(), wish), expected, "{wish:?} {app:?}");
        }
        // Of what serves is nothing known.
        let untold = App { revisions: Revisions { serves: None, ..Revisions::default() }, ..up() };
        assert_eq!(step(Some(&untold), same), Step::Reload);
    }
}
