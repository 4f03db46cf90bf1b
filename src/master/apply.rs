//! `apply`: makes what runs what is installed, and tells what of it differs.

use std::sync::Arc;
use std::time::Duration;

use super::memory::Source;
use super::{Master, back, lock};
use crate::api::converge::{self, Step, Wish};
use crate::api::error::{Code, Refusal};
use crate::api::types::{App, AppState, Changed, Done, Revisions, Worker, WorkerState};
use crate::config::settings;
use crate::files;
use crate::intent::{AppIntent, Change, RolledBack};
use crate::names::{AppName, AppUnits, Generation};
use crate::roll::order::Order;
use crate::systemd::{ActiveState, JobEnd, Systemd, Verb};
use crate::worker::published::Published;

/// A socket's start has no more to do than to bind.
const SOCKET: Duration = Duration::from_secs(30);

impl<S: Systemd> Master<S> {
    /// What `prepare` tells of an app's generations; nothing where there are none.
    pub(super) fn published(&self, name: &AppName) -> Published {
        let bytes = files::read_bounded(&self.places.generation(name), Published::LIMIT).unwrap_or_default();
        Published::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Completes what is shown of an app by what its generations were made from.
    pub(super) fn compare(&self, shown: &mut App, app: &settings::App, intent: &AppIntent) {
        let published = self.published(&shown.name);
        // The next start takes what is installed.
        let fresh = matches!(shown.state, AppState::Stopped | AppState::Sleeping) && self.places.fresh(&shown.name).exists();
        compare(shown, app, intent, &published, fresh);
    }

    /// `apply` of one app: what is installed takes effect, and what a person asked for at run time is forgotten. `wake`: it
    /// does not run because 0 workers were configured until now. A roll is only begun.
    ///
    /// # Errors
    /// When it failed with just this configuration, is on its way up or down, or what is done fails.
    pub async fn apply(self: &Arc<Self>, name: &AppName, wake: bool) -> Result<Done, Refusal> {
        self.renew_settings();
        self.look().await?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        self.settled(&units)?;
        let shown = self.app(name)?;
        let wish = Wish { configured: Self::target(app), on_demand: app.on_demand, revision: app.revision.number, wake };
        let step = converge::step(Some(&shown), wish);
        if step == Step::Held {
            let (verb, since) = match &shown.held {
                Some(held) if shown.state != AppState::Failed => ("reload", format!("since generation {} failed", held.generation)),
                _ => ("start", "since its start failed".to_owned()),
            };
            let why = format!(
                "{name} is held {since}, and its configuration is the same as then, so it is left alone. Try again: `project-cluster {verb} {name}`"
            );
            return Err(Refusal::new(Code::Conflict, why));
        }
        if matches!(step, Step::Start | Step::Scale | Step::Reload | Step::Join) {
            self.not_paused(name)?;
        }
        self.remember_change(name, &Change::Configured, Source::Asked)?;
        if converge::releases(&shown, wish) {
            self.promise(name, |intent| intent.held = None)?;
            self.show_standing(name).await;
        }
        let stands = lock(&self.world).workers(&units).iter().any(|(_, seen)| super::operate::stands(seen.state.active));
        // Nothing runs that a roll could replace, or that clients would miss meanwhile.
        let starts = !stands && matches!(step, Step::Start | Step::Scale | Step::Reload);
        if let (Step::Unchanged, Some(back)) = (step, shown.rolled_back.filter(|_| converge::stays(&shown, wish))) {
            let why =
                format!("rolled back to generation {}, and stays so. `project-cluster reload {name}` deploys what is installed", back.to);
            return Ok(Done::new(name, why));
        }
        match step {
            Step::Unchanged | Step::Held => Ok(Done::new(name, "nothing to do")),
            Step::Release => Ok(Done::new(name, "no longer held: what serves is what is configured")),
            Step::Stopped => Ok(Done::new(name, format!("stopped, and stays so. `project-cluster start {name}`"))),
            Step::Asleep => Ok(Done::new(name, "asleep, and stays so until a connection wakes it")),
            Step::Listen => self.listen(&units, app).await,
            Step::Stop => self.stop(name).await,
            Step::Join => Ok(match shown.roll {
                Some(roll) => Done::by_roll(roll, "under way"),
                None => Done::new(name, "nothing to do"),
            }),
            Step::Start | Step::Scale | Step::Reload if starts => self.start_wanted(name).await,
            Step::Start | Step::Scale => self.converge(name, Order::default()).await,
            Step::Reload => self.converge(name, Order::deploy()).await,
        }
    }

    /// Opens the sockets of an app on demand that was never started.
    async fn listen(&self, units: &AppUnits<'_>, app: &settings::App) -> Result<Done, Refusal> {
        super::under_way::tell();
        for socket in app.listen.iter().map(|listen| units.socket(&listen.address)) {
            if lock(&self.world).active(&socket) != ActiveState::Active
                && self.systemd.job(Verb::Start, &socket, SOCKET).await? != JobEnd::Done
            {
                let why = format!("{socket} cannot listen: another program may have the address (`ss -lptn`). `journalctl -u {socket}`");
                return Err(Refusal::new(Code::Failed, why));
            }
        }
        Ok(Done::new(units.app, "listens; the first connection starts it"))
    }
}

/// See [`Master::compare`].
fn compare(shown: &mut App, app: &settings::App, intent: &AppIntent, published: &Published, fresh: bool) {
    let (installed, highest) = (&app.revision, published.highest());
    shown.latest = highest.max(intent.generation);
    // What is not pinned yet will be pinned from what is installed.
    let revision =
        |generation: Generation| if Some(generation) > highest { Some(installed.number) } else { published.revision(generation) };
    let rolls = shown.roll.as_ref().filter(|roll| roll.under_way() && roll.slots.is_none());
    // A rollback makes its generation from an older one's pin.
    let rolls_to = rolls.and_then(|roll| roll.pin.or(roll.generation));
    let goes_back = rolls.and_then(|roll| Some(RolledBack { to: roll.pin?, since_ms: roll.id, installed: installed.number }));
    shown.rolled_back = goes_back.or(intent.rolled_back);
    shown.past = back::past(app, published, intent);
    let release = |generation| published.pin(generation).map(|pin| pin.release.clone());
    shown.release = intent.generation.and_then(release);
    shown.workers.iter_mut().for_each(|row| row.release = row.generation.and_then(release));
    let serves = match rolls_to.or(intent.generation) {
        Some(generation) if !fresh => revision(generation),
        _ => Some(installed.number),
    };
    let failed = match &shown.held {
        Some(held) => Some(held.generation),
        None if shown.state == AppState::Failed => highest,
        None => None,
    };
    // One that could not even be pinned, a missing directory say, is worth another try.
    let failed = failed.filter(|failed| Some(*failed) <= highest).and_then(|failed| published.revision(failed));
    shown.revisions = Revisions { installed: installed.number, serves, failed };
    let becomes = serves != Some(installed.number);
    let mut keys = serves.map(|serves| installed.since(serves)).unwrap_or_default();
    if intent.slots.is_none() && matches!(shown.state, AppState::Running | AppState::Degraded) && counts_differ(shown, intent) {
        keys.insert("workers".into());
    }
    shown.changed = (becomes || !keys.is_empty()).then_some(Changed { keys, becomes, on_disk: false });
}

/// Whether workers are missing that were never started, or run that nobody wants: those that crash are neither, nor those
/// that somebody stopped from outside.
fn counts_differ(shown: &App, intent: &AppIntent) -> bool {
    let (wanted, taken) = (intent.wanted(shown.configured), converge::taken(shown));
    let outside = |row: &Worker| shown.outside.iter().any(|one| one.uid == row.uid);
    let never = |row: &Worker| row.state == WorkerState::Offline && row.unit.is_none() && !outside(row);
    !taken.is_empty() && (shown.workers.iter().any(never) || !taken.is_subset(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::converge::tests::app as shown;
    use crate::api::types::Outside;
    use crate::intent::Hold;
    use crate::names::Slot;

    /// The fourth revision is that of 3, the first that of 0, and so on: `differs` as `install` would write it.
    fn installed(number: u64) -> settings::App {
        let differs = match number {
            0 => r#"{"1":["cwd"],"3":["command","env"]}"#,
            2 => r#"{"1":["command"]}"#,
            3 => r#"{"1":["command","env"],"2":["env"]}"#,
            _ => "{}",
        };
        let revision: settings::Revision = serde_json::from_str(&format!("{{\"number\":{number},\"differs\":{differs}}}")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, "[apps.api]\nworkers = 2\ncommand = \"/bin/true\"\n").unwrap();
        let loaded = crate::config::load(&path, &crate::config::SystemAccounts).unwrap();
        let app = loaded.settings.apps.into_values().next().unwrap();
        settings::App { revision, ..app }
    }

    fn compared(state: AppState, taken: &[u16], number: u64, intent: &AppIntent, fresh: bool) -> App {
        let mut app = shown(state, taken);
        app.held.clone_from(&intent.held);
        compare(&mut app, &installed(number), intent, &Published::parse("2 0\n3 1\n4 3\n"), fresh);
        app
    }

    #[test]
    fn what_is_installed_and_not_in_effect_is_told() {
        let keys = |app: &App| app.changed.as_ref().map(|changed| (changed.becomes, changed.keys.iter().cloned().collect::<Vec<_>>()));
        let of = |generation| AppIntent { generation: Some(Generation(generation)), ..AppIntent::default() };
        let (command, env) = ("command".to_owned(), "env".to_owned());
        let running = |number, intent: &AppIntent| compared(AppState::Running, &[1, 2], number, intent, false);
        assert_eq!(keys(&running(1, &of(3))), None);
        assert_eq!(keys(&running(2, &of(3))), Some((true, vec![command.clone()])));
        assert_eq!(keys(&running(3, &of(3))), Some((true, vec![command.clone(), env.clone()])));
        assert_eq!(keys(&running(3, &of(4))), None);
        // Changed back: to what serves, and to what served before.
        assert_eq!(keys(&running(0, &of(2))), None);
        assert_eq!(keys(&running(0, &of(4))), Some((true, vec![command.clone(), env.clone()])));
        assert_eq!(keys(&running(3, &of(2))), Some((true, vec![])), "of the first change nothing is remembered");
        assert_eq!(keys(&running(3, &of(5))), None, "what is not pinned yet will be pinned from this");
        assert_eq!(running(3, &AppIntent::default()).latest, Some(Generation(4)));
        // One that does not run, and whose next start takes it.
        assert_eq!(keys(&compared(AppState::Sleeping, &[], 3, &of(3), true)), None);
        // Another number, unless a person asked for it.
        let (two, three) = ([1, 2], [1, 2, 3]);
        let workers = Some((false, vec!["workers".to_owned()]));
        let app = compared(AppState::Running, &three, 1, &of(3), false);
        assert_eq!(keys(&app), workers);
        let asked = AppIntent { slots: Some(Slot::first(3).collect()), ..of(3) };
        assert_eq!(keys(&compared(AppState::Running, &three, 1, &asked, false)), None);
        let stopped = AppIntent { stopped: [Slot::new(2).unwrap()].into(), ..of(3) };
        assert_eq!(keys(&compared(AppState::Running, &two, 1, &stopped, false)), workers);
        assert_eq!(keys(&compared(AppState::Running, &[1], 1, &stopped, false)), None);
        let mut rows = shown(AppState::Degraded, &[1, 2]);
        let mut differs = |slot: usize, outside: bool| {
            (rows.workers[slot].state, rows.workers[slot].unit) = (WorkerState::Offline, None);
            rows.outside.extend(outside.then(|| Outside { uid: rows.workers[slot].uid.clone(), since_ms: 1 }));
            counts_differ(&rows, &of(3))
        };
        assert!(differs(0, false), "it was never started");
        assert!(!differs(0, true), "somebody stopped it");
        assert!(!differs(1, false), "nothing runs: that is no matter of a number");
        assert_eq!(keys(&compared(AppState::Starting, &three, 1, &of(3), false)), None, "not while the handle is at work");
    }

    #[test]
    fn the_same_again_is_told_from_another_try() {
        let held = |generation| AppIntent {
            generation: Some(Generation(3)),
            held: Some(Hold::new(1, "no", Generation(generation))),
            ..AppIntent::default()
        };
        let so = |state, number, intent: &AppIntent| compared(state, &[1, 2], number, intent, false).failed_so();
        assert!(so(AppState::Running, 3, &held(4)));
        assert!(!so(AppState::Running, 4, &held(4)));
        assert!(!so(AppState::Running, 3, &held(5)), "it could not even be pinned");
        assert!(!so(AppState::Running, 3, &AppIntent::default()));
        assert!(so(AppState::Failed, 3, &AppIntent::default()) && !so(AppState::Failed, 2, &AppIntent::default()));
    }
}
