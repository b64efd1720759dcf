//! The one thread of a cluster node that reports use and switches leases.
//!
//! It is the only one to take use out of cells, to write what lies beside it, and to write leases. Which process it runs in is
//! said by a word in the table: taken when it is empty, or from a process that is proven dead.

use super::find::Cell;
use super::header::TOP_TIERS;
use super::lease::Aside;
use super::line::CELLS;
use super::side::{Map, Side, Use};
use super::table::Table;
use super::word::Word;
use crate::hash::LIMIT_MASK;
use crate::sync::{Ordering, Rule, Site, order, rule};

/// Use that was taken out of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The key of the cell that it was spent on: see `Table::key`.
    pub key: u64,
    /// The limit that it was spent under.
    pub limit: usize,
    /// The cell, to confirm or restore it.
    pub number: u64,
    /// The cell's incarnation.
    pub tag: u64,
    /// How much.
    pub units: u64,
    /// A request was denied.
    pub wanted: bool,
    /// What was denied: so many units at least, if a request was.
    pub denied: u64,
    /// The largest request of those, rounded up by an eighth at most.
    pub largest: u64,
    /// Spent under a lease.
    pub leased: bool,
    /// Counted until it is confirmed, since only so much may be spent without being confirmed.
    pub in_flight: bool,
}

/// One who has the right to do all this, at work. The right itself stays taken until [`Table::give_up_syncing`].
pub(crate) struct Syncer<'a> {
    pub(super) table: &'a Table,
    pub(super) side: Side<'a>,
    /// Pairs that no cell names.
    pub(crate) free: Vec<usize>,
}

impl<'a> Syncer<'a> {
    /// Takes the right. `None` if the table is not clustered, or if another has it who is not proven dead.
    ///
    /// Cost: work in proportion to the table, to find what one before has left: use without a bit is listed, and what was in
    /// flight is reported again.
    pub(crate) fn new(table: &'a Table) -> Option<Self> {
        let side = table.side()?;
        let own = table.lives.mark();
        // Acquire: pairs with the Release of one who gave it back.
        let before = side.header.syncer.load(Ordering::Acquire);
        if before != 0 && (before == own || !table.lives.is_dead(before)) {
            return None;
        }
        // AcqRel: pairs with the same swap of others.
        let taken = side
            .header
            .syncer
            .compare_exchange(before, own, Ordering::AcqRel, Ordering::Relaxed);
        taken.ok()?;
        let mut syncer = Syncer {
            table,
            side,
            free: Vec::new(),
        };
        syncer.take_over();
        Some(syncer)
    }

