//! The table of operations.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::{Answer, Operation, examples, schema};
use crate::api::caller::Role;
use crate::api::error::Code;
use crate::api::events::Event;
use crate::api::extract::Nothing;
use crate::api::history::Entry;
use crate::api::installed::Config;
use crate::api::stream;
use crate::api::types::{App, Done, Health, Roll, Worker};
use crate::api::v1::{apps, history, orders, rolls, workers};

pub(super) const TAGS: [(&str, &str); 7] = [
    ("apps", "App types: how each stands, with its workers, sockets and its latest roll."),
    ("workers", "Single workers."),
    ("orders", "What changes what runs."),
    ("rolls", "Rolling replacements of workers: starting one, watching one, those that were."),
    ("events", "What happens."),
    ("history", "What was asked for, by whom, and what came of it."),
    ("master", "The master itself."),
];

type Codes = &'static [Code];

const JSON: &str = "application/json";
const LOOKS: Codes = &[Code::Failed, Code::Unavailable];
const LOOKS_AT: Codes = &[Code::NotFound, Code::Failed, Code::Unavailable];
const ORDERS: Codes = &[Code::NotFound, Code::Conflict, Code::Paused, Code::Failed, Code::Unavailable];

fn get(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation {
        method: "get",
        path,
        id,
        tag,
        summary,
        text,
        role: Some(Role::View),
        query: schema::<Nothing>,
        header: None,
        answers: Vec::new(),
        codes: &[],
    }
}

impl Operation {
    fn for_role(self, role: Option<Role>) -> Self {
        Self { role, ..self }
    }
    fn takes<Q: JsonSchema>(self) -> Self {
        Self { query: schema::<Q>, ..self }
    }
    fn refuses(self, codes: Codes) -> Self {
        Self { codes, ..self }
    }
    fn gives<T: JsonSchema>(self, text: &'static str, example: Value) -> Self {
        self.answers(Answer { status: 200, text, content: vec![(JSON, schema::<T>, Some(example))], header: None })
    }
    fn lists<T: JsonSchema>(self, text: &'static str, entry: &Value) -> Self {
        self.answers(Answer {
            status: 200,
            text,
            content: vec![(JSON, schema::<Vec<T>>, Some(examples::list(entry)))],
            header: Some("Link"),
        })
    }
    fn answers(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }
}

/// An order, by what its path ends in; `done` is what it says at its end, `begun` how it goes on.
fn order<Q: JsonSchema>(
    path: &'static str,
    id: &'static str,
    (summary, text): (&'static str, &'static str),
    done: Value,
    begun: Value,
) -> Operation {
    let answer = |status, text, example, header| Answer { status, text, content: vec![(JSON, schema::<Done> as _, Some(example))], header };
    Operation { method: "post", ..get(path, id, "orders", summary, text) }
        .for_role(Some(Role::Operate))
        .takes::<Q>()
        .answers(answer(200, "It is done, or there was nothing to do.", done, Some("Location")))
        .answers(answer(202, "It is under way and goes on.", begun, Some("Location")))
        .refuses(ORDERS)
}

fn text(_: &mut SchemaGenerator) -> Value {
    json!({ "type": "string" })
}

fn object(_: &mut SchemaGenerator) -> Value {
    json!({ "type": "object" })
}

pub(super) fn all() -> Vec<Operation> {
    let mut all = reads();
    all.extend(changes());
    all
}

