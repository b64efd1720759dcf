//! What a driver tells whoever runs it.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::message::Refusal;
use ratelimit_protocol::{Incarnation, LimitId};

/// Something changed. Given to the function that was passed to [`Driver::start`](crate::Driver::start), on the driver's
/// thread and in order; nothing depends on what it does with it, but the cluster waits meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer is linked: for the first time, again, or in a new life.
    PeerJoined {
        /// Its name.
        name: String,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A peer fell silent (suspect, then dead), is heard again (alive), or said goodbye (left).
    PeerStanding {
        /// Its name.
        name: String,
        /// How it stands now.
        standing: Standing,
    },
    /// The nodes that own `Eventual` keys changed: keys may move.
    OwnersChanged {
        /// How many there are.
        owners: u64,
        /// Nodes in view.
        nodes: u64,
    },
    /// This node works in another way now.
    ModeOfWork(ModeOfWork),
    /// A newer version of a limit is in force here.
    LimitChanged {
        /// Which.
        id: LimitId,
        /// Its version.
        version: u64,
    },
    /// A peer refused this node, or this node a peer, after both certificates were found good.
    PeerRefused {
        /// The peer.
        name: String,
        /// Why.
        reason: Refusal,
        /// Whether the peer refused this node.
        by_peer: bool,
    },
    /// Somebody who is no node of this cluster, or cannot prove it, tried to link. At most one event a second; the counts
    /// are in [`DriverStats`](crate::DriverStats).
    HandshakeRefused {
        /// Where from, or where to.
        address: SocketAddr,
        /// Why.
        reason: HandshakeRefusal,
    },
    /// Two processes use one name: neither owns keys until this is over.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A peer reported more than it can have spent. The excess is not charged.
    Clamped {
        /// The peer.
        name: String,
        /// Units cut.
        units: u64,
        /// Its strikes; at the third it is quarantined.
        strikes: u32,
    },
    /// A peer's reports are ignored until it comes back in another life.
    Quarantined {
        /// The peer.
        name: String,
    },
    /// Units were given up: the table has no room to put them back.
    UnitsLost {
        /// How many.
        units: u64,
    },
    /// Certificates were read anew; new links use them.
    CertificatesReloaded {
        /// Until when this node's own is valid.
        not_after: SystemTime,
    },
    /// Certificates changed and are of no use: the ones before stay in use.
    CertificatesFailed {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// This node's certificate expires soon, or has. Links that are up stay; no new ones come up after.
    CertificateExpires {
        /// How long it is still valid; zero if it is not.
        left: Duration,
    },
    /// A seed cannot be resolved. At most one event for each seed until it can.
    SeedUnresolved {
        /// The seed.
        seed: String,
        /// The system's word.
        reason: String,
    },
    /// The thread met a bug of ours or of the table's, and starts over in a new life. Decisions go on meanwhile.
    Restarted {
        /// What the panic said.
        panic: String,
    },
    /// The driver has ended: it left, or was dropped. The last event.
    Stopped {
        /// Whether it said goodbye and handed its keys over.
        gracefully: bool,
    },
}

/// How a node decides, as far as the cluster is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeOfWork {
    /// No other node is known or heard: this node decides by itself.
    Alone,
    /// Every node that is known and did not say goodbye is heard.
    Whole,
    /// Some nodes that are known are not heard.
    Parted,
}

impl ModeOfWork {
    /// All ways, in order.
    pub const ALL: [ModeOfWork; 3] = [ModeOfWork::Alone, ModeOfWork::Whole, ModeOfWork::Parted];

    /// A name for a label of a metric and for a line of log; it never changes.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            ModeOfWork::Alone => "alone",
            ModeOfWork::Whole => "whole",
            ModeOfWork::Parted => "parted",
        }
    }
}

/// Why a handshake came to nothing. Each is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HandshakeRefusal {
    /// Its certificate was signed by nobody that this node believes.
    UnknownAuthority,
    /// Its certificate has expired, or is not valid yet.
    Expired,
    /// It showed no certificate.
    NoCertificate,
    /// Its certificate names no node, is for another use, or names another node than the one that was called.
    Name,
    /// Its certificate is damaged, revoked or otherwise wrong.
    BadCertificate,
    /// It speaks another protocol or version of TLS.
    Protocol,
    /// The other side refused this node's certificate.
    OurCertificate,
    /// It took too long.
    Timeout,
    /// Too many handshakes are in progress, here or from its address.
    TooMany,
    /// Anything else.
    Other,
}

impl HandshakeRefusal {
    /// All reasons, in order.
    pub const ALL: [HandshakeRefusal; 10] = [
        HandshakeRefusal::UnknownAuthority,
        HandshakeRefusal::Expired,
        HandshakeRefusal::NoCertificate,
        HandshakeRefusal::Name,
        HandshakeRefusal::BadCertificate,
        HandshakeRefusal::Protocol,
        HandshakeRefusal::OurCertificate,
        HandshakeRefusal::Timeout,
        HandshakeRefusal::TooMany,
        HandshakeRefusal::Other,
    ];

    /// A name for a label of a metric; it never changes.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            HandshakeRefusal::UnknownAuthority => "unknown_authority",
            HandshakeRefusal::Expired => "expired",
            HandshakeRefusal::NoCertificate => "no_certificate",
            HandshakeRefusal::Name => "name",
            HandshakeRefusal::BadCertificate => "bad_certificate",
            HandshakeRefusal::Protocol => "protocol",
            HandshakeRefusal::OurCertificate => "our_certificate",
            HandshakeRefusal::Timeout => "timeout",
            HandshakeRefusal::TooMany => "too_many",
            HandshakeRefusal::Other => "other",
        }
    }
}
