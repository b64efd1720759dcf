//! The one who speaks for a node of a cluster to its table: what is spent is taken out to be reported, and owners' leases are put
//! in force.
//!
//! This is the seam to the cluster's protocol, which is not in this crate: it knows keys, units and leases, and nothing of nodes.
//! `docs/memory-ordering.md` has the rules by which use stays with its key and no request is decided by a lease that is over.
//!
//! **Keys.** Reports and leases name a client by its *key*. With one limit that is its whole [`Fingerprint`]; with several it is 61 bits of it, mixed
//! with the limit's place among them. So nodes that have the same secret and the same limits in the same order name a client
//! alike, whatever the sizes of their tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ratelimit_model::{Gcra, Limit};

use crate::engine::Engine;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Axis, Map, Syncer};

pub use crate::raw::{Before, Grant, LimitRule, Outcome, Report, Switched, Unleased};

/// Partitions of keys, by their top 12 bits: who owns a key is said of all keys of a partition at once.
pub const PARTITIONS: usize = crate::raw::PARTITIONS;

/// The most keys of which units wait to be given back to their owners.
const MOST_REFUNDS: usize = 1 << 16;

/// Which cells are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// All that have something to report.
    All,
    /// Those whose unreported units reached the urgent number, where half a burst was spent without a lease, where a request was
    /// denied for the first time since the last pass over all, or that another key waits for.
    Urgent,
}

/// What became of units that were counted and not admitted, or not reported. Counts since the table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vain {
    /// Counted, and never to be charged or reported: the cell went to another key first.
    pub voided: u64,
    /// Counted and not charged, and reported or voided before that could be taken back.
    pub undo_failed: u64,
    /// Given back before they were reported.
    pub refunded: u64,
}

/// Units that were given back after their owner had been told that they are spent.
#[derive(Default)]
pub(crate) struct Refunds {
    any: AtomicBool,
    waiting: Mutex<BTreeMap<(u64, usize), u64>>,
}

impl Refunds {
    /// Without room they are forgotten: the owner goes on counting them as spent, which denies and never admits.
    #[cold]
    pub(crate) fn add(&self, key: u64, limit: usize, units: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_REFUNDS || waiting.contains_key(&(key, limit)) {
            let there = waiting.entry((key, limit)).or_default();
            *there = there.saturating_add(units);
            self.any.store(true, Ordering::Release);
        }
    }

    fn take(&self) -> BTreeMap<(u64, usize), u64> {
        if !self.any.swap(false, Ordering::AcqRel) {
            return BTreeMap::new();
        }
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Engine {
    /// The right to drain the table and to switch its leases, for one thread beside those that decide. `None` if this is no node of a
    /// cluster, or while another has the right.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn synchronise(self: &Arc<Self>) -> Option<Synchroniser> {
        let free = std::mem::take(&mut Syncer::new(&self.table)?.free);
        Some(Synchroniser {
            engine: Arc::clone(self),
            free,
        })
    }

    /// Has `call` called whenever something becomes urgent, by the thread that decides: it should only wake another. False if something
    /// is called already, or if this is no node of a cluster.
    ///
    /// [`Synchroniser::is_urgent`] is true before the call. While it is, there is no second one.
    pub fn at_urgent(&self, call: impl Fn() + Send + Sync + 'static) -> bool {
        self.is_clustered() && self.table.at_urgent(Box::new(call))
    }

    /// Units that are counted and were not taken out to be reported, or were put back. Exact only while nobody decides.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn unreported(&self) -> u64 {
        self.table.units_left()
    }

    /// The key that reports name a client by, under a limit.
    #[must_use]
    pub fn cluster_key(&self, client: Fingerprint, limit: usize) -> u64 {
        self.table.key(client, limit)
    }
}

/// The one who drains a table and switches its leases. Gives the right back when it is dropped.
pub struct Synchroniser {
    engine: Arc<Engine>,
    /// Pairs of leases that no cell names.
    free: Vec<usize>,
}

