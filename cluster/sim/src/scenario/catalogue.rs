//! The scenarios by name. Times are fractions of the load's length, so that one entry serves short and long runs.

use std::rc::Rc;

use super::{START, Scenario, Setting};
use crate::clock::TrueNs;
use crate::fault::Fault;
use crate::network::{MS, SECOND};
use crate::rng::Rng;
use crate::subject::{Mode, OnPartition, Rule};
use crate::workload::{Keys, Source};

/// A scenario that can be asked for by name.
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// What happens, in a few words.
    pub about: &'static str,
    /// Whether the published tables have it.
    pub published: bool,
    build: fn(&Setting) -> Scenario,
}

impl Entry {
    /// The scenario in this setting.
    #[must_use]
    pub fn build(&self, setting: &Setting) -> Scenario {
        let mut scenario = (self.build)(setting);
        for source in &mut scenario.sources {
            source.poisson |= setting.poisson;
            source.most_cost = source.most_cost.max(setting.most_cost);
        }
        scenario
    }
}

/// Finds an entry.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

macro_rules! entries {
    ($($name:literal $published:literal $build:ident $about:literal;)*) => {
        &[$(Entry { name: $name, about: $about, published: $published, build: $build }),*]
    };
}

/// All scenarios.
pub static CATALOGUE: &[Entry] = entries! {
    "even" true even "twice the limit, evenly over all nodes";
    "skewed" true skewed "three nodes get 1.5, 0.3 and 0.2 of the limit, the others nothing";
    "one-node" true one_node "one node gets twice the limit, the others nothing";
    "cold" true cold "ten times the limit on all nodes at once, burst unspent";
    "jump" true jump "a tenth of the limit, then a hundred times as much";
    "hops" true hops "one node at a time gets twice the limit; another one every two seconds";
    "see-saw" false see_saw "each node turns its three times the limit on and off within a few round trips";
    "on-off" true on_off "each node gets nine times its part for 100 ms, then nothing for 400 ms";
    "sprayed" true sprayed "even, and an attacker who asks as often again with ever new ids";
    "loss" true loss "even, and 30 % of all packets have to be repeated";
    "one-way" true one_way "even, and one node is not heard by another for a third of the time";
    "late-join" true late_join "even, and one node starts when a third is over";
    "rolling-restart" true rolling_restart "even, and each node leaves and comes back, one after the other";
    "split" true split "even, and a 3/2 partition for a third of the time; nodes keep to shares";
    "split-open" true split_open "the same, and each side elects an owner";
    "split-closed" false split_closed "the same, and floors only";
    "third-sees-both" false third_sees_both "two nodes do not hear each other, all others hear both";
    "slow-peer" false slow_peer "one node reads nothing for a third of the time";
    "crash" true crash "even, and the busiest owner and another node crash at peak and come back after two seconds";
    "crash-snapshot" false crash_snapshot "the same, with snapshots";
    "restart-storm" false restart_storm "each node crashes every two seconds";
    "wall-step" false wall_step "the wall clocks jump an hour back or forth, and nodes restart afterwards";
    "drift" false drift "clocks run fast or slow by 200 millionths";
    "pause" false pause "one machine sleeps for a sixth of the time, its clock goes on";
    "stopped-clock" false stopped_clock "one machine sleeps and its clock with it";
    "frozen-sync" false frozen_sync "the thread that speaks to others sleeps on one node, requests are decided";
    "duplicate-name" false duplicate_name "two processes have one name";
    "garbage" false garbage "one node sends random bytes";
    "mixed-versions" false mixed_versions "nodes leave one after the other and come back as a later version";
    "liar" false liar "one node reports 2^40 times what it used";
    "limit-change" false limit_change "the limit is halved on one side of a partition";
    "limit-raise" false limit_raise "the limit is doubled at one node";
};

/// The time that is `part / 12` of the way through the load.
fn at(setting: &Setting, part: u64) -> TrueNs {
    START + setting.load * part / 12
}

