//! The real systemd, over the system bus (the master) or PID 1's private socket (root's own steps).
//!
//! The only user of zbus. What it guards against, each seen in the field:
//! - signals are matched and `Subscribe` is called before any job is asked for; a job that ended before its waiter
//!   was there is remembered (systemd#36691, #22877);
//! - PID 1 can forget its subscribers, or lose a signal across a daemon-reload (systemd#27697, #8803): after every
//!   reload and reconnect it subscribes again and says [`Change::All`], and a waiting job is asked for every 2 s;
//! - the bus can hang instead of closing (systemd#42981): every call has a deadline, and behind one that ran out the bus
//!   itself is asked for a sign of life; without one the connection is given up and made anew.

mod jobs;
mod link;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use self::jobs::Jobs;
use self::link::{Door, MANAGER, ROOT, Way, raw_call};
use self::words::{active_state, unit_path};
use super::{ActiveState, Change, Details, Error, JobEnd, Systemd, UnitState, Verb};
use crate::journal::monotonic_us_now;
use crate::place::Place;
use crate::points::pass;
use crate::worker::paths::Paths;

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// D-Bus's own habit for a method call (`sd_bus_set_method_call_timeout(3)`).
const CALL: Duration = Duration::from_secs(25);
/// Calls without an answer at once; more of them wait for their turn. The bus bears 128 of a connection
/// (`max_replies_per_connection`) and refuses the next, whatever it is for; the dispatcher has some of its own.
const UNDER_WAY: usize = 100;
/// How often a waiting job is asked for beside its signal, because a signal can be lost.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Questions at once whether all is told; more of them wait.
const FENCES: usize = 16;
/// Changes a slow reader may lag behind before it is told `All`.
const CHANGES: usize = 1024;

/// A connection to systemd that comes back when it is lost.
#[derive(Debug, Clone)]
pub struct Bus {
    door: Door,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: watch::Receiver<Option<Connection>>,
    changes: broadcast::Sender<Change>,
    jobs: Mutex<Jobs>,
    calls: Semaphore,
    /// A call ran out of time: perhaps the bus hangs.
    suspect: Arc<Notify>,
    /// To the dispatcher: answer once all that is queued for you is told.
    fence: mpsc::Sender<oneshot::Sender<()>>,
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
        Self::open(Door { way: Way::System, call: CALL }).await
    }

    /// Over the bus at this D-Bus address (`unix:path=...`), that of a container's systemd, say; each call ends within
    /// `limit`.
    ///
    /// # Errors
    /// When no connection can be made at all within `limit`.
    pub async fn at(address: &str, limit: Duration) -> Result<Self, Error> {
        Self::open(Door { way: Way::Address(address.to_owned()), call: limit }).await
    }

    /// The way of a master in this place: the system bus, or the user's systemd itself, which needs no bus.
    ///
    /// # Errors
    /// As [`Bus::system`].
    pub async fn of(place: &Place) -> Result<Self, Error> {
        if place.is_user() { Self::private(&place.paths).await } else { Self::system().await }
    }

    /// Over systemd's own socket, `/run/systemd/private`, root's only, or that of a user's systemd: works with D-Bus and polkit
    /// dead.
    ///
    /// # Errors
    /// As [`Bus::system`].
    pub async fn private(paths: &Paths) -> Result<Self, Error> {
        Self::open(Door { way: Way::Private(paths.manager_socket()), call: CALL }).await
    }

    async fn open(door: Door) -> Result<Self, Error> {
        let (connection, stream) = link::connect(&door).await?;
        let (sender, receiver) = watch::channel(Some(connection));
        let (changes, _) = broadcast::channel(CHANGES);
        let (fence, fences) = mpsc::channel(FENCES);
        let shared = Arc::new(Shared {
            connection: receiver,
            changes,
            jobs: Mutex::default(),
            calls: Semaphore::new(UNDER_WAY),
            suspect: Arc::default(),
            fence,
        });
        tokio::spawn(link::dispatch(door.clone(), stream, fences, sender, Arc::downgrade(&shared)));
        Ok(Self { door, shared })
    }

    /// Waits for a connection (it may be coming back) and calls a method.
    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B, what: &str) -> Result<R, Error>
    where
        B: serde::Serialize + zbus::DynamicType + Sync,
        R: DeserializeOwned + zbus::Type,
    {
        let limit = self.door.call;
        let call = async {
            let _turn = self.shared.calls.acquire().await.map_err(|_| self.door.unreachable(&"the connection was given up"))?;
            let mut connection = self.shared.connection.clone();
            let connection = connection
                .wait_for(Option::is_some)
                .await
                .map_err(|_| self.door.unreachable(&"the connection was given up"))?
                .clone()
                .ok_or_else(|| self.door.unreachable(&"no connection"))?;
            let reply =
                raw_call(&self.door.way, &connection, path, interface, method, body).await.map_err(|why| self.door.told(what, why))?;
            reply.body().deserialize::<R>().map_err(|why| self.door.told(what, why))
        };
        timeout(limit, call).await.map_err(|_| {
            self.shared.suspect.notify_one();
            self.door.silent(what)
        })?
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

    /// How a job ended that went away without its signal reaching us, by what its unit tells; nothing as long as it is there.
    /// `asked` is when it was asked for.
    async fn gone(&self, job: &OwnedObjectPath, verb: Verb, unit: &str, asked: u64) -> Option<JobEnd> {
        let id: u32 = job.as_str().rsplit('/').next()?.parse().ok()?;
        let what = format!("{verb} {unit}");
        let there: Result<OwnedObjectPath, Error> = self.call(ROOT, MANAGER, "GetJob", &(id,), &what).await;
        match there {
            Err(Error::Refused { why, .. }) if why.contains("NoSuchJob") => {}
            _ => return None,
        }
        let state = self.units(&[unit.to_owned()]).await.ok()?;
        let path = unit_path(unit);
        let down = self.property(&path, UNIT, "InactiveEnterTimestampMonotonic").await.ok()?;
        let restarts = match self.property(&path, SERVICE, "NRestarts").await {
            Ok(restarts) => u32::try_from(restarts).unwrap_or(0),
            // Other units than services are never restarted by themselves.
            Err(Error::Refused { .. }) => 0,
            Err(_) => return None,
        };
        let active = state.first().map_or(ActiveState::Inactive, |unit| unit.active);
        Some(words::unheard(verb, active, u64::try_from(down).unwrap_or(0) >= asked, restarts))
    }
}

