//! A load generator that lives in the sandbox's network namespace and hides nothing: each request that was begun is counted
//! as answered or as failed, and a failure keeps its kind and its time.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Address, Connection, Failure, Response};
use super::sandbox::Sandbox;
use super::wait;

/// Failures kept with their particulars; all are counted.
const SAMPLES: usize = 50;

/// Distinct bodies counted one by one; a server that makes up a new one each time does not fill the memory.
const BODIES: usize = 4096;

/// What a load is to be.
pub struct Builder {
    netns: Arc<File>,
    address: Address,
    path: String,
    connections: usize,
    keep_alive: bool,
    timeout: Duration,
    pause: Duration,
    expected: fn(&str) -> bool,
}

impl Builder {
    /// So many at once, each in a thread of its own. Default 4.
    #[must_use]
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Many requests a connection, as long as the server lets it. Default: a new connection for each request.
    #[must_use]
    pub fn keep_alive(self) -> Self {
        Self { keep_alive: true, ..self }
    }

    /// What is asked for. Default `/`.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// For one request from connecting to the last byte. Default 10 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long each connection rests between two requests. Default none.
    #[must_use]
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Which bodies are right. Default: any.
    #[must_use]
    pub fn expect(self, expected: fn(&str) -> bool) -> Self {
        Self { expected, ..self }
    }

    /// Starts it.
    pub fn start(self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let builder = Arc::new(self);
        let started = Instant::now();
        let (reports, threads) = (0..builder.connections)
            .map(|_| {
                let report = Arc::new(Mutex::new(Report::default()));
                let (builder, stop, into) = (Arc::clone(&builder), Arc::clone(&stop), Arc::clone(&report));
                let thread = thread::spawn(move || worker(&builder, &stop, &into, started));
                (report, thread)
            })
            .unzip();
        Load { stop, reports, threads, started }
    }
}

/// A load that runs; it stops when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    reports: Vec<Arc<Mutex<Report>>>,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
}

impl Load {
    /// What came of it so far.
    pub fn so_far(&self) -> Report {
        let mut sum = Report::default();
        for report in &self.reports {
            sum.add(&lock(report));
        }
        sum.took = self.started.elapsed();
        sum
    }

    /// Waits until so many more requests were answered: the load is really there.
    #[track_caller]
    pub fn wait_for_answers(&self, more: u64) {
        let target = self.so_far().ok + more;
        wait::wait_until(&format!("{more} more requests are answered"), Duration::from_secs(30), || self.so_far().ok >= target);
    }

    /// Waits until a body that begins with this is answered.
    #[track_caller]
    pub fn wait_for_body(&self, start: &str) {
        wait::wait_until(&format!("a body begins with {start:?}"), Duration::from_secs(30), || {
            self.so_far().bodies.keys().any(|body| body.starts_with(start))
        });
    }

    /// Lets each connection end its request, and returns what came of all.
    #[track_caller]
    pub fn stop(mut self) -> Report {
        let panicked = self.join();
        assert!(!panicked, "a connection's thread panicked, so the figures are not whole: {}", self.so_far());
        self.so_far()
    }

    /// Whether one of the threads panicked.
    fn join(&mut self) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.iter().any(Result::is_err)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}

/// What came of a load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Requests begun: all that were answered or failed.
    pub sent: u64,
    /// Answered with 2xx, whole, with an expected body.
    pub ok: u64,
    /// Failed, by [`Failure::kind`].
    pub failed_by_kind: BTreeMap<&'static str, u64>,
    /// Answers by their trimmed body.
    pub bodies: BTreeMap<String, u64>,
    /// Connections made.
    pub connections: u64,
    /// The slowest answer, from connecting (or sending, on a kept connection) to its last byte.
    pub slowest: Duration,
    /// The first failures, and when they came after the start.
    pub samples: Vec<(Duration, Failure)>,
    /// From start to stop.
    pub took: Duration,
}

impl Report {
    /// All that failed.
    pub fn failed(&self) -> u64 {
        self.failed_by_kind.values().sum()
    }

    /// Answers by the first word of their body: the version.
    pub fn versions(&self) -> BTreeMap<String, u64> {
        self.words(0)
    }

    /// Answers by the second word of their body: the process.
    pub fn pids(&self) -> BTreeMap<String, u64> {
        self.words(1)
    }

