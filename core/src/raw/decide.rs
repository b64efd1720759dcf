//! Deciding on a cell.

use ratelimit_model::{Verdict, time};

use super::asked::{Asked, Events, Ruling, was_set_back};
use super::find::{Cell, Found, Place};
use super::line::CELLS;
use super::table::Table;
use super::terms::Terms;
use super::word::{Axis, Charged, Word};
use crate::hash::Fingerprint;
use crate::sync::{AtomicU64, Ordering, Rule, Site, order, rule};

impl Table {
    /// The short way for the common case: one limit for all, and a client whose cell is LIVE, where most are, and was charged
    /// under that limit. `None`: go the long way, which decides everything and does the same in this case.
    ///
    /// Cost: see [`decide`](Table::decide).
    #[inline(always)]
    pub(crate) fn decide_at(&self, place: &Place, now: u64, axis: Axis, cost: u64) -> Option<Ruling> {
        let header = self.header();
        if self.detours() != 0 {
            return None;
        }
        let slot = &header.limits[0];
        let (generation, gcra) = slot.load();
        let charged = Charged::generation(generation);
        for index in place.lines {
            let line = self.memory.line(index);
            let mask = line.matches(place.key, self.cells_per_line());
            if mask == 0 {
                continue;
            }
            // Every access here has the order and the partner of its twin in `find_in_line` and `spend`.
            let i = mask.trailing_zeros() as usize % CELLS;
            let word = Word(line.w[i].load(order(Site::WordLoad, Ordering::Acquire)));
            let cell = Cell {
                k: &line.k[i],
                w: &line.w[i],
                number: 0,
            };
            if !word.is_under(axis, charged) || !self.still(cell, place.key) || !slot.is(generation) {
                return None;
            }
            let ruling = |allowed, tat| {
                Some(Ruling {
                    allowed,
                    gcra,
                    tat,
                    now,
                    cost,
                })
            };
            return match gcra.decide(word.tat(), now, cost) {
                Verdict::Allow(_) if cost == 0 => None,
                Verdict::Allow(tat) => {
                    let charge = word.with_tat(tat);
                    if self.swap(Site::Charge, cell.w, word, charge) {
                        ruling(true, tat)
                    } else {
                        None
                    }
                }
                Verdict::Deny if gcra.is_stepped(word.tat(), now) => None,
                Verdict::Deny => {
                    let again = Word(line.w[i].load(order(Site::DenialAgain, Ordering::Acquire)));
                    if again == word { ruling(false, word.tat()) } else { None }
                }
            };
        }
        None
    }

