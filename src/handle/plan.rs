//! What a handle's steps do, as functions of data.
//!
//! Pure. It must not know D-Bus or files.

use std::collections::BTreeSet;

use crate::names::{Generation, Instance, Slot};

/// Why a stop step runs, and so what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The system goes down: PID 1 stops everything itself, and waiting for a socket would deadlock (trap 14).
    Shutdown,
    /// `systemctl restart`: the sockets stay and connections queue; the workers stop.
    Restart,
    /// `systemctl stop`: the sockets close first, then the workers stop.
    Stop,
    /// `project-cluster sleep`: as `Stop`, but the sockets stay and wake the app.
    Sleep,
    /// The start failed: nothing of it stays, and the port closes, so that nothing starts it again by itself.
    FailedStart,
}

/// Which case it is: by the manager's state, the type of the handle's job, and whether `sleep` left its mark.
/// In doubt the sockets stay.
pub fn case(system_state: &str, job: Option<&str>, sleep: bool) -> Case {
    match job {
        _ if system_state == "stopping" => Case::Shutdown,
        Some("stop") if sleep => Case::Sleep,
        Some("stop") => Case::Stop,
        Some("start") => Case::FailedStart,
        // `restart`, and whatever a later systemd calls it.
        _ => Case::Restart,
    }
}

/// What is known of an app's generations when its start step has to choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The highest generation that has a pin.
    pub highest: Option<Generation>,
    /// The current one, and the one whose pin it uses, as the master remembers.
    pub current: Option<(Generation, Generation)>,
    /// The last one that a start step brought up.
    pub started: Option<Generation>,
    /// The last one of which some worker got ready.
    pub ready: Option<Generation>,
}

/// The generation to start, and the one whose pin it uses: the current one, since a start is no deploy; a fresh one
/// after `restart`, or when none ever got ready.
///
/// `has_pin` tells whether a generation's pin is there: the master's memory is not trusted to name one that is not.
pub fn generation(known: &Known, fresh: bool, has_pin: impl Fn(Generation) -> bool) -> (Generation, Generation) {
    let next = known.highest.unwrap_or(Generation(0)).next();
    if fresh {
        return (next, next);
    }
    let sound = |(generation, pin): &(Generation, Generation)| *generation < next && has_pin(*pin);
    let current = known.current.filter(sound);
    let started = known.started.map(|started| (started, started)).filter(sound);
    let ready = known.ready.map(|ready| (ready, ready)).filter(sound);
    match (current, started) {
        // The higher one is the later one: a start step without a master leaves the master's memory behind.
        (Some(current), Some(started)) => Some(if started.0 > current.0 { started } else { current }),
        (Some(current), None) => Some(current),
        // A roll does not say where root would know it that it went well: `started` alone may be older than what serves.
        (None, started) => ready.max(started),
    }
    .unwrap_or((next, next))
}

/// The worker to start in each of these slots: the one that lives there already, else a fresh try.
///
/// `loaded` are the workers systemd knows, with whether they live.
pub fn workers(slots: &BTreeSet<Slot>, generation: (Generation, Generation), loaded: &[(Instance, bool)]) -> Vec<Instance> {
    slots
        .iter()
        .map(|&slot| {
            let here = loaded.iter().filter(|(instance, _)| instance.slot == slot);
            let living = here.clone().filter(|(_, lives)| *lives).map(|(instance, _)| *instance).max_by_key(|instance| instance.generation);
            living.unwrap_or_else(|| {
                let (generation, pin) = generation;
                let tries = here.filter(|(instance, _)| instance.generation == generation).map(|(instance, _)| instance.attempt);
                let attempt = tries.max().map_or(1, |last| if last >= Instance::MAX_TRY { 1 } else { last + 1 });
                Instance { slot, generation, pin: (pin != generation).then_some(pin), attempt }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_tells_the_cases_apart() {
        assert_eq!(case("stopping", Some("stop"), true), Case::Shutdown);
        assert_eq!(case("running", Some("stop"), false), Case::Stop);
        assert_eq!(case("degraded", Some("stop"), true), Case::Sleep);
        assert_eq!(case("running", Some("start"), false), Case::FailedStart);
        assert_eq!(case("running", Some("restart"), false), Case::Restart);
        // In doubt the sockets stay.
        assert_eq!(case("running", None, false), Case::Restart);
    }

    #[test]
    fn a_start_is_no_deploy() {
        let all = |_| true;
        let of = |number| (Generation(number), Generation(number));
        let known = Known {
            highest: Some(Generation(7)),
            current: Some((Generation(6), Generation(4))),
            started: Some(Generation(5)),
            ready: Some(Generation(7)),
        };
        assert_eq!(generation(&known, false, all), (Generation(6), Generation(4)));
        assert_eq!(generation(&known, true, all), of(8));
        // A restart that the master never saw is later than what it remembers.
        assert_eq!(generation(&Known { started: Some(Generation(7)), ..known }, false, all), of(7));
        // A generation without a pin cannot be started, nor one that was never made. Then it is the last that got ready, which
        // a roll may have made after the last start.
        assert_eq!(generation(&known, false, |pin| pin != Generation(4)), of(7));
        assert_eq!(generation(&Known { ready: None, ..known }, false, |pin| pin != Generation(4)), of(5));
        assert_eq!(generation(&Known { current: Some(of(9)), started: None, ..known }, false, all), of(7));
        assert_eq!(generation(&Known { highest: Some(Generation(3)), ..Known::default() }, false, all), of(4));
        assert_eq!(generation(&Known::default(), false, all), of(1));
    }

    #[test]
    fn living_workers_are_left_and_dead_tries_not_used_again() {
        let of = |text: &str| text.parse::<Instance>().unwrap();
        let loaded = [(of("1.6.1"), true), (of("2.6.3"), false), (of("3.5.1"), true), (of("3.6.1"), true), (of("4.5.9"), false)];
        let chosen = workers(&Slot::first(4).collect(), (Generation(6), Generation(6)), &loaded);
        assert_eq!(chosen, [of("1.6.1"), of("2.6.4"), of("3.6.1"), of("4.6.1")]);
        assert_eq!(workers(&Slot::first(1).collect(), (Generation(6), Generation(4)), &[]), [of("1.6-4.1")]);
    }
}
