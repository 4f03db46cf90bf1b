//! The last events, numbered, for readers who come late or fall behind.
//!
//! Pure. A reader asks for what is behind the last number it knows; what it can no longer get is told as a gap.

use std::collections::VecDeque;

use crate::api::events::{Event, Happening, Kind};

/// How many events are kept: a roll of a hundred workers is some six hundred.
pub const KEPT: usize = 1000;

/// The ring.
#[derive(Debug)]
pub struct Ring {
    /// The first number of this master's.
    born: u64,
    next: u64,
    events: VecDeque<Event>,
}

impl Ring {
    /// One whose numbers begin at this, milliseconds of Unix time: above all that a master before gave, since none has
    /// a thousand events a second for long.
    pub fn new(now_ms: u64) -> Self {
        Self { born: now_ms, next: now_ms, events: VecDeque::new() }
    }

    /// Adds one; its number.
    pub fn push(&mut self, now_ms: u64, what: Happening) -> u64 {
        while self.events.len() >= KEPT {
            self.events.pop_front();
        }
        let seq = self.next;
        self.next += 1;
        self.events.push_back(Event { seq, time_ms: now_ms, what });
        seq
    }

    /// The number of the newest event; one below the first while there is none.
    pub fn newest(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// At most `count` events behind this number, oldest first, with a gap before them where some are lost. 0 asks for
    /// all that there are.
    pub fn behind(&self, after: u64, now_ms: u64, count: usize) -> Vec<Event> {
        let first = self.events.front().map_or(self.next, |event| event.seq);
        let gap = match () {
            () if after == 0 => None,
            () if after.saturating_add(1) < self.born || after >= self.next => Some(None),
            () if after + 1 < first => Some(Some(first - after - 1)),
            () => None,
        };
        // A number that was never given is of another master, whose clock went ahead.
        let from = if after >= self.next { 0 } else { after };
        let events = self.events.iter().filter(|event| event.seq > from).take(count).cloned();
        gap.map(|missed| self.gap(first, now_ms, missed)).into_iter().chain(events).collect()
    }

    fn gap(&self, first: u64, time_ms: u64, missed: Option<u64>) -> Event {
        let text = missed.map_or_else(
            || "the master was restarted meanwhile; what happened until it was back is not known".to_owned(),
            |missed| format!("{missed} events were missed: this reader is too slow"),
        );
        Event { seq: first.saturating_sub(1), time_ms, what: Happening { missed, ..Happening::new(Kind::Gap, text) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: u64) -> Ring {
        let mut ring = Ring::new(5000);
        for at in 0..count {
            assert_eq!(ring.push(1, Happening::new(Kind::Start, "")), 5000 + at);
        }
        ring
    }

    /// The gap, if there is one, and the numbers of the events.
    fn read(ring: &Ring, after: u64) -> (Option<Option<u64>>, Vec<u64>) {
        let mut events = ring.behind(after, 1, 10_000);
        let gap = (events.first().is_some_and(|event| event.what.kind == Kind::Gap)).then(|| events.remove(0));
        if let (Some(gap), Some(first)) = (&gap, events.first()) {
            assert_eq!(gap.seq + 1, first.seq, "who resumes behind the gap misses nothing");
        }
        assert!(events.iter().all(|event| event.what.kind == Kind::Start));
        (gap.map(|gap| gap.what.missed), events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn who_knows_the_last_number_gets_what_is_behind_it() {
        let ring = ring(3);
        assert_eq!(ring.newest(), 5002);
        assert_eq!(read(&ring, 5002), (None, vec![]));
        assert_eq!(read(&ring, 5000), (None, vec![5001, 5002]));
        assert_eq!(read(&ring, 4999), (None, vec![5000, 5001, 5002]));
        assert_eq!(read(&ring, 0), (None, vec![5000, 5001, 5002]));
        assert_eq!(ring.behind(0, 1, 2).len(), 2);
    }

    #[test]
    fn what_is_lost_is_told() {
        // Another master's number, from before this one was born.
        assert_eq!(read(&ring(2), 4000), (Some(None), vec![5000, 5001]));
        assert_eq!(read(&ring(0), 4000), (Some(None), vec![]));
        // One whose clock was ahead.
        assert_eq!(read(&ring(2), 9000), (Some(None), vec![5000, 5001]));
        // A reader too slow for the ring.
        let full = ring(KEPT as u64 + 10);
        let (gap, seqs) = read(&full, 5003);
        assert_eq!((gap, seqs.len(), seqs[0]), (Some(Some(6)), KEPT, 5010));
        assert_eq!(read(&full, 5009).0, None);
        let (gap, seqs) = read(&full, 0);
        assert_eq!((gap, seqs.len()), (None, KEPT), "who asks for what there is has missed nothing");
    }
}
