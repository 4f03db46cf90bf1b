//! The stop step (`ExecStopPost=`, since systemd skips `ExecStop=` in state reload): what stops, and in which order,
//! by why it runs.

use std::time::Duration;

use super::plan::{self, Case};
use super::{Error, Handle, SLACK};
use crate::files;
use crate::names::ClusterName;
use crate::say::say;
use crate::status;
use crate::systemd::stop::sockets_first;

/// A socket or a trigger that nothing is in the way of.
const CLOSE: Duration = Duration::from_secs(30);
/// `TimeoutStopSec=` of workers whose settings are gone is not known here; this is only for a PID 1 that hangs.
const UNKNOWN_KILL: Duration = Duration::from_secs(300);

pub(super) async fn run(handle: &Handle<'_>, cluster: &ClusterName) -> Result<(), Error> {
    let app = handle.units.app;
    // Unlinking follows no symlink, and the directory itself is root's to name.
    let sleep = std::fs::remove_file(handle.paths.sleep_mark(cluster, app)).is_ok() && handle.app.is_none_or(|app| app.on_demand);
    let state = handle.systemd.system_state().await?;
    let job = handle.systemd.job_type(&handle.units.handle()).await?;
    let case = plan::case(&state, job.as_deref(), sleep);
    let fresh = handle.paths.fresh_mark(cluster, app);
    match case {
        Case::Restart | Case::FailedStart => {
            if let Err(why) = files::replace(&fresh, b"", 0o600) {
                say!(Warning, "{app}: the mark {} cannot be written ({why}); the same generation starts again", fresh.display());
            }
        }
        // Left by a restart whose start never came.
        Case::Stop | Case::Sleep => drop(std::fs::remove_file(&fresh)),
        Case::Shutdown => return Ok(()),
    }
    // What the last start or reload left standing is true no more.
    status::tell(if case == Case::Restart { "stops all workers, the sockets stay" } else { "stops" });
    // While a socket listens, traffic starts its `Service=` again and cancels a stop: sockets first. What they may have to
    // wait for is a worker that is on its way down already, and takes its time.
    let limit = handle.app.map_or(UNKNOWN_KILL, |app| app.kill_limit() * 2) + SLACK;
    let mut sockets = Vec::new();
    if matches!(case, Case::Stop | Case::FailedStart) {
        // As systemd has loaded them: also those that the settings no longer know.
        sockets = handle.systemd.triggered_by(&handle.units.trigger()).await?;
    }
    let (_, stopped) = sockets_first(handle.stop_all(&sockets, limit), handle.stop_workers(limit)).await;
    // Again: a worker that systemd was just restarting wanted its sockets, and they are up once more. None is left now.
    let closed = handle.stop_all(&sockets, CLOSE).await;
    // Last: it re-arms the socket.
    let armed = if case == Case::Restart { Ok(()) } else { handle.stop_all(&[handle.units.trigger()], CLOSE).await };
    status::tell("");
    // Whatever became of one of them, the others were tried.
    let failed: Vec<String> = [stopped, closed, armed].into_iter().filter_map(Result::err).map(|why| why.to_string()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Other(format!("{}\n{app}: not all of it is stopped. Again: project-cluster stop {app}", failed.join("\n"))))
}