fn each(setting: &Setting, share_of_rate: f64) -> Vec<Source> {
    let each = setting.rate as f64 * share_of_rate / setting.nodes as f64;
    (0..setting.nodes)
        .map(|node| Source::steady(node, each).with_rates(vec![(START, each)]))
        .collect()
}

fn one(setting: &Setting, node: usize, share_of_rate: f64) -> Source {
    let rate = setting.rate as f64 * share_of_rate;
    Source::steady(node % setting.nodes, rate).with_rates(vec![(START, rate)])
}

fn even(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("even", setting);
    scenario.sources = each(setting, 2.0);
    scenario
}

fn renamed(name: &'static str, setting: &Setting) -> Scenario {
    Scenario { name, ..even(setting) }
}

fn skewed(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("skewed", setting);
    scenario.sources = [1.5, 0.3, 0.2]
        .iter()
        .enumerate()
        .map(|(node, share)| one(setting, node, *share))
        .collect();
    scenario
}

fn one_node(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("one-node", setting);
    scenario.sources = vec![one(setting, 0, 2.0)];
    scenario
}

fn cold(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("cold", setting);
    scenario.sources = each(setting, 10.0);
    scenario
}

fn jump(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("jump", setting);
    scenario.sources = each(setting, 0.1);
    let then = at(setting, 4);
    for source in &mut scenario.sources {
        let rate = source.rates[0].1;
        source.rates.push((then, rate * 100.0));
    }
    // A bucket that was full gives its burst again, as in the beginning.
    scenario.disturb(then, then + 2 * SECOND);
    scenario
}

fn hops(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("hops", setting);
    let rate = setting.rate as f64 * 2.0;
    let mut rates = vec![Vec::new(); setting.nodes];
    let mut when = START;
    let mut node = 0;
    while when < scenario.load_ends {
        rates[node].push((when, rate));
        when += 2 * SECOND;
        rates[node].push((when, 0.0));
        node = (node + 1) % setting.nodes;
    }
    for (node, rates) in rates.into_iter().enumerate().filter(|(_, rates)| !rates.is_empty()) {
        scenario.sources.push(Source::steady(node, 0.0).with_rates(rates));
    }
    scenario
}

fn see_saw(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("see-saw", setting);
    let mut rng = Rng::new(setting.seed).fork(83);
    let rate = setting.rate as f64 * 3.0;
    // On and off for about as long as a lease takes to move: whoever gives before the other has given up is found out when
    // both spend at once.
    let swing = (8 * setting.delay.1).max(40 * MS);
    for node in 0..setting.nodes {
        let mut when = START + rng.below(swing);
        let mut rates = Vec::new();
        while when < scenario.load_ends {
            rates.push((when, rate));
            when += rng.between(swing / 8, swing);
            rates.push((when, 0.0));
            when += rng.between(swing / 8, 2 * swing);
        }
        scenario.sources.push(Source::steady(node, 0.0).with_rates(rates));
    }
    scenario
}

fn on_off(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("on-off", setting);
    let mut rng = Rng::new(setting.seed).fork(80);
    for node in 0..setting.nodes {
        let rate = setting.rate as f64 * 9.0 / setting.nodes as f64;
        let mut when = START + rng.below(500 * MS);
        let mut rates = Vec::new();
        while when < scenario.load_ends {
            rates.push((when, rate));
            rates.push((when + 100 * MS, 0.0));
            when += 500 * MS;
        }
        scenario.sources.push(Source::steady(node, 0.0).with_rates(rates));
    }
    scenario
}

fn sprayed(setting: &Setting) -> Scenario {
    let mut scenario = Scenario::quiet("sprayed", setting);
    scenario.sources = each(setting, 2.0);
    for node in 0..setting.nodes {
        let attack = setting.rate as f64 * 2.0 / setting.nodes as f64;
        let source = Source::steady(node, attack).with_rates(vec![(START, attack)]);
        scenario.sources.push(Source {
            keys: Keys::Spray(10_000_000),
            ..source
        });
    }
    scenario
}

fn loss(setting: &Setting) -> Scenario {
    let mut scenario = renamed("loss", setting);
    scenario.conditions.loss_per_mille = 300;
    scenario.loses = true;
    scenario
}

