//! What is put to the test: one node of a cluster, behind a trait that three designs implement.

pub mod cells;
pub mod leases;
pub mod mesh;
pub mod newer;
pub mod shares;

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use serde::Serialize;

use cells::Cells;

/// Names one connection of a node for as long as it lives; never used again afterwards.
pub type LinkId = u64;

/// The two ordered streams of a connection, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Greetings, heartbeats, leases.
    Control,
    /// Counts of units used.
    Report,
}

impl Stream {
    /// 0 or 1.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Stream::Control => 0,
            Stream::Report => 1,
        }
    }
}

/// Bytes that a node wants on a stream of a link.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The connection.
    pub link: LinkId,
    /// The stream of that connection.
    pub stream: Stream,
    /// What comes next on that stream.
    pub bytes: Vec<u8>,
}

/// What a node may spend on a key before anybody allowed it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The whole burst.
    Eventual,
    /// So many units.
    Bounded(u64),
    /// Nothing.
    Strict,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mode::Eventual => f.write_str("eventual"),
            Mode::Bounded(units) => write!(f, "bounded:{units}"),
            Mode::Strict => f.write_str("strict"),
        }
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "eventual" => Ok(Mode::Eventual),
            None if text == "strict" => Ok(Mode::Strict),
            Some(("bounded", units)) => units
                .parse()
                .map(Mode::Bounded)
                .map_err(|_| format!("\"{units}\" is no number of units: write for example bounded:20")),
            _ => Err(format!(
                "\"{text}\" is no mode: write eventual, bounded:UNITS or strict"
            )),
        }
    }
}

/// What becomes of a key whose owner cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPartition {
    /// Each side elects an owner and admits the whole rate.
    Open,
    /// Each side admits in proportion to the nodes it still sees.
    Share,
    /// Floors only.
    Closed,
}

/// A limit as the simulated cluster is configured with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Units per second.
    pub rate: u64,
    /// Units at once.
    pub burst: u64,
    /// How nodes agree.
    pub mode: Mode,
    /// What they do when they cannot.
    pub on_partition: OnPartition,
    /// Larger is newer.
    pub version: u64,
}

/// One node's configuration. All limits of a run have small numbers, from 0.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that its peers authenticate.
    pub name: String,
    /// All names of the cluster, its own among them, sorted.
    pub members: Rc<Vec<String>>,
    /// Those of them that may own keys.
    pub owners: Vec<String>,
    /// The limits; the index is the limit's number.
    pub rules: Vec<Rule>,
    /// Time between two reports, in nanoseconds.
    pub interval_ns: u64,
    /// Whether use that crossed a threshold is reported before the interval is over.
    pub urgent: bool,
    /// Keys that an owner keeps books for at most.
    pub ledger_cap: usize,
    /// The node's first life: nothing of an earlier one can be left.
    pub first_start: bool,
    /// Larger than that of every earlier life of this node.
    pub incarnation: u64,
    /// Seed of whatever the node draws.
    pub seed: u64,
    /// The process is of a version that does not exist yet.
    pub newer: bool,
    /// The rule that is broken on purpose, if any.
    pub mutant: Option<String>,
}

/// What a snapshot file holds: units used, as time left until the bucket is full.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// (key, limit, backlog in nanoseconds).
    pub cells: Vec<(u64, u32, u64)>,
}

/// What a node says about itself. Sizes are current; the simulator keeps the largest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys with a state of their own.
    pub cells: usize,
    /// Keys in the ledger of an owner.
    pub ledger: usize,
    /// Leases held.
    pub leases: usize,
    /// Batches sent and not acknowledged, on the link that has most.
    pub in_flight: usize,
    /// Bytes that wait for a link.
    pub queued_bytes: usize,
}

/// What went between a node and one of its peers, in units and as the node itself counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The other node.
    pub peer: String,
    /// Taken out of cells for the peer. Always acknowledged, in flight or withdrawn.
    pub drained: u64,
    /// Said by the peer to be applied.
    pub acknowledged: u64,
    /// Sent or about to be.
    pub in_flight: u64,
    /// Put back into cells, since the peer lost or gave up the key.
    pub withdrawn: u64,
    /// Of those, what the peer turned out to have applied.
    pub doubled: u64,
    /// Of the peer's use, what this node applied.
    pub applied: u64,
}

