//! The bearer token of the API over TCP, and the hash by which the master knows it.
//!
//! 256 bits of the kernel's randomness: nobody guesses them, so that a plain SHA-256 is as good as a slow hash would be for
//! what a person makes up. Who reads the hash can neither use it nor find the token.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// Bytes of randomness.
const BYTES: usize = 32;

/// A token: 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// It is a secret: not even a debug line has it.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The kernel gives no randomness, in its own words.
    pub fn fresh() -> Result<Self, String> {
        let mut bytes = [0; BYTES];
        getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
        Ok(Self(hex(&bytes)))
    }

    /// That of a file, where it holds one and nothing else but a line's end.
    pub fn read(file: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(file).ok()?.trim_end();
        unhex(text).map(|_| Self(text.to_owned()))
    }

    /// As it is sent, and in its file.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its hash.
    pub fn hash(&self) -> Hash {
        Hash::of(self.0.as_bytes())
    }
}

/// The SHA-256 of a token as it is sent.
#[derive(Debug, Clone, Copy)]
pub struct Hash([u8; BYTES]);

impl Hash {
    /// That of what was sent.
    pub fn of(sent: &[u8]) -> Self {
        Self(Sha256::digest(sent).into())
    }

    /// That of a file, where it holds one and nothing else but a line's end.
    pub fn read(file: &[u8]) -> Option<Self> {
        unhex(std::str::from_utf8(file).ok()?.trim_end()).map(Self)
    }

    /// For its file.
    pub fn text(&self) -> String {
        hex(&self.0)
    }

    /// Whether it is the same. Takes the same time whatever the answer.
    pub fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != 2 * BYTES || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_matches_its_hash() {
        let (one, two) = (Token::fresh().unwrap(), Token::fresh().unwrap());
        assert_ne!(one, two);
        assert_eq!(Token::read(format!("{}\n", one.as_str()).as_bytes()), Some(one.clone()));
        let hash = Hash::read(format!("{}\n", one.hash().text()).as_bytes()).unwrap();
        let matches = |sent: &[u8]| bool::from(hash.ct_eq(&Hash::of(sent)));
        assert!(matches(one.as_str().as_bytes()));
        let text = hash.text();
        for wrong in [&b""[..], b"x", b"\xff", two.as_str().as_bytes(), &one.as_str().as_bytes()[..63], text.as_bytes()] {
            assert!(!matches(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{one:?}"), "Token(..)");
    }

    #[test]
    fn the_hash_is_that_of_sha256sum() {
        // printf abc | sha256sum
        assert_eq!(Hash::of(b"abc").text(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_file_that_is_damaged_holds_none() {
        for text in ["", "\n", "abc", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"A".repeat(64), &format!(" {}", "0".repeat(64))] {
            assert!(Token::read(text.as_bytes()).is_none() && Hash::read(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Hash::read(&[0xff; 64]).is_none());
    }
}
