//! A part of a limit: what a lease gives to one node, as a [`Gcra`] of its own.
//!
//! Levels are counted in requests with [`LEVEL_BITS`] fraction bits, so that tokens can be moved between two rules with
//! different intervals without gaining any: everything is rounded against the one who spends.

use crate::{Gcra, MAX_TOLERANCE_NS};

/// All of a limit's rate. A share is a number of 2^-32 parts of the rate, so that shares add up exactly.
pub const WHOLE_SHARE: u64 = 1 << 32;
/// Fraction bits of a level.
pub const LEVEL_BITS: u32 = 32;

const FRACTION_BITS: u32 = 40;
/// From this interval on whole nanoseconds are exact enough; see [`Gcra`].
const COARSE_INTERVAL_NS: u128 = 1 << 20;

impl Gcra {
    /// The emission interval with 40 fraction bits.
    #[must_use]
    pub const fn interval_q40(&self) -> u128 {
        let [interval, _, _, reciprocal] = self.to_words();
        if reciprocal == 0 {
            (interval as u128) << FRACTION_BITS
        } else {
            interval as u128
        }
    }

    /// `share` parts of 2^32 of this limit's rate, with room for `burst` requests.
    ///
    /// The interval is rounded up, so that parts which add up to [`WHOLE_SHARE`] are together never faster than the
    /// whole. A burst that would take longer to refill than 208 days is cut to one that does not; with a burst of 0,
    /// which no [`Limit`](crate::Limit) can have, every request is denied.
    #[must_use]
    pub fn part(&self, share: u64, burst: u64) -> Gcra {
        // 2^94 at most: the interval has 54 bits before the point.
        let fixed = (self.interval_q40() << 32).div_ceil(u128::from(share.max(1)));
        let longest = u128::from(MAX_TOLERANCE_NS) << FRACTION_BITS;
        let fits = |interval: u128| burst.min(u64::try_from(longest / interval).unwrap_or(u64::MAX));
        if fixed >= COARSE_INTERVAL_NS << FRACTION_BITS {
            let interval = fixed.div_ceil(1 << FRACTION_BITS).min(u128::from(MAX_TOLERANCE_NS));
            let burst = fits(interval << FRACTION_BITS);
            let burst = if share == 0 { 0 } else { burst };
            Gcra::from_words([interval as u64, interval as u64 * burst, burst, 0])
        } else {
            let burst = fits(fixed).min(u64::MAX >> 1);
            // The point below: a part must not be generous by the nanosecond that a whole limit is.
            let tolerance = ((fixed * u128::from(burst)) >> FRACTION_BITS) as u64;
            let reciprocal = ((1u128 << (64 + FRACTION_BITS)) / fixed) as u64;
            Gcra::from_words([fixed as u64, tolerance + u64::from(burst > 0), burst, reciprocal])
        }
    }

    /// Requests that refill in `ns` at `share` parts of this limit's rate, with [`LEVEL_BITS`] fraction bits, rounded down.
    #[must_use]
    pub fn refilled(&self, ns: u64, share: u64) -> u128 {
        let time = (u128::from(ns.min(MAX_TOLERANCE_NS)) * u128::from(share.min(WHOLE_SHARE))) >> 32;
        (time << (FRACTION_BITS + LEVEL_BITS)) / self.interval_q40()
    }

    /// The time that `level` requests (with [`LEVEL_BITS`] fraction bits) take to refill, rounded up, at most 208 days.
    #[must_use]
    pub fn time_of(&self, level: u128) -> u64 {
        let Some(product) = level.checked_mul(self.interval_q40()) else {
            return MAX_TOLERANCE_NS;
        };
        let ns = product.div_ceil(1 << (FRACTION_BITS + LEVEL_BITS));
        u64::try_from(ns).map_or(MAX_TOLERANCE_NS, |ns| ns.min(MAX_TOLERANCE_NS))
    }

