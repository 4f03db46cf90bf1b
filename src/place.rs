//! Whose systemd a cluster lives in: the machine's, or a user's own (`--user`). Every path, socket, unit directory, field of
//! the journal and command in a message follows from it; rooms ask here and do not tell the two apart by themselves.
//!
//! A process is of one place, which its `--user` says before anything else runs ([`enter`], [`here`]). What renders, installs
//! or validates takes a place as a value instead. It must not know units, workers or the API.

mod words;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::worker::paths::Paths;

pub use words::words;

/// Which of the two kinds of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manager {
    /// PID 1: root's, with a system user for the master and one for each app.
    #[default]
    System,
    /// `systemd --user`: everything runs as one ordinary user.
    User,
}

impl Manager {
    /// The target that a cluster's own is wanted by.
    pub fn boot_target(self) -> &'static str {
        match self {
            Self::System => "multi-user.target",
            Self::User => "default.target",
        }
    }
    /// What systemd's own slices of template units begin with.
    pub fn slice_prefix(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "app",
        }
    }
    /// The trusted field of the journal that names the unit of a line.
    pub fn unit_field(self) -> &'static str {
        match self {
            Self::System => "_SYSTEMD_UNIT",
            Self::User => "_SYSTEMD_USER_UNIT",
        }
    }
    /// The one that names its slice.
    pub fn slice_field(self) -> &'static str {
        match self {
            Self::System => "_SYSTEMD_SLICE",
            Self::User => "_SYSTEMD_USER_SLICE",
        }
    }
    /// journalctl's option for a unit, and globs of them.
    pub fn unit_option(self) -> &'static str {
        match self {
            Self::System => "--unit",
            Self::User => "--user-unit",
        }
    }
    /// What comes behind the name of a tool of systemd's, or of ours, for it to mean this systemd.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::System => &[],
            Self::User => &["--user"],
        }
    }
    /// Where units of others lie: one of ours of the same name would take their place, or they that of ours.
    pub fn units_of_others(self) -> &'static [&'static str] {
        match self {
            Self::System => &["/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system", "/run/systemd/system"],
            Self::User => &[
                "/usr/lib/systemd/user",
                "/usr/local/lib/systemd/user",
                "/usr/share/systemd/user",
                "/etc/systemd/user",
                "/run/systemd/user",
            ],
        }
    }
    /// A mode as it is where there is nobody beside the user: group and others have no part in what only a group of ours may read.
    pub fn mode(self, mode: u32) -> u32 {
        match self {
            Self::System => mode,
            Self::User => mode & 0o700,
        }
    }
}

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of which kind.
    pub manager: Manager,
    /// Below which clusters keep what they keep: `/var/lib` and `/run`; `~/.local/state` and `$XDG_RUNTIME_DIR`.
    pub paths: Paths,
    /// The configuration that is read where no other is named: `/etc/project-cluster/cluster.toml`,
    /// `~/.config/project-cluster/cluster.toml`.
    pub config: PathBuf,
    /// Where units go: `/etc/systemd/system`, `~/.config/systemd/user`.
    pub units: PathBuf,
    /// The directory that installs are locked by, one at a time: `/`, the home.
    pub lock: PathBuf,
    /// Whose: 0, or the user's number, and of which group.
    pub owner: (u32, u32),
}

impl Place {
    /// The machine's systemd.
    pub fn system() -> Self {
        Self {
            manager: Manager::System,
            paths: Paths::system(),
            config: "/etc/project-cluster/cluster.toml".into(),
            units: "/etc/systemd/system".into(),
            lock: "/".into(),
            owner: (0, 0),
        }
    }

    /// The systemd of a user with this home and runtime directory. The home is what counts and not `XDG_CONFIG_HOME` or
    /// `XDG_STATE_HOME`: a shell's may be others than those that the user's systemd was started with.
    pub fn user(owner: (u32, u32), home: &Path, runtime: &Path) -> Self {
        Self {
            manager: Manager::User,
            paths: Paths { state: home.join(".local/state"), run: runtime.to_owned() },
            config: home.join(".config/project-cluster/cluster.toml"),
            units: home.join(".config/systemd/user"),
            lock: home.to_owned(),
            owner,
        }
    }

