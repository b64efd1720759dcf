//! Looking a key up and deciding on its cell.

use std::ops::ControlFlow;
// Counts are no part of the protocol: they stay out of models.
use std::sync::atomic::AtomicU64 as Counter;

use ratelimit_model::{Gcra, Limit, Verdict, time};

use super::geometry::{Geometry, MAX_TIERS, Tier};
use super::header::{
    DETOUR_CLUSTER, DETOUR_LIMITS, DETOUR_RECORDS, Header, TOP_FIRST_SHIFT, TOP_OLDER_FIRST, TOP_SECOND_SHIFT,
    TOP_TIERS,
};
use super::line::CELLS;
use super::lives::Lives;
use super::memory::Memory;
use super::terms::{Record, Terms};
use super::word::{Axis, Charged, State, Word};
use crate::clock::Clock;
use crate::hash::Fingerprint;
use crate::sync::{AtomicU64, Ordering, Rule, Site, order, rule};

/// What is done for a client that finds no cell because the table is full of clients with debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It shares a cell with others like it: jointly they are held to the limit of one. The error is denial, never
    /// admission. A client with a limit of its own is denied.
    #[default]
    Share,
    /// It is denied.
    Deny,
    /// It is allowed and not charged: the limit does not hold for it.
    Allow,
}

/// Things that happen seldom and that an operator wants to know of. Counted since the table was made, in this process.
///
/// On lines of their own: beside what every decision reads, each count would take that line from all other threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Events {
    /// Decisions on clients that found no cell.
    pub overflowed: Counter,
    /// Cells whose state lay further ahead than any decision puts it, and was brought back: steps of a clock.
    pub stepped: Counter,
    /// Clients that got a cell.
    pub inserted: Counter,
    /// Cells of other clients, expired, that were taken over for that.
    pub recycled: Counter,
    /// Cells brought along after a change of limit or of axis.
    pub translated: Counter,
    /// Units that were counted for the cluster and can never be charged, since their cell was taken over.
    pub voided: Counter,
    /// Units that were counted, not charged, and could not be taken back: they were reported, or voided, first.
    pub undo_failed: Counter,
    /// Units that were given back before they were reported.
    pub refunded: Counter,
}

impl Events {
    pub(crate) fn count(counter: &Counter) {
        // Relaxed: a counter orders nothing.
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request, without its key.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) now: u64,
    pub(crate) axis: Axis,
    pub(crate) cost: u64,
    /// Read only when a cell that was charged by the own clock is met by a time that was given.
    pub(crate) clock: &'a Clock,
    /// The limit that the caller keeps this key under, in place of the table's. Its keys have no overrides, and it is the
    /// caller's part that one key is under one limit.
    pub(crate) under: Option<&'a Gcra>,
}

/// What was decided, and what a [`ratelimit_model::Decision`] is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    pub(crate) gcra: Gcra,
    pub(crate) tat: u64,
    pub(crate) now: u64,
    pub(crate) cost: u64,
}

impl Ruling {
    #[inline]
    pub(crate) fn new(allowed: bool, gcra: Gcra, tat: u64, asked: &Asked<'_>) -> Self {
        Ruling {
            allowed,
            gcra,
            tat,
            now: asked.now,
            cost: asked.cost,
        }
    }

    pub(crate) fn decision(&self) -> ratelimit_model::Decision {
        self.gcra.decision(self.allowed, self.tat, self.now, self.cost)
    }
}

/// Whether a state lies so far ahead that a clock must have been set back, and not only this thread have slept since it took
/// its time: the own clock is asked again before that is believed.
pub(super) fn was_set_back(gcra: &Gcra, tat: u64, asked: &Asked<'_>) -> bool {
    gcra.is_stepped(tat, asked.now) && (asked.axis == Axis::Given || gcra.is_stepped(tat, asked.clock.now()))
}

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

/// Cells, limits and overrides in one piece of memory.
pub(crate) struct Table {
    pub(super) memory: Memory,
    pub(super) cells: Geometry,
    pub(super) records: Geometry,
    /// Cells of a line that are in use: all of them, but for models.
    #[cfg(ratelimit_loom)]
    pub(super) cells_per_line: usize,
    pub(super) overflow: Overflow,
    /// Keys say in their low bits which limit they are under.
    pub(super) several: bool,
    /// Whose claims these are, and who else lives.
    pub(super) lives: Lives,
    pub(crate) events: Events,
}

impl Table {
    /// A table of this process alone. The limits make sense.
    pub(crate) fn new(cells: Geometry, limits: &[Limit], overflow: Overflow) -> std::io::Result<Self> {
        let records = Geometry::records();
        let memory = Memory::new(&cells, &records, cells.presized)?;
        #[cfg(not(ratelimit_loom))]
        let lives = Lives::Private;
        #[cfg(ratelimit_loom)]
        let lives = Lives::Modelled(false.into());
        let table = Table::over(memory, cells, records, overflow, lives, limits.len() > 1);
        table.open(limits);
        Ok(table)
    }