fn reads() -> Vec<Operation> {
    let events = Answer {
        status: 200,
        text: "The events: as a stream the `data` of each is one Event, its `id` the number to resume behind; a stream that was asked for without a number begins with an `id` alone, so that who has heard nothing yet can resume too; a comment every 20 s says that the master is there.",
        content: vec![
            ("text/event-stream", text, Some(examples::stream())),
            (JSON, schema::<Vec<Event>>, Some(examples::list(&examples::event()))),
        ],
        header: Some("Link"),
    };
    let problems =
        Answer { status: 200, text: "The list, in Markdown.", content: vec![("text/markdown; charset=utf-8", text, None)], header: None };
    vec![
        get("/v1/health", "health", "master", "Whether the master is there", "Its version, PID and how long it is up. Asks systemd nothing.")
            .gives::<Health>("It is.", examples::health()),
        get("/healthz", "healthz", "master", "Whether the cluster can be steered", "For load balancers and monitors: whether the master answers and systemd answers it, after 3 s at the latest. Tells nothing else, and takes no token over TCP.")
            .answers(Answer { status: 200, text: "Both do.", content: vec![("text/plain; charset=utf-8", text, Some(json!("ok")))], header: None })
            .refuses(&[Code::Unavailable])
            .for_role(None),
        get("/v1/config", "config", "master", "What is installed", "The configuration as `install` validated it, defaults and all, without any `env`: the master never learns that. Of a token with a list of apps: these alone. What an app has in effect is told with the app.")
            .gives::<Config>("The configuration.", examples::config())
            .for_role(Some(Role::Admin)),
        get("/v1/openapi.json", "openapi", "master", "This document", "")
            .answers(Answer { status: 200, text: "OpenAPI 3.1.", content: vec![(JSON, object, None)], header: None }),
        get("/v1/problems", "problems", "master", "What the codes of problems mean", "").answers(problems),
        get("/v1/apps", "apps", "apps", "All apps", "By name.")
            .takes::<apps::Part>()
            .lists::<App>("The apps.", &examples::app())
            .refuses(LOOKS),
        get("/v1/apps/{app}", "app", "apps", "One app", "").gives::<App>("The app.", examples::app()).refuses(LOOKS_AT),
        get("/v1/workers", "workers", "workers", "All workers", "By app and slot: every worker that runs, and a row for each slot where none does. While a roll replaces a worker its uid has two rows.")
            .takes::<workers::Part>()
            .lists::<Worker>("The workers.", &examples::worker())
            .refuses(LOOKS),
        get("/v1/workers/{uid}", "worker", "workers", "One worker", "Two rows while a roll replaces it.")
            .gives::<Vec<Worker>>("Its rows.", examples::list(&examples::worker()))
            .refuses(LOOKS_AT),
        get("/v1/apps/{app}/workers", "workersOfApp", "workers", "The workers of an app", "")
            .takes::<workers::Part>()
            .lists::<Worker>("The workers.", &examples::worker())
            .refuses(LOOKS_AT),
        get("/v1/rolls", "rolls", "rolls", "All rolls", "Newest first, without their steps: the last 20 of each app, and of those before the master's last restart one or two.")
            .takes::<rolls::Part>()
            .lists::<Roll>("The rolls.", &examples::past()),
        get("/v1/apps/{app}/rolls", "rollsOfApp", "rolls", "The rolls of an app", "Newest first, without their steps.")
            .takes::<rolls::Part>()
            .lists::<Roll>("The rolls.", &examples::past())
            .refuses(&[Code::NotFound]),
        get("/v1/apps/{app}/rolls/{id}", "roll", "rolls", "One roll", "Watch it: ask with `wait`, and with the `sequence` of the last answer as `after`. A new master carries a roll on under its number.")
            .takes::<rolls::Watch>()
            .gives::<Roll>("The roll.", examples::roll())
            .refuses(&[Code::NotFound]),
        Operation {
            header: Some(("Last-Event-ID", "The `id` of the last event that is known, as browsers send it when they connect again; it goes before `after`.")),
            ..get("/v1/events", "events", "events", "What happens", "The last 1000 events are kept, in memory; their numbers grow, also over restarts of the master. What a reader can no longer get, for it is too old or of another master, is told as an event of its own, `gap`. A stream that its reader does not read is ended. At most 256 streams at once.")
        }
        .takes::<stream::Wish>()
        .answers(events)
        .refuses(&[Code::Busy]),
        get("/v1/history", "history", "history", "The history", "Newest first, without steps: the last 1000 rolls and orders that were asked of the master, also before its last restart. It is written behind what happens, within moments; what could not be written is told by an entry of its own, verb `history`, which a token with a list of apps does not see.")
            .takes::<history::Part>()
            .lists::<Entry>("The entries.", &examples::entry_of_a_list())
            .refuses(&[Code::NotFound, Code::Failed]),
        get("/v1/history/{entry}", "entry", "history", "One entry of the history", "With the steps of the roll that carried it out.")
            .gives::<Entry>("The entry.", examples::entry())
            .refuses(&[Code::NotFound, Code::Failed]),
    ]
}

