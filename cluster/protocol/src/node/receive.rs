//! What arrives on a link.

use super::Node;
use super::peer::STRIKES;
use crate::event::Event;
use crate::id::{LinkId, NodeId, Stream};
use crate::limits::{Adopted, LimitSpec};
use crate::link::{Arrival, MAX_EARLY, WINDOW};
use crate::membership::{HEARTBEAT_NS, MOST_HEARTBEAT_NS, SUSPECT_NS};
use crate::message::{Handover, Message, Refusal, Report};
use crate::store::Store;

impl Node {
    /// Bytes of one stream of a link, in order, cut anywhere.
    ///
    /// Bytes that cannot be understood close the link; what was applied before them stays. Cost: no more than one frame
    /// is held.
    pub fn handle_bytes<S: Store>(&mut self, link: LinkId, stream: Stream, bytes: &[u8], now_ns: u64, store: &mut S) {
        self.advance(now_ns);
        // Most of what comes is answered.
        self.ready.insert(link);
        let Some(state) = self.links.get_mut(&link).filter(|state| !state.refused) else {
            return;
        };
        if stream == Stream::Report && !state.hello_received {
            // The streams race, and a report may overtake the hello that says whose it is.
            state.early.extend_from_slice(bytes);
            if state.early.len() > MAX_EARLY {
                self.count.malformed += 1;
                self.refuse(link, Refusal::Malformed);
            }
            return;
        }
        self.take_bytes(link, stream, bytes, store);
        let early = self.links.get_mut(&link).filter(|state| state.hello_received);
        let early = early.map(|state| core::mem::take(&mut state.early)).unwrap_or_default();
        if !early.is_empty() {
            self.take_bytes(link, Stream::Report, &early, store);
        }
        self.update_rules(store);
    }

    fn take_bytes<S: Store>(&mut self, link: LinkId, stream: Stream, bytes: &[u8], store: &mut S) {
        let mut rest = bytes;
        loop {
            let Some(state) = self.links.get_mut(&link).filter(|state| !state.refused) else {
                return;
            };
            let message = match state.frames[stream as usize].next(&mut rest) {
                Ok(None) => return,
                Ok(Some(frame)) => Message::decode(frame),
                Err(error) => Err(error),
            };
            match message {
                Ok(Some((message, _))) => self.receive(link, stream, message, store),
                Ok(None) => self.count.skipped_messages += 1,
                Err(_) => {
                    self.count.malformed += 1;
                    self.refuse(link, Refusal::Malformed);
                    return;
                }
            }
        }
    }

