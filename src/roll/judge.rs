//! Whether canaries are fit for the rest to follow.
//!
//! Pure: all that is known of them in, a verdict out. A judge must not know how a roll goes on, nor where what it is told
//! comes from. Errors that an app logs have their place here, as one more field and one more judge.

use crate::names::{AppName, Instance};
use crate::roll::words::who;

/// What a judge is told.
#[derive(Debug)]
pub struct Watched<'a> {
    /// Whose they are.
    pub app: &'a AppName,
    /// How many there are to be.
    pub wanted: usize,
    /// How long each must have been ready, milliseconds.
    pub bake: u64,
    /// Those there are.
    pub canaries: Vec<Canary>,
}

/// A canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// Which.
    pub worker: Instance,
    /// Ready without a break for so long, milliseconds; none where it is not.
    pub ready_for: Option<u64>,
    /// How often it ended since it was started, or since a person let the roll go on all the same: exits, crashes, restarts.
    pub ends: u32,
}

/// What a judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// The rest may follow.
    Good,
    /// It may not, for this reason.
    Bad(String),
}

/// Who judges canaries.
pub trait Judge {
    /// The verdict over what is known now.
    fn judge(&self, watched: &Watched<'_>) -> Verdict;
}

/// Content with workers that get ready and stay so.
#[derive(Debug, Clone, Copy)]
pub struct Steady;

impl Judge for Steady {
    fn judge(&self, watched: &Watched<'_>) -> Verdict {
        let Watched { app, wanted, bake, canaries } = watched;
        if let Some(canary) = canaries.iter().find(|canary| canary.ends > 0) {
            let times = if canary.ends == 1 { "once".to_owned() } else { format!("{} times", canary.ends) };
            let seconds = bake.div_ceil(1000);
            return Verdict::Bad(format!("the canary {} ended {times} before it had been ready for {seconds} s", who(app, &canary.worker)));
        }
        let baked = canaries.iter().filter(|canary| canary.ready_for.is_some_and(|time| time >= *bake)).count();
        if baked >= *wanted { Verdict::Good } else { Verdict::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_with_those_that_get_ready_and_stay_so() {
        let app = "api".parse().unwrap();
        let worker = |name: &str| name.parse().unwrap();
        let verdict = |canaries: &[(Option<u64>, u32)]| {
            let canaries = (1..).zip(canaries).map(|(slot, (ready_for, ends))| Canary {
                worker: worker(&format!("{slot}.5.1")),
                ready_for: *ready_for,
                ends: *ends,
            });
            Steady.judge(&Watched { app: &app, wanted: 2, bake: 30_000, canaries: canaries.collect() })
        };
        assert_eq!(verdict(&[]), Verdict::Wait);
        assert_eq!(verdict(&[(Some(30_000), 0)]), Verdict::Wait, "one is missing");
        assert_eq!(verdict(&[(Some(30_000), 0), (Some(29_999), 0)]), Verdict::Wait);
        assert_eq!(verdict(&[(Some(30_000), 0), (None, 0)]), Verdict::Wait);
        assert_eq!(verdict(&[(Some(30_000), 0), (Some(31_000), 0)]), Verdict::Good);
        let bad = "the canary api:02 (generation 5) ended once before it had been ready for 30 s";
        assert_eq!(verdict(&[(Some(30_000), 0), (Some(31_000), 1)]), Verdict::Bad(bad.into()));
        assert_eq!(verdict(&[(None, 0), (None, 3)]), Verdict::Bad(bad.replace("once", "3 times")));
    }
}