impl Synchroniser {
    /// The engine whose table this is.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn at_work<R>(&mut self, otherwise: R, work: impl FnOnce(&mut Syncer<'_>) -> R) -> R {
        let free = std::mem::take(&mut self.free);
        // The table is clustered, or there would be no synchroniser.
        let Some(mut syncer) = Syncer::resume(&self.engine.table, free) else {
            return otherwise;
        };
        let result = work(&mut syncer);
        self.free = std::mem::take(&mut syncer.free);
        result
    }

    fn asked(&self, now: u64, cost: u64) -> Asked<'_> {
        Asked {
            now,
            axis: Axis::Own,
            cost,
            clock: &self.engine.clock,
            under: None,
        }
    }

    fn knows(&self, limit: usize) -> bool {
        limit < self.engine.limit_count()
    }

    /// Whether there may be something to drain at once. Cost: a load.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        // Relaxed: one that is missed is seen the next time.
        let side = self.engine.table.side();
        side.is_some_and(|side| side.header.is_urgent.load(Ordering::Relaxed) != 0)
    }

    /// Offers what is listed to `accepts`, by key, limit and units, and hands out what that accepts. The rest stays counted and listed.
    pub fn drain(
        &mut self,
        listed: Listed,
        accepts: &mut dyn FnMut(u64, usize, u64) -> bool,
        take: &mut dyn FnMut(Report),
    ) {
        let map = match listed {
            Listed::All => Map::Dirty,
            Listed::Urgent => Map::Urgent,
        };
        self.at_work((), |syncer| {
            if map == Map::Dirty {
                syncer.list_urgent();
            }
            syncer.drain(map, accepts, take);
        });
    }

    /// Offers units that were given back after they had been reported: key, limit, units. What `tell` does not take waits.
    pub fn drain_refunds(&mut self, tell: &mut dyn FnMut(u64, usize, u64) -> bool) {
        let Some(refunds) = &self.engine.refunds else { return };
        for ((key, limit), units) in refunds.take() {
            if !tell(key, limit, units) {
                refunds.add(key, limit, units);
            }
        }
    }

    /// Units that were offered so are to be offered again.
    pub fn refund_again(&mut self, key: u64, limit: usize, units: u64) {
        if let Some(refunds) = &self.engine.refunds {
            refunds.add(key, limit, units);
        }
    }

    /// Lists every cell with something to report, also where a killed thread left that out: once a minute is often enough.
    ///
    /// Cost: work in proportion to the table.
    pub fn list_all(&mut self) {
        self.at_work((), |syncer| syncer.list_all());
    }

    /// The owner has applied a report.
    pub fn confirm(&mut self, report: &Report) {
        self.at_work((), |syncer| syncer.confirm(report));
    }

    /// The owner has confirmed units of a key's overdraft: they may be spent again.
    pub fn confirm_key(&mut self, key: u64, units: u64) {
        self.at_work((), |syncer| syncer.confirm_key(key, units));
    }

    /// A report was never applied, and is to be sent again. False if its cell has gone to another key: it is lost.
    pub fn restore(&mut self, report: &Report) -> bool {
        self.at_work(false, |syncer| syncer.restore(report))
    }

    /// Units of a key that were drained are to be drained again. `in_flight`: as its report said. False if the key has no cell.
    pub fn restore_key(&mut self, key: u64, limit: usize, units: u64, in_flight: bool) -> bool {
        self.at_work(false, |syncer| syncer.restore_key(key, limit, units, in_flight))
    }

    /// Puts a rule in force for keys without a lease. A key keeps the share of its burst that is spent.
    ///
    /// `shown`: the limit that it is made of, which [`Engine::limits`] tells. False if there is no such limit.
    pub fn set_rule(&mut self, limit: usize, rule: &LimitRule, shown: Option<&Limit>) -> bool {
        if self.knows(limit) {
            let asked = self.asked(self.engine.clock.now(), 1);
            self.engine.table.set_rule(limit, rule, &asked);
            if let Some(shown) = shown {
                self.engine.table.show_limit(limit, shown, &asked);
            }
        }
        self.knows(limit)
    }

    /// Says whether the owner of a partition is heard, for limits with a bound on unconfirmed units (`bounded`) or those without.
    pub fn set_cut(&mut self, partition: usize, bounded: bool, cut: bool) {
        self.engine.table.set_cut(partition, bounded, cut);
    }

    /// Gives a key a cell if it has none, without charging it. False if there is no room. `now`: on the engine's clock.
    pub fn open(&mut self, key: u64, limit: usize, now: u64) -> bool {
        let client = if self.engine.table.is_several() {
            Fingerprint::of_key(key, limit)
        } else {
            Fingerprint::new(key)
        };
        self.knows(limit) && self.engine.table.open_cell(client, limit, &self.asked(now, 0))
    }

    /// Puts a lease in force: `to` gives the state under it, from what was before. It is asked again whenever the cell was charged
    /// meanwhile; what it returns goes back only if the outcome says so.
    pub fn give(&mut self, key: u64, grant: &Grant, to: impl FnMut(&Before) -> Switched) -> Outcome {
        self.at_work(Outcome::Gone, |syncer| syncer.give(key, grant, to))
    }

    /// Ends a lease: `to` gives the state by the rule without one, which it is told, from the lease and the state under it.
    /// Under a limit with an overdraft `left` gets the units that were spent under the lease and not drained: in the cell they
    /// would pass for overdraft. `now`: on the engine's clock.
    pub fn end(
        &mut self,
        key: u64,
        limit: usize,
        now: u64,
        mut to: impl FnMut(&Gcra, Gcra, u64) -> Switched,
        left: &mut dyn FnMut(u64),
    ) -> Outcome {
        if !self.knows(limit) {
            return Outcome::Gone;
        }
        let (without, charged) = self.engine.table.rule_without_lease(key, limit);
        self.at_work(Outcome::Gone, |syncer| {
            syncer.end(
                key,
                &without,
                charged,
                now,
                |lease, state| to(&without, lease, state),
                left,
            )
        })
    }
}

impl Drop for Synchroniser {
    fn drop(&mut self) {
        self.engine.table.give_up_syncing();
    }
}
