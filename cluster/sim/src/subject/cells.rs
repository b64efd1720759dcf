//! What a node of the product decides on: ordered maps, or the table that services use.

use std::sync::Arc;
use std::time::Duration;

use ratelimit_cluster_table::TableStore;
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, ManualClock, Overflow};
use ratelimit_protocol::{Cell, DrainSink, Drained, GiveOutcome, Key, Lease, LimitId, MapStore, Pass, Rules, Store};

use super::leases::limit_of;
use super::{Mode, Settings};

/// Cells of a store of maps. More than any scenario needs at once, and a bound all the same.
const CELLS: usize = 1 << 20;
/// Cells looked at per tick for ones that say nothing any more.
const SWEEP: usize = 256;
/// Keys that a table has room for: fewer, since each node has all of it.
const KEYS: u64 = 1 << 15;

/// The cells of one node.
pub enum Cells {
    /// Ordered maps.
    Maps(MapStore),
    /// The lock-free table.
    Table {
        /// The one that speaks for it.
        store: TableStore,
        /// What the simulator moves.
        hand: ManualClock,
    },
}

impl Cells {
    /// Maps without an entry.
    #[must_use]
    pub fn maps() -> Self {
        Cells::Maps(MapStore::new(CELLS))
    }

    /// An empty table.
    #[must_use]
    pub fn table(settings: &Settings, now_ns: u64) -> Self {
        let (clock, hand) = Clock::manual();
        hand.set(Duration::from_nanos(now_ns));
        let config = Config {
            limits: settings.rules.iter().map(limit_of).collect(),
            max_keys: Some(KEYS),
            hash_key: HashKey::new([0; 16]),
            clock,
            overflow: Overflow::Share,
        };
        let unconfirmed = |mode: Mode| match mode {
            Mode::Eventual => u64::MAX,
            Mode::Bounded(units) => units,
            Mode::Strict => 0,
        };
        let unconfirmed: Vec<u64> = settings.rules.iter().map(|rule| unconfirmed(rule.mode)).collect();
        let engine = Engine::clustered(config, &unconfirmed).expect("scenarios have sensible limits");
        let ids = (0..settings.rules.len() as u32).map(LimitId).collect();
        let store = TableStore::with_ids(&Arc::new(engine), ids).expect("nobody else speaks for it");
        Cells::Table { store, hand }
    }

    /// Decides a request.
    pub fn decide(&mut self, limit: u32, key: u64, cost: u64, now_ns: u64) -> bool {
        self.set_time(now_ns);
        match self {
            Cells::Maps(maps) => maps.decide(LimitId(limit), Key(key), cost, now_ns).allowed,
            // With one limit a key is a fingerprint.
            Cells::Table { store, .. } => store.engine().check(Fingerprint::new(key), cost, None).allowed,
        }
    }

    /// The node's own clock moved on.
    pub fn set_time(&mut self, now_ns: u64) {
        if let Cells::Table { hand, .. } = self {
            hand.set(Duration::from_nanos(now_ns));
        }
    }

    /// Forgets some of what says nothing any more.
    pub fn sweep(&mut self, now_ns: u64) {
        if let Cells::Maps(maps) = self {
            maps.sweep(SWEEP, now_ns);
        }
    }

    /// Keys that say something.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Cells::Maps(maps) => maps.len(),
            Cells::Table { store, .. } => store.engine().stats().table.live as usize,
        }
    }

    /// Whether a cell waits to be reported at once.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        match self {
            Cells::Maps(maps) => maps.is_urgent(),
            Cells::Table { store, .. } => store.is_urgent(),
        }
    }

    /// Units that are not reported.
    #[must_use]
    pub fn unreported(&self) -> u64 {
        match self {
            Cells::Maps(maps) => maps.unreported(),
            Cells::Table { store, .. } => store.engine().unreported(),
        }
    }

    fn store(&mut self) -> &mut dyn Store {
        match self {
            Cells::Maps(maps) => maps,
            Cells::Table { store, .. } => store,
        }
    }
}

impl Store for Cells {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        self.store().drain(pass, sink);
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        self.store().restore(cell, drained)
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.store().rearm(cell, units);
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        self.store().give_lease(cell, lease, now_ns)
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        self.store().end_lease(cell, now_ns)
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, now_ns: u64) {
        self.store().set_rules(limit, rules, now_ns);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.store().set_cut(partition, hard, cut);
    }
}
