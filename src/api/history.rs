//! What was done, by whom, and what came of it: `GET /v1/history`.
//!
//! Pure data. What does not apply to an entry is null.

use serde::{Deserialize, Serialize};

use super::types::Step;
use crate::names::{AppName, Generation};

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// It has not: it waits, or is under way.
    Running,
    /// It was done.
    Done,
    /// It was tried and failed.
    Failed,
    /// It was not begun: the app was in no state for it, or no such worker was there.
    Refused,
    /// The master ended in the middle, and the next one found nothing to go on with.
    CutOff,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Done, Self::Failed, Self::Refused, Self::CutOff];

    /// Its name, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::CutOff => "cut-off",
        }
    }
}

/// Something that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Entry {
    /// Its number; those asked for later have higher ones.
    pub id: u64,
    /// The app. None of an entry about the history itself: what is missing in it, and why.
    pub app: Option<AppName>,
    /// What was asked for, in the command line's word: `reload`, `scale`; `history` of an entry about the history itself.
    pub verb: String,
    /// The slots that it was about; none where it was the whole app.
    pub slots: Option<Vec<u16>>,
    /// How many workers: of `add` more, of `scale` in all.
    pub count: Option<u16>,
    /// Who asked: `"user 1000"` over the unix socket, by the kernel's word; `"token ci"` over TCP, an address where no token is
    /// asked for. Of `systemctl reload` it is the cluster's own user, as which the reload step runs: systemd does not tell for whom.
    pub asked_by: Option<String>,
    /// Whether it came by the app's handle: `systemctl reload`.
    pub systemctl: bool,
    /// When it was asked for, milliseconds of Unix time.
    pub begun_ms: u64,
    /// From then until its end, milliseconds; null while it is under way, and where nobody saw its end.
    pub took_ms: Option<u64>,
    /// How much of that passed before its roll began, milliseconds: most of it where another one ran.
    pub waited_ms: Option<u64>,
    /// How it ended.
    pub end: End,
    /// What came of it, or why it failed, for people; in lists the first line alone.
    pub text: Option<String>,
    /// The number of the roll that carried it out; several that were asked for behind a running roll become one.
    pub roll: Option<u64>,
    /// The generation which that started.
    pub generation: Option<Generation>,
    /// The steps of the roll, at most 400: the first and the last. Empty in lists.
    pub steps: Vec<Step>,
}
