//! `rollback`: an app becomes again what it was under an earlier generation, as a new generation that has the older one's pin.
//!
//! The master names a number alone. What the pin holds only root reads, and root's first step says whether it can be brought
//! about; what the master may see of that, it says before anything begins.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{Master, lock};
use crate::api::error::{Code, Refusal};
use crate::api::types::{Past, Roll};
use crate::config::settings;
use crate::intent::AppIntent;
use crate::names::{AppName, Generation};
use crate::place;
use crate::roll::order::Order;
use crate::systemd::Systemd;
use crate::worker::published::{Published, Told};

/// Generations that a refusal lists.
const LISTED: usize = 10;

impl<S: Systemd> Master<S> {
    /// `rollback` of an app: to this generation, or to the one that was current before the present one.
    ///
    /// # Errors
    /// When there is no such generation to go back to, its release is gone, the app does not run, a socket of it is down, or
    /// systemd cannot be asked.
    pub async fn roll_back(self: &Arc<Self>, name: &AppName, to: Option<Generation>) -> Result<Roll, Refusal> {
        self.renew_settings();
        self.look().await?;
        let settings = self.settings();
        let app = Self::app_settings(&settings, name)?;
        let deploys = lock(&self.rolls).latest(name).filter(|roll| roll.under_way() && roll.slots.is_none());
        let (published, intent) = (self.published(name), self.intent_of(name));
        let going = deploys.map(|roll| roll.generation.unwrap_or(Generation(0)));
        let back = Back { name, app, published: &published, intent: &intent, going };
        let pin = back.chosen(to)?;
        back.can_be(pin)?;
        self.roll_out(name, Order::rollback(pin.generation)).await
    }

    /// Whether a roll may begin that goes back to this generation: it may have waited behind another.
    ///
    /// # Errors
    /// When it is what serves by now, or its pin has gone.
    pub(super) fn goes_back(&self, name: &AppName, to: Generation) -> Result<(), Refusal> {
        let (published, intent) = (self.published(name), self.intent_of(name));
        let Some(pin) = published.pin(to) else {
            let why =
                format!("{name}: the pin of generation {to} is not kept any more. `project-cluster show {name}` lists those that are");
            return Err(Refusal::new(Code::Conflict, why));
        };
        // Of one that is held nobody knows whether all of it serves.
        if intent.held.is_none() && intent.maker(published.pins()) == Some(pin.maker) {
            return Err(Refusal::new(Code::Conflict, format!("{name}: {}", serves(&intent, to))));
        }
        Ok(())
    }
}

/// The generations that an app can be rolled back to, the last first.
pub(super) fn past(app: &settings::App, published: &Published, intent: &AppIntent) -> Vec<Past> {
    let past = |pin: &Told| Past {
        generation: pin.generation,
        pin: (pin.maker != pin.generation).then_some(pin.maker),
        revision: published.revision(pin.generation),
        release: pin.release.clone(),
        since_ms: intent.served_since(pin.generation),
    };
    intent.past(published.pins(), app.keep).into_iter().map(past).collect()
}

fn serves(intent: &AppIntent, to: Generation) -> String {
    match intent.generation.filter(|generation| *generation != to) {
        Some(generation) => format!("generation {to} is what serves, as generation {generation}"),
        None => format!("generation {to} is what serves"),
    }
}

/// A choice among generations.
struct Back<'a> {
    name: &'a AppName,
    app: &'a settings::App,
    published: &'a Published,
    intent: &'a AppIntent,
    /// The generation that a roll which is under way goes to.
    going: Option<Generation>,
}

impl<'a> Back<'a> {
    /// The pin to go back to.
    fn chosen(&self, to: Option<Generation>) -> Result<&'a Told, Refusal> {
        let Self { name, published, intent, .. } = *self;
        let past = intent.past(published.pins(), self.app.keep);
        let Some(to) = to else {
            if let Some(going) = self.going {
                let there = intent.generation.into_iter().chain(past.first().map(|pin| pin.generation));
                let there: Vec<String> = there.map(|generation| format!("`--to {generation}`")).collect();
                let why = format!(
                    "{name}: a roll to generation {going} is under way, so it is not clear what to go back from. Wait for its end (`project-cluster show {name}`), or say where to: {}",
                    there.join(", ")
                );
                return Err(Refusal::new(Code::Conflict, why).at("to"));
            }
            return past.first().copied().ok_or_else(|| {
                let why = format!("{name}: no earlier generation is kept, so there is nothing to go back to. {}", self.keeps());
                Refusal::new(Code::Conflict, why)
            });
        };
        let pin = published.pin(to);
        // What serves is worth going back to where not all of it may: while a roll goes on, and after one that failed.
        let again = |pin: &&Told| Some(pin.generation) == intent.generation && (self.going.is_some() || intent.held.is_some());
        if let Some(pin) = pin.filter(|pin| past.contains(pin) || again(pin)) {
            return Ok(pin);
        }
        let why = match pin {
            Some(pin) if intent.maker(published.pins()) == Some(pin.maker) => {
                let next = format!("`project-cluster restart {name}` makes fresh workers of what is installed");
                return Err(Refusal::new(Code::Conflict, format!("{name}: {}; {next}", serves(intent, to))).at("to"));
            }
            Some(pin) if !intent.was_current(pin) => format!("generation {to} was never current: its roll failed"),
            Some(_) | None if published.highest().is_some_and(|highest| to <= highest) => format!("generation {to} is not kept any more"),
            Some(_) | None => format!("there never was a generation {to}"),
        };
        Err(Refusal::new(Code::NotFound, format!("{name}: {why}. {}", self.list(&past))).at("to"))
    }

    /// Whether what it needs is there, as far as can be told here.
    fn can_be(&self, pin: &Told) -> Result<(), Refusal> {
        let Self { name, published, intent, .. } = *self;
        let others = || {
            let mut past = intent.past(published.pins(), self.app.keep);
            past.retain(|other| other.generation != pin.generation);
            self.list(&past)
        };
        if is_gone(Path::new(&pin.release)) {
            let why = format!(
                "{name}: the release of generation {}, {}, was deleted, so nothing was begun: put it back, or go back to another. {}",
                pin.generation,
                pin.release,
                others()
            );
            return Err(Refusal::new(Code::Conflict, why));
        }
        let keys = published.revision(pin.generation).map(|revision| self.app.revision.since(revision)).unwrap_or_default();
        if keys.contains("listen") {
            let why = format!(
                "{name}: generation {} listened on other addresses, which are the units' and no pin's, so nothing was begun: write `listen` of `[apps.{name}]` as it was, then `sudo project-cluster apply`",
                pin.generation
            );
            return Err(Refusal::new(Code::Conflict, why));
        }
        Ok(())
    }

    fn keeps(&self) -> String {
        format!("`keep` of [reload] says how many are kept: {}", self.app.keep)
    }

    fn list(&self, past: &[&Told]) -> String {
        if past.is_empty() {
            return format!("There is none to go back to; {}", self.keeps());
        }
        let one = |pin: &&Told| format!("{} ({})", pin.generation, pin.release);
        let more = if past.len() > LISTED { ", ..." } else { "" };
        format!("There are: {}{more}", past.iter().take(LISTED).map(one).collect::<Vec<_>>().join(", "))
    }
}

