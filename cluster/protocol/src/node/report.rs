//! What the store drains: into batches for the owners, or into this node's own books.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Node;
use super::peer::Peer;
use crate::event::Event;
use crate::id::{Cell, LimitId, LinkId, NodeId, Stream};
use crate::leases::Leases;
use crate::limits::Limits;
use crate::link::Link;
use crate::membership::Membership;
use crate::message::{Entry, Message};
use crate::ownership::{Ownership, partition};
use crate::store::{DrainSink, Drained, Pass, Store};

/// Entries of this node's own in one pass.
const MAX_OWN: usize = 1 << 16;

/// Sorts what the store drains by its owner.
struct Sink<'a> {
    me: NodeId,
    now_ns: u64,
    limits: &'a Limits,
    membership: &'a Membership,
    soft: &'a mut Ownership,
    hard: &'a mut Ownership,
    peers: &'a mut BTreeMap<NodeId, Peer>,
    links: &'a BTreeMap<LinkId, Link>,
    leases: &'a mut Leases,
    own: Vec<Entry>,
    /// Units that stay in the store, by limit.
    left: BTreeMap<LimitId, u64>,
    touched: BTreeSet<NodeId>,
    units: u64,
    /// The owner of the cell that was accepted last, which is the one that is taken next.
    accepted: Option<(Cell, NodeId)>,
}

impl Sink<'_> {
    fn owner(&mut self, cell: Cell) -> Option<NodeId> {
        let hard = self.limits.get(cell.limit)?.spec.mode.is_hard();
        let owners = if hard { &mut *self.hard } else { &mut *self.soft };
        owners
            .owner(partition(cell.key))
            .filter(|owner| !hard || !self.membership.is_barred(*owner, self.now_ns))
    }
}

/// Whether a report for this peer can leave now.
fn is_ready(peer: &Peer, links: &BTreeMap<LinkId, Link>) -> bool {
    let link = peer.link.and_then(|link| links.get(&link));
    let ready = |link: &Link| {
        let out = &link.out[Stream::Report as usize];
        link.hello_received && out.is_empty() && out.has_room()
    };
    link.is_some_and(ready) && peer.outbox.has_room()
}

impl DrainSink for Sink<'_> {
    fn accepts(&mut self, cell: Cell) -> bool {
        // Also where nothing can be sent: a cell whose link is held up is not idle.
        self.leases.used(cell);
        let Some(owner) = self.owner(cell) else {
            return false;
        };
        let ready = if owner == self.me {
            self.own.len() < MAX_OWN
        } else {
            self.peers.get(&owner).is_some_and(|peer| is_ready(peer, self.links))
        };
        self.accepted = ready.then_some((cell, owner));
        ready
    }

    fn leaves(&mut self, cell: Cell, used: u64) {
        // No more limits than are known here: a store may have some of its own.
        if used > 0 && self.limits.get(cell.limit).is_some() {
            let units = self.left.entry(cell.limit).or_default();
            *units = units.saturating_add(used);
        }
    }

    fn take(&mut self, cell: Cell, drained: Drained) {
        let Some((_, owner)) = self.accepted.filter(|(accepted, _)| *accepted == cell) else {
            debug_assert!(false, "a cell was taken that was not accepted");
            return;
        };
        let entry = Entry {
            cell,
            used: drained.used,
            denied: drained.denied,
            largest: drained.largest,
            leased: drained.leased,
            refund: false,
            waiting: false,
        };
        let refund = Entry {
            used: drained.refunded,
            denied: 0,
            largest: 0,
            refund: true,
            ..entry
        };
        let entries = [
            (entry, drained.used > 0 || drained.denied > 0),
            (refund, drained.refunded > 0),
        ];
        for (entry, _) in entries.into_iter().filter(|(_, says)| *says) {
            if owner == self.me {
                self.units = self.units.saturating_add(entry.used);
                self.own.push(entry);
            } else if let Some(peer) = self.peers.get_mut(&owner) {
                peer.outbox.add(entry);
                self.touched.insert(owner);
            }
        }
    }
}

