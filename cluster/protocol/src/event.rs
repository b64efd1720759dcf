//! What a node tells whoever runs it.

use alloc::string::String;

use crate::id::{Incarnation, LimitId, LinkId};
use crate::membership::Standing;
use crate::message::Refusal;

/// Something happened. Events inform; nothing depends on their being read, and at most
/// [`Caps::events`](crate::Caps::events) wait.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer said hello.
    PeerJoined {
        /// Its name.
        name: String,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A peer fell silent, was heard again, or left.
    PeerStanding {
        /// Its name.
        name: String,
        /// How it stands now.
        standing: Standing,
    },
    /// A node's address, from itself or from another, that is new or has changed: the driver may link to it there.
    PeerTold {
        /// Its name.
        name: String,
        /// Its address, as it advertises it.
        address: String,
    },
    /// The nodes that own `Eventual` keys changed.
    OwnersChanged {
        /// How many there are.
        owners: u64,
        /// Nodes in view.
        nodes: u64,
    },
    /// A newer version of a limit is in force here.
    LimitChanged {
        /// Which.
        id: LimitId,
        /// Its version.
        version: u64,
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
    /// The driver should close this link; it is forgotten already.
    CloseLink {
        /// Which.
        link: LinkId,
        /// Why.
        reason: Refusal,
    },
    /// The other side refused this node.
    Refused {
        /// Who.
        name: String,
        /// Why.
        reason: Refusal,
    },
    /// Two processes use one name: neither owns keys until this is over.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Units were given up: no room to put them back.
    UnitsLost {
        /// How many.
        units: u64,
    },
    /// Everything is reported and handed over: the process may end.
    LeaveDone,
}
