//! A drain from its first look to its last: quiet the worker, give it its grace, wait for its connections.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::ends::Ends;
use super::herald;
use super::kernel;
use super::look::{LONGEST as LONGEST_PART, Look, Open, Target, has_ended, still};
use super::plan::{self, Grace, Verdict};
use super::record::{End, FORMAT, How, Record};
use crate::journal::monotonic_us_now;
use crate::worker::sys::process::poll;

/// The shortest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(10);
/// And the longest: what no event tells of is seen after that.
const LONGEST: Duration = Duration::from_secs(1);
/// The pause where the kernel tells of ends.
const TOLD: Duration = Duration::from_millis(100);
/// Looks take at most this part of a processor's time.
const SHARE: u32 = 20;
/// How long it is tried to see how a worker accepts: a server with one thread is not seen to while it answers.
const SEE: Duration = Duration::from_millis(100);
/// Without a connection for so long a worker counts as quiet, though its threads run: one that computes never sleeps.
const EMPTY: Duration = Duration::from_secs(1);
/// Processes that come later are looked for so often.
const AGAIN: Duration = Duration::from_secs(1);
/// What systemd is asked for, again and again, so that a helper that hangs is not waited for any longer. Between two askings
/// lie `STEP_AGAIN` and one part of a look ([`LONGEST_PART`]), half of it together.
const STEP: Duration = Duration::from_secs(10);
const STEP_AGAIN: Duration = Duration::from_secs(3);
/// How often the record is renewed.
const TELL: Duration = Duration::from_secs(1);
/// How long the other half may take to write the last record.
const LAST: Duration = Duration::from_secs(1);

/// Asks systemd for more time to stop, and says what for.
pub(super) fn ask_for_time(status: &str) {
    let step = u32::try_from(STEP.as_micros()).unwrap_or(u32::MAX);
    // Where nobody hears it the step ends by its limit.
    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(step), NotifyState::Status(status)]);
}

/// One drain.
pub(super) struct Drain<'a> {
    target: &'a Target<'a>,
    main: &'a OwnedFd,
    herald: UnixStream,
    /// How it accepted when it got ready.
    expected: Option<How>,
    begin: Instant,
    deadline: Instant,
    kill: Duration,
    hurried: bool,
    asked: Instant,
    told: Instant,
    record: Record,
    look: Look,
    ends: Ends,
    /// The last look found a socket in a set: the kernel had refused to take it out, or the app had put it back.
    left: bool,
}

impl<'a> Drain<'a> {
    pub(super) fn new(
        target: &'a Target<'a>,
        main: &'a OwnedFd,
        herald: UnixStream,
        expected: Option<How>,
        begin: Instant,
        drain: Duration,
        kill: Duration,
    ) -> Self {
        let record = Record { since_us: Some(monotonic_us_now()), ..Record::serving(expected.unwrap_or(How::Unseen)) };
        Self {
            target,
            main,
            herald,
            expected,
            begin,
            deadline: begin + drain,
            kill,
            hurried: false,
            asked: begin,
            told: begin,
            record: Record { format: FORMAT, ..record },
            look: Look::default(),
            ends: Ends::of(target.sockets),
            left: false,
        }
    }

    /// Drains; what became of it.
    pub(super) fn run(&mut self) -> Record {
        let end = match self.quiet() {
            Ok(took) => {
                self.record.how = How::Epoll;
                self.record.quiet_us = u64::try_from(took.as_micros()).ok();
                self.wait()
            }
            Err((how, end)) => {
                self.record.how = how;
                end
            }
        };
        self.record.end = Some(end);
        self.record.partly |= self.left;
        self.record.took_ms = u64::try_from(self.begin.elapsed().as_millis()).ok();
        self.tell();
        self.record.clone()
    }

    /// Ends the other half, once it has written.
    pub(super) fn finish(mut self) {
        let _ = self.herald.shutdown(Shutdown::Write);
        let _ = self.herald.set_read_timeout(Some(LAST));
        // Its end closes its side.
        let _ = self.herald.read_to_end(&mut Vec::new());
    }

    /// Takes the sockets out of every set, and sees that it accepts in this way alone; how long it was until the last of them was out.
    ///
    /// First out of those that threads wait for, which is quick: where it turns out to accept otherwise as well, SIGTERM follows at
    /// once, and new connections are the better off elsewhere.
    fn quiet(&mut self) -> Result<Duration, (How, End)> {
        let end = self.begin + SEE;
        let first = self.part();
        let first = self.look.first(self.target, first).then(|| self.begin.elapsed());
        let mut doubted = None;
        loop {
            self.part();
            self.target.look(&mut self.look, false);
            let end_of_part = self.part();
            let seen = self.look.seen(self.target, true, end_of_part);
            self.record.partly |= self.look.partly;
            if has_ended(self.main) {
                return Err((self.record.how, End::Ended));
            }
            let verdict = if self.look.refused { Verdict::ByItself(How::Refused) } else { plan::judge(&seen, self.expected) };
            match verdict {
                Verdict::Quiet(changes) => {
                    let end = self.part();
                    self.look.change_all(&changes, end);
                    return Ok(first.filter(|_| changes.is_empty()).unwrap_or_else(|| self.begin.elapsed()));
                }
                Verdict::ByItself(how @ (How::Unseen | How::Refused)) if Instant::now() >= end => return Err((how, End::AtOnce)),
                Verdict::ByItself(How::Unseen | How::Refused) => sleep(SHORTEST),
                // What is in a set as well may have been seen on its way through a call.
                Verdict::ByItself(how) if !seen.entries.is_empty() && doubted.replace(how) != Some(how) => sleep(SHORTEST),
                Verdict::ByItself(how) => return Err((how, End::AtOnce)),
            }
        }
    }

