//! The leases that this node holds, of all owners: numbers and times; their state is in the store.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::{Cell, Incarnation, NodeId};

/// Full passes without use after which a lease is given back, if it refills a unit sooner.
const IDLE_PASSES: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) owner: NodeId,
    pub(crate) owner_life: Incarnation,
    pub(crate) seq: u64,
    pub(crate) hard: bool,
    pub(crate) until_ns: u64,
    idle: u32,
    /// Passes without use that are no idleness: a small share takes longer than that to refill a unit, and whoever gave it
    /// back each time would never have one.
    patience: u32,
}

/// At most `cap` leases.
#[derive(Debug)]
pub(crate) struct Leases {
    held: BTreeMap<Cell, Held>,
    by_time: BTreeSet<(u64, Cell)>,
    cap: usize,
}

impl Leases {
    pub(crate) fn new(cap: usize) -> Self {
        Leases {
            held: BTreeMap::new(),
            by_time: BTreeSet::new(),
            cap,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn get(&self, cell: Cell) -> Option<&Held> {
        self.held.get(&cell)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Cell, &Held)> {
        self.held.iter().map(|(cell, held)| (*cell, held))
    }

    /// Whether there is room for a lease of this cell.
    pub(crate) fn has_room(&self, cell: Cell) -> bool {
        self.held.len() < self.cap || self.held.contains_key(&cell)
    }

    pub(crate) fn put(
        &mut self,
        cell: Cell,
        owner: NodeId,
        owner_life: Incarnation,
        seq: u64,
        hard: bool,
        until_ns: u64,
    ) {
        // A lease that is only renewed stays as idle as it was.
        let idle = self.held.get(&cell).map_or(0, |held| held.idle);
        self.remove(cell);
        let held = Held {
            owner,
            owner_life,
            seq,
            hard,
            until_ns,
            idle,
            patience: IDLE_PASSES,
        };
        self.held.insert(cell, held);
        self.by_time.insert((until_ns, cell));
    }

    /// A lease that takes so many passes to refill a unit is idle only after twice as many.
    pub(crate) fn be_patient(&mut self, cell: Cell, unit_passes: u32) {
        if let Some(held) = self.held.get_mut(&cell) {
            held.patience = IDLE_PASSES.max(unit_passes.saturating_mul(2));
        }
    }

    pub(crate) fn remove(&mut self, cell: Cell) -> Option<Held> {
        let held = self.held.remove(&cell)?;
        self.by_time.remove(&(held.until_ns, cell));
        Some(held)
    }

    /// Use of the cell was reported.
    pub(crate) fn used(&mut self, cell: Cell) {
        if let Some(held) = self.held.get_mut(&cell) {
            held.idle = 0;
        }
    }

    /// A full pass is over; returns the leases that were idle too long.
    pub(crate) fn pass(&mut self) -> Vec<Cell> {
        let mut idle = Vec::new();
        for (cell, held) in &mut self.held {
            held.idle = held.idle.saturating_add(1);
            if held.idle > held.patience {
                idle.push(*cell);
            }
        }
        idle
    }

    /// Leases whose time is over.
    pub(crate) fn over(&self, now_ns: u64) -> Vec<Cell> {
        self.by_time
            .iter()
            .take_while(|(until_ns, _)| *until_ns <= now_ns)
            .map(|(_, cell)| *cell)
            .collect()
    }

    /// A soft lease goes on without its owner: it is looked at again later.
    pub(crate) fn postpone(&mut self, cell: Cell, until_ns: u64) {
        if let Some(held) = self.held.get_mut(&cell) {
            self.by_time.remove(&(held.until_ns, cell));
            held.until_ns = until_ns;
            self.by_time.insert((until_ns, cell));
        }
    }

    pub(crate) fn first_over_ns(&self) -> Option<u64> {
        self.by_time.first().map(|(until_ns, _)| *until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Key, LimitId};

    fn cell(key: u64) -> Cell {
        Cell {
            limit: LimitId(1),
            key: Key(key),
        }
    }

    #[test]
    fn idle_leases_are_found_after_three_passes_and_used_ones_are_not() {
        let mut leases = Leases::new(8);
        for key in [1, 2] {
            leases.put(cell(key), NodeId(9), Incarnation(1), key, false, 100);
        }
        let mut idle = Vec::new();
        for _ in 0..4 {
            leases.used(cell(2));
            idle = leases.pass();
        }
        assert_eq!(idle, [cell(1)]);
    }

    #[test]
    fn times_follow_the_lease() {
        let mut leases = Leases::new(2);
        leases.put(cell(1), NodeId(9), Incarnation(1), 1, true, 100);
        leases.put(cell(1), NodeId(9), Incarnation(1), 2, true, 200);
        leases.put(cell(2), NodeId(9), Incarnation(1), 3, true, 150);
        assert_eq!(leases.over(150), [cell(2)]);
        assert_eq!(leases.first_over_ns(), Some(150));
        leases.postpone(cell(2), 400);
        assert_eq!(leases.over(250), [cell(1)]);
        leases.remove(cell(1));
        assert_eq!(leases.first_over_ns(), Some(400));
        assert!(leases.has_room(cell(3)) && leases.len() == 1);
        leases.put(cell(3), NodeId(9), Incarnation(1), 4, true, 1);
        assert!(!leases.has_room(cell(4)) && leases.has_room(cell(3)));
    }
}
