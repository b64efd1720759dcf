//! Which tiers are open, and in which order they are looked in.

use super::header::{TOP_COLLECTIVE, TOP_FIRST_SHIFT, TOP_OLDER_FIRST, TOP_SECOND_SHIFT, TOP_TIERS};
use super::table::Table;
use crate::sync::{Ordering, Site, order};

impl Table {
    /// Opens the next tier if no other thread has since `top` was read. False if there is none.
    pub(super) fn open_tier(&self, top: u64) -> bool {
        let open = (top & TOP_TIERS) as usize;
        if open >= self.cells.count {
            return false;
        }
        self.change_top(top, open as u64 + 1, !self.cells.presized);
        true
    }

    /// Puts another number of tiers or another order of looking in force. A failure means that another thread was faster.
    pub(super) fn change_top(&self, top: u64, open: u64, older_first: bool) {
        let changed = self.top_word(open, older_first) | (top & TOP_COLLECTIVE);
        // AcqRel: pairs with `TopLoad` after the fence of a settler.
        let success = order(Site::TopOpen, Ordering::AcqRel);
        let _ = self
            .header()
            .hot
            .top
            .compare_exchange(top, changed, success, Ordering::Relaxed);
    }

    /// The word `top` without the flag of the collective cells.
    pub(super) fn top_word(&self, open: u64, older_first: bool) -> u64 {
        let (first, second) = match open {
            // Behind a tier that was made large enough there is hardly anything.
            _ if self.cells.presized => (0, 0),
            1 => (0, 0),
            // The second carries plus 1.
            _ if older_first => (open - 2, open),
            _ => (open - 1, open - 1),
        };
        let flag = if older_first && !self.cells.presized {
            TOP_OLDER_FIRST
        } else {
            0
        };
        open | flag | (first << TOP_FIRST_SHIFT) | (second << TOP_SECOND_SHIFT)
    }
}
