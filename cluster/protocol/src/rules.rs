//! How a node decides a clustered key: without a lease, under one, and at the moment of a switch.
//!
//! Pure functions of numbers, so that a store of maps and a lock-free table decide alike. States are theoretical arrival
//! times on the circle of [`ratelimit_model::time`].

use ratelimit_model::time::{add, ahead};
use ratelimit_model::{Gcra, LEVEL_BITS, Limit, Verdict};

/// What may be spent on a key without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unleased {
    /// A part of the limit: for `Eventual` the burst and `R/N`; for a node that is cut off its floor.
    Part(Gcra),
    /// The limit, but never more than `units` that the owner has not confirmed.
    Overdraft {
        /// The limit.
        gcra: Gcra,
        /// Units in flight at most.
        units: u64,
    },
    /// Nothing: ask and wait.
    Deny,
}

impl Unleased {
    /// Decides a request of `cost` for a key in state `tat`, `unconfirmed` units of which the owner has not confirmed.
    #[must_use]
    pub fn decide(&self, tat: u64, now: u64, cost: u64, unconfirmed: u64) -> Verdict {
        match self {
            Unleased::Part(gcra) => gcra.decide(tat, now, cost),
            Unleased::Overdraft { gcra, units } if unconfirmed.saturating_add(cost) <= *units => {
                gcra.decide(tat, now, cost)
            }
            Unleased::Overdraft { .. } | Unleased::Deny => {
                if cost == 0 {
                    Verdict::Allow(tat)
                } else {
                    Verdict::Deny
                }
            }
        }
    }

    /// The numbers that the state of a key is kept in; `None` if there is no state.
    #[must_use]
    pub const fn gcra(&self) -> Option<&Gcra> {
        match self {
            Unleased::Part(gcra) | Unleased::Overdraft { gcra, .. } => Some(gcra),
            Unleased::Deny => None,
        }
    }
}

/// How the keys of one limit are treated. The protocol gives new ones to the store when nodes come, go, or fall silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The whole limit, as people write it.
    pub shown: Limit,
    /// The same in numbers.
    pub limit: Gcra,
    /// Without a lease, while the owner is heard.
    pub connected: Unleased,
    /// Without a lease, in partitions whose owner is not heard; see [`Store::set_cut`](crate::Store::set_cut).
    pub cut: Unleased,
    /// Unreported units at which a key without a lease is reported at once.
    pub urgent_units: u64,
    /// Units spent without a lease stay counted until they are re-armed (`Bounded`).
    pub overdraft: bool,
}

/// A lease as a store gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The grant's number.
    pub seq: u64,
    /// The part of the limit that it gives.
    pub gcra: Gcra,
    /// Units given now.
    pub tokens: u64,
    /// Past its time it denies; a soft one goes on until the protocol ends it.
    pub hard: bool,
    /// Its time, on the node's clock.
    pub until_ns: u64,
    /// Unreported units at which the key is reported at once: more than the lease refills between two reports.
    pub urgent_units: u64,
}

impl Lease {
    /// Decides a request of `cost` under this lease. `now_ns` is the node's clock, `tat` on the circle.
    #[must_use]
    pub fn decide(&self, tat: u64, now_ns: u64, cost: u64) -> Verdict {
        if self.hard && now_ns >= self.until_ns && cost > 0 {
            return Verdict::Deny;
        }
        self.gcra.decide(tat, now_ns & ratelimit_model::time::MASK, cost)
    }
}

/// A state under a new rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    /// The state.
    pub tat: u64,
    /// Whole units that found no room and go back to the owner.
    pub returned: u64,
}

/// The level of a key: units with [`LEVEL_BITS`] fraction bits that it could spend at once.
#[must_use]
pub fn level(gcra: &Gcra, tat: u64, now: u64) -> u128 {
    gcra.level(ahead(tat, now))
}

/// The state in which `gcra` has `level` left, rounded against the spender.
#[must_use]
pub fn state_of(gcra: &Gcra, level: u128, now: u64) -> u64 {
    let full = u128::from(gcra.burst()) << LEVEL_BITS;
    add(now, gcra.time_of(full.saturating_sub(level)).min(gcra.tolerance_ns()))
}

