//! The roll's machine, explored: every state that it can reach, with the world and its people against it.
//!
//! | file | |
//! |---|---|
//! | `units` | a systemd that has no more than a roll sees of one: each of its steps, by itself |
//! | `state` | all that there is at one moment: roll, file, units, queue, what is still to be told |
//! | `moves` | what can happen next: by itself, or as a blow |
//! | `laws` | what must hold at each step, and at the end |
//! | `search` | the states, each once; whether all ways end; how a state was come to |
//!
//! The pure files of `src/roll` are compiled here once more, so that they are optimised in a debug build and nothing of
//! the program can help them: no clock, no systemd, no file.

pub use project_cluster::{config, names, systemd};

/// The program's.
#[path = "../../src/roll"]
pub mod roll {
    pub mod diagram;
    #[cfg(test)]
    mod history;
    pub mod judge;
    #[cfg(test)]
    pub mod laws;
    pub mod machine;
    pub mod order;
    pub mod plan;
    pub mod queue;
    pub mod stage;
    pub mod words;
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod search;
#[cfg(test)]
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod units;
