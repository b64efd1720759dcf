//! Nanoseconds in 56 bits, on a circle.
//!
//! A cell keeps its theoretical arrival time (TAT) in 56 bits, so times are taken modulo 2^56 ns (2.28 years) and compared
//! by the shorter way round: a time is *ahead* of another if it lies in the half circle after it. That makes every
//! `Duration` a legal time, since the Unix epoch in nanoseconds needs 61 bits, and needs no origin that could be chosen
//! badly. The price: two times more than 1.14 years apart cannot be told in order. A cell is compared with a time that
//! far away only if its key was idle for longer than that in one life of a table.

use core::time::Duration;

/// Bits of a time.
pub const BITS: u32 = 56;
/// Keeps a time on the circle.
pub const MASK: u64 = (1 << BITS) - 1;
/// Half the circle, in nanoseconds: the furthest that one time can be ahead of another.
pub const HALF: u64 = 1 << (BITS - 1);

/// A late thread may hold a time this many nanoseconds in the past; a time further behind is a step of the clock.
///
/// Times are taken before a decision is made, and a thread may be put to sleep in between. See [`crate::Gcra::is_stepped`].
pub const LATE_NS: u64 = 1_000_000_000;

/// Puts a duration since any origin on the circle.
#[inline]
#[must_use]
pub const fn wrap(since_origin: Duration) -> u64 {
    // Two multiplications are cheaper than `as_nanos`, and wrapping them keeps the low 56 bits right.
    since_origin
        .as_secs()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(since_origin.subsec_nanos() as u64)
        & MASK
}

/// How many nanoseconds `time` is ahead of `now`; 0 if it is not.
#[inline]
#[must_use]
pub const fn ahead(time: u64, now: u64) -> u64 {
    let distance = time.wrapping_sub(now) & MASK;
    if distance < HALF { distance } else { 0 }
}

/// The later of two times.
#[inline]
#[must_use]
pub const fn later(a: u64, b: u64) -> u64 {
    if ahead(a, b) > 0 { a } else { b }
}

/// `time` plus `ns`, on the circle.
#[inline]
#[must_use]
pub const fn add(time: u64, ns: u64) -> u64 {
    time.wrapping_add(ns) & MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ahead_goes_the_shorter_way_round() {
        assert_eq!(ahead(5, 3), 2);
        assert_eq!(ahead(3, 5), 0);
        assert_eq!(ahead(3, 3), 0);
        assert_eq!(ahead(1, MASK), 2, "over the wrap");
        assert_eq!(ahead(MASK, 1), 0);
        assert_eq!(ahead(HALF, 0), 0, "exactly opposite is not ahead");
        assert_eq!(ahead(HALF - 1, 0), HALF - 1);
    }

    #[test]
    fn the_later_of_two_is_the_one_ahead() {
        assert_eq!((later(5, 3), later(3, 5), later(3, 3)), (5, 5, 3));
        assert_eq!((later(1, MASK), later(MASK, 1)), (1, 1), "over the wrap");
    }

    #[test]
    fn any_duration_is_a_time() {
        assert_eq!(wrap(Duration::ZERO), 0);
        assert_eq!(wrap(Duration::from_nanos(7)), 7);
        let epoch = Duration::from_secs(1_795_000_000);
        assert_eq!(u128::from(wrap(epoch)), epoch.as_nanos() % (1 << BITS));
        assert_eq!(u128::from(wrap(Duration::MAX)), Duration::MAX.as_nanos() % (1 << BITS));
    }
}
