//! What the units room writes: golden trees anyone can read, the traps at the level of the text, hostile values,
//! and installs into directories.

mod golden;
mod hostile;
mod install;
mod samples;
mod tools;
mod traps;
mod unit;
