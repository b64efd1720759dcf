//! A node's configuration, checked before anything starts.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

use ratelimit_model::LimitError;
use siphasher::sip::SipHasher13;

use crate::id::{LimitId, MAX_NAME, NodeId};
use crate::limits::{LimitSpec, MAX_FLOOR_PPM, MAX_LIMITS, Mode};
use crate::message::MAX_ADDRESS;
use crate::mutants::Switches;

/// What a node does about `Eventual` keys whose owner it does not hear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPartition {
    /// After the hold-down each side of a partition has its own owner: `k` sides may spend `k` times the limit.
    #[default]
    Open,
    /// Each side gets the part of the rate that it has of the nodes.
    Share,
    /// Nobody takes over: cut-off nodes spend `R/N` and `B/N` each.
    Closed,
}

/// Sizes that nothing outgrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Keys that this node keeps books for as their owner (about 200 bytes each, and 160 for each node that uses one).
    pub accounts: usize,
    /// Leases that this node holds (about 100 bytes each).
    pub leases: usize,
    /// Answers and acknowledgements of leases that wait for one peer's control stream (about 100 bytes each).
    pub answers_per_peer: usize,
    /// Events that wait for [`Node::poll_event`](crate::Node::poll_event); the oldest are dropped and counted.
    pub events: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Caps {
            accounts: 1 << 20,
            leases: 1 << 16,
            answers_per_peer: 1 << 13,
            events: 1024,
        }
    }
}

/// What a node is told before it starts. Times are nanoseconds.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name, as in its certificate: 1 to 64 bytes.
    pub name: String,
    /// Where others reach it, for the driver of theirs; may be empty.
    pub address: String,
    /// The names of the nodes that own keys. Needed for `Bounded` and `Strict`, the same on all nodes. For `Eventual` they
    /// are the only candidates if given, and all nodes are if not.
    pub owners: Vec<String>,
    /// For `Eventual` limits.
    pub on_partition: OnPartition,
    /// Between two reports of a key in steady use: 1 ms to 10 s.
    pub interval_ns: u64,
    /// How long a lease holds: at least four intervals, at most a minute.
    pub ttl_ns: u64,
    /// The most nodes there will be: 1 to 65,535. Floors of `Strict` limits are held back for as many.
    pub max_nodes: u64,
    /// No debt of an `Eventual` key exceeds this many bursts, and none exceeds one for each node that used it.
    pub debt_bursts: u64,
    /// No earlier life of this node can have left anything behind: its driver finds no stored incarnation. Otherwise a
    /// node runs without overdraft for a burst's time (at most a minute), and an owner grants nothing of `Bounded` and
    /// `Strict` limits for one lease time and starts with empty buckets.
    pub first_start: bool,
    /// The limits to start with. Others are learnt from peers.
    pub limits: Vec<LimitSpec>,
    /// Sizes.
    pub caps: Caps,
    pub(crate) switches: Switches,
}

impl NodeConfig {
    /// Defaults for the node called `name`: no owners, open, 50 ms, leases of 1 s, at most 256 nodes.
    #[must_use]
    pub fn new(name: &str) -> Self {
        NodeConfig {
            name: name.to_string(),
            address: String::new(),
            owners: Vec::new(),
            on_partition: OnPartition::Open,
            interval_ns: 50_000_000,
            ttl_ns: 1_000_000_000,
            max_nodes: 256,
            debt_bursts: 1000,
            first_start: false,
            limits: Vec::new(),
            caps: Caps::default(),
            switches: Switches::default(),
        }
    }

    /// Leaves rules out; see [`Mutants`](crate::Mutants).
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    #[must_use]
    pub fn break_on_purpose(mut self, mutants: crate::Mutants) -> Self {
        self.switches = Switches::new(mutants);
        self
    }

    /// What all nodes must agree on, as 64 bits: the owners and the policy.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        let owners: BTreeSet<&str> = self.owners.iter().map(String::as_str).collect();
        for owner in owners {
            hasher.write(owner.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.write_u8(self.on_partition as u8);
        hasher.finish()
    }

    pub(crate) fn owner_ids(&self) -> BTreeSet<NodeId> {
        self.owners.iter().map(|name| NodeId::of(name)).collect()
    }

    /// Says what is wrong, if anything is: the same as [`Node::new`](crate::Node::new) would.
    ///
    /// Errors: see [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        for name in core::iter::once(&self.name).chain(&self.owners) {
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(ConfigError::Name { name: name.clone() });
            }
        }
        let distinct: BTreeSet<&String> = self.owners.iter().collect();
        if self.owner_ids().len() != self.owners.len() || distinct.len() != self.owners.len() {
            return Err(ConfigError::OwnerTwice);
        }
        if self.address.len() > MAX_ADDRESS {
            return Err(ConfigError::Address);
        }
        if !(1_000_000..=10_000_000_000).contains(&self.interval_ns) {
            return Err(ConfigError::Interval);
        }
        if self.ttl_ns < 4 * self.interval_ns || self.ttl_ns > 60_000_000_000 || !self.ttl_ns.is_multiple_of(1_000_000)
        {
            return Err(ConfigError::Ttl);
        }
        if !(1..=65_535).contains(&self.max_nodes) {
            return Err(ConfigError::MaxNodes);
        }
        if self.caps.accounts < 4 || self.caps.leases == 0 || self.caps.answers_per_peer == 0 || self.caps.events == 0 {
            return Err(ConfigError::Caps);
        }
        if self.limits.len() > MAX_LIMITS {
            return Err(ConfigError::TooManyLimits);
        }
        self.limits.iter().try_for_each(|spec| self.check_limit(spec))
    }

    pub(crate) fn check_limit(&self, spec: &LimitSpec) -> Result<(), ConfigError> {
        if let Err(error) = spec.limit.validate() {
            return Err(ConfigError::Limit { id: spec.id, error });
        }
        match spec.mode {
            Mode::Eventual => {}
            _ if self.owners.is_empty() => return Err(ConfigError::NoOwners { id: spec.id }),
            Mode::Strict { floor_ppm } if floor_ppm > MAX_FLOOR_PPM => return Err(ConfigError::Floor { id: spec.id }),
            Mode::Strict { floor_ppm } => {
                let parts = u128::from(spec.limit.capacity()) * u128::from(floor_ppm) / 1_000_000;
                if floor_ppm > 0 && parts < u128::from(self.max_nodes) {
                    return Err(ConfigError::FloorTooSmall { id: spec.id });
                }
            }
            Mode::Bounded { .. } => {}
        }
        Ok(())
    }
}

