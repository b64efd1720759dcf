//! Deciding on a cell of a clustered table: as elsewhere, but what is charged is counted first, and a lease may be in force.

use ratelimit_model::{Gcra, Verdict, time};

use super::asked::{Asked, Ruling, was_set_back};
use super::find::{Cell, Found};
use super::header::DETOUR_CLUSTER;
use super::lease::InForce;
use super::line::CELLS;
use super::side::{Map, Reserved, Side, Use};
use super::table::Table;
use super::terms::Terms;
use super::word::{Axis, Charged, Word};
use crate::clock::Clock;
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, order, rule};

/// A cell as it was read: its use first, then its word between two looks at its key. So the word is of the tag's incarnation,
/// or of a later one on which counting under this tag fails.
#[derive(Clone, Copy)]
struct Seen<'a> {
    cell: Cell<'a>,
    used: Use,
    word: Word,
}

/// What a cell is decided by.
#[derive(Clone, Copy)]
struct By {
    gcra: Gcra,
    /// How far the TAT is ahead of the state that it stands for.
    shift: u64,
    /// Units that may be counted.
    most: u64,
    /// Units from which on the cell is reported at once.
    urgent: u64,
    lease: Option<InForce>,
}

impl By {
    fn rule(gcra: Gcra, most: u64, urgent: u64) -> Self {
        By {
            gcra,
            shift: 0,
            most,
            urgent,
            lease: None,
        }
    }

    /// `most`: what holds without a lease.
    fn lease(lease: InForce, most: u64) -> Self {
        By {
            gcra: lease.gcra,
            shift: lease.shift,
            most: if lease.is_standing() { most } else { u64::MAX },
            urgent: lease.urgent(),
            lease: Some(lease),
        }
    }

    fn state(&self, word: Word) -> u64 {
        word.tat().wrapping_sub(self.shift) & time::MASK
    }

    fn is_over(&self, now: u64) -> bool {
        self.lease.is_some_and(|lease| lease.is_over(now))
    }

    /// Whether the owner may not know yet that there is not enough.
    fn is_news(&self) -> bool {
        self.lease.is_none_or(|lease| lease.is_hard() || lease.is_standing())
    }
}

/// What is told of a decision: all of it, or only whether. The short way is made for each, since the whole of it has to go
/// through memory.
pub(crate) trait Answer: Sized {
    fn of(allowed: bool, gcra: &Gcra, tat: u64, asked: &Asked<'_>) -> Self;
}

impl Answer for Ruling {
    #[inline(always)]
    fn of(allowed: bool, gcra: &Gcra, tat: u64, asked: &Asked<'_>) -> Self {
        Ruling::new(allowed, *gcra, tat, asked)
    }
}

impl Answer for bool {
    #[inline(always)]
    fn of(allowed: bool, _: &Gcra, _: u64, _: &Asked<'_>) -> Self {
        allowed
    }
}

fn asked_at(now: u64, cost: u64, clock: &Clock) -> Asked<'_> {
    Asked {
        now,
        axis: Axis::Own,
        cost,
        clock,
        under: None,
    }
}

/// Half a burst gone on this node alone: its owner should know before the other half is.
#[inline]
fn list_if_half_gone(side: &Side<'_>, number: u64, gcra: &Gcra, word: Word, next: u64, now: u64) {
    let is_half_gone = |tat| time::ahead(tat, now) > gcra.tolerance_ns() / 2;
    if is_half_gone(next) && !is_half_gone(word.tat()) {
        side.mark(Map::Urgent, number);
    }
}