/// How long the steady state needs to come back after a cut: connections have to time out, be dialled, and settle.
const HEALING: TrueNs = 5 * SECOND;

/// A silent owner is dead after three seconds and replaced ten later; until then whoever does not hear it admits R/N beside it.
const HOLD_DOWN: TrueNs = 14 * SECOND;

/// `Eventual`: a part of the nodes does not hear the owner of the key for a time, and admits its part of the rate unseen, and
/// what is left of its burst. The bound of `docs/consistency.md`.
fn add_slack(scenario: &mut Scenario, setting: &Setting, part: u64, of: u64, time: TrueNs) {
    if setting.mode == Mode::Eventual {
        let rate = u128::from(setting.rate) * u128::from(part) / u128::from(of).max(1);
        scenario.slack_units += setting.burst + (rate * u128::from(time) / u128::from(SECOND)) as u64;
    }
}

fn one_way(setting: &Setting) -> Scenario {
    let mut scenario = renamed("one-way", setting);
    let (from, to) = (at(setting, 4), at(setting, 8));
    scenario
        .at(from, Fault::Cut(0, 1))
        .at(to, Fault::Mend(0, 1))
        .disturb(from, to + HEALING);
    add_slack(&mut scenario, setting, 1, setting.nodes as u64, to - from + HEALING);
    scenario
}

fn late_join(setting: &Setting) -> Scenario {
    let mut scenario = renamed("late-join", setting);
    let last = setting.nodes - 1;
    if setting.mode != Mode::Eventual {
        // Who is configured to own keys and is not there is another scenario.
        scenario.owners.retain(|owner| *owner != scenario.names[last]);
    }
    let join = at(setting, 4);
    scenario.faults.retain(|(_, fault)| *fault != Fault::Start(last));
    scenario.at(join, Fault::Start(last)).disturbed_at = join;
    scenario
}

fn rolling_restart(setting: &Setting) -> Scenario {
    let mut scenario = renamed("rolling-restart", setting);
    // At most fifty nodes: with a thousand, half a minute would restart several at any moment.
    let nodes = setting.nodes.min(50) as u64;
    let (from, span) = (at(setting, 2), at(setting, 9) - at(setting, 2));
    for node in 0..nodes {
        let leave = from + span * node / nodes;
        let back = (leave + 600 * MS + SECOND.min(span / nodes / 2)).min(scenario.load_ends);
        scenario
            .at(leave, Fault::Leave(node as usize))
            .at(back, Fault::Start(node as usize));
        scenario.disturbed_at = back;
    }
    // What an owner applied and could not acknowledge any more is reported again.
    scenario.loses_units = true;
    scenario.snapshots = true;
    scenario
}

fn mixed_versions(setting: &Setting) -> Scenario {
    let mut scenario = Scenario {
        name: "mixed-versions",
        ..rolling_restart(setting)
    };
    for node in 0..setting.nodes {
        scenario.at(START, Fault::Upgrade(node));
    }
    scenario
}

fn split_as(name: &'static str, setting: &Setting, on_partition: OnPartition) -> Scenario {
    let mut scenario = renamed(name, setting);
    scenario.rules[0].on_partition = on_partition;
    let (from, to) = (at(setting, 4), at(setting, 8));
    let larger = (setting.nodes * 3).div_ceil(5);
    let groups = (0..setting.nodes).map(|node| u8::from(node >= larger)).collect();
    scenario
        .at(from, Fault::Groups(groups))
        .at(to, Fault::Groups(vec![0; setting.nodes]));
    scenario.disturb(from, to + HEALING);
    if on_partition == OnPartition::Open {
        // From the hold-down on each side admits R, and its burst once.
        add_slack(&mut scenario, setting, 1, 1, to - from + HEALING);
    } else {
        let smaller = (setting.nodes - larger) as u64;
        let held = if on_partition == OnPartition::Share {
            HOLD_DOWN
        } else {
            TrueNs::MAX
        };
        add_slack(
            &mut scenario,
            setting,
            smaller,
            setting.nodes as u64,
            (to - from + HEALING).min(held),
        );
    }
    scenario
}

