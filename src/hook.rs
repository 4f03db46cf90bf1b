//! A hook from its start to its end, whoever asks for it: the master in a roll, the handle's start step.
//!
//! Root's first step of it (`worker::hook`) lets each run once for a generation. So whoever does not know whether his request
//! arrived, or that of the master before him, asks again: what has begun is not begun twice. It must not know rolls.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::settings::App;
use crate::systemd::{ActiveState, Details, Error, Systemd, Verb, stop};

/// What systemd may need beyond a hook's own limits before we stop believing in its answer.
const SLACK: Duration = Duration::from_secs(30);
/// How often one is looked at whose end no job of ours tells.
const AGAIN: Duration = Duration::from_millis(200);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It exited with 0.
    Done,
    /// It did not, and why.
    Failed(String),
}

/// How long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `timeout` of the app's hooks, which systemd keeps.
    run: Duration,
    /// From SIGTERM to SIGKILL.
    kill: Duration,
}

impl Limits {
    /// Those of an app's hooks.
    pub fn of(app: &App) -> Self {
        Self { run: app.hooks.timeout, kill: app.timeout.kill }
    }

    /// Both steps of it, and its end.
    fn whole(self) -> Duration {
        self.run * 2 + self.kill + SLACK
    }
}

/// How long the hooks of one start may take: that before it, and one of those behind.
pub fn most(app: &App) -> Duration {
    let count = u32::try_from(app.hooks.kinds().count().min(2)).unwrap_or(2);
    Limits::of(app).whole() * count
}

/// What is seen of its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    /// Nothing: it never began, or was stopped.
    Absent,
    /// It runs.
    Runs,
    /// It is on its way down.
    Leaves,
    /// It ended well.
    Done,
    /// It failed.
    Failed(String),
}

/// Runs a hook to its end. `taken_up`: somebody before us may have asked for it, and what is there is how it went.
pub async fn run<S: Systemd>(systemd: &S, unit: &str, limits: Limits, taken_up: bool) -> End {
    if !taken_up {
        // Of a generation of the same number that never came to be.
        clear(systemd, unit, limits).await;
    }
    let until = Instant::now() + limits.whole();
    let mut arrived = false;
    loop {
        match look(systemd, unit, limits).await {
            Ok(Sight::Done) => return End::Done,
            Ok(Sight::Failed(why)) => return End::Failed(why),
            Ok(Sight::Absent) if arrived => return End::Failed("it was stopped before it had ended".into()),
            Ok(Sight::Absent) => {}
            // No second request: it could take back a stop that somebody has asked for.
            Ok(Sight::Runs | Sight::Leaves) | Err(_) if Instant::now() < until => {
                sleep(AGAIN).await;
                continue;
            }
            Ok(Sight::Runs | Sight::Leaves) => {
                clear(systemd, unit, limits).await;
                return End::Failed(too_long(limits));
            }
            Err(why) => return End::Failed(why.to_string()),
        }
        match systemd.job(Verb::Start, unit, until.saturating_duration_since(Instant::now())).await {
            Ok(_) | Err(Error::Deadline { .. }) => arrived = true,
            Err(Error::Refused { why, .. }) => return End::Failed(format!("systemd refused: {why}")),
            Err(Error::Unreachable(_)) => sleep(AGAIN).await,
        }
    }
}

/// Stops it where it runs, and lets nothing of it stay loaded.
pub async fn clear<S: Systemd>(systemd: &S, unit: &str, limits: Limits) {
    // What stays is a row of `systemctl list-units`, and whoever asks for it next clears it again.
    let _ = stop::all(systemd, &[unit.to_owned()], limits.kill + SLACK).await;
}

async fn look<S: Systemd>(systemd: &S, unit: &str, limits: Limits) -> Result<Sight, Error> {
    let rows = systemd.units(&[unit.to_owned()]).await?;
    let row = rows.iter().find(|row| row.name == unit);
    Ok(match row.map_or(ActiveState::Inactive, |row| row.active) {
        // Its job has not begun yet.
        ActiveState::Inactive if row.is_some_and(|row| row.job.is_some()) => Sight::Runs,
        ActiveState::Inactive => Sight::Absent,
        ActiveState::Activating => Sight::Runs,
        ActiveState::Deactivating => Sight::Leaves,
        ActiveState::Active | ActiveState::Reloading => Sight::Done,
        ActiveState::Failed => Sight::Failed(reason(&systemd.details(unit).await?, limits)),
    })
}

