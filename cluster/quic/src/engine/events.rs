//! What the node says: bytes for its links, links to close, and what happened.

use std::time::Instant;

use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::message::Refusal;
use ratelimit_protocol::{Event as Said, LinkId};

use super::Engine;
use crate::driver::Table;
use crate::event::Event;

impl<T, C, E> Engine<'_, T, C, E>
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    /// Carries out everything that the node says.
    pub(super) fn carry_out(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            if let Some(link) = self.links.get_mut(&transmit.link) {
                link.send(transmit.stream, transmit.bytes);
            }
        }
        let mut refused_by = None;
        while let Some(said) = self.node.poll_event() {
            let event = match said {
                Said::CloseLink { link, reason } => {
                    let by_peer = refused_by.take() == Some(reason);
                    self.close(link, reason, by_peer);
                    continue;
                }
                Said::Refused { name, reason } => {
                    refused_by = Some(reason);
                    if is_ordinary(reason) {
                        continue;
                    }
                    Event::PeerRefused {
                        name,
                        reason,
                        by_peer: true,
                    }
                }
                Said::PeerTold { name, address } => {
                    self.book.tell(&name, &address, Instant::now());
                    continue;
                }
                Said::LeaveDone => {
                    self.left = true;
                    continue;
                }
                Said::PeerJoined { name, incarnation } => {
                    let now = Instant::now();
                    self.publish.soon(now);
                    let links = self
                        .links
                        .values_mut()
                        .filter(|link| link.name == name && !link.closing);
                    let address = links.map(|link| link.address).last();
                    let counters = self.lasting.counters.peers.entry(name.clone()).or_default();
                    counters.links_up += 1;
                    counters.incarnation = Some(incarnation);
                    if let Some(address) = address {
                        counters.address = Some(address);
                        // Peers listen where they call from; an address that they advertise comes from others and wins.
                        self.book.meet(&name, address, now);
                    }
                    if self.joined.insert(name.clone(), incarnation) == Some(incarnation) {
                        // A second link between the same two, which takes the place of the first.
                        continue;
                    }
                    Event::PeerJoined { name, incarnation }
                }
                Said::PeerStanding { name, standing } => {
                    self.publish.soon(Instant::now());
                    if standing == Standing::Left {
                        self.book.forget(&name);
                    }
                    Event::PeerStanding { name, standing }
                }
                Said::OwnersChanged { owners, nodes } => Event::OwnersChanged { owners, nodes },
                Said::LimitChanged { id, version } => {
                    self.publish.soon(Instant::now());
                    Event::LimitChanged { id, version }
                }
                Said::Clamped { name, units, strikes } => Event::Clamped { name, units, strikes },
                Said::Quarantined { name } => Event::Quarantined { name },
                Said::DuplicateName { name } => Event::DuplicateName { name },
                Said::UnitsLost { units } => Event::UnitsLost { units },
                // Of a later version of the protocol.
                _ => continue,
            };
            self.lasting.journal.tell(event);
        }
    }

    fn close(&mut self, id: LinkId, reason: Refusal, by_peer: bool) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.close(u32::try_from(reason.code()).unwrap_or(u32::MAX));
        let name = link.name.clone();
        if !by_peer && !is_ordinary(reason) {
            self.lasting.journal.tell(Event::PeerRefused { name, reason, by_peer });
        }
    }
}

/// Refusals that are part of the day: two links between two nodes, or a node that leaves.
fn is_ordinary(reason: Refusal) -> bool {
    matches!(reason, Refusal::Duplicate | Refusal::Leaving)
}
