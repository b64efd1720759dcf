//! The sizes of everything that could grow, and where the units went.

use alloc::collections::BTreeMap;

use crate::id::{LimitId, NodeId};

/// Counters and sizes of a node. Counters start at 0 with the node and only rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Per peer.
    pub peers: BTreeMap<NodeId, PeerStats>,
    /// Per limit in force here.
    pub by_limit: BTreeMap<LimitId, LimitStats>,
    /// Nodes known, without this one.
    pub members: usize,
    /// Links that are up.
    pub links: usize,
    /// Keys this node keeps books for.
    pub accounts: usize,
    /// Nodes in those books.
    pub holders: usize,
    /// The largest debt, in units.
    pub largest_debt: u64,
    /// Leases this node holds.
    pub leases: usize,
    /// Overdrafts that are reported and wait for their owner's word.
    pub held_back: usize,
    /// Limits known.
    pub limits: usize,
    /// Events that wait.
    pub events: usize,
    /// Events that were dropped because too many waited.
    pub events_dropped: u64,
    /// Units of this node's own use that it booked as the owner.
    pub own_units: u64,
    /// Units booked, of all nodes.
    pub booked_units: u64,
    /// Units cut because nobody can have spent them.
    pub clamped_units: u64,
    /// Units reported of limits that are not known here, or that this node does not own and cannot.
    pub unknown_units: u64,
    /// Units for which the books had no room.
    pub no_room_units: u64,
    /// Units that could not be put back into the store.
    pub lost_units: u64,
    /// Answers that found no room in a peer's queue; the peer asks again.
    pub answers_dropped: u64,
    /// Messages skipped because this version does not know them.
    pub skipped_messages: u64,
    /// Links closed for bytes that could not be understood.
    pub malformed: u64,
}

/// One peer's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Units drained for it. Always: drained = acknowledged + in flight + withdrawn.
    pub drained_units: u64,
    /// Units it acknowledged.
    pub acked_units: u64,
    /// Units sent or about to be.
    pub in_flight_units: u64,
    /// Units taken back into the store, because another owns the key now or the peer was restarted.
    pub withdrawn_units: u64,
    /// Withdrawn units that it turned out to have applied: counted twice.
    pub doubled_units: u64,
    /// Units of its reports that this node applied, in all its lives.
    pub applied_units: u64,
    /// Batches that came a second time.
    pub repeated_batches: u64,
    /// Batches that are not acknowledged: at most [`WINDOW`](crate::WINDOW).
    pub unacked_batches: usize,
    /// How long none of them has been acknowledged; 0 if there are none.
    pub waits_ns: u64,
    /// Answers and acknowledgements that wait for the control stream.
    pub waiting_answers: usize,
    /// Bytes that wait for both streams.
    pub waiting_bytes: usize,
    /// Its strikes for impossible reports.
    pub strikes: u32,
}

/// How far the books of one limit are behind, as far as this node can know: its own part. The parts of all nodes add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStats {
    /// Units above the burst in this node's books, over all keys that it owns: admitted, or presumed so, and not paid back yet.
    pub excess_units: u64,
    /// Units spent here that no owner has confirmed: in the cells, or on their way.
    pub unconfirmed_units: u64,
    /// Of those, units that nobody may have set aside. `Eventual`: what was spent without a lease, and all that waits for an owner
    /// without a link. `Bounded`: what was spent without a lease, and what waits in the cells. `Strict`: none.
    pub unbacked_units: u64,
    /// How long the oldest of the unconfirmed units has waited; 0 if there are none.
    pub staleness_ns: u64,
    /// Nodes that own keys of it: those in view, or the configured ones.
    pub owners: usize,
    /// Of those, nodes that are not heard: their keys have no owner.
    pub owners_unheard: usize,
}

impl LimitStats {
    /// An estimate of the units that are admitted above the limit now: what the books say, and at worst all that they do not know of.
    #[must_use]
    pub fn over_admission_units(&self) -> u64 {
        self.excess_units.saturating_add(self.unbacked_units)
    }
}
