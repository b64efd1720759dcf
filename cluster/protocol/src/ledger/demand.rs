//! How much a holder asks for: an average over 100 ms that forgets exponentially.

/// The average's time constant.
pub(crate) const TAU_NS: u64 = 100_000_000;
const FRACTION_BITS: u32 = 16;
const ONE: u64 = 1 << FRACTION_BITS;
/// Reports further apart than this are not about one stretch of use.
const SILENCE_NS: u64 = 1_000_000_000;
/// The stretch that a first report is taken to be about.
const FIRST_NS: u64 = 50_000_000;

/// A holder that is not heard for so many intervals asks for less and less; before, its report is only late.
const PATIENCE: u64 = 4;

/// Units asked for, weighted by `exp(-age / 100 ms)`. Divided by 100 ms it is a rate.
///
/// Ages are by the sender's clock: reports that were held up and arrive together still tell of the time they were made in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// With 16 fraction bits.
    weight: u64,
    /// On the sender's clock.
    sent_ns: u64,
    /// On this node's.
    heard_ns: u64,
}

impl Demand {
    /// `sent_ns`: when the sender made the report, by its own clock.
    /// `away_ns`: it was not heard for so long before, so that the units may be of all that time; 0 if it was.
    pub(crate) fn add(&mut self, units: u64, sent_ns: u64, away_ns: u64, now_ns: u64) {
        let elapsed_ns = sent_ns.saturating_sub(self.sent_ns);
        let before = decay(self.weight, elapsed_ns);
        // The units were asked for evenly since the report before, so that a rate has one weight however far reports are
        // apart. After a silence, or a first time, nobody knows since when.
        let over_ns = match elapsed_ns {
            SILENCE_NS.. => away_ns.max(FIRST_NS),
            _ => elapsed_ns.max(1),
        };
        let forgotten = ONE - decay(ONE, over_ns);
        let gain = (u128::from(forgotten) * u128::from(TAU_NS) / u128::from(over_ns)).clamp(1, u128::from(ONE));
        let units = u128::from(units.min(u64::MAX >> (FRACTION_BITS + 1)));
        self.weight = before.saturating_add(u64::try_from(units * gain).unwrap_or(u64::MAX));
        self.sent_ns = self.sent_ns.max(sent_ns);
        self.heard_ns = now_ns;
    }

    /// The weight that the last reports say. It does not fade between two reports: holders report at different moments, and
    /// the one that has just reported must not seem to ask for more than one that is about to.
    pub(crate) fn settled(&self, interval_ns: u64, now_ns: u64) -> u64 {
        let age_ns = now_ns.saturating_sub(self.heard_ns);
        decay(self.weight, age_ns.saturating_sub(PATIENCE * interval_ns))
    }

    /// When the last report was made, on the sender's clock.
    pub(crate) fn sent_ns(&self) -> u64 {
        self.sent_ns
    }

    /// The weight of the last report, however long ago.
    pub(crate) fn last(&self) -> u64 {
        self.weight
    }

    /// Its sender says that it asks for nothing any more.
    pub(crate) fn over(&mut self) {
        self.weight = 0;
    }

    /// Units asked for in `ns` at the rate of the last report, with 32 fraction bits.
    pub(crate) fn spent_in(&self, ns: u64) -> u128 {
        // Not forgotten meanwhile: a report that is late says nothing about its sender.
        (u128::from(self.weight) * u128::from(ns.min(1 << 40)) / u128::from(TAU_NS)) << (32 - FRACTION_BITS)
    }

    /// A rate of one unit in `interval_ns`, as a weight.
    pub(crate) fn of_rate(interval_q40: u128) -> u64 {
        let weight = (u128::from(TAU_NS) << (40 + FRACTION_BITS)) / interval_q40.max(1);
        u64::try_from(weight).unwrap_or(u64::MAX)
    }
}

/// `weight * exp(-age / TAU)` in integers, within half a percent: powers of two by shifting, the rest by a parabola.
///
/// Integers because every node must compute the same on every machine when a run is repeated.
fn decay(weight: u64, age_ns: u64) -> u64 {
    // The half-life: TAU * ln 2.
    const HALF_NS: u64 = 69_314_718;
    let halvings = age_ns / HALF_NS;
    if halvings >= 64 {
        return 0;
    }
    let fraction = ((age_ns % HALF_NS) << FRACTION_BITS) / HALF_NS;
    // 2^-f is within 0.003 of 1 - 0.6725 f + 0.1725 f^2 for f in [0, 1], exact at both ends.
    let factor = (1 << FRACTION_BITS) - ((44_073 * fraction) >> 16) + ((((11_305 * fraction) >> 16) * fraction) >> 16);
    (((u128::from(weight) * u128::from(factor)) >> FRACTION_BITS) >> halvings) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_like_the_exponential() {
        for (age_ms, expected) in [
            (0, 1.0),
            (20, 0.8187),
            (50, 0.6065),
            (69, 0.5016),
            (100, 0.3679),
            (300, 0.0498),
        ] {
            let got = decay(1 << 30, age_ms * 1_000_000) as f64 / f64::from(1 << 30);
            assert!((got - expected).abs() < 0.005, "{age_ms} ms: {got}, not {expected}");
        }
        assert_eq!(decay(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn a_steady_rate_has_the_weight_of_that_rate() {
        let mut demand = Demand::default();
        for step in 0..100 {
            // They arrive in heaps of five, which changes nothing.
            demand.add(50, step * 50_000_000, 0, step / 5 * 250_000_000);
        }
        let weight = demand.settled(50_000_000, 99 / 5 * 250_000_000 + 25_000_000);
        let expected = Demand::of_rate(1_000_000 << 40);
        assert!(weight.abs_diff(expected) < expected / 20, "{weight} against {expected}");
        assert!(
            demand.settled(50_000_000, 20_000_000_000) < expected / 1000,
            "silence is no demand"
        );
    }

    #[test]
    fn absurd_numbers_saturate() {
        let mut demand = Demand::default();
        for _ in 0..10 {
            demand.add(u64::MAX, 5, 0, 5);
        }
        assert!(demand.settled(1, 5) > 0);
        assert_eq!(Demand::of_rate(0), u64::MAX);
    }
}
