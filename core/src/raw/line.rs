//! A line of cells: 64 bytes, so that one miss of the cache brings everything that deciding on its keys needs.

use crate::sync::{AtomicU64, Ordering, Site, order};

/// Cells in a line.
#[cfg(not(ratelimit_loom))]
pub(crate) const CELLS: usize = 4;
/// Models have few cells, since every access multiplies the schedules to explore.
#[cfg(ratelimit_loom)]
pub(crate) const CELLS: usize = 3;

/// Four keys, then their four words.
///
/// `k` holds a fingerprint and is written only by the thread that holds the cell's CLAIM; every transition of a cell is
/// one compare-and-swap of `w` (see [`super::word`]).
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) k: [AtomicU64; CELLS],
    pub(crate) w: [AtomicU64; CELLS],
}

impl Line {
    /// One bit for each of the first `cells` cells whose `k` is `key`. Without a branch: which cell matches is random, and
    /// a wrong guess costs more than four comparisons.
    #[inline(always)]
    pub(crate) fn matches(&self, key: u64, cells: usize) -> u32 {
        let mut mask = 0;
        for i in 0..cells {
            // Acquire: pairs with the Release store of `k` by the claimer. Who sees the new key sees at least its CLAIM
            // in `w` and the floor that was raised before.
            let k = self.k[i].load(order(Site::KeyScan, Ordering::Acquire));
            mask |= u32::from(k == key) << i;
        }
        mask
    }
}
