//! What a driver counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
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
    /// Its strikes for reports of more than it can have spent; from the third on its reports are ignored.
    pub strikes: u32,
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
    /// Panics: of the thread, which then started over, of one of its tasks, or of the function that is told events.
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

/// What the thread counts over all its lives.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) refused: [u64; HandshakeRefusal::ALL.len()],
    pub(crate) retries_asked: u64,
    pub(crate) links_up: u64,
    pub(crate) links_down: u64,
    pub(crate) certificates_reloaded: u64,
    pub(crate) certificates_failed: u64,
    pub(crate) panics: u64,
    /// Panics of tasks, which end only what they serve.
    pub(crate) task_panics: Arc<AtomicU64>,
    pub(crate) wakes: u64,
    pub(crate) kicks: u64,
    pub(crate) peers: BTreeMap<String, PeerCounters>,
}

/// What is counted of a peer, over all its links that are gone.
#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) links_up: u64,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) incarnation: Option<Incarnation>,
}

impl Counters {
    pub(crate) fn refuse(&mut self, reason: HandshakeRefusal) {
        if let Some(place) = HandshakeRefusal::ALL.iter().position(|other| *other == reason) {
            self.refused[place] += 1;
        }
    }
}
