//! What the helper reads of a worker that means ill, and of the kernel about it.

use std::collections::BTreeSet;

use super::diag;
use super::plan::{self, Entry, Grace, Seen, Thread, Verdict};
use super::record::{How, Record};
use crate::fuzz::{comes_back, harmless};
use crate::worker::procfs;
use crate::worker::sys::epoll::Control;

/// What `sock_diag(7)` tells, epoll sets, threads, records.
pub fn drain(data: &[u8]) {
    assert!(diag::ended(data).count() <= data.len() / 16);

    let text = &*String::from_utf8_lossy(data);
    procfs::state(text);
    procfs::identity(text);

    // Whatever is in a set, behind the changes no entry of it reports a connection.
    let entries: Vec<Entry> = procfs::watched(text).map(|watched| Entry { set: 0, watched }).collect();
    let seen = Seen { entries, ..Seen::default() };
    if let Verdict::Quiet(changes) = plan::judge(&seen, None) {
        assert!(changes.len() <= seen.entries.len());
        let mut behind = Seen::default();
        for (entry, control) in changes {
            if let Control::Change(events, data) = control {
                assert_eq!(data, entry.watched.data);
                behind.entries.push(Entry { watched: procfs::Watched { events, ..entry.watched }, ..entry });
            }
        }
        assert!(plan::takes(&behind).is_empty());
    }

    // Threads that run, or of which nothing is known, are never taken for asleep.
    let mut grace = Grace::default();
    let sets = BTreeSet::from([0]);
    for line in text.lines().take(64) {
        let slept = procfs::runs(line).filter(|_| procfs::is_asleep(line));
        assert!(slept.is_none() || line.split_ascii_whitespace().count() >= 3);
        let running = Thread { id: (0, 0), slept: None, waits_for: None };
        assert!(!grace.look(&[running, Thread { id: (1, 1), slept, waits_for: Some(0) }], &sets));
    }

    if let Ok(record) = serde_json::from_slice::<Record>(data) {
        let record = comes_back(&record);
        harmless(&record.to_string());
        assert!(serde_json::to_vec(&record).is_ok_and(|text| text.len() as u64 <= Record::MAX_BYTES));
        assert_eq!(record.how.is_drained(), record.how == How::Epoll);
    }
}
