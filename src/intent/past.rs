//! Which generations were current, and so to which of them an app can be rolled back.
//!
//! Pure. The master remembers who was current, root keeps the pins: both go by what is here, so that what the one offers the
//! other has kept. A generation that never was current, since its roll failed, is no place to go back to.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::AppIntent;
use crate::names::Generation;
use crate::worker::published::Told;

/// Generations that are remembered as having been current: more than `keep` of the configuration can be, some of which may
/// be of one pin.
const REMEMBERED: usize = 100;

/// A generation became current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Which.
    pub generation: Generation,
    /// Since when, milliseconds of Unix time; none of one that an older program made current.
    #[serde(default)]
    pub since_ms: Option<u64>,
}

/// A person rolled the app back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolledBack {
    /// The generation that it is again.
    pub to: Generation,
    /// When, milliseconds of Unix time.
    pub since_ms: u64,
    /// The revision of the settings that were installed then: `apply` of just these does not undo it.
    pub installed: u64,
}

impl AppIntent {
    /// From now on this generation is current. By a rollback or not is the caller's to say.
    pub fn serves(&mut self, generation: Generation, pin: Option<Generation>, now_ms: u64) {
        // What was current before a program that remembers it.
        if self.served.is_empty() {
            self.served.extend(self.generation.map(|generation| Served { generation, since_ms: None }));
        }
        self.served.retain(|served| served.generation != generation);
        self.served.push(Served { generation, since_ms: Some(now_ms) });
        self.served.drain(..self.served.len().saturating_sub(REMEMBERED));
        (self.generation, self.pin, self.rolled_back) = (Some(generation), pin, None);
    }

    /// Since when a generation was current, where that is known.
    pub fn served_since(&self, generation: Generation) -> Option<u64> {
        self.served.iter().find(|served| served.generation == generation)?.since_ms
    }

    /// Whether it was ever current. Of what lies before the memory's begin it is enough that it got ready.
    pub fn was_current(&self, pin: &Told) -> bool {
        let remembered = self.served.iter().any(|served| served.generation == pin.generation);
        let before = self.served.iter().map(|served| served.generation).chain(self.generation).min();
        remembered || Some(pin.generation) == self.generation || (pin.ready && before.is_none_or(|first| pin.generation < first))
    }

    /// Whose pin the current generation has.
    pub fn maker(&self, pins: &[Told]) -> Option<Generation> {
        let current = self.generation?;
        pins.iter().find(|pin| pin.generation == current).map(|pin| pin.maker).or(self.pin).or(Some(current))
    }

    /// The generations that it can be rolled back to, the last first: of those that were current the last `keep`. Of several
    /// that have one pin, since there were rollbacks, the last counts; and none where that is the pin of the current one.
    pub fn past<'a>(&self, pins: &'a [Told], keep: u16) -> Vec<&'a Told> {
        let mut makers: BTreeSet<Generation> = self.maker(pins).into_iter().collect();
        let mut past: Vec<&Told> = pins.iter().filter(|pin| self.was_current(pin) && Some(pin.generation) != self.generation).collect();
        past.sort_unstable_by_key(|pin| std::cmp::Reverse(pin.generation));
        past.retain(|pin| makers.insert(pin.maker));
        past.truncate(keep.into());
        past
    }

    /// The generations that it names: their pins must not go.
    pub fn named(&self) -> impl Iterator<Item = Generation> {
        let held = self.held.as_ref().map(|held| held.generation);
        [self.generation, self.pin, self.rolled_back.map(|back| back.to), held].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(generation: u64, maker: u64, ready: bool) -> Told {
        Told { generation: Generation(generation), maker: Generation(maker), ready, release: format!("/srv/v{maker}") }
    }

    fn numbers(past: &[&Told]) -> Vec<u64> {
        past.iter().map(|pin| pin.generation.0).collect()
    }

    #[test]
    fn those_that_were_current_are_the_past_and_no_others() {
        let mut intent = AppIntent::default();
        let pins: Vec<Told> = (1..=6).map(|number| told(number, number, number != 4)).collect();
        assert_eq!(numbers(&intent.past(&pins, 9)), [6, 5, 3, 2, 1], "a lost memory: those that got ready");
        for number in [2, 3, 6] {
            intent.serves(Generation(number), None, number * 10);
        }
        // 4 and 5 failed, the one before it was ready and the other when it was; of 1 nobody remembers anything.
        assert_eq!(numbers(&intent.past(&pins, 9)), [3, 2, 1]);
        assert_eq!(numbers(&intent.past(&pins, 1)), [3]);
        assert_eq!(numbers(&intent.past(&pins, 0)), [] as [u64; 0]);
        assert_eq!(numbers(&intent.past(&pins[2..], 9)), [3], "what is gone is gone");
        assert_eq!((intent.served_since(Generation(3)), intent.served_since(Generation(1))), (Some(30), None));
    }

    #[test]
    fn a_rollback_is_the_older_one_again_and_takes_no_second_place() {
        let mut intent = AppIntent::default();
        [1, 2, 3].into_iter().for_each(|number| intent.serves(Generation(number), None, 1));
        let mut pins: Vec<Told> = (1..=3).map(|number| told(number, number, true)).collect();
        pins.push(told(4, 1, true));
        intent.serves(Generation(4), Some(Generation(1)), 2);
        assert_eq!((intent.maker(&pins), numbers(&intent.past(&pins, 9))), (Some(Generation(1)), vec![3, 2]));
        // And forward again: what was 1 and 4 is in the list once, as the later.
        pins.push(told(5, 3, true));
        intent.serves(Generation(5), Some(Generation(3)), 3);
        assert_eq!(numbers(&intent.past(&pins, 9)), [4, 2]);
        // The pin that it was made from has gone; its own is there.
        assert_eq!(numbers(&intent.past(&pins[3..], 9)), [4]);
    }

    #[test]
    fn a_memory_of_before_begins_with_what_was_current_then() {
        let mut intent = AppIntent { generation: Some(Generation(7)), ..AppIntent::default() };
        let pins = [told(5, 5, true), told(6, 6, false), told(7, 7, false), told(8, 8, true)];
        assert_eq!(numbers(&intent.past(&pins, 9)), [5], "8 is later than what serves: it failed");
        intent.serves(Generation(8), None, 9);
        assert_eq!(numbers(&intent.past(&pins, 9)), [7, 5]);
        for number in 9..500 {
            intent.serves(Generation(number), None, number);
        }
        assert_eq!(intent.served.len(), REMEMBERED);
    }

    #[test]
    fn whatever_is_current_next_is_no_rollback_any_more_unless_somebody_says_so() {
        let back = RolledBack { to: Generation(1), since_ms: 1, installed: 2 };
        let mut intent = AppIntent { rolled_back: Some(back), ..AppIntent::default() };
        assert_eq!(intent.named().collect::<Vec<_>>(), [Generation(1)]);
        intent.serves(Generation(3), None, 4);
        assert_eq!(intent.rolled_back, None);
    }
}
