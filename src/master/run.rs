//! The master as a process: socket-activated, told to systemd, ended by SIGTERM, made to read its settings by SIGHUP.
//!
//! Without activation it binds nothing: PID 1 holds the listeners, so that they outlive it.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::renew::read_settings;
use super::ticks::Ticks;
use super::{Master, Places, events, failed, thrift, watch};
use crate::api::guard::Door;
use crate::api::listen::Listener;
use crate::api::server;
use crate::formats;
use crate::intent::Intent;
use crate::journal::Journal;
use crate::names::ClusterName;
use crate::place;
use crate::say::say;
use crate::systemd::Systemd;
use crate::systemd::dbus::Bus;

/// How long answers under way may take when the master is asked to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// `master --cluster NAME`; returns the process's exit code.
pub fn main(args: &[OsString]) -> ExitCode {
    let cluster = match args {
        [flag, name] if flag == "--cluster" => name.to_str().and_then(|name| name.parse::<ClusterName>().ok()),
        _ => None,
    };
    let Some(cluster) = cluster else {
        say!(Error, "usage: project-cluster master --cluster NAME (systemd starts it: `systemctl start NAME.socket`)");
        return ExitCode::from(2);
    };
    // One thread: everything it does is waiting, and a second stack is a tenth of its memory.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            say!(Error, "the kernel gives no event queue: {why}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&cluster)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say!(Error, "{why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cluster: &ClusterName) -> Result<(), String> {
    // First of all: `install` may ask for the new settings while this one is still on its way up.
    let mut terminate = signal(SignalKind::terminate()).map_err(|why| why.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|why| why.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|why| why.to_string())?;
    let listeners = listeners(cluster)?;
    let place = place::here();
    let places = Places::of(cluster, &place.paths);
    crate::points::arm(places.run.join("state"));
    // What another version knows more of would be set aside as damaged. Workers go on without a master.
    formats::refuse_newer([&places.var, &places.run], None).map_err(|why| why.to_string())?;
    let settings = read_settings(&places)?;
    let path = places.intent();
    // Where no `StateDirectory=` has made it.
    let state = place.paths.master_state(cluster);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .map_err(|why| format!("{} cannot be made: {why}", state.display()))?;
    let intent = match Intent::read(&path) {
        Ok(intent) => intent,
        Err(why) if why.kind() == io::ErrorKind::InvalidData => set_aside(&path, &why)?,
        Err(why) => return Err(format!("{} cannot be read: {why}", path.display())),
    };
    let systemd = Arc::new(Bus::of(place).await.map_err(|why| why.to_string())?);
    // Before the first reading, so that no change falls between.
    let changes = systemd.changes();
    let master = Master::new(systemd, settings, intent, places.clone(), Journal::of(place.manager));
    // Without it every handle would seem to have left, and a roll to be over.
    master.look().await.map_err(|why| why.to_string())?;
    master.tell_start();
    let rolled = master.take_up();
    master.keep_history();
    master.recall(&rolled);

    let mut tasks = JoinSet::new();
    let follower = master.clone();
    tasks.spawn(async move { follower.follow(changes).await });
    tasks.spawn(failed::watch(master.clone()));
    tasks.spawn(events::watch_strays(master.clone()));
    master.renew_tokens();
    for listener in listeners {
        let routes = server::routes(master.clone());
        let door = match &listener {
            Listener::Unix(_) => Door::unix(routes),
            Listener::Tcp(_) => {
                let master = master.clone();
                Door::tcp(routes, Arc::new(move || master.rule()))
            }
        };
        tasks.spawn(listener.serve(door));
    }
    thrift::give_back();
    notify(&[NotifyState::Ready]);
    master.tell_status();
    // Half of the limit, as sd_watchdog_enabled(3) recommends.
    let alive = sd_notify::watchdog_enabled().map(|limit| Ticks::every(limit / 2)).transpose().map_err(|why| why.to_string())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                master.renew_settings();
                master.renew_tokens();
                master.refresh(&watch::Dirty::All).await;
                master.tell_status();
            }
            () = tick(alive.as_ref()) => notify(&[NotifyState::Watchdog]),
            // A task that ends takes the process with it; systemd brings it back whole.
            Some(_) = tasks.join_next() => return Err("a task of the master ended; leaving, so that systemd starts it again".into()),
        }
    }
    notify(&[NotifyState::Stopping]);
    // Rolls go on with the next master, workers with none.
    let _ = tokio::time::timeout(FAREWELL, tasks.shutdown()).await;
    master.close_history(FAREWELL);
    Ok(())
}

async fn tick(alive: Option<&Ticks>) {
    match alive {
        Some(alive) => alive.next().await,
        None => std::future::pending().await,
    }
}

/// The listeners that systemd passes: the unix socket, which must be there, and TCP's.
fn listeners(cluster: &ClusterName) -> Result<Vec<Listener>, String> {
    let mut inherited = ListenFd::from_env();
    let (mut listeners, mut unix) = (Vec::new(), false);
    for at in 0..inherited.len() {
        let failed = |why: io::Error| format!("the inherited socket {at} cannot be used: {why}");
        // One of another kind stays where it is.
        if let Ok(Some(listener)) = inherited.take_unix_listener(at) {
            listener.set_nonblocking(true).map_err(failed)?;
            listeners.push(Listener::Unix(UnixListener::from_std(listener).map_err(failed)?));
            unix = true;
        } else if let Some(listener) = inherited.take_tcp_listener(at).map_err(failed)? {
            listener.set_nonblocking(true).map_err(failed)?;
            listeners.push(Listener::Tcp(TcpListener::from_std(listener).map_err(failed)?));
        }
    }
    if !unix {
        return Err(format!(
            "systemd passed no socket, so there is nothing to serve: the master is started by its socket. `systemctl start {}`",
            cluster.api_socket()
        ));
    }
    Ok(listeners)
}

/// A damaged memory is moved aside and said loudly; the cluster goes on by what runs.
fn set_aside(path: &Path, why: &io::Error) -> Result<Intent, String> {
    let aside = crate::files::set_aside(path).map_err(|why| format!("{} cannot be moved aside: {why}", path.display()))?;
    say!(
        Critical,
        "{why}. It was moved to {}. Generations are taken from what runs; holds, numbers of workers (`add`, `scale`) and which are to stay \
         stopped are forgotten: `project-cluster ls` shows how the apps stand",
        aside.display()
    );
    Ok(Intent::default())
}

fn notify(state: &[NotifyState<'_>]) {
    // Without NOTIFY_SOCKET there is nobody to tell; a full socket is systemd's trouble, and the watchdog's.
    let _ = sd_notify::notify(state);
}
