//! Unit names made of the others.

use super::{Address, AppName, ClusterName, HookInstance, HookKind, Instance};
use crate::place::Manager;

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
    /// systemd's own slice of the workers, `system-NAME\x2dAPP.slice` (`app-...` of a user's): a bare `-` in a slice's name would nest.
    pub fn slice(&self, manager: Manager) -> String {
        slice(manager, &self.prefix())
    }
    /// The instance of a worker's unit name, if it is one of this app's.
    pub fn instance(&self, unit: &str) -> Option<Instance> {
        unit.strip_prefix(self.cluster.as_str())?
            .strip_prefix('-')?
            .strip_prefix(self.app.as_str())?
            .strip_prefix('@')?
            .strip_suffix(".service")?
            .parse()
            .ok()
    }
    /// `NAME-APP:KIND@.service`: the template of a hook.
    pub fn hook_template(&self, kind: HookKind) -> String {
        format!("{}:{kind}@.service", self.prefix())
    }
    /// `NAME-APP:KIND@GEN.service`: a hook of this generation.
    pub fn hook(&self, kind: HookKind, instance: HookInstance) -> String {
        format!("{}:{kind}@{instance}.service", self.prefix())
    }
    /// The globs that match every hook.
    pub fn hook_globs(&self) -> [String; 3] {
        HookKind::ALL.map(|kind| format!("{}:{kind}@*.service", self.prefix()))
    }
    /// The slice of the hooks: beside that of the workers, so that a hook takes nothing of what these may use together.
    pub fn hook_slice(&self, manager: Manager) -> String {
        slice(manager, &format!("{}:hooks", self.prefix()))
    }
    /// Where a hook's runtime directory lies, relative to `/run`: beside those of the workers, whose names begin with a digit.
    pub fn hook_directory(&self, kind: HookKind, instance: &str) -> String {
        format!("{}/{kind}.{instance}", self.prefix())
    }
    /// Where a worker's runtime directory lies, relative to `/run` (`RuntimeDirectory=`).
    pub fn runtime_directory(&self, instance: &str) -> String {
        format!("{}/{instance}", self.prefix())
    }
}

/// systemd's own slice of a template unit.
pub(super) fn slice(manager: Manager, template: &str) -> String {
    format!("{}-{}.slice", manager.slice_prefix(), escape_unit(template))
}

/// The command that stops all of an app and starts its current generation: what mends a socket that went down under running
/// workers. A `restart` of the handle would deploy what is on disk.
pub fn anew(handle: &str) -> String {
    format!("systemctl stop {handle} && systemctl start {handle}")
}

/// The command that takes a mask away, whether somebody masked it for good or until the next boot.
pub fn unmask(unit: &str) -> String {
    format!("systemctl unmask {unit} && systemctl unmask --runtime {unit}")
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