    /// Waits for the grace and for the connections.
    fn wait(&mut self) -> End {
        self.part();
        self.look.carry_on();
        let (mut grace, mut over) = (Grace::default(), false);
        let mut sets = self.sets();
        let (mut empty, mut looked): (Option<Instant>, Instant) = (None, Instant::now());
        let mut open = Open::new();
        let mut whole = false;
        loop {
            let (began, spent) = (Instant::now(), kernel::spent());
            if whole || !over || looked.elapsed() >= AGAIN {
                whole = true;
                looked = began;
                self.part();
                self.target.look(&mut self.look, true);
                open.clone_from(&self.look.open);
            } else {
                still(&mut open, self.part());
            }
            let end = self.part();
            let seen = self.look.seen(self.target, false, end);
            let again = plan::takes(&seen);
            self.left = !again.is_empty();
            if self.left {
                let end = self.part();
                self.look.change_all(&again, end);
                sets.extend(again.iter().map(|(entry, _)| entry.set));
                grace.again();
                over = false;
            }
            let end = self.part();
            over = over || grace.look(&self.look.threads(end), &sets);
            self.record.partly |= self.look.partly;
            // Processes may share one.
            let count = open.values().collect::<BTreeSet<_>>().len();
            self.count(count);
            let quiet_for = if count == 0 { empty.get_or_insert(began).elapsed() } else { Duration::ZERO };
            if count > 0 {
                empty = None;
            } else if over || quiet_for >= EMPTY {
                if std::mem::replace(&mut whole, true) {
                    return End::Empty;
                }
                // Once more, of everything, before it is believed.
                continue;
            }
            whole = false;
            let now = Instant::now();
            if now >= self.deadline {
                return if self.hurried { End::Hurried } else { End::Cut };
            }
            let told = if over && self.ends.told().is_some() { TOLD } else { SHORTEST };
            let pause = told.max(kernel::spent().saturating_sub(spent) * SHARE).min(LONGEST).min(self.deadline - now);
            if let Some(end) = self.pause(pause) {
                return end;
            }
        }
    }

    /// The sets that the sockets were taken out of.
    fn sets(&mut self) -> BTreeSet<usize> {
        let end = self.part();
        self.look.seen(self.target, false, end).entries.iter().map(|entry| entry.set).collect()
    }

    /// The end of a part of a look that begins now. systemd is asked for the time, where the last asking is some seconds old.
    fn part(&mut self) -> Instant {
        if self.asked.elapsed() >= STEP_AGAIN {
            self.asked = Instant::now();
            ask_for_time(&format!("drains, {} open", self.record.open.unwrap_or(0)));
        }
        Instant::now() + LONGEST_PART
    }

    /// Waits for so long, or until a connection has ended, but not beyond the end of the main process.
    fn pause(&mut self, limit: Duration) -> Option<End> {
        let began = Instant::now();
        loop {
            self.part();
            let left = limit.saturating_sub(began.elapsed());
            let ends = self.ends.told().unwrap_or(self.main.as_fd());
            let Ok([main, herald, told]) = poll([self.main.as_fd(), self.herald.as_fd(), ends], Some(left.min(STEP_AGAIN))) else {
                sleep(left.min(SHORTEST));
                return None;
            };
            if main != 0 {
                return Some(End::Ended);
            }
            if herald != 0 && !self.hurried {
                // A byte, or its end: in doubt the stop ends.
                self.hurried = true;
                self.deadline = self.deadline.min(Instant::now() + self.kill.saturating_sub(herald::ASK.min(self.kill / 4)));
                return None;
            }
            if began.elapsed() >= limit {
                return None;
            }
            if told != 0 || herald != 0 {
                // Not for each of a thousand, which others' may be.
                sleep(SHORTEST.min(limit.saturating_sub(began.elapsed())));
                if self.ends.any() {
                    return None;
                }
            }
        }
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).ok();
        if self.record.open != count || self.record.since_us.is_none() {
            let first = self.record.open.is_none();
            self.record.open = count;
            if first || self.told.elapsed() >= TELL {
                self.tell();
            }
        }
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        let mut line = serde_json::to_vec(&self.record).unwrap_or_default();
        line.push(b'\n');
        // One that has ended writes nothing more, and the drain goes on.
        let _ = self.herald.write_all(&line);
    }
}
