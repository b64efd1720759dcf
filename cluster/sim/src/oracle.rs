//! The judge: one exact bucket fed with what all nodes admitted, and one fed with what all were asked.
//!
//! Let `X` be the TAT of a bucket of rate `R` and burst `B` that is charged with every admitted unit, whether it fits or not:
//! `X <- max(X, t) + n/R`. Then `R (X - t)` is the largest of `admitted in (s, t] - R (t - s)` over all `s < t`. So the worst
//! of `R (X - t) - B` over a run **is** the worst over-admission over all windows, found in constant time and space.

use crate::clock::TrueNs;

const SECOND: i128 = 1_000_000_000;

/// One key's judge. Exact: times are counted in nanoseconds times the rate.
#[derive(Clone, Debug)]
pub struct Oracle {
    rate: i128,
    burst: i128,
    /// `R X` of the bucket of admitted units.
    admitted: i128,
    /// `R X` of the ideal bucket: it admits of what was offered whatever one limiter with one clock would.
    ideal: i128,
    worst: i128,
    at: TrueNs,
}

impl Oracle {
    /// A judge of a key that nobody has used yet. `rate` is in units per second.
    #[must_use]
    pub fn new(rate: u64, burst: u64) -> Self {
        Oracle {
            rate: i128::from(rate),
            burst: i128::from(burst),
            admitted: 0,
            ideal: 0,
            worst: i128::MIN,
            at: 0,
        }
    }

    /// Another limit is in force from `at`. Each bucket keeps the units that are spent. Under a smaller burst it keeps the
    /// share that is spent, as one limiter would: what was admitted rightly is no excess afterwards.
    pub fn set_limit(&mut self, rate: u64, burst: u64, at: TrueNs) {
        let (rate, burst) = (i128::from(rate), i128::from(burst));
        let now = i128::from(at);
        for word in [&mut self.admitted, &mut self.ideal] {
            let spent = (*word - self.rate * now).max(0);
            let spent = if burst < self.burst {
                spent * burst / self.burst
            } else {
                spent
            };
            *word = rate * now + spent;
        }
        self.rate = rate;
        self.burst = burst;
    }

    /// A node was asked for `cost` units at `at`, and `admitted` them or not. Returns whether one ideal limiter would have.
    pub fn observe(&mut self, at: TrueNs, cost: u64, admitted: bool) -> bool {
        debug_assert!(at >= self.at, "the simulated truth never runs backwards");
        self.at = at;
        let now = i128::from(at) * self.rate;
        let cost = i128::from(cost) * SECOND;
        if admitted {
            self.admitted = self.admitted.max(now) + cost;
            let over = self.admitted - now - self.burst * SECOND;
            self.worst = self.worst.max(over);
        }
        let next = self.ideal.max(now) + cost;
        let fits = next - now <= self.burst * SECOND;
        if fits {
            self.ideal = next;
        }
        fits
    }

    /// The worst over-admission so far in billionths of a unit; below zero if the burst was never exceeded, and `None` if
    /// nothing was admitted.
    #[must_use]
    pub fn excess_nano(&self) -> Option<i128> {
        (self.worst > i128::MIN).then_some(self.worst)
    }

    /// How far the admitted units are over the burst now, in billionths of a unit.
    #[must_use]
    pub fn over_nano(&self, at: TrueNs) -> i128 {
        (self.admitted - i128::from(at) * self.rate).max(0) - self.burst * SECOND
    }

    /// Whether the bucket of admitted units is full at `at`: nobody's use before matters any more.
    #[must_use]
    pub fn is_full(&self, at: TrueNs) -> bool {
        self.admitted <= i128::from(at) * self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The definition, in quadratic time.
    fn naive(events: &[(TrueNs, u64)], rate: u64, burst: u64) -> i128 {
        let mut worst = i128::MIN;
        for start in 0..events.len() {
            let mut sum = 0_i128;
            for &(at, cost) in &events[start..] {
                sum += i128::from(cost) * SECOND;
                worst =
                    worst.max(sum - i128::from(rate) * i128::from(at - events[start].0) - i128::from(burst) * SECOND);
            }
        }
        worst
    }

    #[test]
    fn it_is_the_worst_of_all_windows() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let (rate, burst) = (rng.between(1, 50), rng.between(1, 20));
            let mut oracle = Oracle::new(rate, burst);
            let mut at = 0;
            let mut events = Vec::new();
            for _ in 0..rng.between(1, 60) {
                at += rng.below(100_000_000);
                let cost = rng.between(1, 3);
                oracle.observe(at, cost, true);
                events.push((at, cost));
            }
            assert_eq!(oracle.excess_nano(), Some(naive(&events, rate, burst)), "seed {seed}");
        }
    }

    #[test]
    fn the_ideal_never_exceeds_and_is_told_apart() {
        let mut oracle = Oracle::new(10, 5);
        let ideal = (0..100).filter(|_| oracle.observe(0, 1, false)).count();
        assert_eq!(ideal, 5);
        assert_eq!(oracle.excess_nano(), None);
        for _ in 0..7 {
            oracle.observe(0, 1, true);
        }
        assert_eq!(oracle.excess_nano(), Some(2 * SECOND));
    }
}