impl Node {
    /// Drains the store: urgent cells, or with `full` all that have something to say.
    pub(super) fn report<S: Store>(&mut self, full: bool, store: &mut S) {
        let mut sink = Sink {
            me: self.me,
            now_ns: self.now_ns,
            limits: &self.limits,
            membership: &self.membership,
            soft: &mut self.soft,
            hard: &mut self.hard,
            peers: &mut self.peers,
            links: &self.links,
            leases: &mut self.leases,
            own: Vec::new(),
            left: BTreeMap::new(),
            touched: BTreeSet::new(),
            units: 0,
            accepted: None,
        };
        store.drain(if full { Pass::All } else { Pass::Urgent }, &mut sink);
        let (own, mut touched, units, left) = (sink.own, sink.touched, sink.units, sink.left);
        if full {
            self.note_left(left);
            self.ask_for_held(&mut touched, store);
        }
        for id in touched {
            self.send_batch(id);
        }
        if !own.is_empty() {
            self.count.own_units = self.count.own_units.saturating_add(units);
            self.book_own(&own, store);
        }
    }

    /// What the store kept in a pass over all: since when, by limit.
    fn note_left(&mut self, left: BTreeMap<LimitId, u64>) {
        let (before, now_ns) = (core::mem::take(&mut self.left_in_store), self.now_ns);
        let since = |limit: &LimitId| before.get(limit).map_or(now_ns, |(_, since_ns)| *since_ns);
        self.left_in_store = left
            .into_iter()
            .map(|(limit, units)| (limit, (units, since(&limit))))
            .collect();
    }

    fn book_own<S: Store>(&mut self, own: &[Entry], store: &mut S) {
        let gap_ns = self.now_ns.saturating_sub(self.own_booked_ns);
        self.own_booked_ns = self.now_ns;
        let me = self.me;
        let held = self.book(me, 0, own, self.now_ns, gap_ns, store).held;
        // This node's own overdraft is settled like that of others, without the way there and back.
        let entries = own.iter().map(|entry| (0, *entry)).collect();
        let held: Vec<Cell> = held.into_iter().collect();
        self.settle_acknowledged(me, entries, Some(&held), store);
    }

    fn send_batch(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(link) = peer.link.and_then(|link| self.links.get_mut(&link)) else {
            return;
        };
        if let Some(frame) = peer.outbox.close(self.now_ns) {
            link.out[Stream::Report as usize].push(frame);
            self.ready.extend(peer.link);
        }
    }

    /// Overdraft that left a debt is asked about until its owner sets it free: so no answer can get lost.
    fn ask_for_held<S: Store>(&mut self, touched: &mut BTreeSet<NodeId>, store: &mut S) {
        let mut free = Vec::new();
        let terms = self.terms();
        for (owner, cell) in self.held_back.keys() {
            if *owner == self.me {
                if !self.ledger.is_in_debt(*cell, &terms) {
                    free.push(*cell);
                }
            } else if let Some(peer) = self.peers.get_mut(owner).filter(|peer| is_ready(peer, &self.links)) {
                peer.outbox.add(Entry {
                    cell: *cell,
                    used: 0,
                    denied: 0,
                    largest: 0,
                    leased: false,
                    refund: false,
                    waiting: true,
                });
                touched.insert(*owner);
            }
        }
        for cell in free {
            if let Some((units, _)) = self.held_back.remove(&(self.me, cell)) {
                store.rearm(cell, units);
            }
        }
    }

    /// A leaving node is done once everything is reported, acknowledged and handed over, or after three seconds.
    pub(super) fn finish_leaving(&mut self) {
        let Some(since_ns) = self.leaving.filter(|_| !self.left) else {
            return;
        };
        let busy = |peer: &Peer| {
            peer.link.is_some()
                && (peer.outbox.unacked() > 0
                    || peer.outbox.is_open()
                    || !peer.handover.is_empty()
                    || !peer.lease_acks.is_empty())
        };
        let waits = self.handover.is_some() || self.leases.len() > 0 || self.peers.values().any(busy);
        // One full pass at least, so that the store was asked.
        let late = self.now_ns.saturating_sub(since_ns) >= super::LEAVE_NS;
        if (waits || self.now_ns < since_ns + super::TICK_NS) && !late {
            return;
        }
        self.left = true;
        for link in self.links.values_mut().filter(|link| link.hello_received) {
            Message::Goodbye.encode(link.out[Stream::Control as usize].buffer());
        }
        self.wake_all();
        self.tell(Event::LeaveDone);
    }
}
