//! The way out of a table and back into one: what snapshots are made of.
//!
//! Walking never stops or slows a decision: every cell is read as a decision reads it, and nothing is written. Each value is
//! a true past state of its key. Between refunds, resets and changes of limit a TAT only grows, so what was exported is never
//! more than what the table says later.

use std::collections::HashMap;
use std::ops::ControlFlow;

use ratelimit_model::{Gcra, LEVEL_BITS, time};

use super::asked::Asked;
use super::find::{Cell, Found};
use super::header::{MAX_LIMITS, TOP_TIERS};
use super::side::Side;
use super::table::Table;
use super::terms::Record;
use super::word::{Axis, Charged, State, Word};
use crate::hash::{Fingerprint, LIMIT_MASK};
use crate::sync::{Ordering, Site, order};

/// Keys that are brought near before the first of them is inserted.
const BATCH: usize = 16;

/// The numbers that debts of a limit are told in, and of which generation they are.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    pub(crate) gcra: Gcra,
    generation: u64,
}

/// One instant, on both axes: all debts of one export are told as of it.
#[derive(Clone, Copy)]
pub(crate) struct Instants {
    own: u64,
    given: u64,
}

/// What is left to wait for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// Under one of the limits for all.
    Limit {
        /// The key of the cell.
        key: u64,
        /// Which limit.
        limit: u8,
        /// Nanoseconds until the bucket is full.
        debt_ns: u64,
    },
    /// Under the client's own limit.
    Override {
        /// The key of the cell.
        key: u64,
        /// Nanoseconds until the bucket is full.
        debt_ns: u64,
        /// How long that bucket takes to fill when it is empty.
        tolerance_ns: u64,
    },
    /// A client that is blocked.
    Block {
        /// The key of the record.
        key: u64,
        /// Nanoseconds until it is not.
        left_ns: u64,
    },
}

impl Table {
    /// The numbers in force now, one for each of the `count` limits.
    pub(crate) fn told(&self, count: usize) -> Vec<Told> {
        let slots = &self.header().limits;
        slots[..count.min(MAX_LIMITS)]
            .iter()
            .map(|slot| {
                loop {
                    let (generation, gcra) = slot.load();
                    if slot.is(generation) {
                        return Told { gcra, generation };
                    }
                }
            })
            .collect()
    }

    /// The instant that an export tells debts as of. Without a given time ever seen there is no debt on that axis.
    pub(crate) fn instants(&self, own: u64) -> Instants {
        let given = self.header().cold.given_now.load(Ordering::Acquire) & time::MASK;
        Instants { own, given }
    }

    /// Calls `visit` with every debt over zero, in no order; a key may come twice if its client got or lost an override
    /// meanwhile. Work in proportion to the open tiers.
    pub(crate) fn export<E>(
        &self,
        told: &[Told],
        at: Instants,
        mut visit: impl FnMut(Debt) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut own_limits = self.own_limits(self.has_records());
        // Cells of overrides that were set after the list was made.
        let mut unknown = Vec::new();
        let open = (self.top() & TOP_TIERS) as usize;
        for tier in &self.cells.tiers[..open] {
            for index in tier.first..tier.first + tier.lines {
                let line = self.memory.line(index);
                for i in 0..self.cells_per_line() {
                    // Acquire: pairs with `Publish`, as in a decision. Relaxed would save nothing here and could pair a key
                    // with the word of the one before it.
                    let word = Word(line.w[i].load(order(Site::WordLoad, Ordering::Acquire)));
                    if word.state() != State::Live || debt_at(word, at) == 0 {
                        continue;
                    }
                    let key = line.k[i].load(order(Site::KeyScan, Ordering::Acquire));
                    let again = Word(line.w[i].load(order(Site::WordLoad, Ordering::Acquire)));
                    // The key changes only under a claim, and that changes the version: two LIVE words of one version have
                    // this key between them. A cell that was taken meanwhile had no debt.
                    if !again.is_live() || !again.same_version(word) {
                        continue;
                    }
                    if let (Some(slot), Some(side)) = (again.lease_slot(), self.side()) {
                        let number = index * super::line::CELLS as u64 + i as u64;
                        let cell = Cell {
                            k: &line.k[i],
                            w: &line.w[i],
                            number,
                        };
                        if let Some(debt) = self.told_leased(&side, cell, key, again, slot, told, at) {
                            visit(debt)?;
                        }
                        continue;
                    }
                    match self.told_debt(key, again, told, at, &own_limits) {
                        Some(debt) => visit(debt)?,
                        None if again.charged() == Charged::OVERRIDE => unknown.push(key),
                        None => {}
                    }
                }
            }
        }
        if !unknown.is_empty() {
            own_limits = self.own_limits(true);
            for key in unknown {
                if let Found::Live(_, word) = self.find(key)
                    && let Some(debt) = self.told_debt(key, word, told, at, &own_limits)
                {
                    visit(debt)?;
                }
            }
        }
        self.export_blocks(at, visit)
    }