    fn receive<S: Store>(&mut self, link: LinkId, stream: Stream, message: Message, store: &mut S) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let (id, greeted) = (state.peer, state.hello_received);
        let first = matches!(message, Message::Hello(_) | Message::Refuse(_));
        let reports = matches!(message, Message::Report(_));
        if reports != (stream == Stream::Report) || first && greeted && !matches!(message, Message::Refuse(_)) {
            self.count.malformed += 1;
            return self.refuse(link, Refusal::Malformed);
        }
        if !first && !greeted {
            self.count.malformed += 1;
            return self.refuse(link, Refusal::Malformed);
        }
        // A link that was replaced says nothing any more.
        if !first && self.peers.get(&id).is_none_or(|peer| peer.link != Some(link)) {
            return;
        }
        if stream == Stream::Control
            && let Some(state) = self.links.get_mut(&link)
        {
            state.understood_ns = self.now_ns;
        }
        match message {
            Message::Hello(hello) => {
                let away_ns = self.membership.unseen_ns(id, self.now_ns);
                self.receive_hello(link, &hello, store);
                // Two links may greet one after the other; only the first comes after a silence.
                if away_ns >= SUSPECT_NS
                    && let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.link == Some(link))
                {
                    peer.away = (away_ns, self.now_ns);
                }
            }
            Message::Refuse(reason) => self.receive_refusal(link, reason),
            Message::Report(report) => self.receive_report(link, id, &report, store),
            Message::ReportAck(ack) => {
                let now_ns = self.now_ns;
                let acked = self.peers.get_mut(&id).map(|peer| {
                    peer.outbox.progressed(now_ns);
                    peer.outbox.acked(ack.seq)
                });
                match acked {
                    Some(Ok(entries)) => self.settle_acknowledged(id, entries, Some(&ack.held), store),
                    Some(Err(_)) => self.refuse(link, Refusal::Malformed),
                    None => {}
                }
            }
            Message::Lease(offer) => {
                let unheard = self.peers.get(&id).map(|peer| peer.outbox.used_after(offer.after));
                let unheard = unheard.unwrap_or_default();
                for grant in &offer.grants {
                    self.receive_grant(id, offer.after, grant, &unheard, store);
                }
            }
            Message::LeaseAck(acks) => {
                for ack in acks {
                    self.receive_lease_ack(id, &ack, store);
                }
            }
            Message::Heartbeat(heartbeat) => {
                if heartbeat.barred {
                    self.lose_ownership();
                }
                let beat_ns = heartbeat.beat_ms.saturating_mul(1_000_000);
                let beat_ns = beat_ns.clamp(HEARTBEAT_NS, MOST_HEARTBEAT_NS);
                if let Some(state) = self.links.get_mut(&link) {
                    state.beat_ns = beat_ns;
                }
                self.membership
                    .heard(id, heartbeat.members, beat_ns, heartbeat.heard.as_deref(), self.now_ns);
            }
            Message::Limits(specs) => specs.iter().for_each(|spec| self.receive_limit(spec)),
            Message::Peers(peers) => self.hear_of(&peers),
            Message::Goodbye => {
                self.membership.said_goodbye(id);
                let name = self.name_of(id);
                self.tell(Event::PeerStanding {
                    name,
                    standing: crate::membership::Standing::Left,
                });
                self.rules_due_ns = 0;
                self.refresh_view();
                self.withdraw_from_lost(store);
                // It is the last word of a link. One that did not mean it, since its bytes are garbage, is dialled again.
                self.refuse(link, Refusal::Leaving);
            }
            Message::Handover(handover) => self.receive_handover(id, &handover),
            Message::Rearm(rearm) => {
                for cell in rearm.cells {
                    if let Some((_, up_to)) = self.held_back.get(&(id, cell))
                        && *up_to <= rearm.seq
                        && let Some((units, _)) = self.held_back.remove(&(id, cell))
                    {
                        store.rearm(cell, units);
                    }
                }
            }
        }
    }

    fn receive_limit(&mut self, spec: &LimitSpec) {
        // A limit that this node could not have been configured with would need what it does not have.
        if self.config.check_limit(spec).is_err() {
            return;
        }
        if self.limits.adopt(spec) == Adopted::Yes {
            self.rules_due_ns = 0;
            self.tell(Event::LimitChanged {
                id: spec.id,
                version: spec.version,
            });
        }
    }

    fn receive_handover(&mut self, id: NodeId, handover: &Handover) {
        let Some(limit) = self.limits.get(handover.limit).copied() else {
            return;
        };
        let terms = self.terms();
        let reporter = self.reporter(id, self.now_ns, 0);
        for (key, units) in &handover.debts {
            let cell = crate::id::Cell {
                limit: handover.limit,
                key: *key,
            };
            self.ledger.inherit(cell, &reporter, *units, &limit, &terms);
        }
    }

    fn receive_report<S: Store>(&mut self, link: LinkId, id: NodeId, report: &Report, store: &mut S) {
        let now_ns = self.now_ns;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match peer.inbox.arrive(report.seq) {
            Arrival::Apply => {}
            Arrival::Again => {
                let applied = peer.inbox.applied;
                return peer.acknowledge(applied, Default::default());
            }
            Arrival::Gap => {
                self.count.malformed += 1;
                return self.refuse(link, Refusal::Malformed);
            }
        }
        if peer.acks.len() > WINDOW {
            // It sends without waiting for acknowledgements, and would fill this node with them.
            self.count.malformed += 1;
            return self.refuse(link, Refusal::Malformed);
        }
        let units = report
            .entries
            .iter()
            .fold(0u64, |sum, entry| sum.saturating_add(entry.used));
        peer.inbox.applied_units = peer.inbox.applied_units.saturating_add(units);
        let gap_ns = now_ns.saturating_sub(peer.inbox.applied_ns);
        peer.inbox.applied_ns = now_ns;
        if peer.quarantined {
            self.count.clamped_units = self.count.clamped_units.saturating_add(units);
            return peer.acknowledge(report.seq, Default::default());
        }
        let sent_ns = report.sent_ms.saturating_mul(1_000_000);
        let booked = self.book(id, report.seq, &report.entries, sent_ns, gap_ns, store);
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.acknowledge(report.seq, booked.held);
        if booked.cut > 0 {
            peer.strikes += 1;
            let strikes = peer.strikes;
            let name = self.name_of(id);
            self.tell(Event::Clamped {
                name: name.clone(),
                units: booked.cut,
                strikes,
            });
            if strikes >= STRIKES {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.quarantined = true;
                }
                self.tell(Event::Quarantined { name });
            }
        }
    }
}
