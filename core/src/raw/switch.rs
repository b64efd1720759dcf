//! Putting leases in force on cells that others decide on, and ending them.

use ratelimit_model::{Gcra, time};

use super::drain::Syncer;
use super::lease::{Aside, InForce, MOST_SHIFT};
use super::side::Use;
use super::table::{Cell, Found};
use super::word::{Charged, Word};
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, order, rule, spin};

/// A lease to put in force.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The part of the limit that it gives.
    pub gcra: Gcra,
    /// When it is over and denies; `None` if it goes on until it is ended.
    pub until: Option<u64>,
}

/// The state that a switch leads to.
#[derive(Clone, Copy, Debug)]
pub struct Switched {
    /// The state.
    pub tat: u64,
    /// Units that go back.
    pub returned: u64,
}

/// What became of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force; so many units go back.
    Done(u64),
    /// A lease was to end, but its TAT is still ahead of what it stands for: a slot now has the rule without a lease. To be
    /// ended again later.
    Standing(u64),
    /// The key is gone, or there is no room.
    Gone,
}

impl<'a> Syncer<'a> {
    /// Puts a lease in force on a key's cell. `to` gives the state under it, from the lease before and the state under that; it is
    /// asked again whenever the cell was charged meanwhile.
    ///
    /// What it returns goes back only if this says so: until then a decision may still spend it.
    pub(crate) fn give(
        &mut self,
        client: Fingerprint,
        limit: usize,
        grant: &Grant,
        mut to: impl FnMut(Option<(Gcra, u64)>) -> Switched,
    ) -> Outcome {
        let Some(free) = self.free.last().copied() else {
            return Outcome::Gone;
        };
        let key = self.table.key(client, limit);
        let mut first = None;
        loop {
            let Some((cell, now, word)) = self.find(key) else {
                return Outcome::Gone;
            };
            let slot = word.lease_slot();
            let before = slot.map(|slot| self.side.lease(cell.number, slot));
            let switched = to(before.map(|lease| (lease.gcra, lease.state(word.tat()))));
            let index = match slot {
                Some(_) => self.aside(cell.number).index(),
                None => {
                    let owed = &self.side.pair(free).slots[0].owed;
                    owed.store(self.aside(cell.number).units(now.tag()), Ordering::Relaxed);
                    free
                }
            };
            let Some(after) = self.enter(cell, word, switched.tat, slot, index, grant, now) else {
                return Outcome::Gone;
            };
            if after {
                if slot.is_none() {
                    self.free.pop();
                }
                // What an attempt that failed would have returned was spent meanwhile.
                let returned = if rule(Rule::ReturnAfterSwitch) {
                    switched.returned
                } else {
                    first.unwrap_or(switched.returned)
                };
                return Outcome::Done(returned);
            }
            first = first.or(Some(switched.returned));
        }
    }

    /// Ends the lease of a key. `to` gives the state by the rule without one (`without`), from the lease and the state under it.
    pub(crate) fn end(
        &mut self,
        client: Fingerprint,
        limit: usize,
        without: &Gcra,
        mut to: impl FnMut(Gcra, u64) -> Switched,
    ) -> Outcome {
        let key = self.table.key(client, limit);
        loop {
            let Some((cell, now, word)) = self.find(key) else {
                return Outcome::Gone;
            };
            let Some(slot) = word.lease_slot() else {
                return Outcome::Done(0);
            };
            let lease = self.side.lease(cell.number, slot);
            let switched = to(lease.gcra, lease.state(word.tat()));
            let index = self.aside(cell.number).index();
            if time::ahead(word.tat(), switched.tat) > 0 {
                // Without a lease there is no shift: the word has to wait until the TAT is what it stands for.
                let grant = Grant {
                    gcra: *without,
                    until: None,
                };
                match self.enter(cell, word, switched.tat, Some(slot), index, &grant, now) {
                    Some(true) => return Outcome::Standing(switched.returned),
                    Some(false) => continue,
                    None => return Outcome::Gone,
                }
            }
            if !self.set_leased(cell.number, now) {
                continue;
            }
            let owed = self.in_flight(cell.number, now);
            let charged = self.table.terms(client, limit).charged;
            let tat = time::later(time::add(word.tat(), 1), switched.tat);
            let plain = Word::live(word.axis(), charged, word, tat);
            if !rule(Rule::FreeAfterSwitch) {
                self.side.pair(index).slots[slot].store(&InForce::new(*without, 0, 0, None));
            }
            // AcqRel: as in `enter`.
            if self.table.swap(Site::Switch, cell.w, word, plain) {
                self.set_aside(cell.number, Aside::in_flight(now.tag(), owed));
                self.free.push(index & (self.side.leases.len() - 1));
                return Outcome::Done(switched.returned);
            }
        }
    }

    /// Writes a lease to the slot out of force and swaps it in. `None`: the TAT would be too far ahead of the state.
    #[allow(clippy::too_many_arguments)]
    fn enter(
        &self,
        cell: Cell<'a>,
        word: Word,
        state: u64,
        slot: Option<usize>,
        index: usize,
        grant: &Grant,
        now: Use,
    ) -> Option<bool> {
        let next = match slot {
            Some(slot) if rule(Rule::OtherSlot) => 1 - slot,
            Some(slot) => slot,
            None => 0,
        };
        let raised = if rule(Rule::SwitchRaises) {
            time::add(word.tat(), 1)
        } else {
            state
        };
        // At least a nanosecond up, and not below the state.
        let tat = time::later(raised, state);
        let shift = time::ahead(tat, state);
        if shift > MOST_SHIFT {
            return None;
        }
        let lease = InForce::new(grant.gcra, shift, tat, grant.until);
        let write = || {
            if slot.is_none() {
                self.set_aside(cell.number, Aside::pair(now.tag(), index, true));
            }
            self.side.pair(index).slots[next].store(&lease);
        };
        if rule(Rule::LeaseBeforeWord) {
            write();
        }
        let leased = Word::live(word.axis(), Charged::lease(next), word, tat);
        // AcqRel: Release pairs with the load of the word by deciders, who see the lease then. Acquire: the charges that are in
        // the word have read the lease before this and not after.
        let swapped = self.table.swap(Site::Switch, cell.w, word, leased);
        if !rule(Rule::LeaseBeforeWord) {
            write();
        }
        if !swapped && slot.is_none() {
            self.set_aside(
                cell.number,
                Aside::in_flight(now.tag(), self.side.pair(index).slots[0].owed.load(Ordering::Relaxed)),
            );
        }
        Some(swapped)
    }

    /// The key's LIVE cell, its use and its word.
    fn find(&self, key: u64) -> Option<(Cell<'a>, Use, Word)> {
        loop {
            let Found::Live(cell, _) = self.table.find(key) else {
                return None;
            };
            let now = self.side.load(cell.number);
            // Acquire: as in `spend_counted`.
            let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
            if word.is_live() && now.is_of(word) && self.table.still(cell, key) {
                return Some((cell, now, word));
            }
            // A claim is under way.
            spin();
        }
    }

    /// From here on the word of this key is not lowered. False if the cell is another's.
    fn set_leased(&self, number: u64, seen: Use) -> bool {
        let mut now = seen;
        while !now.was_leased() {
            if now.tag() != seen.tag() {
                return false;
            }
            match self.side.drain_swap(number, now, now.leased()) {
                Ok(()) => break,
                Err(other) => now = other,
            }
        }
        true
    }
}
