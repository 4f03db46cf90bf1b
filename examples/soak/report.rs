//! What the soak has to tell.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::clients::Sum;
use crate::resources::Resources;

pub struct Told {
    names: [&'static str; 4],
    pub replaced: u64,
    pub failed_reloads: Vec<String>,
    pub faults: Vec<String>,
    pub sums: [Sum; 4],
    pub took: Duration,
    pub resources: Option<(Resources, Resources)>,
}

impl Told {
    pub fn new(names: [&'static str; 4]) -> Self {
        Self {
            names,
            replaced: 0,
            failed_reloads: Vec::new(),
            faults: Vec::new(),
            sums: Default::default(),
            took: Duration::ZERO,
            resources: None,
        }
    }

    /// All that is not as it must be.
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.failed_reloads.iter().map(|why| format!("a reload failed: {why}")).collect();
        for (name, sum) in self.names.iter().zip(&self.sums) {
            if sum.failed + sum.garbled + sum.unanswered() > 0 {
                wrong.push(format!("{name}: {sum}, {} executed without an answer: {:#?}", sum.unanswered(), sum.samples));
            }
        }
        if let Some((before, after)) = &self.resources {
            wrong.extend(after.wrong(before));
        }
        wrong
    }

    /// The tables, in Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let requests: u64 = self.sums.iter().map(|sum| sum.sent).sum();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} workers replaced under {requests} requests in {:.0} s, {} faults.\n",
            self.replaced,
            self.took.as_secs_f64(),
            self.faults.len()
        );
        text += "| server | requests | answered | failed | garbled | executed without an answer | processes seen | slowest |\n|---|---|---|---|---|---|---|---|\n";
        for (name, sum) in self.names.iter().zip(&self.sums) {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {:.0} ms |",
                sum.sent,
                sum.ok,
                sum.failed,
                sum.garbled,
                sum.unanswered(),
                sum.processes(),
                sum.slowest.as_secs_f64() * 1000.0
            );
        }
        let mut counts = BTreeMap::<&str, u32>::new();
        self.faults.iter().for_each(|fault| *counts.entry(fault).or_default() += 1);
        text += "\n| fault | times |\n|---|---|\n";
        for (fault, times) in counts {
            let _ = writeln!(text, "| {fault} | {times} |");
        }
        if let Some((before, after)) = &self.resources {
            text += "\n| | at the start | at the end |\n|---|---|---|\n";
            for (what, then, now, _) in after.rows(before) {
                let _ = writeln!(text, "| {what} | {then} | {now} |");
            }
        }
        text
    }
}
