//! The link: a connection, what is heard over it, and another one when it is lost or given up.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, DBusError, MatchRule, Message, MessageStream, OwnedObjectPath};

use super::super::private::Private;
use super::super::{Change, Error, refusal};
use super::Shared;
use super::words::{UNITS, job_end, unlabel};

pub(super) const ROOT: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const NAME: &str = "org.freedesktop.systemd1";

/// Messages queued for the dispatcher; zbus stops reading the socket beyond it.
const QUEUED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// By which way systemd is reached, and how long a call may take.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub way: Way,
    pub call: Duration,
}

impl Door {
    /// Nothing is known of what was asked.
    pub fn unreachable(&self, why: &dyn fmt::Display) -> Error {
        let advice = if self.way.is_private() { "" } else { "; `systemctl status dbus`" };
        Error::Unreachable(format!("{why}{advice}"))
    }

    /// No answer in time, which says nothing of what was asked for either: it may have arrived.
    pub fn silent(&self, what: &str) -> Error {
        self.unreachable(&format_args!("no answer to `{what}` within {:?}", self.call))
    }

    /// Why a call did not work.
    pub fn told(&self, what: &str, why: zbus::Error) -> Error {
        let (name, text) = match &why {
            zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone()),
            // Those that D-Bus itself defines.
            zbus::Error::FDO(error) => (error.name().to_string(), error.description().map(str::to_owned)),
            other => return self.unreachable(other),
        };
        if refusal::is_of_the_bus(&name) {
            return self.unreachable(&why);
        }
        Error::Refused { what: what.to_owned(), why: refusal::told(&name, text.as_deref().unwrap_or("no reason given")) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The machine's system bus.
    System,
    /// A bus at this address.
    Address(String),
    /// systemd's own socket.
    Private(PathBuf),
}

impl Way {
    /// Whether systemd itself is at the other end, and no bus.
    pub fn is_private(&self) -> bool {
        matches!(self, Self::Private(_))
    }
}

pub(super) async fn raw_call<B>(
    way: &Way,
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> zbus::Result<Message>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    // Without a bus there is no destination.
    let destination = (!way.is_private()).then_some(NAME);
    connection.call_method(destination, path, Some(interface), method, body).await
}

pub(super) async fn connect(door: &Door) -> Result<(Connection, MessageStream), Error> {
    let unreachable = |why: &dyn fmt::Display| door.unreachable(why);
    let connecting = async {
        let builder = match &door.way {
            Way::System => Builder::system(),
            Way::Address(address) => Builder::address(address.as_str()),
            Way::Private(path) => Builder::socket(Private::connect(path).await.map_err(|why| unreachable(&why))?).p2p(),
        };
        // Only where no shorter one of ours is about the call.
        let connection = builder.method_timeout(2 * door.call).build().await.map_err(|why| unreachable(&why))?;
        let rule = MatchRule::builder().msg_type(Type::Signal).path_namespace(ROOT);
        // The bus checks the sender; PID 1's own socket has no senders.
        let rule = if door.way.is_private() { rule } else { rule.sender(NAME) };
        let stream = MessageStream::for_match_rule(rule.build().map_err(|why| unreachable(&why))?, &connection, Some(QUEUED))
            .await
            .map_err(|why| unreachable(&why))?;
        subscribe(&door.way, &connection).await.map_err(|why| unreachable(&why))?;
        Ok((connection, stream))
    };
    timeout(door.call, connecting).await.map_err(|_| door.silent("connect"))?
}

async fn subscribe(way: &Way, connection: &Connection) -> zbus::Result<()> {
    match raw_call(way, connection, ROOT, MANAGER, "Subscribe", &()).await {
        // AlreadySubscribed is what we want (cockpit#18005).
        Err(zbus::Error::MethodError(name, _, _)) if name.as_str().ends_with("AlreadySubscribed") => Ok(()),
        other => other.map(drop),
    }
}

/// Whether the bus itself still answers.
async fn is_alive(door: &Door, connection: &Connection) -> bool {
    let ping =
        connection.call_method(Some("org.freedesktop.DBus"), "/org/freedesktop/DBus", Some("org.freedesktop.DBus.Peer"), "Ping", &());
    // PID 1's own socket has nobody but PID 1 behind it, whose silence the deadlines tell.
    door.way.is_private() || matches!(timeout(door.call, ping).await, Ok(Ok(_)))
}

/// Reads signals for as long as somebody holds the bus; connects again when the connection is lost or given up.
///
/// A fence is answered when no message is left in front of it; one that comes while there is no connection waits for the next.
pub(super) async fn dispatch(
    door: Door,
    mut stream: MessageStream,
    mut fences: mpsc::Receiver<oneshot::Sender<()>>,
    connection: watch::Sender<Option<Connection>>,
    shared: Weak<Shared>,
) {
    let Some(suspect) = shared.upgrade().map(|shared| Arc::clone(&shared.suspect)) else { return };
    loop {
        let Some(current) = connection.borrow().clone() else { return };
        loop {
            let message = tokio::select! {
                biased;
                message = stream.next() => message,
                Some(fence) = fences.recv() => {
                    // Who asked may have gone.
                    let _ = fence.send(());
                    continue;
                }
                () = suspect.notified() => if is_alive(&door, &current).await { continue } else { None },
            };
            let Some(Ok(message)) = message else { break };
            let Some(held) = shared.upgrade() else { return };
            heed(&door, &message, &current, &held);
        }
        connection.send_replace(None);
        // It must not linger: a bus that hangs keeps what is queued for it.
        drop(current);
        let mut pause = Duration::from_millis(50);
        stream = loop {
            if shared.strong_count() == 0 {
                return;
            }
            if let Ok((fresh, stream)) = connect(&door).await {
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

/// One signal. daemon-reload sends `UnitRemoved` and `UnitNew` of units that live on (systemd#376): both mean "read it
/// again", never that it is gone.
fn heed(door: &Door, message: &Message, connection: &Connection, shared: &Arc<Shared>) {
    let header = message.header();
    let (Some(member), Some(path)) = (header.member(), header.path()) else { return };
    match member.as_str() {
        "JobRemoved" => {
            if let Ok((_, job, unit, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>() {
                shared.jobs().end(job.as_str().to_owned(), job_end(&result));
                tell(shared, Change::Unit(unit));
            }
        }
        "UnitNew" | "UnitRemoved" => {
            if let Ok((unit, _)) = message.body().deserialize::<(String, OwnedObjectPath)>() {
                tell(shared, Change::Unit(unit));
            }
        }
        "PropertiesChanged" => {
            if let Some(unit) = path.as_str().strip_prefix(UNITS).and_then(unlabel) {
                tell(shared, Change::Unit(unit));
            }
        }
        // Reloading(false): a reload or daemon-reexec ended, and PID 1 may have forgotten us (systemd#27697). Not awaited
        // here: behind the signals of a whole reload the answer may wait for this very queue to be read.
        "Reloading" if message.body().deserialize::<bool>() == Ok(false) => {
            let (door, connection, shared) = (door.clone(), connection.clone(), Arc::downgrade(shared));
            tokio::spawn(async move {
                // When it fails the connection is broken, and the dispatcher makes another.
                let _ = timeout(door.call, subscribe(&door.way, &connection)).await;
                if let Some(shared) = shared.upgrade() {
                    tell(&shared, Change::All);
                }
            });
        }
        _ => {}
    }
}

pub(super) fn tell(shared: &Shared, change: Change) {
    // Without a reader there is nobody to tell.
    let _ = shared.changes.send(change);
}