    /// Goes on with what one who has the right kept.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn resume(table: &'a Table, free: Vec<usize>) -> Option<Self> {
        let side = table.side()?;
        Some(Syncer { table, side, free })
    }

    /// With nothing to take over.
    #[cfg(ratelimit_loom)]
    pub(crate) fn for_models(table: &'a Table) -> Option<Self> {
        let side = table.side()?;
        let free = (0..side.leases.len()).rev().collect();
        Some(Syncer { table, side, free })
    }

    fn take_over(&mut self) {
        let mut named = vec![false; self.side.leases.len()];
        self.each_cell(|syncer, cell| {
            let now = syncer.side.load(cell.number);
            let aside = syncer.aside(cell.number);
            let word = Word(cell.w.load(order(Site::WordLoad, Ordering::Acquire)));
            if word.lease_slot().is_some() && aside.is_pair(now.tag()) {
                let place = aside.index() & (named.len() - 1);
                named[place] = true;
                // In flight is nothing any more: all that is counted is reported again, and was spent without a lease.
                let in_flight = syncer.side.pair(place).slots[0].owed.swap(0, Ordering::Relaxed);
                syncer.side.pair(place).slots[1]
                    .owed
                    .fetch_add(in_flight, Ordering::Relaxed);
            } else if aside.0 != 0 {
                syncer.set_aside(cell.number, Aside(0));
            }
            if now.field() > 0 || now.wants() {
                syncer.side.mark(Map::Dirty, cell.number);
            }
        });
        self.free = (0..named.len()).rev().filter(|&index| !named[index]).collect();
    }

    /// Lists every cell with something to report: a thread that was killed between its counting and its bit has left it out.
    ///
    /// Cost: work in proportion to the table.
    pub(crate) fn list_all(&mut self) {
        self.each_cell(|syncer, cell| {
            let now = syncer.side.load(cell.number);
            if now.field() > syncer.in_flight(cell.number, now) || now.wants() {
                syncer.side.mark(Map::Dirty, cell.number);
            }
        });
    }

    fn each_cell(&mut self, mut visit: impl FnMut(&mut Self, Cell<'a>)) {
        let table = self.table;
        for tier in &table.cells.tiers[..(table.top() & TOP_TIERS) as usize] {
            for line in tier.first..tier.first + tier.lines {
                for i in 0..table.cells_per_line() {
                    visit(self, self.cell(line, i));
                }
            }
        }
    }

    pub(super) fn cell(&self, line: u64, i: usize) -> Cell<'a> {
        let cells = self.table.memory.line(line);
        Cell {
            k: &cells.k[i],
            w: &cells.w[i],
            number: line * CELLS as u64 + i as u64,
        }
    }

    /// The limit that a key is under.
    pub(super) fn limit_of(&self, key: u64) -> usize {
        if self.table.several {
            (key & LIMIT_MASK) as usize % super::header::MAX_LIMITS
        } else {
            0
        }
    }

    pub(super) fn aside(&self, number: u64) -> Aside {
        // Relaxed: only the one who synchronises writes it.
        Aside(self.side.cell(number).aside.load(Ordering::Relaxed))
    }

    pub(super) fn set_aside(&self, number: u64, aside: Aside) {
        // Release: pairs with `PairLoad`, through the word that is swapped next.
        let aside_word = &self.side.cell(number).aside;
        aside_word.store(aside.0, order(Site::PairStore, Ordering::Release));
    }

    /// Units of a cell that were sent and not confirmed.
    pub(super) fn in_flight(&self, number: u64, now: Use) -> u64 {
        let aside = self.aside(number);
        if aside.is_pair(now.tag()) {
            // Relaxed: only the one who synchronises writes it.
            self.side.pair(aside.index()).slots[0].owed.load(Ordering::Relaxed)
        } else {
            aside.units(now.tag())
        }
    }

    fn set_in_flight(&self, number: u64, now: Use, units: u64) {
        let aside = self.aside(number);
        if aside.is_pair(now.tag()) {
            self.side.pair(aside.index()).slots[0]
                .owed
                .store(units, Ordering::Relaxed);
        } else {
            self.set_aside(number, Aside::in_flight(now.tag(), units));
        }
    }

    /// Offers what is listed in a map to `accepts`, by key, limit and units, and takes out what that accepts. The rest stays where it
    /// is and is listed as dirty: the cell is the send queue.
    ///
    /// Cost: one look at each 256 cells, and work for each that is listed.
    pub(crate) fn drain(
        &mut self,
        map: Map,
        accepts: &mut dyn FnMut(u64, usize, u64) -> bool,
        take: &mut dyn FnMut(Report),
    ) {
        if map == Map::Urgent {
            self.seen_urgent();
        }
        for (at, word) in self.side.map(map).iter().enumerate() {
            // Relaxed: a bit that is missed now is found by the next pass.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // Acquire: pairs with `Mark`. Who took a bit sees what it was set for.
            let mut bits = word.swap(0, order(Site::MarkTake, Ordering::Acquire));
            while bits != 0 {
                let line = at as u64 * 64 + u64::from(bits.trailing_zeros());
                bits &= bits - 1;
                for i in 0..self.table.cells_per_line() {
                    self.drain_cell(map, self.cell(line, i), accepts, take);
                }
            }
        }
    }

    /// From here on a cell that becomes urgent says so again. Before a look at the bits.
    fn seen_urgent(&self) {
        self.side.header.is_urgent.store(0, Ordering::SeqCst);
    }

    /// Lists what is urgent with the rest, for one who drains all.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn list_urgent(&mut self) {
        self.seen_urgent();
        for (urgent, dirty) in self.side.map(Map::Urgent).iter().zip(self.side.map(Map::Dirty)) {
            // Relaxed: as in `drain`.
            if urgent.load(Ordering::Relaxed) != 0 {
                let bits = urgent.swap(0, order(Site::MarkTake, Ordering::Acquire));
                // Release: what was seen with the bits goes on with them.
                dirty.fetch_or(bits, order(Site::Mark, Ordering::Release));
            }
        }
    }

    fn drain_cell(
        &self,
        map: Map,
        cell: Cell<'a>,
        accepts: &mut dyn FnMut(u64, usize, u64) -> bool,
        take: &mut dyn FnMut(Report),
    ) {
        let number = cell.number;
        loop {
            let now = self.side.load(number);
            let in_flight = self.in_flight(number, now);
            let units = now.field().saturating_sub(in_flight);
            if in_flight > 0 {
                // Nobody lists it when he counts on top of what is in flight, which is no crossing from 0: it stays listed.
                self.side.mark(Map::Dirty, number);
            }
            if units == 0 && !now.wants() {
                if map == Map::Dirty && now.has_asked() && self.side.drain_swap(number, now, now.asked(false)).is_err()
                {
                    continue;
                }
                return;
            }
            // Acquire, between the look at the use and the swap: not older than what was counted for, since that saw the key; not
            // newer, since a claimer begins the next tag before he writes his.
            let load_key = || cell.k.load(order(Site::DrainKey, Ordering::Acquire));
            let mut key = load_key();
            let limit = self.limit_of(key);
            if !accepts(key, limit, units) {
                self.side.mark(Map::Dirty, number);
                return;
            }
            let overdraft = self.table.is_overdraft(&self.side, limit);
            let aside = self.aside(number);
            let lease = (aside.is_pair(now.tag()) && !aside.is_standing()).then(|| self.side.pair(aside.index()));
            // What was counted when the lease began was spent without it, and comes first.
            let without = lease.map_or(units, |pair| pair.slots[1].owed.load(Ordering::Relaxed).min(units));
            let stays = if overdraft && rule(Rule::FlightStaysCounted) {
                in_flight + without
            } else {
                0
            };
            // A denial that is told between two passes over all cells is told once. It stays listed for the next.
            let asked = map == Map::Urgent && (now.wants() || now.has_asked());
            let next = now.satisfied().asked(asked).with_field(stays);
            if self.side.drain_swap(number, now, next).is_err() {
                continue;
            }
            if asked {
                self.side.mark(Map::Dirty, number);
            }
            if !rule(Rule::KeyBeforeDrain) {
                key = load_key();
            }
            if let Some(pair) = lease {
                pair.slots[1].owed.store(0, Ordering::Relaxed);
            }
            if stays != in_flight {
                self.set_in_flight(number, now, stays);
                self.side.mark(Map::Dirty, number);
            }
            let (denied, largest) = match self.side.denied.get(number as usize) {
                Some(denied) if now.wants() => denied.take(),
                _ => (0, 0),
            };
            let report = Report {
                key,
                limit,
                number,
                tag: now.tag(),
                ..Report::default()
            };
            if without > 0 && lease.is_some() {
                take(Report {
                    units: without,
                    in_flight: overdraft,
                    ..report
                });
            }
            // A denial goes with what the key is under now.
            let rest = if lease.is_some() { units - without } else { units };
            if rest > 0 || now.wants() {
                take(Report {
                    units: rest,
                    wanted: now.wants(),
                    denied: denied.max(u64::from(now.wants())),
                    largest,
                    leased: lease.is_some(),
                    in_flight: overdraft && lease.is_none(),
                    ..report
                });
            }
            return;
        }
    }

    /// A report was applied by the owner: if it was in flight, its units may be spent again without being confirmed.
    pub(crate) fn confirm(&mut self, report: &Report) {
        if report.in_flight {
            self.confirm_in(report.number, report.tag, report.units);
        }
    }

    /// The owner confirmed units of a key that were in flight.
    pub(crate) fn confirm_key(&mut self, key: u64, units: u64) {
        match self.find(key) {
            // Not more than is in flight: what was reported before another took over is reported again.
            Some((cell, now, _)) => {
                self.confirm_in(cell.number, now.tag(), units.min(self.in_flight(cell.number, now)))
            }
            None => self.count_undone(units),
        }
    }

    fn confirm_in(&mut self, number: u64, tag: u64, units: u64) {
        let mut now = self.side.load(number);
        loop {
            if now.tag() != tag {
                // The cell was claimed with an empty field: what was sent was counted, not charged and taken back.
                return self.count_undone(units);
            }
            let left = now.field().saturating_sub(units);
            match self.side.drain_swap(number, now, now.with_field(left)) {
                Ok(()) => {
                    let in_flight = self.in_flight(number, now);
                    self.set_in_flight(number, now, in_flight.saturating_sub(units));
                    return self.count_undone(units.saturating_sub(now.field()));
                }
                Err(other) => now = other,
            }
        }
    }

    /// Units of a key that were drained are to be drained again. `in_flight`: they are counted still. False if the key has no
    /// cell any more.
    pub(crate) fn restore_key(&mut self, key: u64, limit: usize, units: u64, in_flight: bool) -> bool {
        let Some((cell, now, _)) = self.find(key) else {
            return false;
        };
        let units = if in_flight {
            units.min(self.in_flight(cell.number, now))
        } else {
            units
        };
        self.restore(&Report {
            key,
            limit,
            number: cell.number,
            tag: now.tag(),
            units,
            in_flight,
            ..Report::default()
        })
    }

    fn count_undone(&self, units: u64) {
        // Relaxed: a counter orders nothing.
        self.table.events.undo_failed.fetch_add(units, Ordering::Relaxed);
    }

    /// A report was never applied: it is to be sent again. False if its cell has gone to another key, and it is lost.
    pub(crate) fn restore(&mut self, report: &Report) -> bool {
        let mut now = self.side.load(report.number);
        while now.tag() == report.tag {
            let in_flight = self.in_flight(report.number, now);
            if report.in_flight {
                // Still counted: it only has to be no longer in flight.
                self.set_in_flight(report.number, now, in_flight.saturating_sub(report.units));
                let aside = self.aside(report.number);
                if aside.is_pair(now.tag()) && !aside.is_standing() {
                    // It was spent without the lease that the key is under now.
                    let without = &self.side.pair(aside.index()).slots[1].owed;
                    without.fetch_add(report.units, Ordering::Relaxed);
                }
                self.side.mark(Map::Dirty, report.number);
                return true;
            }
            match self
                .side
                .drain_swap(report.number, now, now.with_field(now.field() + report.units))
            {
                Ok(()) => {
                    self.side.mark(Map::Dirty, report.number);
                    return true;
                }
                Err(other) => now = other,
            }
        }
        false
    }
}

