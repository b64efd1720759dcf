//! What the judged key was admitted, over time.

use std::collections::VecDeque;

use crate::clock::TrueNs;
use crate::network::{MS, SECOND};

/// The width of a bin.
pub const BIN: TrueNs = 100 * MS;
const BINS_IN_SECOND: usize = 10;

/// Counts per 100 ms, and the busiest second.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Units that one ideal limiter would have admitted.
    pub ideal: Vec<u32>,
    /// Units that the nodes admitted.
    pub admitted: Vec<u32>,
    /// Units asked for.
    pub offered: Vec<u32>,
    /// Times that figures of the steady state leave out: the first second, partitions and their healing, jumps.
    unsteady: Vec<(TrueNs, TrueNs)>,
    recent: VecDeque<(TrueNs, u64)>,
    recent_units: u64,
    busiest: u64,
}

/// What the bins say in sum. Shares are of the rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steady {
    /// Admitted units over those of the ideal limiter; 1 if that admitted none.
    pub used: f64,
    /// The least, the mean and the most admitted in 100 ms.
    pub bins: (f64, f64, f64),
    /// The largest shortfall of one second behind the ideal limiter.
    pub worst_second: f64,
}

impl Meter {
    /// A meter that leaves these times out of the steady state.
    #[must_use]
    pub fn new(unsteady: Vec<(TrueNs, TrueNs)>) -> Self {
        Meter {
            unsteady,
            ..Meter::default()
        }
    }

    fn is_steady(&self, from: TrueNs, to: TrueNs) -> bool {
        self.unsteady.iter().all(|(start, end)| to <= *start || from >= *end)
    }

    /// One request.
    pub fn note(&mut self, at: TrueNs, cost: u64, admitted: bool, ideal: bool) {
        let bin = (at / BIN) as usize;
        if bin >= self.offered.len() {
            for bins in [&mut self.offered, &mut self.admitted, &mut self.ideal] {
                bins.resize(bin + 1, 0);
            }
        }
        let units = cost as u32;
        self.offered[bin] += units;
        self.admitted[bin] += if admitted { units } else { 0 };
        self.ideal[bin] += if ideal { units } else { 0 };
        if admitted {
            self.recent.push_back((at, cost));
            self.recent_units += cost;
            while let Some(&(first, units)) = self.recent.front()
                && first + SECOND <= at
            {
                self.recent.pop_front();
                self.recent_units -= units;
            }
            if self.recent_units > self.busiest && at >= SECOND && self.is_steady(at - SECOND, at) {
                self.busiest = self.recent_units;
            }
        }
    }

    /// The most units admitted in any second, wherever it begins, of the steady state.
    #[must_use]
    pub fn busiest_second(&self) -> u64 {
        self.busiest
    }

    /// The steady state up to `end`.
    #[must_use]
    pub fn steady(&self, rate: u64, end: TrueNs) -> Steady {
        let per_bin = rate as f64 / BINS_IN_SECOND as f64;
        let bins = ((end / BIN) as usize).min(self.offered.len());
        let steady = |bin: usize| self.is_steady(bin as TrueNs * BIN, (bin as TrueNs + 1) * BIN);
        let (mut admitted, mut ideal, mut count) = (0_u64, 0_u64, 0_u64);
        let (mut least, mut most) = (u32::MAX, 0);
        for bin in (0..bins).filter(|bin| steady(*bin)) {
            admitted += u64::from(self.admitted[bin]);
            ideal += u64::from(self.ideal[bin]);
            least = least.min(self.admitted[bin]);
            most = most.max(self.admitted[bin]);
            count += 1;
        }
        let mut worst_second = 0.0_f64;
        for start in (0..bins.saturating_sub(BINS_IN_SECOND - 1)).step_by(BINS_IN_SECOND) {
            let span = start..start + BINS_IN_SECOND;
            if span.clone().all(steady) {
                let sum = |bins: &[u32]| f64::from(bins[span.clone()].iter().sum::<u32>());
                worst_second = worst_second.max((sum(&self.ideal) - sum(&self.admitted)) / rate as f64);
            }
        }
        let mean = if count == 0 {
            0.0
        } else {
            admitted as f64 / count as f64 / per_bin
        };
        let least = if count == 0 { 0 } else { least };
        Steady {
            used: if ideal == 0 {
                1.0
            } else {
                admitted as f64 / ideal as f64
            },
            bins: (f64::from(least) / per_bin, mean, f64::from(most) / per_bin),
            worst_second,
        }
    }

    /// How long after `from` every further second until `end` has within 5 % of what the ideal limiter admits, or of the
    /// rate if that is more. `None` if that is not so until the last full second.
    #[must_use]
    pub fn settled_after(&self, from: TrueNs, end: TrueNs, rate: u64) -> Option<TrueNs> {
        let bins = ((end / BIN) as usize).min(self.offered.len());
        let first = (from / BIN) as usize;
        let mut settled = None;
        for start in (first..=bins.checked_sub(BINS_IN_SECOND)?).rev() {
            let sum = |bins: &[u32]| f64::from(bins[start..start + BINS_IN_SECOND].iter().sum::<u32>());
            let (admitted, ideal) = (sum(&self.admitted), sum(&self.ideal));
            if (admitted - ideal).abs() > 0.05 * ideal.max(rate as f64) {
                break;
            }
            settled = Some((start - first) as TrueNs * BIN);
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_begins_anywhere_and_is_steady() {
        let mut meter = Meter::new(vec![(0, SECOND)]);
        for at in [500, 600, 1_900, 2_050, 2_500, 2_899, 2_900] {
            meter.note(at * MS, 1, true, true);
        }
        // From 1.9 s without to 2.9 s with; the four of 1.9 to 2.899 are as many.
        assert_eq!(meter.busiest_second(), 4);
    }

    #[test]
    fn settling_and_shortfall() {
        let mut meter = Meter::new(Vec::new());
        for at in 0..400 {
            // Ten per 100 ms asked and fitting; nothing admitted in the second second.
            let at = at * 10 * MS;
            meter.note(at, 1, !(SECOND..2 * SECOND).contains(&at), true);
        }
        let steady = meter.steady(100, 4 * SECOND);
        assert!(
            (steady.used - 0.75).abs() < 1e-9 && (steady.worst_second - 1.0).abs() < 1e-9,
            "{steady:?}"
        );
        assert_eq!(steady.bins, (0.0, 0.75, 1.0));
        assert_eq!(meter.settled_after(SECOND, 4 * SECOND, 100), Some(SECOND));
        assert_eq!(meter.settled_after(SECOND, 2 * SECOND, 100), None);
    }
}
