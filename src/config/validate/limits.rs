//! Time limits and the shape of a roll: an app's own keys over the cluster's.

use std::time::Duration;

use crate::config::choices::{self, OnFailure};
use crate::config::finding::Findings;
use crate::config::fragment::{Reload, Timeout};
use crate::config::key::Key;
use crate::config::settings::{self, Amount, DrainBy, Timeouts};
use crate::config::source::Place;
use crate::config::values::Time;

fn lay<const MIN: u64, const MAX: u64>(into: &mut Duration, key: &Key<Time<MIN, MAX>>) {
    if let Some(time) = key.value() {
        *into = time.0;
    }
}

/// The time limits of an app: defaults, the cluster's keys, its own keys.
pub(super) fn timeouts(cluster: &Key<Timeout>, app: &Key<Timeout>) -> Timeouts {
    let mut timeouts = Timeouts { start: Duration::from_secs(30), kill: Duration::from_secs(5), restart: Duration::from_millis(100) };
    for table in [cluster, app].into_iter().filter_map(Key::value) {
        lay(&mut timeouts.start, &table.start);
        lay(&mut timeouts.kill, &table.kill);
        lay(&mut timeouts.restart, &table.restart);
    }
    timeouts
}

fn lay_reload(reload: &mut settings::Reload, table: &Reload) {
    if let Some(share) = table.max_surge.value() {
        reload.max_surge = share.0;
    }
    if let Some(share) = table.max_unavailable.value() {
        reload.max_unavailable = share.0;
    }
    if let Some(share) = table.canary.value() {
        reload.canary = share.0;
    }
    if let Some(share) = table.max_live.value() {
        // The default, written, is the default: never less than a roll needs.
        reload.max_live = Some(share.0).filter(|share| *share != settings::Reload::TWICE);
    }
    if let Some(choice) = table.on_failure.value() {
        reload.on_failure = match choice {
            OnFailure::Abort => settings::OnFailure::Abort,
            OnFailure::Pause => settings::OnFailure::Pause,
        };
    }
    lay(&mut reload.min_ready, &table.min_ready);
    lay(&mut reload.deadline, &table.deadline);
    lay(&mut reload.bake, &table.bake);
    lay(&mut reload.drain, &table.drain);
    if let Some(by) = table.drain_by.value() {
        reload.drain_by = match by {
            choices::DrainBy::Outside => DrainBy::Outside,
            choices::DrainBy::Itself => DrainBy::Itself,
        };
    }
}

/// How many generations are kept: the cluster's key, the app's own.
pub(super) fn keep(cluster: &Key<Reload>, app: &Key<Reload>) -> u16 {
    let written = [app, cluster].into_iter().find_map(|table| table.value()?.keep.value());
    written.map_or(settings::App::keep(), |keep| keep.to())
}

fn zero(amount: Amount) -> bool {
    matches!(amount, Amount::Count(0) | Amount::Percent(0))
}

/// Where the pair of zeros is written.
fn place(table: &Reload, whole: &Place) -> Place {
    [&table.max_surge, &table.max_unavailable].into_iter().find_map(Key::get).map_or(whole, |at| &at.place).clone()
}

/// The cluster's own `[reload]`, judged by itself so that its mistakes are told once and not for every app.
pub(super) fn defaults(key: &Key<Reload>, findings: &mut Findings) -> settings::Reload {
    let mut reload = settings::Reload::default();
    if let Some(at) = key.get() {
        lay_reload(&mut reload, &at.value);
        judge(&reload, &at.value, &at.key, None, findings);
    }
    reload
}

/// How a roll of an app with so many workers goes.
pub(super) fn reload(
    defaults: &settings::Reload,
    key: &Key<Reload>,
    workers: u16,
    app: &Place,
    findings: &mut Findings,
) -> settings::Reload {
    let mut reload = *defaults;
    match key.get() {
        Some(at) => {
            lay_reload(&mut reload, &at.value);
            judge(&reload, &at.value, &at.key, Some(workers), findings);
        }
        None if !zero(reload.max_unavailable) => judge(&reload, &Reload::default(), app, Some(workers), findings),
        // Of its number of workers alone; the rest was told of the cluster's own table.
        None if reload.max_live.is_some() => lives(&reload, &Reload::default(), app, workers, findings),
        None => {}
    }
    reload
}

fn judge(reload: &settings::Reload, table: &Reload, whole: &Place, workers: Option<u16>, findings: &mut Findings) {
    let help = "write max_surge = 1 (one more worker meanwhile) or max_unavailable = 1 (one less)";
    if zero(reload.max_surge) && zero(reload.max_unavailable) {
        let message = "max_surge and max_unavailable are both 0: no worker could ever be replaced";
        findings.error("roll-stuck", &place(table, whole), message, help);
    } else if let Some(workers) = workers.filter(|workers| *workers > 0)
        && reload.max_surge.up(workers) == 0
        && reload.max_unavailable.down(workers) == 0
    {
        let message = format!("of {workers} workers, max_unavailable is rounded down to 0 and max_surge is 0: none could be replaced");
        findings.error("roll-stuck", &place(table, whole), message, help);
    }
    if let Some(workers) = workers {
        lives(reload, table, whole, workers, findings);
    }
    if !zero(reload.canary) {
        let at = [&table.canary, &table.max_surge].into_iter().find_map(Key::get).map_or(whole, |at| &at.place);
        if zero(reload.max_surge) {
            let message = "a canary stands beside all old workers, and max_surge is 0: there is no room for it";
            findings.error("canary-stuck", at, message, "write max_surge = 1, or canary = 0 in [reload]");
        }
        if reload.deadline <= reload.bake {
            let written = [&table.deadline].into_iter().find_map(Key::get).map(|at| &at.place);
            let at = written.or(table.bake.get().map(|at| &at.place)).unwrap_or(at);
            let message = "a roll's deadline must be longer than bake: no canary could ever pass";
            findings.error("roll-deadline", at, message, "write a longer `deadline` or a shorter `bake` in [reload]");
        }
    }
    if reload.deadline <= reload.min_ready {
        let at = [&table.deadline].into_iter().find_map(Key::get).map(|at| &at.place);
        let at = at.or(table.min_ready.get().map(|at| &at.place)).unwrap_or(whole);
        let message = "a roll's deadline must be longer than min_ready: no roll could ever succeed";
        findings.error("roll-deadline", at, message, "write a longer `deadline` or a shorter `min_ready` in [reload]");
    }
}

/// Whether `max_live`, where it is written, has room for what a roll needs.
fn lives(reload: &settings::Reload, table: &Reload, whole: &Place, workers: u16, findings: &mut Findings) {
    let (extra, may) = (reload.max_surge.up(workers).max(reload.canary.up(workers).min(workers)), reload.live(workers));
    let needed = workers.saturating_add(extra);
    if reload.max_live.is_some() && workers > 0 && may < needed {
        let at = table.max_live.get().map_or(whole, |at| &at.place);
        let message = format!("max_live lets {may} workers live, and a roll of {workers} needs {needed}");
        findings.error("live-stuck", at, message, format!("write max_live = {needed} or more, or leave it out"));
    }
}
