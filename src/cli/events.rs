//! `events`: what the master has seen happen, and with `--follow` what happens, also over its restarts.

use std::time::{Duration, Instant};

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Events;
use super::client::{AWAY, Error};
use super::table::Tone;
use super::{Choice, Context, Failure, past_selection, print, print_json, print_json_line, reader_gone, sse, time};
use crate::api::events::{By, Event, Kind};
use crate::api::stream::HEARTBEAT;
use crate::journal::harmless;

/// Limit of an answer's beginning.
const HEAD: Duration = Duration::from_secs(10);

pub(crate) async fn run(context: &Context, options: &Events) -> Result<(), Failure> {
    let chosen = match &options.select[..] {
        [] => None,
        select => Some(past_selection(&context.client.apps().await?, select)?),
    };
    let show = |event: &Event| wanted(chosen.as_deref(), event);
    let kept: Vec<Event> = context.client.insist(Method::GET, "/v1/events?follow=false", HEAD).await?;
    let last = kept.last().map(|event| event.seq);
    let mut shown: Vec<&Event> = kept.iter().filter(|event| show(event)).collect();
    shown.drain(..shown.len().saturating_sub(options.count));
    if context.json && !options.follow {
        return print_json(&shown);
    }
    let tell = |event: &Event| match context.json {
        true => print_json_line(event),
        false => {
            print(&line(event, context.look.colours));
            Ok(())
        }
    };
    shown.into_iter().try_for_each(tell)?;
    if !options.follow {
        return Ok(());
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| Failure::Failed(why.to_string()))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|why| Failure::Failed(why.to_string()))?;
    let told = |event: &Event| if show(event) { tell(event) } else { Ok(()) };
    tokio::select! {
        ended = follow(context, last, told) => ended,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = reader_gone() => Ok(()),
    }
}

/// Tells each event behind `last`, and connects again while the master is restarted; it ends only by an error.
async fn follow(context: &Context, mut last: Option<u64>, tell: impl Fn(&Event) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut away = None::<Instant>;
    loop {
        let error = match attend(context, &mut last, &mut away, &tell).await {
            Ok(never) => match never {},
            Err(Ended::Told(failure)) => return Err(failure),
            // The master says no, or is another program: asking again changes nothing.
            Err(Ended::Lost(error @ (Error::Refused(_) | Error::Strange(_)))) => return Err(error.into()),
            Err(Ended::Lost(error)) => error,
        };
        if away.get_or_insert_with(Instant::now).elapsed() > AWAY {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Why one connection is over.
enum Ended {
    Told(Failure),
    Lost(Error),
}

/// One connection to its end.
async fn attend(
    context: &Context,
    last: &mut Option<u64>,
    away: &mut Option<Instant>,
    tell: &impl Fn(&Event) -> Result<(), Failure>,
) -> Result<std::convert::Infallible, Ended> {
    let after = last.map_or_else(String::new, |last| format!("?after={last}"));
    let mut stream = context.client.stream(&format!("/v1/events{after}"), HEAD).await.map_err(Ended::Lost)?;
    let mut parser = sse::Parser::default();
    let strange = |why: String| Ended::Lost(Error::Strange(why));
    *away = None;
    loop {
        let bytes = stream.next(HEARTBEAT * 3).await.map_err(Ended::Lost)?;
        for data in parser.take(&bytes).map_err(strange)? {
            let event: Event = serde_json::from_str(&data).map_err(|why| strange(why.to_string()))?;
            *last = Some(event.seq);
            tell(&event).map_err(Ended::Told)?;
        }
    }
}

/// Whether it is among what was chosen; what concerns no app concerns all.
fn wanted(chosen: Option<&[Choice]>, event: &Event) -> bool {
    let (Some(chosen), Some(app)) = (chosen, &event.what.app) else { return true };
    chosen.iter().any(|choice| match choice {
        Choice::App(name) => app.as_str() == name,
        // What happens to its app happens to it, too.
        Choice::Worker(uid) => uid.app == *app && event.what.uid.as_ref().is_none_or(|other| other == uid),
    })
}

/// One line.
pub(super) fn line(event: &Event, colours: bool) -> String {
    let what = &event.what;
    let by = match what.by {
        // Said by its kind.
        Some(By::Roll) if what.uid.is_none() => String::new(),
        Some(by) => Tone::Grey.paint(&format!("  ({})", what.asked_by.as_deref().map_or(by.word().into(), harmless)), colours),
        None => String::new(),
    };
    let kind = tone(what.kind).paint(&format!("{:<18}", what.kind.word()), colours);
    format!("{}  {kind}  {}{by}\n", Tone::Grey.paint(&time::second(event.time_ms), colours), harmless(&what.text))
}

fn tone(kind: Kind) -> Tone {
    match kind {
        Kind::Start | Kind::WorkerStart | Kind::RollDone | Kind::HookDone | Kind::SocketUp => Tone::Green,
        Kind::StartFailed | Kind::WorkerStartFailed | Kind::WorkerRestart | Kind::SocketDown | Kind::RollFailed | Kind::HookFailed => {
            Tone::Red
        }
        Kind::Gap => Tone::Yellow,
        Kind::Stop | Kind::WorkerStop => Tone::Grey,
        Kind::MasterStart | Kind::RollBegin | Kind::RollStep | Kind::HookBegin => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::Happening;

    fn event(kind: Kind, app: Option<&str>, uid: Option<&str>, text: &str) -> Event {
        let (app, uid) = (app.map(|app| app.parse().unwrap()), uid.map(|uid| uid.parse().unwrap()));
        Event { seq: 1, time_ms: time::now_ms(), what: Happening { app, uid, ..Happening::new(kind, text) } }
    }

    #[test]
    fn a_line_is_one_line_and_steers_nothing() {
        let mut one = event(Kind::WorkerRestart, Some("api"), Some("api:01"), "a\u{1b}[2J text\nof two");
        one.what.by = Some(By::Outside);
        let text = line(&one, false);
        assert_eq!(text[text.find("worker").unwrap()..], *"worker.restart      a[2J textof two  (outside)\n");
        assert!(line(&one, true).contains("\u{1b}[31mworker.restart"));
        (one.what.by, one.what.asked_by) = (Some(By::Operator), Some("token c\u{1b}i".into()));
        assert!(line(&one, false).ends_with("  (token ci)\n"));
    }

    #[test]
    fn what_is_chosen() {
        let api = [Choice::App("api".into())];
        let one = [Choice::Worker("api:01".parse().unwrap())];
        let cases = [
            (event(Kind::Start, Some("api"), None, ""), true, true),
            (event(Kind::WorkerStart, Some("api"), Some("api:01"), ""), true, true),
            (event(Kind::WorkerStart, Some("api"), Some("api:02"), ""), true, false),
            (event(Kind::WorkerStart, Some("bg"), Some("bg:01"), ""), false, false),
            (event(Kind::Gap, None, None, ""), true, true),
        ];
        for (event, of_app, of_worker) in cases {
            assert_eq!((wanted(Some(&api), &event), wanted(Some(&one), &event), wanted(None, &event)), (of_app, of_worker, true));
        }
    }
}