    /// A table that lies in this memory.
    pub(crate) fn over(
        memory: Memory,
        cells: Geometry,
        records: Geometry,
        overflow: Overflow,
        lives: Lives,
        several: bool,
    ) -> Self {
        Table {
            memory,
            cells,
            records,
            #[cfg(ratelimit_loom)]
            cells_per_line: CELLS,
            overflow,
            several,
            lives,
            events: Events::default(),
        }
    }

    /// Nobody else sees the table yet.
    pub(crate) fn open(&self, limits: &[Limit]) {
        let header = self.header();
        header.hot.top.store(self.top_word(1, false), Ordering::Relaxed);
        let detours = if limits.len() > 1 { DETOUR_LIMITS } else { 0 };
        let cluster = if self.cells.clustered { DETOUR_CLUSTER } else { 0 };
        header.hot.detours.store(detours | cluster, Ordering::Relaxed);
        header.hot.records_top.store(1, Ordering::Relaxed);
        self.first_limits(limits);
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        self.memory.header()
    }

    #[inline(always)]
    pub(super) fn cells_per_line(&self) -> usize {
        #[cfg(ratelimit_loom)]
        return self.cells_per_line;
        #[cfg(not(ratelimit_loom))]
        CELLS
    }

    /// The key of a client's cell under a limit. With one limit it is the whole fingerprint.
    #[inline(always)]
    pub(crate) fn key(&self, client: Fingerprint, limit: usize) -> u64 {
        if self.several {
            client.among_limits(limit)
        } else {
            client.bits()
        }
    }

    // --- Deciding ------------------------------------------------------------------------------------------------

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

    /// The same place, for one who was handed its first line. The second is found again: kept, it would take a register from the
    /// common case.
    #[inline(always)]
    pub(crate) fn place(&self, client: Fingerprint, line: u64) -> Place {
        let key = client.bits();
        let first = (self.top() >> TOP_FIRST_SHIFT) as usize % MAX_TIERS;
        Place {
            key,
            lines: [line, self.cells.tiers[first].candidates(key)[1]],
        }
    }

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

    // --- Terms ---------------------------------------------------------------------------------------------------

    #[inline(always)]
    pub(super) fn terms(&self, client: Fingerprint, limit: usize) -> Terms {
        let (generation, gcra) = self.header().limits[limit].load();
        let terms = Terms {
            gcra: self.cut_numbers(limit, self.key(client, limit)).unwrap_or(gcra),
            charged: Charged::generation(generation),
            generation,
            record: Record::NONE,
        };
        if limit == 0 && self.has_records() {
            self.terms_of_record(client, terms)
        } else {
            terms
        }
    }

