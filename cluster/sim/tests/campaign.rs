//! A short campaign. The long ones are commands: `cargo xtask test` runs 1,000 seeds optimised; see `docs/testing.md`.

use ratelimit_sim::campaign::Plan;
use ratelimit_sim::scenario::CATALOGUE;
use ratelimit_sim::subject::Design;

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
