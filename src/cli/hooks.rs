//! The hooks of a roll, for people. Pure but for the clock.

use super::{table, time};
use crate::api::types::{Hook, HookState, Roll};
use crate::journal::harmless;

/// `hook before: running, 12 s`, of the one that runs.
pub(super) fn running(roll: &Roll) -> Option<String> {
    roll.hook().map(|hook| format!("hook {}: {}", hook.kind, how(hook)))
}

/// `running, 12 s`, `done, 1.2 s`, `failed, 3 ms`.
pub(super) fn how(hook: &Hook) -> String {
    let word = match hook.state {
        HookState::Running => "running",
        HookState::Done => "done",
        HookState::Failed => "failed",
    };
    format!("{word}, {}", table::duration(hook.took_ms.unwrap_or_else(|| time::now_ms().saturating_sub(hook.since_ms))))
}

/// Why one failed, with its last lines.
pub(super) fn why(hook: &Hook) -> Vec<String> {
    hook.reason.as_deref().unwrap_or_default().lines().map(harmless).collect()
}

/// Those that failed and took nothing with them: of a roll that went well.
pub(super) fn failed(roll: &Roll) -> impl Iterator<Item = &Hook> {
    roll.hooks.iter().filter(|hook| hook.state == HookState::Failed)
}