impl Systemd for Bus {
    async fn units(&self, patterns: &[String]) -> Result<Vec<UnitState>, Error> {
        type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let none: Vec<String> = Vec::new();
        let rows: Vec<Row> = self.call(ROOT, MANAGER, "ListUnitsByPatterns", &(none, patterns), "list units").await?;
        Ok(rows
            .into_iter()
            .map(|row| UnitState {
                active: active_state(&row.3),
                name: row.0,
                sub: row.4,
                job: (row.7 != 0).then_some(row.8),
                masked: row.2 == "masked",
                gone: row.2 == "not-found",
            })
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
        let (method, mode) = match verb {
            Verb::Start => ("StartUnit", "replace"),
            Verb::Stop => ("StopUnit", "replace"),
            Verb::Restart => ("RestartUnit", "replace"),
            Verb::Reload => ("ReloadUnit", "fail"),
        };
        let what = format!("{verb} {unit}");
        let end = Instant::now() + limit;
        pass(format_args!("{what} is to be asked for"));
        let moment = monotonic_us_now();
        let asked: Result<OwnedObjectPath, Error> = self.call(ROOT, MANAGER, method, &(unit, mode), &what).await;
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
            if let Ok(Some(end)) = timeout_at(end, self.gone(&job, verb, unit, moment)).await {
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

    /// PID 1 tells of all changes before it takes its next message, and the bus keeps the order of what one sender sends: its
    /// answer comes behind the signals of before the question. The question is `Subscribe`: should PID 1 have forgotten that we
    /// listen, it answers otherwise, and all is to be read again.
    async fn settle(&self) -> Result<(), Error> {
        let asked: Result<(), Error> = self.call(ROOT, MANAGER, "Subscribe", &(), "hear what changes").await;
        match asked {
            // Who is not on a bus is subscribed by being connected, and is never told otherwise.
            Ok(()) if self.door.way.is_private() => {}
            Ok(()) => link::tell(&self.shared, Change::All),
            Err(Error::Refused { why, .. }) if why.contains("AlreadySubscribed") => {}
            Err(why) => return Err(why),
        }
        // What came before the answer is queued for the dispatcher: it answers when it has got through that.
        let (tell, told) = oneshot::channel();
        let sent = self.shared.fence.send(tell).await;
        let told = async { sent.is_ok() && told.await.is_ok() };
        match timeout(self.door.call, told).await {
            Ok(true) => Ok(()),
            _ => Err(self.door.silent("hear what changes")),
        }
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }
}

fn text(value: OwnedVariant) -> String {
    String::try_from(value).unwrap_or_default()
}
