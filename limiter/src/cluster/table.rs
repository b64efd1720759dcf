//! The table of cells as the node's thread sees it.

use ratelimit_cluster_table::TableStore;
use ratelimit_protocol::rules::{Lease, Rules};
use ratelimit_protocol::{Cell, DrainSink, Drained, GiveOutcome, LimitId, Pass, Store};
use ratelimit_quic::Table;

/// How often all cells are looked at for use that a killed thread did not list.
const LOOK_EVERYWHERE_NS: u64 = 60_000_000_000;

/// A [`TableStore`] with its chores.
pub(super) struct NodeTable {
    store: TableStore,
    looked_ns: u64,
}

impl NodeTable {
    pub(super) fn new(store: TableStore) -> Self {
        let looked_ns = store.now_ns();
        NodeTable { store, looked_ns }
    }
}

impl Table for NodeTable {
    fn is_urgent(&self) -> bool {
        self.store.is_urgent()
    }

    fn tidy(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.looked_ns) >= LOOK_EVERYWHERE_NS {
            self.looked_ns = now_ns;
            self.store.look_everywhere();
        }
    }
}

impl Store for NodeTable {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        self.store.drain(pass, sink);
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        self.store.restore(cell, drained)
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.store.rearm(cell, units);
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        self.store.give_lease(cell, lease, now_ns)
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        self.store.end_lease(cell, now_ns)
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, now_ns: u64) {
        self.store.set_rules(limit, rules, now_ns);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.store.set_cut(partition, hard, cut);
    }
}
