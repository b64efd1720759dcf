//! Deciding on a cell of a clustered table: as elsewhere, but what is charged is counted first, and a lease may be in force.

use ratelimit_model::{Gcra, Verdict, time};

use super::header::DETOUR_CLUSTER;
use super::lease::InForce;
use super::line::CELLS;
use super::side::{Reserved, Side};
use super::table::{Asked, Cell, Place, Ruling, Table, was_set_back};
use super::terms::Terms;
use super::word::{Axis, Charged, Word};
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, order, rule};

impl Table {
    /// As [`decide_at`](Table::decide_at), for a clustered table: the short way for a key without a lease whose cell is LIVE and was
    /// charged under the one limit. `None`: go the long way, which does the same in this case.
    #[inline(always)]
    pub(crate) fn decide_counted_at(&self, place: &Place, now: u64, cost: u64) -> Option<Ruling> {
        let side = self.side()?;
        if self.detours() != DETOUR_CLUSTER {
            return None;
        }
        let slot = &self.header().limits[0];
        let (generation, gcra) = slot.load();
        let charged = Charged::generation(generation);
        for index in place.lines {
            let line = self.memory.line(index);
            let mask = line.matches(place.key, self.cells_per_line());
            if mask == 0 {
                continue;
            }
            // Every access here has the order and the partner of its twin in `spend_counted`, and comes in the same order.
            let i = mask.trailing_zeros() as usize % CELLS;
            let cell = Cell {
                k: &line.k[i],
                w: &line.w[i],
                number: index * CELLS as u64 + i as u64,
            };
            let seen = side.load(cell.number);
            let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
            let is_usable = word.is_under(Axis::Own, charged) && seen.is_of(word);
            let counts_first = rule(Rule::CountBeforeCharge);
            if !is_usable || !self.still(cell, place.key) || !slot.is(generation) || cost == 0 || !counts_first {
                return None;
            }
            let Verdict::Allow(tat) = gcra.decide(word.tat(), now, cost) else {
                return None;
            };
            if side.reserve(cell.number, 0, seen, cost, self.most_unconfirmed(&side, 0)) != Reserved::Counted {
                return None;
            }
            if !self.swap(Site::Charge, cell.w, word, word.with_tat(tat)) {
                self.unreserve(&side, cell, seen.tag(), cost);
                return None;
            }
            return Some(Ruling {
                allowed: true,
                gcra,
                tat,
                now,
                cost,
            });
        }
        None
    }

    /// As [`spend`](Table::spend), for a clustered table. `None`: look again.
    pub(super) fn spend_counted(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        // First the use, then the word between two looks at the key: so the word is of the tag's incarnation, or of a later one on
        // which counting under this tag fails.
        let seen = side.load(cell.number);
        // Acquire: as in `find_in_line`.
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        let key = self.key(client, limit);
        if !word.is_live() || !seen.is_of(word) || !self.still(cell, key) || !self.in_force(terms, client, limit) {
            return None;
        }
        let lease = match word.lease_slot() {
            Some(slot) => Some(self.lease(side, cell, word, slot)?),
            None if !word.is_under(asked.axis, terms.charged) => {
                self.translate(cell, word, client, limit, terms, asked);
                return None;
            }
            None => None,
        };
        let (gcra, shift) = lease.map_or((terms.gcra, 0), |lease| (lease.gcra, lease.shift));
        let state = word.tat().wrapping_sub(shift) & time::MASK;
        let over = lease.is_some_and(|lease| lease.is_over(asked.now));
        let allowed = match gcra.decide(state, asked.now, asked.cost) {
            Verdict::Allow(_) if asked.cost == 0 => return Some(Ruling::new(true, gcra, state, asked)),
            Verdict::Allow(next) if !over => Some(next),
            Verdict::Deny if was_set_back(&gcra, state, asked) && lease.is_none() && !seen.was_leased() => {
                self.bring_back(cell, word, terms, asked);
                return None;
            }
            _ => None,
        };
        let most = match lease {
            Some(_) => u64::MAX,
            None => self.most_unconfirmed(side, limit),
        };
        let denied = |table: &Table| table.deny_counted(side, cell, seen, word, gcra, state, asked);
        let Some(next) = allowed else {
            return denied(self);
        };
        if rule(Rule::CountBeforeCharge) {
            match side.reserve(cell.number, limit, seen, asked.cost, most) {
                Reserved::Counted => {}
                Reserved::Moved => return None,
                Reserved::TooMany => return denied(self),
            }
        }
        let charge = word.with_tat(time::add(next, shift));
        // AcqRel: as in `spend`; and it carries the use that was counted for it to whoever would claim the cell.
        if !self.swap(Site::Charge, cell.w, word, charge) {
            if rule(Rule::CountBeforeCharge) {
                self.unreserve(side, cell, seen.tag(), asked.cost);
            }
            return None;
        }
        if !rule(Rule::CountBeforeCharge) {
            side.reserve(cell.number, limit, seen, asked.cost, u64::MAX);
        }
        // A thread that slept between its look at the clock and its charge must not admit what the owner has given to others
        // since. What it charged is lost, which is the safe side.
        if lease.is_some_and(|lease| lease.is_hard() && lease.is_over(asked.clock.now())) {
            return Some(Ruling::new(false, gcra, next, asked));
        }
        Some(Ruling::new(true, gcra, next, asked))
    }