fn changes() -> Vec<Operation> {
    use orders::{Add, Apply, Begin, Order, Remove, Scale, Whole};
    let (rolled, begun) = (examples::rolled(), examples::begun());
    let mut all = vec![order::<Order>(
        "/v1/apps/{app}/start",
        "start",
        (
            "Starts an app",
            "All its workers, those too that were stopped one by one; or those of `slots`. The same generation as before: a start is no deploy.",
        ),
        examples::done("2 of 2 ready"),
        examples::ordered(),
    )];
    all.push(order::<Order>(
        "/v1/apps/{app}/stop",
        "stop",
        ("Stops an app", "Its port closes first; or the workers of `slots` alone, which then stay down until somebody starts them."),
        examples::done("stopped"),
        examples::ordered(),
    ));
    all.push(order::<Whole>(
        "/v1/apps/{app}/sleep",
        "sleep",
        ("Lets an app on demand sleep", "Its workers stop, its sockets stay, and the next connection starts it."),
        examples::done("asleep; the next connection starts it"),
        examples::ordered(),
    ));
    all.push(order::<Add>(
        "/v1/apps/{app}/add",
        "add",
        ("Adds workers", "So many more, in the lowest free slots."),
        rolled.clone(),
        begun.clone(),
    ));
    all.push(order::<Scale>(
        "/v1/apps/{app}/scale",
        "scale",
        ("Sets the number of workers", "Until `apply` goes back to the configured one."),
        rolled.clone(),
        begun.clone(),
    ));
    all.push(order::<Remove>(
        "/v1/apps/{app}/remove",
        "remove",
        ("Removes workers", "With their slots; `scale` or `add` brings some back."),
        rolled.clone(),
        begun.clone(),
    ));
    all.push(order::<Order>(
        "/v1/apps/{app}/reset",
        "reset",
        ("Forgets failures", "Ends a hold, forgets crashes, and tries at once what waits to be tried again."),
        examples::done("reset"),
        examples::ordered(),
    ));
    all.push(
        order::<Apply>(
            "/v1/apps/{app}/apply",
            "apply",
            (
                "Brings about what is installed",
                "Rolls, starts, stops or scales, as what runs differs from it; what a person asked for at run time is forgotten.",
            ),
            rolled.clone(),
            begun.clone(),
        )
        .for_role(Some(Role::Admin)),
    );
    all.push(Operation {
        tag: "rolls",
        ..order::<Begin>(
            "/v1/apps/{app}/rolls",
            "begin",
            (
                "Starts a roll",
                "Every worker is replaced, new before old, by one of a new generation: what is on disk and installed now. With `slots` these alone, by fresh ones of the same generation; with `to` it is a rollback, and the new generation is an older one again: command, environment and release. Asked for while another roll runs it is carried out behind it; several that wait become one. While a roll is paused it is refused (`paused`).",
            ),
            rolled.clone(),
            begun.clone(),
        )
    });
    let steers = [
        (
            "/v1/apps/{app}/rolls/{id}/pause",
            "pause",
            "Pauses a roll",
            "Nothing is started or retired from now on; old and new workers serve, its deadline stands still, and who waits for it gets a `paused`. It survives a restart of the master. Refused on its way back. Asked for twice it is done once.",
        ),
        (
            "/v1/apps/{app}/rolls/{id}/resume",
            "resume",
            "Resumes a roll",
            "It goes on where it was paused, by a person or since a worker failed; new workers that do not serve are given up for fresh ones.",
        ),
        (
            "/v1/apps/{app}/rolls/{id}/abort",
            "abort",
            "Aborts a roll",
            "It goes back: new workers go, slots that were emptied are served by the old generation again, and no other old worker is touched. With `wait` it is answered 200 once the old workers serve as before. The app is held then. While its hook `before` runs that is stopped, and no worker is touched. One that waits behind another never begins; the other goes on, and nothing is held.",
        ),
    ];
    for (path, id, summary, text) in steers {
        let done = if id == "pause" { examples::paused() } else { rolled.clone() };
        all.push(Operation { tag: "rolls", ..order::<Whole>(path, id, (summary, text), done, begun.clone()) });
    }
    all
}