fn split(setting: &Setting) -> Scenario {
    split_as("split", setting, OnPartition::Share)
}

fn split_open(setting: &Setting) -> Scenario {
    split_as("split-open", setting, OnPartition::Open)
}

fn split_closed(setting: &Setting) -> Scenario {
    split_as("split-closed", setting, OnPartition::Closed)
}

fn third_sees_both(setting: &Setting) -> Scenario {
    let mut scenario = renamed("third-sees-both", setting);
    let (from, to) = (at(setting, 4), at(setting, 8));
    for (a, b) in [(0, 1), (1, 0)] {
        scenario.at(from, Fault::Cut(a, b)).at(to, Fault::Mend(a, b));
    }
    scenario.disturb(from, to + HEALING);
    add_slack(&mut scenario, setting, 1, setting.nodes as u64, to - from + HEALING);
    scenario
}

fn slow_peer(setting: &Setting) -> Scenario {
    let mut scenario = renamed("slow-peer", setting);
    let (from, to) = (at(setting, 4), at(setting, 8));
    scenario
        .at(from, Fault::StopReading(0))
        .at(to, Fault::Read(0))
        .disturb(from, to + HEALING);
    // If the slow one owns the key, nobody hears of it.
    add_slack(&mut scenario, setting, 1, 1, to - from + HEALING);
    scenario
}

fn crash_with(name: &'static str, setting: &Setting, snapshots: bool) -> Scenario {
    let mut scenario = renamed(name, setting);
    scenario.snapshots = snapshots;
    scenario.loses_units = true;
    for (part, node) in [(4, 0), (7, 1)] {
        let when = at(setting, part);
        // Longer than half of the time between the two would leave nobody.
        let back = when + (2 * SECOND).min(setting.load / 8);
        scenario
            .at(when, Fault::Crash(node))
            .at(back, Fault::Start(node))
            .disturb(when, back + HEALING);
    }
    scenario
}

fn crash(setting: &Setting) -> Scenario {
    crash_with("crash", setting, false)
}

fn crash_snapshot(setting: &Setting) -> Scenario {
    crash_with("crash-snapshot", setting, true)
}

fn restart_storm(setting: &Setting) -> Scenario {
    let mut scenario = renamed("restart-storm", setting);
    scenario.loses_units = true;
    let mut rng = Rng::new(setting.seed).fork(81);
    let (from, to) = (at(setting, 2), at(setting, 8));
    for node in 0..setting.nodes {
        let mut when = from + rng.below(2 * SECOND);
        while when < to {
            scenario
                .at(when, Fault::Crash(node))
                .at(when + 300 * MS, Fault::Start(node));
            when += 2 * SECOND;
        }
    }
    scenario.disturb(from, to + HEALING);
    scenario
}

fn wall_step(setting: &Setting) -> Scenario {
    let mut scenario = renamed("wall-step", setting);
    scenario.loses_units = true;
    for (node, hours) in [(0, -1), (1, 1)] {
        let when = at(setting, 4);
        scenario.at(when, Fault::StepWall(node, hours * 3_600_000));
        let crash = at(setting, 6 + node as u64);
        scenario
            .at(crash, Fault::Crash(node))
            .at(crash + 500 * MS, Fault::Start(node));
        scenario.disturb(crash, crash + 500 * MS + HEALING);
    }
    scenario
}

fn drift(setting: &Setting) -> Scenario {
    let mut scenario = renamed("drift", setting);
    scenario.drift_ppm = (0..setting.nodes)
        .map(|node| if node % 2 == 0 { 200 } else { -200 })
        .collect();
    scenario
}

fn asleep(name: &'static str, setting: &Setting, fault: fn(usize) -> Fault) -> Scenario {
    let mut scenario = renamed(name, setting);
    let node = Rng::new(setting.seed).fork(82).below(setting.nodes as u64) as usize;
    let (from, to) = (at(setting, 4), at(setting, 6));
    scenario
        .at(from, fault(node))
        .at(to, Fault::Wake(node))
        .disturb(from, to + HEALING);
    scenario
}

