//! The table of one node of a cluster: what is spent on it is counted beside each cell and taken out to be reported, and
//! owners' leases are put in force on it.
//!
//! This is the seam to the cluster's protocol, which is not in this crate: it knows keys, units and leases, and nothing of nodes.
//! `docs/memory-ordering.md` has the rules by which use stays with its key and no request is decided by a lease that is over.

use std::sync::atomic::Ordering;

use ratelimit_model::{Decision, Gcra, Limit};

use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Axis, Map, Overflow, Place, Syncer, Table};

pub use crate::raw::{Grant, Outcome, Report, Switched};

/// A table whose use is counted. Memory: 32 bytes a cell, twice that of another table, and the leases.
pub struct ClusteredTable {
    table: Table,
    clock: Clock,
    limits: usize,
}

/// Which cells are drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// All that have something to report.
    All,
    /// Those whose unreported units reached the urgent number, where a request was denied for the first time since the last
    /// report, or that another key waits for.
    Urgent,
}

/// What became of units that were counted and not admitted, or not reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vain {
    /// Counted, and never to be charged or reported: the cell went to another key first.
    pub voided: u64,
    /// Counted and not charged, and reported or voided before that could be taken back.
    pub undo_failed: u64,
    /// Given back before they were reported.
    pub refunded: u64,
}

impl ClusteredTable {
    /// A table of this process, for about `max_keys` live keys (or one that grows), with these limits: as they hold for a key
    /// without a lease.
    ///
    /// Errors: no limit, more than [`crate::MAX_LIMITS`], one that makes no sense, or no memory.
    pub fn new(limits: &[Limit], max_keys: Option<u64>, clock: Clock) -> Result<Self, EngineError> {
        let given = Engine::checked(limits)?;
        let geometry = Engine::geometry(max_keys, given)?;
        let table = Table::new(geometry.clustered(), limits, Overflow::Share).map_err(EngineError::Memory)?;
        for limit in 0..limits.len() {
            table.set_cluster_rules(limit, u64::MAX, u64::MAX);
        }
        Ok(ClusteredTable {
            table,
            clock,
            limits: given,
        })
    }

    /// Says how keys of a limit are treated without a lease: at most `unconfirmed` units are spent that no owner has confirmed
    /// (`u64::MAX` for no bound, 0 for none at all), and a key is urgent from `urgent` units on that are not reported.
    ///
    /// False if there is no such limit; then nothing is changed.
    pub fn set_rules(&self, limit: usize, unconfirmed: u64, urgent: u64) -> bool {
        if limit < self.limits {
            self.table.set_cluster_rules(limit, unconfirmed, urgent);
        }
        limit < self.limits
    }

    fn asked(&self, now: u64, cost: u64) -> Asked<'_> {
        Asked {
            now,
            axis: Axis::Own,
            cost,
            clock: &self.clock,
            under: None,
        }
    }

    /// Decides a request and counts it if it is allowed.
    ///
    /// Cost: as a decision elsewhere, and one compare-and-swap more.
    #[inline]
    pub fn decide(&self, client: Fingerprint, limit: usize, cost: u64) -> Decision {
        // The lines are brought near while the clock is read.
        let place = self.table.approach(client);
        self.decide_near(client, limit, cost, self.clock.now(), &place)
    }

    /// The same at `now`, nanoseconds of this table's clock on the circle of [`ratelimit_model::time`].
    #[inline]
    pub fn decide_at(&self, client: Fingerprint, limit: usize, cost: u64, now: u64) -> Decision {
        let place = self.table.approach(client);
        self.decide_near(client, limit, cost, now, &place)
    }

    #[inline(always)]
    fn decide_near(&self, client: Fingerprint, limit: usize, cost: u64, now: u64, place: &Place) -> Decision {
        match self.table.decide_counted_at(place, now, cost) {
            Some(ruling) => ruling.decision(),
            None => self.table.decide(client, limit, &self.asked(now, cost)).decision(),
        }
    }

    /// Gives units back; what was not reported yet will not be.
    pub fn refund_at(&self, client: Fingerprint, limit: usize, cost: u64, now: u64) {
        self.table.refund(client, limit, &self.asked(now, cost));
    }

    /// The key that reports name a client by, under a limit.
    #[must_use]
    pub fn key(&self, client: Fingerprint, limit: usize) -> u64 {
        self.table.key(client, limit)
    }

    /// What was counted in vain since the table was made.
    #[must_use]
    pub fn vain(&self) -> Vain {
        let events = &self.table.events;
        let (voided, undo_failed) = events.units();
        Vain {
            voided,
            undo_failed,
            refunded: events.refunded.load(Ordering::Relaxed),
        }
    }

    /// How many requests were decided in cells that are shared by keys without their own: those are not counted.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.table.events.overflowed.load(Ordering::Relaxed)
    }

    /// The right to drain the table and to switch its leases. `None` while another has it.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn synchronise(&self) -> Option<Synchroniser<'_>> {
        Syncer::new(&self.table).map(|syncer| Synchroniser { syncer })
    }
}

/// The one who drains a table and switches its leases.
pub struct Synchroniser<'a> {
    syncer: Syncer<'a>,
}

impl Synchroniser<'_> {
    /// Offers what is listed to `accepts`, by key and limit, and hands out what that accepts. The rest stays counted and listed.
    pub fn drain(&mut self, listed: Listed, accepts: &mut dyn FnMut(u64, usize) -> bool, take: &mut dyn FnMut(Report)) {
        let map = match listed {
            Listed::All => Map::Dirty,
            Listed::Urgent => Map::Urgent,
        };
        self.syncer.drain(map, accepts, take);
    }

    /// Lists every cell with something to report, also where a killed thread left that out: once a minute is often enough.
    ///
    /// Cost: work in proportion to the table.
    pub fn list_all(&mut self) {
        self.syncer.list_all();
    }

    /// The owner has applied a report.
    pub fn confirm(&mut self, report: &Report) {
        self.syncer.confirm(report);
    }

    /// A report was never applied, and is to be sent again. False if its cell has gone to another key: it is lost.
    pub fn restore(&mut self, report: &Report) -> bool {
        self.syncer.restore(report)
    }

    /// Puts a lease in force: `to` gives the state under it, from the lease before and the state under that, if there was one.
    pub fn give(
        &mut self,
        client: Fingerprint,
        limit: usize,
        grant: &Grant,
        to: impl FnMut(Option<(Gcra, u64)>) -> Switched,
    ) -> Outcome {
        self.syncer.give(client, limit, grant, to)
    }

    /// Ends a lease: `to` gives the state by `without`, the rule without a lease, from the lease and the state under it.
    pub fn end(
        &mut self,
        client: Fingerprint,
        limit: usize,
        without: &Gcra,
        to: impl FnMut(Gcra, u64) -> Switched,
    ) -> Outcome {
        self.syncer.end(client, limit, without, to)
    }
}
