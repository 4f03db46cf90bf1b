//! The other half of the helper: it speaks with systemd and writes the record, and knows nothing of the worker.
//!
//! A process of its own, forked before the first gives up root. It keeps root's user for the two things that need it, systemd's
//! own socket and the directory of records, and not one capability. The half that looks into the worker tells it records, one
//! JSON a line; it answers with a byte when the whole app, or the system, stops.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as Std;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout};

use super::record::{self, End, Record};
use crate::names::{AppName, AppUnits, ClusterName, Instance};
use crate::systemd::dbus::Bus;
use crate::systemd::{ActiveState, Change, Error, Systemd as _};
use crate::worker::paths::Paths;
use crate::worker::sys::process;

/// How often systemd is asked whether it stops the system, beside what it tells of the handle.
pub(super) const ASK: Duration = Duration::from_secs(1);
/// Without an answer for so long the drain is hurried: in doubt a stop ends.
const SILENCE: Duration = Duration::from_secs(5);

/// What it is told, once.
pub(super) struct Herald {
    pub cluster: ClusterName,
    pub app: AppName,
    pub instance: Instance,
    pub paths: Paths,
    pub directory: PathBuf,
}

impl Herald {
    /// Serves the other half until that ends; the exit status.
    pub(super) fn run(self, other: Std) -> i32 {
        let served = || -> io::Result<()> {
            if process::effective_uid() == 0 {
                process::keep_capabilities(&[])?;
            }
            process::no_new_privileges()?;
            process::hide()?;
            process::set_name(c"pc-drain-herald");
            // Behind the other half's first word, which is that the worker is quiet: until then each has less than a processor.
            let _ = process::poll([other.as_fd()], Some(ASK));
            other.set_nonblocking(true)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let served = runtime.block_on(async { self.serve(UnixStream::from_std(other)?).await });
            // Not taken apart: who waits for our end has waited for the last record, and nothing else.
            std::mem::forget(runtime);
            served
        };
        i32::from(served().is_err())
    }

    async fn serve(&self, other: UnixStream) -> io::Result<()> {
        let (read, mut write) = other.into_split();
        let hurry = async {
            self.stops().await;
            // Whoever does not hear it has ended.
            let _ = write.write_all(b"h").await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.keep(read) => Ok(()),
            () = hurry => Ok(()),
        }
    }

    /// Writes what is told, the last of it also when the other half is killed.
    async fn keep(&self, read: OwnedReadHalf) {
        let workers = self.paths.workers(&self.cluster, &self.app);
        let room = record::make_room(&self.directory, &workers, &self.instance);
        let write = |record: &Record| {
            if room.is_ok() {
                // A drain that cannot be told of goes on.
                let _ = record::write(&self.directory, &self.instance, record);
            }
        };
        let mut read = BufReader::new(read);
        let mut last: Option<Record> = None;
        loop {
            let mut line = Vec::new();
            let length = (&mut read).take(Record::MAX_BYTES).read_until(b'\n', &mut line).await.unwrap_or(0);
            match serde_json::from_slice::<Record>(&line) {
                Ok(record) if length > 0 => {
                    write(&record);
                    last = Some(record);
                }
                _ => break,
            }
        }
        if let Some(last) = last.filter(|last| last.end.is_none()) {
            write(&Record { end: Some(End::Broken), ..last });
        }
    }

    /// Until the whole app or the system stops.
    async fn stops(&self) {
        let mut heard = Instant::now();
        let mut bus = None;
        loop {
            if bus.is_none() {
                bus = timeout(SILENCE, Bus::private(&self.paths)).await.ok().and_then(Result::ok);
            }
            let Some(known) = &bus else {
                if heard.elapsed() > SILENCE {
                    return;
                }
                sleep(ASK / 4).await;
                continue;
            };
            let mut changes = known.changes();
            match timeout(SILENCE, self.is_stopping(known)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => heard = Instant::now(),
                // It reconnects by itself.
                _ if heard.elapsed() > SILENCE => return,
                _ => {}
            }
            let handle = AppUnits::new(&self.cluster, &self.app).handle();
            let changed = async {
                loop {
                    match changes.recv().await {
                        Ok(Change::Unit(unit)) if unit != handle => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            let _ = timeout(ASK, changed).await;
        }
    }

    async fn is_stopping(&self, bus: &Bus) -> Result<bool, Error> {
        let handle = AppUnits::new(&self.cluster, &self.app).handle();
        let rows = bus.units(std::slice::from_ref(&handle)).await?;
        let up = rows.iter().any(|row| row.name == handle && matches!(row.active, ActiveState::Active | ActiveState::Reloading));
        Ok(!up || bus.system_state().await? == "stopping")
    }
}
