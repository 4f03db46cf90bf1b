//! The names of the field, each validated once and then carried as its own type: cluster, app,
//! slot, generation, instance, uid, and the unit names made of them.
//!
//! Pure. It must not know the configuration, nor whether a unit of such a name exists.
//! The grammar of unit names and the escaping are those of `systemd.unit(5)` and
//! `systemd-escape(1)`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name. The message is a clause that fits behind "`text`: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

impl NameError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Makes a validated string newtype read and write as a plain string.
macro_rules! string_serde {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.to_string()
            }
        }
    };
}

/// Name of a cluster: also the system user of its master and the prefix of all its units.
///
/// 1 to 31 of `a-z`, `0-9` and `-`, beginning with a letter and not ending in a dash: what
/// `useradd(8)` and systemd accept as a user name everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

string_serde!(ClusterName);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// `NAME.service`, the master.
    pub fn master(&self) -> String {
        format!("{}.service", self.0)
    }
    /// `NAME.socket`, the listener of the API.
    pub fn api_socket(&self) -> String {
        format!("{}.socket", self.0)
    }
    /// `NAME.target`, everything of the cluster.
    pub fn target(&self) -> String {
        format!("{}.target", self.0)
    }
    /// The file of the API's listener, `/run/NAME/api.sock`.
    pub fn api_path(&self) -> PathBuf {
        PathBuf::from(format!("/run/{}/api.sock", self.0))
    }
    /// Root of what the cluster keeps, `/var/lib/NAME`.
    pub fn var(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}", self.0))
    }
    /// Root of what lives until the next boot, `/run/NAME`.
    pub fn run(&self) -> PathBuf {
        PathBuf::from(format!("/run/{}", self.0))
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("project-cluster".into())
    }
}

impl FromStr for ClusterName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fine = !text.is_empty()
            && text.len() <= 31
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fine {
            return Err(NameError::new(
                "a cluster's name is also its system user: 1 to 31 of a-z, 0-9 and -, beginning with a letter, not ending in a dash",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// App names that mean something else in a selector, a route or a unit name.
pub const RESERVED: [&str; 8] = ["all", "v1", "stat", "healthz", "metrics", "first", "relay", "tcp"];

/// Name of an app type, `api`.
///
/// 1 to 64 of letters, digits, `_`, `.` and `-`, beginning with a letter or digit; not one of
/// [`RESERVED`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

string_serde!(AppName);

impl AppName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 64 {
            return Err(NameError::new("an app's name has at most 64 bytes, since it becomes part of unit names"));
        }
        if RESERVED.contains(&text) {
            return Err(NameError::new(format!("`{text}` is reserved: it means something else in selectors, routes or unit names")));
        }
        let fine = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if !fine {
            return Err(NameError::new(
                "an app's name becomes part of unit names: letters, digits, _ . and -, beginning with a letter or digit",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A worker's stable place in its app, 1 to [`Slot::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The most slots an app can have: what `prepare` accepts from the unprivileged master.
    pub const MAX: u16 = 1024;
    /// The slot of this number, if there is one.
    pub fn new(number: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }
    /// Its number.
    pub fn get(self) -> u16 {
        self.0
    }
    /// The slots 1 to `count`, at most [`Slot::MAX`].
    pub fn first(count: u16) -> impl Iterator<Item = Slot> {
        (1..=count.min(Self::MAX)).map(Slot)
    }
}

impl TryFrom<u16> for Slot {
    type Error = NameError;
    fn try_from(number: u16) -> Result<Self, NameError> {
        Self::new(number).ok_or_else(|| NameError::new(format!("a slot is a number from 1 to {}", Self::MAX)))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

/// What one roll started; numbered for ever, per app, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The instance part of a worker's unit, `SLOT.GEN.TRY`, or `SLOT.GEN-PIN.TRY` where the
/// generation uses an older generation's pin (a rollback).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance {
    /// The worker's place.
    pub slot: Slot,
    /// The generation it belongs to.
    pub generation: Generation,
    /// The generation whose pin it uses, where that is another one.
    pub pin: Option<Generation>,
    /// Tells a second worker of the same slot and generation apart; 1 to [`Instance::MAX_TRY`].
    pub attempt: u16,
}

string_serde!(Instance);

impl Instance {
    /// The largest `TRY` that `prepare` accepts.
    pub const MAX_TRY: u16 = 9999;

    /// The first worker of a slot in a generation of its own pin.
    pub fn first(slot: Slot, generation: Generation) -> Self {
        Self { slot, generation, pin: None, attempt: 1 }
    }
    /// The generation whose pin this worker uses.
    pub fn pinned(&self) -> Generation {
        self.pin.unwrap_or(self.generation)
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot.0, self.generation)?;
        if let Some(pin) = self.pin {
            write!(f, "-{pin}")?;
        }
        write!(f, ".{}", self.attempt)
    }
}

/// A number as we print it: digits only, no sign, no leading zero, so that one instance has one spelling.
fn plain_number(text: &str) -> Option<u64> {
    let fine = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if fine { text.parse().ok() } else { None }
}

impl FromStr for Instance {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let mut parts = text.splitn(3, '.');
            let slot = Slot::new(u16::try_from(plain_number(parts.next()?)?).ok()?)?;
            let generation = parts.next()?;
            let (generation, pin) = match generation.split_once('-') {
                Some((generation, pin)) => (generation, Some(Generation(plain_number(pin)?))),
                None => (generation, None),
            };
            let generation = Generation(plain_number(generation)?);
            let attempt = u16::try_from(plain_number(parts.next()?)?).ok()?;
            let fine = generation.0 > 0 && (1..=Self::MAX_TRY).contains(&attempt) && pin.is_none_or(|pin| pin.0 > 0 && pin < generation);
            fine.then_some(Self { slot, generation, pin, attempt })
        };
        parse().ok_or_else(|| NameError::new("an instance reads SLOT.GEN.TRY or SLOT.GEN-PIN.TRY"))
    }
}

/// What users call a worker, `api:01`: its app and slot, at least two digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uid {
    /// The app.
    pub app: AppName,
    /// The slot.
    pub slot: Slot,
}

string_serde!(Uid);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:02}", self.app, self.slot.0)
    }
}