    /// Decides one request of `client` under limit `limit` and charges it if it is allowed.
    ///
    /// Cost: no lock, guard or allocation. A denial writes nothing; an admission is one compare-and-swap.
    #[inline(never)]
    pub(crate) fn decide(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Ruling {
        let key = self.key(client, limit);
        loop {
            let terms = self.terms_of(client, limit, asked);
            if let Some(ruling) = match self.find(key) {
                Found::Live(cell, word) => self.spend(cell, word, client, limit, &terms, asked),
                found => self.decide_without_cell(found, client, limit, &terms, asked),
            } {
                return ruling;
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn decide_without_cell(
        &self,
        found: Found<'_>,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        match found {
            Found::Live(..) => None,
            Found::Tentative(cell, word) => {
                self.help(cell, word, client, limit, terms, asked);
                None
            }
            Found::Nothing => self.insert(client, limit, terms, asked),
        }
    }

    /// Decides on the client's own cell. `None`: something changed meanwhile, look again.
    pub(super) fn spend(
        &self,
        cell: Cell<'_>,
        word: Word,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        if let Some(side) = self.counts(asked.axis) {
            return self.spend_counted(&side, cell, client, limit, terms, asked);
        }
        if !self.in_force(terms, client, limit) {
            return None;
        }
        if !word.is_under(asked.axis, terms.charged) {
            self.translate(cell, word, client, limit, terms, asked);
            return None;
        }
        let tat = word.tat();
        match terms.gcra.decide(tat, asked.now, asked.cost) {
            Verdict::Allow(_) if asked.cost == 0 => Some(Ruling::new(true, terms.gcra, tat, asked)),
            Verdict::Allow(tat) => {
                let charged = word.with_tat(tat);
                // AcqRel: pairs with every other transition of this cell. It succeeds only on the word that was decided on,
                // and a word names one state of one key (see `word`), so what was read of `k` and of the limit holds still.
                self.swap(Site::Charge, cell.w, word, charged)
                    .then(|| Ruling::new(true, terms.gcra, tat, asked))
            }
            Verdict::Deny => {
                if was_set_back(&terms.gcra, tat, asked) {
                    self.bring_back(cell, word, terms, asked);
                    return None;
                }
                // Acquire: a refund or a reset since the first reading would have allowed the request.
                let again = Word(cell.w.load(order(Site::DenialAgain, Ordering::Acquire)));
                (again == word || !rule(Rule::DenialAgain)).then(|| Ruling::new(false, terms.gcra, tat, asked))
            }
        }
    }

    /// One transition of a cell.
    #[inline(always)]
    pub(super) fn swap(&self, site: Site, w: &AtomicU64, from: Word, to: Word) -> bool {
        w.compare_exchange(from.0, to.0, order(site, Ordering::AcqRel), Ordering::Relaxed)
            .is_ok()
    }

    /// A state that lies further ahead than any decision puts it: a clock was set back. The client is left with a spent
    /// burst, so that it is not locked out for longer than its own window.
    #[cold]
    #[inline(never)]
    pub(super) fn bring_back(&self, cell: Cell<'_>, word: Word, terms: &Terms, asked: &Asked<'_>) {
        let full = Word::live(asked.axis, terms.charged, word, terms.gcra.full(asked.now));
        if self.swap(Site::Translate, cell.w, word, full) {
            Events::count(&self.events.stepped);
        }
    }

    /// Brings a cell that was charged under other terms, or on the other axis, under these. It keeps the share of the burst
    /// that is spent; what it has left to wait is carried from one axis to the other.
    #[cold]
    #[inline(never)]
    pub(super) fn translate(
        &self,
        cell: Cell<'_>,
        word: Word,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) {
        let Some(mut tat) = self.translated(word, client, limit, terms, asked) else {
            return;
        };
        if let Some(side) = self.side()
            && side.load(cell.number).was_leased()
            && rule(Rule::LeasedStays)
        {
            // Words of a key that was under a lease do not return.
            tat = time::later(tat, word.tat());
        }
        if asked.axis == Axis::Given {
            self.raise_given_now(asked.now);
        }
        if self.swap(
            Site::Translate,
            cell.w,
            word,
            Word::live(asked.axis, terms.charged, word, tat),
        ) {
            Events::count(&self.events.translated);
        }
    }

    /// The TAT that a word stands for under these terms. `None`: the terms are out of date.
    pub(super) fn translated(
        &self,
        word: Word,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<u64> {
        let mut tat = word.tat();
        if word.axis() != asked.axis {
            let backlog = time::ahead(tat, self.now_on(word.axis(), asked, tat));
            tat = time::add(asked.now, backlog);
        }
        if word.charged() == terms.charged {
            return Some(tat);
        }
        let old = match word.charged().as_generation() {
            _ if !rule(Rule::GenerationInWord) => None,
            Some(generation) => self.header().limits[limit].earlier(terms.generation, generation),
            None => match self.record(client) {
                now if now != terms.record => return None,
                record => record.any_limit().map(|index| self.header().override_numbers(index)),
            },
        };
        // The numbers of an earlier generation stay as they are while the current one is in force.
        if !self.in_force(terms, client, limit) {
            return None;
        }
        Some(match old {
            Some(old) => terms.gcra.convert(tat, asked.now, &old),
            // Too many changes ago: the time left to wait is kept, up to the whole burst.
            None => time::add(asked.now, time::ahead(tat, asked.now).min(terms.gcra.tolerance_ns())),
        })
    }

    /// The time on an axis, for one who comes with a time on the other. `tat` if nobody knows: then nothing is expired.
    pub(super) fn now_on(&self, axis: Axis, asked: &Asked<'_>, tat: u64) -> u64 {
        if axis == asked.axis {
            return asked.now;
        }
        match axis {
            Axis::Own => asked.clock.now(),
            Axis::Given => {
                let given = self.header().cold.given_now.load(Ordering::Acquire);
                if given & super::header::TIME_SET == 0 {
                    tat.wrapping_sub(1) & time::MASK
                } else {
                    given & time::MASK
                }
            }
        }
    }

    pub(crate) fn raise_given_now(&self, now: u64) {
        super::insert::raise(&self.header().cold.given_now, now);
    }
}
