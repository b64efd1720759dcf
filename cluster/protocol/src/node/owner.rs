//! This node as the owner: what is reported is booked, and answered.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::Node;
use super::peer::MAX_HANDOVER;
use crate::config::OnPartition;
use crate::id::{Cell, NodeId};
use crate::ledger::{Offer, Reporter};
use crate::limits::Mode;
use crate::membership::SUSPECT_NS;
use crate::message::{Entry, Grant, LeaseAck};
use crate::ownership::partition;
use crate::store::Store;

/// Answers that one booking may set off on this node itself: each needs another holder's share to be free, so there are
/// few, but a loop needs a bound.
const MAX_ROUNDS: usize = 10_000;
/// Accounts looked at in one tick of a handover.
const HANDOVER_BUDGET: usize = 2048;

/// One that was away reports what it used meanwhile within this time.
const BACK_NS: u64 = 2_000_000_000;
/// Contended keys that a newcomer is told of.
const MAX_WELCOME: usize = 1024;

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Cells of `Bounded` limits that are in debt.
    pub(super) held: BTreeSet<Cell>,
    /// Units cut.
    pub(super) cut: u64,
}

impl Node {
    /// What the books must know of `id` as one who reports.
    pub(super) fn reporter(&self, id: NodeId, sent_ns: u64, gap_ns: u64) -> Reporter {
        let (away_ns, back_ns) = self.peers.get(&id).map_or((0, 0), |peer| peer.away);
        let just_back = self.now_ns.saturating_sub(back_ns) < BACK_NS;
        // Under `share` and `closed` its part was held back for it once it was suspect, so it is not charged for spending it.
        let forgiven = just_back && self.config.on_partition != OnPartition::Open;
        let orphaned = self.now_ns < self.orphans_until_ns;
        Reporter {
            node: id,
            gap_ns,
            sent_ns,
            away_ns: if just_back { away_ns } else { 0 },
            back_ns,
            forgiven_ns: if forgiven {
                away_ns.saturating_sub(SUSPECT_NS)
            } else {
                0
            },
            quiet_until_ns: if self.now_ns < self.settled_ns {
                self.settled_ns
            } else {
                0
            },
            orphaned,
        }
    }

    /// Books a batch of `id` (this node's own use included) and answers it.
    pub(super) fn book<S: Store>(
        &mut self,
        id: NodeId,
        seq: u64,
        entries: &[Entry],
        sent_ns: u64,
        gap_ns: u64,
        store: &mut S,
    ) -> Batch {
        let terms = self.terms();
        let reporter = self.reporter(id, sent_ns, gap_ns);
        let mut batch = Batch::default();
        for entry in entries {
            let Some(limit) = self.limits.get(entry.cell.limit).copied() else {
                self.count.unknown_units = self.count.unknown_units.saturating_add(entry.used);
                continue;
            };
            let hard = limit.spec.mode.is_hard();
            if hard && self.owner(entry.cell) != Some(self.me) {
                // There is one ledger for ever, and it is elsewhere.
                self.count.unknown_units = self.count.unknown_units.saturating_add(entry.used);
                continue;
            }
            let booked = self.ledger.book(entry, &reporter, &limit, &terms);
            self.count.booked_units = self.count.booked_units.saturating_add(booked.applied);
            self.count.clamped_units = self.count.clamped_units.saturating_add(booked.cut);
            self.count.no_room_units = self.count.no_room_units.saturating_add(booked.dropped);
            batch.cut = batch.cut.saturating_add(booked.cut);
            if matches!(limit.spec.mode, Mode::Bounded { .. }) {
                if booked.in_debt && entry.used > 0 && !entry.leased {
                    batch.held.insert(entry.cell);
                }
                if entry.waiting
                    && !booked.in_debt
                    && let Some(peer) = self.peers.get_mut(&id)
                    && peer.rearm.len() < self.config.caps.answers_per_peer
                {
                    peer.rearm.insert(entry.cell);
                }
            }
            self.offer_all(entry.cell, Some((id, seq)), booked.offers, store);
        }
        batch
    }

    /// A node joined: it is told of contended keys before it meets them.
    pub(super) fn welcome<S: Store>(&mut self, id: NodeId, store: &mut S) {
        let terms = self.terms();
        for (cell, offer) in self.ledger.welcome(id, MAX_WELCOME, &terms) {
            self.offer_all(cell, None, vec![offer], store);
        }
    }

    pub(super) fn receive_lease_ack<S: Store>(&mut self, id: NodeId, ack: &LeaseAck, store: &mut S) {
        let terms = self.terms();
        let linked_ns = self.peers.get(&id).map_or(0, |peer| peer.linked_ns);
        let offers = self.ledger.acknowledged(id, ack, linked_ns, &terms);
        self.offer_all(ack.cell, None, offers, store);
    }

    /// Sends offers out; those to this node itself are taken, acknowledged, and what that sets free is offered again.
    ///
    /// `answers`: the batch that is being booked, so that its sender counts the lease's time from when it sent it.
    fn offer_all<S: Store>(&mut self, cell: Cell, answers: Option<(NodeId, u64)>, offers: Vec<Offer>, store: &mut S) {
        let Some(version) = self.ledger.get(cell).map(|account| account.version()) else {
            return;
        };
        let mut waiting = VecDeque::from(offers);
        for _ in 0..MAX_ROUNDS {
            let Some(offer) = waiting.pop_front() else {
                return;
            };
            let grant = Grant {
                cell,
                version,
                seq: offer.seq,
                share: offer.share,
                capacity: offer.capacity,
                tokens: offer.tokens,
                ttl_ms: offer.ttl_ns / 1_000_000,
            };
            if offer.node == self.me {
                if let Some(ack) = self.take_own_grant(&grant, store) {
                    let terms = self.terms();
                    waiting.extend(self.ledger.acknowledged(self.me, &ack, 0, &terms));
                }
                continue;
            }
            let Some(peer) = self.peers.get_mut(&offer.node).filter(|peer| peer.link.is_some()) else {
                continue;
            };
            // One without a report of its own in this booking counts from its last.
            let after = answers
                .filter(|(node, _)| *node == offer.node)
                .map_or(peer.inbox.applied, |(_, seq)| seq);
            if peer.offers.len() < self.config.caps.answers_per_peer || peer.offers.contains_key(&cell) {
                peer.offers.insert(cell, (after, grant));
                self.ready.extend(peer.link);
            } else {
                self.count.answers_dropped += 1;
            }
        }
    }

    /// One step of going through the books for keys that are another node's now.
    pub(super) fn hand_over(&mut self) {
        let Some(from) = self.handover else {
            return;
        };
        let (me, soft, peers) = (self.me, &mut self.soft, &self.peers);
        let elsewhere = |cell: Cell| {
            let owner = soft.owner(partition(cell.key)).filter(|owner| *owner != me)?;
            let peer = peers.get(&owner)?;
            (peer.link.is_some() && peer.handover.len() < MAX_HANDOVER).then_some(owner)
        };
        let (moved, next) = self.ledger.hand_over(from, HANDOVER_BUDGET, self.now_ns, elsewhere);
        self.handover = next.map(Some);
        for (owner, cell, units) in moved {
            if units > 0
                && let Some(peer) = self.peers.get_mut(&owner)
            {
                peer.handover.insert(cell, units);
                self.ready.extend(peer.link);
            }
        }
    }
}
