//! One worker between two readings: what became of its life.
//!
//! Pure. A burst may hide a whole life or its end: the time at which it last became active and the count of its restarts
//! tell that one was. It must not know who did it.

use crate::api::events::Cause;
use crate::master::world::Seen;
use crate::systemd::{ActiveState, Details};

/// Where a unit stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not running.
    Down,
    /// It ended, and systemd will start it again.
    Waiting,
    /// On its way up.
    Starting,
    /// Up.
    Up,
    /// On its way down.
    Leaving,
}

impl Phase {
    /// Of a unit as it was read; one that is not loaded is down.
    pub fn of(seen: Option<&Seen>) -> Self {
        let Some(Seen { state, .. }) = seen else { return Self::Down };
        match state.active {
            ActiveState::Activating | ActiveState::Inactive | ActiveState::Failed if state.sub.contains("auto-restart") => Self::Waiting,
            ActiveState::Activating => Self::Starting,
            ActiveState::Active | ActiveState::Reloading => Self::Up,
            ActiveState::Deactivating => Self::Leaving,
            ActiveState::Inactive | ActiveState::Failed => Self::Down,
        }
    }
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It got ready.
    Started,
    /// It ended by itself and comes back.
    Restarted,
    /// Its start failed.
    StartFailed,
    /// It was stopped.
    Stopped,
}

/// What became of it, in order.
pub fn turns(before: Option<&Seen>, after: Option<&Seen>) -> Vec<Turn> {
    let (from, to) = (Phase::of(before), Phase::of(after));
    let (old, new) = (before.map(|seen| &seen.details), after.map(|seen| &seen.details));
    let count = |details: Option<&Details>| details.map_or(0, |details| details.restarts);
    let since = |details: Option<&Details>| details.map_or(0, |details| details.active_since_us);
    let begun = |details: Option<&Details>| details.map_or(0, |details| details.begun_us);
    let restarts = count(new).saturating_sub(count(old));
    let came_up = since(new) > since(old);
    // How a life ends whose end was hidden, or not.
    let end = if to == Phase::Waiting || restarts > 0 { Turn::Restarted } else { Turn::Stopped };
    let served = from == Phase::Up || before.is_some_and(|seen| seen.served && from == Phase::Leaving);
    let mut turns = Vec::new();
    match from {
        Phase::Up | Phase::Leaving if served => match to {
            Phase::Up | Phase::Leaving if !came_up => {}
            _ => turns.push(end),
        },
        Phase::Starting | Phase::Leaving if !came_up => match to {
            Phase::Waiting => turns.push(Turn::StartFailed),
            Phase::Starting if restarts > 0 => turns.push(Turn::StartFailed),
            Phase::Down if after.is_some_and(|seen| seen.state.active == ActiveState::Failed) => turns.push(Turn::StartFailed),
            Phase::Down => turns.push(Turn::Stopped),
            _ => {}
        },
        Phase::Starting | Phase::Leaving if to == Phase::Up && restarts > 0 => turns.push(Turn::StartFailed),
        Phase::Waiting if !came_up => match to {
            Phase::Waiting if begun(new) > begun(old) => turns.push(Turn::StartFailed),
            Phase::Starting if restarts > 1 => turns.push(Turn::StartFailed),
            Phase::Down => turns.push(Turn::Stopped),
            _ => {}
        },
        Phase::Waiting if to == Phase::Up && restarts > 1 => turns.push(Turn::StartFailed),
        Phase::Down if !came_up => match to {
            Phase::Waiting => turns.push(Turn::StartFailed),
            Phase::Starting if restarts > 0 => turns.push(Turn::StartFailed),
            _ => {}
        },
        Phase::Down if to == Phase::Up && restarts > 0 => turns.push(Turn::StartFailed),
        _ => {}
    }
    // A life that came up: it goes on, or is over as well.
    if came_up || (to == Phase::Up && from != Phase::Up) {
        turns.push(Turn::Started);
        match to {
            Phase::Up | Phase::Leaving => {}
            // Nothing of a later life is known; what ended the one that was hidden is what the rest shows.
            Phase::Waiting | Phase::Starting | Phase::Down => turns.push(end),
        }
    }
    turns
}

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// In one word.
    pub cause: Cause,
    /// The exit code of its main process.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// For people, a clause.
    pub text: String,
}

impl End {
    /// How it ended, by the reading of behind its end. systemd keeps that until the next start.
    pub fn of(after: Option<&Seen>) -> Self {
        let known = after.filter(|seen| matches!(Phase::of(Some(seen)), Phase::Waiting | Phase::Down));
        let Some(Seen { details, .. }) = known else {
            return Self { cause: Cause::Other, exit_code: None, signal: None, text: "how, systemd no longer says".into() };
        };
        let status = details.exit_status;
        let (exit_code, signal) = if details.by_signal { (None, Some(status)) } else { (Some(status), None) };
        let own = signal.map_or_else(|| format!("it exited with {status}"), |signal| format!("signal {} ended it", signal_name(signal)));
        let (cause, text) = match details.result.as_str() {
            "oom-kill" => (Cause::Oom, "the kernel killed it: out of memory".to_owned()),
            "timeout" => (Cause::Timeout, "it took too long".to_owned()),
            "watchdog" => (Cause::Watchdog, "it stopped telling systemd that it is alive".to_owned()),
            "core-dump" => (Cause::Signal, format!("{own}, with a core dump")),
            "" | "success" | "exit-code" | "signal" => (if signal.is_some() { Cause::Signal } else { Cause::Exit }, own),
            other => (Cause::Other, format!("systemd calls it `{other}`")),
        };
        Self { cause, exit_code, signal, text }
    }

    /// Whether somebody has sent it: a process does not end itself by these.
    pub fn killed(&self) -> bool {
        const SENT: [i32; 7] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGKILL, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM];
        self.cause == Cause::Signal && self.signal.is_some_and(|signal| SENT.contains(&signal))
    }
}

/// `9 (SIGKILL)`.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}
