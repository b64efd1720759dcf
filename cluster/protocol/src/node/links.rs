//! Links come and go; hellos are judged.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::peer::Peer;
use crate::event::Event;
use crate::id::{Incarnation, LinkId, NodeId, Stream};
use crate::link::{HOLD_BATCHES_NS, Link};
use crate::membership::{DEAD_NS, Standing, dead_after};
use crate::message::{Entry, FEATURES, Hello, LeaseAck, MAX_PEERS_TOLD, Message, OLDEST_VERSION, Refusal, VERSION};
use crate::store::{Drained, Store};
use crate::wire::MAX_FRAME;

/// Bytes of the two lengths before a peer's name and address.
const LENGTHS: usize = 4;

/// A name used by two processes owns nothing for this long.
const BAR_NS: u64 = 60_000_000_000;

impl Node {
    /// A link is up. `peer`: the name that the other side's certificate says; `outbound`: this side opened it.
    pub fn handle_link_up(&mut self, link: LinkId, peer: &str, outbound: bool, now_ns: u64) {
        self.advance(now_ns);
        let id = NodeId::of(peer);
        let refusal = if self.left || self.leaving.is_some() {
            Some(Refusal::Leaving)
        } else if id == self.me || peer.is_empty() || peer.len() > crate::id::MAX_NAME {
            Some(Refusal::Name)
        } else if self.links.len() as u64 >= 2 * self.config.max_nodes || !self.membership.introduce(id, peer, "") {
            Some(Refusal::Full)
        } else {
            None
        };
        let mut state = Link::new(id, outbound, self.now_ns);
        if let Some(reason) = refusal {
            self.tell(Event::CloseLink { link, reason });
            return;
        }
        let inbox = self.peers.entry(id).or_default().inbox;
        Message::Hello(self.hello(inbox.of, inbox.applied)).encode(state.out[Stream::Control as usize].buffer());
        self.links.insert(link, state);
        self.ready.insert(link);
    }

    fn hello(&self, applied_of: Incarnation, applied: u64) -> Hello {
        // A hello is one frame, whatever the length of addresses; who is left out is told of later.
        let mut room = MAX_FRAME / 2;
        let told = self
            .membership
            .all()
            .filter(|(_, m)| m.standing == Standing::Alive && !m.address.is_empty());
        Hello {
            version: VERSION,
            oldest: OLDEST_VERSION,
            features: FEATURES,
            name: self.config.name.clone(),
            incarnation: self.incarnation,
            configuration: self.fingerprint,
            applied_of,
            applied,
            address: self.config.address.clone(),
            peers: told
                .map(|(_, m)| (m.name.clone(), m.address.clone()))
                .take(MAX_PEERS_TOLD)
                .take_while(|(name, address)| {
                    room = room.saturating_sub(name.len() + address.len() + LENGTHS);
                    room > 0
                })
                .collect(),
        }
    }

    /// A link is down, for whatever reason.
    pub fn handle_link_down(&mut self, link: LinkId, now_ns: u64) {
        self.advance(now_ns);
        self.forget_link(link);
    }

    /// A stream takes `bytes_free` more bytes now.
    pub fn handle_writable(&mut self, link: LinkId, stream: Stream, bytes_free: usize) {
        if let Some(state) = self.links.get_mut(&link) {
            state.out[stream as usize].set_free(bytes_free);
            self.ready.insert(link);
        }
    }

