//! One order to the master, and how its end is waited for.

use std::time::Duration;

use hyper::Method;
use tokio::sync::watch;

use super::args::Wait;
use super::client::{AWAY, Client};
use super::follow::{Late, drained, follow, to};
use super::outcome::Outcome;
use crate::api::types::{App, AppState, Done};
use crate::journal::harmless;
use crate::names::Slot;

/// The longest that an order is waited for; the master waits no longer either. What goes by a roll is followed to its end.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long the master is asked how an app stands, once nobody waits for its order any more.
const GLANCE: Duration = Duration::from_secs(2);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub app: String,
    pub verb: String,
    query: Vec<String>,
    /// The roll that it is about.
    roll: Option<u64>,
    /// Asked for twice it does no harm, so that it may be asked again when the connection breaks.
    repeatable: bool,
}

impl Errand {
    /// A verb on an app, or on these slots of it.
    pub fn new(app: &str, verb: &str, slots: Option<&[Slot]>) -> Self {
        let slots = slots.map(|slots| slots.iter().map(|slot| slot.get().to_string()).collect::<Vec<_>>().join(","));
        let slots = slots.or_else(|| (verb == "remove").then(|| "all".to_owned()));
        let query = slots.into_iter().map(|slots| format!("slots={slots}")).collect();
        // A second `add` would add twice, and a second `rollback` be refused, or go back from where the first went.
        let repeatable = !matches!(verb, "add" | "rollback");
        Self { app: app.into(), verb: verb.into(), query, roll: None, repeatable }
    }

    /// A verb on a roll of an app.
    pub fn of_roll(app: &str, verb: &str, roll: u64) -> Self {
        Self { roll: Some(roll), ..Self::new(app, verb, None) }
    }

    /// The same with a parameter.
    #[must_use]
    pub fn with(mut self, parameter: String) -> Self {
        self.query.push(parameter);
        self
    }

    /// Where it is asked for; the master waits so long for what is begun, but for a roll, which is followed.
    fn uri(&self, wait: Option<Duration>) -> String {
        let wait = wait.map(|wait| format!("wait={}ms&watch=true", wait.as_millis()));
        let query = self.query.iter().cloned().chain(wait).collect::<Vec<_>>().join("&");
        let route = match (self.roll, self.verb.as_str()) {
            (Some(roll), verb) => format!("rolls/{roll}/{verb}"),
            (None, "restart" | "reload" | "rollback") => "rolls".to_owned(),
            (None, verb) => verb.to_owned(),
        };
        format!("/v1/apps/{}/{route}{}{query}", self.app, if query.is_empty() { "" } else { "?" })
    }

    /// To its end, or as far as it is waited for.
    pub async fn run(&self, client: &Client, wait: Wait, stop: &mut watch::Receiver<bool>, say: impl Fn(&str)) -> Outcome {
        let over = || client.left().is_some_and(|left| left.is_zero());
        if over() {
            return Outcome::unasked(&self.app);
        }
        let limit = if wait.no_wait { AWAY } else { LONGEST + AWAY };
        let uri = || self.uri((!wait.no_wait).then(|| client.patience(LONGEST)));
        let answer = tokio::select! {
            answer = client.persist::<Done>(Method::POST, uri, limit, self.repeatable) => answer,
            Ok(()) = stop.changed() => {
                say("interrupted; asking the master how it stands");
                return self.left(client).await;
            }
        };
        let mut done = match answer {
            Ok(done) => done,
            Err(error) => return Outcome::of_error(&self.app, &error, over()),
        };
        match done.roll.take() {
            None if done.under_way && !wait.no_wait => Outcome::open(&self.app, &self.verb),
            None => {
                say(&if done.message.is_empty() { "done".to_owned() } else { format!("{}: {}", done.app, harmless(&done.message)) });
                Outcome::of(done)
            }
            Some(roll) if !done.under_way => {
                say(&format!("{}: {}", done.app, harmless(&done.message)));
                Outcome::of(Done { roll: Some(roll), ..done })
            }
            Some(roll) if wait.no_wait => {
                say(&format!("the roll{} has begun. Watch it: `project-cluster show {}`", to(&roll), self.app));
                Outcome::of(Done { roll: Some(roll), ..done })
            }
            Some(roll) => match follow(client, roll, stop, &say).await {
                (roll, None) if wait.wait_drained => match drained(client, roll, stop, &say).await {
                    (roll, None) => Outcome::of_roll(roll, &self.verb),
                    (roll, Some(Late::Time)) => Outcome::drains(roll),
                    (roll, Some(Late::Error(error))) => Outcome::lost(roll, &error),
                },
                (roll, None) => Outcome::of_roll(roll, &self.verb),
                (roll, Some(error)) => Outcome::lost(roll, &error),
            },
        }
    }