/// One node, driven by the simulator exactly as a driver with sockets would: bytes and times in, bytes and times out.
///
/// All times are nanoseconds of the node's own monotonic clock. Nobody but the simulator keeps time.
pub trait Subject {
    /// Decides a request. Everything a thread of the service would do.
    fn decide(&mut self, key: u64, limit: u32, cost: u64, now_ns: u64) -> bool;

    /// The time has come that [`next_tick`](Subject::next_tick) named, or more.
    fn tick(&mut self, now_ns: u64);

    /// When the node wants to be called at the latest.
    fn next_tick(&self) -> Option<u64>;

    /// Whether something should be sent within a millisecond.
    fn is_urgent(&self) -> bool;

    /// A connection stands, and its other end proved to be `peer`.
    fn link_up(&mut self, link: LinkId, peer: &str, outbound: bool, now_ns: u64);

    /// A connection is gone.
    fn link_down(&mut self, link: LinkId, now_ns: u64);

    /// The next bytes of a stream, cut anywhere.
    fn bytes(&mut self, link: LinkId, stream: Stream, bytes: &[u8], now_ns: u64);

    /// The stream takes so many bytes now.
    fn writable(&mut self, link: LinkId, stream: Stream, bytes_free: usize);

    /// The next bytes to send.
    fn transmit(&mut self) -> Option<Transmit>;

    /// A link that the node wants closed, and has forgotten already.
    fn close(&mut self) -> Option<LinkId>;

    /// A limit was changed at this node by its operator.
    fn set_limit(&mut self, limit: u32, rule: Rule, now_ns: u64);

    /// From now on the node reports so many times what it used: a broken build, or a hostile one.
    fn lie(&mut self, factor: u64);

    /// The node is about to end in good order.
    fn leave(&mut self, now_ns: u64);

    /// Whether a node that leaves has done all it wanted.
    fn has_left(&self) -> bool;

    /// What a snapshot file would hold.
    fn snapshot(&self, now_ns: u64) -> Snapshot;

    /// A snapshot file was found, before anything else happened.
    fn restore(&mut self, snapshot: &Snapshot, now_ns: u64);

    /// How large its structures are.
    fn sizes(&self) -> Sizes;

    /// What became of its units, per peer; of all lives of the peer.
    fn flows(&self) -> Vec<Flow>;

    /// Whether it has nothing left to send or to hear an answer for.
    fn is_quiet(&self) -> bool;
}

/// The rules of the protocol that can be broken on purpose.
pub const MUTANTS: [&str; 3] = ["grow-before-shrink", "ignore-acknowledgements", "skip-incarnation"];

/// The designs that can be put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Design {
    /// The product: one owner per key, leases that follow demand.
    Leases,
    /// Each node tells all others what it admitted.
    Mesh,
    /// Each node has the rate over the number of nodes, for good.
    Static,
    /// The product again, over the lock-free table in place of maps.
    Table,
}

impl Design {
    /// All designs, the product first, over maps: those are quicker here, and as right.
    pub const ALL: [Design; 3] = [Design::Leases, Design::Mesh, Design::Static];

    /// The name on the command line and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Design::Leases => "leases",
            Design::Mesh => "mesh",
            Design::Static => "static",
            Design::Table => "table",
        }
    }

    /// Whether it is what we sell, and has to keep what it promises.
    #[must_use]
    pub fn is_product(self) -> bool {
        matches!(self, Design::Leases | Design::Table)
    }

    /// Builds a node of this design. `now_ns` is what its monotonic clock shows.
    #[must_use]
    pub fn node(self, settings: &Settings, now_ns: u64) -> Box<dyn Subject> {
        match self {
            Design::Leases => Box::new(leases::LeaseNode::new(settings, Cells::maps(), now_ns)),
            Design::Table => Box::new(leases::LeaseNode::new(settings, Cells::table(settings, now_ns), now_ns)),
            Design::Mesh => Box::new(mesh::MeshNode::new(settings, now_ns)),
            Design::Static => Box::new(shares::StaticNode::new(settings)),
        }
    }
}

impl FromStr for Design {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Design::ALL
            .into_iter()
            .find(|design| design.name() == text)
            .ok_or_else(|| format!("\"{text}\" is no subject: write leases, mesh or static"))
    }
}
