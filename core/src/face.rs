//! The table as the models of `loom-tests` see it: small, without a clock, and with hooks for threads that stop for ever.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use ratelimit_model::{Gcra, Limit};

use crate::clock::Clock;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Axis, Geometry, Grant, Map, Outcome, Overflow, Switched, Syncer, Table};

pub use crate::raw::Stop;
pub use crate::sync::{Mutant, Rule, Site, with_mutant};

/// A table of a few cells.
pub struct ModelTable {
    table: Table,
    clock: Clock,
    administrators: AtomicUsize,
    most_administrators: AtomicUsize,
}

impl ModelTable {
    /// `tiers` says how many lines each tier has, `cells` how many cells of a line are used (1 to 3).
    #[must_use]
    pub fn new(tiers: &[u64], presized: bool, cells: usize, limits: &[Limit]) -> Self {
        let mut table = Table::new(Geometry::of(tiers, presized), limits, Overflow::Share).expect("memory for a model");
        table.use_cells(cells);
        ModelTable {
            table,
            clock: Clock::manual().0,
            administrators: AtomicUsize::new(0),
            most_administrators: AtomicUsize::new(0),
        }
    }

    /// On the own axis: an insert on the other one raises `given_now`, and that compare-and-swap orders the threads of a
    /// model more than the protocol does.
    fn asked(&self, now: u64, cost: u64) -> Asked<'_> {
        Asked {
            now,
            axis: Axis::Own,
            cost,
            clock: &self.clock,
            under: None,
        }
    }

    /// Decides one request as the engine does: the short way, and the long way if that says nothing. True if it is admitted.
    #[must_use]
    pub fn is_allowed(&self, client: u64, now: u64, cost: u64) -> bool {
        let place = self.table.approach(Fingerprint::new(client));
        let ruling = if self.table.side().is_some() {
            self.table
                .decide_counted_at(Fingerprint::new(client), place.first_line(), now, cost, &self.clock)
        } else {
            self.table.decide_at(&place, now, Axis::Own, cost)
        };
        match ruling {
            Some(ruling) => ruling.allowed,
            None => self.decide(client, now, cost),
        }
    }

    /// Decides one request the long way; true if it is admitted.
    #[must_use]
    pub fn decide(&self, client: u64, now: u64, cost: u64) -> bool {
        self.table
            .decide(Fingerprint::new(client), 0, &self.asked(now, cost))
            .allowed
    }

    /// As [`decide`](ModelTable::decide), under another limit.
    #[must_use]
    pub fn decide_under(&self, client: u64, limit: usize, now: u64, cost: u64) -> bool {
        self.table
            .decide(Fingerprint::new(client), limit, &self.asked(now, cost))
            .allowed
    }

    /// What a decision would say.
    #[must_use]
    pub fn peek(&self, client: u64, now: u64, cost: u64) -> bool {
        self.table
            .peek(Fingerprint::new(client), 0, &self.asked(now, cost))
            .allowed
    }

    /// Gives requests back.
    pub fn refund(&self, client: u64, now: u64, cost: u64) {
        self.table.refund(Fingerprint::new(client), 0, &self.asked(now, cost));
    }

    /// Forgets what was spent.
    pub fn reset(&self, client: u64, now: u64) {
        self.table.reset(Fingerprint::new(client), 0, &self.asked(now, 1));
    }

    /// Changes the limit, as process 1.
    pub fn set_limit(&self, limit: Limit) {
        self.table.administer(&self.asked(0, 1)).set_limits(&[limit]);
    }

    /// Says what the limit is to be and stops for ever after `words` of its four numbers are written, as a process that may
    /// die.
    pub fn set_limit_and_stop(&self, limit: Limit, words: usize) {
        self.table.set_limit_and_stop(0, &limit, words, &self.asked(0, 1));
    }

    /// The limits that people are shown.
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.table.administer(&self.asked(0, 1)).limits(1)[0]
    }

    /// Administers for two steps of a model, and notes how many do so at once.
    pub fn administer_slowly(&self) {
        let _admin = self.table.administer(&self.asked(0, 1));
        let now = self.administrators.fetch_add(1, Relaxed) + 1;
        self.most_administrators.fetch_max(now, Relaxed);
        loom::thread::yield_now();
        self.administrators.fetch_sub(1, Relaxed);
    }

    /// The most that ever did so at once.
    #[must_use]
    pub fn most_administrators(&self) -> usize {
        self.most_administrators.load(Relaxed)
    }

    /// From here on the death of the process that stops is proven.
    pub fn mortal_dies(&self) {
        self.table.mortal_dies();
    }

    /// How many cells are claimed.
    #[must_use]
    pub fn claims(&self) -> usize {
        self.table.count_claims()
    }

    /// Gives a client a limit of its own, kept at `index`; one thread at a time.
    pub fn set_override(&self, client: u64, index: u16, limit: Limit, now: u64) {
        self.table
            .store_override_limit(usize::from(index), &Gcra::new(&limit).expect("a model's limit"));
        self.table
            .set_override(Fingerprint::new(client), index, &self.asked(now, 1))
            .expect("room for a record");
    }

    /// Takes it away again; one thread at a time.
    pub fn clear_override(&self, client: u64, now: u64) {
        self.table
            .clear_override(Fingerprint::new(client), &self.asked(now, 1))
            .expect("room for a record");
    }

    /// Inserts `client` and stops for ever at a step on the way.
    pub fn decide_and_stop(&self, client: u64, now: u64, cost: u64, stop: Stop) {
        self.table
            .insert_and_stop(Fingerprint::new(client), 0, &self.asked(now, cost), stop);
    }

    /// Claims a cell for `client`, runs `meanwhile`, and goes on with the insert until the cell is TENTATIVE.
    pub fn sleep_in_claim<R>(&self, client: u64, now: u64, meanwhile: impl FnOnce() -> R) -> R {
        let wake_up = self
            .table
            .fall_asleep_in_claim(Fingerprint::new(client), &self.asked(now, 1));
        let result = meanwhile();
        if let Some(wake_up) = wake_up {
            wake_up();
        }
        result
    }

    /// The TATs of the LIVE cells of a client. Without a race there is at most one.
    #[must_use]
    pub fn live(&self, client: u64) -> Vec<u64> {
        self.table.live_tats(self.table.key(Fingerprint::new(client), 0))
    }

    /// How many cells of any client are TENTATIVE.
    #[must_use]
    pub fn tentative(&self) -> usize {
        self.table.count_tentative()
    }

    /// Whether a collective cell was ever charged.
    #[must_use]
    pub fn is_collective(&self) -> bool {
        self.table.is_collective()
    }
}

