//! A [`Store`] of ordered maps: the reference, for the simulator and for tests.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use ratelimit_model::time::{MASK, ahead};
use ratelimit_model::{LEVEL_BITS, Verdict};

use crate::id::{Cell, Key, LimitId};
use crate::ownership::{PARTITIONS, partition};
use crate::rules::{self, Lease, Rules, Unleased};
use crate::store::{DrainSink, Drained, GiveOutcome, Pass, Store};

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    tat: u64,
    lease: Option<Lease>,
    /// Units to report: spent without a lease, and under one.
    unleased: u64,
    leased: u64,
    refunded: u64,
    /// Units of an overdraft that are reported but not confirmed.
    unconfirmed: u64,
    denied: u64,
    largest: u64,
    /// A denial was reported since the last full pass: the next one is not urgent.
    asked: bool,
}

impl Place {
    fn is_clean(&self) -> bool {
        self.unleased == 0 && self.leased == 0 && self.refunded == 0 && self.denied == 0
    }

    fn is_free(&self, now: u64) -> bool {
        self.is_clean() && self.unconfirmed == 0 && self.lease.is_none() && ahead(self.tat, now) == 0
    }
}

/// What a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Allowed and charged.
    pub allowed: bool,
    /// Decided under a lease.
    pub leased: bool,
}

/// A node's table as ordered maps. At most `cap` cells; a request for one more is denied.
#[derive(Clone, Debug)]
pub struct MapStore {
    cells: BTreeMap<Cell, Place>,
    rules: BTreeMap<LimitId, Rules>,
    hard: BTreeMap<LimitId, bool>,
    cut: [Vec<bool>; 2],
    dirty: BTreeSet<Cell>,
    urgent: BTreeSet<Cell>,
    cap: usize,
    swept_to: Option<Cell>,
}

