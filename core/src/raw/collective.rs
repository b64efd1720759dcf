//! Keys that find no cell: they share one, and are jointly held to the limit of one client.
//!
//! A live cell is never evicted, since that is how one with many ids would get his own limit reset elsewhere. So at the
//! bound the error is denial, never admission. Only keys that find no cell charge a collective cell; one that finds a cell
//! again takes the debt of its collective cell along, so the collective cell drains as soon as there is room. The fences here
//! and in `settle` keep a thread that charges the collective cell and one that gives the key its own cell from overlooking
//! each other.

use std::ops::ControlFlow;

use ratelimit_model::{Verdict, time};

use super::asked::{Asked, Events, Overflow, Ruling, was_set_back};
use super::find::Cell;
use super::header::{COLLECTIVE, TIME_SET, TOP_COLLECTIVE};
use super::table::Table;
use super::terms::Terms;
use super::word::{Charged, State, Word};
use crate::hash::Fingerprint;
use crate::sync::{AtomicU64, Ordering, Rule, Site, fence, order, rule};

impl Table {
    fn collective_cell(&self, key: u64, limit: usize, asked: &Asked<'_>) -> &AtomicU64 {
        // Bits from the middle: the low ends of both halves choose lines.
        &self.header().collective[asked.axis as usize][limit][(key >> 20) as usize % COLLECTIVE]
    }

    /// The TAT of the key's collective cell, if it has debt.
    pub(super) fn collective_tat(&self, key: u64, limit: usize, asked: &Asked<'_>) -> Option<u64> {
        self.last_collective_tat(key, limit, asked)
            .filter(|&tat| time::ahead(tat, asked.now) > 0)
    }

    /// The TAT of the key's collective cell, if it was ever charged: for one who judges the insert of another, at whose time
    /// there may still have been debt.
    pub(super) fn last_collective_tat(&self, key: u64, limit: usize, asked: &Asked<'_>) -> Option<u64> {
        if self.top() & TOP_COLLECTIVE == 0 {
            return None;
        }
        // Acquire: pairs with `CollectiveCharge`; what it must not miss is guaranteed by the fence before it.
        let word = self
            .collective_cell(key, limit, asked)
            .load(order(Site::CollectiveLoad, Ordering::Acquire));
        (word & TIME_SET != 0).then_some(word & time::MASK)
    }

    /// The state by which a key without a cell would be decided.
    pub(super) fn tat_without_cell(&self, key: u64, limit: usize, terms: &Terms, asked: &Asked<'_>) -> u64 {
        if self.has_room(key, asked) {
            return self.not_before_collective(key, limit, terms, asked, asked.now);
        }
        match self.overflow {
            Overflow::Share if terms.charged != Charged::OVERRIDE => {
                self.collective_tat(key, limit, asked).unwrap_or(asked.now)
            }
            Overflow::Share | Overflow::Deny => terms.gcra.full(asked.now),
            Overflow::Allow => asked.now,
        }
    }

    /// Decides for a key without a cell. `None`: look again.
    #[cold]
    pub(super) fn collective(
        &self,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        // What is charged here is not reported.
        let bounded = self.is_hard(limit);
        let allowed = match self.overflow {
            _ if bounded => asked.cost == 0,
            Overflow::Share if asked.cost > terms.gcra.burst() => false,
            // What one limit says of a shared cell another takes for a clock that was set back: see `bring_back`.
            Overflow::Share if terms.charged == Charged::OVERRIDE => asked.cost == 0,
            Overflow::Share => return self.charge_collective(client, limit, terms, asked),
            Overflow::Deny => asked.cost == 0,
            Overflow::Allow => asked.cost <= terms.gcra.burst(),
        };
        Events::count(&self.events.overflowed);
        // What is shown to a client that is turned away here is a spent burst.
        let tat = if allowed { asked.now } else { terms.gcra.full(asked.now) };
        Some(Ruling::new(allowed, terms.gcra, tat, asked))
    }