    fn words(&self, index: usize) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (body, count) in &self.bodies {
            *counts.entry(body.split_whitespace().nth(index).unwrap_or_default().to_owned()).or_default() += count;
        }
        counts
    }

    /// Panics with all figures unless every request was answered, and at least `least` were.
    #[track_caller]
    pub fn none_failed(&self, least: u64) {
        assert!(self.failed() == 0 && self.ok >= least, "expected none failed and at least {least} answered: {self}\n{:#?}", self.samples);
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.connections += other.connections;
        self.slowest = self.slowest.max(other.slowest);
        for (kind, count) in &other.failed_by_kind {
            *self.failed_by_kind.entry(kind).or_default() += count;
        }
        for (body, count) in &other.bodies {
            *self.bodies.entry(body.clone()).or_default() += count;
        }
        self.samples.extend(other.samples.iter().cloned());
        self.samples.sort_by_key(|(after, _)| *after);
        self.samples.truncate(SAMPLES);
    }

    fn count(&mut self, result: Result<String, Failure>, began: Instant, started: Instant) {
        self.sent += 1;
        match result {
            Ok(body) => {
                self.ok += 1;
                self.slowest = self.slowest.max(began.elapsed());
                let body = if self.bodies.len() < BODIES || self.bodies.contains_key(&body) { body } else { "(others)".to_owned() };
                *self.bodies.entry(body).or_default() += 1;
            }
            Err(failure) => {
                *self.failed_by_kind.entry(failure.kind()).or_default() += 1;
                if self.samples.len() < SAMPLES {
                    self.samples.push((started.elapsed(), failure));
                }
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests in {:.1} s, {} answered", self.sent, self.took.as_secs_f64(), self.ok)?;
        for (version, count) in self.versions() {
            write!(f, ", {count} by {version}")?;
        }
        write!(f, ", {} failed", self.failed())?;
        for (kind, count) in &self.failed_by_kind {
            write!(f, ", {count} {kind}")?;
        }
        write!(f, ", slowest {:.0} ms", self.slowest.as_secs_f64() * 1000.0)
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn worker(builder: &Builder, stop: &AtomicBool, report: &Mutex<Report>, started: Instant) {
    if let Err(error) = enter(&builder.netns) {
        panic!("cannot enter the sandbox's network: {error}");
    }
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = request(builder, &mut connection, report, began + builder.timeout);
        let failed = result.is_err();
        lock(report).count(result, began, started);
        if !builder.pause.is_zero() {
            thread::sleep(builder.pause);
        } else if failed {
            // A refused connection costs nothing: without this a closed port would be asked 100,000 times a second, and the
            // server that is to come up again would not get the processor.
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn request(builder: &Builder, kept: &mut Option<Connection>, report: &Mutex<Report>, end: Instant) -> Result<String, Failure> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let connection = Connection::open(&builder.address, builder.timeout)?;
            lock(report).connections += 1;
            connection
        }
    };
    let response = connection.get(&builder.path, builder.keep_alive, end)?;
    let reusable = response.reusable;
    let body = judge(response, builder.expected)?;
    if reusable {
        *kept = Some(connection);
    }
    Ok(body)
}

fn judge(response: Response, expected: fn(&str) -> bool) -> Result<String, Failure> {
    if !(200..300).contains(&response.status) {
        return Err(Failure::Status(response.status));
    }
    let body: String = response.body.trim().chars().take(200).collect();
    if expected(&response.body) { Ok(body) } else { Err(Failure::Body(body)) }
}

/// Moves the calling thread, for good, into a sandbox's network.
pub fn enter(netns: &File) -> io::Result<()> {
    // SAFETY: integers only; it changes the calling thread alone.
    if unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Sandbox {
    /// A load on this address (`127.0.0.1:3000`, `[::1]:3000`, `/run/shop/api.sock`), to be shaped and started. It stays in
    /// the network of the present boot.
    #[track_caller]
    pub fn load(&self, address: &str) -> Builder {
        Builder {
            netns: Arc::new(File::open(self.netns()).expect("the namespace of a running process")),
            address: self.address(address),
            path: "/".to_owned(),
            connections: 4,
            keep_alive: false,
            timeout: Duration::from_secs(10),
            pause: Duration::ZERO,
            expected: |_| true,
        }
    }

    /// One GET over a new connection.
    #[track_caller]
    pub fn get(&self, address: &str, path: &str) -> Result<Response, Failure> {
        let netns = File::open(self.netns()).expect("the namespace of a running process");
        let address = self.address(address);
        let limit = Duration::from_secs(10);
        let asks = || {
            enter(&netns)?;
            Connection::open(&address, limit)?.get(path, false, Instant::now() + limit)
        };
        // In a thread of its own, since entering a network namespace cannot be undone.
        thread::scope(|scope| scope.spawn(asks).join()).expect("nothing panics in it")
    }

    /// Waits until a GET of `/` is answered with 2xx.
    #[track_caller]
    pub fn wait_for_http(&self, address: &str) -> Response {
        wait::wait_for(&format!("{address} answers"), Duration::from_secs(30), || {
            self.get(address, "/").ok().filter(|response| (200..300).contains(&response.status))
        })
    }

    fn address(&self, text: &str) -> Address {
        Address::parse(text, &PathBuf::from(format!("/proc/{}/root", self.pid())))
    }
}
