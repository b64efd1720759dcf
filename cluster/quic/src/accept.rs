//! Handshakes of others: how many at a time, and from where.
//!
//! Until a certificate is verified the other side is a stranger, and a datagram may come from anywhere whatever it says. So
//! few are begun with an address that is not proved, and few with any one address; the rest is asked to come back with a
//! token (which keeps nothing here), or refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Tuning;

/// Who is counted together: an IPv4 address, or the /64 of an IPv6 one, since one host has that many.
fn source(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_source: BTreeMap<IpAddr, usize>,
}

/// Counts handshakes in progress.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    counts: Arc<Mutex<Counts>>,
    total: usize,
    per_source: usize,
    retry_from: usize,
}

/// What to do with a handshake that somebody begins.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Go on; it is in progress until the slot is dropped.
    Accept(Slot),
    /// Have the source prove that it receives at its address.
    Retry,
    /// Too many are in progress.
    Refuse,
}

/// A handshake in progress.
#[derive(Debug)]
pub(crate) struct Slot {
    gate: Gate,
    source: IpAddr,
}

impl Gate {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        Gate {
            counts: Arc::default(),
            total: tuning.handshakes,
            per_source: tuning.handshakes_per_address,
            retry_from: tuning.retry_from,
        }
    }

    /// Only the driver's thread comes here: the lock is never waited for.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_progress(&self) -> usize {
        self.counts().total
    }

    pub(crate) fn judge(&self, address: SocketAddr, proved: bool) -> Verdict {
        let source = source(address);
        let mut counts = self.counts();
        let here = counts.by_source.get(&source).copied().unwrap_or(0);
        if counts.total >= self.total {
            return Verdict::Refuse;
        }
        // A forged address must not use up the places of whoever really has it.
        if !proved && (counts.total >= self.retry_from || here >= self.per_source.div_ceil(2)) {
            return Verdict::Retry;
        }
        if here >= self.per_source {
            return Verdict::Refuse;
        }
        counts.total += 1;
        *counts.by_source.entry(source).or_default() += 1;
        Verdict::Accept(Slot {
            gate: self.clone(),
            source,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.total -= 1;
        if let Some(here) = counts.by_source.get_mut(&self.source) {
            *here -= 1;
            if *here == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(&Tuning {
            handshakes: 6,
            handshakes_per_address: 4,
            retry_from: 3,
            ..Tuning::default()
        })
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn a_source_that_proves_nothing_gets_half_the_places() {
        let gate = gate();
        let from = at("10.0.0.1:1");
        let held: Vec<_> = (0..2).map(|_| gate.judge(from, false)).collect();
        assert!(held.iter().all(|verdict| matches!(verdict, Verdict::Accept(_))));
        assert!(matches!(gate.judge(from, false), Verdict::Retry));
        let proved: Vec<_> = (0..2).map(|_| gate.judge(from, true)).collect();
        assert!(proved.iter().all(|verdict| matches!(verdict, Verdict::Accept(_))));
        assert!(
            matches!(gate.judge(from, true), Verdict::Refuse),
            "no more from one address"
        );
        assert!(
            matches!(gate.judge(at("10.0.0.2:1"), false), Verdict::Retry),
            "busy: prove it"
        );
        assert!(matches!(gate.judge(at("10.0.0.2:1"), true), Verdict::Accept(_)));
        assert_eq!(gate.in_progress(), 4, "what was judged last is over");
        drop((held, proved));
        assert_eq!(gate.in_progress(), 0);
        assert!(
            gate.counts().by_source.is_empty(),
            "nothing is kept of those that are over"
        );
    }

    #[test]
    fn no_more_than_the_total_whoever_asks() {
        let gate = gate();
        let held: Vec<_> = (1..=6)
            .map(|n| gate.judge(at(&format!("10.0.0.{n}:1")), true))
            .collect();
        assert!(held.iter().all(|verdict| matches!(verdict, Verdict::Accept(_))));
        assert!(matches!(gate.judge(at("10.0.0.9:1"), true), Verdict::Refuse));
        assert!(matches!(gate.judge(at("10.0.0.9:1"), false), Verdict::Refuse));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_is_ipv4() {
        assert_eq!(source(at("[2001:db8::1]:1")), source(at("[2001:db8::ffff:2]:9")));
        assert_ne!(source(at("[2001:db8::1]:1")), source(at("[2001:db8:0:1::1]:1")));
        assert_eq!(source(at("[::ffff:10.0.0.1]:1")), source(at("10.0.0.1:2")));
    }
}
