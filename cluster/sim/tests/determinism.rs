//! I9: one seed is one run.

use ratelimit_sim::campaign::Plan;
use ratelimit_sim::scenario::CATALOGUE;
use ratelimit_sim::subject::Design;

fn trace(design: Design, seed: u64) -> (String, u64, u64) {
    let plan = Plan {
        scenario: None,
        design,
        nodes: None,
        mode: None,
        mutant: None,
    };
    let outcome = plan.run(seed, &|| false).expect("no panic").expect("nobody stops it");
    (outcome.trace, outcome.events, outcome.admitted)
}

#[test]
fn i9_the_same_seed_gives_the_same_trace_in_every_scenario_and_design() {
    for design in Design::ALL {
        for seed in 0..CATALOGUE.len() as u64 {
            assert_eq!(
                trace(design, seed),
                trace(design, seed),
                "seed {seed}, {}",
                design.name()
            );
        }
    }
}

#[test]
fn another_seed_gives_another_trace() {
    let count = CATALOGUE.len() as u64;
    for design in Design::ALL {
        assert_ne!(trace(design, 0).0, trace(design, count).0, "{}", design.name());
    }
}
