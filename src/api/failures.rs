//! Wrong tokens, by the address that sent them: each is answered later than the one before, and they are said, not line by line.
//!
//! Pure. A right token is let in at once whatever came before: who guesses at an address must not lock out who knows one there.
//! Memory is constant; addresses beyond that share one count.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Addresses that are told apart.
const ADDRESSES: usize = 64;
/// An address is forgotten so long after its last wrong token.
const MEMORY: Duration = Duration::from_secs(300);
/// The answer to the second in a row; twice as long each time.
const FIRST: Duration = Duration::from_millis(100);
/// No answer is later.
const LAST: Duration = Duration::from_secs(3);
/// From one line about an address to the next.
const SILENCE: Duration = Duration::from_secs(10);

/// One address, or all that there is no room for.
#[derive(Debug, Default)]
struct Count {
    wrong: u32,
    unsaid: u32,
    last: Option<Instant>,
    said: Option<Instant>,
}

/// What comes of a wrong token.
#[derive(Debug, PartialEq, Eq)]
pub struct Penalty {
    /// The refusal waits so long.
    pub delay: Duration,
    /// So many are to be said now; none where one was said a moment ago.
    pub say: Option<u32>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Failures {
    addresses: Vec<(IpAddr, Count)>,
    others: Count,
}

/// Who has one address of version 6 has all of its network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

impl Failures {
    /// A wrong token came from there.
    pub fn wrong(&mut self, from: IpAddr, now: Instant) -> Penalty {
        let from = network(from);
        let old = |count: &Count| count.last.is_none_or(|last| now.duration_since(last) > MEMORY);
        self.addresses.retain(|(_, count)| !old(count));
        if old(&self.others) {
            self.others = Count::default();
        }
        let at = self.addresses.iter().position(|(address, _)| *address == from).or_else(|| {
            (self.addresses.len() < ADDRESSES).then(|| {
                self.addresses.push((from, Count::default()));
                self.addresses.len() - 1
            })
        });
        let count = at.and_then(|at| self.addresses.get_mut(at)).map_or(&mut self.others, |(_, count)| count);
        let delay = count.wrong.checked_sub(1).map_or(Duration::ZERO, |doublings| FIRST.saturating_mul(1 << doublings.min(10)).min(LAST));
        count.wrong = count.wrong.saturating_add(1);
        count.unsaid = count.unsaid.saturating_add(1);
        count.last = Some(now);
        let say = count.said.is_none_or(|said| now.duration_since(said) >= SILENCE).then(|| {
            count.said = Some(now);
            std::mem::take(&mut count.unsaid)
        });
        Penalty { delay, say }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_is_answered_later_and_they_are_said_together() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        let mut told = |from: &str, at: u64| {
            let Penalty { delay, say } = failures.wrong(address(from), begin + Duration::from_secs(at));
            (delay.as_millis(), say)
        };
        assert_eq!(told("192.0.2.1", 0), (0, Some(1)));
        assert_eq!(told("192.0.2.1", 1), (100, None));
        assert_eq!(told("::ffff:192.0.2.1", 2), (200, None));
        assert_eq!(told("192.0.2.2", 2), (0, Some(1)), "another one");
        assert_eq!(told("192.0.2.1", 10), (400, Some(3)));
        for at in 11..15 {
            told("192.0.2.1", at);
        }
        assert_eq!(told("192.0.2.1", 16), (3000, None));
        assert_eq!(told("192.0.2.1", 16 + 301), (0, Some(1)), "forgotten");
        assert_eq!(told("2001:db8::1", 320), (0, Some(1)));
        assert_eq!(told("2001:db8::2", 320), (100, None), "of one network");
    }

    #[test]
    fn memory_is_constant_and_who_has_no_room_is_slowed_down_too() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for host in 0..10_000_u32 {
            failures.wrong(IpAddr::V4(host.into()), now);
        }
        assert_eq!(failures.addresses.len(), ADDRESSES);
        assert_eq!(failures.wrong(address("192.0.2.7"), now), Penalty { delay: LAST, say: None });
        // Those that are known stay known.
        assert_eq!(failures.wrong(IpAddr::V4(0.into()), now).delay, FIRST);
        failures.wrong(address("192.0.2.7"), now + MEMORY + Duration::from_secs(1));
        assert_eq!(failures.addresses.len(), 1);
    }
}