fn too_long(limits: Limits) -> String {
    format!("it took longer than its `timeout` of {:?}", limits.run)
}

/// Why it failed, in a person's words.
fn reason(details: &Details, limits: Limits) -> String {
    match details.result.as_str() {
        "exit-code" if details.exit_status == 0 => "its first step failed".into(),
        "exit-code" => format!("it exited with {}", details.exit_status),
        "signal" | "core-dump" => format!("signal {} ended it", details.exit_status),
        "timeout" => too_long(limits),
        "oom-kill" => "the kernel killed it for its memory".into(),
        other => format!("systemd calls it `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::fake::{App as Behaves, Fake, Service};

    const UNIT: &str = "project-cluster-api:before@2.service";
    const LIMITS: Limits = Limits { run: Duration::from_secs(60), kill: Duration::from_secs(5) };

    /// A systemd whose hook does this.
    fn systemd(behaves: Behaves) -> Fake {
        let fake = Fake::new(move |_, _| behaves);
        fake.define(UNIT, Service::handle(Duration::ZERO));
        fake
    }

    fn starts(fake: &Fake) -> usize {
        fake.trace().iter().filter(|trace| trace.state == "activating/start").count()
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_as_its_command_does_and_is_cleared_away() {
        let fine = systemd(Behaves::ready_after(Duration::from_secs(20)));
        assert_eq!(run(&fine, UNIT, LIMITS, false).await, End::Done);
        assert_eq!(fine.state(UNIT), "active/exited");
        clear(&fine, UNIT, LIMITS).await;
        assert_eq!((fine.state(UNIT).as_str(), starts(&fine)), ("inactive/dead", 1));
        let bad = systemd(Behaves::crashing(Duration::from_secs(2)));
        assert_eq!(run(&bad, UNIT, LIMITS, false).await, End::Failed("it exited with 1".into()));
        let never = systemd(Behaves { start: crate::systemd::fake::Start::Never, ..Behaves::ready_after(Duration::ZERO) });
        assert_eq!(run(&never, UNIT, LIMITS, false).await, End::Failed("it took longer than its `timeout` of 60s".into()));
        assert_eq!(never.state(UNIT), "inactive/dead");
        never.refuse(Verb::Start, UNIT);
        assert!(matches!(run(&never, UNIT, LIMITS, false).await, End::Failed(why) if why.starts_with("systemd refused: ")));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_taken_up_is_waited_for_or_was_how_it_is_found() {
        for (behaves, end, state) in [
            (Behaves::ready_after(Duration::from_secs(20)), End::Done, "active/exited"),
            (Behaves::crashing(Duration::from_secs(20)), End::Failed("it exited with 1".into()), "failed/failed"),
        ] {
            for after in [1, 19, 21, 300] {
                let fake = systemd(behaves);
                let asks = tokio::spawn({
                    let fake = fake.clone();
                    async move { fake.job(Verb::Start, UNIT, LIMITS.whole()).await }
                });
                sleep(Duration::from_secs(after)).await;
                assert_eq!(run(&fake, UNIT, LIMITS, true).await, end, "{after}");
                assert_eq!((fake.state(UNIT).as_str(), starts(&fake)), (state, 1), "{after}");
                drop(asks);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_goes_away_is_waited_for_and_a_stop_is_no_end() {
        let fake = systemd(Behaves::ready_after(Duration::from_secs(20)));
        let other = fake.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            other.set_reachable(false);
            sleep(Duration::from_secs(8)).await;
            other.set_reachable(true);
        });
        assert_eq!(run(&fake, UNIT, LIMITS, false).await, End::Done);
        assert_eq!(starts(&fake), 1);
        let fake = systemd(Behaves::ready_after(Duration::from_secs(20)));
        let other = fake.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(5)).await;
            let _ = other.job(Verb::Stop, UNIT, SLACK).await;
        });
        assert!(matches!(run(&fake, UNIT, LIMITS, false).await, End::Failed(_)));
        assert_eq!(starts(&fake), 1);
    }
}
