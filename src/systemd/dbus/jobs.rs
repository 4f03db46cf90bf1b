//! Jobs that somebody waits for, and those that ended before their waiter was there.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::systemd::JobEnd;

/// Ended jobs kept for a waiter that comes late: more than one burst of a whole cluster.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) waiting: HashMap<String, oneshot::Sender<JobEnd>>,
    ended: VecDeque<(String, JobEnd)>,
}

impl Jobs {
    pub(super) fn end(&mut self, path: String, end: JobEnd) {
        if let Some(waiter) = self.waiting.remove(&path) {
            // The waiter may have given up meanwhile: then nobody wants to know.
            let _ = waiter.send(end);
            return;
        }
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((path, end));
    }

    pub(super) fn wait(&mut self, path: &str) -> oneshot::Receiver<JobEnd> {
        let (sender, receiver) = oneshot::channel();
        match self.ended.iter().position(|(ended, _)| ended == path).and_then(|at| self.ended.remove(at)) {
            // The receiver is in our hands, so it is there.
            Some((_, end)) => drop(sender.send(end)),
            None => drop(self.waiting.insert(path.to_owned(), sender)),
        }
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_ended_before_its_waiter_came_is_remembered() {
        let mut jobs = Jobs::default();
        jobs.end("/job/1".into(), JobEnd::Failed);
        assert_eq!(jobs.wait("/job/1").try_recv(), Ok(JobEnd::Failed));
        let mut waiter = jobs.wait("/job/2");
        assert!(waiter.try_recv().is_err());
        jobs.end("/job/2".into(), JobEnd::Done);
        assert_eq!(waiter.try_recv(), Ok(JobEnd::Done));
        for job in 0..2 * REMEMBERED {
            jobs.end(job.to_string(), JobEnd::Done);
        }
        assert_eq!(jobs.ended.len(), REMEMBERED);
    }
}
