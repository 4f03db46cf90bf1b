//! What a person asks of a whole app: `start`, `stop`, `sleep`. By way of its handle, so that `systemctl status` of it
//! always tells the truth.

use std::sync::Arc;
use std::time::Duration;

use super::memory::Source;
use super::{LINES, Master, lock, under_way, watch};
use crate::api::error::{Code, Refusal};
use crate::api::types::{AppState, Done};
use crate::config::settings;
use crate::intent::Change;
use crate::journal;
use crate::names::{AppName, AppUnits, anew};
use crate::roll::order::Order;
use crate::systemd::{self, ActiveState, JobEnd, Systemd, Verb, stop};

/// PID 1 on a machine under load, beside what a step takes by itself.
const SLACK: Duration = Duration::from_secs(45);

/// A worker that lives or comes back, and is not on its way down.
pub(super) fn stands(state: ActiveState) -> bool {
    matches!(state, ActiveState::Active | ActiveState::Reloading | ActiveState::Activating)
}

fn socket_down(units: &AppUnits<'_>) -> String {
    format!(
        "{0}: a socket of it is down while its workers run, so a new worker could not be reached. Mend it: `{1}`",
        units.app,
        anew(&units.handle())
    )
}

impl<S: Systemd> Master<S> {
    /// `start` of an app: all its workers, those too that a person stopped one by one. By way of its handle; where that is
    /// active already, what does not run is started beside what does.
    ///
    /// # Errors
    /// When no worker gets ready, with the app's own last lines.
    pub async fn start(self: &Arc<Self>, name: &AppName) -> Result<Done, Refusal> {
        self.renew_settings();
        self.look().await?;
        let settings = self.settings();
        self.reachable(&AppUnits::new(&settings.name, name), Self::app_settings(&settings, name)?)?;
        self.remember_change(name, &Change::Start(None), Source::Asked)?;
        self.start_wanted(name).await
    }

