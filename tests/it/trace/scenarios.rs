//! The scenarios: one unit or two each, and what is asked of them.

use std::time::Duration;

use project_cluster::systemd::fake::{App, Kind, Service, Start, Times};
use project_cluster::systemd::{Systemd, Verb};
use tokio::join;

use super::ground::{Hand, Unit};
use super::stage::{Scenario, Stage, phase, unit_name};

/// Limits that nothing runs into, and a delay of an automatic restart that is seen.
pub fn times() -> Times {
    Times { start: Duration::from_secs(60), stop: Duration::from_secs(60), restart: phase() }
}

/// Gets ready, and ends when it is asked to.
pub fn ready() -> App {
    App { start: Start::Ready(phase()), crash_after: None, stop: Some(phase()) }
}

/// Exits before it is ready.
pub fn crash() -> App {
    App { start: Start::Crash(phase()), ..ready() }
}

/// Never gets ready.
pub fn never() -> App {
    App { start: Start::Never, ..ready() }
}

/// Ignores SIGTERM.
pub fn stubborn() -> App {
    App { stop: None, ..ready() }
}

/// As our workers are.
pub fn worker() -> Service {
    Service { times: Some(times()), ..Service::WORKER }
}

fn notify() -> Service {
    Service { kind: Kind::Notify, ..worker() }
}

fn short(start: Duration, stop: Duration) -> Service {
    Service { times: Some(Times { start, stop, ..times() }), ..worker() }
}

/// A unit of a scenario.
fn unit(scenario: &str, short: &str, service: Service, starts: &[App]) -> Unit {
    Unit { name: unit_name(scenario, short), service, starts: starts.to_vec() }
}

