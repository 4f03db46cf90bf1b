//! Which of an app's settings make another worker of it: what a roll is needed for, and which settings those are.
//!
//! Pure. A number tells, never a hash of the settings: `env` holds secrets, and whoever knows a hash can try guesses. The
//! settings of the last numbers are kept with `env`, where root alone reads them: what is changed back gets its number back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::settings::{App, Listen, Settings};
use crate::names::{Address, AppName};

/// Revisions beside the present one that are remembered.
const REMEMBERED: usize = 16;

/// Most bytes that settings with their earlier ones take, about half of what `install` reads. Settings that are larger by
/// themselves have no earlier ones.
const BYTES: usize = 512 << 10;

/// Which of its settings an app's workers are made from, and what others were.
///
/// A number stands for the same settings whenever they are installed. So a lower one may be the newer, and nothing but the
/// equality of two says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "Written")]
pub struct Revision {
    /// Which; 0 for the first.
    pub number: u64,
    /// By number, the keys in which others differ from these; the last 16, and perhaps a key too many of one whose
    /// settings are not kept.
    differs: BTreeMap<u64, BTreeSet<String>>,
}

/// As it is read.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Written {
    number: u64,
    #[serde(default)]
    differs: BTreeMap<u64, BTreeSet<String>>,
    /// The first format's: the keys that changed with a number since the one before.
    #[serde(default)]
    changes: BTreeMap<u64, BTreeSet<String>>,
}

impl From<Written> for Revision {
    fn from(written: Written) -> Self {
        let Written { number, mut differs, changes } = written;
        let mut keys = BTreeSet::new();
        for (at, changed) in changes.into_iter().rev() {
            keys.extend(changed);
            if let Some(before) = at.checked_sub(1) {
                differs.insert(before, keys.clone());
            }
        }
        Self { number, differs }
    }
}

impl Revision {
    /// Whether it is that of a first installation.
    pub fn is_first(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that differ from those of another one; none where that is not remembered, or nothing does.
    pub fn since(&self, other: u64) -> BTreeSet<String> {
        self.differs.get(&other).cloned().unwrap_or_default()
    }
}

/// What differs between an app's settings and those of before, by their keys in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What makes another worker: a roll brings it.
    pub becomes: Vec<&'static str>,
    /// What concerns no worker that runs: counts, limits of time, how rolls go.
    pub around: Vec<&'static str>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.becomes.is_empty() && self.around.is_empty()
    }
}

impl App {
    /// What differs from these settings of before. How often they have changed is no setting.
    pub fn differences(&self, before: &Self) -> Differences {
        // Taken apart, so that a setting that is added cannot be forgotten here.
        let Self {
            revision: _,
            earlier: _,
            workers,
            command,
            cwd,
            user,
            env,
            listen,
            spawn,
            swap,
            ready,
            on_demand,
            success_exit_codes,
            timeout,
            reload,
            keep,
            hooks,
            sandbox,
            systemd,
            limits,
        } = self;
        let addresses = |listens: &[Listen]| listens.iter().map(|listen| listen.address.clone()).collect::<Vec<Address>>();
        let same_addresses = addresses(listen) == addresses(&before.listen);
        let becomes = [
            ("command", *command != before.command),
            ("cwd", *cwd != before.cwd),
            ("user", *user != before.user),
            ("env", *env != before.env),
            ("listen", !same_addresses),
            ("spawn", *spawn != before.spawn),
            ("swap", *swap != before.swap),
            ("ready", *ready != before.ready),
            ("sandbox", *sandbox != before.sandbox),
            ("systemd", *systemd != before.systemd),
        ];
        // systemd applies limits, time-outs and exit codes to what runs as soon as it has read its units again; mode, owner
        // and backlog of a live socket no roll can change.
        let around = [
            ("workers", *workers != before.workers),
            ("listen", same_addresses && *listen != before.listen),
            ("on_demand", *on_demand != before.on_demand),
            ("success_exit_codes", *success_exit_codes != before.success_exit_codes),
            ("timeout", *timeout != before.timeout),
            ("reload", *reload != before.reload || *keep != before.keep || *hooks != before.hooks),
            ("limits", *limits != before.limits),
        ];
        let chosen = |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
        Differences { becomes: chosen(&becomes), around: chosen(&around) }
    }
}

