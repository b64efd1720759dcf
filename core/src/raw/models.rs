//! Hooks for models: threads that stop on the way, and a look at all cells once every thread is done.

use ratelimit_model::{Gcra, Limit, Verdict, time};

use super::asked::Asked;
use super::drain::Syncer;
use super::find::Cell;
use super::header::{TOP_COLLECTIVE, TOP_TIERS};
use super::lease::InForce;
use super::lives::Lives;
use super::switch::Grant;
use super::table::Table;
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

impl Syncer<'_> {
    /// The first steps of a switch between two leases, as `give` makes them: stops for ever before the word is swapped.
    pub(crate) fn give_and_stop(&self, key: u64, grant: &Grant, state: impl Fn(Gcra, u64) -> u64) {
        let Some((cell, _, word)) = self.find(key) else { return };
        let Some(slot) = word.lease_slot() else { return };
        let before = self.side.lease(cell.number, slot);
        let state = state(before.gcra, before.state(word.tat()));
        let tat = time::later(time::add(word.tat(), 1), state);
        let lease = InForce::new(grant, false, time::ahead(tat, state), tat);
        let index = self.aside(cell.number).index();
        self.side.pair(index).slots[1 - slot].store(&lease);
    }

    /// The first steps of a pass: takes the bits and stops for ever.
    pub(crate) fn take_bits_and_stop(&self) {
        for word in self.side.map(super::side::Map::Dirty) {
            word.swap(0, Ordering::Acquire);
        }
    }
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
        // By a process that may die.
        let claim = word.claim(Lives::MORTAL, true);
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

    /// Claims a cell as a process that may die but does not: what it does when it wakes up is the rest of an insert.
    pub(crate) fn fall_asleep_in_claim(
        &self,
        client: Fingerprint,
        asked: &Asked<'_>,
    ) -> Option<impl FnOnce() + use<'_>> {
        let key = self.key(client, 0);
        let (cell, word, _) = self.free_cell(key, self.top(), asked).0?;
        let claim = word.claim(Lives::MORTAL, true);
        let now = asked.now;
        let charged = self.terms(client, 0).charged;
        let axis = asked.axis;
        self.swap(crate::sync::Site::Claim, cell.w, word, claim)
            .then_some(move || {
                cell.k.store(key, Ordering::Release);
                let tentative = Word::tentative(axis, charged, claim, now + 1);
                self.swap(crate::sync::Site::Publish, cell.w, claim, tentative);
            })
    }

    /// The first steps of a change of limit, as `publish` makes them, by a process that may die: it has the right to administer, and
    /// has said what it wants. Stops for ever after so many words of the numbers.
    pub(crate) fn set_limit_and_stop(&self, index: usize, limit: &Limit, words: usize, asked: &Asked<'_>) {
        let admin = self.administer_as(Lives::MORTAL, asked);
        admin.want(std::slice::from_ref(limit));
        // Stopped, not dropped: the right is not given back.
        std::mem::forget(admin);
        let Ok(gcra) = Gcra::new(limit) else { return };
        let slot = &self.header().limits[index];
        let next = slot.generation.load(Ordering::Relaxed) + 1;
        let numbers = &slot.numbers[(next & 3) as usize];
        for (word, number) in numbers.words.iter().zip(gcra.to_words()).take(words) {
            word.store(number, Ordering::Release);
        }
    }

    /// From here on the death of the process that may die is proven.
    pub(crate) fn mortal_dies(&self) {
        let Lives::Modelled(dead) = &self.lives;
        dead.store(true, Ordering::SeqCst);
    }

    pub(crate) fn count_claims(&self) -> usize {
        let mut count = 0;
        self.all_cells(|cell| count += usize::from(Word(cell.w.load(Ordering::Acquire)).state() == State::Claim));
        count
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

    /// The numbers of the first limit, and how a word says that it is charged under them.
    pub(crate) fn terms_of_limit(&self) -> (super::word::Charged, Gcra) {
        let (generation, gcra) = self.header().limits[0].load();
        (super::word::Charged::generation(generation), gcra)
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
