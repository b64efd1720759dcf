//! What a node of a cluster tells through `tracing`: the table, and which event of the driver is which of it.

use std::collections::BTreeMap;

use ratelimit_protocol::membership::Standing;
use ratelimit_quic::Event;

use crate::events::Pace;

/// Events of a kind that one node tells in ten seconds: all nodes of a usual cluster may come or go at once.
const LINES: u64 = 10;

crate::event_table! {
    /// What a node of a cluster tells. `node` is its name in each.
    EVENTS:
    NODE_STARTED: INFO, "node_started", "the node of the cluster has started", "node, address",
        "With the first decision, or when somebody asked for peers. address is where it is reached over UDP. Nothing to do.";
    NODE_FAILED: ERROR, "node_failed", "the node of the cluster did not start: this limiter decides by itself", "node, error",
        "The error says what to do. Until a restart this process keeps the part of the limit that a node which hears nobody may use.";
    NODE_STOPPED: INFO, "node_stopped", "the node of the cluster has ended", "node, gracefully",
        "gracefully is true if it handed over what it owned and said goodbye. If not, the others miss it after three seconds.";
    GOODBYE_LATE: WARN, "goodbye_late", "the node of the cluster did not say goodbye in time: the others will miss it after a while", "node",
        "Peers did not confirm the last reports within five seconds, mostly because they are not heard. Nothing to do if they were stopped too.";
    NODE_RESTARTED: ERROR, "node_restarted", "the cluster's thread met a bug and starts over; decisions go on", "node, panic, left_out",
        "A fault of this program: please report it with its text. What was on its way to owners is reported again.";
    FORKED: WARN, "forked",
        "this process was forked from a node of a cluster and is none itself: it keeps the part of the limit that a node which hears nobody may use",
        "node",
        "Share the table (`share`), or make the limiter after the fork under a name of its own.";
    PEER_JOINED: INFO, "peer_joined", "a peer is linked", "node, peer, incarnation, left_out",
        "For the first time, again, or in a new life (another incarnation). Nothing to do.";
    PEER_HEARD: INFO, "peer_heard", "a peer is heard again", "node, peer, left_out",
        "It was silent for a moment. Many of these mean a network that loses packets or a machine that stalls.";
    PEER_SUSPECT: WARN, "peer_suspect", "a peer fell silent", "node, peer, left_out",
        "Its process, its machine or the network between. It keeps what it owns; peer_dead follows if it stays silent.";
    PEER_DEAD: WARN, "peer_dead", "a peer is taken for dead", "node, peer, left_out",
        "Its keys of eventual limits get other owners. Start it again, or mend the network; one that is gone for good is forgotten after an hour.";
    PEER_LEFT: INFO, "peer_left", "a peer left", "node, peer, left_out",
        "It said goodbye and handed over what it owned. Nothing to do.";
    OWNERS_CHANGED: INFO, "owners_changed", "the owners of keys changed", "node, owners, nodes, left_out",
        "Nodes came or went, and one key in so many has another owner. Debts move with their keys. Nothing to do.";
    MODE_OF_WORK: INFO, "mode_of_work", "this node works in another way now", "node, mode, left_out",
        "mode is whole (every node that did not say goodbye is heard), parted (some are not) or alone (none is). For long in one of the last \
         two: look at the network and at the other nodes. What it admits meanwhile: docs/consistency.md.";
    CLUSTER_LIMIT_CHANGED: INFO, "cluster_limit_changed", "a newer version of a limit is in force on this node", "node, limit, version, left_out",
        "Set here or on another node. limit is the limit's number in the cluster: its place from 0, and how many there are times 256.";
    PEER_REFUSED: WARN, "peer_refused", "a link was refused", "node, peer, reason, by_peer, left_out",
        "Both certificates are good, and the two do not fit: Configuration (owners or on_partition differ), Version, Name, Incarnation \
         (its name is in use), Full (max_nodes), Malformed. by_peer says who refused. Make the two alike.";
    HANDSHAKE_REFUSED: WARN, "handshake_refused", "a handshake came to nothing", "node, address, reason, left_out",
        "Somebody who is no node, or a node with a wrong certificate; reason is that of ratelimit_cluster_handshakes_refused_total, which counts \
         all of them. If address is a node's, renew its certificate; if not, find out who it is.";
    DUPLICATE_NAME: ERROR, "duplicate_name", "two processes use one name: give each its own", "node, name, left_out",
        "Neither owns keys until one is gone. Mostly a copied configuration, or workers that each became a node.";
    PEER_CLAMPED: WARN, "peer_clamped", "a peer reported more than it can have spent", "node, peer, units, strikes, left_out",
        "The excess was not charged. At the third strike the peer is quarantined. A clock that jumps, a bug, or a peer that was taken over.";
    PEER_QUARANTINED: ERROR, "peer_quarantined", "a peer's reports are ignored until it is restarted", "node, peer, left_out",
        "What it admits is in nobody's books. Find out why it reported too much, then restart it.";
    UNITS_LOST: WARN, "units_lost", "units were given up: the table had no room for them", "node, units, left_out",
        "They were admitted and are charged to nobody. Raise max_keys.";
    CERTIFICATES_RELOADED: INFO, "certificates_reloaded", "certificates were read anew", "node, valid_days, left_out",
        "New links use them. Nothing to do.";
    CERTIFICATES_FAILED: ERROR, "certificates_failed", "certificates changed and are of no use: the ones before stay", "node, reason, left_out",
        "The reason names the file and what is wrong with it.";
    CERTIFICATE_EXPIRES: WARN, "certificate_expires", "this node's certificate expires soon: renew it", "node, hours, left_out",
        "At 0 hours no new link comes up. Run `ratelimit certs` again for this node; no restart is needed.";
    SEED_UNRESOLVED: WARN, "seed_unresolved", "a seed cannot be resolved", "node, seed, reason, left_out",
        "It is tried again by itself. Correct the name, or the system's name service.";
}

