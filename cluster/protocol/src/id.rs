//! The names of things: nodes, incarnations, keys, limits, links, streams.

use core::fmt;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The longest node name, in bytes.
pub const MAX_NAME: usize = 64;

/// A node, as 64 bits of SipHash-1-3 of its name (with a key of zeros, so that all nodes agree).
///
/// Names are chosen by whoever runs the cluster, not by clients, so collisions are accidents: about 3e-14 among 1,000
/// nodes. One that happens is refused when the second node says hello.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The identity of the node called `name`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(name.as_bytes());
        NodeId(hasher.finish())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{:016x}", self.0)
    }
}

/// One life of a node: the wall clock of its start in milliseconds, times 2^16, plus 16 random bits. The larger is the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// A client's key: 64 bits of its fingerprint under the cluster's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// A limit's number, the same on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitId(pub u32);

/// What is counted: one key under one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The limit.
    pub limit: LimitId,
    /// The client.
    pub key: Key,
}

/// A connection, named by the driver. A number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// The two ordered streams of a link, one of each in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Everything but reports: small, and never behind them.
    Control,
    /// Reports of use.
    Report,
}
