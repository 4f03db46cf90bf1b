//! The two grounds of a scenario: what it needs of the world outside, on the fake and on a real systemd.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use project_cluster::systemd::dbus::Bus;
use project_cluster::systemd::fake::{App, Fake, Kind, Service, Start, Times};

use crate::support::Sandbox;

/// One unit of a scenario. Its app's n-th start is the n-th of these, and the last for ever.
#[derive(Debug, Clone)]
pub struct Unit {
    pub name: String,
    pub service: Service,
    pub starts: Vec<App>,
}

/// What somebody else does, behind the back of who uses the trait.
pub trait Hand: Send + Sync + 'static {
    /// The main process exits with 1.
    fn crash(&self, unit: &str) -> impl Future<Output = ()> + Send;
    /// `kill -9` of the main process.
    fn kill(&self, unit: &str) -> impl Future<Output = ()> + Send;
    /// `systemctl reload --no-block`.
    fn reload(&self, unit: &str) -> impl Future<Output = ()> + Send;
    /// `systemctl mask --runtime`, or `unmask`.
    fn mask(&self, unit: &str, on: bool) -> impl Future<Output = ()> + Send;
    /// `systemctl daemon-reload`.
    fn daemon_reload(&self) -> impl Future<Output = ()> + Send;
}

/// A fake that knows these units.
pub fn fake(units: &[Unit]) -> Fake {
    let starts: Vec<(String, Vec<App>)> = units.iter().map(|unit| (unit.name.clone(), unit.starts.clone())).collect();
    let fake = Fake::new(move |name, start| {
        let (_, starts) = starts.iter().find(|(unit, _)| unit == name).unwrap_or_else(|| panic!("{name} has no app"));
        starts[(start as usize - 1).min(starts.len() - 1)]
    });
    for unit in units {
        fake.define(&unit.name, unit.service.clone());
    }
    fake
}

impl Hand for Fake {
    async fn crash(&self, unit: &str) {
        Fake::crash(self, unit);
    }
    async fn kill(&self, unit: &str) {
        Fake::kill(self, unit);
    }
    async fn reload(&self, unit: &str) {
        Fake::reload(self, unit);
    }
    async fn mask(&self, unit: &str, on: bool) {
        Fake::mask(self, unit, on);
    }
    async fn daemon_reload(&self) {
        Fake::daemon_reload(self);
    }
}

