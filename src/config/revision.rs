//! Which of an app's settings make another worker of it: what a roll is needed for, and how often that has changed.
//!
//! Pure. A number tells, never a hash of the settings: `env` holds secrets, and whoever knows a hash can try guesses.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::settings::{App, Listen, Settings};
use crate::names::{Address, AppName};

/// Changes that are remembered by name; of older ones only that there was one.
const REMEMBERED: usize = 16;

/// How often what an app's workers become has changed, and what it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Grows with every change; 0 for the first.
    pub number: u64,
    /// By number, the keys that changed with it; the last 16.
    #[serde(default)]
    changes: BTreeMap<u64, BTreeSet<String>>,
}

impl Revision {
    /// Whether it is that of a first installation.
    pub fn is_first(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that have changed since another one; none where that is not remembered, or nothing has.
    pub fn since(&self, older: u64) -> BTreeSet<String> {
        let known = older < self.number && (older + 1..=self.number).all(|number| self.changes.contains_key(&number));
        if !known {
            return BTreeSet::new();
        }
        self.changes.range(older + 1..=self.number).flat_map(|(_, keys)| keys.clone()).collect()
    }

    /// The next one, for these keys.
    fn next(&self, keys: &[&str]) -> Self {
        let mut next = Self { number: self.number.saturating_add(1), changes: self.changes.clone() };
        next.changes.insert(next.number, keys.iter().map(|key| (*key).to_owned()).collect());
        while next.changes.len() > REMEMBERED {
            next.changes.pop_first();
        }
        next
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
            ("reload", *reload != before.reload),
            ("limits", *limits != before.limits),
        ];
        let chosen = |keys: &[(&'static str, bool)]| keys.iter().filter(|(_, differs)| *differs).map(|(key, _)| *key).collect();
        Differences { becomes: chosen(&becomes), around: chosen(&around) }
    }
}

impl Settings {
    /// These settings with the revisions that follow those installed before. `pinned` tells the highest revision that a
    /// generation of an app was made from, for where the settings of before are lost.
    pub fn following(&self, before: Option<&Self>, pinned: impl Fn(&AppName) -> Option<u64>) -> Self {
        let mut settings = self.clone();
        for (name, app) in &mut settings.apps {
            app.revision = match before.and_then(|before| before.apps.get(name)) {
                Some(before) => match app.differences(before).becomes.as_slice() {
                    [] => before.revision.clone(),
                    keys => before.revision.next(keys),
                },
                None => Revision { number: pinned(name).map_or(0, |number| number.saturating_add(1)), changes: BTreeMap::new() },
            };
        }
        settings
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
        // Back again is another change: the workers in between are not those of before.
        assert_eq!(of(&write("").following(Some(&third), never)).number, 3);
        // Where what was installed is lost, the pins keep the count.
        assert_eq!(of(&write("").following(None, |_| Some(7))).number, 8);
        // Of old changes only that there were some.
        let mut last = third;
        for at in 0..40 {
            last = write(&format!("env = {{ A = \"{at}\" }}")).following(Some(&last), never);
        }
        let revision = of(&last);
        assert_eq!((revision.number, revision.changes.len()), (42, REMEMBERED));
        assert_eq!((revision.since(3).len(), revision.since(40).len(), revision.since(99).len()), (0, 1, 0));
    }
}
