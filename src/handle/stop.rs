//! The stop step (`ExecStopPost=`, since systemd skips `ExecStop=` in state reload): what stops, and in which order,
//! by why it runs.

use std::time::Duration;

use super::plan::{self, Case};
use super::{Error, Handle, SLACK, fresh_mark, sleep_mark};
use crate::files;
use crate::names::ClusterName;
use crate::say::say;
use crate::status;

/// `TimeoutStopSec=` of workers whose settings are gone is not known here; this is only for a PID 1 that hangs.
const UNKNOWN_KILL: Duration = Duration::from_secs(300);

pub(super) async fn run(handle: &Handle<'_>, cluster: &ClusterName) -> Result<(), Error> {
    let app = handle.units.app;
    // Unlinking follows no symlink, and the directory itself is root's to name.
    let sleep = std::fs::remove_file(sleep_mark(cluster, app)).is_ok() && handle.app.is_none_or(|app| app.on_demand);
    let state = handle.systemd.system_state().await?;
    let job = handle.systemd.job_type(&handle.units.handle()).await?;
    let case = plan::case(&state, job.as_deref(), sleep);
    let fresh = fresh_mark(cluster, app);
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
    // While a socket listens, traffic starts its `Service=` again and cancels a stop: sockets first.
    let close = Duration::from_secs(30) + SLACK;
    let mut sockets = Vec::new();
    if matches!(case, Case::Stop | Case::FailedStart) {
        // As systemd has loaded them: also those that the settings no longer know.
        sockets = handle.systemd.triggered_by(&handle.units.trigger()).await?;
        handle.stop_all(&sockets, close).await?;
    }
    let kill = handle.app.map_or(UNKNOWN_KILL, |app| app.timeout.kill * 2) + SLACK;
    // Again, for what a roll asked for meanwhile.
    for _ in 0..3 {
        let workers: Vec<String> = handle.workers().await?.into_iter().map(|(_, row)| row.name).collect();
        if workers.is_empty() {
            break;
        }
        handle.stop_all(&workers, kill).await?;
    }
    // Again: a worker that systemd was just restarting wanted its sockets, and they are up once more. None is left now.
    handle.stop_all(&sockets, close).await?;
    if case != Case::Restart {
        // Last: it re-arms the socket.
        handle.stop_all(&[handle.units.trigger()], close).await?;
    }
    status::tell("");
    Ok(())
}
