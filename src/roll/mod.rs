//! The rolling reload: from the old generation to the new one, or back, and nothing in between.
//!
//! The same machine carries out what a person asks of single workers: to restart one is a roll of its slot to the same
//! generation; to add, start, stop or remove one is a roll whose slot has nothing before or nothing behind it.
//!
//! | file | |
//! |---|---|
//! | `order` | what somebody asks for |
//! | `plan` | what runs and what is wished -> a [`Plan`] or a refusal |
//! | `stage` | one worker's life within a roll |
//! | `machine` | the roll: state x event -> state + actions |
//! | `judge` | whether canaries are fit for the rest to follow |
//! | `words` | what is said between the roll and its executor |
//! | `queue` | one roll at a time; what is asked for meanwhile becomes one more |
//! | `diagram` | both state machines as data and as drawn in `docs/roll.md` |
//! | `execute` | performs the actions on a [`Systemd`](crate::systemd::Systemd), feeds the events |
//!
//! All but `execute` are pure: no I/O, no clock; time is a number of milliseconds that the caller passes in.
//! The room must not know how workers are drained, what a pin holds, or who asked for the roll.
//!

pub mod diagram;
pub mod execute;
pub mod judge;
pub mod machine;
pub mod order;
pub mod plan;
pub mod queue;
pub mod stage;
pub mod words;

#[cfg(test)]
mod history;
#[cfg(test)]
mod laws;

pub use execute::{Clock, Deps, Keeper, Limits, execute};
pub use machine::{Phase, Roll};
pub use order::{Canaries, Order};
pub use plan::{OnFailure, Plan, Refusal, Scope, Target, Version, Wish, plan};
pub use queue::{Queue, Ticket};
pub use stage::{Sight, Stage, World};
pub use words::{Action, Event, Outcome, Steer, Step};