    /// Interrupted before the answer: whether it was taken is seen by the app that is on its way.
    async fn left(&self, client: &Client) -> Outcome {
        let app = client.within(Some(GLANCE)).call::<App>(Method::GET, &format!("/v1/apps/{}", self.app), GLANCE).await;
        match app {
            Ok(app) if matches!(app.state, AppState::Starting | AppState::Stopping | AppState::Rolling) => {
                Outcome::open(&self.app, &self.verb)
            }
            _ => Outcome::unanswered(&self.app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::converge::tests::app;
    use crate::api::error::Code;
    use crate::cli::Failure;
    use crate::cli::client::tests::{answer, listener, refusal};
    use crate::cli::outcome::{End, end};
    use serde_json::{Value, json};

    const WAIT: Wait = Wait { no_wait: false, timeout: None, wait_drained: false };

    /// How an errand ends whose master gives these answers, and no further one.
    async fn ends(answers: &[(u16, Value)], limit: Option<Duration>) -> (Outcome, Vec<String>) {
        let (_directory, listener, client) = listener();
        let (_never, mut stop) = watch::channel(false);
        let client = client.within(limit);
        let errand = Errand::new("api", "start", None);
        tokio::join!(errand.run(&client, WAIT, &mut stop, |_| ()), answer(&listener, answers))
    }

    fn code(outcome: &Outcome) -> u8 {
        match end(std::slice::from_ref(outcome)) {
            Ok(()) => 0,
            Err(Failure::Failed(_)) => 1,
            Err(Failure::Usage(_)) => 2,
            Err(Failure::Unreachable(_)) => 3,
        }
    }

    #[tokio::test]
    async fn it_goes_on_is_said_of_what_the_master_has_taken_alone() {
        let (soon, never) = (Some(Duration::from_millis(300)), None);
        let taken = (202, json!({ "app": "api", "message": "ordered", "under_way": true }));
        let done = (200, json!({ "app": "api", "message": "2 of 2 ready" }));
        let (outcome, asked) = ends(&[done], Some(Duration::from_secs(3600))).await;
        assert_eq!((outcome.outcome, outcome.message.as_str()), (End::Done, "2 of 2 ready"));
        let wait: u64 = asked[0].split("wait=").nth(1).unwrap().split("ms&watch=true").next().unwrap().parse().unwrap();
        assert!((3_500_000..3_600_000).contains(&wait), "the master waits no longer than the command: {asked:?}");
        let (outcome, _) = ends(&[taken], soon).await;
        assert!(outcome.outcome == End::Begun && outcome.message.contains("it goes on"), "{outcome:?}");
        assert_eq!(code(&outcome), 1);
        // A master that hangs.
        let (outcome, _) = ends(&[], soon).await;
        assert!(
            outcome.outcome == End::Unknown && outcome.message.contains("may or may not have been taken: `project-cluster ls`"),
            "{outcome:?}"
        );
        assert!(outcome.message.starts_with("no answer from the master within 300 ms (`--timeout`)"), "{outcome:?}");
        assert_eq!(code(&outcome), 1);
        let (outcome, _) = ends(&[], Some(Duration::ZERO)).await;
        assert!(outcome.outcome == End::Refused && outcome.message.contains("nothing was done"), "{outcome:?}");
        let (outcome, _) = ends(&[refusal(Code::Conflict)], never).await;
        assert_eq!((outcome.outcome, outcome.code.as_deref(), code(&outcome)), (End::Refused, Some("conflict"), 1));
        let (outcome, _) = ends(&[refusal(Code::Failed)], never).await;
        assert_eq!((outcome.outcome, outcome.code.as_deref(), code(&outcome)), (End::Failed, Some("failed"), 1));
    }

    #[tokio::test]
    async fn who_interrupts_before_the_answer_is_told_by_how_the_app_stands() {
        for (state, expected, said) in
            [(AppState::Starting, End::Begun, "it goes on"), (AppState::Stopped, End::Unknown, "may or may not have been taken")]
        {
            let (_directory, listener, client) = listener();
            let (stop, mut stopping) = watch::channel(false);
            let master = async {
                let (order, _) = listener.accept().await.unwrap();
                stop.send_replace(true);
                answer(&listener, &[(200, serde_json::to_value(app(state, &[])).unwrap())]).await;
                order
            };
            let errand = Errand::new("api", "start", None);
            let (outcome, _order) = tokio::join!(errand.run(&client, WAIT, &mut stopping, |_| ()), master);
            assert!(outcome.outcome == expected && outcome.message.contains(said), "{outcome:?}");
        }
    }

    #[test]
    fn a_request_says_what_it_asks_for() {
        let slots = [Slot::new(1).unwrap(), Slot::new(3).unwrap()];
        assert_eq!(Errand::new("api", "reload", Some(&slots)).uri(None), "/v1/apps/api/rolls?slots=1,3");
        assert_eq!(Errand::new("api", "remove", None).uri(None), "/v1/apps/api/remove?slots=all");
        assert_eq!(Errand::of_roll("api", "abort", 7).uri(None), "/v1/apps/api/rolls/7/abort");
        let add = Errand::new("api", "add", None).with("count=2".into());
        assert_eq!(add.uri(Some(Duration::from_secs(2))), "/v1/apps/api/add?count=2&wait=2000ms&watch=true");
        assert!(!add.repeatable && Errand::new("api", "scale", None).repeatable);
        let back = Errand::new("api", "rollback", None).with("to=previous".into());
        assert!(back.uri(None) == "/v1/apps/api/rolls?to=previous" && !back.repeatable);
        assert_eq!(Errand::new("api", "stop", None).uri(None), "/v1/apps/api/stop");
    }
}
