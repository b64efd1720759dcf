//! One run and what it showed.

use serde::Serialize;

use crate::clock::TrueNs;
use crate::judge::Nano;
use crate::network::SECOND;
use crate::scenario::{START, Scenario};
use crate::subject::{Design, Flow, Mode};
use crate::world::World;

/// Batches that may be on the way on one link, and not acknowledged.
const MOST_IN_FLIGHT: usize = 4;
/// Seconds after the last disturbance within which the cluster must be back at what the ideal limiter does.
pub const SETTLES_WITHIN_S: f64 = 5.0;

/// The largest that structures of one node grew.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Largest {
    /// Keys with a state of their own.
    pub cells: usize,
    /// Keys in an owner's ledger.
    pub ledger: usize,
    /// Leases held.
    pub leases: usize,
    /// Unacknowledged batches of one link.
    pub in_flight: usize,
    /// Bytes waiting for links.
    pub queued_bytes: usize,
}

/// Where units went, over all nodes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Units {
    /// Left cells for another node.
    pub drained: u64,
    /// Charged there.
    pub applied: u64,
    /// Put back, since the other node had lost or given up the key.
    pub withdrawn: u64,
    /// Of those, charged there all the same.
    pub doubled: u64,
}

/// What a run showed. Shares are of the rate; 1 is all of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The design under test.
    pub subject: Design,
    /// How many nodes.
    pub nodes: usize,
    /// The mode of the judged limit.
    pub mode: String,
    /// Units per second and at once.
    pub rate: u64,
    /// Units at once.
    pub burst: u64,
    /// The seed.
    pub seed: u64,
    /// Equal in every repetition.
    pub trace: String,
    /// Events of the simulation.
    pub events: u64,
    /// Units asked for, of all keys.
    pub requested: u64,
    /// Units admitted, of all keys.
    pub admitted: u64,
    /// The worst over-admission over all windows, in units above the burst; below 0 if the burst was never spent.
    pub excess_units: f64,
    /// The same as percent of the burst.
    pub excess_percent: f64,
    /// When it was worst, in seconds.
    pub excess_at_s: f64,
    /// By how many units the worst moment was over what the mode allows; above 0 is a broken promise.
    pub over_allowance_units: f64,
    /// The most admitted in any second of the steady state.
    pub busiest_second: f64,
    /// Admitted over what the ideal limiter admits, in the steady state.
    pub used: f64,
    /// The largest shortfall of one second behind the ideal limiter, in the steady state.
    pub worst_second: f64,
    /// The least, mean and most admitted in 100 ms of the steady state.
    pub per_100_ms: (f64, f64, f64),
    /// Seconds until admissions are within 5 % of the ideal limiter's for good; null if never.
    pub settled_s: Option<f64>,
    /// Bytes sent per node and second, the mean over nodes; packet headers included.
    pub bytes_per_node_s: f64,
    /// The same of the node that sent most.
    pub bytes_busiest_node_s: f64,
    /// Packets per node and second.
    pub packets_per_node_s: f64,
    /// The largest structures of any node.
    pub largest: Largest,
    /// Where the units went that left cells for another node.
    pub units: Units,
    /// Broken invariants, one sentence each.
    pub broken: Vec<String>,
    /// Admitted units per 100 ms, for plots.
    #[serde(skip)]
    pub admitted_bins: Vec<u32>,
    /// What the ideal limiter admits.
    #[serde(skip)]
    pub ideal_bins: Vec<u32>,
}