impl FromStr for Uid {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, slot) = text.split_once(':').ok_or_else(|| NameError::new("a worker's uid reads APP:NN, for example api:01"))?;
        let slot = slot
            .parse()
            .ok()
            .and_then(Slot::new)
            .ok_or_else(|| NameError::new(format!("behind the colon of a uid stands a slot from 01 to {}", Slot::MAX)))?;
        Ok(Self { app: app.parse()?, slot })
    }
}

/// A listen address: where a socket unit binds and what an app may declare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A TCP address. `[::]` means both families (`BindIPv6Only=both` is written).
    Tcp(SocketAddr),
    /// A stream socket in the file system: an absolute path of at most 107 bytes (`unix(7)`).
    Unix(PathBuf),
}

string_serde!(Address);

impl Address {
    /// Whether binding both would fail or one would take the other's connections.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Tcp(a), Self::Tcp(b)) => a.port() == b.port() && ips_overlap(a.ip(), b.ip()),
            _ => false,
        }
    }

    /// The address as part of a unit name: brackets are not allowed there, a path is escaped. Every form holds a
    /// `:`, which no app's name does: so `a` on `/b/c` and `a-b` on `/c` are two units. None holds a backslash:
    /// `Sockets=` of systemd 252 drops it without a word and the worker gets no socket.
    pub fn unit_part(&self) -> String {
        match self {
            Self::Tcp(SocketAddr::V4(v4)) => v4.to_string(),
            Self::Tcp(SocketAddr::V6(v6)) => format!("{}:{}", v6.ip(), v6.port()),
            Self::Unix(path) => format!("unix{}", escape_path(path)),
        }
    }
}

fn ips_overlap(a: IpAddr, b: IpAddr) -> bool {
    let dual = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let any4 = |ip: IpAddr| ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    a == b || dual(a) || dual(b) || (any4(a) && b.is_ipv4()) || (any4(b) && a.is_ipv4())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = NameError;
    /// `3000` (both families), `127.0.0.1:3000`, `[::1]:3000`, `*:3000`, `localhost:3000`, `/run/x.sock`, each
    /// also behind `tcp://` or `unix:`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(rest) = text.strip_prefix("udp:") {
            return Err(NameError::new(format!(
                "UDP is not supported: systemd can hold the socket, but a rolling reload of datagram workers has no drain; `{}` would be TCP",
                rest.trim_start_matches('/')
            )));
        }
        let text = text.strip_prefix("unix:").or_else(|| text.strip_prefix("tcp://")).unwrap_or(text);
        if text.starts_with('/') {
            return unix_address(text);
        }
        let port = |text: &str| {
            plain_number(text)
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0)
                .ok_or_else(|| NameError::new(format!("`{text}` is not a port: 1 to 65535")))
        };
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Ok(Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port(text)?))));
        }
        if let Some(rest) = text.strip_prefix("*:") {
            return Ok(Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port(rest)?))));
        }
        if let Some(rest) = text.strip_prefix("localhost:") {
            return Ok(Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port(rest)?))));
        }
        match text.parse::<SocketAddr>() {
            Ok(SocketAddr::V6(v6)) if v6.scope_id() != 0 => Err(NameError::new("a scope (`%2`) is not supported in an address")),
            Ok(address) if address.port() == 0 => Err(NameError::new("port 0 has no meaning for a shared socket: 1 to 65535")),
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(NameError::new(
                "not an address: write a port (`3000`), `127.0.0.1:3000`, `[::1]:3000` or an absolute path (`/run/shop/api.sock`)",
            )),
        }
    }
}