/// The app of every unit: it does at its n-th start what line n of its table says. perl, because a shell waits for its
/// child before it hears a signal, and Python needs a tenth of a second to start, forty times over.
const APP: &str = r#"#!/usr/bin/perl
use strict; use Socket;
my ($role, $unit) = @ARGV;
sub nap { my $left = shift; select(undef, undef, undef, $left) }
sub slurp { open(my $file, '<', $_[0]) or return; local $/; <$file> }
my $count = "/run/trace/$unit.starts";
if ($role eq 'count' or $role eq 'step') { my $n = 1 + (slurp($count) // 0); open(my $file, '>', $count); print $file $n }
exit 0 if $role eq 'count';
my @lines = split /\n/, slurp("/etc/trace/$unit");
my $n = slurp($count) // 1;
my ($start, $after, $crash, $stop) = split / /, $lines[$n > @lines ? -1 : $n - 1];
if ($role eq 'post') {
    # As `worker ready` does: it ends well when the app is ready, and ill as soon as the app is dead.
    for (my $waited = 0; $start ne 'ready' or $waited < $after; $waited += 0.02) { kill(0, $ENV{MAINPID}) or exit 1; nap(0.02) }
    exit 0;
}
if ($role eq 'step') { nap($after); exit($start eq 'crash') }
if ($role eq 'stop') { nap($stop); exit 0 }
$SIG{TERM} = $stop eq '-' ? 'IGNORE' : sub { nap($stop); exit 0 };
$SIG{USR1} = sub { exit 1 };
if ($start eq 'crash') { nap($after); exit 1 }
if ($start eq 'ready') {
    nap($after);
    if ($role eq 'notify') {
        socket(my $socket, PF_UNIX, SOCK_DGRAM, 0); send($socket, 'READY=1', 0, sockaddr_un($ENV{NOTIFY_SOCKET}));
    }
    if ($crash ne '-') { nap($crash); exit 1 }
}
nap(1000) while 1;
"#;

/// The real one, and the hand in its sandbox.
pub struct Real {
    sandbox: Arc<Sandbox>,
    bus: Bus,
}

impl Real {
    /// A sandbox that knows these units.
    pub async fn start(sandbox: Arc<Sandbox>, units: &[Unit]) -> (Self, Bus) {
        let mut files = vec![("/run/trace/app".to_owned(), APP.to_owned())];
        for unit in units.iter().filter(|unit| unit.service.kind != Kind::Missing) {
            files.push((format!("/etc/trace/{}", unit.name), unit.starts.iter().map(line).collect()));
            let file = unit.name.split_once('@').map_or(unit.name.clone(), |(head, _)| format!("{head}@.service"));
            files.push((format!("/usr/local/lib/systemd/system/{file}"), text(&unit.service, &unit.starts)));
        }
        // One command: each costs a process in the sandbox.
        let script: String = files.iter().map(|(path, text)| format!("cat > {path} <<'EOF'\n{text}EOF\n")).collect();
        sandbox.sh("mkdir -p /run/trace /etc/trace /usr/local/lib/systemd/system").ok();
        sandbox.run_with_input(&["sh", "-eu"], script.as_bytes()).ok();
        sandbox.sh("chmod 755 /run/trace/app; systemctl daemon-reload").ok();
        let open = || async { Bus::at(&address(&sandbox), Duration::from_secs(25)).await.expect("a bus") };
        let (bus, other) = (open().await, open().await);
        (Self { sandbox, bus: other }, bus)
    }

    async fn run(&self, command: &[&str]) {
        let sandbox = Arc::clone(&self.sandbox);
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        tokio::task::spawn_blocking(move || sandbox.run(&command).ok()).await.expect("a command");
    }
}

/// The sandbox's system bus, seen from outside.
pub fn address(sandbox: &Sandbox) -> String {
    format!("unix:path=/proc/{}/root/run/dbus/system_bus_socket", sandbox.pid())
}

impl Hand for Real {
    async fn crash(&self, unit: &str) {
        self.bus.kill_main(unit, libc::SIGUSR1).await.expect("a signal");
    }
    async fn kill(&self, unit: &str) {
        self.bus.kill_main(unit, libc::SIGKILL).await.expect("a signal");
    }
    async fn reload(&self, unit: &str) {
        self.run(&["systemctl", "reload", "--no-block", unit]).await;
    }
    async fn mask(&self, unit: &str, on: bool) {
        self.run(&["systemctl", if on { "mask" } else { "unmask" }, unit]).await;
    }
    async fn daemon_reload(&self) {
        self.bus.reload().await.expect("a reload");
    }
}

/// A start in the app's table.
fn line(app: &App) -> String {
    let seconds = |duration: Duration| duration.as_secs_f64().to_string();
    let maybe = |duration: Option<Duration>| duration.map_or("-".into(), seconds);
    let (start, after) = match app.start {
        Start::Ready(after) => ("ready", seconds(after)),
        Start::Crash(after) => ("crash", seconds(after)),
        Start::Never | Start::Skipped => ("never", "0".into()),
    };
    format!("{start} {after} {} {}\n", maybe(app.crash_after), maybe(app.stop))
}

/// The unit file that is what the fake is told.
fn text(service: &Service, starts: &[App]) -> String {
    let Times { start, stop, restart } = service.times.unwrap_or_default();
    let (start, stop, restart) = (start.as_millis(), stop.as_millis(), restart.as_millis());
    let (burst, interval) = service.start_limit.map_or((5, 0), |(burst, interval)| (burst, interval.as_secs()));
    let skipped = if starts[0].start == Start::Skipped { "ConditionPathExists=/never\n" } else { "" };
    let limits = format!("[Unit]\n{skipped}StartLimitBurst={burst}\nStartLimitIntervalSec={interval}\n");
    let app = |role: &str| format!("/run/trace/app {role} %n\n");
    let body = match &service.kind {
        Kind::Socket { service } => format!("[Socket]\nListenStream=/run/trace/%n\nService={service}\n"),
        Kind::Handle { reload } => format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={}ExecReload=/bin/sleep {}\nExecStopPost={}TimeoutStopSec={stop}ms\nSuccessExitStatus=SIGTERM\n",
            app("step"),
            reload.as_secs_f64(),
            app("stop")
        ),
        kind => {
            let (kind, main, post) = match kind {
                Kind::Notify => ("notify", app("notify"), String::new()),
                _ => ("exec", app("main"), format!("ExecStartPost={}", app("post"))),
            };
            let always = if service.restart { "always" } else { "no" };
            let success = if service.success { "SuccessExitStatus=1\n" } else { "" };
            format!(
                "[Service]\nType={kind}\nExecStartPre={}ExecStart={main}{post}TimeoutStartSec={start}ms\nTimeoutStopSec={stop}ms\nRestart={always}\nRestartSec={restart}ms\nKillMode=mixed\n{success}",
                app("count")
            )
        }
    };
    limits + &body
}
