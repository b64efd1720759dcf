//! The product over the lock-free table of services, in place of maps.

use ratelimit_sim::campaign::Plan;
use ratelimit_sim::run::run;
use ratelimit_sim::scenario::{CATALOGUE, Setting, find};
use ratelimit_sim::subject::{Design, Mode};

fn plan() -> Plan {
    Plan {
        scenario: None,
        design: Design::Table,
        nodes: None,
        mode: None,
        mutant: None,
    }
}

/// Each scenario a few times, with drawn nodes, network, limit and mode. `cargo run --release -p ratelimit-sim -- --store table
/// --seeds 2000` is the long form.
#[test]
fn drawn_clusters_keep_their_promises_on_the_table() {
    let rounds = if cfg!(debug_assertions) { 1 } else { 10 };
    let seeds = rounds * CATALOGUE.len() as u64;
    assert_eq!(plan().first_broken(1, seeds), None);
}

#[test]
fn the_same_seed_gives_the_same_trace_on_the_table() {
    let trace = || {
        plan()
            .run(3, &|| false)
            .expect("no panic")
            .expect("nobody stops it")
            .trace
    };
    assert_eq!(trace(), trace());
}

/// Maps and table are two ways to the same: what they admit differs by no more than the moments of their reports make it.
#[test]
fn the_table_does_as_well_as_maps() {
    for (name, mode) in [
        ("skewed", Mode::Eventual),
        ("cold", Mode::Bounded(50)),
        ("cold", Mode::Strict),
    ] {
        let mut setting = Setting::published(3, 1);
        setting.mode = mode;
        setting.load = 5_000_000_000;
        let scenario = find(name).expect("a scenario").build(&setting);
        let of = |design| run(&scenario, design, 1, None, &|| false).expect("nobody stops it");
        let (maps, table) = (of(Design::Leases), of(Design::Table));
        assert_eq!((&maps.broken, &table.broken), (&vec![], &vec![]), "{name} {mode}");
        let ratio = table.admitted as f64 / maps.admitted as f64;
        assert!((0.97..1.10).contains(&ratio), "{name} {mode}: {ratio}");
        assert!(table.bytes_per_node_s < maps.bytes_per_node_s * 1.2, "{name} {mode}");
    }
}

/// Rules of the protocol that are broken are noticed on the table too.
#[test]
fn a_broken_protocol_is_noticed_on_the_table() {
    let plan = Plan {
        scenario: Some("see-saw"),
        mutant: Some("ignore-acknowledgements".to_owned()),
        mode: Some(Mode::Strict),
        ..plan()
    };
    assert!(plan.first_broken(1, 100).is_some());
}
