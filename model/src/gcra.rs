//! The generic cell rate algorithm on one word of state.
//!
//! The state of a client is its *theoretical arrival time* (TAT): the time at which its bucket will be full again. A
//! request of cost `n` is allowed iff `max(TAT, now) + n T` is at most `now + burst T`, and that sum is the new TAT. `T` is
//! the emission interval. Source: ITU-T I.371, virtual scheduling form, with the tolerance counted from `now`.

use core::time::Duration;

use crate::time::{LATE_NS, add, ahead};
use crate::{Decision, Limit, LimitError, MAX_RATE_PER_SECOND, MAX_TOLERANCE_NS};

const SECOND_NS: u128 = 1_000_000_000;
/// Fraction bits of an interval that is not a whole number of nanoseconds. With the 20 bits of the longest such interval
/// they fit a word, and the error of `T` is below one part in 10^13: 4 ns after a busy day at the highest rate.
const FRACTION_BITS: u32 = 40;
/// At intervals from here on a rounding to whole nanoseconds is below one part in a million.
const COARSE_INTERVAL_NS: u128 = 1 << 20;

/// A limit turned into numbers: what decides.
///
/// It can only be made from a limit that makes sense, so that no decision needs to check anything again.
///
/// **Intervals.** `T = window / rate` is rarely a whole number of nanoseconds. From 1 ms up it is rounded (down; up for
/// strict limits), an error below one part in a million. Below that it is kept with 40 fraction bits, and charges move
/// along the lattice `floor(j T)`: from a time `x = floor(j T) + p` a charge of `n` leads to `floor((j + n) T) + p`. So a
/// busy client gets its exact rate however long it is busy, no remainder needs a place in the cell, and charging `n` at
/// once equals `n` charges of one.
///
/// On a lattice a TAT is less than 2 ns before and less than 1 ns after the one that exact fractions give, and a request
/// is allowed less than 3 ns early and never late. The lattice starts anew where the circle of [`crate::time`] closes:
/// what is charged on one side and read on the other may move by as much once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// `T`: whole nanoseconds, or with [`FRACTION_BITS`] fraction bits on a lattice.
    interval: u64,
    /// `burst * T` in nanoseconds, rounded up by at most one on a lattice.
    tolerance: u64,
    burst: u64,
    /// `2^104 / interval` on a lattice, for a division by multiplication; 0 for whole nanoseconds.
    reciprocal: u64,
}

/// What [`Gcra::decide`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed; the state becomes this TAT.
    Allow(u64),
    /// Denied; the state stays as it is.
    Deny,
}

impl Gcra {
    /// The numbers of a limit.
    ///
    /// Errors: all that can be wrong with a limit; see [`LimitError`].
    pub fn new(limit: &Limit) -> Result<Self, LimitError> {
        let window_ns = limit.window().as_nanos();
        let (rate, burst) = (limit.rate_limit(), limit.capacity());
        if rate == 0 {
            return Err(LimitError::ZeroRate);
        }
        if window_ns == 0 {
            return Err(LimitError::ZeroWindow);
        }
        if burst == 0 {
            return Err(LimitError::ZeroBurst);
        }
        if limit.is_strict() && burst >= rate && rate > 1 || limit.is_strict() && burst > rate {
            return Err(LimitError::StrictBurst {
                burst,
                rate_limit: rate,
            });
        }
        if u128::from(rate) * SECOND_NS > window_ns.saturating_mul(u128::from(MAX_RATE_PER_SECOND)) {
            return Err(LimitError::RateTooHigh { limit: *limit });
        }
        // In a strict limit the burst is part of the window's `rate` requests; the others are spread over the window.
        let spread = if limit.is_strict() && rate > 1 {
            u128::from(rate - burst)
        } else {
            u128::from(rate)
        };
        let divide = |ns: u128, round_up: bool| if round_up { ns.div_ceil(spread) } else { ns / spread };

        let too_long = || LimitError::TooLong { limit: *limit };
        let gcra = if window_ns.is_multiple_of(spread) || window_ns / spread >= COARSE_INTERVAL_NS {
            // Rounded down a client has its burst again one window after it spent it, not some nanoseconds later; strict
            // limits must not be generous even by a part in a million.
            let interval = u64::try_from(divide(window_ns, limit.is_strict())).map_err(|_| too_long())?;
            let tolerance = u128::from(interval) * u128::from(burst);
            Gcra {
                interval,
                tolerance: u64::try_from(tolerance).map_err(|_| too_long())?,
                burst,
                reciprocal: 0,
            }
        } else {
            let fixed = window_ns
                .checked_shl(FRACTION_BITS)
                .filter(|ns| ns >> FRACTION_BITS == window_ns);
            let fixed = fixed.ok_or_else(too_long)?;
            let nearest = if limit.is_strict() { 0 } else { spread / 2 };
            let interval = u64::try_from(divide(fixed + nearest, limit.is_strict())).map_err(|_| too_long())?;
            let tolerance = ((u128::from(interval) * u128::from(burst)) >> FRACTION_BITS) + 1;
            let reciprocal = ((1u128 << (64 + FRACTION_BITS)) / u128::from(interval)) as u64;
            Gcra {
                interval,
                tolerance: u64::try_from(tolerance).map_err(|_| too_long())?,
                burst,
                reciprocal,
            }
        };
        if gcra.tolerance > MAX_TOLERANCE_NS {
            Err(too_long())
        } else {
            Ok(gcra)
        }
    }