    /// That of the user whom this process runs as. `XDG_RUNTIME_DIR` counts where it is that user's: after `su` it may be
    /// missing, or still another's; then it is where logind makes it.
    ///
    /// # Errors
    /// For root, and without a home.
    pub fn own() -> Result<Self, String> {
        // SAFETY: these have no preconditions and cannot fail.
        let owner @ (uid, _) = unsafe { (libc::geteuid(), libc::getegid()) };
        if uid == 0 {
            return Err(
                "`--user` is for ordinary users, and this is root: leave it out, or run it as the user, `machinectl shell USER@ ...`"
                    .into(),
            );
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").ok_or("HOME names no directory, so it is not known where your files lie: `export HOME=...`")?;
        let ours = |path: &PathBuf| path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid);
        let runtime = absolute("XDG_RUNTIME_DIR").filter(ours).unwrap_or_else(|| format!("/run/user/{uid}").into());
        Ok(Self::user(owner, &home, &runtime))
    }

    /// Whether this is a user's.
    pub fn is_user(&self) -> bool {
        self.manager == Manager::User
    }

    /// Why there is no systemd to speak to, and what to do; nothing where it runs, or for the machine's own.
    pub fn absent(&self) -> Option<String> {
        if !self.is_user() || self.paths.manager_socket().exists() {
            return None;
        }
        let (run, user) = (self.paths.run.display(), self.user_name());
        Some(format!(
            "your systemd does not run: there is no {}. It runs while you are logged in, and without that where you linger: \
             `sudo loginctl enable-linger {user}`. A shell of `su` or `sudo` is no login: `machinectl shell {user}@` is one; with lingering on, \
             `export XDG_RUNTIME_DIR={run}` lets `systemctl --user` find it there, too",
            self.paths.manager_socket().display(),
        ))
    }

    /// Whether all of it goes on when the user has no session.
    ///
    /// # Errors
    /// What to do where it does not.
    pub fn lingers(&self) -> Result<(), String> {
        let user = self.user_name();
        if !self.is_user() || Path::new("/var/lib/systemd/linger").join(&user).exists() {
            return Ok(());
        }
        Err(format!(
            "you do not linger: all of it stops when your last session ends, and nothing starts at boot. `sudo loginctl enable-linger {user}`"
        ))
    }

    /// The user's name, as far as /etc/passwd or the environment tell it, else the number.
    fn user_name(&self) -> String {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(self.owner.0));
        let told = || std::env::var("USER").ok().filter(|name| crate::units::text::visible(name) == *name);
        entry.and_then(|fields| fields.first().map(|name| (*name).to_owned())).or_else(told).unwrap_or_else(|| self.owner.0.to_string())
    }

    /// A command for a tool of systemd's that means this place's systemd.
    pub fn tool(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.args(self.manager.flags());
        if self.is_user() {
            command.env("XDG_RUNTIME_DIR", &self.paths.run);
        }
        command
    }
}

static HERE: OnceLock<Place> = OnceLock::new();

/// From now on this process is of that place. Only once, and before anything asks.
pub fn enter(place: Place) {
    // A process has one: whoever comes second changes nothing.
    let _ = HERE.set(place);
}

/// The place of this process: the machine's systemd where nothing else was said.
pub fn here() -> &'static Place {
    HERE.get_or_init(Place::system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_all_of_it_at_home() {
        let place = Place::user((1500, 1500), Path::new("/home/ada"), Path::new("/run/user/1500"));
        let cluster = "shop".parse().unwrap();
        assert_eq!(place.paths.var(&cluster), Path::new("/home/ada/.local/state/shop"));
        assert_eq!(place.paths.api(&cluster), Path::new("/run/user/1500/shop/api.sock"));
        assert_eq!(place.paths.manager_socket(), Path::new("/run/user/1500/systemd/private"));
        assert_eq!(place.units, Path::new("/home/ada/.config/systemd/user"));
        assert_eq!([0o644, 0o640, 0o755].map(|mode| place.manager.mode(mode)), [0o600, 0o600, 0o700]);
        assert!(place.absent().unwrap().contains("enable-linger"));
        assert_eq!(Place::system().absent(), None);
        assert_eq!(Place::system().lingers(), Ok(()));
    }
}