fn pause(setting: &Setting) -> Scenario {
    asleep("pause", setting, Fault::Pause)
}

fn stopped_clock(setting: &Setting) -> Scenario {
    let mut scenario = asleep("stopped-clock", setting, Fault::Stop);
    // What a sleeper held: its token share and its rate for the life of a lease, here bounded by all of both.
    scenario.slack_units = setting.burst + 2 * setting.rate;
    scenario
}

fn frozen_sync(setting: &Setting) -> Scenario {
    let mut scenario = asleep("frozen-sync", setting, Fault::Freeze);
    // If it is the owner, nobody hears of the key.
    add_slack(&mut scenario, setting, 1, 1, setting.load / 6 + HEALING);
    scenario
}

fn duplicate_name(setting: &Setting) -> Scenario {
    let mut scenario = renamed("duplicate-name", setting);
    let last = setting.nodes - 1;
    scenario.names[last] = scenario.names[0].clone();
    Rc::make_mut(&mut scenario.members).pop();
    let members = Rc::clone(&scenario.members);
    scenario.owners.retain(|owner| members.contains(owner));
    scenario.loses_units = true;
    // One that shares a name is one node too many for every share.
    scenario.slack_units = if setting.mode == Mode::Eventual {
        setting.burst + 4 * setting.rate
    } else {
        0
    };
    scenario.disturb(START, scenario.load_ends);
    scenario
}

fn garbage(setting: &Setting) -> Scenario {
    let mut scenario = renamed("garbage", setting);
    for part in 3..7 {
        scenario.at(at(setting, part), Fault::Garbage(setting.nodes - 1, 1 << part));
    }
    scenario.disturb(at(setting, 3), at(setting, 7) + HEALING);
    scenario
}

fn liar(setting: &Setting) -> Scenario {
    let mut scenario = renamed("liar", setting);
    scenario.at(at(setting, 4), Fault::Lie(setting.nodes - 1, 1 << 40));
    // What a hostile node admits itself is nobody's promise.
    scenario.hostile = true;
    scenario.loses_units = true;
    scenario.disturb(at(setting, 4), scenario.load_ends);
    scenario
}

fn limit_to(name: &'static str, setting: &Setting, rate: u64, burst: u64) -> Scenario {
    let mut scenario = renamed(name, setting);
    let when = at(setting, 5);
    let rule = Rule {
        rate,
        burst,
        version: 2,
        ..scenario.rules[0]
    };
    scenario.at(when, Fault::SetLimit(0, rule));
    scenario.limit_settles_at = at(setting, 8) + HEALING;
    scenario.disturb(when, scenario.limit_settles_at);
    scenario
}

fn limit_change(setting: &Setting) -> Scenario {
    let mut scenario = limit_to(
        "limit-change",
        setting,
        setting.rate.div_ceil(2),
        setting.burst.div_ceil(2),
    );
    let larger = (setting.nodes * 3).div_ceil(5);
    let groups = (0..setting.nodes).map(|node| u8::from(node >= larger)).collect();
    scenario
        .at(at(setting, 4), Fault::Groups(groups))
        .at(at(setting, 8), Fault::Groups(vec![0; setting.nodes]));
    scenario.disturb(at(setting, 4), at(setting, 8));
    add_slack(&mut scenario, setting, 1, 1, at(setting, 8) - at(setting, 4) + HEALING);
    scenario
}

fn limit_raise(setting: &Setting) -> Scenario {
    limit_to("limit-raise", setting, setting.rate * 2, setting.burst * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_builds_at_every_size() {
        for entry in CATALOGUE {
            for nodes in [2, 3, 5, 1000] {
                let scenario = entry.build(&Setting::published(nodes, 1));
                assert_eq!(scenario.name, entry.name);
                assert!(
                    scenario.sources.iter().all(|source| source.node < nodes),
                    "{}",
                    entry.name
                );
                assert!(!scenario.sources.is_empty() && scenario.ends > scenario.load_ends);
                assert!(
                    scenario.faults.iter().all(|(at, _)| *at <= scenario.ends),
                    "{}",
                    entry.name
                );
            }
        }
    }
}
