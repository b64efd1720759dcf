//! Overrides and blocks: what is special about single clients.
//!
//! They lie in lines like the cells', found by fingerprint, with a record in place of a state. Deciders read them without
//! a lock; one thread at a time writes them (the engine sees to that). While no client has any, nobody looks here.

use std::ops::ControlFlow;

use ratelimit_model::time;

use super::asked::Asked;
use super::find::{Cell, Found};
use super::header::DETOUR_RECORDS;
use super::line::CELLS;
use super::table::Table;
use super::terms::Record;
use super::word::{Charged, Word};
use crate::hash::Fingerprint;
use crate::sync::{AtomicU64, Ordering, Rule, Site, fence, order, rule};

/// There is no room for another record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecordsFull;

impl Table {
    /// The record of `client`, or [`Record::NONE`].
    #[cold]
    #[inline(never)]
    pub(crate) fn record(&self, client: Fingerprint) -> Record {
        let key = client.bits();
        let tiers = self
            .header()
            .hot
            .records_top
            .load(order(Site::RecordsLoad, Ordering::Acquire)) as usize;
        for tier in &self.records.tiers[..tiers.min(self.records.count)] {
            for index in tier.candidates(key) {
                let line = self.memory.record_line(index);
                let mut mask = line.matches(key, CELLS);
                while mask != 0 {
                    let i = mask.trailing_zeros() as usize % CELLS;
                    mask &= mask - 1;
                    // Acquire: pairs with the writer's Release. Who sees the record sees the key and the limit behind it.
                    let record = Record(line.w[i].load(order(Site::RecordLoad, Ordering::Acquire)));
                    // A place may have been given to another client between the two readings.
                    if record != Record::NONE && line.k[i].load(order(Site::RecordLoad, Ordering::Acquire)) == key {
                        return record;
                    }
                }
            }
        }
        Record::NONE
    }

    /// Gives `client` a record, in place of the one it has. One writer at a time.
    pub(crate) fn store_record(&self, client: Fingerprint, record: Record, now: u64) -> Result<(), RecordsFull> {
        let key = client.bits();
        let place = loop {
            let tiers = self.header().hot.records_top.load(Ordering::Relaxed) as usize;
            let own = self.each_record(tiers, Some(key), |cell| {
                let taken = cell.w.load(Ordering::Relaxed) != 0;
                if taken && cell.k.load(Ordering::Relaxed) == key {
                    ControlFlow::Break(cell)
                } else {
                    ControlFlow::Continue(())
                }
            });
            if own.is_some() {
                break own;
            }
            let free = self.each_record(tiers, Some(key), |cell| {
                let record = Record(cell.w.load(Ordering::Relaxed));
                let over = record.blocked_until().is_some_and(|until| time::ahead(until, now) == 0);
                if record == Record::NONE || over {
                    ControlFlow::Break(cell)
                } else {
                    ControlFlow::Continue(())
                }
            });
            if free.is_some() || tiers >= self.records.count {
                break free;
            }
            self.header().hot.records_top.store(tiers as u64 + 1, Ordering::Release);
        };
        let cell = place.ok_or(RecordsFull)?;
        if cell.w.load(Ordering::Relaxed) == 0 || cell.k.load(Ordering::Relaxed) != key {
            // A block that is over gives its place up before the place gets another key.
            cell.w.store(0, order(Site::RecordStore, Ordering::Release));
            cell.k.store(key, order(Site::RecordStore, Ordering::Release));
        }
        // Release: pairs with the Acquire in `record`.
        cell.w.store(record.0, order(Site::RecordStore, Ordering::Release));
        let detours = &self.header().hot.detours;
        if detours.load(Ordering::Relaxed) & DETOUR_RECORDS == 0 {
            // Release: who sees that there are records finds this one.
            detours.fetch_or(DETOUR_RECORDS, order(Site::RecordStore, Ordering::Release));
        }
        Ok(())
    }

    /// Takes the record of `client` away. One writer at a time.
    pub(crate) fn remove_record(&self, client: Fingerprint) {
        let key = client.bits();
        let tiers = self.header().hot.records_top.load(Ordering::Relaxed) as usize;
        self.each_record(tiers, Some(key), |cell| {
            if cell.w.load(Ordering::Relaxed) != 0 && cell.k.load(Ordering::Relaxed) == key {
                cell.w.store(0, order(Site::RecordStore, Ordering::Release));
            }
            ControlFlow::<()>::Continue(())
        });
    }

    /// Gives `client` a limit of its own. One writer at a time.
    pub(crate) fn set_override(&self, client: Fingerprint, index: u16, asked: &Asked<'_>) -> Result<(), RecordsFull> {
        let before = self.record(client);
        if before.override_limit() == Some(usize::from(index)) {
            return Ok(());
        }
        self.end_override(client, before, asked)?;
        let sequence = self.next_sequence();
        self.store_record(client, Record::of_override(index, sequence), asked.clock.now())
    }