/// What was counted on a table, by key, after a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Units taken out to be reported, and the key they were reported for.
    pub drained: Vec<(u64, u64)>,
    /// Units that are counted and not sent.
    pub left: u64,
    /// See `Events`.
    pub voided: u64,
    /// See `Events`.
    pub undo_failed: u64,
}

impl Counted {
    /// Units reported for a client.
    #[must_use]
    pub fn of(&self, client: u64) -> u64 {
        self.drained
            .iter()
            .filter(|(key, _)| *key == client)
            .map(|(_, units)| units)
            .sum()
    }
}

/// A lease of a model: `burst` requests at once, then one every `interval` nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct ModelLease {
    /// As in a limit.
    pub limit: Limit,
    /// Requests given at once.
    pub tokens: u64,
}

/// A table whose use is counted.
impl ModelTable {
    /// As [`new`](ModelTable::new), clustered. At most `unconfirmed` units are spent that the owner has not confirmed.
    #[must_use]
    pub fn clustered(tiers: &[u64], cells: usize, limits: &[Limit], unconfirmed: u64) -> Self {
        let geometry = Geometry::of(tiers, false).clustered();
        let mut table = Table::new(geometry, limits, Overflow::Share).expect("memory for a model");
        table.use_cells(cells);
        table.set_cluster_rules(0, unconfirmed, u64::MAX);
        ModelTable {
            table,
            clock: Clock::manual().0,
            administrators: AtomicUsize::new(0),
            most_administrators: AtomicUsize::new(0),
        }
    }