/// Whether there is no such directory, as far as the master may look: its sandbox hides homes and temporary files.
fn is_gone(release: &Path) -> bool {
    let hides = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    let hidden = !place::here().is_user() && hides.iter().any(|root| release.starts_with(root));
    let gone = |kind| matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory);
    !hidden && std::fs::metadata(release).is_err_and(|why| gone(why.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::Hold;

    fn told(generation: u64, maker: u64, release: &Path) -> Told {
        Told { generation: Generation(generation), maker: Generation(maker), ready: true, release: release.display().to_string() }
    }

    #[test]
    fn who_names_no_generation_gets_the_one_before_and_a_wrong_one_is_told_the_right_ones() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("cluster.toml");
        std::fs::write(&config, "[apps.api]\ncommand = \"/bin/true\"\nreload.keep = 2\n").unwrap();
        let settings = crate::config::load(&config, &crate::config::SystemAccounts).unwrap().settings;
        let (name, app) = settings.apps.iter().next().unwrap();
        let mut published = Published::parse("3 0\n4 0\n5 0\n6 0\n7 0\n8 0\n");
        published.tell((3..=8).map(|number| told(number, if number == 8 { 6 } else { number }, directory.path())).collect());
        let mut intent = AppIntent::default();
        [2, 3, 4, 6, 7].into_iter().for_each(|number| intent.serves(Generation(number), None, 1));
        intent.serves(Generation(8), Some(Generation(6)), 1);
        let chosen = |intent: &AppIntent, going: Option<u64>, to: Option<u64>| {
            let back = Back { name, app, published: &published, intent, going: going.map(Generation) };
            back.chosen(to.map(Generation)).map(|pin| pin.generation.0).map_err(|why| why.to_string())
        };
        assert_eq!(chosen(&intent, None, None), Ok(7));
        assert_eq!(chosen(&intent, None, Some(4)), Ok(4));
        let there = format!("There are: 7 ({0}), 4 ({0})", directory.path().display());
        for (to, words) in [(3, "not kept any more"), (2, "not kept any more"), (5, "never current"), (9, "there never was a generation 9")]
        {
            let why = chosen(&intent, None, Some(to)).unwrap_err();
            assert!(why.contains(words) && why.ends_with(&there), "{to}: {why}");
        }
        for (to, words) in [(8, "generation 8 is what serves; "), (6, "generation 6 is what serves, as generation 8; ")] {
            let why = chosen(&intent, None, Some(to)).unwrap_err();
            assert!(why.contains(words), "{to}: {why}");
        }
        // In the middle of a roll nobody knows from where; what served before it can be asked for behind it.
        let why = chosen(&intent, Some(9), None).unwrap_err();
        assert!(why.contains("generation 9 is under way") && why.ends_with("`--to 8`, `--to 7`"), "{why}");
        assert_eq!((chosen(&intent, Some(9), Some(8)), chosen(&intent, Some(9), Some(7))), (Ok(8), Ok(7)));
        let held = AppIntent { held: Some(Hold::new(1, "no", Generation(9))), ..intent.clone() };
        assert_eq!(chosen(&held, None, Some(8)), Ok(8), "not all of it may serve");
        let first = AppIntent { served: vec![], generation: Some(Generation(3)), ..AppIntent::default() };
        assert!(chosen(&first, None, None).unwrap_err().contains("`keep` of [reload] says how many are kept: 2"));
    }

    #[test]
    fn a_release_that_is_gone_is_seen_where_the_master_may_look() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert!(!is_gone(directory.path()) && is_gone(&directory.path().join("none/at/all")));
        assert!(!is_gone(Path::new("/home/nobody-of-that-name/release")), "it is hidden, there or not");
    }
}
