//! What the master remembers ([`Intent`]) and where it writes it.
//!
//! What a person asks for is written down before it is done, or not done. What has come to be so (a roll's end, a stop
//! from outside) is so whether or not it can be written: it is remembered all the same, and written by the next change or
//! reading that can.

use super::{Master, lock};
use crate::api::error::{Code, Refusal};
use crate::intent::{AppIntent, Intent};
use crate::names::AppName;
use crate::points::pass;
use crate::say::say;
use crate::systemd::Systemd;

/// The intent, and whether the disk has it.
#[derive(Debug)]
pub(super) struct Memory {
    intent: Intent,
    /// Why it does not.
    unwritten: Option<String>,
}

/// Where a change comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A person asks for it.
    Asked,
    /// It has come to be so.
    Seen,
}

impl Memory {
    /// As it was read.
    pub fn new(intent: Intent) -> Self {
        Self { intent, unwritten: None }
    }
}

impl<S: Systemd> Master<S> {
    /// What is remembered of an app.
    pub(super) fn intent_of(&self, name: &AppName) -> AppIntent {
        lock(&self.memory).intent.apps.get(name).cloned().unwrap_or_default()
    }

    /// Why something that is remembered is not written down.
    pub(super) fn unwritten(&self) -> Option<String> {
        lock(&self.memory).unwritten.clone()
    }

    /// Remembers what has come to be so of an app.
    pub(super) fn remember(&self, name: &AppName, change: impl FnOnce(&mut AppIntent)) {
        // The log has said it, and it will be tried again.
        let _ = self.change_intent(Source::Seen, |intent| change(intent.apps.entry(name.clone()).or_default()));
    }

    /// Writes down what a person asks for.
    ///
    /// # Errors
    /// When it cannot be written: then nothing is changed, and nothing to be done.
    pub(super) fn promise(&self, name: &AppName, change: impl FnOnce(&mut AppIntent)) -> Result<(), Refusal> {
        let written = self.change_intent(Source::Asked, |intent| change(intent.apps.entry(name.clone()).or_default()));
        written.map_err(|why| Refusal::new(Code::Failed, format!("{name}: nothing was begun, since it cannot be written down: {why}")))
    }

    /// Changes what is remembered and writes it before it returns, also where an earlier writing failed.
    ///
    /// # Errors
    /// Why it cannot be written. What has come to be so is remembered then, what was asked for is not.
    pub(super) fn change_intent(&self, source: Source, change: impl FnOnce(&mut Intent)) -> Result<(), String> {
        let mut memory = lock(&self.memory);
        let mut next = memory.intent.clone();
        change(&mut next);
        if next == memory.intent && memory.unwritten.is_none() {
            return Ok(());
        }
        let path = self.places.intent();
        pass(format_args!("what is remembered is to be written"));
        let written = next.write(&path);
        if written.is_ok() || source == Source::Seen {
            memory.intent = next;
        }
        match written {
            Ok(()) => {
                pass(format_args!("what is remembered is written"));
                if memory.unwritten.take().is_some() {
                    say!(Notice, "what could not be written down is written now: {}", path.display());
                }
                Ok(())
            }
            Err(why) => {
                let directory = path.parent().unwrap_or(&path).display();
                let why = format!("{}: {why}. `df {directory}` shows whether its disk is full", path.display());
                if source == Source::Seen && memory.unwritten.replace(why.clone()).is_none() {
                    say!(Error, "what the master remembers cannot be written down and would be lost at its next restart: {why}");
                }
                Err(why)
            }
        }
    }
}