fn unix_address(text: &str) -> Result<Address, NameError> {
    if text.len() > 107 {
        return Err(NameError::new("the path of a unix socket has at most 107 bytes (unix(7))"));
    }
    let fine = text.len() > 1
        && !text.ends_with('/')
        && text[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !text.chars().any(char::is_control);
    if !fine {
        return Err(NameError::new(
            "the path of a unix socket is absolute and plain: no `.`, `..`, `//`, trailing slash or control character",
        ));
    }
    Ok(Address::Unix(PathBuf::from(text)))
}

/// The unit names of one app of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppUnits<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The app.
    pub app: &'a AppName,
}

impl<'a> AppUnits<'a> {
    /// The names of `app` in `cluster`.
    pub fn new(cluster: &'a ClusterName, app: &'a AppName) -> Self {
        Self { cluster, app }
    }
    /// `NAME-APP`: the prefix that workers, sockets and runtime directories share.
    pub fn prefix(&self) -> String {
        format!("{}-{}", self.cluster, self.app)
    }
    /// `NAME@APP.service`: the handle. App names hold nothing that an instance would have to escape; a `-` is
    /// left as it is, because people type it (`project-cluster@api-v2`).
    pub fn handle(&self) -> String {
        format!("{}@{}.service", self.cluster, self.app)
    }
    /// `NAME-first@APP.service`: what a connection to an app without workers triggers.
    pub fn trigger(&self) -> String {
        format!("{}-first@{}.service", self.cluster, self.app)
    }
    /// `NAME-APP@.service`: the workers' template.
    pub fn template(&self) -> String {
        format!("{}@.service", self.prefix())
    }
    /// `NAME-APP@SLOT.GEN.TRY.service`: one worker.
    pub fn worker(&self, instance: &Instance) -> String {
        format!("{}@{instance}.service", self.prefix())
    }
    /// The glob that matches every worker, for `ListUnitsByPatterns`.
    pub fn worker_glob(&self) -> String {
        format!("{}@*.service", self.prefix())
    }
    /// `NAME-APP-ADDRESS.socket`: the socket unit of one address. A path that would make the name longer than the
    /// 255 bytes which systemd and file systems allow gives way to its checksum.
    pub fn socket(&self, address: &Address) -> String {
        let name = format!("{}-{}.socket", self.prefix(), address.unit_part());
        if name.len() <= UNIT_NAME_MAX {
            return name;
        }
        format!("{}-unix:{:016x}.socket", self.prefix(), fnv1a(address.to_string().as_bytes()))
    }
    /// systemd's own slice of the workers, `system-NAME\x2dAPP.slice`: a bare `-` in a slice's name would nest.
    pub fn slice(&self) -> String {
        format!("system-{}.slice", escape_unit(&self.prefix()))
    }
    /// The instance of a worker's unit name, if it is one of this app's.
    pub fn instance(&self, unit: &str) -> Option<Instance> {
        unit.strip_prefix(&self.prefix())?.strip_prefix('@')?.strip_suffix(".service")?.parse().ok()
    }
    /// Where a worker's runtime directory lies, relative to `/run` (`RuntimeDirectory=`).
    pub fn runtime_directory(&self, instance: &str) -> String {
        format!("{}/{instance}", self.prefix())
    }
}

/// The longest unit name (`UNIT_NAME_MAX` of systemd is 256 with the terminating NUL).
pub const UNIT_NAME_MAX: usize = 255;

