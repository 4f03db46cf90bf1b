//! The short form of the fuzzers: every committed input, and some thousand changes of them, always the same ones.

use std::path::{Path, PathBuf};

use super::TARGETS;

/// Changes of each target's inputs that are tried.
const CHANGES: usize = 2000;
/// Longest changed input, bytes.
const LONGEST: usize = 8 * 1024;

/// Numbers that are the same in every run (xorshift64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if end == 0 { 0 } else { (self.0 % end as u64) as usize }
    }

    /// A part of it, perhaps empty.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let begin = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - begin).min(64) + 1);
        &bytes[begin..begin + length]
    }
}

/// Bytes at which parsers decide.
const SHARP: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"%",
    b"=",
    b":",
    b"/",
    b"..",
    b"[",
    b"]",
    b"{",
    b"}",
    b"-1",
    b"0",
    b"65536",
    b"4294967296",
    b"18446744073709551615",
    b"\x1b[2J",
    b"\xc2\x9b",
    b"\xff",
    b"\xe2\x80\xae",
    b"null",
];

/// A change of `input`; `other` is another input of the target.
fn change(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 => bytes.insert(at, chance.below(256) as u8),
            1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            2 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + chance.below(16)).min(bytes.len()))),
            3 => drop(bytes.splice(at..at, chance.part(other).to_vec())),
            4 => drop(bytes.splice(at..at, chance.part(input).to_vec())),
            _ => drop(bytes.splice(at..at, SHARP[chance.below(SHARP.len())].to_vec())),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// The committed inputs of a target: those written by hand, and those that a fuzzer found.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let files = |directory: &str| std::fs::read_dir(fuzz.join(directory).join(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files("seeds").chain(files("corpus")).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Runs one target over all that.
fn short(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    assert!(inputs.iter().any(|(path, _)| path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds"))), "no seeds");
    for (path, input) in &inputs {
        eprintln!("{}", path.display());
        run(input);
    }
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for at in 0..CHANGES {
        let (path, input) = &inputs[at % inputs.len()];
        let (_, other) = &inputs[chance.below(inputs.len())];
        let changed = change(input, other, &mut chance);
        let found = std::panic::catch_unwind(|| run(&changed));
        assert!(found.is_ok(), "{target}: change {at}, of {}: {:?}", path.display(), String::from_utf8_lossy(&changed));
    }
}

/// A test a target, so that each is told by its name and they run side by side.
macro_rules! short {
    ($($target:ident)*) => {
        $(#[test] fn $target() { short(stringify!($target)); })*
        #[test]
        fn every_target_is_here_and_has_its_program() {
            let here = [$(stringify!($target)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), here);
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
            for name in here {
                let program = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("run(\"{name}\"")), "{name}");
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            }
        }
    };
}

short!(config names words pins proc sockets drain state requests answers shown journal);