impl Table {
    /// As [`decide_at`](Table::decide_at), for a clustered table: the short way for a key whose cell is LIVE and under a lease,
    /// or was charged under the one limit. `None`: go the long way, which does the same in this case.
    ///
    /// Nothing here is handed on by reference, so that it stays in registers.
    /// `line`: the first of the key's [`Place`](super::find::Place).
    #[inline(always)]
    pub(crate) fn decide_counted_at<A: Answer>(
        &self,
        client: Fingerprint,
        line: u64,
        now: u64,
        cost: u64,
        clock: &Clock,
    ) -> Option<A> {
        let key = client.bits();
        let side = self.side()?;
        if self.detours() != DETOUR_CLUSTER || cost == 0 {
            return None;
        }
        // One attempt on the very use that was read needs none of these: without them the long way is what must fail.
        if !rule(Rule::CountBeforeCharge) || !rule(Rule::CountUnderTag) || !rule(Rule::VoidBeforeKey) {
            return None;
        }
        let cell = self.near(key, line)?;
        // Every access here has the order and the partner of its twin in `spend_counted`, and comes in the same order.
        let slot = &self.header().limits[0];
        let (generation, gcra) = slot.load();
        let used = side.load(cell.number);
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        if !used.is_of(word) || !self.still(cell, key) {
            return None;
        }
        if !word.is_under(Axis::Own, Charged::generation(generation)) || !slot.is(generation) {
            return self.spend_leased_at(cell.number, used, word, now, cost, clock);
        }
        let Verdict::Allow(next) = gcra.decide(word.tat(), now, cost) else {
            return None;
        };
        let field = used.field();
        let most = self.most_connected(&side, 0);
        if cost > most || field > most - cost {
            return None;
        }
        if side.count(cell.number, used, cost).is_err() {
            return None;
        }
        let is_charged = self.swap(Site::Charge, cell.w, word, word.with_tat(next));
        let urgent = self.urgent_units(&side, 0);
        let half = gcra.tolerance_ns() / 2;
        let is_news = field == 0 || field < urgent && field + cost >= urgent || time::ahead(next, now) > half;
        if is_news || !is_charged {
            self.after_count(cell.number, used, word, next, now, cost, is_charged);
        }
        is_charged.then(|| A::of(true, &gcra, next, &asked_at(now, cost, clock)))
    }

