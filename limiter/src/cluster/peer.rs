//! What a node says of its peers, in every language.

use std::time::Duration;

/// A node of the cluster as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name, as its certificate says.
    pub name: String,
    /// Where its link goes, or went last, as address and port; empty if it was only heard of.
    pub address: String,
    /// How it stands.
    pub state: PeerState,
    /// The round-trip time of its link, if there is one.
    pub rtt: Option<Duration>,
    /// How long the oldest report to it has waited for its acknowledgement; zero if none waits.
    pub lag: Duration,
    /// Units in reports that it has not acknowledged.
    pub unacked_units: u64,
    /// Bytes sent to it, over all links.
    pub sent_bytes: u64,
    /// Bytes received from it, over all links.
    pub received_bytes: u64,
}

/// How a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerState {
    /// There is a link to it.
    Linked,
    /// It was only heard of.
    Unheard,
    /// It was heard a moment ago, and there is no link.
    Alive,
    /// It was not heard for a moment: it keeps what it owns.
    Suspect,
    /// It was not heard for longer.
    Dead,
    /// It said goodbye.
    Left,
}

impl PeerState {
    /// The word for it in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PeerState::Linked => "linked",
            PeerState::Unheard => "unheard",
            PeerState::Alive => "alive",
            PeerState::Suspect => "suspect",
            PeerState::Dead => "dead",
            PeerState::Left => "left",
        }
    }
}

/// The word for the state.
impl std::fmt::Display for PeerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
