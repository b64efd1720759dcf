//! Hooks for models: threads that stop on the way, and a look at all cells once every thread is done.

use ratelimit_model::{Gcra, Verdict};

use super::header::{TOP_COLLECTIVE, TOP_TIERS};
use super::table::{Asked, Cell, Table};
use super::word::{State, Word};
use crate::hash::Fingerprint;
use crate::sync::Ordering;

/// Where an inserter stops for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The cell is claimed, `k` is not written.
    AfterClaim,
    /// `k` is written.
    AfterKey,
    /// The cell is TENTATIVE.
    AfterPublish,
}

impl Table {
    pub(crate) fn use_cells(&mut self, cells: usize) {
        self.cells_per_line = cells.clamp(1, super::line::CELLS);
    }

    /// The first steps of an insert, as `occupy` makes them.
    pub(crate) fn insert_and_stop(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>, stop: Stop) {
        let key = self.key(client, limit);
        let terms = self.terms(client, limit);
        let Some((cell, word, _)) = self.free_cell(key, self.top(), asked).0 else {
            return;
        };
        let claim = word.claim(0, true);
        if !self.swap(crate::sync::Site::Claim, cell.w, word, claim) || stop == Stop::AfterClaim {
            return;
        }
        cell.k.store(key, Ordering::Release);
        if stop == Stop::AfterKey {
            return;
        }
        if let Verdict::Allow(tat) = terms.gcra.decide(asked.now, asked.now, asked.cost) {
            let tentative = Word::tentative(asked.axis, terms.charged, claim, tat);
            self.swap(crate::sync::Site::Publish, cell.w, claim, tentative);
        }
    }

    /// The first steps of a change of limit, as `publish` makes them.
    pub(crate) fn set_limit_and_stop(&self, index: usize, gcra: &Gcra, words: usize) {
        let slot = &self.header().limits[index];
        let next = slot.generation.load(Ordering::Relaxed) + 1;
        let numbers = &slot.numbers[(next & 3) as usize];
        for (word, number) in numbers.words.iter().zip(gcra.to_words()).take(words) {
            word.store(number, Ordering::Release);
        }
    }

    fn all_cells(&self, mut visit: impl FnMut(Cell<'_>)) {
        for tier in &self.cells.tiers[..(self.top() & TOP_TIERS) as usize] {
            for index in tier.first..tier.first + tier.lines {
                let line = self.memory.line(index);
                for i in 0..self.cells_per_line {
                    visit(Cell {
                        k: &line.k[i],
                        w: &line.w[i],
                        number: 0,
                    });
                }
            }
        }
    }

    pub(crate) fn live_tats(&self, key: u64) -> Vec<u64> {
        let mut tats = Vec::new();
        self.all_cells(|cell| {
            let word = Word(cell.w.load(Ordering::Acquire));
            if word.state() == State::Live && cell.k.load(Ordering::Acquire) == key {
                tats.push(word.tat());
            }
        });
        tats
    }

    pub(crate) fn count_tentative(&self) -> usize {
        let mut count = 0;
        self.all_cells(|cell| count += usize::from(Word(cell.w.load(Ordering::Acquire)).state() == State::Tentative));
        count
    }

    pub(crate) fn is_collective(&self) -> bool {
        self.top() & TOP_COLLECTIVE != 0
    }
}
