//! What one holder can have spent on one key: a clamp on what a broken or hostile peer may charge.
//!
//! A bucket of two bursts that refills a tenth faster than the limit. It is not cut while nothing is reported, so that a
//! node which was cut off for a minute may report that minute.

use ratelimit_model::{Gcra, LEVEL_BITS, WHOLE_SHARE};

/// One that was not heard for this long tells of that time in several reports: those that were on their way, and the rest.
const SILENCE_NS: u64 = 500_000_000;
/// It has told all of it after so long.
const TOLD_NS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(crate) struct Plausible {
    /// Units with fraction bits.
    level: u128,
    at_ns: u64,
    /// Until then what was saved up in a silence is not cut to two bursts.
    saved_until_ns: u64,
}

impl Plausible {
    /// A holder that was not heard for `gap_ns`.
    pub(crate) fn new(gcra: &Gcra, gap_ns: u64, now_ns: u64) -> Self {
        Plausible {
            level: Self::most(gcra),
            at_ns: now_ns.saturating_sub(gap_ns),
            saved_until_ns: 0,
        }
    }

    fn most(gcra: &Gcra) -> u128 {
        u128::from(gcra.burst().saturating_mul(2)) << LEVEL_BITS
    }

    /// How many of `used` units are believed.
    pub(crate) fn admit(&mut self, used: u64, gcra: &Gcra, now_ns: u64) -> u64 {
        let elapsed = now_ns.saturating_sub(self.at_ns);
        self.at_ns = self.at_ns.max(now_ns);
        let level = self
            .level
            .saturating_add(gcra.refilled(elapsed.saturating_add(elapsed / 10), WHOLE_SHARE));
        let allowed = used.min(u64::try_from(level >> LEVEL_BITS).unwrap_or(u64::MAX));
        if elapsed >= SILENCE_NS {
            self.saved_until_ns = now_ns.saturating_add(TOLD_NS);
        }
        let left = level - (u128::from(allowed) << LEVEL_BITS);
        self.level = if now_ns < self.saved_until_ns {
            left
        } else {
            left.min(Self::most(gcra))
        };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use ratelimit_model::Limit;

    fn gcra() -> Gcra {
        Gcra::new(&Limit::new(1000, Duration::from_secs(1)).expect("a limit").burst(100)).expect("numbers")
    }

    #[test]
    fn honest_reports_pass_also_after_a_silence() {
        let mut plausible = Plausible::new(&gcra(), 0, 0);
        assert_eq!(plausible.admit(200, &gcra(), 0), 200);
        for step in 1..1000 {
            assert_eq!(plausible.admit(50, &gcra(), step * 50_000_000), 50, "the full rate");
        }
        let minute = 60_000_000_000;
        assert_eq!(
            plausible.admit(60_000, &gcra(), 50_000_000_000 + minute),
            60_000,
            "a minute's use at once"
        );
        let mut back = Plausible::new(&gcra(), minute, minute);
        assert_eq!(back.admit(25, &gcra(), minute), 25, "what was on its way comes first");
        assert_eq!(back.admit(60_000, &gcra(), minute), 60_000, "and then the rest");
        assert_eq!(
            Plausible::new(&gcra(), minute, minute).admit(60_000, &gcra(), minute),
            60_000,
            "a key heard of late"
        );
    }

    #[test]
    fn absurd_reports_are_cut() {
        let mut plausible = Plausible::new(&gcra(), 0, 0);
        assert_eq!(plausible.admit(1 << 60, &gcra(), 0), 200);
        assert_eq!(plausible.admit(1 << 60, &gcra(), 1_000_000_000), 1100);
        assert_eq!(plausible.admit(u64::MAX, &gcra(), 1_000_000_000), 0);
        let forever = Plausible::new(&gcra(), u64::MAX, u64::MAX).admit(u64::MAX, &gcra(), u64::MAX);
        assert!(forever < 1 << 50, "{forever}");
    }
}
