//! What came of an order, for programs and for people, and the exit code of several.

use std::fmt::Write as _;

use serde::Serialize;

use super::client::Error;
use super::follow::{cut, to};
use super::{Failure, table};
use crate::api::types::{Done, Roll, RollState};
use crate::journal::harmless;

/// How an order ended, a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    /// It is done and has taken effect.
    Done,
    /// The master has taken it and it goes on: with `--no-wait`, or because it was not waited for any longer.
    Begun,
    /// It was tried and failed.
    Failed,
    /// The master refused it, or was not asked: nothing was done.
    Refused,
    /// There was no answer, or none that says how it ended: it may or may not be done.
    Unknown,
    /// The master cannot be reached: nothing was done.
    Unreachable,
}

/// What the verbs that change something answer with, one for each app.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Outcome {
    /// The app.
    pub app: String,
    /// How it ended, an [End](#end).
    pub outcome: End,
    /// Of what the master refused or could not do the code of [problems.md](problems.md); null of all else.
    pub code: Option<String>,
    /// For people: what was done, or why not and what to type next.
    pub message: String,
    /// The [Roll](rest.md#roll) that carried or carries it out; null where it took none.
    pub roll: Option<Roll>,
    /// What the exit code is made of.
    #[serde(skip)]
    failure: Option<Failure>,
}

impl Outcome {
    fn bad(app: &str, outcome: End, message: String, failure: impl FnOnce(String) -> Failure) -> Self {
        Self { app: app.into(), outcome, code: None, message: message.clone(), roll: None, failure: Some(failure(message)) }
    }

    /// The master's last word; what is under way is not waited for.
    pub fn of(done: Done) -> Self {
        let outcome = if done.under_way { End::Begun } else { End::Done };
        Self { app: done.app.to_string(), outcome, code: None, message: done.message, roll: done.roll, failure: None }
    }

    /// A roll as it was last seen.
    pub fn of_roll(roll: Roll, verb: &str) -> Self {
        let app = roll.app.to_string();
        let ended = match roll.state {
            RollState::Done => {
                let message = if roll.cut == 0 { "done".to_owned() } else { format!("done; {}", cut(&roll)) };
                Self { app, outcome: End::Done, code: None, message, roll: None, failure: None }
            }
            RollState::Failed => Self { code: Some("failed".into()), ..Self::bad(&app, End::Failed, failed(&roll), Failure::Failed) },
            RollState::Waiting | RollState::Running => Self::open(&app, verb),
        };
        Self { roll: Some(roll), ..ended }
    }

    /// A roll that is done and whose old workers still drain; they are not waited for any longer.
    pub fn drains(roll: Roll) -> Self {
        let app = roll.app.to_string();
        let message =
            format!("done, and old workers still drain; not waiting any longer. `project-cluster show {app}` tells how they stand");
        Self { roll: Some(roll), ..Self::bad(&app, End::Begun, message, Failure::Failed) }
    }

    /// A roll of which is not known how it ended.
    pub fn lost(roll: Roll, error: &Error) -> Self {
        let app = roll.app.to_string();
        let outcome = if matches!(error, Error::Refused(_)) { End::Unknown } else { End::Begun };
        let kind = if outcome == End::Unknown { Failure::Failed } else { Failure::Unreachable };
        let lost = Self::bad(&app, outcome, error.to_string(), kind);
        Self { code: error.code().map(str::to_owned), roll: Some(roll), ..lost }
    }

    /// The master has taken it and it goes on.
    pub fn open(app: &str, verb: &str) -> Self {
        Self::bad(app, End::Begun, unfinished(app, verb), Failure::Failed)
    }

    /// There was no time to ask.
    pub fn unasked(app: &str) -> Self {
        let message = "`--timeout` was over before the master was asked; nothing was done. Give it more time, or `--no-wait`";
        Self::bad(app, End::Refused, message.into(), Failure::Failed)
    }

    /// Interrupted before the master had answered.
    pub fn unanswered(app: &str) -> Self {
        Self::bad(app, End::Unknown, format!("interrupted before the master answered. {UNKNOWN}"), Failure::Failed)
    }

    /// What the master answered instead, or that it did not. `over`: the command's own time was over.
    pub fn of_error(app: &str, error: &Error, over: bool) -> Self {
        let bad = |end, kind: fn(String) -> Failure| Self::bad(app, end, error.to_string(), kind);
        let ended = match error {
            Error::Refused(problem) => match problem.code.as_str() {
                "failed" => bad(End::Failed, Failure::Failed),
                "unavailable" => bad(End::Unknown, Failure::Failed),
                _ => bad(End::Refused, Failure::Failed),
            },
            Error::Late(limit, _) if over => {
                let message = format!("no answer from the master within {} (`--timeout`). {UNKNOWN}", table::time(*limit));
                Self::bad(app, End::Unknown, message, Failure::Failed)
            }
            Error::Late(..) => Self::bad(app, End::Unknown, format!("{error}. {UNKNOWN}"), Failure::Unreachable),
            Error::Broken(_) | Error::Strange(_) => bad(End::Unknown, Failure::Unreachable),
            Error::Unreachable(_) => bad(End::Unreachable, Failure::Unreachable),
        };
        Self { code: error.code().map(str::to_owned), ..ended }
    }
}

const UNKNOWN: &str = "What was asked for may or may not have been taken: `project-cluster ls` tells how it stands";

/// What a roll that failed says.
pub(super) fn failed(roll: &Roll) -> String {
    let reason = roll.reason.as_deref().unwrap_or("no reason is known");
    let reason: Vec<String> = reason.lines().map(harmless).collect();
    format!(
        "the roll{} failed: {}\n  `project-cluster show {app}` has its steps, `project-cluster logs {app}` all that was written",
        to(roll),
        reason.join("\n  "),
        app = roll.app
    )
}

/// What is said of an order that is not waited for any longer.
pub(super) fn unfinished(app: &str, verb: &str) -> String {
    let mut text = format!(
        "not waiting any longer; it goes on. `project-cluster show {app}` tells how it stands, `project-cluster events {app} -f` what happens"
    );
    // There is no way back yet; what stops already needs none.
    if !matches!(verb, "stop" | "sleep" | "remove") {
        let _ = write!(text, "; `project-cluster stop {app}` ends it, and the app with it");
    }
    text
}

/// All failures are told, the worst gives the exit code.
pub(super) fn end(outcomes: &[Outcome]) -> Result<(), Failure> {
    let mut texts = Vec::new();
    let (mut usage, mut unreachable) = (false, false);
    for Outcome { app, failure, .. } in outcomes {
        let text = match failure {
            None => continue,
            Some(Failure::Failed(text)) => text,
            Some(Failure::Usage(text)) => {
                usage = true;
                text
            }
            Some(Failure::Unreachable(text)) => {
                unreachable = true;
                text
            }
        };
        texts.push(format!("{app}: {text}"));
    }
    let text = texts.join("\n");
    match () {
        () if text.is_empty() => Ok(()),
        () if unreachable => Err(Failure::Unreachable(text)),
        () if usage => Err(Failure::Usage(text)),
        () => Err(Failure::Failed(text)),
    }
}