    /// Decides a request of `cost` at `now` for a client whose state is `tat`. A client never seen has `tat = now`.
    ///
    /// Units: times are nanoseconds on the circle of [`crate::time`]; `cost` counts requests. A cost of 0 is always
    /// allowed and leaves the state as it is; one above the burst is never allowed. Cost: a few integer operations.
    #[inline]
    #[must_use]
    pub fn decide(&self, tat: u64, now: u64, cost: u64) -> Verdict {
        // One comparison for both ends: 0 wraps round to the largest.
        if cost.wrapping_sub(1) >= self.burst {
            // A cost of 0 charges nothing, so that not even a TAT in the past moves: moved up to `now` it would be a charge
            // to the threads that come late.
            return if cost == 0 { Verdict::Allow(tat) } else { Verdict::Deny };
        }
        let spent = self.spent(now, ahead(tat, now), cost);
        if spent <= self.tolerance {
            Verdict::Allow(add(now, spent))
        } else {
            Verdict::Deny
        }
    }

    /// The TAT after a charge of `cost` that starts at `from`, whether or not it fits.
    ///
    /// A charge of more than a quarter of the circle (no burst is that long) counts as that quarter: further round, the
    /// largest charges would look like none.
    #[inline]
    #[must_use]
    pub fn charge(&self, from: u64, cost: u64) -> u64 {
        if cost.saturating_mul(self.whole_interval()) > MAX_TOLERANCE_NS {
            add(from, MAX_TOLERANCE_NS + 1)
        } else {
            add(from, self.spent(from, 0, cost))
        }
    }

    /// The state after `cost` requests are given back, never moved below `now`: a bucket is not more than full.
    ///
    /// What was charged and is given back leaves the state as it was, or `now` if that is later.
    #[must_use]
    pub fn refund(&self, tat: u64, now: u64, cost: u64) -> u64 {
        let backlog = self.backlog(tat, now);
        if backlog == 0 {
            return tat;
        }
        let left = if self.reciprocal == 0 {
            backlog.saturating_sub(cost.saturating_mul(self.interval))
        } else if cost == 0 {
            backlog
        } else {
            // Down the lattice by as many points as the charge went up: taking `cost * T` off instead would lose up to a
            // nanosecond with every pair of charge and refund, a tenth of `T` for the fastest limits.
            let (point, offset) = self.place(now + backlog);
            let start = point.checked_sub(u128::from(cost) * u128::from(self.interval));
            start.map_or(0, |start| (whole(start) + offset).saturating_sub(now))
        };
        add(now, left)
    }

    /// Whether `tat` is so far ahead of `now` that no decision can have put it there, even by a thread that came late by
    /// [`LATE_NS`]: the clock was set back, or the state comes from elsewhere. Such a client is not to be locked out for
    /// longer than its own window: its state becomes [`full`](Gcra::full).
    #[inline]
    #[must_use]
    pub fn is_stepped(&self, tat: u64, now: u64) -> bool {
        // No decision leads further than the tolerance, which already has room for the last request's own `T`.
        ahead(tat, now) > self.tolerance + LATE_NS
    }

    /// The state of a client that has just spent its whole burst.
    #[inline]
    #[must_use]
    pub fn full(&self, now: u64) -> u64 {
        add(now, self.tolerance)
    }

    /// The state under this limit of a client whose state under `old` was `tat`: it keeps the share of its burst that is
    /// spent, rounded up to a nanosecond.
    #[must_use]
    pub fn convert(&self, tat: u64, now: u64, old: &Gcra) -> u64 {
        let backlog = old.backlog(tat, now);
        let spent = backlog.min(old.tolerance);
        let share = (u128::from(spent) * u128::from(self.tolerance)).div_ceil(u128::from(old.tolerance));
        // Beyond the burst is only the lateness of `now`, which is time and no share of anything.
        add(now, share as u64 + (backlog - spent))
    }

