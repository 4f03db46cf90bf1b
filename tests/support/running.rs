//! A command under way and what came of it, wherever it runs.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a command may take where the caller says nothing else: far more than any job of a test, far less than the
/// time after which nextest ends a test.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// What every command finds in its environment, and nothing else.
pub(super) const ENVIRONMENT: [(&str, &str); 7] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
    ("SYSTEMD_PAGER", "cat"),
    ("SYSTEMD_COLORS", "0"),
    ("SYSTEMD_URLIFY", "0"),
];

/// The process of a command, as its kind of ground holds it.
pub(super) trait Process: Send + Sync {
    /// Its number inside; none once it has ended.
    fn pid(&self) -> Option<i32>;
    /// Sends it a signal; an ended process is no error.
    fn signal(&self, signal: i32);
    /// Whether it ended within the limit.
    fn ended_within(&self, limit: Duration) -> bool;
    /// The exit code of one that has ended; 128 and the signal's number where a signal ended it.
    fn code(&mut self) -> Option<i32>;
    /// Ends it, if it runs, and leaves nothing of it.
    fn discard(&mut self);
}

/// What a command did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// What it wrote, each broken character replaced.
    pub stdout: String,
    /// What it wrote as errors, likewise.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Panics with all that is known unless it exited with 0; its standard output without blanks around it.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout.trim().to_owned()
    }

    /// Panics with all that is known unless it exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "`{}` exited with {} (expected {code}) after {:?}\n--- stdout\n{}--- stderr\n{}",
            self.command,
            self.code,
            self.took,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A command that runs inside; killed when dropped.
pub struct Running {
    command: String,
    process: Box<dyn Process>,
    started: Instant,
    stdout: Pipe,
    stderr: Pipe,
    said: fn(&str) -> String,
}

/// A stream that a thread gathers.
pub(super) struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    /// What somebody else gathers there.
    pub fn gathered(bytes: Arc<Mutex<Vec<u8>>>) -> Self {
        Self { bytes, reader: None }
    }

    /// Starts the thread.
    pub fn gather(mut stream: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                into.lock().expect("no holder panics").extend_from_slice(&chunk[..count]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    /// What came so far, each broken character replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panics")).into_owned()
    }

    /// What a process that ended wrote. A grandchild may hold the stream open for ever: then what there is.
    pub fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let end = Instant::now() + Duration::from_secs(1);
            while !reader.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.text()
    }
}

impl Running {
    /// One that has just been started.
    pub(super) fn new(command: String, process: Box<dyn Process>, stdout: Pipe, stderr: Pipe, started: Instant) -> Self {
        Self { command, process, started, stdout, stderr, said: str::to_owned }
    }

    /// The same, and what it writes passes through this before anybody sees it.
    pub fn translated(mut self, said: fn(&str) -> String) -> Self {
        self.said = said;
        self
    }

    /// Its number inside.
    pub fn pid(&self) -> i32 {
        self.process.pid().unwrap_or_else(|| panic!("`{}` has ended", self.command))
    }

    /// Sends it a signal (`libc::SIGINT`).
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// What it wrote so far.
    pub fn stdout(&self) -> String {
        (self.said)(&self.stdout.text())
    }

    /// What it wrote as errors so far.
    pub fn stderr(&self) -> String {
        (self.said)(&self.stderr.text())
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        !self.process.ended_within(Duration::ZERO)
    }

    /// Waits for its end; panics with what it wrote when that lasts longer than `limit`.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Output {
        match self.try_wait(limit) {
            Some(output) => output,
            None => panic!(
                "`{}` did not end within {limit:?}\n--- stdout\n{}--- stderr\n{}",
                self.command,
                self.stdout.text(),
                self.stderr.text()
            ),
        }
    }

    /// Waits for its end; nothing when that lasts longer than `limit`.
    pub fn try_wait(&mut self, limit: Duration) -> Option<Output> {
        if !self.process.ended_within(limit) {
            return None;
        }
        let took = self.started.elapsed();
        let code = self.process.code()?;
        let (stdout, stderr) = ((self.said)(&self.stdout.finish()), (self.said)(&self.stderr.finish()));
        Some(Output { command: self.command.clone(), code, stdout, stderr, took })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.discard();
    }
}
