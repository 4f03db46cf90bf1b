//! Jobs that somebody waits for, and those that ended before their waiter was there.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::systemd::JobEnd;

/// Ended jobs kept for a waiter that comes late: more than one burst of a whole cluster.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Several may wait for one job: systemd merges a second request of the same kind into it.
    waiting: HashMap<String, Vec<oneshot::Sender<JobEnd>>>,
    ended: VecDeque<(String, JobEnd)>,
}

impl Jobs {
    pub(super) fn end(&mut self, path: String, end: JobEnd) {
        if let Some(waiters) = self.waiting.remove(&path) {
            for waiter in waiters {
                // One that has given up meanwhile does not want to know.
                let _ = waiter.send(end);
            }
            return;
        }
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((path, end));
    }

    pub(super) fn wait(&mut self, path: &str) -> oneshot::Receiver<JobEnd> {
        let (sender, receiver) = oneshot::channel();
        match self.ended.iter().find(|(ended, _)| ended == path) {
            // The receiver is in our hands, so it is there.
            Some((_, end)) => {
                let _ = sender.send(*end);
            }
            None => self.waiting.entry(path.to_owned()).or_default().push(sender),
        }
        receiver
    }

    /// Nobody waits for this one any more who has not given up.
    pub(super) fn forget(&mut self, path: &str) {
        if let Some(waiters) = self.waiting.get_mut(path) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                self.waiting.remove(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_wait_for_one_job() {
        let mut jobs = Jobs::default();
        let (mut first, mut second, third) = (jobs.wait("/job/1"), jobs.wait("/job/1"), jobs.wait("/job/1"));
        drop(third);
        jobs.forget("/job/1");
        jobs.end("/job/1".into(), JobEnd::Done);
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(JobEnd::Done), Ok(JobEnd::Done)));
        drop(jobs.wait("/job/2"));
        jobs.forget("/job/2");
        assert!(jobs.waiting.is_empty());
    }

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
