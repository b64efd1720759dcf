//! A short campaign. The long ones are commands: `cargo xtask test` runs 1,000 seeds optimised; see `docs/testing.md`.

use ratelimit_sim::campaign::Plan;
use ratelimit_sim::scenario::CATALOGUE;
use ratelimit_sim::subject::Design;

/// Seeds that broke a promise once: a name with two processes had one part of the rate too many for ever; and a node that was
/// silent for two seconds was forgotten with all that it had been presumed to spend.
#[test]
fn seeds_that_broke_a_promise_keep_it() {
    for (scenario, seeds) in [
        ("duplicate-name", &[2618, 6906, 8986, 9146, 9850][..]),
        ("garbage", &[7611]),
    ] {
        let plan = Plan {
            scenario: Some(scenario),
            design: Design::Leases,
            nodes: None,
            mode: None,
            mutant: None,
        };
        for seed in seeds {
            if let Some((seed, broken)) = plan.first_broken(*seed, 1) {
                panic!("seed {seed}: {broken}\n  repeat it: {}", plan.repeat(seed));
            }
        }
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    let plan = Plan {
        scenario: None,
        design: Design::Leases,
        nodes: None,
        mode: None,
        mutant: None,
    };
    if let Some((seed, broken)) = plan.first_broken(0, 2 * CATALOGUE.len() as u64) {
        panic!("seed {seed}: {broken}\n  repeat it: {}", plan.repeat(seed));
    }
}
