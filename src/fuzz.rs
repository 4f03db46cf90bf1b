//! What the fuzzers call: one function for each kind of foreign text that this program reads.
//!
//! Each takes any bytes, reads them as the program does and asserts more than that nothing panics: what is read comes back
//! as it was when it is written, stays within its bounds, and steers no terminal where it is shown. The functions lie in the
//! rooms whose parsers they are about, in files of this name; `fuzz/` has the programs around them, and the tests here run
//! them over the committed corpora and over changes of those. Only in tests and fuzzers: `docs/fuzzing.md`.

#[cfg(test)]
mod tests;

/// One target: its name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, in the order of `docs/fuzzing.md`.
pub const TARGETS: [Target; 12] = [
    ("config", crate::config::fuzz::config),
    ("names", crate::names::fuzz::names),
    ("words", crate::units::fuzz::words),
    ("pins", crate::worker::fuzz::pins),
    ("proc", crate::worker::fuzz::proc),
    ("sockets", crate::worker::fuzz::sockets),
    ("drain", crate::drain::fuzz::drain),
    ("state", crate::master::fuzz::state),
    ("requests", crate::api::fuzz::requests),
    ("answers", crate::cli::fuzz::answers),
    ("shown", crate::cli::fuzz::shown),
    ("journal", crate::cli::fuzz::journal),
];

/// Runs the target of this name.
///
/// # Panics
/// When the bytes show a mistake, and where there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(other, _)| *other == name);
    assert!(target.is_some(), "there is no target {name}");
    target.into_iter().for_each(|(_, target)| target(data));
}

/// Asserts that a text can be shown: no hidden character but ends of lines and tabs.
pub(crate) fn harmless(text: &str) {
    let hidden = text.chars().find(|ch| !matches!(ch, '\n' | '\t') && crate::units::text::hidden(*ch));
    assert_eq!(hidden, None, "{text:?}");
}

/// Asserts that what was read is the same when it is written and read again.
pub(crate) fn comes_back<T>(value: &T) -> T
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let written = serde_json::to_vec(value).unwrap_or_else(|why| unreachable!("{value:?} cannot be written: {why}"));
    let read: T = serde_json::from_slice(&written).unwrap_or_else(|why| unreachable!("{value:?} cannot be read again: {why}"));
    assert_eq!(read, *value);
    read
}