    /// The terms of a request: its own, or else those of the table. A cell says that it was charged under the table's either way, so
    /// that what its state means under another limit is time, and nothing is translated.
    #[inline(always)]
    pub(super) fn terms_of(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Terms {
        let terms = self.terms(client, limit);
        match asked.under {
            None => terms,
            Some(gcra) => Terms { gcra: *gcra, ..terms },
        }
    }

    #[cold]
    #[inline(never)]
    fn terms_of_record(&self, client: Fingerprint, base: Terms) -> Terms {
        let record = self.record(client);
        match record.override_limit() {
            Some(index) => Terms {
                gcra: self.header().override_numbers(index),
                charged: Charged::OVERRIDE,
                record,
                ..base
            },
            None => Terms { record, ..base },
        }
    }

    /// Whether terms still hold, for one who has read the cell's word since.
    #[inline(always)]
    pub(super) fn in_force(&self, terms: &Terms, client: Fingerprint, limit: usize) -> bool {
        if terms.record != Record::NONE && rule(Rule::RecordAgain) && self.record(client) != terms.record {
            return false;
        }
        self.header().limits[limit].is(terms.generation)
    }

    #[inline(always)]
    pub(super) fn detours(&self) -> u64 {
        // Acquire: who sees that there are records sees the record; who comes first decides under the limit for all.
        self.header()
            .hot
            .detours
            .load(order(Site::RecordsLoad, Ordering::Acquire))
    }

    /// Whether any client was ever given a limit of its own or blocked.
    #[inline(always)]
    pub(crate) fn has_records(&self) -> bool {
        self.detours() & DETOUR_RECORDS != 0
    }

    // --- Looking up ----------------------------------------------------------------------------------------------

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

    /// Makes the memory read-only.
    #[cfg(all(unix, not(ratelimit_loom)))]
    pub(crate) fn write_protect(&self) -> std::io::Result<()> {
        self.memory.write_protect()
    }

    // --- Looking without touching, giving back, forgetting -------------------------------------------------------

    /// What [`decide`](Table::decide) would say. Writes nothing.
    pub(crate) fn peek(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Ruling {
        self.look(client, limit, asked, false)
    }

    /// As [`peek`](Table::peek), but leaves a cell of other terms, or one whose clock was set back, as a decision leaves it.
    /// Who is denied by several limits would otherwise wait as long as the old terms say, or until the clock is back there.
    pub(crate) fn ask(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Ruling {
        self.look(client, limit, asked, true)
    }

    fn look(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>, update: bool) -> Ruling {
        let key = self.key(client, limit);
        loop {
            let terms = self.terms_of(client, limit, asked);
            let found = self.find(key);
            if let Found::Live(cell, word) = found
                && word.lease_slot().is_some()
            {
                match self.look_leased(cell, word, key, limit, asked) {
                    Some(ruling) => return ruling,
                    None => continue,
                }
            }
            if let Found::Live(cell, word) = found
                && update
                && !word.is_under(asked.axis, terms.charged)
            {
                self.translate(cell, word, client, limit, &terms, asked);
                continue;
            }
            let tat = match found {
                Found::Nothing => Some(self.tat_without_cell(key, limit, &terms, asked)),
                Found::Live(_, word) | Found::Tentative(_, word) => self.translated(word, client, limit, &terms, asked),
            };
            if let Some(tat) = tat
                && self.in_force(&terms, client, limit)
            {
                let stepped = was_set_back(&terms.gcra, tat, asked);
                let tat = if stepped { terms.gcra.full(asked.now) } else { tat };
                let fits = || terms.gcra.decide(tat, asked.now, asked.cost) != Verdict::Deny;
                let allowed = asked.cost == 0 || fits() && self.may_be_unconfirmed(&found, key, limit, asked);
                if let Found::Live(cell, word) = found
                    && update
                    && stepped
                    && !allowed
                {
                    self.bring_back(cell, word, &terms, asked);
                    continue;
                }
                return Ruling::new(allowed, terms.gcra, tat, asked);
            }
        }
    }

    /// Gives `asked.cost` requests back. A client without a cell has nothing to get back. Returns how many of them an owner has
    /// been told of, and is to be told about again.
    pub(crate) fn refund(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> u64 {
        self.lower(client, limit, asked, asked.cost, |gcra, tat| {
            gcra.refund(tat, asked.now, asked.cost)
        })
    }

    /// Takes back what `charged` has charged, for a request that another limit then denied. Nobody can be admitted by this who would
    /// not be if the charge had never been.
    ///
    /// A bucket that was charged takes longer to fill, and only that difference may be given back: it shrinks while a bucket that was
    /// not charged would be full and cannot fill further. So what has passed since the charge stays charged, unless nobody has
    /// charged the cell meanwhile, and then it is as it was before.
    ///
    /// The time is read after the word: whoever charged the word that is replaced has read his own before, and the own clock goes
    /// forwards. Of given times nobody knows the latest: then the charge stays, and what is wrong is a denial.
    pub(crate) fn take_back(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>, charged: u64) {
        self.lower(client, limit, asked, asked.cost, |gcra, tat| {
            let without = gcra.refund(tat, asked.now, asked.cost);
            if tat == charged || self.side().is_some() {
                return without;
            }
            if asked.axis == Axis::Given || gcra.is_stepped(tat, asked.now) {
                return tat;
            }
            let passed = time::ahead(asked.clock.now(), asked.now);
            let kept = time::add(without, passed);
            if time::ahead(tat, without) > passed { kept } else { tat }
        });
    }

    /// Forgets what the client has spent: here, where a limit is kept by an owner.
    pub(crate) fn reset(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) {
        if asked.axis == Axis::Own && self.is_hard(limit) {
            // What was spent was given by an owner once, and would be spent twice.
            return;
        }
        // What was spent was spent: it is reported all the same.
        self.lower(client, limit, asked, 0, |_, _| asked.now);
    }

    fn lower(
        &self,
        client: Fingerprint,
        limit: usize,
        asked: &Asked<'_>,
        units: u64,
        to: impl Fn(&Gcra, u64) -> u64,
    ) -> u64 {
        let key = self.key(client, limit);
        loop {
            let terms = self.terms_of(client, limit, asked);
            match self.find(key) {
                Found::Nothing => return 0,
                Found::Tentative(cell, word) => self.help(cell, word, client, limit, &terms, asked),
                Found::Live(cell, word) => {
                    if !self.in_force(&terms, client, limit) {
                        continue;
                    }
                    if let Some(side) = self.counts(asked.axis) {
                        match self.lower_counted(&side, cell, client, limit, &terms, asked, units, &to) {
                            Some(sent) => return sent,
                            None => continue,
                        }
                    }
                    if !word.is_under(asked.axis, terms.charged) {
                        self.translate(cell, word, client, limit, &terms, asked);
                        continue;
                    }
                    if time::ahead(word.tat(), asked.now) == 0 {
                        return 0;
                    }
                    let lowered = word.with_tat(to(&terms.gcra, word.tat()));
                    // AcqRel: as `Charge`.
                    if self.swap(Site::Refund, cell.w, word, lowered) {
                        return 0;
                    }
                }
            }
        }
    }
}
