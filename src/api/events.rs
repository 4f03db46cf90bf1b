//! What happens, as told to clients: `GET /v1/events`.
//!
//! Pure data. Times are milliseconds of Unix time; what does not apply to an event is left out.

use serde::{Deserialize, Serialize};

use crate::names::{AppName, Generation, Uid};

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Kind {
    /// The master came up and looks on from here.
    #[serde(rename = "master.start")]
    MasterStart,
    /// An app is up: its handle became active.
    #[serde(rename = "start")]
    Start,
    /// An app's start failed: it is held, and its port, where it has one, is closed.
    #[serde(rename = "startfailed")]
    StartFailed,
    /// An app is being stopped: its handle left active. Or that failed.
    #[serde(rename = "stop")]
    Stop,
    /// A worker is ready.
    #[serde(rename = "worker.start")]
    WorkerStart,
    /// A worker's start failed.
    #[serde(rename = "worker.startfailed")]
    WorkerStartFailed,
    /// A worker has stopped and does not come back by itself.
    #[serde(rename = "worker.stop")]
    WorkerStop,
    /// A worker that was ready ended by itself, or was killed, and comes back.
    #[serde(rename = "worker.restart")]
    WorkerRestart,
    /// A socket of an app stopped listening while the app is up.
    #[serde(rename = "socket.down")]
    SocketDown,
    /// It listens again.
    #[serde(rename = "socket.up")]
    SocketUp,
    /// A roll begins.
    #[serde(rename = "roll.begin")]
    RollBegin,
    /// A step of it.
    #[serde(rename = "roll.step")]
    RollStep,
    /// It ended well.
    #[serde(rename = "roll.done")]
    RollDone,
    /// It failed, or could not begin.
    #[serde(rename = "roll.failed")]
    RollFailed,
    /// A hook of a roll starts, or is waited for by a new master.
    #[serde(rename = "hook.begin")]
    HookBegin,
    /// It ended well.
    #[serde(rename = "hook.done")]
    HookDone,
    /// It failed.
    #[serde(rename = "hook.failed")]
    HookFailed,
    /// Not an event of the cluster: the reader has missed some.
    #[serde(rename = "gap")]
    Gap,
}

impl Kind {
    /// Its name, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::MasterStart => "master.start",
            Self::Start => "start",
            Self::StartFailed => "startfailed",
            Self::Stop => "stop",
            Self::WorkerStart => "worker.start",
            Self::WorkerStartFailed => "worker.startfailed",
            Self::WorkerStop => "worker.stop",
            Self::WorkerRestart => "worker.restart",
            Self::SocketDown => "socket.down",
            Self::SocketUp => "socket.up",
            Self::RollBegin => "roll.begin",
            Self::RollStep => "roll.step",
            Self::RollDone => "roll.done",
            Self::RollFailed => "roll.failed",
            Self::HookBegin => "hook.begin",
            Self::HookDone => "hook.done",
            Self::HookFailed => "hook.failed",
            Self::Gap => "gap",
        }
    }
}

/// Who did it, where that can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A roll of the master's.
    Roll,
    /// Somebody through the API or the command line.
    Operator,
    /// Nobody here: somebody's `systemctl` or `kill`, or systemd at boot.
    Outside,
}

impl By {
    /// The word that JSON shows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Roll => "roll",
            Self::Operator => "operator",
            Self::Outside => "outside",
        }
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its main process exited, with a code.
    Exit,
    /// A signal ended it.
    Signal,
    /// The kernel killed it for its memory.
    Oom,
    /// It did not get ready, or did not end, in time.
    Timeout,
    /// It stopped telling systemd that it is alive.
    Watchdog,
    /// Something else, or systemd no longer says.
    Other,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Happening {
    /// What kind of thing.
    pub kind: Kind,
    /// The app; none for what concerns all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The worker, as people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// The generation of the worker or the roll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The unit of the worker, handle, socket or hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Which operator that was: `"user 1000"` over the unix socket, `"token ci"` over TCP, an address where no token is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// How the worker ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The exit code of its main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended its main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Its automatic restarts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The roll, as in `GET /v1/apps/{app}/rolls/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<u64>,
    /// How many events were missed, of a gap whose size is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
    /// For people.
    pub text: String,
}

impl Happening {
    /// One with a kind and a text, all else to be filled in.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            app: None,
            uid: None,
            generation: None,
            unit: None,
            by: None,
            asked_by: None,
            cause: None,
            exit_code: None,
            signal: None,
            restarts: None,
            roll: None,
            missed: None,
            text: text.into(),
        }
    }
}

/// One of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Its number. Numbers grow, also across restarts of the master, and have gaps there.
    pub seq: u64,
    /// When the master saw it, milliseconds of Unix time.
    pub time_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: Happening,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_json_and_an_event_travels() {
        for kind in [
            Kind::MasterStart,
            Kind::StartFailed,
            Kind::WorkerStartFailed,
            Kind::SocketUp,
            Kind::RollFailed,
            Kind::HookBegin,
            Kind::HookFailed,
            Kind::Gap,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
        let what = Happening { by: Some(By::Outside), signal: Some(9), ..Happening::new(Kind::WorkerRestart, "a text") };
        let event = Event { seq: 7, time_ms: 8, what };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"seq":7,"time_ms":8,"kind":"worker.restart","by":"outside","signal":9,"text":"a text"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
