//! What a run is about: nodes, limits, requests, network and faults.

mod catalogue;

pub use catalogue::{CATALOGUE, Entry, find};

use std::rc::Rc;

use crate::clock::TrueNs;
use crate::fault::Fault;
use crate::network::{Conditions, MS, SECOND};
use crate::rng::Rng;
use crate::subject::{Mode, OnPartition, Rule};
use crate::workload::Source;

/// Above so many nodes only a subset of them owns keys: full links would cost more than they give.
pub const ALL_OWN_UP_TO: usize = 200;
/// How many own keys then.
pub const OWNERS: usize = 32;
/// What a run without load takes at its end, so that everything sent is also applied.
const QUIET: TrueNs = 6 * SECOND;

/// The numbers from which an entry of the catalogue makes a scenario.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many nodes.
    pub nodes: usize,
    /// The judged limit's mode.
    pub mode: Mode,
    /// Units per second.
    pub rate: u64,
    /// Units at once.
    pub burst: u64,
    /// How long requests come.
    pub load: TrueNs,
    /// Time between two reports.
    pub interval_ns: TrueNs,
    /// Whether reports can be urgent.
    pub urgent: bool,
    /// What a design does that every node connects to every other.
    pub full_mesh: bool,
    /// One-way delays.
    pub delay: (TrueNs, TrueNs),
    /// Extra delay of single messages.
    pub jitter: TrueNs,
    /// Poisson arrivals instead of evenly spaced ones.
    pub poisson: bool,
    /// Largest cost of a request.
    pub most_cost: u64,
    /// Keys that an owner keeps books for at most.
    pub ledger_cap: usize,
    /// Draws what an entry leaves open.
    pub seed: u64,
}

impl Setting {
    /// The setting of the published tables: the limit of rateguard's scenarios, a local network, half a minute.
    #[must_use]
    pub fn published(nodes: usize, seed: u64) -> Self {
        Setting {
            nodes,
            mode: Mode::Eventual,
            rate: 1_000,
            burst: 1_000,
            load: 30 * SECOND,
            interval_ns: 50 * MS,
            urgent: true,
            full_mesh: false,
            delay: (400_000, 600_000),
            jitter: 200_000,
            poisson: false,
            most_cost: 1,
            ledger_cap: 1 << 20,
            seed,
        }
    }

    /// A small and short setting drawn from a seed, for campaigns: what one seed in thousands hits, a published one never does.
    #[must_use]
    pub fn drawn(seed: u64, nodes: Option<usize>, mode: Option<Mode>) -> Self {
        let mut rng = Rng::new(seed).fork(77);
        let rate = [50, 200, 500, 1_000][rng.below(4) as usize];
        let burst = (rate / [1, 2, 10, 20][rng.below(4) as usize]).max(3);
        let delay = [(200_000, MS), (MS, 5 * MS), (10 * MS, 60 * MS)][rng.below(3) as usize];
        let drawn_nodes = rng.between(3, 9) as usize;
        let drawn_mode = match rng.below(3) {
            0 => Mode::Eventual,
            1 => Mode::Bounded(rng.between(1, burst / 2 + 1)),
            _ => Mode::Strict,
        };
        Setting {
            nodes: nodes.unwrap_or(drawn_nodes),
            mode: mode.unwrap_or(drawn_mode),
            rate,
            burst,
            // Most are short; one in eight is long enough for connections to time out and come back.
            load: if rng.below(8) == 0 { 24 * SECOND } else { 5 * SECOND },
            delay,
            jitter: delay.1 / 2,
            poisson: rng.chance(500),
            most_cost: if rng.chance(250) { 3 } else { 1 },
            // Small enough for a sprayed attack to fill it.
            ledger_cap: 500,
            ..Setting::published(3, seed)
        }
    }
}

