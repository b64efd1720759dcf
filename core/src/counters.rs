//! Counts of decisions, kept so that counting costs a decision about a nanosecond.
//!
//! Each thread has a place of its own and adds to it without a locked instruction; threads beyond the places share the
//! last one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sampled::{ALLOWED_PERIOD, DENIED_PERIOD};
use crate::thread;

const PLACES: usize = 64;
/// The place of all threads that come after the others were given out.
const SHARED: usize = PLACES - 1;

#[derive(Debug)]
#[repr(align(64))]
struct Place {
    /// Denied and allowed, in this order.
    counts: [AtomicU64; 2],
    /// The count at which a decision is looked at closely, of each.
    due: [AtomicU64; 2],
    /// What the next ones are drawn from.
    seed: AtomicU64,
}

impl Place {
    fn new(number: usize) -> Self {
        let place = Place {
            counts: Default::default(),
            due: Default::default(),
            // Never 0, which would stay 0.
            seed: AtomicU64::new((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        };
        place.draw(0, 0);
        place.draw(1, 0);
        place
    }

    /// Draws when the next decision is due: on average one in a period, and never in a rhythm. Returns the period.
    #[cold]
    #[inline(never)]
    fn draw(&self, of: usize, count: u64) -> u64 {
        let period = [DENIED_PERIOD, ALLOWED_PERIOD][of];
        // Marsaglia's xorshift: good enough to be in step with nobody. Relaxed: the place is this thread's alone.
        let mut seed = self.seed.load(Ordering::Relaxed);
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        self.seed.store(seed, Ordering::Relaxed);
        self.due[of].store(count + 1 + (seed >> 20) % (2 * period - 1), Ordering::Relaxed);
        period
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    places: Box<[Place; PLACES]>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Counters {
            places: Box::new(std::array::from_fn(Place::new)),
        }
    }

    /// Counts a decision. If it is one of those that are looked at closely, the number of decisions that it stands for; else 0.
    #[inline(always)]
    pub(crate) fn count(&self, allowed: bool) -> u64 {
        // One comparison tells a place of this thread's own from none yet and from the shared one.
        match thread::number_if_known() {
            mine if mine < SHARED => self.count_at(mine, allowed),
            _ => self.count_without_place(allowed),
        }
    }

    #[inline(always)]
    fn count_at(&self, mine: usize, allowed: bool) -> u64 {
        let (place, of) = (&self.places[mine], usize::from(allowed));
        let count = &place.counts[of];
        // Relaxed: counters order nothing. The place is this thread's alone: no other adds to it between the load and the
        // store, and what a thread before it has counted came with the number.
        let now = count.load(Ordering::Relaxed).wrapping_add(1);
        count.store(now, Ordering::Relaxed);
        if now == place.due[of].load(Ordering::Relaxed) {
            return place.draw(of, now);
        }
        0
    }

    /// The first count of a thread, and every count of those that share a place.
    #[cold]
    #[inline(never)]
    fn count_without_place(&self, allowed: bool) -> u64 {
        let mine = thread::number();
        if mine < SHARED {
            self.count_at(mine, allowed)
        } else {
            // Relaxed: counters order nothing.
            self.places[SHARED].counts[usize::from(allowed)].fetch_add(1, Ordering::Relaxed);
            // Nobody looks closely at threads beyond the places: drawing is for one thread.
            0
        }
    }

    /// Allowed and denied so far. Decisions that run meanwhile may be missing.
    pub(crate) fn sum(&self) -> (u64, u64) {
        self.places.iter().fold((0, 0), |(allowed, denied), place| {
            (
                allowed.wrapping_add(place.counts[1].load(Ordering::Relaxed)),
                denied.wrapping_add(place.counts[0].load(Ordering::Relaxed)),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_numbers_are_given_back() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        for _ in 0..100 {
                            counters.count(true);
                        }
                        thread::give_back();
                    }
                });
            }
        });
        assert_eq!(counters.sum(), (80_000, 0));
    }

    #[test]
    fn nothing_is_lost_with_more_threads_than_places() {
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| {
                    for i in 0..1_000 {
                        counters.count(i % 2 == 0);
                    }
                });
            }
        });
        assert_eq!(counters.sum(), (64_000, 64_000));
    }
}