impl MapStore {
    /// An empty store of at most `cap` cells.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        MapStore {
            cells: BTreeMap::new(),
            rules: BTreeMap::new(),
            hard: BTreeMap::new(),
            cut: [vec![false; PARTITIONS], vec![false; PARTITIONS]],
            dirty: BTreeSet::new(),
            urgent: BTreeSet::new(),
            cap,
            swept_to: None,
        }
    }

    fn unleased(rules: &Rules, hard: bool, cut: &[Vec<bool>; 2], key: Key) -> Unleased {
        if cut[usize::from(hard)][usize::from(partition(key))] {
            rules.cut
        } else {
            rules.connected
        }
    }

    /// Decides and charges a request. A key of a limit that is not known is denied.
    pub fn decide(&mut self, limit: LimitId, key: Key, cost: u64, now_ns: u64) -> Answer {
        let cell = Cell { limit, key };
        let now = now_ns & MASK;
        let mut answer = Answer {
            allowed: false,
            leased: false,
        };
        let Some(rules) = self.rules.get(&limit) else {
            return answer;
        };
        let without = Self::unleased(rules, self.hard.get(&limit).copied().unwrap_or(false), &self.cut, key);
        if !self.cells.contains_key(&cell) {
            if self.cells.len() >= self.cap {
                return answer;
            }
            self.cells.insert(
                cell,
                Place {
                    tat: now,
                    ..Place::default()
                },
            );
        }
        let Some(place) = self.cells.get_mut(&cell) else {
            return answer;
        };
        // A lease that is over is no lease, though the protocol has not said so yet; it denies, whatever the rule without.
        let verdict = match &place.lease {
            Some(lease) => {
                answer.leased = true;
                lease.decide(place.tat, now_ns, cost)
            }
            None => without.decide(place.tat, now, cost, place.unleased.saturating_add(place.unconfirmed)),
        };
        let mut urgent = false;
        match verdict {
            Verdict::Allow(tat) => {
                let below_half = |tat: u64| match (&place.lease, without.gcra()) {
                    (None, Some(gcra)) => {
                        rules::level(gcra, tat, now) < u128::from(rules.limit.burst()) << LEVEL_BITS >> 1
                    }
                    _ => false,
                };
                urgent |= !below_half(place.tat) && below_half(tat);
                answer.allowed = true;
                place.tat = tat;
                let (count, threshold) = match &place.lease {
                    Some(lease) => (&mut place.leased, lease.urgent_units),
                    None => (&mut place.unleased, rules.urgent_units),
                };
                urgent |= *count < threshold && count.saturating_add(cost) >= threshold;
                *count = count.saturating_add(cost);
            }
            Verdict::Deny => {
                place.denied = place.denied.saturating_add(cost);
                place.largest = place.largest.max(cost);
                // Under a lease the owner knows already that there is not enough.
                urgent = !place.asked && (place.lease.is_none() || place.lease.is_some_and(|l| l.hard));
            }
        }
        if !place.is_clean() {
            self.dirty.insert(cell);
        }
        if urgent {
            self.urgent.insert(cell);
        }
        answer
    }

    /// Gives units back that were charged before. Unreported ones are taken off the count, reported ones are told the owner.
    pub fn refund(&mut self, limit: LimitId, key: Key, cost: u64, now_ns: u64) {
        let cell = Cell { limit, key };
        let (Some(rules), Some(place)) = (self.rules.get(&limit), self.cells.get_mut(&cell)) else {
            return;
        };
        let without = Self::unleased(rules, self.hard.get(&limit).copied().unwrap_or(false), &self.cut, key);
        let now = now_ns & MASK;
        if let Some(lease) = &place.lease {
            place.tat = lease.gcra.refund(place.tat, now, cost);
        } else if let Some(gcra) = without.gcra() {
            place.tat = gcra.refund(place.tat, now, cost);
        }
        let count = if place.lease.is_some() {
            &mut place.leased
        } else {
            &mut place.unleased
        };
        let unsent = cost.min(*count);
        *count -= unsent;
        let sent = cost - unsent;
        // Under a hard lease the tokens went back to the cell, which is all the ledger there is.
        if sent > 0 && !place.lease.is_some_and(|lease| lease.hard) {
            place.refunded = place.refunded.saturating_add(sent);
        }
        if place.is_clean() {
            self.dirty.remove(&cell);
            self.urgent.remove(&cell);
        } else {
            self.dirty.insert(cell);
        }
    }

    /// Forgets cells that say nothing any more; looks at no more than `budget`, from where it stopped last.
    pub fn sweep(&mut self, budget: usize, now_ns: u64) {
        use core::ops::Bound;
        let from = self.swept_to.map_or(Bound::Unbounded, Bound::Excluded);
        let looked: Vec<(Cell, bool)> = self
            .cells
            .range((from, Bound::Unbounded))
            .take(budget)
            .map(|(cell, place)| (*cell, place.is_free(now_ns & MASK)))
            .collect();
        self.swept_to = if looked.len() < budget {
            None
        } else {
            looked.last().map(|(cell, _)| *cell)
        };
        for (cell, free) in looked {
            if free {
                self.cells.remove(&cell);
            }
        }
    }

    /// What a snapshot would keep: of each cell that owes something the time until its bucket is full, in terms of the whole
    /// limit. A lease is not kept, only what was used under it.
    pub fn live_cells(&self, now_ns: u64) -> impl Iterator<Item = (Cell, u64)> {
        let now = now_ns & MASK;
        self.cells.iter().filter_map(move |(cell, place)| {
            let rules = self.rules.get(&cell.limit)?;
            let hard = self.hard.get(&cell.limit).copied().unwrap_or(false);
            let without = Self::unleased(rules, hard, &self.cut, cell.key);
            let gcra = match &place.lease {
                Some(lease) => &lease.gcra,
                None => without.gcra()?,
            };
            let spent = (u128::from(gcra.burst()) << LEVEL_BITS) - rules::level(gcra, place.tat, now);
            let backlog_ns = rules.limit.time_of(spent);
            (backlog_ns > 0).then_some((*cell, backlog_ns))
        })
    }

    /// Puts back what a snapshot kept, of a limit that is known already. A debt beyond the burst is cut to it.
    pub fn load(&mut self, cell: Cell, backlog_ns: u64, now_ns: u64) {
        let Some(rules) = self.rules.get(&cell.limit) else {
            return;
        };
        let hard = self.hard.get(&cell.limit).copied().unwrap_or(false);
        let without = Self::unleased(rules, hard, &self.cut, cell.key);
        if let Some(gcra) = without.gcra()
            && self.cells.len() < self.cap
        {
            let tat = rules::state_of(gcra, rules.limit.level(backlog_ns), now_ns & MASK);
            self.cells.insert(
                cell,
                Place {
                    tat,
                    ..Place::default()
                },
            );
        }
    }

    /// Cells in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether no cell is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Whether a cell waits to be drained at once: then [`Node::handle_tick`](crate::Node::handle_tick) is due within a
    /// millisecond.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Units that are not reported yet.
    #[must_use]
    pub fn unreported(&self) -> u64 {
        self.cells.values().map(|place| place.unleased + place.leased).sum()
    }

    /// The lease in force over a key, with the units it could spend at once.
    #[must_use]
    pub fn lease(&self, limit: LimitId, key: Key, now_ns: u64) -> Option<(Lease, u128)> {
        let place = self.cells.get(&Cell { limit, key })?;
        place
            .lease
            .map(|lease| (lease, rules::level(&lease.gcra, place.tat, now_ns & MASK)))
    }
}

