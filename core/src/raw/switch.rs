//! Putting leases in force on cells that others decide on, and ending them.

use ratelimit_model::{Gcra, time};

use super::drain::Syncer;
use super::find::{Cell, Found};
use super::lease::{Aside, InForce, MOST_SHIFT};
use super::side::Use;
use super::word::{Charged, Word};
use crate::sync::{Ordering, Rule, Site, order, rule, spin};

/// A lease to put in force.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The part of the limit that it gives.
    pub gcra: Gcra,
    /// When it is over and denies; `None` if it goes on until it is ended.
    pub until: Option<u64>,
    /// Units that are not reported from which on the key is reported at once.
    pub urgent: u64,
}

impl Grant {
    /// A lease of these numbers that goes on until it is ended, and is never urgent.
    #[must_use]
    pub fn of(gcra: Gcra) -> Self {
        Grant {
            gcra,
            until: None,
            urgent: u64::MAX,
        }
    }
}

/// What a switch starts from.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The lease in force and the state under it, if there is one.
    pub lease: Option<(Gcra, u64)>,
    /// Units that are counted and were not taken out yet, or were not confirmed.
    pub unreported: u64,
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
    pub(crate) fn give(&mut self, key: u64, grant: &Grant, mut to: impl FnMut(&Before) -> Switched) -> Outcome {
        let mut first = None;
        loop {
            let Some((cell, now, word)) = self.find(key) else {
                return Outcome::Gone;
            };
            // After the word: what is charged in it is counted here.
            let counted = self.counted(cell.number, now);
            let slot = word.lease_slot();
            let lease = slot.map(|slot| self.side.lease(cell.number, slot));
            // A rule that stands in for none is no lease.
            let before = Before {
                lease: lease
                    .filter(|lease| !lease.is_standing())
                    .map(|lease| (lease.gcra, lease.state(word.tat()))),
                unreported: counted,
            };
            let switched = to(&before);
            let index = match slot {
                Some(_) => self.aside(cell.number).index(),
                None => {
                    let Some(free) = self.free.last().copied() else {
                        return Outcome::Gone;
                    };
                    let in_flight = self.aside(cell.number).units(now.tag());
                    let [first, second] = &self.side.pair(free).slots;
                    first.owed.store(in_flight, Ordering::Relaxed);
                    second.owed.store(counted.saturating_sub(in_flight), Ordering::Relaxed);
                    free
                }
            };
            let Some(after) = self.enter(cell, word, switched.tat, slot, index, grant, false, now) else {
                return Outcome::Gone;
            };
            if after {
                if slot.is_none() {
                    self.free.pop();
                } else if lease.is_some_and(|lease| lease.is_standing()) {
                    let without = counted.saturating_sub(self.in_flight(cell.number, now));
                    let owed = &self.side.pair(index).slots[1].owed;
                    owed.store(without, Ordering::Relaxed);
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
    /// A rule that stands already is ended when its state is what the word says; `to` is not asked again.
    ///
    /// Under a limit with an overdraft, what was spent under the lease and is not drained must not pass for overdraft, which is
    /// charged once more: it is handed to `left`.
    ///
    /// `charged`: the generation of the limit that `without` is of. `now`: only matters if a rule that stands has changed.
    pub(crate) fn end(
        &mut self,
        key: u64,
        without: &Gcra,
        charged: Charged,
        now_ns: u64,
        mut to: impl FnMut(Gcra, u64) -> Switched,
        left: &mut dyn FnMut(u64),
    ) -> Outcome {
        let overdraft = self.table.is_overdraft(&self.side, self.limit_of(key));
        loop {
            let Some((cell, now, word)) = self.find(key) else {
                return Outcome::Gone;
            };
            // After the word: as in `give`.
            let counted = self.counted(cell.number, now);
            let Some(slot) = word.lease_slot() else {
                return Outcome::Done(0);
            };
            let lease = self.side.lease(cell.number, slot);
            let state = lease.state(word.tat());
            let same = lease.is_standing() && lease.gcra == *without;
            let switched = if lease.is_standing() {
                // The rule without a lease may have changed since. One with another burst alone leaves the time to wait.
                let alike = lease.gcra.interval_q40() == without.interval_q40() || lease.gcra.tolerance_ns() == 0;
                let tat = if alike {
                    state
                } else {
                    without.convert(state, now_ns, &lease.gcra)
                };
                // What is in the past is all the same.
                let tat = time::later(tat, now_ns & time::MASK);
                Switched { tat, returned: 0 }
            } else {
                to(lease.gcra, state)
            };
            let index = self.aside(cell.number).index();
            let without_lease = self.side.pair(index).slots[1].owed.load(Ordering::Relaxed);
            let leased = if overdraft && !lease.is_standing() {
                let others = self.in_flight(cell.number, now).saturating_add(without_lease);
                counted.saturating_sub(others)
            } else {
                0
            };
            if time::ahead(word.tat(), switched.tat) > 0 {
                if same {
                    return Outcome::Standing(0);
                }
                // Without a lease there is no shift: the word has to wait until the TAT is what it stands for.
                let rule = Grant::of(*without);
                match self.enter(cell, word, switched.tat, Some(slot), index, &rule, true, now) {
                    Some(true) => {
                        self.take_leased(cell.number, now, leased, left);
                        return Outcome::Standing(switched.returned);
                    }
                    Some(false) => continue,
                    None => return Outcome::Gone,
                }
            }
            if !self.set_leased(cell.number, now) {
                continue;
            }
            let owed = self.in_flight(cell.number, now);
            let tat = time::later(time::add(word.tat(), 1), switched.tat);
            let plain = Word::live(word.axis(), charged, word, tat);
            if !rule(Rule::FreeAfterSwitch) {
                self.side.pair(index).slots[slot].store(&InForce::new(&Grant::of(*without), false, 0, 0));
            }
            // AcqRel: as in `enter`.
            if self.table.swap(Site::Switch, cell.w, word, plain) {
                self.set_aside(cell.number, Aside::in_flight(now.tag(), owed));
                self.free.push(index & (self.side.leases.len() - 1));
                self.take_leased(cell.number, now, leased, left);
                return Outcome::Done(switched.returned);
            }
        }
    }

    /// Writes a lease, or the rule without one if that is `standing` in for it, to the slot out of force and swaps it in. `None`: the TAT would be too far ahead of the state.
    #[allow(clippy::too_many_arguments)]
    fn enter(
        &self,
        cell: Cell<'a>,
        word: Word,
        state: u64,
        slot: Option<usize>,
        index: usize,
        grant: &Grant,
        standing: bool,
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
        let lease = InForce::new(grant, standing, shift, tat);
        let write = || {
            if slot.is_none() {
                self.set_aside(cell.number, Aside::pair(now.tag(), index));
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
        let aside = self.aside(cell.number);
        if swapped && aside.is_standing() != standing {
            self.set_aside(cell.number, aside.standing(standing));
        }
        Some(swapped)
    }

    /// Units that are counted, for one who has read the word since he read `before`.
    fn counted(&self, number: u64, before: Use) -> u64 {
        if rule(Rule::SplitAfterWord) {
            self.side.load(number).field()
        } else {
            before.field()
        }
    }

    /// Takes units out of a cell that were spent under a lease which has just ended.
    fn take_leased(&self, number: u64, seen: Use, units: u64, left: &mut dyn FnMut(u64)) {
        let mut now = seen;
        while now.tag() == seen.tag() && units > 0 {
            let taken = units.min(now.field());
            match self.side.drain_swap(number, now, now.with_field(now.field() - taken)) {
                Ok(()) if taken > 0 => return left(taken),
                Ok(()) => return,
                Err(other) => now = other,
            }
        }
    }

    /// The key's LIVE cell, its use and its word.
    pub(super) fn find(&self, key: u64) -> Option<(Cell<'a>, Use, Word)> {
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
