//! What the cluster promises, scenario by scenario. Each test names its invariant; a failure names the command that repeats it.

use std::fmt::Write as _;

use ratelimit_sim::network::SECOND;
use ratelimit_sim::run::{Outcome, SETTLES_WITHIN_S, run};
use ratelimit_sim::scenario::{CATALOGUE, START, Setting, find};
use ratelimit_sim::subject::{Design, Mode};

const SEED: u64 = 1;

fn outcome(name: &str, mode: Mode) -> Outcome {
    let setting = Setting {
        mode,
        ..Setting::published(5, SEED)
    };
    let scenario = find(name).expect("a scenario of the catalogue").build(&setting);
    run(&scenario, Design::Leases, SEED, None, &|| false).expect("nobody stops it")
}

fn repeat(outcome: &Outcome) -> String {
    let Outcome {
        scenario, mode, seed, ..
    } = outcome;
    format!("cargo run --release -p ratelimit-sim -- --scenario {scenario} --seed {seed} --mode {mode}")
}

/// Runs scenarios and collects every complaint, so that one failure does not hide the others.
fn all(names: &[&str], mode: Mode, complain: impl Fn(&Outcome) -> Vec<String>) {
    let mut complaints = String::new();
    for name in names {
        let outcome = outcome(name, mode);
        for complaint in complain(&outcome) {
            let _ = writeln!(complaints, "{name}: {complaint}\n  repeat it: {}", repeat(&outcome));
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

fn every_name() -> Vec<&'static str> {
    CATALOGUE.iter().map(|entry| entry.name).collect()
}

/// Those of rateguard's published table, rebuilt.
const REBUILT: [&str; 9] = [
    "even",
    "skewed",
    "one-node",
    "loss",
    "one-way",
    "late-join",
    "rolling-restart",
    "jump",
    "split",
];

#[test]
fn i1_i4_i5_strict_is_never_over_the_limit() {
    all(&every_name(), Mode::Strict, |outcome| outcome.broken.clone());
}

#[test]
fn i2_i4_i5_bounded_is_over_by_no_more_than_its_units_per_node_and_restart() {
    all(&every_name(), Mode::Bounded(20), |outcome| outcome.broken.clone());
}

#[test]
fn i3_i4_i5_eventual_keeps_its_formula() {
    all(&every_name(), Mode::Eventual, |outcome| outcome.broken.clone());
}

/// Where the figure that we want is not reached, the one that is: it may get better, never worse. `docs/accuracy.md` says why.
///
/// - `loss`: reports and leases are 27 ms late with every lost packet, and two in a row 80 ms.
/// - `late-join`, `rolling-restart`: a newcomer spends from its own burst until its first lease, and the new owner finds some units unspent.
const BUSIEST: [(&str, f64); 3] = [("loss", 1.03), ("late-join", 1.03), ("rolling-restart", 1.02)];

fn or_reached(reached: &[(&str, f64)], scenario: &str, wanted: f64) -> f64 {
    reached
        .iter()
        .find(|(name, _)| *name == scenario)
        .map_or(wanted, |(_, figure)| *figure)
}

#[test]
fn the_busiest_second_is_at_most_1_01_of_the_limit_or_as_reached() {
    all(&REBUILT, Mode::Eventual, |outcome| {
        let (busiest, most) = (outcome.busiest_second, or_reached(&BUSIEST, outcome.scenario, 1.01));
        if busiest <= most {
            Vec::new()
        } else {
            vec![format!(
                "the busiest second has {busiest:.4} of the limit, at most {most} are expected"
            )]
        }
    });
}

#[test]
fn at_least_96_percent_of_the_limit_is_used() {
    all(&REBUILT, Mode::Eventual, |outcome| {
        let used = outcome.used;
        if used >= 0.96 {
            Vec::new()
        } else {
            vec![format!(
                "only {used:.4} of what the ideal limiter admits, at least 0.96 is expected"
            )]
        }
    });
}

/// A partition of ten seconds ends while nobody is replaced yet; in longer ones each side elects an owner, which costs up to a
/// tenth of one second.
#[test]
fn i7_the_sides_of_a_partition_share_the_limit_and_heal() {
    const LATE: usize = 20;
    let mut complaints = String::new();
    for name in ["split", "split-closed"] {
        for seconds in [15, 30, 60, 120] {
            let setting = Setting {
                load: seconds * SECOND,
                ..Setting::published(5, SEED)
            };
            let scenario = find(name).expect("a scenario of the catalogue").build(&setting);
            let outcome = run(&scenario, Design::Leases, SEED, None, &|| false).expect("nobody stops it");
            // In 100 ms: parted from a third of the load on, for a third of it.
            let bin = |part: u64| ((START + setting.load * part / 12) / (SECOND / 10)) as usize;
            let (cut, heal, end) = (bin(4), bin(8), bin(12));
            let mut judge = |what: &str, bins: std::ops::Range<usize>, least: f64, most: f64| {
                for second in bins.collect::<Vec<_>>().windows(10) {
                    let sum: u32 = second.iter().map(|bin| outcome.admitted_bins[*bin]).sum();
                    let share = f64::from(sum) / setting.rate as f64;
                    if share < least || share > most {
                        let at = second[0] as f64 / 10.0;
                        let _ = writeln!(complaints, "{name} of {seconds} s: {share:.3} {what}, at {at:.1} s");
                    }
                }
            };
            judge("of the limit by both sides together", cut + LATE..heal, 0.88, 1.04);
            judge("of the limit after healing", heal + LATE..end, 0.98, 1.02);
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn i7_admissions_settle_after_every_fault() {
    all(&REBUILT, Mode::Eventual, |outcome| match outcome.settled_s {
        Some(seconds) if seconds <= SETTLES_WITHIN_S => Vec::new(),
        Some(seconds) => vec![format!("settled only {seconds:.1} s after the last disturbance")],
        None => vec!["never settled".to_owned()],
    });
}

#[test]
fn a_cold_start_on_all_nodes_admits_at_most_1_10_of_the_burst() {
    all(&["cold"], Mode::Eventual, |outcome| {
        let percent = outcome.excess_percent;
        if percent <= 10.0 {
            Vec::new()
        } else {
            vec![format!("{percent:.1} % above the burst")]
        }
    });
}
