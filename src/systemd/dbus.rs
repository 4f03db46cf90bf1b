//! The real systemd, over the system bus (the master) or PID 1's private socket (root's own steps).
//!
//! The only user of zbus. What it guards against, each seen in the field:
//! - signals are matched and `Subscribe` is called before any job is asked for; a job that ended before its waiter
//!   was there is remembered (systemd#36691, #22877);
//! - PID 1 can forget its subscribers, or lose a signal across a daemon-reload (systemd#27697, #8803): after every
//!   reload and reconnect it subscribes again and says [`Change::All`], and a waiting job is asked for every 2 s;
//! - the bus can hang instead of closing (systemd#42981): every call has a deadline.

mod jobs;
mod words;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, future};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout};
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use self::jobs::Jobs;
use self::words::{UNITS, active_state, job_end, unit_path, unlabel};
use super::private::Private;
use super::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb};
use crate::points::pass;

const NAME: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// D-Bus's own habit for a method call (`sd_bus_set_method_call_timeout(3)`).
const CALL: Duration = Duration::from_secs(25);
/// How often a waiting job is asked for beside its signal, because a signal can be lost.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Changes a slow reader may lag behind before it is told `All`.
const CHANGES: usize = 1024;
/// Messages queued for the dispatcher; zbus stops reading the socket beyond it.
const QUEUED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// By which way systemd is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    System,
    Private,
}

/// A connection to systemd that comes back when it is lost.
#[derive(Debug, Clone)]
pub struct Bus {
    way: Way,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: watch::Receiver<Option<Connection>>,
    changes: broadcast::Sender<Change>,
    jobs: Mutex<Jobs>,
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // Nothing under this lock can panic half way through a change.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// Over the system bus; polkit decides what an unprivileged caller may do.
    ///
    /// # Errors
    /// When no connection can be made at all within 25 s. Later losses are mended by themselves.
    pub async fn system() -> Result<Self, Error> {
        Self::open(Way::System).await
    }

    /// Over `/run/systemd/private`: root only, works with D-Bus and polkit dead.
    ///
    /// # Errors
    /// As [`Bus::system`].
    pub async fn private() -> Result<Self, Error> {
        Self::open(Way::Private).await
    }

    async fn open(way: Way) -> Result<Self, Error> {
        let (connection, stream) = connect(way).await?;
        let (sender, receiver) = watch::channel(Some(connection));
        let (changes, _) = broadcast::channel(CHANGES);
        let shared = Arc::new(Shared { connection: receiver, changes, jobs: Mutex::default() });
        tokio::spawn(dispatch(way, stream, sender, Arc::downgrade(&shared)));
        Ok(Self { way, shared })
    }

