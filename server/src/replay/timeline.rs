//! Allowed and denied requests over time, in bins of a round width.

use super::time::SECOND_NS;

/// The most bins: about four pixels each in the drawing.
const MOST_BINS: u64 = 200;
const DAY_S: u64 = 86_400;
/// Widths that a reader can name.
const WIDTHS_S: [u64; 22] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    10_800,
    14_400,
    21_600,
    43_200,
    DAY_S,
    2 * DAY_S,
    7 * DAY_S,
    14 * DAY_S,
];

/// One bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bin {
    /// Requests allowed.
    pub allowed: u64,
    /// Requests denied.
    pub denied: u64,
}

/// Where the bins of a replay lie. Shared by all limits, so that their drawings line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// When the first bin begins, in seconds since the UNIX epoch; a multiple of the width.
    pub start_s: u64,
    /// The width of a bin in seconds.
    pub width_s: u64,
    /// How many bins there are; at least 1.
    pub bins: usize,
}

impl Axis {
    /// Bins over all times from `first_ns` to `last_ns`.
    #[must_use]
    pub fn new(first_ns: u64, last_ns: u64) -> Self {
        let (first_s, last_s) = (first_ns / SECOND_NS, last_ns.max(first_ns) / SECOND_NS);
        let width_s = round_step_s((last_s - first_s + 1).div_ceil(MOST_BINS));
        let start_s = first_s - first_s % width_s;
        Axis {
            start_s,
            width_s,
            bins: ((last_s - start_s) / width_s + 1) as usize,
        }
    }

    /// When the last bin ends.
    #[must_use]
    pub fn end_s(&self) -> u64 {
        self.start_s + self.width_s * self.bins as u64
    }

    /// The bin that a time falls into; times outside count in the nearest one.
    #[must_use]
    pub fn bin(&self, time_ns: u64) -> usize {
        let bin = (time_ns / SECOND_NS).saturating_sub(self.start_s) / self.width_s;
        (bin as usize).min(self.bins - 1)
    }
}

/// The smallest round length of time that is not below `least_s`.
#[must_use]
pub fn round_step_s(least_s: u64) -> u64 {
    WIDTHS_S
        .into_iter()
        .find(|width| *width >= least_s)
        .unwrap_or_else(|| least_s.next_multiple_of(30 * DAY_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_cover_the_range_and_are_few() {
        for length_s in [0, 1, 59, 3_600, 86_399, 4 * 86_400, 40_000_000, 900_000_000] {
            let first_s = 1_431_857_103;
            let axis = Axis::new(first_s * SECOND_NS, (first_s + length_s) * SECOND_NS);
            assert!(axis.bins as u64 <= MOST_BINS + 1, "{axis:?}");
            assert!(axis.start_s <= first_s && first_s + length_s < axis.end_s(), "{axis:?}");
            assert_eq!(axis.bin(first_s * SECOND_NS), 0);
            assert_eq!(axis.bin((first_s + length_s) * SECOND_NS), axis.bins - 1);
        }
    }

    #[test]
    fn a_day_has_bins_of_ten_minutes() {
        assert_eq!(
            Axis::new(0, (DAY_S - 1) * SECOND_NS),
            Axis {
                start_s: 0,
                width_s: 600,
                bins: 144
            }
        );
    }
}
