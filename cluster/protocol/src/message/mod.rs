//! What nodes say to each other. [`Message`] is the protocol's document; `docs/protocol.md` draws its bytes.

mod decode;
mod encode;

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{Cell, Incarnation, Key, LimitId, NodeId};
use crate::limits::LimitSpec;

pub(crate) use self::encode::{SECTION_LEN, entry_len};

/// The version of the protocol that this code speaks, and the oldest that it understands.
pub const VERSION: u64 = 1;
/// The oldest version understood.
pub const OLDEST_VERSION: u64 = 1;
/// Optional parts this node understands, one bit each. None are defined yet; unknown bits are ignored.
pub const FEATURES: u64 = 0;
/// The most nodes told of in one hello.
pub const MAX_PEERS_TOLD: usize = 256;
/// The longest address told, in bytes.
pub const MAX_ADDRESS: usize = 255;

/// One message; each is one frame.
///
/// ```text
///   A                                  B
///   |--- Hello ----------------------->|   once, first, on both control streams: who, which life, what is applied
///   |<-- Hello ------------------------|
///   |--- Limits ---------------------->|   all of them after hello, later those that change; both ways
///   |--- Peers ----------------------->|   nodes that came after hello, so that those who join together find each other
///   |--- Heartbeat ------------------->|   every 500 ms or more, both ways: whom I hear
///   |                                  |
///   |=== Report k ====================>|   report stream: units used since the last report, for keys that B owns
///   |<-- ReportAck k ------------------|   applied up to k
///   |<-- Lease (answers k) ------------|   only if a key is contended, or A asked
///   |--- LeaseAck -------------------->|   what was in force, what tokens come back (Bounded and Strict)
///   |<-- Rearm k ----------------------|   overdraft whose charge no longer leaves a debt (Bounded)
///   |                                  |
///   |--- Handover -------------------->|   A owned keys that B owns now
///   |--- Goodbye --------------------->|   A leaves: B takes over at once instead of after the hold-down
///   |<-- Refuse -----------------------|   instead of an answer to hello; the link is closed
/// ```
///
/// A message that a node does not know is skipped: its frame says how long it is. Fields may be added at the end of a
/// message; a node ignores what comes after those it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message on a control stream. Reply: a `Hello` (both sides send theirs at once), or a [`Message::Refuse`].
    Hello(Hello),
    /// Use of keys that the receiver owns; only on the report stream. Reply: [`Message::ReportAck`], perhaps a [`Message::Lease`].
    Report(Report),
    /// All reports up to a number are applied. No reply.
    ReportAck(ReportAck),
    /// Shares of limits. Reply for `Bounded` and `Strict`: [`Message::LeaseAck`].
    Lease(LeaseOffer),
    /// Leases that are in force or over. No reply, but a waiting holder may get a [`Message::Lease`].
    LeaseAck(Vec<LeaseAck>),
    /// Life. No reply.
    Heartbeat(Heartbeat),
    /// Limits. No reply: a node that knows better tells it.
    Limits(Vec<LimitSpec>),
    /// The sender leaves. No reply.
    Goodbye,
    /// Nodes that the sender has linked to since its hello: name and address. At most [`MAX_PEERS_TOLD`].
    Peers(Vec<(String, String)>),
    /// Debts of keys that the receiver owns now, merged by maximum. No reply.
    Handover(Handover),
    /// Units of `Bounded` keys that may be spent again. No reply.
    Rearm(Rearm),
    /// The link is of no use; it is closed. No reply.
    Refuse(Refusal),
}

/// Who speaks, in which life, and what of the other's reports is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The newest version the sender speaks.
    pub version: u64,
    /// The oldest version the sender understands.
    pub oldest: u64,
    /// Optional parts, one bit each.
    pub features: u64,
    /// The sender's name; must be that of its certificate.
    pub name: String,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// A hash of what all nodes must agree on: the owners, and what a partition does.
    pub configuration: u64,
    /// The life of the receiver whose reports the sender has applied; 0 if none.
    pub applied_of: Incarnation,
    /// The last report of that life that is applied; 0 if none.
    pub applied: u64,
    /// Where the sender can be reached, for those who want to link to it; may be empty.
    pub address: String,
    /// Other nodes the sender is linked to: name and address.
    pub peers: Vec<(String, String)>,
}

/// Batch `seq` of this life of the sender: applied if and only if it is one more than the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The batch's number, from 1.
    pub seq: u64,
    /// The sender's clock when it made the batch, in milliseconds since any origin: so that reports that were held up and
    /// arrive together do not look like a sudden demand. Units are charged when they arrive.
    pub sent_ms: u64,
    /// Use, by limit.
    pub entries: Vec<Entry>,
}

/// What was used of one key since it was last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Limit and key.
    pub cell: Cell,
    /// Units used; or, with [`Entry::refund`], given back.
    pub used: u64,
    /// Units denied, at least: a store may count only the first denial.
    pub denied: u64,
    /// The largest cost of a request that was denied; 0 if none was.
    pub largest: u64,
    /// The units were spent under a lease.
    pub leased: bool,
    /// The units were given back and not used.
    pub refund: bool,
    /// The sender waits for a [`Rearm`] of this key.
    pub waiting: bool,
}