    /// What was spent under a lease, as a debt under the limit. The lease itself is the owner's, and is not kept.
    #[allow(clippy::too_many_arguments)]
    fn told_leased(
        &self,
        side: &Side<'_>,
        cell: Cell<'_>,
        key: u64,
        word: Word,
        slot: usize,
        told: &[Told],
        at: Instants,
    ) -> Option<Debt> {
        // A lease that was switched meanwhile is as good as one that was looked at a moment later.
        let lease = self.lease(side, cell, word, slot).or_else(|| {
            let again = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
            let slot = again.lease_slot().filter(|_| again.same_version(word))?;
            self.lease(side, cell, again, slot)
        })?;
        let limit = if self.several { (key & LIMIT_MASK) as usize } else { 0 };
        let backlog = time::ahead(lease.state(word.tat()), at.own);
        let full = u128::from(lease.gcra.burst()) << LEVEL_BITS;
        let debt_ns = told.get(limit)?.gcra.time_of(full - lease.gcra.level(backlog));
        (debt_ns > 0).then_some(Debt::Limit {
            key,
            limit: limit as u8,
            debt_ns,
        })
    }

    /// What a word says in the numbers of the export. `None` if it says nothing, or under an override that is not in the list.
    fn told_debt(
        &self,
        key: u64,
        word: Word,
        told: &[Told],
        at: Instants,
        own_limits: &HashMap<u64, Gcra>,
    ) -> Option<Debt> {
        let debt_ns = debt_at(word, at);
        if debt_ns == 0 {
            return None;
        }
        let Some(charged) = word.charged().as_generation() else {
            let tolerance_ns = own_limits.get(&key)?.tolerance_ns();
            return Some(Debt::Override {
                key,
                debt_ns,
                tolerance_ns,
            });
        };
        let limit = if self.several { (key & LIMIT_MASK) as usize } else { 0 };
        let Told { gcra, generation } = *told.get(limit)?;
        let debt_ns = if charged == generation & 3 {
            debt_ns
        } else {
            // Charged before the limit was changed last, or after it was changed during this walk: told in the numbers of the
            // export, as a decision would bring it along.
            let slot = &self.header().limits[limit];
            let (now, current) = slot.load();
            let old = if now & 3 == charged {
                Some(current)
            } else {
                slot.earlier(now, charged)
            };
            match old.filter(|_| slot.is(now)) {
                Some(old) => gcra.convert(debt_ns, 0, &old),
                // Changed again at this very moment, or too often to be known: the time is kept.
                None => debt_ns.min(gcra.tolerance_ns()),
            }
        };
        Some(Debt::Limit {
            key,
            limit: limit as u8,
            debt_ns,
        })
    }

    /// The own limits of clients, by the keys of their cells.
    fn own_limits(&self, any: bool) -> HashMap<u64, Gcra> {
        if !any {
            return HashMap::new();
        }
        let limit_of = |client| {
            let index = self.record(client).any_limit()?;
            Some((self.key(client, 0), self.header().override_numbers(index)))
        };
        self.overridden().into_iter().filter_map(limit_of).collect()
    }

