//! Rules broken on purpose: the simulator must notice each within a hundred seeds, or it would notice it by accident. Only
//! seeds count that are sound while the rule is in force.

use ratelimit_sim::campaign::Plan;
use ratelimit_sim::subject::{Design, MUTANTS};

fn is_caught(mutant: &str, scenario: Option<&'static str>) {
    assert!(MUTANTS.contains(&mutant));
    let plan = Plan {
        scenario,
        design: Design::Leases,
        nodes: None,
        mode: None,
        mutant: Some(mutant.to_owned()),
    };
    let (seed, broken) = plan.first_broken(0, 100).expect("a seed that breaks");
    println!("{broken}\n  repeat it: {}", plan.repeat(seed));
}

#[test]
fn growing_before_the_others_shrank_is_caught() {
    is_caught("grow-before-shrink", None);
}

/// Only a load that moves within a round trip meets the old holder of a share still spending it.
#[test]
fn counting_a_shrink_that_is_not_confirmed_is_caught() {
    is_caught("ignore-acknowledgements", Some("see-saw"));
}

/// Reports of a new life have small numbers again: taken for old ones they are never charged.
#[test]
fn taking_a_new_life_for_the_old_one_is_caught() {
    is_caught("skip-incarnation", None);
}

#[test]
fn every_mutant_has_a_test() {
    assert_eq!(MUTANTS.len(), 3, "a further mutant needs a test here");
}