impl App {
    /// Takes the revision that follows `before`: that of the settings that make the same workers, where they are
    /// remembered, else one above all known ones.
    fn follow(&mut self, before: &Self, pinned: Option<u64>) {
        let keys = self.differences(before).becomes;
        self.earlier.clone_from(&before.earlier);
        if keys.is_empty() {
            self.revision = before.revision.clone();
            return;
        }
        let last =
            Self { revision: Revision { number: before.revision.number, ..Revision::default() }, earlier: Vec::new(), ..before.clone() };
        self.earlier.push(last);
        let known = self.earlier.iter().map(|other| other.revision.number);
        let highest = known.chain(before.revision.differs.keys().copied()).chain(pinned).max().unwrap_or(0);
        let same = self.earlier.iter().position(|other| self.differences(other).becomes.is_empty());
        let number = match same {
            Some(at) => self.earlier.remove(at).revision.number,
            None => highest.saturating_add(1),
        };
        let surplus = self.earlier.len().saturating_sub(REMEMBERED);
        self.earlier.drain(..surplus);
        // Those whose settings are not kept differ in no more than they did, and what has changed since.
        let mut differs = before.revision.differs.clone();
        differs.values_mut().for_each(|differs| differs.extend(keys.iter().map(|key| (*key).to_owned())));
        for other in &self.earlier {
            let keys = self.differences(other).becomes;
            differs.insert(other.revision.number, keys.iter().map(|key| (*key).to_owned()).collect());
        }
        differs.remove(&number);
        while let Some(oldest) = differs.keys().find(|at| self.earlier.iter().all(|other| other.revision.number != **at)).copied()
            && differs.len() > REMEMBERED
        {
            differs.remove(&oldest);
        }
        self.revision = Revision { number, differs };
    }
}

impl Settings {
    /// These settings with the revisions that follow those installed before. `pinned` tells the highest revision that a
    /// generation of an app was made from, for where the settings of before are lost.
    pub fn following(&self, before: Option<&Self>, pinned: impl Fn(&AppName) -> Option<u64>) -> Self {
        let mut settings = self.clone();
        for (name, app) in &mut settings.apps {
            match before.and_then(|before| before.apps.get(name)) {
                Some(before) => app.follow(before, pinned(name)),
                None => app.revision.number = pinned(name).map_or(0, |number| number.saturating_add(1)),
            }
        }
        settings.forget(BYTES);
        settings
    }