/// Tells an event of the table, with these fields.
macro_rules! tell {
    ($id:ident $($rest:tt)*) => { $crate::tell_event!($crate::cluster::events::$id $($rest)*) };
}
pub(crate) use tell;

/// Tells the events of one node's driver, each kind at its own pace.
pub(crate) struct Teller {
    node: String,
    paces: BTreeMap<&'static str, Pace>,
}

impl Teller {
    pub(crate) fn new(node: &str) -> Self {
        Teller {
            node: node.to_owned(),
            paces: EVENTS.iter().map(|event| (event.name, Pace::new(LINES))).collect(),
        }
    }

    pub(crate) fn tell(&self, event: &Event) {
        let node = self.node.as_str();
        macro_rules! paced {
            ($id:ident $($rest:tt)*) => {
                if let Some(left_out) = self.paces.get($id.name).and_then(Pace::take) {
                    tell!($id, node $($rest)*, left_out);
                }
            };
        }
        match event {
            Event::PeerJoined {
                name: peer,
                incarnation,
            } => paced!(PEER_JOINED, peer, incarnation = incarnation.0),
            Event::PeerStanding { name: peer, standing } => match standing {
                Standing::Alive => paced!(PEER_HEARD, peer),
                Standing::Suspect => paced!(PEER_SUSPECT, peer),
                Standing::Dead => paced!(PEER_DEAD, peer),
                Standing::Left => paced!(PEER_LEFT, peer),
                // Nobody falls back to that.
                Standing::Unheard => {}
            },
            Event::OwnersChanged { owners, nodes } => paced!(OWNERS_CHANGED, owners, nodes),
            Event::ModeOfWork(mode) => paced!(MODE_OF_WORK, mode = mode.label()),
            Event::LimitChanged { id, version } => paced!(CLUSTER_LIMIT_CHANGED, limit = id.0, version),
            Event::PeerRefused {
                name: peer,
                reason,
                by_peer,
            } => paced!(PEER_REFUSED, peer, ?reason, by_peer),
            Event::HandshakeRefused { address, reason } => {
                paced!(HANDSHAKE_REFUSED, %address, reason = reason.label());
            }
            Event::DuplicateName { name } => paced!(DUPLICATE_NAME, name),
            Event::Clamped {
                name: peer,
                units,
                strikes,
            } => paced!(PEER_CLAMPED, peer, units, strikes),
            Event::Quarantined { name: peer } => paced!(PEER_QUARANTINED, peer),
            Event::UnitsLost { units } => paced!(UNITS_LOST, units),
            Event::CertificatesReloaded { not_after } => {
                let valid = not_after
                    .duration_since(std::time::SystemTime::now())
                    .unwrap_or_default();
                paced!(CERTIFICATES_RELOADED, valid_days = valid.as_secs() / 86_400);
            }
            Event::CertificatesFailed { reason } => paced!(CERTIFICATES_FAILED, reason),
            Event::CertificateExpires { left } => paced!(CERTIFICATE_EXPIRES, hours = left.as_secs() / 3_600),
            Event::SeedUnresolved { seed, reason } => paced!(SEED_UNRESOLVED, seed, reason),
            Event::Restarted { panic } => paced!(NODE_RESTARTED, panic),
            Event::Stopped { gracefully } => tell!(NODE_STOPPED, node, gracefully),
            // The enum may grow; a test below tells every variant there is.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use ratelimit_protocol::message::Refusal;
    use ratelimit_protocol::{Incarnation, LimitId};
    use ratelimit_quic::{HandshakeRefusal, ModeOfWork};
    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;

    /// One of each kind that the driver tells and this crate makes a line of.
    fn all() -> Vec<Event> {
        let name = || "b".to_owned();
        let standing = |standing| Event::PeerStanding { name: name(), standing };
        vec![
            Event::PeerJoined {
                name: name(),
                incarnation: Incarnation(7),
            },
            standing(Standing::Alive),
            standing(Standing::Suspect),
            standing(Standing::Dead),
            standing(Standing::Left),
            Event::OwnersChanged { owners: 2, nodes: 3 },
            Event::ModeOfWork(ModeOfWork::Parted),
            Event::LimitChanged {
                id: LimitId(256),
                version: 2,
            },
            Event::PeerRefused {
                name: name(),
                reason: Refusal::Configuration,
                by_peer: true,
            },
            Event::HandshakeRefused {
                address: "10.0.0.1:1".parse().expect("an address"),
                reason: HandshakeRefusal::Expired,
            },
            Event::DuplicateName { name: name() },
            Event::Clamped {
                name: name(),
                units: 5,
                strikes: 1,
            },
            Event::Quarantined { name: name() },
            Event::UnitsLost { units: 1 },
            Event::CertificatesReloaded {
                not_after: SystemTime::now(),
            },
            Event::CertificatesFailed { reason: name() },
            Event::CertificateExpires {
                left: Duration::from_secs(7_200),
            },
            Event::SeedUnresolved {
                seed: name(),
                reason: name(),
            },
            Event::Restarted { panic: name() },
            Event::Stopped { gracefully: true },
        ]
    }

    /// A line as it was told: the value of `event`, and the names of the other fields.
    #[derive(Default)]
    struct Line(String, Vec<&'static str>);

    impl Visit for Line {
        fn record_str(&mut self, field: &Field, value: &str) {
            match field.name() {
                "event" => value.clone_into(&mut self.0),
                name => self.1.push(name),
            }
        }

        fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
            if field.name() != "message" {
                self.1.push(field.name());
            }
        }
    }

    struct Ear(Arc<Mutex<Vec<Line>>>);

    impl tracing::Subscriber for Ear {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().expect("no panic").push(line);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn told_by(tell: impl FnOnce()) -> Vec<Line> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        tracing::subscriber::with_default(Ear(lines.clone()), tell);
        std::mem::take(&mut *lines.lock().expect("no panic"))
    }

    #[test]
    fn every_event_of_the_driver_is_told_with_the_fields_of_its_row() {
        let teller = Teller::new("a");
        let lines = told_by(|| all().iter().for_each(|event| teller.tell(event)));
        assert_eq!(lines.len(), all().len());
        for Line(name, fields) in &lines {
            let row = EVENTS.iter().find(|event| event.name == name.as_str()).expect("a row");
            assert_eq!(row.fields, fields.join(", "), "{name}");
        }
        // What is left is told by the member, not by its driver.
        let untold: Vec<&str> = (EVENTS.iter().map(|event| event.name))
            .filter(|name| lines.iter().all(|line| line.0 != *name))
            .collect();
        assert_eq!(untold, ["node_started", "node_failed", "goodbye_late", "forked"]);
    }

    #[test]
    fn a_kind_that_comes_often_is_left_out_and_another_is_not() {
        let teller = Teller::new("a");
        let lines = told_by(|| {
            for _ in 0..100 {
                teller.tell(&Event::UnitsLost { units: 1 });
            }
            teller.tell(&Event::SeedUnresolved {
                seed: "b".to_owned(),
                reason: "no such name".to_owned(),
            });
        });
        let lost = lines.iter().filter(|line| line.0 == "units_lost").count();
        assert!((10..=12).contains(&lost), "{lost}");
        assert_eq!(lines.last().map(|line| line.0.as_str()), Some("seed_unresolved"));
    }
}