    /// Starts what is wanted and does not run.
    pub(super) async fn start_wanted(self: &Arc<Self>, name: &AppName) -> Result<Done, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        let wanted = self.wanted(name, app);
        if wanted.is_empty() {
            let why = format!("{name} has 0 workers, so there is nothing to start. `project-cluster add {name}` gives it one");
            return Err(Refusal::new(Code::Conflict, why));
        }
        match self.reachable(&units, app)? {
            (true, true) => return self.converge(name, Order::default()).await,
            // It was started when no worker was wanted, and its port is closed: for systemd there is nothing to start.
            (true, false) => self.handle_job(Verb::Stop, &units, app.kill_limit() * 2 + SLACK).await?,
            (false, _) => {}
        }
        self.handle_job(Verb::Start, &units, app.timeout.start * 3 + app.kill_limit() * 2 + SLACK).await?;
        let (ready, target) = (lock(&self.world).ready(&units), wanted.len());
        Ok(Done::new(name, format!("{ready} of {target} ready")))
    }

    /// Whether its handle is active, and whether its sockets listen.
    ///
    /// # Errors
    /// When they do not while workers run: no worker could be started beside those.
    pub(super) fn reachable(&self, units: &AppUnits<'_>, app: &settings::App) -> Result<(bool, bool), Refusal> {
        match self.stance(units, app) {
            (true, false, true) => Err(Refusal::new(Code::Conflict, socket_down(units))),
            (active, listens, _) => Ok((active, listens)),
        }
    }

    /// Whether its handle is active, whether its sockets listen, and whether a worker stands.
    pub(super) fn stance(&self, units: &AppUnits<'_>, app: &settings::App) -> (bool, bool, bool) {
        let world = lock(&self.world);
        let active = matches!(world.active(&units.handle()), ActiveState::Active | ActiveState::Reloading);
        let listens = app.listen.iter().all(|listen| world.active(&units.socket(&listen.address)) == ActiveState::Active);
        (active, listens, world.workers(units).iter().any(|(_, seen)| stands(seen.state.active)))
    }

    /// `stop` of an app: its handle's stop, and then what that has left: the sockets of an app that is asleep, which has no
    /// handle to stop, and the workers of one whose handle is masked or failed, for which systemd runs no stop step.
    ///
    /// # Errors
    /// When systemd cannot do it, or something of it still runs.
    pub async fn stop(&self, name: &AppName) -> Result<Done, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let units = AppUnits::new(&settings.name, name);
        let limit = app.kill_limit() * 2 + SLACK;
        // One that failed to start and of which nothing is left stays so marked; a stop that failed is mended by this.
        let held = lock(&self.world).active(&units.handle()) == ActiveState::Failed && self.left(&units, app).is_empty();
        self.handle_job(Verb::Stop, &units, limit).await?;
        let left = self.left(&units, app);
        if !left.is_empty() {
            let (workers, sockets): (Vec<String>, Vec<String>) = left.into_iter().partition(|unit| units.instance(unit).is_some());
            // The trigger last: while a socket listens, traffic starts it again.
            let closes = async {
                let closed = stop::all(&*self.systemd, &sockets, limit).await?;
                Ok::<_, systemd::Error>((closed, stop::all(&*self.systemd, &[units.trigger()], SLACK).await?))
            };
            let (closed, stopped) = stop::sockets_first(closes, stop::all(&*self.systemd, &workers, limit)).await;
            self.refresh(&watch::Dirty::All).await;
            closed?;
            stopped?;
        }
        let left = self.left(&units, app);
        if !left.is_empty() {
            let why = format!("{name} is not stopped, these still run: {}. `systemctl list-jobs` says what is in the way", left.join(", "));
            return Err(Refusal::new(Code::Failed, why));
        }
        if !held {
            self.systemd.reset_failed(&units.handle()).await?;
        }
        Ok(Done::new(name, "stopped"))
    }

    /// The app's sockets and workers that systemd does not call inactive.
    pub(super) fn left(&self, units: &AppUnits<'_>, app: &settings::App) -> Vec<String> {
        let world = lock(&self.world);
        let sockets = app.listen.iter().map(|listen| units.socket(&listen.address));
        let workers = world.workers(units).into_iter().map(|(_, seen)| seen.state.name.clone());
        sockets.chain(workers).filter(|unit| !matches!(world.active(unit), ActiveState::Inactive | ActiveState::Failed)).collect()
    }

    /// `sleep` of an on-demand app: the workers stop, the sockets stay and wake it.
    ///
    /// # Errors
    /// When the app is not `on_demand`, does not run, or systemd cannot do it.
    pub async fn sleep(&self, name: &AppName) -> Result<Done, Refusal> {
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let conflict = |why: String| Refusal::new(Code::Conflict, why);
        if !app.on_demand {
            return Err(conflict(format!(
                "{name} is not on_demand, so nothing would wake it: write `on_demand = true`, then `project-cluster install`; or `project-cluster stop {name}`"
            )));
        }
        let units = AppUnits::new(&settings.name, name);
        match self.app(name)?.state {
            AppState::Sleeping => return Ok(Done::new(name, "is asleep already")),
            AppState::Stopped | AppState::Failed | AppState::Stopping => {
                return Err(conflict(format!(
                    "{name} does not run and its port is closed, so no connection could wake it. Start it first: `project-cluster start {name}`"
                )));
            }
            AppState::Running | AppState::Degraded | AppState::Starting | AppState::Rolling => {}
        }
        // The stop step consumes it.
        let mark = self.places.sleep(name);
        crate::files::replace(&mark, b"", 0o600)
            .map_err(|why| Refusal::new(Code::Failed, format!("the mark {} cannot be written: {why}", mark.display())))?;
        let ended = self.handle_job(Verb::Stop, &units, app.kill_limit() * 2 + SLACK).await;
        // Left where no stop step ran; the next stop would leave the port open.
        let _ = std::fs::remove_file(&mark);
        ended?;
        let awake: Vec<String> = self.left(&units, app).into_iter().filter(|unit| units.instance(unit).is_some()).collect();
        if !awake.is_empty() {
            let why = format!("{name} is not asleep, these still run: {}. `project-cluster stop {name}` stops them", awake.join(", "));
            return Err(Refusal::new(Code::Failed, why));
        }
        Ok(Done::new(name, "asleep; the next connection starts it"))
    }

    async fn handle_job(&self, verb: Verb, units: &AppUnits<'_>, limit: Duration) -> Result<(), Refusal> {
        let handle = units.handle();
        let begun = journal::monotonic_us_now();
        under_way::tell();
        let end = self.systemd.job(verb, &handle, limit).await?;
        self.refresh(&watch::Dirty::All).await;
        if end == JobEnd::Done {
            return Ok(());
        }
        let mut text = match end {
            JobEnd::Canceled => format!("the {verb} of {handle} was cancelled by another job (`systemctl list-jobs`)"),
            JobEnd::Timeout => format!("the {verb} of {handle} took too long"),
            _ => format!("the {verb} of {handle} failed"),
        };
        for line in self.journal.last_lines(&handle, begun, LINES).await {
            text.push_str(&format!("\n{line}"));
        }
        Err(Refusal::new(Code::Failed, text))
    }
}