    fn charge_collective(&self, client: Fingerprint, limit: usize, terms: &Terms, asked: &Asked<'_>) -> Option<Ruling> {
        let key = self.key(client, limit);
        let top = &self.header().hot.top;
        if self.top() & TOP_COLLECTIVE == 0 {
            // AcqRel: set before the charge, so that who misses the charge after his fence has not missed the flag alone.
            top.fetch_or(TOP_COLLECTIVE, order(Site::CollectiveFlag, Ordering::AcqRel));
        }
        // A key that has lost its cell to a later time does not start afresh before that time here either.
        let now = self.not_before_floor(terms, asked);
        let cell = self.collective_cell(key, limit, asked);
        let mut word = cell.load(order(Site::CollectiveLoad, Ordering::Acquire));
        let charged = loop {
            let tat = if word & TIME_SET == 0 { now } else { word & time::MASK };
            let (next, fits) = match terms.gcra.decide(tat, now, asked.cost) {
                Verdict::Allow(_) if asked.cost == 0 => return Some(Ruling::new(true, terms.gcra, tat, asked)),
                Verdict::Allow(next) => (next, true),
                // A clock was set back: see `bring_back`.
                Verdict::Deny if terms.gcra.is_stepped(tat, now) && was_set_back(&terms.gcra, tat, asked) => {
                    (terms.gcra.full(now), false)
                }
                Verdict::Deny => {
                    Events::count(&self.events.overflowed);
                    return Some(Ruling::new(false, terms.gcra, tat, asked));
                }
            };
            // AcqRel: pairs with `CollectiveLoad`.
            match cell.compare_exchange(
                word,
                next | TIME_SET,
                order(Site::CollectiveCharge, Ordering::AcqRel),
                order(Site::CollectiveLoad, Ordering::Acquire),
            ) {
                Ok(_) if fits => break next,
                Ok(_) => word = next | TIME_SET,
                Err(other) => word = other,
            }
        };
        Events::count(&self.events.overflowed);

        // SeqCst: pairs with the fence in `settle`. Either we see the cell that another thread is giving to this key, or he
        // sees our charge and does not confirm it.
        fence(order(Site::CollectiveFence, Ordering::SeqCst));
        let allowed = Ruling::new(true, terms.gcra, charged, asked);
        if !rule(Rule::CollectiveSecondLook) {
            return Some(allowed);
        }
        // One look at each cell is enough: what is published in it later has its fence after ours.
        if let Some(own) = self.candidates(key, self.top(), |cell| self.second_look(cell, key)) {
            loop {
                // A change of limit meanwhile does not matter: both cells are asked under some limit that was in force.
                let terms = self.terms_of(client, limit, asked);
                let word = Word(own.w.load(order(Site::WordLoad, Ordering::Acquire)));
                if !word.is_live() || !self.still(own, key) {
                    // It has expired and was taken.
                    break;
                }
                if let Some(ruling) = self.spend(own, word, client, limit, &terms, asked) {
                    return Some(ruling);
                }
            }
        }
        // As in `settle`: the key may have had a cell and lost it since the floor was read. The charge then was of too early a
        // time; it stays.
        let in_time = self.not_before_floor(terms, asked) == now || !rule(Rule::FloorAgain);
        in_time.then_some(allowed)
    }

    /// Looks for the own cell of a key whose collective cell was charged. One that is TENTATIVE is given up: who settles it
    /// may not know of the charge.
    fn second_look<'a>(&self, cell: Cell<'a>, key: u64) -> ControlFlow<Cell<'a>> {
        if cell.k.load(order(Site::KeyScan, Ordering::Acquire)) != key {
            return ControlFlow::Continue(());
        }
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        let state = word.state();
        if matches!(state, State::Free | State::Claim) || !self.still(cell, key) {
            return ControlFlow::Continue(());
        }
        if state == State::Live {
            return ControlFlow::Break(cell);
        }
        if self.swap(Site::Kill, cell.w, word, word.killed()) {
            return ControlFlow::Continue(());
        }
        // Another was faster, and may have confirmed it.
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        if word.is_live() && self.still(cell, key) {
            ControlFlow::Break(cell)
        } else {
            ControlFlow::Continue(())
        }
    }
}