/// Reports up to `seq` are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAck {
    /// The last batch that is applied.
    pub seq: u64,
    /// Cells of `Bounded` limits in batches not acknowledged before whose debt keeps their units from being spent again.
    pub held: Vec<Cell>,
}

/// Leases for the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOffer {
    /// The last report of the receiver that was applied: their time counts from when the receiver sent it. 0 if none.
    pub after: u64,
    /// The leases.
    pub grants: Vec<Grant>,
}

/// A part of one key's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Limit and key.
    pub cell: Cell,
    /// The version of the limit that this is a part of. A holder with another version gives the lease back.
    pub version: u64,
    /// The grant's number, rising for one owner's life.
    pub seq: u64,
    /// Parts of 2^32 of the rate; 2^32 is all of it.
    pub share: u64,
    /// Units that the holder may keep at most.
    pub capacity: u64,
    /// Units given now.
    pub tokens: u64,
    /// How long it holds, in milliseconds.
    pub ttl_ms: u64,
}

/// What a holder did with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAck {
    /// Limit and key.
    pub cell: Cell,
    /// The grant in force, or the one that is over.
    pub seq: u64,
    /// Units that come back.
    pub returned: u64,
    /// The lease is over.
    pub ended: bool,
    /// Said first on a new link: what was sent on an older link and is not acknowledged is void.
    pub declared: bool,
}

/// The sender lives, and whom it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Nodes alive that the sender knows of, itself included.
    pub members: u64,
    /// When the next heartbeat on this link comes at the latest, in milliseconds.
    pub beat_ms: u64,
    /// The receiver's name is used by two processes: it must own nothing for a while.
    pub barred: bool,
    /// The nodes that it hears and that may own keys, if that changed since the last heartbeat on this link.
    pub heard: Option<Vec<NodeId>>,
}

/// Debts of keys of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The limit.
    pub limit: LimitId,
    /// Keys and the units that they owe, rounded up.
    pub debts: Vec<(Key, u64)>,
}

/// Overdraft that may be spent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rearm {
    /// Units of reports up to this one; later ones wait for their own acknowledgement.
    pub seq: u64,
    /// Limits and keys.
    pub cells: Vec<Cell>,
}

/// Why a link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refusal {
    /// No version that both speak.
    Version,
    /// The name in hello is not the authenticated one, or is the receiver's own.
    Name,
    /// Owners or partition policy differ.
    Configuration,
    /// A later life of the same name is known: two processes use one name, or this is the older of them.
    Incarnation,
    /// Bytes that could not be understood.
    Malformed,
    /// Another link between the same two nodes is kept.
    Duplicate,
    /// The receiver knows as many nodes as it may.
    Full,
    /// The receiver leaves.
    Leaving,
    /// Nothing was understood on the link for too long.
    Silent,
    /// A reason this version does not know.
    Other(u64),
}

impl Refusal {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Refusal::Version => 1,
            Refusal::Name => 2,
            Refusal::Configuration => 3,
            Refusal::Incarnation => 4,
            Refusal::Malformed => 5,
            Refusal::Duplicate => 6,
            Refusal::Full => 7,
            Refusal::Leaving => 8,
            Refusal::Silent => 9,
            Refusal::Other(code) => code,
        }
    }

    pub(crate) const fn of_code(code: u64) -> Self {
        match code {
            1 => Refusal::Version,
            2 => Refusal::Name,
            3 => Refusal::Configuration,
            4 => Refusal::Incarnation,
            5 => Refusal::Malformed,
            6 => Refusal::Duplicate,
            7 => Refusal::Full,
            8 => Refusal::Leaving,
            9 => Refusal::Silent,
            code => Refusal::Other(code),
        }
    }
}

/// The numbers in front of the messages. They are promises: added to, never changed.
pub(crate) mod kind {
    pub(crate) const HELLO: u64 = 1;
    pub(crate) const REPORT: u64 = 2;
    pub(crate) const REPORT_ACK: u64 = 3;
    pub(crate) const LEASE: u64 = 4;
    pub(crate) const LEASE_ACK: u64 = 5;
    pub(crate) const HEARTBEAT: u64 = 6;
    pub(crate) const LIMITS: u64 = 7;
    pub(crate) const GOODBYE: u64 = 8;
    pub(crate) const HANDOVER: u64 = 9;
    pub(crate) const REARM: u64 = 10;
    pub(crate) const REFUSE: u64 = 11;
    pub(crate) const PEERS: u64 = 12;
}

/// Bits beside the units of a report's entry.
pub(crate) mod flag {
    pub(crate) const DENIED: u64 = 1;
    pub(crate) const LEASED: u64 = 2;
    pub(crate) const REFUND: u64 = 4;
    pub(crate) const WAITING: u64 = 8;
    pub(crate) const BITS: u32 = 4;
}

#[cfg(test)]
mod tests;
