//! What goes out: the control stream is written only when it is wanted, from what is to be said now.
//!
//! So a slow peer costs no memory: acknowledgements, leases and heartbeats that wait are replaced by newer ones.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::peer::Peer;
use super::{Node, Transmit};
use crate::id::{Cell, Key, LimitId, LinkId, Stream};
use crate::link::Link;
use crate::membership::heartbeat_of;
use crate::message::{Grant, Handover, Heartbeat, LeaseAck, LeaseOffer, Message, Rearm, ReportAck};

/// Leases, acknowledgements and the like in one message: at most 80 bytes each, so that it fits a frame.
const MAX_ITEMS: usize = 600;
/// Nodes in one message, at most 322 bytes each.
const MAX_NEWS: usize = 128;
/// Limits in one message, at most 64 bytes each.
const MAX_SPECS: usize = 500;

impl Node {
    /// Bytes to send; ask until there are none. Nothing is produced that the stream has no room for.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        // In turn, so that no link waits for ever behind another.
        let next = |node: &Node| {
            let onwards = node.next_link.and_then(|from| node.ready.range(from..).next());
            onwards.or_else(|| node.ready.first()).copied()
        };
        while let Some(link) = next(self) {
            for stream in [Stream::Control, Stream::Report] {
                if stream == Stream::Control {
                    self.fill_control(link);
                }
                let bytes = self
                    .links
                    .get_mut(&link)
                    .and_then(|state| state.out[stream as usize].take());
                if let Some(bytes) = bytes {
                    self.next_link = Some(link);
                    return Some(Transmit { link, stream, bytes });
                }
            }
            // What found no room waits until there is some.
            self.ready.remove(&link);
        }
        self.next_link = None;
        for link in self.refused.drain(..) {
            self.links.remove(&link);
        }
        None
    }

    fn fill_control(&mut self, id: LinkId) {
        let beat_ns = heartbeat_of(self.links.len());
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        let out = &link.out[Stream::Control as usize];
        if !link.hello_received || link.refused || self.left || !out.is_empty() || !out.has_room() {
            return;
        }
        let Some(peer) = self.peers.get_mut(&link.peer).filter(|peer| peer.link == Some(id)) else {
            return;
        };
        // Limits first: leases are parts of them.
        if link.limits_told < self.limits.changes {
            let specs: Vec<_> = self.limits.since(link.limits_told).copied().collect();
            link.limits_told = self.limits.changes;
            for specs in specs.chunks(MAX_SPECS) {
                put(link, &Message::Limits(specs.to_vec()));
            }
        }
        if self.now_ns >= link.heartbeat_due_ns {
            link.heartbeat_due_ns = self.now_ns + beat_ns;
            let version = self.membership.version();
            let heard = (link.heard_told != Some(version)).then(|| self.membership.hearing());
            if self.sees.0 != self.now_ns {
                self.sees = (self.now_ns, self.membership.sees(self.now_ns));
            }
            let members = self.sees.1;
            let barred = self.membership.is_barred(link.peer, self.now_ns);
            link.heard_told = Some(version);
            let beat_ms = beat_ns / 1_000_000;
            put(
                link,
                &Message::Heartbeat(Heartbeat {
                    members,
                    beat_ms,
                    barred,
                    heard,
                }),
            );
        }
        if !peer.news.is_empty() {
            let some = first(&mut peer.news, MAX_NEWS);
            let told = some.iter().filter_map(|id| self.membership.get(*id));
            let told = told
                .map(|member| (member.name.clone(), member.address.clone()))
                .collect();
            put(link, &Message::Peers(told));
        }
        put_answers(link, peer);
        if let Some(cell) = peer.handover.keys().next().copied() {
            put_handover(link, peer, cell.limit);
        }
    }
}

fn put(link: &mut Link, message: &Message) {
    message.encode(link.out[Stream::Control as usize].buffer());
}

fn put_answers(link: &mut Link, peer: &mut Peer) {
    if !peer.rearm.is_empty() {
        let cells = first(&mut peer.rearm, MAX_ITEMS);
        let seq = peer.inbox.applied;
        put(link, &Message::Rearm(Rearm { seq, cells }));
    }
    for (seq, held) in peer.acks.drain(..) {
        let held = held.into_iter().collect();
        put(link, &Message::ReportAck(ReportAck { seq, held }));
    }
    if !peer.lease_acks.is_empty() {
        let cells: Vec<Cell> = peer.lease_acks.keys().take(MAX_ITEMS).copied().collect();
        let acks: Vec<LeaseAck> = cells.iter().filter_map(|cell| peer.lease_acks.remove(cell)).collect();
        put(link, &Message::LeaseAck(acks));
    }
    if !peer.offers.is_empty() {
        let cells: Vec<Cell> = peer.offers.keys().take(MAX_ITEMS).copied().collect();
        let mut by_batch: BTreeMap<u64, Vec<Grant>> = BTreeMap::new();
        for cell in cells {
            if let Some((after, grant)) = peer.offers.remove(&cell) {
                by_batch.entry(after).or_default().push(grant);
            }
        }
        for (after, grants) in by_batch {
            put(link, &Message::Lease(LeaseOffer { after, grants }));
        }
    }
}

fn put_handover(link: &mut Link, peer: &mut Peer, limit: LimitId) {
    let cells: Vec<Cell> = peer
        .handover
        .keys()
        .take_while(|cell| cell.limit == limit)
        .take(MAX_ITEMS)
        .copied()
        .collect();
    let debts: Vec<(Key, u64)> = cells
        .iter()
        .filter_map(|cell| peer.handover.remove(cell).map(|units| (cell.key, units)))
        .collect();
    put(link, &Message::Handover(Handover { limit, debts }));
}

fn first<T: Copy + Ord>(cells: &mut alloc::collections::BTreeSet<T>, most: usize) -> Vec<T> {
    let taken: Vec<T> = cells.iter().take(most).copied().collect();
    taken.iter().for_each(|cell| {
        cells.remove(cell);
    });
    taken
}