pub fn all<S: Systemd, H: Hand>() -> Vec<Scenario<S, H>> {
    let one = |name: &'static str, service: Service, starts: &[App]| vec![unit(name, "a", service, starts)];
    vec![
        Scenario::new("ready", one("ready", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.details("a").await;
            // Nothing to do: done.
            s.start("a").await;
            s.stop("a").await;
            s.details("a").await;
        }),
        Scenario::new("ready-notify", one("ready-notify", notify(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.stop("a").await;
        }),
        Scenario::new("crash-before-ready", one("crash-before-ready", worker(), &[crash(), ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.details("a").await;
            s.until("a", "active/running").await;
            s.details("a").await;
        }),
        Scenario::new(
            "crash-before-ready-notify",
            one("crash-before-ready-notify", notify(), &[crash(), ready()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.details("a").await;
                s.until("a", "active/running").await;
            },
        ),
        Scenario::new("killed-before-ready", one("killed-before-ready", worker(), &[ready()]), |s: Stage<S, H>| async move {
            let kill = async {
                s.within().await;
                s.hand.kill(&s.unit("a")).await;
            };
            join!(s.start("a"), kill);
            s.details("a").await;
            s.until("a", "active/running").await;
        }),
        Scenario::new(
            "never-ready",
            one("never-ready", short(phase(), times().stop), &[never(), App { start: Start::Ready(Duration::ZERO), ..ready() }]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.details("a").await;
                s.until("a", "active/running").await;
                s.details("a").await;
            },
        ),
        Scenario::new(
            "never-ready-notify",
            one("never-ready-notify", Service { kind: Kind::Notify, ..short(phase(), times().stop) }, &[never()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.details("a").await;
                s.stop("a").await;
            },
        ),
        Scenario::new(
            "never-ready-and-stubborn",
            one("never-ready-and-stubborn", short(phase(), phase()), &[App { stop: None, ..never() }]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.details("a").await;
                s.stop("a").await;
            },
        ),
        Scenario::new("stubborn", one("stubborn", short(times().start, phase()), &[stubborn()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.stop("a").await;
            s.details("a").await;
            s.lasts().await;
            s.reset("a").await;
            s.details("a").await;
        }),
        Scenario::new(
            "stubborn-restart",
            one("stubborn-restart", short(times().start, phase()), &[stubborn(), ready()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.restart("a").await;
                s.details("a").await;
            },
        ),
        Scenario::new("crash", one("crash", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.details("a").await;
            s.until("a", "active/running").await;
            s.details("a").await;
            // A start by hand of what is up does nothing, not even forget its restarts.
            s.start("a").await;
            s.details("a").await;
            s.stop("a").await;
            s.start("a").await;
            s.details("a").await;
        }),
        Scenario::new("killed", one("killed", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.kill(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.details("a").await;
            s.until("a", "active/running").await;
        }),
        Scenario::new("killed-in-stop", one("killed-in-stop", worker(), &[stubborn()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let kill = async {
                s.within().await;
                s.hand.kill(&s.unit("a")).await;
            };
            join!(s.stop("a"), kill);
            s.details("a").await;
        }),
        Scenario::new(
            "crash-without-restart",
            one("crash-without-restart", Service { restart: false, ..worker() }, &[ready(), crash()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.hand.crash(&s.unit("a")).await;
                s.until("a", "failed/failed").await;
                s.details("a").await;
                s.lasts().await;
                s.start("a").await;
                s.lasts().await;
                s.stop("a").await;
                s.details("a").await;
                s.reset("a").await;
            },
        ),
        Scenario::new("stop-in-start", one("stop-in-start", worker(), &[ready()]), |s: Stage<S, H>| async move {
            let stop = async {
                s.within().await;
                s.stop("a").await;
            };
            join!(s.start("a"), stop);
            s.details("a").await;
        }),
        Scenario::new("start-in-stop", one("start-in-stop", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let start = async {
                s.within().await;
                s.start("a").await;
            };
            join!(s.stop("a"), start);
        }),
        Scenario::new("two-starts", one("two-starts", worker(), &[ready()]), |s: Stage<S, H>| async move {
            let second = async {
                s.within().await;
                s.start("a").await;
            };
            join!(s.start("a"), second);
            s.details("a").await;
        }),
        Scenario::new("two-stops", one("two-stops", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let second = async {
                s.within().await;
                s.stop("a").await;
            };
            join!(s.stop("a"), second);
            s.stop("a").await;
        }),
        Scenario::new("restart", one("restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.restart("a").await;
            s.details("a").await;
        }),
        Scenario::new("restart-of-stopped", one("restart-of-stopped", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.restart("a").await;
        }),
        Scenario::new("restart-in-start", one("restart-in-start", worker(), &[ready()]), |s: Stage<S, H>| async move {
            let restart = async {
                s.within().await;
                s.restart("a").await;
            };
            join!(s.start("a"), restart);
        }),
        Scenario::new("restart-in-stop", one("restart-in-stop", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let restart = async {
                s.within().await;
                s.restart("a").await;
            };
            join!(s.stop("a"), restart);
        }),
        Scenario::new("start-in-restart", one("start-in-restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let start = async {
                s.within().await;
                s.start("a").await;
            };
            join!(s.restart("a"), start);
        }),
        Scenario::new("stop-in-restart", one("stop-in-restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            let stop = async {
                s.within().await;
                s.stop("a").await;
            };
            join!(s.restart("a"), stop);
        }),
        Scenario::new("stop-in-auto-restart", one("stop-in-auto-restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.within().await;
            s.stop("a").await;
            s.details("a").await;
            s.lasts().await;
        }),
        Scenario::new("start-in-auto-restart", one("start-in-auto-restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.within().await;
            s.start("a").await;
            s.details("a").await;
        }),
        Scenario::new("restart-in-auto-restart", one("restart-in-auto-restart", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.within().await;
            s.restart("a").await;
            s.details("a").await;
        }),
        Scenario::new("stop-in-automatic-start", one("stop-in-automatic-start", worker(), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/start-post").await;
            s.within().await;
            s.stop("a").await;
            s.lasts().await;
        }),
        Scenario::new("success", one("success", Service { success: true, ..worker() }, &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.details("a").await;
            s.until("a", "active/running").await;
            s.details("a").await;
        }),
        Scenario::new("start-limit", one("start-limit", limited(2), &[crash(), crash(), ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.until("a", "failed/failed").await;
            s.details("a").await;
            s.lasts().await;
            s.start("a").await;
            s.reset("a").await;
            s.start("a").await;
            s.details("a").await;
        }),
        // Starts by hand count too, all verbs of them (systemd#10529).
        Scenario::new("start-limit-by-hand", one("start-limit-by-hand", limited(2), &[ready()]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.restart("a").await;
            s.lasts().await;
            s.restart("a").await;
            s.details("a").await;
            s.lasts().await;
            s.start("a").await;
            s.reset("a").await;
            s.start("a").await;
            // A stop that unloads it forgets the count.
            s.stop("a").await;
            s.start("a").await;
            s.stop("a").await;
            s.start("a").await;
        }),
        Scenario::new("skipped", one("skipped", worker(), &[App { start: Start::Skipped, ..ready() }]), |s: Stage<S, H>| async move {
            s.start("a").await;
            s.details("a").await;
        }),
        Scenario::new(
            "unknown",
            vec![unit("unknown", "none", Service { kind: Kind::Missing, ..worker() }, &[ready()])],
            |s: Stage<S, H>| async move {
                for verb in [Verb::Start, Verb::Stop, Verb::Restart] {
                    s.job(verb, "none").await;
                }
                s.reset("none").await;
            },
        ),
        Scenario::new("reset", one("reset", worker(), &[ready(), crash(), ready()]), |s: Stage<S, H>| async move {
            s.reset("a").await;
            s.start("a").await;
            s.reset("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.within().await;
            // The delay goes on.
            s.reset("a").await;
            s.details("a").await;
            s.until("a", "active/running").await;
            s.details("a").await;
            s.reset("a").await;
            s.details("a").await;
        }),
        Scenario::new(
            "socket",
            vec![
                unit("socket", "a", worker(), &[ready()]),
                unit("socket", "trace-socket.socket", Service::socket("trace-socket-a.service"), &[ready()]),
            ],
            |s: Stage<S, H>| async move {
                let socket = "trace-socket.socket";
                s.start(socket).await;
                s.lasts().await;
                s.start("a").await;
                s.lasts().await;
                s.stop("a").await;
                s.lasts().await;
                s.start("a").await;
                s.stop(socket).await;
                s.lasts().await;
                s.start(socket).await;
                s.stop("a").await;
                s.start(socket).await;
            },
        ),
        Scenario::new(
            "handle",
            one("handle", Service { times: Some(times()), ..Service::handle(phase()) }, &[ready()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.lasts().await;
                let since = s.systemd.active_since(&s.unit("a")).await.unwrap();
                s.hand.reload(&s.unit("a")).await;
                s.until("a", "reloading/reload").await;
                s.until("a", "active/exited").await;
                s.note(format!("active since then: {}", s.systemd.active_since(&s.unit("a")).await.unwrap() == since));
                s.restart("a").await;
                s.note(format!("active since then: {}", s.systemd.active_since(&s.unit("a")).await.unwrap() == since));
                s.stop("a").await;
            },
        ),
        Scenario::new(
            "handle-stopped-in-reload",
            one("handle-stopped-in-reload", Service { times: Some(times()), ..Service::handle(2 * phase()) }, &[ready()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.lasts().await;
                s.hand.reload(&s.unit("a")).await;
                s.until("a", "reloading/reload").await;
                s.within().await;
                s.stop("a").await;
            },
        ),
        Scenario::new(
            "handle-fails",
            one("handle-fails", Service { times: Some(times()), ..Service::handle(phase()) }, &[crash(), ready()]),
            |s: Stage<S, H>| async move {
                s.start("a").await;
                s.details("a").await;
                s.lasts().await;
                s.start("a").await;
                s.details("a").await;
            },
        ),
    ]
}

fn limited(burst: u32) -> Service {
    Service { start_limit: Some((burst, Duration::from_secs(60))), ..worker() }
}

/// Those with a daemon-reload. They play apart from the others: it resets the count that start limits go by, and PID 1
/// answers nobody for as long as its generators run, so that phases must be longer.
pub fn reloading<S: Systemd, H: Hand>() -> Vec<Scenario<S, H>> {
    let slow = App { start: Start::Ready(2 * phase()), stop: Some(2 * phase()), ..ready() };
    let service = Service { times: Some(Times { restart: 2 * phase(), ..times() }), ..worker() };
    let one = |name: &'static str| vec![unit(name, "a", service.clone(), &[slow])];
    vec![
        Scenario::new("masked", one("masked"), |s: Stage<S, H>| async move {
            let unit = s.unit("a");
            s.hand.mask(&unit, true).await;
            s.start("a").await;
            s.hand.mask(&unit, false).await;
            s.start("a").await;
            s.hand.mask(&unit, true).await;
            s.lasts().await;
            s.lasts().await;
            s.restart("a").await;
            s.start("a").await;
            s.stop("a").await;
            s.start("a").await;
        }),
        Scenario::new("daemon-reload", one("daemon-reload"), |s: Stage<S, H>| async move {
            let reload = async {
                s.within().await;
                s.hand.daemon_reload().await;
            };
            join!(s.start("a"), reload);
            let reload = async {
                s.within().await;
                s.hand.daemon_reload().await;
            };
            join!(s.stop("a"), reload);
            s.start("a").await;
            s.hand.crash(&s.unit("a")).await;
            s.until("a", "activating/auto-restart").await;
            s.within().await;
            s.hand.daemon_reload().await;
            s.until("a", "active/running").await;
            s.details("a").await;
        }),
    ]
}