impl Store for MapStore {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        let due = match pass {
            Pass::Urgent => core::mem::take(&mut self.urgent),
            Pass::All => {
                self.urgent.clear();
                core::mem::take(&mut self.dirty)
            }
        };
        for cell in due {
            let Some(place) = self.cells.get_mut(&cell) else {
                continue;
            };
            if pass == Pass::All {
                place.asked = false;
            }
            if !place.is_clean() && !sink.accepts(cell) {
                sink.leaves(cell, place.leased.saturating_add(place.unleased));
                self.dirty.insert(cell);
                continue;
            }
            if pass == Pass::Urgent {
                self.dirty.remove(&cell);
                place.asked |= place.denied > 0;
            }
            let overdraft = self.rules.get(&cell.limit).is_some_and(|rules| rules.overdraft);
            // Denials go with the kind of use that the cell is in now.
            let under_lease = place.lease.is_some();
            for leased in [false, true] {
                let used = if leased { place.leased } else { place.unleased };
                let now_in_it = leased == under_lease;
                let drained = Drained {
                    used,
                    denied: if now_in_it { place.denied } else { 0 },
                    largest: if now_in_it { place.largest } else { 0 },
                    refunded: if now_in_it { place.refunded } else { 0 },
                    leased,
                };
                if used > 0 || drained.denied > 0 || drained.refunded > 0 {
                    sink.take(cell, drained);
                }
            }
            if overdraft {
                place.unconfirmed = place.unconfirmed.saturating_add(place.unleased);
            }
            (
                place.unleased,
                place.leased,
                place.denied,
                place.largest,
                place.refunded,
            ) = (0, 0, 0, 0, 0);
        }
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        if !self.cells.contains_key(&cell) && self.cells.len() >= self.cap {
            return false;
        }
        let overdraft = self.rules.get(&cell.limit).is_some_and(|rules| rules.overdraft);
        let place = self.cells.entry(cell).or_default();
        if drained.leased {
            place.leased = place.leased.saturating_add(drained.used);
        } else {
            place.unleased = place.unleased.saturating_add(drained.used);
            if overdraft {
                place.unconfirmed = place.unconfirmed.saturating_sub(drained.used);
            }
        }
        place.refunded = place.refunded.saturating_add(drained.refunded);
        self.dirty.insert(cell);
        true
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        if let Some(place) = self.cells.get_mut(&cell) {
            place.unconfirmed = place.unconfirmed.saturating_sub(units);
        }
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        let now = now_ns & MASK;
        let newcomer = !lease.hard && self.rules.contains_key(&cell.limit) && self.cells.len() < self.cap;
        if newcomer && !self.cells.contains_key(&cell) {
            self.cells.insert(
                cell,
                Place {
                    tat: now,
                    ..Place::default()
                },
            );
        }
        let Some(place) = self.cells.get_mut(&cell) else {
            return GiveOutcome {
                given: false,
                returned: lease.tokens,
            };
        };
        let before = place.lease.map(|old| rules::level(&old.gcra, place.tat, now));
        let mut lease = *lease;
        if !lease.hard {
            // The owner's tokens are what was left without the units that it has not heard of yet.
            lease.tokens = lease.tokens.saturating_sub(place.unleased.saturating_add(place.leased));
        }
        let switched = rules::switch(before, &lease, now);
        (place.tat, place.lease) = (switched.tat, Some(lease));
        GiveOutcome {
            given: true,
            returned: switched.returned,
        }
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        let Some(rules) = self.rules.get(&cell.limit) else {
            return 0;
        };
        // What is left goes by the rule of a cut key, if that has a floor: see `rules::end`.
        let hard = self.hard.get(&cell.limit).copied().unwrap_or(false);
        let without = match rules.cut {
            floor @ Unleased::Part(_) if hard => floor,
            _ => Self::unleased(rules, hard, &self.cut, cell.key),
        };
        let Some(place) = self.cells.get_mut(&cell) else {
            return 0;
        };
        let Some(lease) = place.lease.take() else {
            return 0;
        };
        let ended = rules::end(&lease, &without, place.tat, now_ns & MASK);
        place.tat = ended.tat;
        ended.returned
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, _now_ns: u64) {
        let hard = !matches!(rules.connected, Unleased::Part(_));
        self.hard.insert(limit, hard);
        self.rules.insert(limit, *rules);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        if let Some(place) = self.cut[usize::from(hard)].get_mut(usize::from(partition)) {
            *place = cut;
        }
    }
}