    /// A number that no record had before.
    pub(super) fn next_sequence(&self) -> u64 {
        // Relaxed: only writers of records use it, one at a time.
        self.header().cold.records_made.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts `client` back under the limit for all. One writer at a time.
    pub(crate) fn clear_override(&self, client: Fingerprint, asked: &Asked<'_>) -> Result<(), RecordsFull> {
        let before = self.record(client);
        self.end_override(client, before, asked)?;
        self.remove_record(client);
        Ok(())
    }

    /// First the record says that the override is on its way out, then the cell is brought under the limit for all, and
    /// only then may the record go: a cell that was charged under an override can always be understood.
    fn end_override(&self, client: Fingerprint, before: Record, asked: &Asked<'_>) -> Result<(), RecordsFull> {
        if before.any_limit().is_none() || !rule(Rule::RemovalInSteps) {
            return Ok(());
        }
        self.store_record(client, before.removing(), asked.clock.now())?;
        // SeqCst: pairs with the fence in `settle`. Either the cell that a thread gives to this client under the override is
        // found here, or that thread sees that the override ends.
        fence(order(Site::RemovalFence, Ordering::SeqCst));
        let key = self.key(client, 0);
        loop {
            let terms = self.terms(client, 0);
            let (cell, word) = match self.find(key) {
                Found::Nothing => return Ok(()),
                Found::Live(cell, word) if word.charged() != Charged::OVERRIDE => {
                    if self.is_moved(cell, word, asked) {
                        return Ok(());
                    }
                    continue;
                }
                Found::Tentative(cell, word) if word.charged() == Charged::OVERRIDE => {
                    self.swap(Site::Kill, cell.w, word, word.killed());
                    continue;
                }
                Found::Tentative(cell, word) => {
                    self.help(cell, word, client, 0, &terms, asked);
                    continue;
                }
                Found::Live(cell, word) => (cell, word),
            };
            // On the axis that the cell is on.
            let now = self.now_on(word.axis(), asked, word.tat());
            let on_axis = Asked {
                now,
                axis: word.axis(),
                ..*asked
            };
            if let Some(tat) = self.translated(word, client, 0, &terms, &on_axis) {
                let base = Word::live(on_axis.axis, terms.charged, word, tat);
                if self.swap(Site::Translate, cell.w, word, base) {
                    return Ok(());
                }
            }
        }
    }

    /// Changes the word of a cell that is under the limit for all, by a nanosecond less of debt: who has read both this word and the
    /// record of an override that ends, and is about to bring the cell under that override, must fail. Who reads the word from
    /// now on sees that it ends. False if the word changed meanwhile.
    fn is_moved(&self, cell: Cell<'_>, word: Word, asked: &Asked<'_>) -> bool {
        if !rule(Rule::RemovalMovesWord) {
            return true;
        }
        // Without debt it does not matter under which limit there is none; the swap then only makes sure that the word is not
        // an old one.
        let debt = time::ahead(word.tat(), self.now_on(word.axis(), asked, word.tat()));
        let tat = word.tat().wrapping_sub(u64::from(debt > 0));
        let moved = Word::live(word.axis(), word.charged(), word, tat);
        self.swap(Site::Translate, cell.w, word, moved)
    }

    /// Calls `client` with the fingerprint of every client that has an override. Work in proportion to the overrides.
    pub(crate) fn overridden(&self) -> Vec<Fingerprint> {
        let mut clients = Vec::new();
        let tiers = self.header().hot.records_top.load(Ordering::Acquire) as usize;
        self.each_record(tiers, None, |cell| {
            if Record(cell.w.load(Ordering::Acquire)).any_limit().is_some() {
                clients.push(Fingerprint::new(cell.k.load(Ordering::Acquire)));
            }
            ControlFlow::<()>::Continue(())
        });
        clients
    }

    /// Whether any place has a record. Work in proportion to their number.
    pub(super) fn has_any_record(&self) -> bool {
        let tiers = self.header().hot.records_top.load(Ordering::Acquire) as usize;
        let found = self.each_record(tiers, None, |cell| match Record(cell.w.load(Ordering::Acquire)) {
            Record::NONE => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        });
        found.is_some()
    }

    #[cfg(ratelimit_loom)]
    pub(crate) fn store_override_limit(&self, index: usize, gcra: &ratelimit_model::Gcra) {
        self.header().store_override_numbers(index, gcra);
    }

    /// Visits the places of one client's record, or all places.
    pub(super) fn each_record<'a, B>(
        &'a self,
        tiers: usize,
        key: Option<u64>,
        mut visit: impl FnMut(Cell<'a>) -> ControlFlow<B>,
    ) -> Option<B> {
        for tier in &self.records.tiers[..tiers.min(self.records.count)] {
            let all = tier.first..tier.first + tier.lines;
            let lines: &mut dyn Iterator<Item = u64> = match key {
                Some(key) => &mut tier.candidates(key).into_iter(),
                None => &mut all.into_iter(),
            };
            for index in lines {
                let line = self.memory.record_line(index);
                for i in 0..CELLS {
                    let (k, w): (&AtomicU64, &AtomicU64) = (&line.k[i], &line.w[i]);
                    if let ControlFlow::Break(found) = visit(Cell {
                        k,
                        w,
                        number: index * CELLS as u64 + i as u64,
                    }) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }
}
