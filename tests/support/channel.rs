//! Commands inside a machine: this end of the port at whose other end `tests/machine/agent.py` runs them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::running::{ENVIRONMENT, Pipe, Process, Running};

/// For the agent to start a command, and for a frame to be taken: it shares slow processors with what it has started.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest payload in one frame from here.
const CHUNK: usize = 1 << 16;

/// Longest payload that is believed.
const MAX_FRAME: usize = 1 << 20;

/// The exit code of a command under which the machine went away. No command exits with it.
pub const WENT_DOWN: i32 = -1;

/// The port, as long as one boot lasts.
pub struct Channel(Arc<Shared>);

struct Shared {
    writer: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    hello: bool,
    gone: bool,
    last: u32,
    commands: BTreeMap<u32, Entry>,
}

/// What is known of one command.
#[derive(Default)]
struct Entry {
    pid: Option<i32>,
    /// Its exit code, or why it could not be started.
    end: Option<Result<i32, String>>,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Channel {
    /// Takes over this end of the port; it reads until the other end is gone.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        let reader = stream.try_clone()?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let shared = Arc::new(Shared { writer: Mutex::new(stream), state: Mutex::default(), changed: Condvar::new() });
        let into = Arc::clone(&shared);
        thread::spawn(move || {
            // However it ends, nothing more will come.
            let _ = into.receive(reader);
            into.lock().gone = true;
            into.changed.notify_all();
        });
        Ok(Self(shared))
    }

    /// Waits until the agent is there; false when the machine went away or the limit is over.
    pub fn is_there_within(&self, limit: Duration) -> bool {
        self.0.wait(limit, |state| state.hello || state.gone).is_some_and(|state| state.hello && !state.gone)
    }

    /// Starts a command.
    pub fn spawn(&self, command: &[&OsStr], input: Option<&[u8]>) -> io::Result<Running> {
        let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let environment: BTreeMap<_, _> = ENVIRONMENT.into_iter().collect();
        let wanted = json!({ "argv": words, "env": environment, "input": input.is_some() });
        let started = Instant::now();
        let (number, stdout, stderr) = {
            let mut state = self.0.lock();
            state.last += 1;
            let (number, entry) = (state.last, Entry::default());
            let streams = (Arc::clone(&entry.stdout), Arc::clone(&entry.stderr));
            state.commands.insert(number, entry);
            (number, streams.0, streams.1)
        };
        // From here on its end takes the entry with it.
        let remote = Remote { shared: Arc::clone(&self.0), number };
        self.0.send(number, b'S', wanted.to_string().as_bytes())?;
        let known = |state: &mut State| state.gone || state.commands.get(&number).is_some_and(|one| one.pid.is_some() || one.end.is_some());
        let Some(mut state) = self.0.wait(PATIENCE, known) else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("the agent did not start it within {PATIENCE:?}")));
        };
        let entry = state.commands.get_mut(&number).ok_or_else(|| io::Error::other("its entry is gone"))?;
        if let Some(Err(why)) = &entry.end {
            return Err(io::Error::other(why.clone()));
        }
        if entry.pid.is_none() {
            return Err(io::Error::other("the machine went down"));
        }
        drop(state);
        if let Some(bytes) = input.map(<[u8]>::to_vec) {
            let shared = Arc::clone(&self.0);
            // In a thread, since it may write before it has read all. When the machine goes down, that is what counts.
            thread::spawn(move || {
                bytes.chunks(CHUNK).try_for_each(|chunk| shared.send(number, b'I', chunk))?;
                shared.send(number, b'E', b"")
            });
        }
        Ok(Running::new(words.join(" "), Box::new(remote), Pipe::gathered(stdout), Pipe::gathered(stderr), started))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Waits until this holds; nothing when the limit is over.
    fn wait(&self, limit: Duration, mut holds: impl FnMut(&mut State) -> bool) -> Option<MutexGuard<'_, State>> {
        let (state, waited) = self.changed.wait_timeout_while(self.lock(), limit, |state| !holds(state)).expect("no holder panics");
        (!waited.timed_out()).then_some(state)
    }

    fn send(&self, number: u32, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(9 + payload.len());
        frame.extend(number.to_be_bytes());
        frame.push(kind);
        frame.extend(length.to_be_bytes());
        frame.extend(payload);
        self.writer.lock().expect("no holder panics").write_all(&frame)
    }

    fn receive(&self, mut from: UnixStream) -> io::Result<()> {
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head)?;
            let [n0, n1, n2, n3, kind, l0, l1, l2, l3] = head;
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            if length > MAX_FRAME {
                return Err(io::Error::other("a frame of this length is none"));
            }
            let mut payload = vec![0; length];
            from.read_exact(&mut payload)?;
            self.take(u32::from_be_bytes([n0, n1, n2, n3]), kind, &payload);
        }
    }

    fn take(&self, number: u32, kind: u8, payload: &[u8]) {
        let mut state = self.lock();
        if kind == b'H' {
            state.hello = true;
        } else if let Some(entry) = state.commands.get_mut(&number) {
            let text = String::from_utf8_lossy(payload);
            match kind {
                b'O' => entry.stdout.lock().expect("no holder panics").extend_from_slice(payload),
                b'R' => entry.stderr.lock().expect("no holder panics").extend_from_slice(payload),
                b'P' => entry.pid = text.parse().ok(),
                b'X' => entry.end = Some(text.parse().map_err(|_| format!("`{text}` is no exit code"))),
                b'F' => entry.end = Some(Err(text.into_owned())),
                _ => entry.end = Some(Err(format!("the agent speaks of {}", char::from(kind)))),
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// A process that the agent started.
struct Remote {
    shared: Arc<Shared>,
    number: u32,
}

impl Remote {
    fn ended(&self, state: &State) -> bool {
        state.gone || state.commands.get(&self.number).is_none_or(|entry| entry.end.is_some())
    }
}

impl Process for Remote {
    fn pid(&self) -> Option<i32> {
        let state = self.shared.lock();
        state.commands.get(&self.number).filter(|_| !self.ended(&state))?.pid
    }

    fn signal(&self, signal: i32) {
        // The machine may have gone down: then there is nobody to signal.
        let _ = self.shared.send(self.number, b'K', signal.to_string().as_bytes());
    }

    fn ended_within(&self, limit: Duration) -> bool {
        self.shared.wait(limit, |state| self.ended(state)).is_some()
    }

    fn code(&mut self) -> Option<i32> {
        let state = self.shared.lock();
        let end = state.commands.get(&self.number)?.end.clone();
        Some(end.and_then(Result::ok).unwrap_or(WENT_DOWN))
    }

    fn discard(&mut self) {
        let runs = {
            let mut state = self.shared.lock();
            let runs = !self.ended(&state);
            state.commands.remove(&self.number);
            runs
        };
        if runs {
            self.signal(libc::SIGKILL);
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.discard();
    }
}