    #[allow(clippy::too_many_arguments)]
    fn deny_counted(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        seen: super::side::Use,
        word: Word,
        gcra: Gcra,
        state: u64,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        side.want(cell.number, seen);
        // Acquire: a refund, a reset or a switch since the first reading would have allowed the request.
        let again = Word(cell.w.load(order(Site::DenialAgain, Ordering::Acquire)));
        (again == word || !rule(Rule::DenialAgain)).then(|| Ruling::new(false, gcra, state, asked))
    }

    /// The lease that a word names. `None`: it is not in force any more, and what was read may be of two leases.
    pub(super) fn lease(&self, side: &Side<'_>, cell: Cell<'_>, word: Word, slot: usize) -> Option<InForce> {
        let lease = side.lease(cell.number, slot);
        // Acquire: pairs with `Switch`, which comes before whatever is written over this slot.
        let again = Word(cell.w.load(order(Site::LeaseAgain, Ordering::Acquire)));
        // The same word, and not only the same slot: that may have been written over and put in force again.
        (again == word || !rule(Rule::LeaseAgain)).then_some(lease)
    }

    /// What a decision on a cell under a lease would say. `None`: look again.
    pub(super) fn look_leased(&self, cell: Cell<'_>, word: Word, asked: &Asked<'_>) -> Option<Ruling> {
        let side = self.side()?;
        let lease = self.lease(&side, cell, word, word.lease_slot()?)?;
        let state = lease.state(word.tat());
        let fits = lease.gcra.decide(state, asked.now, asked.cost) != Verdict::Deny && !lease.is_over(asked.now);
        Some(Ruling::new(asked.cost == 0 || fits, lease.gcra, state, asked))
    }

    /// Gives units back, and takes them out of what is to be reported as far as they are still there. False: look again.
    ///
    /// Under a lease the word is never lowered below the TAT that the lease began with, and after one not at all: a word
    /// that returned would let a decision by an old lease land.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn lower_counted(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
        units: u64,
        to: &impl Fn(&Gcra, u64) -> u64,
    ) -> bool {
        let seen = side.load(cell.number);
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        if !word.is_live() || !seen.is_of(word) || !self.still(cell, self.key(client, limit)) {
            return false;
        }
        let tat = match word.lease_slot() {
            Some(slot) => {
                let Some(lease) = self.lease(side, cell, word, slot) else {
                    return false;
                };
                let state = lease.state(word.tat());
                if time::ahead(state, asked.now) == 0 {
                    return true;
                }
                let lowered = time::add(to(&lease.gcra, state), lease.shift);
                if rule(Rule::RefundStopsAtStart) {
                    time::later(lowered, lease.start)
                } else {
                    lowered
                }
            }
            None if !word.is_under(asked.axis, terms.charged) => {
                self.translate(cell, word, client, limit, terms, asked);
                return false;
            }
            None if time::ahead(word.tat(), asked.now) == 0 => return true,
            None if seen.was_leased() && rule(Rule::LeasedStays) => word.tat(),
            None => to(&terms.gcra, word.tat()),
        };
        // AcqRel: as `Charge`.
        if word.tat() != tat && !self.swap(Site::Refund, cell.w, word, word.with_tat(tat)) {
            return false;
        }
        // After the word: what is spent again meanwhile is counted on top, so that never too little is reported.
        let forgotten = side.forget(cell.number, seen, units);
        // Relaxed: a counter orders nothing.
        self.events.refunded.fetch_add(forgotten, Ordering::Relaxed);
        true
    }

    /// What an insert does between its claim and the publication of the cell, `store_key` among it. Counts the request, or says
    /// that it is wanted if it is more than may be spent. Returns the tag.
    pub(super) fn begin_counted(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        claim: Word,
        limit: usize,
        units: u64,
        store_key: impl Fn(),
    ) -> u64 {
        if !rule(Rule::VoidBeforeKey) {
            store_key();
        }
        let fresh = self.void(side, cell.number, claim);
        let count = || match units {
            0 => side.want(cell.number, fresh),
            // Nobody else counts under this tag yet, so that it cannot be refused.
            _ => drop(side.reserve(cell.number, limit, fresh, units, u64::MAX)),
        };
        if !rule(Rule::KeyBeforeCount) {
            count();
        }
        if rule(Rule::VoidBeforeKey) {
            store_key();
        }
        if rule(Rule::KeyBeforeCount) {
            // After the key: who drains it then has read the key that it is for.
            count();
        }
        fresh.tag()
    }
}
