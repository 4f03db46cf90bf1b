//! Stands in for systemd: makes sockets and runtime directory, starts `worker exec`, runs the other steps.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use project_cluster::config::settings::{Listen, Ready, Spawn};
use project_cluster::names::{Address, Generation};
use project_cluster::worker::inherited::Sockets;
use project_cluster::worker::pin::{self, Copy, Pin};
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_project-cluster");
/// Far above what anything here takes, far below what a person waits for.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits for a state.
pub fn until(what: &str, mut state: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !state() {
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn inode(fd: &impl std::os::fd::AsFd) -> u64 {
    fs::File::from(fd.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino()
}

pub fn app(name: &str) -> String {
    format!("{}/tests/worker/apps/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A held socket, as PID 1 holds it.
pub struct Held {
    pub address: Address,
    pub socket: OwnedFd,
    pub inode: u64,
    pub backlog: u32,
}

impl Held {
    pub fn tcp(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        Self { address, inode: inode(&listener), socket: listener.into(), backlog: 4096 }
    }
    pub fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self { address: Address::Unix(path.into()), inode: inode(&listener), socket: listener.into(), backlog: 4096 }
    }
    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(path) => panic!("{path:?} has no port"),
        }
    }
    pub fn get(&self) -> String {
        get(SocketAddr::from(([127, 0, 0, 1], self.port())))
    }
}

/// Body of a GET.
pub fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    ask(&mut stream)
}

pub fn ask(stream: &mut (impl std::io::Read + std::io::Write)) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// A place below which one app's workers live.
pub struct World {
    pub root: TempDir,
    /// What runs in front of the binary: `setpriv` for another user.
    pub wrapper: Vec<String>,
}

impl World {
    pub fn new() -> Self {
        let world = Self { root: TempDir::with_prefix("pc-").unwrap(), wrapper: vec![] };
        fs::create_dir_all(world.path("var/lib/shop/pins/api")).unwrap();
        world
    }
    /// Workers run as nobody where these tests run as root; else as whoever runs them.
    pub fn unprivileged() -> Self {
        let mut world = Self::new();
        if fs::metadata(world.root.path()).unwrap().uid() == 0 {
            world.wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(String::from).to_vec();
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(world.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        world
    }
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }
    pub fn touch(&self, name: &str) {
        fs::write(self.path(name), "").unwrap();
    }
    /// What a worker becomes: `command`, in the root of this world.
    pub fn copy(&self, command: &[&str], held: &[&Held]) -> Copy {
        Copy {
            format: 1,
            cluster: "shop".parse().unwrap(),
            app: "api".parse().unwrap(),
            instance: "1.1.1".parse().unwrap(),
            port: None,
            nonblocking: None,
            hook: None,
            pin: Pin {
                format: pin::FORMAT,
                generation: Generation(1),
                revision: 0,
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                cwd: self.root.path().into(),
                env: BTreeMap::new(),
                listen: held
                    .iter()
                    .map(|held| Listen { address: held.address.clone(), mode: None, owner: None, group: None, backlog: held.backlog })
                    .collect(),
                swap: true,
                spawn: Spawn::Cluster,
                ready: Ready::Listen,
                min_ready: Duration::from_millis(100),
            },
        }
    }
    pub fn start(&self, copy: &Copy, held: &[&Held]) -> Worker {
        let instance = copy.instance.to_string();
        let directory = self.path("run/shop-api").join(&instance);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(Copy::FILE), serde_json::to_vec(copy).unwrap()).unwrap();
        if !self.wrapper.is_empty() {
            std::os::unix::fs::chown(&directory, Some(65534), Some(65534)).unwrap();
        }
        let log = self.path(&format!("{instance}.log"));
        // Descriptors travel as the standard ones and move to 3 and 4 before the binary starts.
        let redirect = match held.len() {
            0 => "exec 0</dev/null 1>&2",
            1 => "exec 3<&0 0</dev/null 1>&2",
            2 => "exec 3<&0 4<&1 0</dev/null 1>&2",
            more => panic!("{more} sockets"),
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{redirect}; export LISTEN_PID=$$; exec \"$@\"")).arg("sh");
        command.args(&self.wrapper).args([BINARY, "worker", "exec"]);
        command.env_clear().env("RUNTIME_DIRECTORY", &directory).env("LISTEN_FDS", held.len().to_string()).env("PATH", "/usr/bin:/bin");
        command.process_group(0).current_dir("/").stderr(fs::File::create(&log).unwrap()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut sockets = held.iter().map(|held| held.socket.try_clone().unwrap());
        if let Some(socket) = sockets.next() {
            command.stdin(socket);
        }
        if let Some(socket) = sockets.next() {
            command.stdout(socket);
        }
        Worker { child: command.spawn().unwrap(), directory, log, instance }
    }
    /// `worker ready` for a worker.
    pub fn ready(&self, worker: &Worker, timeout: Duration) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["worker", "ready", "--cluster", "shop", "--app", "api", "--root"]).arg(self.root.path());
        command.args(["--timeout-ms", &timeout.as_millis().to_string(), &worker.instance]);
        command.env("MAINPID", worker.pid().to_string());
        command
    }
    pub fn marked(&self) -> bool {
        fs::metadata(self.path("var/lib/shop/pins/api/1.ready")).is_ok_and(|metadata| metadata.len() > 0)
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A started worker, killed with all its processes in the end.
pub struct Worker {
    pub child: Child,
    pub directory: PathBuf,
    pub log: PathBuf,
    pub instance: String,
}

impl Worker {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
    pub fn sockets(&self) -> Sockets {
        let mut found = None;
        until("sockets.json", || {
            found = fs::read(self.directory.join(Sockets::FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            found.is_some()
        });
        found.unwrap()
    }
    /// How many descriptors of a process are this socket.
    pub fn holds(pid: u32, inode: u64) -> usize {
        let wanted = format!("socket:[{inode}]");
        let links =
            fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| *link == Path::new(&wanted)).count()
    }
    /// Whether the inherited socket is non-blocking, for all who share it.
    pub fn is_nonblocking(&self) -> bool {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/3", self.pid())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_NONBLOCK as u32 != 0
    }
    /// Waits until the app has the socket beside the inherited descriptor.
    pub fn is_given(&self, held: &Held) {
        // Before it is the app, `exec` holds duplicates too.
        let is_app = || fs::read_link(format!("/proc/{}/exe", self.pid())).is_ok_and(|exe| exe != Path::new(BINARY));
        until(&format!("the app gets the socket; its log: {}", self.log()), || {
            self.sockets().pid == self.pid() && is_app() && Self::holds(self.pid(), held.inode) >= 2
        });
    }
    /// Waits for a line of its log.
    pub fn says(&self, part: &str) -> String {
        let mut log = String::new();
        let end = Instant::now() + LIMIT;
        while !log.contains(part) {
            assert!(Instant::now() < end, "`{part}` is not in: {log}");
            std::thread::sleep(Duration::from_millis(5));
            log = self.log();
        }
        log.lines().find(|line| line.contains(part)).unwrap().to_owned()
    }
    pub fn kill(&mut self) {
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.pid())]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
