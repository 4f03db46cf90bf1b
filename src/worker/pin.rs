//! A pin: all that a worker becomes, fixed for its generation when the generation's first worker starts.
//!
//! Pure data. `prepare` makes and keeps pins; `exec` and `ready` read the worker's own copy. A pin is read by its
//! worker's user alone: it holds `env`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::settings::{Listen, Ready, Spawn};
use crate::formats;
use crate::names::{AppName, ClusterName, Generation, HookKind, Instance};

/// Format of the JSON; raised when an older program could misread it.
pub const FORMAT: u32 = 1;

/// What every worker of one generation becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// [`FORMAT`] at the time of writing.
    pub format: u32,
    /// The generation that made it. A rollback's generation keeps a copy of the older pin, which still names its maker.
    pub generation: Generation,
    /// The revision of the app's settings that it was made from.
    #[serde(default)]
    pub revision: u64,
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// The release: working directory with every symlink resolved.
    pub cwd: PathBuf,
    /// Environment as configured.
    pub env: BTreeMap<String, String>,
    /// The shared addresses, in the order of `LISTEN_FDS` as the app gets it. systemd hands them to `exec` in any
    /// order (its hash table's, another after each re-execution), whatever the order of `Sockets=`.
    pub listen: Vec<Listen>,
    /// Whether a `bind` of one of them gets the inherited socket.
    pub swap: bool,
    /// Whether workers share those or have a port of their own, and which: an old worker that comes back after the
    /// configuration changed has its old port again.
    pub spawn: Spawn,
    /// What makes the worker ready.
    pub ready: Ready,
    /// How long `Ready::None` must stay up.
    pub min_ready: Duration,
}

formats::numbered!(Pin, FORMAT);

/// The copy that `prepare` leaves in the worker's runtime directory, mode 0400, of the worker's user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// [`FORMAT`] at the time of writing; the first programs wrote none.
    #[serde(default)]
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterName,
    /// The app.
    pub app: AppName,
    /// The worker.
    pub instance: Instance,
    /// Its own port (`spawn = "child"`).
    pub port: Option<u16>,
    /// How the app wants its shared sockets, as far as its last ready worker showed: non-blocking, as event loops do, or
    /// blocking. The flag is shared by all workers, so a new one must not change it under the others.
    #[serde(default)]
    pub nonblocking: Option<bool>,
    /// Which hook this is; none of a worker. Its `pin` has the hook's command then, and no addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookKind>,
    /// What it becomes.
    pub pin: Pin,
}

formats::numbered!(Copy, FORMAT);

impl Copy {
    /// Name of the file in the runtime directory.
    pub const FILE: &str = "pin.json";

    /// Where its command is written, for messages.
    pub fn key(&self) -> String {
        match self.hook {
            None => format!("`command` of `[apps.{}]`", self.app),
            Some(kind) => format!("`{kind}` of `[apps.{}.reload.hooks]`", self.app),
        }
    }
}
