//! Waits for the end of a roll, saying each step as it comes; goes on when the master is restarted meanwhile.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::sync::watch;

use super::client::{AWAY, Client, Error, PAUSE};
use super::table;
use crate::api::types::{App, Roll, RollState, Step, WorkerState};
use crate::journal::harmless;
use crate::names::{Slot, Uid};
use crate::status;

/// One long poll of a roll.
const POLL: Duration = Duration::from_secs(20);

/// Follows a roll to its end, to the end of the client's time, or until somebody stops the waiting: then it is told as it is.
/// With an error where the master stays away, or knows nothing of it any more.
pub(super) async fn follow(client: &Client, mut roll: Roll, stop: &mut watch::Receiver<bool>, say: impl Fn(&str)) -> (Roll, Option<Error>) {
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
            return (roll, None);
        }
        if *stop.borrow() || client.left().is_some_and(|left| left.is_zero()) {
            return (roll, None);
        }
        let wait = client.patience(POLL);
        let uri = format!("/v1/apps/{name}/rolls/{}?after={}&wait={}ms", roll.id, roll.sequence, wait.as_millis());
        let answer = tokio::select! {
            answer = client.call::<Roll>(Method::GET, &uri, wait + AWAY) => answer,
            Ok(()) = stop.changed() => continue,
        };
        match answer {
            Ok(next) => (roll, renewed) = (next, away.take().is_some()),
            Err(error @ Error::Refused(_)) if !error.passes() => return (roll, Some(error)),
            // The master is being restarted, and PID 1 holds its socket, so it is back soon; or it has too much to do.
            Err(error) => {
                let since = away.unwrap_or_else(|| {
                    let what = if error.passes() { "the master cannot answer now" } else { "the master went away" };
                    say(&format!("          {what}; waiting for it"));
                    Instant::now()
                });
                away = Some(since);
                if since.elapsed() > AWAY {
                    return (roll, Some(error));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Why it is not known that all have drained.
pub(super) enum Late {
    /// Nobody waits any longer.
    Time,
    /// The master does not say.
    Error(Error),
}

/// Waits, behind a roll's end, until the workers that it has replaced are gone; the roll as it stands then.
pub(super) async fn drained(client: &Client, mut roll: Roll, stop: &mut watch::Receiver<bool>, say: impl Fn(&str)) -> (Roll, Option<Late>) {
    let name = roll.app.clone();
    let mut told = Told::default();
    told.new_ones(&roll, false);
    let mut waits = None;
    loop {
        let asked = async {
            let app: App = client.insist(Method::GET, &format!("/v1/apps/{name}"), AWAY).await?;
            let roll: Roll = client.insist(Method::GET, &format!("/v1/apps/{name}/rolls/{}", roll.id), AWAY).await?;
            Ok::<_, Error>((app, roll))
        };
        let (app, now) = match asked.await {
            Ok(answer) => answer,
            Err(error) => return (roll, Some(Late::Error(error))),
        };
        roll = now;
        for step in told.new_ones(&roll, false) {
            say(&format!("{:>8}  {}", table::duration(step.at_ms), harmless(&step.text)));
        }
        let leaving = app.workers.iter().filter(|row| matches!(row.state, WorkerState::Retiring | WorkerState::Stopping)).count();
        if leaving == 0 {
            let cut = if roll.cut == 0 { String::new() } else { format!("; {}", cut(&roll)) };
            say(&format!("          the workers of before are gone{cut}"));
            return (roll, None);
        }
        if waits != Some(leaving) {
            say(&format!("          {leaving} drain{}", if leaving == 1 { "s" } else { "" }));
            waits = Some(leaving);
        }
        if *stop.borrow() || client.left().is_some_and(|left| left.is_zero()) {
            return (roll, Some(Late::Time));
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            Ok(()) = stop.changed() => {}
        }
    }
}

/// `3 connections were still open`.
pub(super) fn cut(roll: &Roll) -> String {
    if roll.cut == 1 { "1 connection was still open".into() } else { format!("{} connections were still open", roll.cut) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Code;
    use crate::cli::client::tests::{answer, listener, refusal};
    use serde_json::json;
    use std::cell::RefCell;

    fn roll(state: &str, sequence: u64) -> serde_json::Value {
        json!({
            "app": "api", "id": 7, "generation": 2, "state": state, "sequence": sequence, "ready": 1, "target": 1, "steps": [],
            "reason": null, "took_ms": 5,
        })
    }

    #[tokio::test]
    async fn a_master_that_has_too_much_to_do_is_waited_for_and_one_that_knows_nothing_is_not() {
        let begun: Roll = serde_json::from_value(roll("running", 1)).unwrap();
        for (answers, state, code) in [
            (
                vec![refusal(Code::Busy), refusal(Code::Unavailable), (200, roll("running", 2)), (200, roll("done", 3))],
                RollState::Done,
                None,
            ),
            (vec![refusal(Code::Busy), refusal(Code::NotFound)], RollState::Running, Some("not-found")),
        ] {
            let (_directory, listener, client) = listener();
            let (_never, mut stop) = watch::channel(false);
            let said = RefCell::new(Vec::new());
            let say = |text: &str| said.borrow_mut().push(text.to_owned());
            let ((roll, error), asked) = tokio::join!(follow(&client, begun.clone(), &mut stop, say), answer(&listener, &answers));
            assert_eq!((roll.state, error.as_ref().and_then(Error::code)), (state, code), "{asked:?}");
            assert_eq!(said.borrow().iter().filter(|text| text.contains("cannot answer now; waiting for it")).count(), 1, "{said:?}");
        }
    }

    #[tokio::test]
    async fn it_is_followed_no_longer_than_the_command_lasts() {
        let (_directory, _listener, client) = listener();
        let (_never, mut stop) = watch::channel(false);
        let begun: Roll = serde_json::from_value(roll("running", 1)).unwrap();
        let client = client.within(Some(Duration::from_millis(300)));
        let (roll, error) = follow(&client, begun, &mut stop, |_| ()).await;
        assert!(roll.under_way() && error.is_none(), "{error:?}");
    }
}