    fn forget_link(&mut self, link: LinkId) {
        self.ready.remove(&link);
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&state.peer).filter(|peer| peer.link == Some(link)) else {
            return;
        };
        self.membership.unlinked(state.peer, self.now_ns);
        let handover = core::mem::take(&mut peer.handover);
        peer.unlink(self.now_ns);
        // Debts that were not handed over are still this node's to remember.
        let terms = self.terms();
        let reporter = self.reporter(self.me, self.now_ns, 0);
        for (cell, units) in handover {
            if let Some(limit) = self.limits.get(cell.limit) {
                self.ledger.inherit(cell, &reporter, units, limit, &terms);
            }
        }
    }

    /// Tells the other side why, and the driver to close.
    pub(super) fn refuse(&mut self, link: LinkId, reason: Refusal) {
        if let Some(state) = self.links.get_mut(&link) {
            // The bytes go out if the driver asks for them before it closes.
            Message::Refuse(reason).encode(state.out[Stream::Control as usize].buffer());
            state.refused = true;
            self.refused.push(link);
            self.ready.insert(link);
        }
        self.tell(Event::CloseLink { link, reason });
        if let Some(id) = self.links.get(&link).map(|state| state.peer)
            && let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.link == Some(link))
        {
            peer.unlink(self.now_ns);
        }
    }

    pub(super) fn receive_hello<S: Store>(&mut self, link: LinkId, hello: &Hello, store: &mut S) {
        let Some((id, outbound)) = self.links.get(&link).map(|state| (state.peer, state.outbound)) else {
            return;
        };
        let known = self.membership.get(id).is_some_and(|member| member.name == hello.name);
        if hello.oldest > VERSION || hello.version < OLDEST_VERSION || hello.oldest > hello.version {
            return self.refuse(link, Refusal::Version);
        }
        if !known || NodeId::of(&hello.name) != id {
            return self.refuse(link, Refusal::Name);
        }
        if hello.configuration != self.fingerprint {
            return self.refuse(link, Refusal::Configuration);
        }
        let switches = self.config.switches;
        let now_ns = self.now_ns;
        let mut newcomer = false;
        let peer = self.peers.entry(id).or_default();
        match peer.life {
            Some(life) if hello.incarnation < life && !switches.get().skip_incarnation => {
                if peer.flipped(now_ns) {
                    self.membership.bar(id, now_ns + BAR_NS);
                    self.tell(Event::DuplicateName {
                        name: hello.name.clone(),
                    });
                    self.refresh_view();
                }
                return self.refuse(link, Refusal::Incarnation);
            }
            Some(life) if hello.incarnation == life => {
                // Both sides keep the link that the smaller identity opened; of two of a kind the newer.
                let preferred = outbound == (self.me < id);
                let rival = peer
                    .link
                    .filter(|rival| *rival != link)
                    .and_then(|rival| self.links.get(&rival));
                if rival.is_some_and(|rival| !preferred && rival.outbound != outbound) {
                    return self.refuse(link, Refusal::Duplicate);
                }
            }
            _ => {
                self.meet_new_life(id, hello.incarnation, store);
                newcomer = true;
            }
        }
        self.adopt_link(link, id, hello, store);
        if newcomer {
            self.welcome(id, store);
        }
    }

    /// A peer is back in another life: it knows nothing of what it was sent, and nothing it was granted is renewed.
    fn meet_new_life<S: Store>(&mut self, id: NodeId, life: Incarnation, store: &mut S) {
        let switches = self.config.switches;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if switches.get().skip_incarnation {
            peer.life = Some(life);
            return;
        }
        let units = peer.outbox.withdraw();
        peer.outbox.restart();
        peer.inbox.meet(life, switches);
        peer.life = Some(life);
        (peer.strikes, peer.quarantined) = (0, false);
        self.put_back(units, store);
        self.put_back_held(id, store);
    }

    /// Overdraft that waits for this owner's word, which will never come: it is reported anew.
    fn put_back_held<S: Store>(&mut self, id: NodeId, store: &mut S) {
        let held: Vec<_> = self
            .held_back
            .keys()
            .copied()
            .filter(|(owner, _)| *owner == id)
            .collect();
        for place in held {
            if let Some((units, _)) = self.held_back.remove(&place) {
                let drained = Drained {
                    used: units,
                    ..Drained::default()
                };
                self.restore(place.1, drained, store);
            }
        }
    }

    fn restore<S: Store>(&mut self, cell: crate::id::Cell, drained: Drained, store: &mut S) {
        if !store.restore(cell, drained) {
            let units = drained.used.saturating_add(drained.refunded);
            self.count.lost_units = self.count.lost_units.saturating_add(units);
            self.tell(Event::UnitsLost { units });
        }
    }

    pub(super) fn put_back<S: Store>(&mut self, entries: Vec<Entry>, store: &mut S) {
        for entry in entries {
            let (used, refunded) = if entry.refund { (0, entry.used) } else { (entry.used, 0) };
            if used > 0 || refunded > 0 {
                let drained = Drained {
                    used,
                    refunded,
                    leased: entry.leased,
                    ..Drained::default()
                };
                self.restore(entry.cell, drained, store);
            }
        }
    }

    fn adopt_link<S: Store>(&mut self, link: LinkId, id: NodeId, hello: &Hello, store: &mut S) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.linked_ns = self.now_ns;
        let older = peer.link.replace(link).filter(|older| *older != link);
        // In another life of this node the peer applied other batches.
        let applied = if hello.applied_of == self.incarnation || self.config.switches.get().skip_incarnation {
            hello.applied
        } else {
            0
        };
        let Ok(entries) = peer.outbox.resume(applied) else {
            return self.refuse(link, Refusal::Malformed);
        };
        if let Some(older) = older {
            self.links.remove(&older);
            self.tell(Event::CloseLink {
                link: older,
                reason: Refusal::Duplicate,
            });
        }
        self.settle_acknowledged(id, entries, None, store);
        let moved = !hello.address.is_empty()
            && self
                .membership
                .get(id)
                .is_none_or(|member| member.address != hello.address);
        self.membership.introduce(id, &hello.name, &hello.address);
        self.membership.arrived(id, self.now_ns);
        let (Some(state), Some(peer)) = (self.links.get_mut(&link), self.peers.get_mut(&id)) else {
            return;
        };
        state.hello_received = true;
        peer.outbox.progressed(self.now_ns);
        for frame in peer.outbox.again() {
            state.out[Stream::Report as usize].push(frame);
        }
        // What this node holds of the peer's leases, as it stands: the owner may have sent changes that never arrived.
        for (cell, held) in self.leases.all() {
            let of_this_life = held.owner == id && Some(held.owner_life) == peer.life;
            if held.hard && of_this_life && peer.lease_acks.len() < self.config.caps.answers_per_peer {
                let ack = LeaseAck {
                    cell,
                    seq: held.seq,
                    returned: 0,
                    ended: false,
                    declared: true,
                };
                peer.lease_acks.insert(cell, ack);
            }
        }
        self.rules_due_ns = 0;
        self.tell(Event::PeerJoined {
            name: hello.name.clone(),
            incarnation: hello.incarnation,
        });
        if moved {
            self.tell(Event::PeerTold {
                name: hello.name.clone(),
                address: hello.address.clone(),
            });
        }
        self.hear_of(&hello.peers);
        self.spread(link, id);
        self.refresh_view();
    }

    /// A peer told of others.
    pub(super) fn hear_of(&mut self, peers: &[(String, String)]) {
        for (name, address) in peers {
            let told = NodeId::of(name);
            let new = self
                .membership
                .get(told)
                .is_none_or(|member| member.address != *address);
            if told != self.me && new && !address.is_empty() && self.membership.introduce(told, name, address) {
                self.tell(Event::PeerTold {
                    name: name.clone(),
                    address: address.clone(),
                });
            }
        }
    }

    /// Tells the others of a peer that is linked now, and that peer of those who came since its hello was made: nodes that join
    /// together would never hear of each other.
    fn spread(&mut self, link: LinkId, id: NodeId) {
        let up_ns = self.links.get(&link).map_or(0, |state| state.up_ns);
        let reachable = |node: &Node, id: NodeId| node.membership.get(id).is_some_and(|m| !m.address.is_empty());
        let linked = |(other, peer): (&NodeId, &Peer)| {
            let up = peer.link.filter(|_| *other != id)?;
            Some((*other, up, peer.linked_ns))
        };
        let others: Vec<(NodeId, LinkId, u64)> = self.peers.iter().filter_map(linked).collect();
        let tell_others = reachable(self, id);
        let mut news = Vec::new();
        for (other, up, linked_ns) in others {
            if linked_ns >= up_ns && reachable(self, other) {
                news.push(other);
            }
            if tell_others && let Some(peer) = self.peers.get_mut(&other) {
                peer.news.insert(id);
                self.ready.insert(up);
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.news.extend(news);
        }
    }

    pub(super) fn receive_refusal(&mut self, link: LinkId, reason: Refusal) {
        let Some(id) = self.links.get(&link).map(|state| state.peer) else {
            return;
        };
        let name = self.name_of(id);
        self.tell(Event::Refused { name, reason });
        self.tell(Event::CloseLink { link, reason });
        if reason == Refusal::Incarnation {
            self.lose_ownership();
        }
        self.forget_link(link);
    }

    /// Another process uses this node's name: nobody would know whose books are the true ones.
    pub(super) fn lose_ownership(&mut self) {
        if !self.membership.is_barred(self.me, self.now_ns) {
            let name = self.config.name.to_string();
            self.tell(Event::DuplicateName { name });
        }
        self.membership.bar(self.me, self.now_ns + BAR_NS);
        self.rules_due_ns = 0;
        self.refresh_view();
    }

    /// A link over which nothing is understood any more is of no use, though its transport may be well: bytes that look
    /// like the length of a long frame swallow what follows. Closed, it can be opened anew.
    pub(super) fn close_silent_links(&mut self) {
        let silent: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(id, link)| {
                let age = |since_ns: u64| self.now_ns.saturating_sub(since_ns);
                // Reports left this node and are not acknowledged: their stream is not understood either.
                let waits = self.peers.get(&link.peer).filter(|peer| peer.link == Some(**id));
                let waits = waits.and_then(|peer| peer.outbox.waits_since());
                let stuck = link.out[Stream::Report as usize].is_empty() && waits.is_some_and(|at| age(at) >= DEAD_NS);
                !link.refused && (age(link.understood_ns) >= dead_after(link.beat_ns) || stuck)
            })
            .map(|(id, _)| *id)
            .collect();
        for link in silent {
            self.refuse(link, Refusal::Silent);
        }
    }

    /// Units on their way to a peer that does not come back go to whoever owns the keys now.
    pub(super) fn withdraw_from_lost<S: Store>(&mut self, store: &mut S) {
        let now_ns = self.now_ns;
        let lost = |peer: &Peer| peer.link.is_none() && now_ns.saturating_sub(peer.down_since_ns) >= HOLD_BATCHES_NS;
        let lost: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(id, peer)| {
                let unsent = peer.outbox.unacked() > 0 || peer.outbox.is_open();
                unsent && (lost(peer) || self.membership.get(**id).is_none_or(|m| m.standing == Standing::Left))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let entries = self.peers.get_mut(&id).map(|peer| peer.outbox.withdraw());
            self.put_back(entries.unwrap_or_default(), store);
        }
    }
}