/// Puts `lease` into force over a key whose level under the lease before was `before`; `None` for a first lease, which
/// starts with its tokens alone.
///
/// What no longer fits comes back in whole units; a fraction that does not fit is lost.
#[must_use]
pub fn switch(before: Option<u128>, lease: &Lease, now: u64) -> Switched {
    let held = before.unwrap_or(0) + (u128::from(lease.tokens) << LEVEL_BITS);
    let kept = held.min(u128::from(lease.gcra.burst()) << LEVEL_BITS);
    Switched {
        tat: state_of(&lease.gcra, kept, now),
        returned: u64::try_from((held - kept) >> LEVEL_BITS).unwrap_or(u64::MAX),
    }
}

/// Ends a lease over a key in state `tat`: the state without it, and the whole units that go back.
///
/// A soft lease leaves its level, so that nobody gains a burst by being idle for a moment; a hard one leaves nothing, and a
/// floor (the rule of a cut key) starts empty, since it may have been spent before the lease.
#[must_use]
pub fn end(lease: &Lease, without: &Unleased, tat: u64, now: u64) -> Switched {
    let before = level(&lease.gcra, tat, now);
    match without {
        Unleased::Part(gcra) if !lease.hard => Switched {
            tat: state_of(gcra, before, now),
            returned: 0,
        },
        _ => Switched {
            tat: match without {
                Unleased::Part(gcra) => state_of(gcra, 0, now),
                Unleased::Overdraft { .. } | Unleased::Deny => now,
            },
            returned: u64::try_from(before >> LEVEL_BITS).unwrap_or(u64::MAX),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use proptest::prelude::*;
    use ratelimit_model::WHOLE_SHARE;

    fn whole(rate: u64, burst: u64) -> Gcra {
        Gcra::new(&Limit::new(rate, Duration::from_secs(1)).expect("a limit").burst(burst)).expect("numbers")
    }

    fn lease(gcra: Gcra, tokens: u64, hard: bool) -> Lease {
        Lease {
            seq: 1,
            gcra,
            tokens,
            hard,
            until_ns: 1_000,
            urgent_units: 1,
        }
    }

    #[test]
    fn a_hard_lease_denies_past_its_time_and_a_soft_one_goes_on() {
        let part = whole(1000, 10).part(WHOLE_SHARE / 2, 5);
        assert!(matches!(lease(part, 0, true).decide(0, 999, 1), Verdict::Allow(_)));
        assert_eq!(lease(part, 0, true).decide(0, 1_000, 1), Verdict::Deny);
        assert!(matches!(lease(part, 0, false).decide(0, 1_000, 1), Verdict::Allow(_)));
    }

    #[test]
    fn overdraft_counts_what_is_not_confirmed() {
        let rule = Unleased::Overdraft {
            gcra: whole(1000, 10),
            units: 3,
        };
        assert!(matches!(rule.decide(0, 0, 3, 0), Verdict::Allow(_)));
        assert_eq!(rule.decide(0, 0, 3, 1), Verdict::Deny);
        assert_eq!(rule.decide(0, 0, 0, 3), Verdict::Allow(0));
        assert_eq!(Unleased::Deny.decide(0, 0, 1, 0), Verdict::Deny);
    }

    proptest! {
        /// No switch makes tokens: level and returned after are at most level and tokens before, and lose less than a unit
        /// and a nanosecond.
        #[test]
        fn switches_conserve(
            rate in 1u64..1_000_000, burst in 1u64..1000, shares in prop::collection::vec((1u64..=WHOLE_SHARE, 0u64..1000, 0u64..1000), 1..20),
            first_tat in 0u64..10_000_000_000,
        ) {
            let whole = whole(rate, burst);
            let now = 5_000_000_000;
            let mut current = lease(whole, 0, true);
            let mut tat = first_tat;
            for (share, capacity, tokens) in shares {
                let next = lease(whole.part(share, capacity), tokens, true);
                let before = level(&current.gcra, tat, now);
                let switched = switch(Some(before), &next, now);
                let after = level(&next.gcra, switched.tat, now);
                let put_in = before + (u128::from(tokens) << LEVEL_BITS);
                prop_assert!(after + (u128::from(switched.returned) << LEVEL_BITS) <= put_in);
                let nanosecond = (2u128 << (40 + LEVEL_BITS)) / next.gcra.interval_q40() + 4;
                prop_assert!(put_in - after - (u128::from(switched.returned) << LEVEL_BITS) < (1 << LEVEL_BITS) + nanosecond);
                (current, tat) = (next, switched.tat);
            }
            let ended = end(&current, &Unleased::Deny, tat, now);
            prop_assert!(u128::from(ended.returned) << LEVEL_BITS <= level(&current.gcra, tat, now));
        }
    }
}