    fn export_blocks<E>(&self, at: Instants, mut visit: impl FnMut(Debt) -> Result<(), E>) -> Result<(), E> {
        if !self.has_records() {
            return Ok(());
        }
        let tiers = self.header().hot.records_top.load(Ordering::Acquire) as usize;
        let failed = self.each_record(tiers, None, |cell| {
            // Acquire: pairs with the Release of `store_record`.
            let Some(until) = Record(cell.w.load(Ordering::Acquire)).blocked_until() else {
                return ControlFlow::Continue(());
            };
            let left_ns = time::ahead(until, at.own);
            if left_ns == 0 || left_ns > ratelimit_model::MAX_TOLERANCE_NS {
                return ControlFlow::Continue(());
            }
            let key = cell.k.load(Ordering::Acquire);
            match visit(Debt::Block { key, left_ns }) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Puts debts into a table that nobody decides on yet: `&mut` proves it for this process, and a table that is to be
    /// shared is filled before others can see it. So no cell has to be claimed or settled.
    ///
    /// Returns how many found no place.
    pub(crate) fn import(&mut self, debts: &[(u64, u64)], told: &[Told], asked: &Asked<'_>) -> u64 {
        let mut no_room = 0;
        for batch in debts.chunks(BATCH) {
            let top = self.top();
            let first = self.tier(0, top);
            for &(key, _) in batch {
                first
                    .candidates(key)
                    .iter()
                    .for_each(|&line| self.memory.prefetch(line));
            }
            for &(key, debt_ns) in batch {
                let limit = if self.several { (key & LIMIT_MASK) as usize } else { 0 };
                let Some(told) = told.get(limit) else { continue };
                let tat = time::add(asked.now, debt_ns.min(told.gcra.tolerance_ns()));
                let charged = Charged::generation(told.generation);
                no_room += u64::from(!self.put(key, tat, charged, asked));
            }
        }
        no_room
    }

    /// False if there is no place for the key.
    fn put(&self, key: u64, tat: u64, charged: Charged, asked: &Asked<'_>) -> bool {
        let twice = self.candidates(key, self.top(), |cell| {
            let same = cell.k.load(Ordering::Relaxed) == key && Word(cell.w.load(Ordering::Relaxed)).is_live();
            if same {
                ControlFlow::Break(cell)
            } else {
                ControlFlow::Continue(())
            }
        });
        let (cell, before, later) = loop {
            if let Some(cell) = twice {
                let word = Word(cell.w.load(Ordering::Relaxed));
                break (cell, word, time::later(word.tat(), tat));
            }
            let top = self.top();
            match self.free_cell(key, top, asked).0 {
                Some((cell, word, _)) => break (cell, word.claim(self.lives.mark(), true), tat),
                None if self.open_tier(top) => {}
                None => return false,
            }
        };
        if let Some(side) = self.side().filter(|_| twice.is_none()) {
            // As a claimer does: use is counted under the tag of the cell's incarnation.
            self.void(&side, cell.number, before);
        }
        // Release: the first to see the table sees whole cells, however it is handed over.
        cell.k.store(key, Ordering::Release);
        cell.w
            .store(Word::live(Axis::Own, charged, before, later).0, Ordering::Release);
        true
    }

    /// Blocks a client that was blocked when the snapshot was made. False if there is no room.
    pub(crate) fn import_block(&mut self, key: u64, left_ns: u64, now: u64) -> bool {
        let until = time::add(now, left_ns.min(ratelimit_model::MAX_TOLERANCE_NS));
        self.store_record(Fingerprint::new(key), Record::of_block(until), now)
            .is_ok()
    }

    /// Whether keys say which limit they are under.
    pub(crate) fn is_several(&self) -> bool {
        self.several
    }
}

impl Told {
    /// How long the bucket takes to fill when it is empty.
    pub(crate) fn tolerance_ns(&self) -> u64 {
        self.gcra.tolerance_ns()
    }
}

fn debt_at(word: Word, at: Instants) -> u64 {
    let now = match word.axis() {
        Axis::Own => at.own,
        Axis::Given => at.given,
    };
    time::ahead(word.tat(), now)
}
