//! Waits for the end of a roll, saying each step as it comes; goes on when the master is restarted meanwhile.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::sync::watch;

use super::client::{self, AWAY, Client};
use super::{Failure, table};
use crate::api::types::{Roll, RollState, Step};
use crate::journal::harmless;
use crate::names::{Slot, Uid};
use crate::status;

/// One long poll of a roll.
const POLL_MS: u64 = 20_000;

/// Follows a roll to its end, to the deadline, or until somebody stops the waiting: then it is told as it is.
pub(super) async fn follow(
    client: &Client,
    mut roll: Roll,
    deadline: Option<Instant>,
    stop: &mut watch::Receiver<bool>,
    say: impl Fn(&str),
) -> Result<Roll, Failure> {
    let name = roll.app.clone();
    let mut told = Told::default();
    let (mut away, mut renewed) = (None::<Instant>, false);
    loop {
        for step in told.new_ones(&roll, std::mem::take(&mut renewed)) {
            say(&format!("{:>8}  {}", table::duration(step.at_ms), harmless(&step.text)));
            status::tell(&format!("roll{}: {}; {} of {} ready", to(&roll), step.text, roll.ready, roll.target));
        }
        if !roll.under_way() {
            status::tell_up(&name);
            if roll.state == RollState::Done {
                say(&format!("{:>8}  done: {}", table::duration(roll.took_ms), figures(&roll)));
            }
            return Ok(roll);
        }
        if *stop.borrow() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(roll);
        }
        let left = deadline.map_or(POLL_MS, |deadline| {
            u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(POLL_MS).clamp(1, POLL_MS)
        });
        let uri = format!("/v1/apps/{name}/rolls/{}?after={}&wait={left}ms", roll.id, roll.sequence);
        let answer = tokio::select! {
            answer = client.call::<Roll>(Method::GET, &uri, Duration::from_millis(left) + Duration::from_secs(30)) => answer,
            Ok(()) = stop.changed() => continue,
        };
        match answer {
            Ok(next) => (roll, renewed) = (next, away.take().is_some()),
            Err(error @ client::Error::Refused(_)) => return Err(error.into()),
            // The master is being restarted: PID 1 holds its socket, so it is back soon.
            Err(error) => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY {
                    return Err(error.into());
                }
                if since.elapsed() < Duration::from_millis(100) {
                    say("          the master went away; waiting for it");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How it stands: `generation 7, 3 of 3 ready`. Of single workers that is said without figures where it is one thing of all.
pub(super) fn figures(roll: &Roll) -> String {
    let all = roll.slots.as_ref().map(Vec::len);
    match workers(roll) {
        Some(workers) if roll.state == RollState::Done && roll.target == 0 => format!("{workers} stopped"),
        Some(workers) if roll.ready == roll.target && all == Some(roll.target.into()) => format!("{workers} ready"),
        _ => format!("{}{} of {} ready", of(roll), roll.ready, roll.target),
    }
}

/// `generation 7, `, or `api:02, `, once that is known.
pub(super) fn of(roll: &Roll) -> String {
    match (workers(roll), roll.generation) {
        (Some(workers), _) if !workers.is_empty() => format!("{workers}, "),
        (None, Some(generation)) => format!("generation {generation}, "),
        _ => String::new(),
    }
}

/// ` to generation 7`, or ` of api:02`, once that is known.
pub(super) fn to(roll: &Roll) -> String {
    match (workers(roll), roll.generation) {
        (Some(workers), _) if !workers.is_empty() => format!(" of {workers}"),
        (None, Some(generation)) => format!(" to generation {generation}"),
        _ => String::new(),
    }
}

/// The workers that a roll of single slots is about.
fn workers(roll: &Roll) -> Option<String> {
    let uid = |slot: &u16| Slot::new(*slot).map(|slot| Uid { app: roll.app.clone(), slot }.to_string());
    roll.slots.as_ref().map(|slots| slots.iter().filter_map(uid).collect::<Vec<_>>().join(", "))
}

/// Which steps of a roll were told.
#[derive(Default)]
struct Told {
    count: usize,
    last_ms: u64,
}

impl Told {
    /// Those that were not. A new master (`renewed`) may have lost the first of them or the last: then their times tell.
    fn new_ones<'a>(&mut self, roll: &'a Roll, renewed: bool) -> &'a [Step] {
        if renewed {
            self.count = roll.steps.iter().filter(|step| step.at_ms <= self.last_ms).count();
        }
        let new = roll.steps.get(self.count..).unwrap_or_default();
        self.count = roll.steps.len();
        self.last_ms = new.last().map_or(self.last_ms, |step| step.at_ms);
        new
    }
}
