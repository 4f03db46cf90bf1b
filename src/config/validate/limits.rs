//! Time limits and the shape of a roll: an app's own keys over the cluster's.

use std::time::Duration;

use crate::config::choices;
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
    lay(&mut reload.min_ready, &table.min_ready);
    lay(&mut reload.deadline, &table.deadline);
    lay(&mut reload.drain, &table.drain);
    if let Some(by) = table.drain_by.value() {
        reload.drain_by = match by {
            choices::DrainBy::Outside => DrainBy::Outside,
            choices::DrainBy::Itself => DrainBy::Itself,
        };
    }
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
    if reload.deadline <= reload.min_ready {
        let at = [&table.deadline].into_iter().find_map(Key::get).map(|at| &at.place);
        let at = at.or(table.min_ready.get().map(|at| &at.place)).unwrap_or(whole);
        let message = "a roll's deadline must be longer than min_ready: no roll could ever succeed";
        findings.error("roll-deadline", at, message, "write a longer `deadline` or a shorter `min_ready` in [reload]");
    }
}
