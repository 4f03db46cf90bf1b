//! One roll of an app at a time; what is asked for meanwhile becomes one more roll, not a queue.
//!
//! Pure. It must not know what a wish is.

/// Number of the roll that answers a request: whoever asked waits for this one's end, and takes it as his own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The rolls of one app: at most one runs and at most one waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queue<W> {
    issued: u64,
    running: Option<Ticket>,
    next: Option<(Ticket, W)>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { issued: 0, running: None, next: None }
    }
}

impl<W> Queue<W> {
    /// Numbers go on behind `last`.
    pub fn after(last: u64) -> Self {
        Self { issued: last, ..Self::default() }
    }

    /// Somebody asks for a roll. Where none runs, the wish comes back and must be started now. Else it waits: the roll
    /// that runs began before it was asked and cannot answer it. One that waits already becomes `both`, and whoever
    /// asked for either gets its end.
    pub fn ask(&mut self, wish: W, both: impl FnOnce(W, W) -> W) -> (Ticket, Option<W>) {
        if self.running.is_none() {
            let ticket = self.issue();
            self.running = Some(ticket);
            return (ticket, Some(wish));
        }
        let next = match self.next.take() {
            Some((ticket, earlier)) => (ticket, both(earlier, wish)),
            None => (self.issue(), wish),
        };
        let ticket = next.0;
        self.next = Some(next);
        (ticket, None)
    }

    /// A roll goes on that an earlier master began; nobody asked for it here.
    pub fn adopt(&mut self) -> Ticket {
        let ticket = self.issue();
        self.running = Some(ticket);
        ticket
    }

    /// Numbers up to this one are given to nobody any more.
    pub fn skip(&mut self, to: u64) {
        self.issued = self.issued.max(to);
    }

    /// The roll that ran has ended. What waited must be started now.
    pub fn ended(&mut self) -> Option<(Ticket, W)> {
        let next = self.next.take();
        self.running = next.as_ref().map(|(ticket, _)| *ticket);
        next
    }

    /// The app was stopped: what waits is not wanted any more. Returns the ticket that will never be served.
    pub fn forget(&mut self) -> Option<Ticket> {
        self.next.take().map(|(ticket, _)| ticket)
    }

    /// What waits, and under which number.
    pub fn waiting(&self) -> Option<&(Ticket, W)> {
        self.next.as_ref()
    }

    /// The roll that runs.
    pub fn running(&self) -> Option<Ticket> {
        self.running
    }

    fn issue(&mut self) -> Ticket {
        self.issued += 1;
        Ticket(self.issued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reloads_during_a_roll_become_one_more() {
        let mut queue = Queue::default();
        let both = |earlier: String, later: String| earlier + &later;
        assert_eq!(queue.ask("a".into(), both), (Ticket(1), Some("a".into())));
        assert_eq!(queue.ask("b".into(), both), (Ticket(2), None));
        assert_eq!(queue.ask("c".into(), both), (Ticket(2), None));
        assert_eq!(queue.running(), Some(Ticket(1)));
        assert_eq!(queue.ended(), Some((Ticket(2), "bc".into())));
        assert_eq!(queue.running(), Some(Ticket(2)));
        assert_eq!(queue.ask("d".into(), both), (Ticket(3), None));
        assert_eq!(queue.forget(), Some(Ticket(3)));
        assert_eq!(queue.ended(), None);
        assert_eq!(queue.running(), None);
        // A ticket that was never served is given to nobody else.
        assert_eq!(queue.ask("e".into(), both), (Ticket(4), Some("e".into())));
    }

    #[test]
    fn a_reload_during_an_adopted_roll_waits_for_it() {
        let mut queue = Queue::default();
        assert_eq!(queue.adopt(), Ticket(1));
        queue.skip(2);
        queue.skip(1);
        assert_eq!(queue.ask("a".to_owned(), |earlier, _| earlier), (Ticket(3), None));
        assert_eq!(queue.ended(), Some((Ticket(3), "a".into())));
    }
}
