//! What a driver counts.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::{Incarnation, NodeStats};

use crate::event::{HandshakeRefusal, ModeOfWork};

/// A peer, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Its name, as its certificate says.
    pub name: String,
    /// Where its link goes, or where it was last; `None` if it was only heard of.
    pub address: Option<SocketAddr>,
    /// How it stands.
    pub standing: Standing,
    /// Whether there is a link.
    pub linked: bool,
    /// The life that it last said hello in.
    pub incarnation: Option<Incarnation>,
    /// The link's round-trip time.
    pub rtt: Option<Duration>,
    /// How long the oldest report to it has waited for its acknowledgement; zero if none waits.
    pub lag: Duration,
    /// Units in reports that it has not acknowledged.
    pub unacked_units: u64,
    /// Bytes sent to it in UDP datagrams, over all links.
    pub sent_bytes: u64,
    /// Bytes received from it in UDP datagrams, over all links.
    pub received_bytes: u64,
    /// Links that came up.
    pub links_up: u64,
}

/// Counters and sizes of a driver. A copy that the thread makes about twice a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DriverStats {
    /// The protocol's own.
    pub node: NodeStats,
    /// This node's life.
    pub incarnation: Incarnation,
    /// How this node works.
    pub mode_of_work: Option<ModeOfWork>,
    /// Handshakes that came to nothing, by reason, in the order of [`HandshakeRefusal::ALL`].
    pub handshakes_refused: [u64; HandshakeRefusal::ALL.len()],
    /// Handshakes of others in progress.
    pub handshakes_in_progress: usize,
    /// Times that a source was told to prove its address first.
    pub retries_asked: u64,
    /// Links that came up, of both directions.
    pub links_up: u64,
    /// Links that went down.
    pub links_down: u64,
    /// Until when this node's certificate is valid.
    pub certificate_not_after: Option<SystemTime>,
    /// Times that certificates were read anew.
    pub certificates_reloaded: u64,
    /// Times that they changed and were of no use.
    pub certificates_failed: u64,
    /// Times that the thread started over after a panic.
    pub panics: u64,
    /// Times that the thread woke up.
    pub wakes: u64,
    /// Times that it was woken by [`Kicker::kick`](crate::Kicker::kick).
    pub kicks: u64,
    /// The longest time between two looks at the table, of late: what a slow table or a busy machine costs.
    pub longest_turn: Duration,
}

impl DriverStats {
    /// Handshakes that came to nothing for this reason.
    #[must_use]
    pub fn refused(&self, reason: HandshakeRefusal) -> u64 {
        let place = HandshakeRefusal::ALL.iter().position(|other| *other == reason);
        place.map_or(0, |place| self.handshakes_refused[place])
    }
}
