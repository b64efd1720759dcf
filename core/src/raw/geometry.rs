//! Where a key can be: tiers of lines, two lines of each.
//!
//! Nothing ever moves, so a table grows by opening tiers, each three times as large as the one before, in a range of
//! addresses that was reserved at the start. A table whose number of keys is known has one large tier and a small one for
//! the keys that find no cell in it.
//!
//! Why three: a tier opens when one unlucky key finds no cell, and soon after its pages are all in use. With a factor `f`
//! that makes `16 f / load` bytes per key, where the load at that moment is 0.6 to 0.85: up to 80 bytes with a factor of
//! three, up to 107 with four. A factor of two would be smaller still and have half as many tiers again to look in.

use super::line::CELLS;

/// The most tiers a table can have: a power of two, so that an index can be masked.
pub(crate) const MAX_TIERS: usize = 16;
/// Lines of the first tier of a table that grows: 64 KiB.
const FIRST_LINES: u64 = 1_024;
/// How much larger each tier is than the one before.
const FACTOR: u64 = 3;
/// Tiers of a table that grows on its own: 40 million cells, 615 MiB if all of them are used.
const GROWN_TIERS: usize = 9;
/// Lines that 32 bits of a fingerprint can address.
const MAX_LINES: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tier {
    /// Index of its first line among all lines of the table.
    pub(crate) first: u64,
    /// How many lines it has: 1 to 2^32.
    pub(crate) lines: u64,
}

impl Tier {
    /// The two lines of a key, as indices among all lines of the table; twice the same if there is but one.
    #[inline(always)]
    pub(crate) fn candidates(&self, key: u64) -> [u64; 2] {
        // Multiplying spreads 32 bits over any number of lines, without a division and without powers of two.
        let one = ((key & 0xffff_ffff) * self.lines) >> 32;
        let two = ((key >> 32) * self.lines) >> 32;
        let next = if one + 1 < self.lines { one + 1 } else { 0 };
        [self.first + one, self.first + if one == two { next } else { two }]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub(crate) tiers: [Tier; MAX_TIERS],
    pub(crate) count: usize,
    /// One tier for all keys and a small one behind it: probed in that order. Otherwise the newest tier comes first.
    pub(crate) presized: bool,
    /// Each cell has words beside its line: see [`super::side`].
    pub(crate) clustered: bool,
}

impl Geometry {
    /// The same for a clustered table.
    pub(crate) fn clustered(self) -> Self {
        Geometry {
            clustered: true,
            ..self
        }
    }

    /// For about `keys` live keys: twice as many cells, and 1/64 of that for those that find no cell.
    ///
    /// At half load about one key in 100,000 finds its two lines full. `None` if that is more than can be addressed.
    pub(crate) fn presized(keys: u64) -> Option<Self> {
        let main = keys.checked_mul(2)?.div_ceil(CELLS as u64).max(2);
        let overflow = (main / 64).max(2);
        (main <= MAX_LINES).then(|| Self::of(&[main, overflow], true))
    }

    /// Grows on its own.
    pub(crate) fn growing() -> Self {
        Self::series(FIRST_LINES, GROWN_TIERS)
    }

    /// For overrides: they are few, as a rule.
    pub(crate) fn records() -> Self {
        // Models have one line, since loom's atomics are made one by one.
        if cfg!(ratelimit_loom) {
            Self::series(1, 1)
        } else {
            Self::series(64, 9)
        }
    }

    /// For overrides of a table whose memory is all taken at the start: a sixteenth of the cells, and at least 10,240 of them.
    pub(crate) fn records_beside(cells: &Geometry) -> Self {
        let tiers = (5..=9)
            .rev()
            .find(|&tiers| Self::series(64, tiers).total_lines() <= cells.total_lines() / 16);
        Self::series(64, tiers.unwrap_or(4))
    }

    fn series(first: u64, tiers: usize) -> Self {
        let lines: Vec<u64> = (0..tiers as u32).map(|tier| first * FACTOR.pow(tier)).collect();
        Self::of(&lines, false)
    }

    pub(crate) fn of(lines: &[u64], presized: bool) -> Self {
        let mut tiers = [Tier::default(); MAX_TIERS];
        let mut first = 0;
        for (tier, &lines) in tiers.iter_mut().zip(lines) {
            *tier = Tier { first, lines };
            first += lines;
        }
        Geometry {
            tiers,
            count: lines.len().min(MAX_TIERS),
            presized,
            clustered: false,
        }
    }

    /// All lines of all tiers, open or not.
    pub(crate) fn total_lines(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.lines).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_two_lines_of_the_tier() {
        let geometry = Geometry::of(&[7, 1, 28], false);
        let mut key = 1u64;
        for _ in 0..10_000 {
            key = key
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            for tier in &geometry.tiers[..geometry.count] {
                let [one, two] = tier.candidates(key);
                assert!((tier.first..tier.first + tier.lines).contains(&one));
                assert!((tier.first..tier.first + tier.lines).contains(&two));
                assert!(one != two || tier.lines == 1);
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Geometry::presized(u64::MAX).is_none());
        assert!(Geometry::presized(1 << 40).is_none());
        assert_eq!(Geometry::presized(0).map(|g| g.total_lines()), Some(4));
    }

    #[test]
    fn a_presized_table_has_two_cells_a_key_and_a_spare_part() {
        let geometry = Geometry::presized(1_000_000).unwrap();
        assert_eq!(geometry.tiers[0].lines, 500_000);
        assert_eq!(geometry.tiers[1].lines, 7_812);
    }
}
