//! The tokens of the API over TCP: what the master knows of them, and their file.
//!
//! `tokens.json` is written by root (`project-cluster token`) and holds hashes alone. The token that `install` makes is not in
//! it: its hash has a file of its own, and it is known by the name [`OPERATOR`].

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use subtle::ConditionallySelectable as _;

use super::caller::Role;
use super::token::Hash;
use crate::names::AppName;

/// The name of the token that `install` makes.
pub const OPERATOR: &str = "operator";
/// Tokens at most: each request over TCP is compared with all of them.
pub const MOST: usize = 256;
/// Bytes of their file at most.
pub const FILE: u64 = 1024 * 1024;
/// Format of the file; raised when an older program could misread it.
const FORMAT: u32 = 1;
/// Longest name.
const LONGEST: usize = 32;

/// What a token is called: letters, digits, `-` and `_`, at most 32, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenName(String);

impl TokenName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() > LONGEST || !text.starts_with(|ch: char| ch.is_ascii_alphanumeric()) || !text.bytes().all(good) {
            return Err(format!(
                "a token's name has letters, digits, `-` and `_`, begins with one of the first two, and is at most {LONGEST} long"
            ));
        }
        if text == OPERATOR {
            return Err(format!("`{OPERATOR}` is the token that `install` makes; choose another name"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TokenName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// One token in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is called.
    pub name: TokenName,
    /// What it may do.
    pub role: Role,
    /// The apps that there are for it; none is all.
    pub apps: Option<BTreeSet<AppName>>,
    /// The SHA-256 of the token, hexadecimal.
    pub sha256: String,
    /// When it was made, milliseconds of Unix time.
    pub made_ms: u64,
}

/// All tokens in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// [`FORMAT`] at the time of writing.
    pub(super) format: u32,
    /// By name.
    pub tokens: Vec<Entry>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { format: FORMAT, tokens: Vec::new() }
    }
}

impl Tokens {
    /// That of the file.
    ///
    /// # Errors
    /// When it is damaged, of a newer program, or holds too many.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(file).map_err(|why| format!("it is damaged: {why}"))?;
        if read.format > FORMAT {
            return Err(format!("it is of a newer project-cluster (format {}, this one knows {FORMAT})", read.format));
        }
        if read.tokens.len() > MOST {
            return Err(format!("it has {} tokens, at most {MOST} are taken", read.tokens.len()));
        }
        if let Some(bad) = read.tokens.iter().find(|entry| Hash::read(entry.sha256.as_bytes()).is_none()) {
            return Err(format!("the hash of `{}` is none", bad.name));
        }
        Ok(read)
    }

    /// For the file.
    pub fn text(&self) -> Vec<u8> {
        // Our own types, whose keys are texts, are JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// A token as the master knows it.
#[derive(Debug, Clone)]
pub struct Key {
    /// What it is called.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// The apps that there are for it; none is all.
    pub apps: Option<Arc<BTreeSet<AppName>>>,
    hash: Hash,
}

/// All tokens that the master knows.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// That of `install`, where there is one, and those of the file.
    pub fn new(operator: Option<Hash>, tokens: &Tokens) -> Self {
        let operator = operator.map(|hash| Key { name: OPERATOR.into(), role: Role::Admin, apps: None, hash });
        let others = tokens.tokens.iter().filter_map(|entry| {
            let hash = Hash::read(entry.sha256.as_bytes())?;
            Some(Key { name: entry.name.as_str().into(), role: entry.role, apps: entry.apps.clone().map(Arc::new), hash })
        });
        Self(operator.into_iter().chain(others).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The one that was sent. Compares with all of them, whichever it is and whether or not it is one.
    pub fn find(&self, sent: &[u8]) -> Option<&Key> {
        let sent = Hash::of(sent);
        let mut found = u64::MAX;
        for (at, key) in (0_u64..).zip(&self.0) {
            found.conditional_assign(&at, key.hash.ct_eq(&sent));
        }
        usize::try_from(found).ok().and_then(|at| self.0.get(at))
    }

    /// Whether this one is still known, and may what it did.
    pub fn has(&self, key: &Key) -> bool {
        self.0.iter().any(|known| {
            known.name == key.name && known.role == key.role && known.apps == key.apps && bool::from(known.hash.ct_eq(&key.hash))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::token::Token;

    fn entry(name: &str, role: Role, token: &Token) -> Entry {
        Entry { name: name.parse().unwrap(), role, apps: None, sha256: token.hash().text(), made_ms: 1 }
    }

    #[test]
    fn each_token_is_found_by_itself_alone() {
        let all: Vec<Token> = (0..3).map(|_| Token::fresh().unwrap()).collect();
        let tokens = Tokens { tokens: vec![entry("ci", Role::Operate, &all[1]), entry("watch", Role::View, &all[2])], ..Tokens::default() };
        let keys = Keys::new(Some(all[0].hash()), &Tokens::read(&tokens.text()).unwrap());
        let found = |sent: &[u8]| keys.find(sent).map(|key| (key.name.to_string(), key.role));
        for (token, name, role) in [(&all[0], OPERATOR, Role::Admin), (&all[1], "ci", Role::Operate), (&all[2], "watch", Role::View)] {
            assert_eq!(found(token.as_str().as_bytes()), Some((name.to_owned(), role)));
        }
        for wrong in [&b""[..], b"ci", all[1].hash().text().as_bytes(), Token::fresh().unwrap().as_str().as_bytes()] {
            assert_eq!(found(wrong), None);
        }
        assert!(Keys::default().find(b"").is_none());
        // One that may more or less, or was made anew, is another one.
        let ci = keys.find(all[1].as_str().as_bytes()).unwrap();
        assert!(keys.has(ci));
        let changed = Tokens { tokens: vec![entry("ci", Role::View, &all[1])], ..Tokens::default() };
        let anew = Tokens { tokens: vec![entry("ci", Role::Operate, &all[2])], ..Tokens::default() };
        assert!(!Keys::new(None, &changed).has(ci) && !Keys::new(None, &anew).has(ci));
    }

    #[test]
    fn a_file_that_is_damaged_lets_nobody_in() {
        let token = Token::fresh().unwrap();
        let good = String::from_utf8(Tokens { tokens: vec![entry("ci", Role::View, &token)], ..Tokens::default() }.text()).unwrap();
        assert!(Tokens::read(good.as_bytes()).is_ok());
        let hash = token.hash().text();
        for (what, with) in
            [("\"format\": 1", "\"format\": 2"), ("\"view\"", "\"root\""), (hash.as_str(), "00"), ("\"ci\"", "\"c i\""), ("}", "")]
        {
            assert!(good.contains(what) && Tokens::read(good.replace(what, with).as_bytes()).is_err(), "{what}");
        }
        for name in ["", "-a", "operator", "a b", "a/b", "\u{e9}", &"a".repeat(33)] {
            assert!(name.parse::<TokenName>().is_err(), "{name}");
        }
    }
}
