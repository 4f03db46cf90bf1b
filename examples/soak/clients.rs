//! Clients that know what the right answer is. Each request is a POST on a new connection, with a number that no other has and
//! a body of its own; its answer bears that number, the body's hash, the process, and how many requests that process has had.
//! So it shows what was answered wrongly, and what was executed without an answer: a process's count has a gap there.
#![allow(clippy::expect_used, reason = "a soak that cannot go on ends by a panic that says why")]

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::APPS;
use crate::support::Sandbox;
use crate::support::http::{Address, Connection, Failure};
use crate::support::load;

/// At once.
const CLIENTS: u64 = 192;

/// How long handlers take, in turn.
const DELAYS_MS: [u64; 8] = [0, 0, 0, 1, 5, 20, 0, 200];

/// Longer than any drain.
const LIMIT: Duration = Duration::from_secs(40);

/// Failures kept with their particulars; all are counted.
const SAMPLES: usize = 20;

/// What came of one app's requests.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
    pub garbled: u64,
    pub slowest: Duration,
    /// Of each process: how many answers came of it, and the highest count that it told.
    counts: HashMap<String, (u64, u64)>,
    pub samples: Vec<String>,
}

impl Sum {
    /// Requests that were executed without their answer reaching who asked: what was executed twice is one of them.
    pub fn unanswered(&self) -> u64 {
        self.counts.values().map(|(answers, highest)| highest.saturating_sub(*answers)).sum()
    }

    /// How many processes have answered.
    pub fn processes(&self) -> usize {
        self.counts.len()
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.failed += other.failed;
        self.garbled += other.garbled;
        self.slowest = self.slowest.max(other.slowest);
        for (process, (answers, highest)) in &other.counts {
            let mine = self.counts.entry(process.clone()).or_default();
            *mine = (mine.0 + answers, mine.1.max(*highest));
        }
        self.samples.extend(other.samples.iter().take(SAMPLES.saturating_sub(self.samples.len())).cloned());
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed, {} garbled", self.sent, self.failed, self.garbled)
    }
}

/// Clients that ask until they are stopped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sums: Vec<Arc<Mutex<[Sum; 4]>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub fn start(sandbox: &Sandbox) -> Self {
        let netns = Arc::new(File::open(sandbox.netns()).expect("the namespace of a running process"));
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (sums, threads) = (0..CLIENTS)
            .map(|index| {
                let sums = Arc::new(Mutex::new(<[Sum; 4]>::default()));
                let (netns, stop, sent, into) = (Arc::clone(&netns), Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&sums));
                (sums, thread::spawn(move || client(index, &netns, &stop, &sent, &into)))
            })
            .unzip();
        Self { stop, sent, sums, threads }
    }

    /// How many requests were begun.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// All together until now.
    pub fn so_far(&self) -> Sum {
        let mut all = Sum::default();
        self.by_app().iter().for_each(|sum| all.add(sum));
        all
    }

    /// Lets each end its request; what came of them by app.
    pub fn stop(mut self) -> [Sum; 4] {
        self.join();
        self.by_app()
    }

    fn by_app(&self) -> [Sum; 4] {
        let mut all = <[Sum; 4]>::default();
        for sums in &self.sums {
            let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter_mut().zip(sums.iter()).for_each(|(sum, more)| sum.add(more));
        }
        all
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a client panics never"));
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.join();
    }
}

fn client(index: u64, netns: &File, stop: &AtomicBool, sent: &AtomicU64, sums: &Mutex<[Sum; 4]>) {
    load::enter(netns).expect("root may enter it");
    let addresses = APPS.map(|(_, port, _)| Address::parse(&format!("127.0.0.1:{port}"), std::path::Path::new("/")));
    // No two clients are at the same app with the same delay all the time.
    let mut turn = index * 7;
    while !stop.load(Ordering::Relaxed) {
        let id = (index << 40) | turn;
        let app = usize::try_from(turn % 4).unwrap_or(0);
        let delay = DELAYS_MS[usize::try_from((turn / 4 + index) % 8).unwrap_or(0)];
        let body = body(id);
        let begun = Instant::now();
        let result = ask(&addresses[app], delay, id, &body, begun + LIMIT);
        sent.fetch_add(1, Ordering::Relaxed);
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = &mut sums[app];
        sum.sent += 1;
        sum.slowest = sum.slowest.max(begun.elapsed());
        match result {
            Ok((process, had)) => {
                sum.ok += 1;
                let count = sum.counts.entry(process).or_default();
                *count = (count.0 + 1, count.1.max(had));
            }
            Err(failure) => {
                if let Failure::Body(_) = failure {
                    sum.garbled += 1;
                } else {
                    sum.failed += 1;
                }
                if sum.samples.len() < SAMPLES {
                    sum.samples.push(format!("request {id:x} after {delay} ms: {failure}"));
                }
            }
        }
        drop(sums);
        turn += 1;
    }
}

/// Up to a kilobyte that no other request has.
fn body(id: u64) -> Vec<u8> {
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = id % 1000;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// Who answered, and how many requests it has had.
fn ask(address: &Address, delay: u64, id: u64, body: &[u8], end: Instant) -> Result<(String, u64), Failure> {
    let response = Connection::open(address, LIMIT)?.post(&format!("/echo/{delay}/{id:x}"), body, end)?;
    if response.status != 200 {
        return Err(Failure::Status(response.status));
    }
    let hash: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    let words: Vec<&str> = response.body.split_whitespace().collect();
    match words[..] {
        [echoed, hashed, process, had] if echoed == format!("{id:x}") && hashed == hash && had.parse::<u64>().is_ok() => {
            Ok((process.to_owned(), had.parse().unwrap_or(0)))
        }
        _ => Err(Failure::Body(response.body)),
    }
}