/// Why a configuration cannot be. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name that is empty or too long.
    Name {
        /// The name.
        name: String,
    },
    /// An owner twice, or two owners whose names cannot be told apart.
    OwnerTwice,
    /// The address is too long.
    Address,
    /// The interval is out of range.
    Interval,
    /// The lease time is out of range.
    Ttl,
    /// The number of nodes is out of range.
    MaxNodes,
    /// A cap of zero.
    Caps,
    /// More limits than a node keeps.
    TooManyLimits,
    /// A limit that makes no sense.
    Limit {
        /// Which.
        id: LimitId,
        /// What is wrong.
        error: LimitError,
    },
    /// `Bounded` or `Strict` without owners.
    NoOwners {
        /// Which.
        id: LimitId,
    },
    /// A floor above the limit.
    Floor {
        /// Which.
        id: LimitId,
    },
    /// A floor of less than one unit a node.
    FloorTooSmall {
        /// Which.
        id: LimitId,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Name { name } => write!(
                f,
                "\"{}\" is no node name: use 1 to {MAX_NAME} bytes, the name in the node's certificate",
                name.escape_debug()
            ),
            ConfigError::OwnerTwice => f.write_str("an owner is named twice: name each owner once"),
            ConfigError::Address => write!(f, "the address is too long: use at most {MAX_ADDRESS} bytes"),
            ConfigError::Interval => f.write_str("the interval is out of range: use 1 ms to 10 s (default 50 ms)"),
            ConfigError::Ttl => f.write_str(
                "the lease time is out of range: use whole milliseconds from four intervals to 60 s (default 1 s)",
            ),
            ConfigError::MaxNodes => f.write_str("max_nodes is out of range: use 1 to 65535"),
            ConfigError::Caps => f.write_str("a cap is too small: use at least 4 accounts and 1 of everything else"),
            ConfigError::TooManyLimits => write!(f, "there are more than {MAX_LIMITS} limits: use fewer"),
            ConfigError::Limit { id, error } => write!(f, "limit {}: {error}", id.0),
            ConfigError::NoOwners { id } => write!(
                f,
                "limit {} is bounded or strict, which needs one owner for every key: name the owner nodes in `owners`",
                id.0
            ),
            ConfigError::Floor { id } => {
                write!(
                    f,
                    "limit {}: the floor is above the limit: use at most {MAX_FLOOR_PPM} millionths",
                    id.0
                )
            }
            ConfigError::FloorTooSmall { id } => write!(
                f,
                "limit {}: the floor of the burst is below one unit a node: raise the burst or the floor, lower max_nodes, \
                 or use a floor of 0",
                id.0
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use ratelimit_model::Limit;

    fn spec(mode: Mode) -> LimitSpec {
        LimitSpec {
            id: LimitId(7),
            version: 1,
            author: NodeId(1),
            limit: Limit::new(10, Duration::from_secs(1)).expect("a limit"),
            mode,
        }
    }

    #[test]
    fn bad_configurations_are_told_what_to_do() {
        let good = NodeConfig::new("a");
        assert_eq!(good.check(), Ok(()));
        let with = |change: &dyn Fn(&mut NodeConfig)| {
            let mut config = NodeConfig::new("a");
            change(&mut config);
            config.check().expect_err("a bad configuration").to_string()
        };
        for (text, change) in [
            (
                "1 to 64 bytes",
                &(|c: &mut NodeConfig| c.name.clear()) as &dyn Fn(&mut NodeConfig),
            ),
            ("each owner once", &|c| c.owners = ["b", "b"].map(String::from).to_vec()),
            ("1 ms to 10 s", &|c| c.interval_ns = 0),
            ("four intervals", &|c| c.ttl_ns = 100_000_000),
            ("65535", &|c| c.max_nodes = 0),
            ("at least 4 accounts", &|c| c.caps.accounts = 0),
            ("in `owners`", &|c| {
                c.limits = [spec(Mode::Strict { floor_ppm: 0 })].to_vec()
            }),
            ("below one unit a node", &|c| {
                c.owners = [String::from("a")].to_vec();
                c.limits = [spec(Mode::Strict { floor_ppm: 1000 })].to_vec();
            }),
        ] {
            assert!(with(change).contains(text), "{} does not say {text}", with(change));
        }
    }

    #[test]
    fn nodes_agree_whatever_the_order_of_owners() {
        let mut a = NodeConfig::new("a");
        a.owners = ["x", "y"].map(String::from).to_vec();
        let mut b = NodeConfig::new("b");
        b.owners = ["y", "x"].map(String::from).to_vec();
        assert_eq!(a.fingerprint(), b.fingerprint());
        b.on_partition = OnPartition::Closed;
        assert_ne!(a.fingerprint(), b.fingerprint());
        b.on_partition = OnPartition::Open;
        b.owners = [String::from("xy")].to_vec();
        assert_ne!(a.fingerprint(), b.fingerprint());
    }
}