/// FNV-1a, 64 bits: short, and the same on every build for ever, which a unit's name has to be.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Escapes as `unit_name_escape()` of systemd does: everything but letters, digits, `:_.` becomes `\xNN`,
/// `/` becomes `-`, a leading dot is escaped.
pub fn escape_unit(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'/' => out.push('-'),
            b'.' if at == 0 => out.push_str("\\x2e"),
            b if b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.') => out.push(b as char),
            b => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out
}

/// An absolute path as part of a unit name: `/` becomes `:`, what a unit name cannot hold becomes `::NN`. No two
/// paths become the same, since none holds `//`.
fn escape_path(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'/' => out.push(':'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') => out.push(char::from(b)),
            b => out.push_str(&format!("::{b:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_one_spelling() {
        for text in ["1.1.1", "1024.18446744073709551615.9999", "2.7-4.1"] {
            let instance: Instance = text.parse().unwrap();
            assert_eq!(instance.to_string(), text);
        }
        for text in [
            "",
            "1",
            "1.1",
            "1.1.1.1",
            "0.1.1",
            "1025.1.1",
            "1.0.1",
            "1.1.0",
            "1.1.10000",
            "01.1.1",
            "+1.1.1",
            "1.4-4.1",
            "1.4-0.1",
            "1.1-.1",
            "1. 1.1",
            "1.1.1\n",
        ] {
            assert!(text.parse::<Instance>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_would_break_out_are_refused() {
        for text in ["", "..", "../x", "a/b", "a b", "a@b", "-a", ".a", "_a", "a\n", "a:b", "a%i", "all", "first", &"x".repeat(65)] {
            assert!(text.parse::<AppName>().is_err(), "{text:?}");
        }
        for text in ["", "-a", "a-", "A", "1a", "a_b", "a.b", &"x".repeat(32)] {
            assert!(text.parse::<ClusterName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn addresses_in_all_their_spellings() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(parse("3000").unwrap(), "[::]:3000");
        assert_eq!(parse("*:3000").unwrap(), "[::]:3000");
        assert_eq!(parse("tcp://127.0.0.1:80").unwrap(), "127.0.0.1:80");
        assert_eq!(parse("localhost:80").unwrap(), "127.0.0.1:80");
        assert_eq!(parse("unix:/run/a.sock").unwrap(), "/run/a.sock");
        for text in ["", "0", "65536", "127.0.0.1:0", "host:80", "/a//b", "/a/../b", "/a/", "run/x", "udp://0.0.0.0:53", "[fe80::1%2]:80"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn overlap_is_what_bind_would_refuse() {
        let overlap = |a: &str, b: &str| a.parse::<Address>().unwrap().overlaps(&b.parse().unwrap());
        assert!(overlap("3000", "127.0.0.1:3000"));
        assert!(overlap("0.0.0.0:3000", "127.0.0.1:3000"));
        assert!(overlap("3000", "[::1]:3000"));
        assert!(!overlap("0.0.0.0:3000", "[::1]:3000"));
        assert!(!overlap("127.0.0.2:3000", "127.0.0.1:3000"));
        assert!(!overlap("3000", "3001"));
    }

    #[test]
    fn unit_names() {
        let (cluster, app) = (ClusterName::default(), "api-v2".parse().unwrap());
        let units = AppUnits::new(&cluster, &app);
        assert_eq!(units.handle(), "project-cluster@api-v2.service");
        assert_eq!(units.slice(), "system-project\\x2dcluster\\x2dapi\\x2dv2.slice");
        assert_eq!(units.socket(&"[::1]:80".parse().unwrap()), "project-cluster-api-v2-::1:80.socket");
        assert_eq!(units.socket(&"/run/a-b/c.sock".parse().unwrap()), "project-cluster-api-v2-unix:run:a-b:c.sock.socket");
        assert_eq!(units.socket(&"/run/a b:é".parse().unwrap()), "project-cluster-api-v2-unix:run:a::20b::3a::c3::a9.socket");
        let long = units.socket(&format!("/run/{}", "é".repeat(51)).parse().unwrap());
        assert_eq!(long, "project-cluster-api-v2-unix:1010021a2119d068.socket");
        let instance = units.instance("project-cluster-api-v2@1.2.3.service").unwrap();
        assert_eq!(units.worker(&instance), "project-cluster-api-v2@1.2.3.service");
        // `api` and `api-v2` share a prefix, not their workers.
        assert_eq!(AppUnits::new(&cluster, &"api".parse().unwrap()).instance("project-cluster-api-v2@1.2.3.service"), None);
    }
}
