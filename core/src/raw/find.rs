//! Looking a key up: which lines it can be in, and which cell it is in.

use std::ops::ControlFlow;

use super::geometry::{MAX_TIERS, Tier};
use super::header::{TOP_FIRST_SHIFT, TOP_OLDER_FIRST, TOP_SECOND_SHIFT, TOP_TIERS};
use super::line::CELLS;
use super::table::Table;
use super::word::{State, Word};
use crate::hash::Fingerprint;
use crate::sync::{AtomicU64, Ordering, Rule, Site, order, rule};

/// A cell, by reference to its two words. `number` is the same for every thread and process.
#[derive(Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(crate) k: &'a AtomicU64,
    pub(crate) w: &'a AtomicU64,
    pub(crate) number: u64,
}

/// Where a client most likely is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    pub(super) key: u64,
    pub(super) lines: [u64; 2],
}

impl Place {
    #[inline(always)]
    pub(crate) fn first_line(&self) -> u64 {
        self.lines[0]
    }
}

pub(crate) enum Found<'a> {
    Live(Cell<'a>, Word),
    Tentative(Cell<'a>, Word),
    Nothing,
}

impl Table {
    /// The two lines in which a client most likely is, under the first limit. They are brought near, and so are those that
    /// come next; what else is needed, like the time, can be found out meanwhile.
    #[inline(always)]
    pub(crate) fn approach(&self, client: Fingerprint) -> Place {
        let key = client.bits();
        let top = self.top();
        let first = (top >> TOP_FIRST_SHIFT) as usize % MAX_TIERS;
        let lines = self.cells.tiers[first].candidates(key);
        for line in lines {
            self.memory.prefetch(line);
        }
        let second = (top >> TOP_SECOND_SHIFT) as usize % MAX_TIERS;
        if second != 0 {
            for line in self.cells.tiers[second - 1].candidates(key) {
                self.memory.prefetch(line);
            }
        }
        Place { key, lines }
    }

    /// The second line of a key's place.
    #[inline(always)]
    pub(super) fn second_line(&self, key: u64) -> u64 {
        let first = (self.top() >> TOP_FIRST_SHIFT) as usize % MAX_TIERS;
        self.cells.tiers[first].candidates(key)[1]
    }

    #[inline(always)]
    pub(super) fn top(&self) -> u64 {
        // Acquire: pairs with `TopOpen`. Who misses a tier that was just opened is caught by the fence in `settle`.
        self.header().hot.top.load(order(Site::TopLoad, Ordering::Acquire))
    }

    /// The tier that is looked in as number `rank`.
    #[inline(always)]
    pub(super) fn tier(&self, rank: usize, top: u64) -> &Tier {
        &self.cells.tiers[self.tier_index(rank, top)]
    }

    /// The newest first, since inserts go there; but the one before it while it still holds more.
    #[inline(always)]
    pub(super) fn tier_index(&self, rank: usize, top: u64) -> usize {
        if self.cells.presized {
            return rank % MAX_TIERS;
        }
        let open = (top & TOP_TIERS) as usize;
        let swapped = top & TOP_OLDER_FIRST != 0 && open > 1 && rank < 2;
        (open - 1).wrapping_sub(if swapped { 1 - rank } else { rank }) % MAX_TIERS
    }

    #[inline(always)]
    pub(super) fn find(&self, key: u64) -> Found<'_> {
        let top = self.top();
        match self.find_in_tier(self.tier(0, top), key) {
            Found::Nothing if top & TOP_TIERS > 1 => self.find_in_other_tiers(top, key),
            found => found,
        }
    }

    #[inline(never)]
    fn find_in_other_tiers(&self, top: u64, key: u64) -> Found<'_> {
        for rank in 1..(top & TOP_TIERS) as usize {
            match self.find_in_tier(self.tier(rank, top), key) {
                Found::Nothing => {}
                found => return found,
            }
        }
        Found::Nothing
    }

    #[inline(always)]
    fn find_in_tier(&self, tier: &Tier, key: u64) -> Found<'_> {
        let [one, two] = tier.candidates(key);
        match self.find_in_line(one, key) {
            Found::Nothing if one != two => self.find_in_line(two, key),
            found => found,
        }
    }

    #[inline(always)]
    fn find_in_line(&self, index: u64, key: u64) -> Found<'_> {
        let line = self.memory.line(index);
        let mut mask = line.matches(key, self.cells_per_line());
        // A key may stand in several cells: those that it left keep it until they are claimed.
        while mask != 0 {
            let i = mask.trailing_zeros() as usize % CELLS;
            mask &= mask - 1;
            let cell = Cell {
                k: &line.k[i],
                w: &line.w[i],
                number: index * CELLS as u64 + i as u64,
            };
            // Acquire: pairs with `Publish`. Who sees a cell in use sees the key that its user wrote, or a later one.
            let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
            let state = word.state();
            if matches!(state, State::Free | State::Claim) || !self.still(cell, key) {
                continue;
            }
            return if state == State::Live {
                Found::Live(cell, word)
            } else {
                Found::Tentative(cell, word)
            };
        }
        Found::Nothing
    }

    /// Whether a cell whose word was just read is still the key's: otherwise the word speaks of another key.
    #[inline(always)]
    pub(super) fn still(&self, cell: Cell<'_>, key: u64) -> bool {
        !rule(Rule::KeyAgain) || cell.k.load(order(Site::KeyAgain, Ordering::Acquire)) == key
    }

    /// Calls `visit` with every cell that the key may be in, in every open tier, until it breaks.
    pub(super) fn candidates<'a, B>(
        &'a self,
        key: u64,
        top: u64,
        mut visit: impl FnMut(Cell<'a>) -> ControlFlow<B>,
    ) -> Option<B> {
        for rank in 0..(top & TOP_TIERS) as usize {
            let [one, two] = self.tier(rank, top).candidates(key);
            for index in [Some(one), (one != two).then_some(two)].into_iter().flatten() {
                let line = self.memory.line(index);
                for i in 0..self.cells_per_line() {
                    let cell = Cell {
                        k: &line.k[i],
                        w: &line.w[i],
                        number: index * CELLS as u64 + i as u64,
                    };
                    if let ControlFlow::Break(found) = visit(cell) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }
}
