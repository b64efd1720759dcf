//! What a node keeps for one peer, over all links and lives.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::{Cell, Incarnation, LinkId, NodeId};
use crate::link::{Inbox, Outbox};
use crate::message::{Grant, LeaseAck};

/// Hellos of an older life within this time mean that two processes use one name.
const FLIP_WINDOW_NS: u64 = 60_000_000_000;
/// So many of them.
const FLIPS: u32 = 3;
/// Impossible reports until a peer is quarantined.
pub(super) const STRIKES: u32 = 3;
/// Debts that wait to be handed to one peer, at most.
pub(super) const MAX_HANDOVER: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) life: Option<Incarnation>,
    pub(super) link: Option<LinkId>,
    pub(super) linked_ns: u64,
    pub(super) down_since_ns: u64,
    pub(super) outbox: Outbox,
    pub(super) inbox: Inbox,
    /// How long it was not heard before it came back, and when that was.
    pub(super) away: (u64, u64),
    pub(super) strikes: u32,
    pub(super) quarantined: bool,
    flips: u32,
    flips_since_ns: u64,
    /// What waits for the control stream. Batches applied, each with its cells in debt: at most four, one a batch in flight.
    pub(super) acks: VecDeque<(u64, BTreeSet<Cell>)>,
    /// With each offer the batch it answers.
    pub(super) offers: BTreeMap<Cell, (u64, Grant)>,
    pub(super) lease_acks: BTreeMap<Cell, LeaseAck>,
    pub(super) rearm: BTreeSet<Cell>,
    pub(super) handover: BTreeMap<Cell, u64>,
    /// Nodes that it was not told of in hello: no more than there are members.
    pub(super) news: BTreeSet<NodeId>,
}

impl Peer {
    pub(super) fn waiting_answers(&self) -> usize {
        self.offers.len() + self.lease_acks.len() + self.rearm.len() + self.handover.len()
    }

    /// A hello of an older life came. True if there were too many of late.
    pub(super) fn flipped(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.flips_since_ns) >= FLIP_WINDOW_NS {
            (self.flips, self.flips_since_ns) = (0, now_ns);
        }
        self.flips += 1;
        self.flips >= FLIPS
    }

    /// Batch `seq` is applied; these of its cells are in debt.
    pub(super) fn acknowledge(&mut self, seq: u64, held: BTreeSet<Cell>) {
        if let Some((last, last_held)) = self.acks.back_mut()
            && (last_held.is_empty() || *last == seq)
        {
            // Acknowledgements are cumulative, so the later says both.
            *last = seq;
            last_held.extend(held);
        } else {
            self.acks.push_back((seq, held));
        }
    }

    /// The link is gone: what was on its way is void. Leases are declared again, batches acknowledged by the next hello.
    pub(super) fn unlink(&mut self, now_ns: u64) {
        self.link = None;
        self.down_since_ns = now_ns;
        self.acks.clear();
        self.offers.clear();
        self.lease_acks.clear();
        self.rearm.clear();
        self.handover.clear();
        self.news.clear();
    }
}