    /// Forgets earlier settings, those first that were replaced longest ago of the app that has most, until all of it takes
    /// no more bytes than this.
    fn forget(&mut self, bytes: usize) {
        let size = |settings: &Self| serde_json::to_vec_pretty(settings).map_or(0, |text| text.len());
        while self.apps.values().any(|app| !app.earlier.is_empty()) && size(self) > bytes {
            let weight = |app: &App| serde_json::to_vec(&app.earlier).map_or(0, |text| text.len());
            if let Some(most) = self.apps.values_mut().max_by_key(|app| weight(app)) {
                most.earlier.remove(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::config::settings::Sandbox;

    struct Nobody;
    impl crate::config::Accounts for Nobody {
        fn user(&self, _: &str) -> std::io::Result<Option<u32>> {
            Ok(None)
        }
        fn group(&self, _: &str) -> std::io::Result<Option<u32>> {
            Ok(None)
        }
    }

    fn settings(toml: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        std::fs::write(&path, toml).unwrap();
        load(&path, &Nobody).unwrap_or_else(|why| panic!("{toml}: {}", why.render(false))).settings
    }

    fn app(more: &str) -> App {
        let more = if more.contains("command") { more.to_owned() } else { format!("command = \"/bin/true\"\n{more}") };
        let more = if more.contains("listen") { more } else { format!("{more}\nlisten = \"/run/a\"") };
        settings(&format!("[apps.api]\n{more}\n")).apps.into_values().next().unwrap()
    }

    #[test]
    fn every_setting_is_told_under_its_key_and_on_its_side() {
        // What is written, which key that is, and whether it makes another worker.
        let cases = [
            ("workers = 7", "workers", false),
            ("command = \"/bin/false\"", "command", true),
            ("cwd = \"/usr\"", "cwd", true),
            ("env = { A = \"1\" }", "env", true),
            ("listen = \"/run/b\"", "listen", true),
            ("listen = { path = \"/run/a\", mode = \"0600\" }", "listen", false),
            ("swap = false", "swap", true),
            ("ready = \"notify\"", "ready", true),
            ("on_demand = true", "on_demand", false),
            ("success_exit_codes = [9]", "success_exit_codes", false),
            ("timeout.start = \"7s\"", "timeout", false),
            ("reload.max_surge = 2", "reload", false),
            ("reload.keep = 2", "reload", false),
            ("reload.hooks.before = \"/bin/true\"", "reload", false),
            ("sandbox.home = false", "sandbox", true),
            ("systemd = { Nice = 7 }", "systemd", true),
            ("limits = { CPUWeight = 7 }", "limits", false),
        ];
        let before = app("");
        assert!(before.differences(&before).is_empty());
        for (written, key, becomes) in cases {
            let (now, expected) = (app(written), vec![key]);
            let differences = now.differences(&before);
            let (these, those) = if becomes { (expected, vec![]) } else { (vec![], expected) };
            assert_eq!(differences, Differences { becomes: these, around: those }, "{written}");
            assert_eq!(before.differences(&now), differences, "and back: {written}");
        }
        let with = |change: fn(&mut App)| {
            let mut app = before.clone();
            change(&mut app);
            app.differences(&before)
        };
        use crate::config::settings::{Spawn, User};
        assert_eq!(with(|app| app.spawn = Spawn::Child { port: None, ports: None }).becomes, ["spawn"]);
        assert_eq!(with(|app| app.user = User::Dynamic("other".into())).becomes, ["user"]);
        assert_eq!(with(|app| app.sandbox = Sandbox { users: true, ..Sandbox::default() }).becomes, ["sandbox"]);
        assert!(with(|app| app.revision.number = 7).is_empty(), "it is no setting");
    }

    #[test]
    fn a_revision_follows_whatever_makes_other_workers_and_says_what_did() {
        let never = |_: &AppName| None;
        let of = |settings: &Settings| settings.apps.values().next().unwrap().revision.clone();
        let write = |more: &str| settings(&format!("[apps.api]\ncommand = \"/bin/true\"\n{more}\n"));
        let first = write("").following(None, never);
        assert!(of(&first).is_first());
        assert_eq!(write("").following(Some(&first), never), first);
        let more = write("workers = 3").following(Some(&first), never);
        assert!(of(&more).is_first(), "more of the same");
        let second = write("env = { A = \"secret\" }").following(Some(&more), never);
        let third = write("env = { A = \"secret\" }\ncwd = \"/usr\"").following(Some(&second), never);
        assert_eq!((of(&second).number, of(&third).number), (1, 2));
        let keys = |since| of(&third).since(since).into_iter().collect::<Vec<_>>();
        assert_eq!((keys(0), keys(1), keys(2)), (vec!["cwd".to_owned(), "env".into()], vec!["cwd".to_owned()], vec![]));
        let text = serde_json::to_string(&third.without_env()).unwrap();
        assert!(!text.contains("secret"));
        assert_eq!(of(&serde_json::from_str(&text).unwrap()), of(&third));
        // Where what was installed is lost, the pins keep the count.
        assert_eq!(of(&write("").following(None, |_| Some(7))).number, 8);
    }

    /// `[apps.api]` with this in `env.A`.
    fn env(value: &str) -> Settings {
        settings(&format!("[apps.api]\ncommand = \"/bin/true\"\nenv = {{ A = \"{value}\" }}\n"))
    }

    fn only(settings: &Settings) -> &App {
        settings.apps.values().next().unwrap()
    }

    #[test]
    fn what_is_changed_back_has_its_number_again() {
        let cwd = settings("[apps.api]\ncommand = \"/bin/true\"\ncwd = \"/usr\"\n");
        // What is installed, one after another; its number; the keys that differ from each other number.
        type Differs = &'static [(u64, &'static str)];
        let cases: [(Settings, u64, Differs); 6] = [
            (env("a"), 0, &[]),
            (env("b"), 1, &[(0, "env")]),
            (env("a"), 0, &[(1, "env")]),
            (cwd.clone(), 2, &[(0, "cwd env"), (1, "cwd env")]),
            (env("b"), 1, &[(0, "env"), (2, "cwd env")]),
            (cwd, 2, &[(0, "cwd env"), (1, "cwd env")]),
        ];
        let mut last: Option<Settings> = None;
        for (at, (written, number, differs)) in cases.into_iter().enumerate() {
            let next = written.following(last.as_ref(), |_| None);
            let revision = &only(&next).revision;
            let told: Vec<(u64, String)> =
                (0..4).map(|other| (other, Vec::from_iter(revision.since(other)).join(" "))).filter(|(_, keys)| !keys.is_empty()).collect();
            let expected: Vec<(u64, String)> = differs.iter().map(|(other, keys)| (*other, (*keys).to_owned())).collect();
            assert_eq!((revision.number, told), (number, expected), "the {at}th");
            assert_eq!(written.following(Some(&next), |_| None), next, "the {at}th again");
            last = Some(next);
        }
        // What makes no other workers is as it is now, not as it was then.
        let more =
            Settings { apps: env("a").apps.into_iter().map(|(name, app)| (name, App { on_demand: true, ..app })).collect(), ..env("a") };
        let back = more.following(last.as_ref(), |_| None);
        assert_eq!((only(&back).revision.number, only(&back).on_demand), (0, true));
        // A number that a generation was made from and nobody remembers stands for nothing else.
        assert_eq!(only(&env("c").following(Some(&back), |_| Some(30))).revision.number, 31);
    }

    #[test]
    fn the_last_ones_are_remembered_as_long_as_there_is_room() {
        let mut last = env("0");
        for at in 1..=40 {
            last = env(&at.to_string()).following(Some(&last), |_| None);
        }
        let kept: Vec<u64> = only(&last).earlier.iter().map(|app| app.revision.number).collect();
        assert_eq!((kept, only(&last).revision.number), (Vec::from_iter(24..40), 40));
        assert_eq!((only(&last).revision.differs.len(), only(&last).revision.since(23).len()), (REMEMBERED, 0));
        let numbers = |value: &str| only(&env(value).following(Some(&last), |_| None)).revision.number;
        assert_eq!([numbers("24"), numbers("23")], [24, 41], "what is forgotten is new");
        assert!(only(&last).earlier.iter().all(|app| app.earlier.is_empty() && app.revision.differs.is_empty()));

        // Large ones: as many as there is room for, the last ones.
        let large = |at: u8| env(&char::from(b'a' + at).to_string().repeat(120 << 10));
        let mut last = large(0);
        for at in 1..9 {
            last = large(at).following(Some(&last), |_| None);
        }
        assert_eq!(only(&last).earlier.iter().map(|app| app.revision.number).collect::<Vec<_>>(), [5, 6, 7]);
        assert!(serde_json::to_string_pretty(&last).unwrap().len() <= BYTES);
        assert_eq!(Vec::from_iter(only(&last).revision.since(0)), ["env"], "which keys is still told");
        // One for which there is no room at all is installed all the same, and forgets.
        let mut huge = env("x");
        huge.apps.values_mut().for_each(|app| drop(app.env.insert("A".into(), "x".repeat(BYTES))));
        let huge = huge.following(Some(&last), |_| None);
        assert!(only(&huge).earlier.is_empty() && only(&huge).revision.number == 9);
        // Nobody but root is told.
        assert!(only(&last.without_env()).earlier.is_empty());
    }

    #[test]
    fn what_the_first_format_says_is_understood() {
        let text = r#"{"number":4,"changes":{"2":["command"],"3":["env"],"4":["cwd"]}}"#;
        let revision: Revision = serde_json::from_str(text).unwrap();
        let keys = |since| Vec::from_iter(revision.since(since));
        assert_eq!(
            (revision.number, keys(1), keys(3)),
            (4, vec!["command".to_owned(), "cwd".into(), "env".into()], vec!["cwd".to_owned()])
        );
        assert_eq!((keys(0).len(), keys(4).len()), (0, 0));
        // What follows knows these keys, and what has changed since.
        let mut first = env("a");
        first.apps.values_mut().for_each(|app| app.revision = revision.clone());
        let next = env("b").following(Some(&first), |_| None);
        assert_eq!((only(&next).revision.number, Vec::from_iter(only(&next).revision.since(3))), (5, vec!["cwd".to_owned(), "env".into()]));
        assert_eq!(only(&env("a").following(Some(&next), |_| None)).revision.number, 4);
    }
}
