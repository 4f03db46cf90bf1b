//! The hooks of a start that is a deploy: of a generation that there was not before. Of any other start there are none.

use super::{Error, Handle};
use crate::config::settings::App;
use crate::hook::{self, End, Limits};
use crate::journal::{self, Journal};
use crate::names::{Generation, HookInstance, HookKind};
use crate::place;
use crate::say::say;
use crate::status;

/// Lines of a failed hook that the message shows, as of a failed worker.
const LINES: usize = 25;

/// Runs `before`, where there is one.
///
/// # Errors
/// When it fails: nothing is to be started then. What `failed` has to say of it is said.
pub(super) async fn before(handle: &Handle<'_>, settings: &App, generation: (Generation, Generation)) -> Result<(), Error> {
    let Err(why) = run(handle, settings, HookKind::Before, generation).await else { return Ok(()) };
    behind(handle, settings, HookKind::Failed, generation).await;
    let (app, unit) = (handle.units.app, handle.units.handle());
    let (first, lines) = why.split_once('\n').unwrap_or((&why, ""));
    let next = format!("Mend it, then: systemctl start {unit}, which takes what is on disk by then");
    Err(Error::Other(format!("{app}: hook before failed: {first}; nothing was started\n{lines}\n{next}")))
}

/// Runs `after` or `failed`, where there is one. That it failed is told and changes nothing.
pub(super) async fn behind(handle: &Handle<'_>, settings: &App, kind: HookKind, generation: (Generation, Generation)) {
    if let Err(why) = run(handle, settings, kind, generation).await {
        let app = handle.units.app;
        why.lines().enumerate().for_each(|(at, line)| match at {
            0 => say!(Warning, "{app}: hook {kind} failed: {line}"),
            _ => say!(Warning, "{app}: {line}"),
        });
    }
}

/// Runs a hook; why it failed, with its last lines.
async fn run(handle: &Handle<'_>, settings: &App, kind: HookKind, (generation, pin): (Generation, Generation)) -> Result<(), String> {
    if settings.hooks.command(kind).is_none() {
        return Ok(());
    }
    let unit = handle.units.hook(kind, HookInstance { generation, pin: (pin != generation).then_some(pin) });
    let (begun, limits) = (journal::monotonic_us_now(), Limits::of(settings));
    status::tell(&format!("generation {generation}: hook {kind} runs"));
    let end = hook::run(&handle.systemd, &unit, limits, false).await;
    let mut said = Ok(());
    if let End::Failed(mut why) = end {
        for line in Journal::of(place::here().manager).last_lines(&unit, begun, LINES).await {
            why.push_str(&format!("\n  {line}"));
        }
        why.push_str(&format!("\n`journalctl -u {unit}` has all of it"));
        said = Err(why);
    }
    hook::clear(&handle.systemd, &unit, limits).await;
    said
}