/// Runs a scenario. `None` if `stop` said so before it was over.
///
/// Cost: a microsecond or so per event; memory as the nodes take, and eight bytes per 100 ms.
#[must_use]
pub fn run(
    scenario: &Scenario,
    design: Design,
    seed: u64,
    mutant: Option<&str>,
    stop: &dyn Fn() -> bool,
) -> Option<Outcome> {
    let mut world = World::new(scenario, design, seed, mutant);
    if !world.run(scenario.load_ends, stop) {
        return None;
    }
    // Before the quiet end, which would dilute them.
    let traffic = world.network().traffic.clone();
    if !world.run(scenario.ends, stop) {
        return None;
    }
    let rule = scenario.rules[0];
    let load = (scenario.load_ends - START) as f64 / SECOND as f64;
    let rate = rule.rate as f64;
    let meter = &world.judge.meter;
    let steady = meter.steady(rule.rate, scenario.load_ends);
    let settled = meter.settled_after(scenario.disturbed_at.max(START), scenario.load_ends, rule.rate);
    let (excess, excess_at) = world.judge.excess().unwrap_or((0, 0));
    let (over, over_at) = world.judge.over_allowance().unwrap_or((0, 0));
    let (requested, admitted) = world.judge.totals();
    let nodes = scenario.names.len() as f64;
    let bytes: u64 = traffic.iter().map(|traffic| traffic.bytes).sum();
    let packets: u64 = traffic.iter().map(|traffic| traffic.packets).sum();
    let busiest = traffic.iter().map(|traffic| traffic.bytes).max().unwrap_or(0);
    // Traffic also flows in the second before the load.
    let span = load + START as f64 / SECOND as f64;

    let books = world.books();
    let total = books.total();
    let mut outcome = Outcome {
        scenario: scenario.name,
        subject: design,
        nodes: scenario.names.len(),
        mode: rule.mode.to_string(),
        rate: rule.rate,
        burst: rule.burst,
        seed,
        trace: format!("{:016x}", world.trace.hash()),
        events: world.events(),
        requested,
        admitted,
        excess_units: units_of(excess),
        excess_percent: units_of(excess) / rule.burst as f64 * 100.0,
        excess_at_s: seconds(excess_at),
        over_allowance_units: units_of(over),
        busiest_second: meter.busiest_second() as f64 / rate,
        used: steady.used,
        worst_second: steady.worst_second,
        per_100_ms: steady.bins,
        settled_s: settled.map(seconds),
        bytes_per_node_s: bytes as f64 / nodes / span,
        bytes_busiest_node_s: busiest as f64 / span,
        packets_per_node_s: packets as f64 / nodes / span,
        largest: Largest {
            cells: world.largest.cells,
            ledger: world.largest.ledger,
            leases: world.largest.leases,
            in_flight: world.largest.in_flight,
            queued_bytes: world.largest.queued_bytes,
        },
        units: Units {
            drained: total.drained,
            applied: total.applied,
            withdrawn: total.withdrawn,
            doubled: total.doubled,
        },
        broken: Vec::new(),
        admitted_bins: meter.admitted.clone(),
        ideal_bins: meter.ideal.clone(),
    };
    if design.is_product() {
        if over > 0 && !scenario.hostile {
            outcome.broken.push(format!(
                "{}: {:.3} units above what {} allows, at {:.3} s",
                invariant(rule.mode),
                units_of(over),
                rule.mode,
                seconds(over_at)
            ));
        }
        if outcome.largest.in_flight > MOST_IN_FLIGHT {
            let count = outcome.largest.in_flight;
            outcome.broken.push(format!(
                "I5: {count} batches of one link unacknowledged, {MOST_IN_FLIGHT} are allowed"
            ));
        }
        if outcome.largest.ledger > scenario.ledger_cap {
            let (count, cap) = (outcome.largest.ledger, scenario.ledger_cap);
            outcome
                .broken
                .push(format!("I5: {count} keys in a ledger that may hold {cap}"));
        }
        for ((from, to), flow) in &books.flows {
            let Flow {
                drained,
                acknowledged,
                in_flight,
                withdrawn,
                doubled,
                applied,
                ..
            } = flow;
            let known = acknowledged + in_flight + withdrawn;
            // A process that dies takes with it what it had not sent and what it had not acknowledged. A unit is charged at
            // most once in every case.
            let balanced = if scenario.loses_units {
                known == *drained && acknowledged <= applied && applied <= drained
            } else {
                known == *drained && *in_flight == 0 && *applied == acknowledged + doubled
            };
            if !balanced {
                outcome.broken.push(format!(
                    "I4: {from} drained {drained} units for {to}: {acknowledged} acknowledged, {in_flight} in flight, \
                     {withdrawn} withdrawn ({doubled} of them applied); {to} applied {applied}"
                ));
            }
        }
        if !scenario.loses_units && !world.is_quiet() {
            outcome
                .broken
                .push("I4: not quiet long after the last request".to_owned());
        }
    }
    Some(outcome)
}

/// Which invariant a mode's bound is.
#[must_use]
pub fn invariant(mode: Mode) -> &'static str {
    match mode {
        Mode::Strict => "I1 (strict)",
        Mode::Bounded(_) => "I2 (bounded)",
        Mode::Eventual => "I3 (eventual)",
    }
}

fn units_of(nano: Nano) -> f64 {
    nano as f64 / 1e9
}

fn seconds(at: TrueNs) -> f64 {
    at as f64 / SECOND as f64
}
