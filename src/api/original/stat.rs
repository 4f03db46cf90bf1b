//! A worker as the first version told it, byte for byte: which keys there are, in which order, and how figures are rounded.
//!
//! Pure: from what `/v1` shows, nothing else.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::api::types::{App, Worker};
use crate::names::{AppName, Slot, Uid};

/// Errors and warnings were counted up to here.
const MOST: u64 = 1000;

/// One worker. `id`, `pid`, `uptime` and `memory` are absent while it is offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stat {
    /// `api:01`.
    pub uid: Uid,
    /// A number that every process of the worker has anew: its PID.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// Its app.
    #[serde(rename = "type")]
    app: AppName,
    /// PID of its main process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// Automatic restarts since it was started, restarted or reset.
    restarted: u32,
    #[serde(serialize_with = "count")]
    errors: u64,
    #[serde(serialize_with = "count")]
    warnings: u64,
    status: Status,
    /// `D:HH:MM:SS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<String>,
    /// `45.2M`.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Online,
    Offline,
}

impl Stat {
    /// Of the rows of one slot, the later a worker was started the later it comes: who is ready last serves it.
    fn new(rows: &[&Worker]) -> Option<Self> {
        // A worker has an uptime while it is ready, and then alone.
        let online = rows.iter().rev().find_map(|row| row.uptime_ms.map(|up| (*row, up)));
        let row = online.map_or_else(|| rows.last().copied(), |(row, _)| Some(row))?;
        let pid = online.and(row.pid);
        Some(Self {
            uid: row.uid.clone(),
            id: pid,
            app: row.app.clone(),
            pid,
            restarted: row.restarts,
            // The first version knew no figure that is not known.
            errors: row.errors.unwrap_or_default(),
            warnings: row.warnings.unwrap_or_default(),
            status: if online.is_some() { Status::Online } else { Status::Offline },
            uptime: online.map(|(_, up)| uptime(up)),
            memory: online.map(|(row, _)| memory(row.memory_bytes.unwrap_or_default())),
        })
    }

    /// Whether it is online.
    pub fn online(&self) -> bool {
        self.status == Status::Online
    }

    /// Its place.
    pub fn slot(&self) -> Slot {
        self.uid.slot
    }
}

/// The workers of an app, by slot.
pub fn of(app: &App) -> Vec<Stat> {
    let mut slots: BTreeMap<u16, Vec<&Worker>> = BTreeMap::new();
    for row in &app.workers {
        slots.entry(row.slot).or_default().push(row);
    }
    slots.values().filter_map(|rows| Stat::new(rows)).collect()
}

fn count<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *count < MOST { serializer.serialize_u64(*count) } else { serializer.serialize_str(&format!("{MOST}+")) }
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    format!("{}:{:02}:{:02}:{:02}", hours / 24, hours % 24, minutes % 60, seconds % 60)
}

/// Divided by 1000 while over 900, then rounded to two decimals: `0b`, `0.9K`, `45.2M`, `1024G`.
fn memory(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "the first version's numbers were floating ones as well")]
    let mut figure = bytes as f64;
    let mut unit = "b";
    for larger in ["K", "M", "G"] {
        if figure <= 900.0 {
            break;
        }
        (figure, unit) = (figure / 1000.0, larger);
    }
    format!("{}{unit}", (figure * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::WorkerState;
    use crate::names::Generation;

    fn row(slot: u16, generation: u64, pid: Option<u32>, uptime_ms: Option<u64>) -> Worker {
        let app: AppName = "api".parse().unwrap();
        Worker {
            uid: Uid { app: app.clone(), slot: Slot::new(slot).unwrap() },
            app,
            slot,
            generation: Some(Generation(generation)),
            pin: None,
            release: None,
            unit: None,
            state: WorkerState::Online,
            pid,
            uptime_ms,
            restarts: 3,
            crash_loop: None,
            errors: None,
            warnings: None,
            memory_bytes: Some(45_196_288),
            cpu_ms: None,
        }
    }

    fn json(rows: &[&Worker]) -> String {
        serde_json::to_string(&Stat::new(rows)).unwrap()
    }

    #[test]
    fn keys_their_order_and_which_are_absent() {
        let online = row(1, 7, Some(4711), Some(93_784_000));
        assert_eq!(
            json(&[&online]),
            r#"{"uid":"api:01","id":4711,"type":"api","pid":4711,"restarted":3,"errors":0,"warnings":0,"status":"online","uptime":"1:02:03:04","memory":"45.2M"}"#
        );
        let looping = row(112, 7, None, None);
        assert_eq!(json(&[&looping]), r#"{"uid":"api:112","type":"api","restarted":3,"errors":0,"warnings":0,"status":"offline"}"#);
        let many = Worker { errors: Some(1000), warnings: Some(999), ..online };
        assert!(json(&[&many]).contains(r#""errors":"1000+","warnings":999,"#));
        assert_eq!(json(&[]), "null");
    }

    #[test]
    fn a_slot_is_its_latest_worker_that_is_ready() {
        let (old, new) = (row(1, 7, Some(10), Some(5)), row(1, 8, Some(20), Some(5)));
        let starting = row(1, 8, Some(20), None);
        let pid = |rows: &[&Worker]| Stat::new(rows).unwrap().pid;
        assert_eq!(pid(&[&old, &new]), Some(20));
        assert_eq!(pid(&[&old, &starting]), Some(10));
        // A process that is not ready was not told.
        assert_eq!(pid(&[&starting]), None);
    }

    /// What `formatMemory` and `formatUptime` of 1.3.4 say.
    #[test]
    fn figures_are_rounded_as_they_were() {
        for (bytes, text) in [
            (0, "0b"),
            (900, "900b"),
            (901, "0.9K"),
            (1_005, "1K"),
            (53_125_000, "53.13M"),
            (45_196_288, "45.2M"),
            (900_000_000, "900M"),
            (900_000_001, "0.9G"),
            (1_024_000_000_000, "1024G"),
        ] {
            assert_eq!(memory(bytes), text, "{bytes}");
        }
        for (ms, text) in
            [(0, "0:00:00:00"), (999, "0:00:00:00"), (59_999, "0:00:00:59"), (86_399_999, "0:23:59:59"), (8_640_000_000, "100:00:00:00")]
        {
            assert_eq!(uptime(ms), text, "{ms}");
        }
    }
}