    /// The one who synchronises. A model makes it before its threads, or in one of them.
    #[must_use]
    pub fn syncer(&self) -> ModelSyncer<'_> {
        ModelSyncer {
            table: self,
            syncer: Syncer::for_models(&self.table).expect("a clustered table"),
            reports: Vec::new(),
        }
    }

    /// What is counted and was not sent, and what can never be charged; with the reports.
    #[must_use]
    pub fn counted(&self, reports: &[Report]) -> Counted {
        let (voided, undo_failed) = self.table.events.units();
        Counted {
            drained: reports.iter().map(|report| (report.key, report.units)).collect(),
            left: self.table.units_left(),
            voided,
            undo_failed,
        }
    }
}

pub use crate::raw::Report;

/// Who drains and switches in a model.
pub struct ModelSyncer<'a> {
    table: &'a ModelTable,
    syncer: Syncer<'a>,
    /// What was drained.
    pub reports: Vec<Report>,
}

impl ModelSyncer<'_> {
    /// One pass over all that is listed.
    pub fn drain(&mut self) {
        let reports = &mut self.reports;
        self.syncer
            .drain(Map::Dirty, &mut |_, _, _| true, &mut |report| reports.push(report));
    }

    /// Lists all that there is to report.
    pub fn list_all(&mut self) {
        self.syncer.list_all();
    }

    /// Takes all bits and stops for ever.
    pub fn take_bits_and_stop(&mut self) {
        self.syncer.take_bits_and_stop();
    }

    /// Writes a lease in place of another and stops for ever before it is in force.
    pub fn give_and_stop(&mut self, client: u64, lease: &ModelLease, now: u64) {
        let gcra = Gcra::new(&lease.limit).expect("a model's limit");
        self.syncer.give_and_stop(client, &Grant::of(gcra), |old, at| {
            let held = lease.tokens + tokens(&old, at, now);
            state(&gcra, held.min(gcra.burst()), now)
        });
    }

    /// The owner confirms all that was drained so far; returns how many units.
    pub fn confirm_all(&mut self) -> u64 {
        let mut units = 0;
        for report in self.reports.drain(..) {
            self.syncer.confirm(&report);
            units += report.units;
        }
        units
    }

    /// Gives a lease at `now`, by tokens and time in whole intervals; returns what comes back, or nothing if the key is gone.
    pub fn give(&mut self, client: u64, lease: &ModelLease, now: u64) -> Option<u64> {
        let gcra = Gcra::new(&lease.limit).expect("a model's limit");
        let outcome = self.syncer.give(client, &Grant::of(gcra), |before| {
            let held = lease.tokens + before.lease.map_or(0, |(old, state)| tokens(&old, state, now));
            let kept = held.min(gcra.burst());
            Switched {
                tat: state(&gcra, kept, now),
                returned: held - kept,
            }
        });
        match outcome {
            Outcome::Done(returned) | Outcome::Standing(returned) => Some(returned),
            Outcome::Gone => None,
        }
    }

    /// Ends a lease at `now`: all that is left comes back. True if no lease is in force then.
    pub fn end(&mut self, client: u64, now: u64) -> (u64, bool) {
        let (charged, without) = self.table.table.terms_of_limit();
        let to = |lease, at| Switched {
            tat: state(&without, 0, now),
            returned: tokens(&lease, at, now),
        };
        let outcome = self.syncer.end(client, &without, charged, now, to, &mut |_| ());
        match outcome {
            Outcome::Done(returned) => (returned, true),
            Outcome::Standing(returned) => (returned, false),
            Outcome::Gone => (0, true),
        }
    }
}

/// Whole requests that may be spent at once, under numbers whose interval is whole.
fn tokens(gcra: &Gcra, state: u64, now: u64) -> u64 {
    let backlog = ratelimit_model::time::ahead(state, now);
    gcra.tolerance_ns().saturating_sub(backlog) / gcra.whole_interval()
}

/// The state in which so many are left.
fn state(gcra: &Gcra, tokens: u64, now: u64) -> u64 {
    now + gcra.tolerance_ns() - tokens * gcra.whole_interval()
}