/// A cluster and all that happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name in the catalogue.
    pub name: &'static str,
    /// The name of each node; two nodes may have one name.
    pub names: Vec<String>,
    /// The different names, sorted.
    pub members: Rc<Vec<String>>,
    /// The names that own keys.
    pub owners: Vec<String>,
    /// Two nodes are linked if one of them is among the first so many.
    pub reached: usize,
    /// The limits; the first one is judged.
    pub rules: Vec<Rule>,
    /// How each node's clock drifts, in millionths; 0 where it is not said.
    pub drift_ppm: Vec<i64>,
    /// The network at the beginning.
    pub conditions: Conditions,
    /// Time between two reports.
    pub interval_ns: TrueNs,
    /// Whether reports can be urgent.
    pub urgent: bool,
    /// Keys that an owner keeps books for at most.
    pub ledger_cap: usize,
    /// Whether nodes write snapshots every second.
    pub snapshots: bool,
    /// The requests.
    pub sources: Vec<Source>,
    /// The faults, each at its time.
    pub faults: Vec<(TrueNs, Fault)>,
    /// No requests from here on.
    pub load_ends: TrueNs,
    /// Nothing from here on.
    pub ends: TrueNs,
    /// Times that figures of the steady state leave out.
    pub unsteady: Vec<(TrueNs, TrueNs)>,
    /// After what the time to settle is counted.
    pub disturbed_at: TrueNs,
    /// Units that the fault itself explains, on top of what the mode allows: partitions in `open`, stopped clocks.
    pub slack_units: u64,
    /// When a changed limit must be in force everywhere.
    pub limit_settles_at: TrueNs,
    /// Whether packets are lost at some time.
    pub loses: bool,
    /// Whether the units of some process die with it, so that books cannot balance to the unit.
    pub loses_units: bool,
    /// Whether a node does what it wants: no bound holds for what it admits.
    pub hostile: bool,
}

impl Scenario {
    /// Nodes that start together and nothing else.
    #[must_use]
    pub fn quiet(name: &'static str, setting: &Setting) -> Self {
        let nodes = setting.nodes;
        let names: Vec<String> = (0..nodes).map(|node| format!("n{node:04}")).collect();
        let rule = Rule {
            rate: setting.rate,
            burst: setting.burst,
            mode: setting.mode,
            on_partition: OnPartition::Share,
            version: 1,
        };
        let owners = if nodes <= ALL_OWN_UP_TO { nodes } else { OWNERS };
        let reached = if setting.full_mesh { nodes } else { owners };
        let mut drifts = Rng::new(setting.seed).fork(78);
        Scenario {
            name,
            members: Rc::new(names.clone()),
            owners: names[..owners].to_vec(),
            names,
            reached,
            rules: vec![rule],
            // Ordinary quartz: up to 20 millionths off.
            drift_ppm: (0..nodes).map(|_| drifts.between(0, 40) as i64 - 20).collect(),
            conditions: Conditions {
                delay: setting.delay,
                jitter: setting.jitter,
                loss_per_mille: 0,
            },
            interval_ns: setting.interval_ns,
            urgent: setting.urgent,
            ledger_cap: setting.ledger_cap,
            snapshots: false,
            sources: Vec::new(),
            faults: (0..nodes).map(|node| (0, Fault::Start(node))).collect(),
            load_ends: START + setting.load,
            ends: START + setting.load + QUIET,
            // The burst lasts for a second of twice the limit. The steady state begins a second after it is spent.
            unsteady: vec![(0, START + 2 * SECOND)],
            disturbed_at: START,
            slack_units: 0,
            limit_settles_at: 0,
            loses: false,
            loses_units: false,
            hostile: false,
        }
    }

    /// Something happens at a time.
    pub fn at(&mut self, at: TrueNs, fault: Fault) -> &mut Self {
        self.faults.push((at, fault));
        self
    }

    /// From `from` to `to` the steady state is suspended, and counting to the next steady state starts at `to`.
    pub fn disturb(&mut self, from: TrueNs, to: TrueNs) -> &mut Self {
        self.unsteady.push((from, to));
        self.disturbed_at = self.disturbed_at.max(to);
        self
    }
}

/// When requests begin. An owner that just started knows of no use before, and gives nothing of a strict limit until its
/// buckets would be full again.
pub const START: TrueNs = 3 * SECOND;