    /// Waits for a connection (it may be coming back) and calls a method.
    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B, what: &str) -> Result<R, Error>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
        R: DeserializeOwned + zbus::Type,
    {
        let deadline = || Error::Deadline { what: what.to_owned(), limit: CALL };
        let call = async {
            let mut connection = self.shared.connection.clone();
            let connection = connection
                .wait_for(Option::is_some)
                .await
                .map_err(|_| Error::Unreachable("the connection was given up".into()))?
                .clone()
                .ok_or_else(|| Error::Unreachable("no connection".into()))?;
            let reply = raw_call(self.way, &connection, path, interface, method, body).await.map_err(|why| refused(what, &why))?;
            reply.body().deserialize::<R>().map_err(|why| refused(what, &why))
        };
        timeout(CALL, call).await.map_err(|_| deadline())?
    }

    async fn property(&self, path: &str, interface: &str, name: &str) -> Result<OwnedVariant, Error> {
        self.call(path, PROPERTIES, "Get", &(interface, name), &format!("read {name}")).await
    }

    /// `SystemState` of the manager: `running`, `degraded`, `stopping`, ...
    ///
    /// # Errors
    /// When systemd cannot be reached.
    pub async fn system_state(&self) -> Result<String, Error> {
        Ok(text(self.property(ROOT, MANAGER, "SystemState").await?))
    }

    /// Type of the job that waits or runs for a unit: how a stop step learns why it runs.
    ///
    /// # Errors
    /// When systemd cannot be reached.
    pub async fn job_type(&self, unit: &str) -> Result<Option<String>, Error> {
        let job: OwnedVariant = self.property(&unit_path(unit), UNIT, "Job").await?;
        let Ok((id, path)) = <(u32, OwnedObjectPath)>::try_from(job) else { return Ok(None) };
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(text(self.property(path.as_str(), "org.freedesktop.systemd1.Job", "JobType").await?)))
    }

    /// The sockets that trigger a unit, as loaded.
    ///
    /// # Errors
    /// When systemd cannot be reached.
    pub async fn triggered_by(&self, unit: &str) -> Result<Vec<String>, Error> {
        Ok(Vec::try_from(self.property(&unit_path(unit), UNIT, "TriggeredBy").await?).unwrap_or_default())
    }

    /// daemon-reload.
    ///
    /// # Errors
    /// When systemd refuses or cannot be reached.
    pub async fn reload(&self) -> Result<(), Error> {
        self.call(ROOT, MANAGER, "Reload", &(), "reload its unit files").await
    }

    /// Sends a signal to the main process of a service; one that does not run is no error.
    ///
    /// # Errors
    /// When systemd refuses or cannot be reached.
    pub async fn kill_main(&self, unit: &str, signal: i32) -> Result<(), Error> {
        match self.call(ROOT, MANAGER, "KillUnit", &(unit, "main", signal), &format!("signal {unit}")).await {
            Err(Error::Refused { why, .. })
                if why.contains("NoSuchUnit") || why.contains("NoSuchProcess") || why.contains("no main process") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// `systemctl enable`, or `disable`. Like systemctl it reloads when a link was made or removed: systemd 257 says of
    /// every unit that it needs one until then.
    ///
    /// # Errors
    /// When systemd refuses or cannot be reached.
    pub async fn enable(&self, unit: &str, on: bool) -> Result<(), Error> {
        type Links = Vec<(String, String, String)>;
        let links: Links = if on {
            let what = format!("enable {unit}");
            let done: (bool, Links) = self.call(ROOT, MANAGER, "EnableUnitFiles", &(vec![unit], false, false), &what).await?;
            done.1
        } else {
            self.call(ROOT, MANAGER, "DisableUnitFiles", &(vec![unit], false), &format!("disable {unit}")).await?
        };
        if links.is_empty() { Ok(()) } else { self.reload().await }
    }

    /// Whether the job went away without its signal reaching us; then the unit's state tells how it ended.
    async fn gone(&self, job: &OwnedObjectPath, verb: Verb, unit: &str) -> Option<JobEnd> {
        let id: u32 = job.as_str().rsplit('/').next()?.parse().ok()?;
        let what = format!("{verb} {unit}");
        let asked: Result<OwnedObjectPath, Error> = self.call(ROOT, MANAGER, "GetJob", &(id,), &what).await;
        match asked {
            Err(Error::Refused { why, .. }) if why.contains("NoSuchJob") => {}
            _ => return None,
        }
        let state = self.units(&[unit.to_owned()]).await.ok()?;
        let state = state.first().map_or(ActiveState::Inactive, |unit| unit.active);
        let reached = match verb {
            Verb::Start | Verb::Restart => matches!(state, ActiveState::Active | ActiveState::Reloading),
            Verb::Stop => matches!(state, ActiveState::Inactive | ActiveState::Failed),
        };
        Some(if reached { JobEnd::Done } else { JobEnd::Failed })
    }
}

impl Systemd for Bus {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let none: Vec<String> = Vec::new();
        let rows: Vec<Row> = self.call(ROOT, MANAGER, "ListUnitsByPatterns", &(none, patterns), "list units").await?;
        Ok(rows
            .into_iter()
            .map(|row| UnitState { active: active_state(&row.3), name: row.0, sub: row.4, job: (row.7 != 0).then_some(row.8) })
            .collect())
    }

    async fn details(&self, unit: &str) -> Result<Details, Error> {
        let path = unit_path(unit);
        let get = |interface, name| self.property(&path, interface, name);
        let (service, unit) = future::try_join(
            future::try_join_all(
                ["MainPID", "NRestarts", "ControlGroup", "Result", "ExecMainStatus", "ExecMainCode"].map(|name| get(SERVICE, name)),
            ),
            future::try_join(get(UNIT, "ActiveEnterTimestampMonotonic"), get(UNIT, "InactiveExitTimestampMonotonic")),
        )
        .await?;
        let Ok([pid, restarts, group, result, status, code]) = <[OwnedVariant; 6]>::try_from(service) else {
            return Err(Error::Refused { what: format!("read {unit}", unit = &path), why: "it answered less than was asked".into() });
        };
        // ExecMainCode is siginfo's si_code: CLD_KILLED 2, CLD_DUMPED 3 (waitid(2)).
        let code = i32::try_from(code).unwrap_or(0);
        Ok(Details {
            main_pid: u32::try_from(pid).ok().filter(|pid| *pid != 0),
            restarts: u32::try_from(restarts).unwrap_or(0),
            active_since_us: u64::try_from(unit.0).unwrap_or(0),
            begun_us: u64::try_from(unit.1).unwrap_or(0),
            control_group: text(group),
            result: text(result),
            exit_status: i32::try_from(status).unwrap_or(0),
            by_signal: code == 2 || code == 3,
        })
    }

    async fn active_since(&self, unit: &str) -> Result<u64, Error> {
        Ok(u64::try_from(self.property(&unit_path(unit), UNIT, "ActiveEnterTimestampMonotonic").await?).unwrap_or(0))
    }

    async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<JobEnd, Error> {
        let method = match verb {
            Verb::Start => "StartUnit",
            Verb::Stop => "StopUnit",
            Verb::Restart => "RestartUnit",
        };
        let what = format!("{verb} {unit}");
        let end = Instant::now() + limit;
        pass(format_args!("{what} is to be asked for"));
        let asked: Result<OwnedObjectPath, Error> = self.call(ROOT, MANAGER, method, &(unit, "replace"), &what).await;
        pass(format_args!("{what} is asked for"));
        let job = match asked {
            // Nothing to stop: what was asked for is so.
            Err(Error::Refused { why, .. }) if verb == Verb::Stop && why.contains("NoSuchUnit") => return Ok(JobEnd::Done),
            other => other?,
        };
        let mut ended = self.shared.jobs().wait(job.as_str());
        let end = loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(Error::Deadline { what, limit });
            }
            if let Ok(Ok(end)) = timeout(left.min(ASK_AGAIN), &mut ended).await {
                pass(format_args!("{what} has ended"));
                return Ok(end);
            }
            // The signal is late, or lost: ask.
            if let Some(end) = self.gone(&job, verb, unit).await {
                break Ok(end);
            }
        };
        drop(ended);
        self.shared.jobs().forget(job.as_str());
        end
    }

    async fn reset_failed(&self, unit: &str) -> Result<(), Error> {
        match self.call(ROOT, MANAGER, "ResetFailedUnit", &(unit,), &format!("reset {unit}")).await {
            Err(Error::Refused { why, .. }) if why.contains("NoSuchUnit") => Ok(()),
            other => other,
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

async fn raw_call<B>(way: Way, connection: &Connection, path: &str, interface: &str, method: &str, body: &B) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    // Without a bus there is no destination.
    let destination = (way == Way::System).then_some(NAME);
    connection.call_method(destination, path, Some(interface), method, body).await
}

async fn connect(way: Way) -> Result<(Connection, MessageStream), Error> {
    let unreachable = |why: &dyn std::fmt::Display| Error::Unreachable(why.to_string());
    let connecting = async {
        let builder = match way {
            Way::System => Builder::system(),
            Way::Private => Builder::socket(Private::connect().await.map_err(|why| unreachable(&why))?).p2p(),
        };
        let connection = builder.method_timeout(CALL).build().await.map_err(|why| unreachable(&why))?;
        let rule = MatchRule::builder().msg_type(Type::Signal).path_namespace(ROOT);
        // The bus checks the sender; PID 1's own socket has no senders.
        let rule = match way {
            Way::System => rule.sender(NAME),
            Way::Private => rule,
        };
        let stream = MessageStream::for_match_rule(rule.build().map_err(|why| unreachable(&why))?, &connection, Some(QUEUED))
            .await
            .map_err(|why| unreachable(&why))?;
        subscribe(way, &connection).await.map_err(|why| unreachable(&why))?;
        Ok((connection, stream))
    };
    timeout(CALL, connecting).await.map_err(|_| Error::Deadline { what: "connecting to systemd".into(), limit: CALL })?
}

async fn subscribe(way: Way, connection: &Connection) -> zbus::Result<()> {
    match raw_call(way, connection, ROOT, MANAGER, "Subscribe", &()).await {
        // AlreadySubscribed is what we want (cockpit#18005).
        Err(zbus::Error::MethodError(name, _, _)) if name.as_str().ends_with("AlreadySubscribed") => Ok(()),
        other => other.map(drop),
    }
}

/// Reads signals for as long as somebody holds the [`Bus`]; connects again when the connection is lost.
async fn dispatch(way: Way, mut stream: MessageStream, connection: watch::Sender<Option<Connection>>, shared: std::sync::Weak<Shared>) {
    loop {
        while let Some(Ok(message)) = stream.next().await {
            let Some(shared) = shared.upgrade() else { return };
            let header = message.header();
            let (Some(member), Some(path)) = (header.member(), header.path()) else { continue };
            match member.as_str() {
                "JobRemoved" => {
                    if let Ok((_, job, unit, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>() {
                        shared.jobs().end(job.as_str().to_owned(), job_end(&result));
                        tell(&shared, Change::Unit(unit));
                    }
                }
                "UnitNew" | "UnitRemoved" => {
                    if let Ok((unit, _)) = message.body().deserialize::<(String, OwnedObjectPath)>() {
                        tell(&shared, Change::Unit(unit));
                    }
                }
                "PropertiesChanged" => {
                    if let Some(unit) = path.as_str().strip_prefix(UNITS).and_then(unlabel) {
                        tell(&shared, Change::Unit(unit));
                    }
                }
                // Reloading(false): a reload ended, and PID 1 may have forgotten us.
                "Reloading" if message.body().deserialize::<bool>() == Ok(false) => {
                    let current = connection.borrow().clone();
                    if let Some(current) = current {
                        // When it fails the connection is broken, and the loop above ends soon.
                        let _ = timeout(CALL, subscribe(way, &current)).await;
                    }
                    tell(&shared, Change::All);
                }
                _ => {}
            }
        }
        connection.send_replace(None);
        let mut pause = Duration::from_millis(50);
        stream = loop {
            if shared.strong_count() == 0 {
                return;
            }
            if let Ok((fresh, stream)) = connect(way).await {
                connection.send_replace(Some(fresh));
                break stream;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        };
        let Some(shared) = shared.upgrade() else { return };
        tell(&shared, Change::All);
    }
}

fn tell(shared: &Shared, change: Change) {
    // Without a reader there is nobody to tell.
    let _ = shared.changes.send(change);
}

fn refused(what: &str, why: &zbus::Error) -> Error {
    match why {
        zbus::Error::InputOutput(why) => Error::Unreachable(why.to_string()),
        zbus::Error::MethodError(name, text, _) => {
            Error::Refused { what: what.to_owned(), why: format!("{} ({name})", text.as_deref().unwrap_or("no reason given")) }
        }
        other => Error::Refused { what: what.to_owned(), why: other.to_string() },
    }
}

fn text(value: OwnedVariant) -> String {
    String::try_from(value).unwrap_or_default()
}