    /// The decision that users see, from the state `tat` after it was made. `cost` only matters for `retry_after`.
    #[must_use]
    pub fn decision(&self, allowed: bool, tat: u64, now: u64, cost: u64) -> Decision {
        let backlog = self.backlog(tat, now);
        let retry_after = if allowed {
            Duration::ZERO
        } else if cost > self.burst {
            Decision::NEVER
        } else {
            // At least 1: the state may have fallen between the denial and the reading of `tat`.
            let spent = self.spent(now, backlog, cost);
            Duration::from_nanos(spent.saturating_sub(self.tolerance).max(1))
        };
        let remaining = self.remaining(now, backlog);
        Decision::new(
            allowed,
            self.burst,
            remaining,
            retry_after,
            Duration::from_nanos(backlog),
        )
    }

    fn remaining(&self, now: u64, backlog: u64) -> u64 {
        let free = self.tolerance.saturating_sub(backlog);
        if self.reciprocal == 0 {
            return free / self.interval;
        }
        // The lattice may put a charge one nanosecond to either side of the quotient, so that one more may fit.
        let mut count = ((u128::from(free) << FRACTION_BITS) / u128::from(self.interval)) as u64 + 1;
        while count > 0 && (count > self.burst || self.spent(now, backlog, count) > self.tolerance) {
            count -= 1;
        }
        count
    }

    /// How far `tat` is ahead of `now`, once a clock that was set back is made good.
    ///
    /// Up to [`LATE_NS`] beyond the tolerance it is told as it is, since [`decide`](Gcra::decide) goes by it too: a late
    /// thread must neither promise its client too much nor refund what another has just charged.
    fn backlog(&self, tat: u64, now: u64) -> u64 {
        if self.is_stepped(tat, now) {
            self.tolerance
        } else {
            ahead(tat, now)
        }
    }

    /// How far ahead of `now` a charge of `cost` leads that starts `backlog` after it.
    ///
    /// Invariant: `now` is below 2^56, `backlog` below 2^55 and `cost * T` at most 2^55, so that nothing overflows.
    #[inline]
    fn spent(&self, now: u64, backlog: u64, cost: u64) -> u64 {
        if self.reciprocal == 0 {
            backlog + cost * self.interval
        } else if cost == 0 {
            backlog
        } else {
            let (point, offset) = self.place(now + backlog);
            whole(point + u128::from(cost) * u128::from(self.interval)) + offset - now
        }
    }

    /// The greatest lattice point at or below `from` with its fraction bits, and the distance from it to `from`.
    #[inline]
    fn place(&self, from: u64) -> (u128, u64) {
        let interval = u128::from(self.interval);
        let index = (u128::from(from) * u128::from(self.reciprocal)) >> 64;
        let mut point = u128::from(index as u64) * interval;
        // One step at most: the product falls short by less than 2^-7 of an index, and that points are rounded down is worth
        // a nanosecond, a tenth of an index.
        if whole(point + interval) <= from {
            point += interval;
        }
        // Gaps differ by one nanosecond. Kept below the smaller one, the distance names the same point after every walk.
        let offset = (from - whole(point)).min((self.interval >> FRACTION_BITS) - 1);
        (point, offset)
    }

    /// The most requests that fit at one instant.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// `burst * T` in nanoseconds: the time an empty bucket takes to fill.
    #[must_use]
    pub const fn tolerance_ns(&self) -> u64 {
        self.tolerance
    }

    /// The emission interval `T`, rounded down to a nanosecond.
    #[inline]
    #[must_use]
    pub const fn whole_interval(&self) -> u64 {
        if self.reciprocal == 0 {
            self.interval
        } else {
            self.interval >> FRACTION_BITS
        }
    }

    /// Four words that [`from_words`](Gcra::from_words) turns back, for a slab of limits in shared memory.
    #[inline]
    #[must_use]
    pub const fn to_words(self) -> [u64; 4] {
        [self.interval, self.tolerance, self.burst, self.reciprocal]
    }

    /// The inverse of [`to_words`](Gcra::to_words). Words that were read while they were being written must be thrown away
    /// before anything is decided with them: no other words keep the promises of this type.
    #[inline]
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Gcra {
            interval: words[0],
            tolerance: words[1],
            burst: words[2],
            reciprocal: words[3],
        }
    }
}

/// A point of a lattice in whole nanoseconds, rounded down.
#[inline]
const fn whole(point: u128) -> u64 {
    (point >> FRACTION_BITS) as u64
}
