//! Rolls as the API tells them: their state, their steps, their hooks.

use serde::{Deserialize, Serialize};

use crate::names::{AppName, Generation, HookKind};

/// How a roll stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RollState {
    /// Waits for the roll before it.
    Waiting,
    /// Under way.
    Running,
    /// Stopped where it is, old and new workers serve: a person resumes or aborts it. What waits behind it waits as well.
    Paused,
    /// All workers are of the new generation.
    Done,
    /// All workers are of the old generation again, or what it says.
    Failed,
}

/// What a roll that has ended left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RollEnd {
    /// New workers serve every slot.
    AllNew,
    /// The old workers serve as before, and no new one is left.
    AllOld,
    /// The way back failed too: `reason` names who is left.
    Mixed,
    /// The app was stopped or restarted meanwhile, and what runs is of that.
    Overtaken,
}

/// A roll: `GET /v1/apps/{app}/rolls/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Roll {
    /// The app.
    pub app: AppName,
    /// Its number, unique within the app: the time it was asked for, milliseconds of Unix time.
    pub id: u64,
    /// Who asked for it: `"user 1000"` over the unix socket, `"token ci"` over TCP, an address where no token is asked for; the
    /// first of those whose requests became this one. None where `systemctl` did.
    #[serde(default)]
    pub asked_by: Option<String>,
    /// The generation it starts; none while it waits for the roll before it.
    pub generation: Option<Generation>,
    /// The older generation that this one is again, where it is a rollback; else null.
    #[serde(default)]
    pub pin: Option<Generation>,
    /// The slots that it is about; none where it replaces all workers of the app, or still waits.
    #[serde(default)]
    pub slots: Option<Vec<u16>>,
    /// How it stands.
    pub state: RollState,
    /// Grows with every change; ask with `?after=SEQUENCE&wait=20s` to wait for the next.
    pub sequence: u64,
    /// Workers of the new generation that are ready.
    pub ready: u16,
    /// Workers wanted.
    pub target: u16,
    /// What happened so far, in the order it happened, at most the first 10,000. Empty in lists of rolls.
    pub steps: Vec<Step>,
    /// Its hooks, as far as they have begun.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Why it failed, for people, with the app's own last lines; of one that is paused why it is, and of one that waits behind such a one, that it does.
    pub reason: Option<String>,
    /// What it left, once it has ended; null of one that never began.
    #[serde(default)]
    pub end: Option<RollEnd>,
    /// How long it has taken or took, milliseconds.
    pub took_ms: u64,
    /// Connections of workers that it has stopped which were still open when their time to drain was over; workers drain on
    /// behind the roll's end.
    #[serde(default)]
    pub cut: u32,
}

/// A hook of a roll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hook {
    /// Which.
    pub kind: HookKind,
    /// Its unit; the journal has what it wrote.
    pub unit: String,
    /// How it stands.
    pub state: HookState,
    /// When it was asked for, milliseconds of Unix time.
    pub since_ms: u64,
    /// How long it took, milliseconds; null while it runs.
    pub took_ms: Option<u64>,
    /// Why it failed, for people, with its last lines.
    pub reason: Option<String>,
}

/// How a hook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// It runs, or is about to.
    Running,
    /// It exited with 0.
    Done,
    /// It did not.
    Failed,
}

/// One step of a roll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// Since the roll began, milliseconds.
    pub at_ms: u64,
    /// For people: `api:01 is ready (generation 7)`.
    pub text: String,
}

impl Roll {
    /// The hook that runs.
    pub fn hook(&self) -> Option<&Hook> {
        self.hooks.iter().find(|hook| self.under_way() && hook.state == HookState::Running)
    }
    /// Whether it has not ended.
    pub fn under_way(&self) -> bool {
        matches!(self.state, RollState::Waiting | RollState::Running | RollState::Paused)
    }
    /// Whether it goes on only when a person says so; of one that waits, whether the one before it does.
    pub fn stands_still(&self) -> bool {
        self.state == RollState::Paused || self.state == RollState::Waiting && self.reason.is_some()
    }
    /// Where it is found.
    pub fn path(&self) -> String {
        format!("/v1/apps/{}/rolls/{}", self.app, self.id)
    }
    /// As in a list: a roll of a thousand workers has four thousand steps.
    #[must_use]
    pub fn without_steps(&self) -> Self {
        let Self { app, id, asked_by, generation, pin, slots, state, sequence, ready, target, steps: _, hooks, reason, end, took_ms, cut } =
            self;
        Self {
            app: app.clone(),
            id: *id,
            asked_by: asked_by.clone(),
            generation: *generation,
            pin: *pin,
            slots: slots.clone(),
            state: *state,
            sequence: *sequence,
            ready: *ready,
            target: *target,
            steps: Vec::new(),
            hooks: hooks.clone(),
            reason: reason.clone(),
            end: *end,
            took_ms: *took_ms,
            cut: *cut,
        }
    }
}
