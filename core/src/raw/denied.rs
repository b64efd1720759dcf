//! What was denied on a cell since its last report: how much was asked for in vain, and the largest request.
//!
//! An owner divides a limit by what nodes ask for, so that "somebody was denied" does not do: a node with ten times the demand
//! of another and an equal share would keep that share. It is a hint: units that are lost, or counted for the key that had the
//! cell before, change a share for a moment. So it takes no part in the protocol, and models leave it out.
//!
//! ```text
//!  31..8                         7..3       2..0
//! +-----------------------------+----------+-----------+
//! | units                       | exponent | fraction  |   largest = (8 + fraction) * 2^exponent / 8, rounded up
//! +-----------------------------+----------+-----------+
//! ```

use std::sync::atomic::{AtomicU32, Ordering};

const UNITS_SHIFT: u32 = 8;
const LARGEST_MASK: u32 = (1 << UNITS_SHIFT) - 1;
/// One request adds no more than this, so that many threads at once do not run over the end.
const MOST_OF_ONE: u64 = 1 << 16;
/// No more is counted. An owner takes a denial for no more than four bursts, so this only bounds large bursts.
const MOST: u64 = 1 << 23;

/// The word of a cell.
#[repr(transparent)]
pub(crate) struct Denied(AtomicU32);

impl Denied {
    /// Counts a request of `cost` that was denied, up to `most` units in all. A flood of denials comes there soon, and then
    /// only reads.
    #[inline]
    pub(crate) fn count(&self, cost: u64, most: u64) {
        // Relaxed, as all here: a hint.
        let seen = self.0.load(Ordering::Relaxed);
        let largest = encode(cost);
        if largest > seen & LARGEST_MASK {
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (largest > now & LARGEST_MASK).then_some(now & !LARGEST_MASK | largest)
            });
        }
        if u64::from(seen >> UNITS_SHIFT) < most.min(MOST) {
            self.0
                .fetch_add((cost.min(MOST_OF_ONE) as u32) << UNITS_SHIFT, Ordering::Relaxed);
        }
    }

    /// Units and the largest request, which are forgotten.
    pub(crate) fn take(&self) -> (u64, u64) {
        let word = self.0.swap(0, Ordering::Relaxed);
        (u64::from(word >> UNITS_SHIFT), decode(word & LARGEST_MASK))
    }

    pub(crate) fn clear(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

/// Rounded up, by at most an eighth: a lease with room for the largest request must have room for it.
fn encode(cost: u64) -> u32 {
    if cost < 8 {
        return cost as u32;
    }
    let exponent = cost.ilog2() - 3;
    let eighths = (cost >> exponent) + u64::from(cost & ((1 << exponent) - 1) != 0);
    // 16 eighths are 8 of the next exponent.
    let (exponent, eighths) = if eighths == 16 {
        (exponent + 1, 8)
    } else {
        (exponent, eighths)
    };
    if exponent + 1 > 31 {
        LARGEST_MASK
    } else {
        (exponent + 1) << 3 | (eighths as u32 - 8)
    }
}

fn decode(code: u32) -> u64 {
    match code >> 3 {
        0 => u64::from(code),
        exponent => u64::from(code & 7 | 8) << (exponent - 1),
    }
}

#[cfg(all(test, not(ratelimit_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_rounded_up_by_an_eighth_at_most() {
        let mut last = 0;
        for cost in (0..4_000u64).chain((12..33).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let code = encode(cost);
            assert!(code >= last, "{cost}");
            last = code;
            let back = decode(code);
            assert!(back >= cost && back - cost <= cost / 8, "{cost} became {back}");
        }
        assert!(encode(u64::MAX) == LARGEST_MASK && decode(LARGEST_MASK) > 1 << 33);
    }

    #[test]
    fn units_and_largest_are_kept_apart_and_bounded() {
        let denied = Denied(AtomicU32::new(0));
        for cost in [1, 5, 3] {
            denied.count(cost, 100);
        }
        assert_eq!(denied.take(), (9, 5));
        assert_eq!(denied.take(), (0, 0));
        for _ in 0..10 {
            denied.count(4, 10);
        }
        assert_eq!(denied.take(), (12, 4), "no more is counted once it is enough");
        for _ in 0..1_000 {
            denied.count(u64::MAX, u64::MAX);
        }
        let (units, _) = denied.take();
        assert!((MOST..MOST + MOST_OF_ONE).contains(&units), "{units}");
        denied.count(1, 1);
        denied.clear();
        assert_eq!(denied.take(), (0, 0));
    }
}