    /// A cell near by that seems to be the key's, for one who was handed the first line of its [`Place`](super::find::Place). The
    /// second is found again only if the key is not in the first.
    #[inline(always)]
    fn near(&self, key: u64, line: u64) -> Option<Cell<'_>> {
        let mut index = line;
        let mut mask = self.memory.line(index).matches(key, self.cells_per_line());
        if mask == 0 {
            index = self.second_line(key);
            mask = self.memory.line(index).matches(key, self.cells_per_line());
            if mask == 0 {
                return None;
            }
        }
        let line = self.memory.line(index);
        let i = mask.trailing_zeros() as usize % CELLS;
        Some(Cell {
            k: &line.k[i],
            w: &line.w[i],
            number: index * CELLS as u64 + i as u64,
        })
    }

    fn cell_at(&self, number: u64) -> Cell<'_> {
        let line = self.memory.line(number / CELLS as u64);
        let i = number as usize % CELLS;
        Cell {
            k: &line.k[i],
            w: &line.w[i],
            number,
        }
    }

    /// What the short way has to do seldom: list the cell, as `reserve` and `count_and_charge` do, or take back what was counted for a
    /// charge that was not made.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)]
    fn after_count(&self, number: u64, used: Use, word: Word, next: u64, now: u64, cost: u64, is_charged: bool) {
        let Some(side) = self.side() else { return };
        self.list_or_unreserve(&side, number, used, cost, self.urgent_units(&side, 0), is_charged);
        if is_charged {
            let gcra = self.header().limits[0].load().1;
            list_if_half_gone(&side, number, &gcra, word, next, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn list_or_unreserve(&self, side: &Side<'_>, number: u64, used: Use, cost: u64, urgent: u64, is_charged: bool) {
        side.list(number, used.field(), cost, urgent);
        if !is_charged {
            self.unreserve(side, self.cell_at(number), used.tag(), cost);
        }
    }

    /// The short way under a lease, for a request that it admits. A locked instruction waits for the stores before it, so here too
    /// nothing goes through memory.
    #[inline(never)]
    fn spend_leased_at<A: Answer>(
        &self,
        number: u64,
        used: Use,
        word: Word,
        now: u64,
        cost: u64,
        clock: &Clock,
    ) -> Option<A> {
        let side = self.side()?;
        let cell = self.cell_at(number);
        let lease = self.lease(&side, cell, word, word.lease_slot()?)?;
        let verdict = lease.gcra.decide(lease.state(word.tat()), now, cost);
        // What stands in place of a lease may have a bound on what is counted.
        let (Verdict::Allow(next), false) = (verdict, lease.is_standing() || lease.is_over(now)) else {
            return self.spend_leased_otherwise(number, used, word, now, cost, clock);
        };
        if side.count(number, used, cost).is_err() {
            return None;
        }
        let is_charged = self.swap(Site::Charge, cell.w, word, word.with_tat(time::add(next, lease.shift)));
        let (field, urgent) = (used.field(), lease.urgent());
        if !is_charged || field == 0 || field < urgent && field + cost >= urgent {
            self.list_or_unreserve(&side, number, used, cost, urgent, is_charged);
        }
        if !is_charged {
            return None;
        }
        // A thread that slept between its look at the clock and its charge must not admit what the owner has given to others
        // since. What it charged is lost, which is the safe side.
        let is_late = lease.is_hard() && lease.is_over(clock.now());
        Some(A::of(!is_late, &lease.gcra, next, &asked_at(now, cost, clock)))
    }

    /// The same for all others, denials above all.
    #[inline(never)]
    fn spend_leased_otherwise<A: Answer>(
        &self,
        number: u64,
        used: Use,
        word: Word,
        now: u64,
        cost: u64,
        clock: &Clock,
    ) -> Option<A> {
        let side = &self.side()?;
        let cell = self.cell_at(number);
        let lease = self.lease(side, cell, word, word.lease_slot()?)?;
        let by = By::lease(lease, self.most_connected(side, 0));
        let asked = &asked_at(now, cost, clock);
        let seen = &Seen { cell, used, word };
        match by.gcra.decide(by.state(word), now, cost) {
            Verdict::Allow(next) if !lease.is_over(now) => self.count_and_charge(side, seen, next, &by, asked),
            _ => self.deny_counted(side, seen, &by, asked),
        }
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
        let used = side.load(cell.number);
        // Acquire: as in `find_in_line`.
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        let key = self.key(client, limit);
        if !word.is_live() || !used.is_of(word) || !self.still(cell, key) || !self.in_force(terms, client, limit) {
            return None;
        }
        let most = self.most_unconfirmed(side, limit, key);
        let by = match word.lease_slot() {
            Some(slot) => By::lease(self.lease(side, cell, word, slot)?, most),
            None if !word.is_under(asked.axis, terms.charged) => {
                self.translate(cell, word, client, limit, terms, asked);
                return None;
            }
            None => By::rule(terms.gcra, most, self.urgent_units(side, limit)),
        };
        let seen = Seen { cell, used, word };
        let state = by.state(word);
        match by.gcra.decide(state, asked.now, asked.cost) {
            Verdict::Allow(_) if asked.cost == 0 => Some(Ruling::new(true, by.gcra, state, asked)),
            Verdict::Allow(next) if !by.is_over(asked.now) => self.count_and_charge(side, &seen, next, &by, asked),
            Verdict::Deny if by.lease.is_none() && !used.was_leased() && was_set_back(&by.gcra, state, asked) => {
                self.bring_back(cell, word, terms, asked);
                None
            }
            _ => self.deny_counted(side, &seen, &by, asked),
        }
    }

    /// Counts a request that fits, and charges it: `next` is the state that it leads to. `None`: look again.
    #[inline(always)]
    fn count_and_charge<A: Answer>(
        &self,
        side: &Side<'_>,
        seen: &Seen<'_>,
        next: u64,
        by: &By,
        asked: &Asked<'_>,
    ) -> Option<A> {
        let &Seen { cell, used, word } = seen;
        if rule(Rule::CountBeforeCharge) {
            match side.reserve(cell.number, used, asked.cost, by.most, by.urgent) {
                Reserved::Counted => {}
                Reserved::Moved => return None,
                Reserved::TooMany => return self.deny_counted(side, seen, by, asked),
            }
        }
        let charge = word.with_tat(time::add(next, by.shift));
        // AcqRel: as in `spend`; and it carries the use that was counted for it to whoever would claim the cell.
        if !self.swap(Site::Charge, cell.w, word, charge) {
            if rule(Rule::CountBeforeCharge) {
                self.unreserve(side, cell, used.tag(), asked.cost);
            }
            return None;
        }
        if !rule(Rule::CountBeforeCharge) {
            side.reserve(cell.number, used, asked.cost, u64::MAX, by.urgent);
        }
        let Some(lease) = by.lease else {
            list_if_half_gone(side, cell.number, &by.gcra, word, next, asked.now);
            return Some(A::of(true, &by.gcra, next, asked));
        };
        // A thread that slept between its look at the clock and its charge must not admit what the owner has given to others
        // since. What it charged is lost, which is the safe side.
        let is_late = lease.is_hard() && lease.is_over(asked.clock.now());
        Some(A::of(!is_late, &by.gcra, next, asked))
    }

    #[inline(never)]
    fn deny_counted<A: Answer>(&self, side: &Side<'_>, seen: &Seen<'_>, by: &By, asked: &Asked<'_>) -> Option<A> {
        let &Seen { cell, used, word } = seen;
        if let Some(denied) = side.denied.get(cell.number as usize) {
            // An owner takes no more for one denial.
            denied.count(asked.cost, by.gcra.burst().max(asked.cost).saturating_mul(4));
        }
        side.want(cell.number, used, by.is_news());
        // Acquire: a refund, a reset or a switch since the first reading would have allowed the request.
        let again = Word(cell.w.load(order(Site::DenialAgain, Ordering::Acquire)));
        (again == word || !rule(Rule::DenialAgain)).then(|| A::of(false, &by.gcra, by.state(word), asked))
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
    pub(super) fn look_leased(
        &self,
        cell: Cell<'_>,
        word: Word,
        key: u64,
        limit: usize,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        let side = self.side()?;
        let lease = self.lease(&side, cell, word, word.lease_slot()?)?;
        let state = lease.state(word.tat());
        let may = !lease.is_standing() || self.may_be_unconfirmed(&Found::Live(cell, word), key, limit, asked);
        let fits = lease.gcra.decide(state, asked.now, asked.cost) != Verdict::Deny && !lease.is_over(asked.now) && may;
        Some(Ruling::new(asked.cost == 0 || fits, lease.gcra, state, asked))
    }

    /// Whether a request that fits a key without a lease may be spent before its owner confirms it.
    pub(super) fn may_be_unconfirmed(&self, found: &Found<'_>, key: u64, limit: usize, asked: &Asked<'_>) -> bool {
        let Some(side) = self.side() else { return true };
        if asked.axis == Axis::Given {
            return !self.is_hard(limit);
        }
        let counted = match found {
            Found::Nothing => 0,
            Found::Live(cell, _) | Found::Tentative(cell, _) => side.load(cell.number).field(),
        };
        asked.cost <= self.most_unconfirmed(&side, limit, key).saturating_sub(counted)
    }

    /// Gives units back, and takes them out of what is to be reported as far as they are still there. Returns how many were
    /// reported before, so that the owner is to be told; under a hard lease none, since the units are the lease's again.
    /// `None`: look again.
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
    ) -> Option<u64> {
        let seen = side.load(cell.number);
        let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
        if !word.is_live() || !seen.is_of(word) || !self.still(cell, self.key(client, limit)) {
            return None;
        }
        let mut is_told = true;
        let tat = match word.lease_slot() {
            Some(slot) => {
                let lease = self.lease(side, cell, word, slot)?;
                is_told = !lease.is_hard();
                let state = lease.state(word.tat());
                if time::ahead(state, asked.now) == 0 {
                    return Some(0);
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
                return None;
            }
            None if time::ahead(word.tat(), asked.now) == 0 => return Some(0),
            None if seen.was_leased() && rule(Rule::LeasedStays) => word.tat(),
            None => to(&terms.gcra, word.tat()),
        };
        // AcqRel: as `Charge`.
        if word.tat() != tat && !self.swap(Site::Refund, cell.w, word, word.with_tat(tat)) {
            return None;
        }
        // After the word: what is spent again meanwhile is counted on top, so that never too little is reported.
        let forgotten = side.forget(cell.number, seen, units);
        // Relaxed: a counter orders nothing.
        self.events.refunded.fetch_add(forgotten, Ordering::Relaxed);
        Some(if is_told { units - forgotten } else { 0 })
    }

    /// What an insert does between its claim and the publication of the cell, `store_key` among it. Counts the request, or says
    /// that it is `wanted`: more than may be spent. Returns the tag.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn begin_counted(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        claim: Word,
        limit: usize,
        wanted: bool,
        asked: &Asked<'_>,
        store_key: impl Fn(),
    ) -> u64 {
        if !rule(Rule::VoidBeforeKey) {
            store_key();
        }
        let fresh = self.void(side, cell.number, claim);
        let count = || {
            if wanted {
                if let Some(denied) = side.denied.get(cell.number as usize) {
                    denied.count(asked.cost, u64::MAX);
                }
                side.want(cell.number, fresh, true);
            } else if asked.axis == Axis::Own && asked.cost > 0 {
                let urgent = self.urgent_units(side, limit);
                // Nobody else counts under this tag yet, so that it cannot be refused.
                let _ = side.reserve(cell.number, fresh, asked.cost, u64::MAX, urgent);
            }
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