#[cfg(not(ratelimit_loom))]
impl Table {
    /// Gives the right to drain and to switch back.
    pub(crate) fn give_up_syncing(&self) {
        let Some(side) = self.side() else { return };
        // Release: pairs with the Acquire of the next. Fails if it was taken over from a process that had only seemed alive.
        let _ = side
            .header
            .syncer
            .compare_exchange(self.lives.mark(), 0, Ordering::Release, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(ratelimit_loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::hash::Fingerprint;
    use crate::raw::lives::Lives;
    use crate::raw::memory::{Layout, Memory};
    use crate::raw::switch::{Grant, Outcome, Switched};
    use crate::raw::{Asked, Axis, Geometry, Overflow};
    use ratelimit_model::{Gcra, Limit};
    use std::sync::Arc;
    use std::time::Duration;

    /// There are no pointers beside the cells either: two mappings of one file, at different addresses, are one table.
    #[test]
    fn two_mappings_are_one_table() {
        let cells = Geometry::presized(1_000).expect("a size").clustered();
        let records = Geometry::records_beside(&cells);
        let layout = Layout::of(&cells, &records).expect("addressable");
        let file = tempfile::tempfile().expect("a file");
        file.set_len(layout.bytes as u64).expect("room");
        let table = || {
            let map = memmap2::MmapOptions::new().map_raw(&file).expect("a mapping");
            let memory = Memory::over(Arc::new(map), &cells, &records).expect("long enough");
            Table::over(
                memory,
                cells.clone(),
                records.clone(),
                Overflow::Share,
                Lives::Private,
                false,
            )
        };
        let (one, other) = (table(), table());
        let limit = Limit::new(1, Duration::from_secs(1)).expect("a limit").burst(5);
        one.open(&[limit]);
        one.set_cluster_rules(0, u64::MAX, 2);
        let clock = Clock::manual().0;
        let asked = |cost| Asked {
            now: 7,
            axis: Axis::Own,
            cost,
            clock: &clock,
            under: None,
        };
        let client = Fingerprint::new(77);
        let mut syncer = Syncer::new(&other).expect("the first");
        assert!(Syncer::new(&one).is_none(), "there is one for all mappings");
        assert!(one.decide(client, 0, &asked(1)).allowed && other.decide(client, 0, &asked(2)).allowed);
        let mut reports = Vec::new();
        syncer.drain(Map::Urgent, &mut |_, _, _| true, &mut |report| reports.push(report));
        assert_eq!(reports.iter().map(|report| report.units).collect::<Vec<_>>(), [3]);
        assert_eq!(reports[0].key, one.key(client, 0));

        // A lease that one puts in force is obeyed by the other.
        let gcra = Gcra::new(&limit).expect("numbers");
        let grant = Grant {
            until: Some(1_000),
            ..Grant::of(gcra)
        };
        let outcome = syncer.give(one.key(client, 0), &grant, |before| {
            assert!(before.lease.is_none() && before.unreported == 0);
            Switched {
                tat: gcra.full(7) - gcra.whole_interval(),
                returned: 0,
            }
        });
        assert_eq!(outcome, Outcome::Done(0));
        let cost_of_two = one.decide(client, 0, &asked(2)).allowed;
        assert!(!cost_of_two, "the lease has one unit");
        let late = Asked { now: 1_000, ..asked(1) };
        assert!(!one.decide(client, 0, &late).allowed, "the lease is over");
        assert!(one.decide(client, 0, &asked(1)).allowed);
        assert!(!other.decide(client, 0, &asked(1)).allowed);
    }
}