    /// The requests that could be spent at once by one whose bucket is full in `backlog_ns`, with [`LEVEL_BITS`] fraction
    /// bits, rounded down.
    #[must_use]
    pub fn level(&self, backlog_ns: u64) -> u128 {
        let spent = (u128::from(backlog_ns.min(MAX_TOLERANCE_NS)) << (FRACTION_BITS + LEVEL_BITS))
            .div_ceil(self.interval_q40());
        (u128::from(self.burst()) << LEVEL_BITS).saturating_sub(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limit, Verdict};
    use core::time::Duration;
    use proptest::prelude::*;

    fn gcra(rate: u64, window_ns: u64, burst: u64) -> Gcra {
        let limit = Limit::new(rate, Duration::from_nanos(window_ns))
            .expect("a limit")
            .burst(burst);
        Gcra::new(&limit).expect("numbers")
    }

    #[test]
    fn the_whole_share_is_the_limit() {
        for (rate, window_ns) in [(1000, 1_000_000_000), (3, 1_000_000_000), (7, 86_400_000_000_000)] {
            let whole = gcra(rate, window_ns, 5);
            let part = whole.part(WHOLE_SHARE, 5);
            assert_eq!(
                part.interval_q40().div_ceil(1 << 40),
                whole.interval_q40().div_ceil(1 << 40)
            );
            assert_eq!(part.burst(), 5);
        }
    }

    #[test]
    fn no_burst_denies_everything() {
        let none = gcra(10, 1_000_000_000, 5).part(0, 9);
        assert_eq!(none.decide(0, 1 << 50, 1), Verdict::Deny);
        assert_eq!(
            gcra(10_000, 1_000_000_000, 5)
                .part(WHOLE_SHARE, 0)
                .decide(0, 1 << 50, 1),
            Verdict::Deny
        );
    }

    proptest! {
        /// Parts of a whole admit together no more than the whole's rate over a long time, and each its own burst.
        #[test]
        fn parts_never_exceed_the_whole(rate in 1u64..10_000_000, shares in prop::collection::vec(1u64..1 << 30, 1..4)) {
            let whole = gcra(rate, 1_000_000_000, 10);
            for share in shares {
                let part = whole.part(share, 3);
                let exact = (whole.interval_q40() << 32) / u128::from(share);
                prop_assert!(part.interval_q40() >= exact);
                // Rounding up is worth less than a part in a million.
                prop_assert!(part.interval_q40() <= exact + exact / 1_000_000 + 1);
                prop_assert_eq!(part.burst(), 3);
                prop_assert!(part.tolerance_ns() <= part.time_of(3 << LEVEL_BITS) + 1);
            }
        }

        /// A level turned into time and back never grows, and loses less than a nanosecond's worth.
        #[test]
        fn levels_survive_the_way_through_time(rate in 1u64..10_000_000, burst in 1u64..1000, spent_q32 in 0u64..1 << 42) {
            let whole = gcra(rate, 1_000_000_000, burst);
            let spent = u128::from(spent_q32).min(u128::from(burst) << LEVEL_BITS);
            let level = (u128::from(burst) << LEVEL_BITS) - spent;
            let back = whole.level(whole.time_of(spent));
            prop_assert!(back <= level);
            let nanosecond = (1u128 << (FRACTION_BITS + LEVEL_BITS)) / whole.interval_q40() + 2;
            prop_assert!(level - back <= nanosecond);
        }

        #[test]
        fn what_refills_takes_its_time(rate in 1u64..10_000_000, ns in 0u64..1 << 40) {
            let whole = gcra(rate, 1_000_000_000, 10);
            prop_assert!(whole.time_of(whole.refilled(ns, WHOLE_SHARE)) <= ns + 1);
            prop_assert!(whole.refilled(ns, WHOLE_SHARE / 2) <= whole.refilled(ns, WHOLE_SHARE));
        }
    }
}
