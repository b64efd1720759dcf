//! `Strict` and `Bounded`: what the owner gave away and what it kept is never more than the limit.

use super::*;
use crate::Mutants;
use proptest::prelude::*;

const STRICT: Mode = Mode::Strict { floor_ppm: 0 };

impl Net {
    /// The proof's invariant, counted as the proof counts: the pool and the levels of all leases in force are at most the
    /// burst, and their rates at most the rate. What is in flight is in neither, which only makes the sum smaller.
    fn check_sums(&mut self) {
        let cell = Cell { limit: LIMIT, key: KEY };
        let owner = self.owner();
        let now_ns = self.now_ns;
        let gcra = self.oracle.gcra;
        let pool = self.places[owner]
            .node
            .ledger
            .get(cell)
            .map_or(0, |account| account.pool.level());
        let (mut level, mut share) = (pool, 0u128);
        for place in &self.places {
            if let Some((lease, left)) = place.store.lease(LIMIT, KEY, now_ns)
                && now_ns < lease.until_ns
            {
                level += i128::try_from(left).expect("a level");
                share += (gcra.interval_q40() << 32) / lease.gcra.interval_q40();
            }
        }
        let burst = i128::from(gcra.burst()) << LEVEL_BITS;
        // Levels are rounded down to what a nanosecond refills.
        assert!(
            level <= burst + (1 << 16),
            "levels of {} in a burst of {}",
            level >> LEVEL_BITS,
            gcra.burst()
        );
        assert!(
            share <= u128::from(ratelimit_model::WHOLE_SHARE),
            "rates of {share} parts"
        );
    }
}

#[test]
fn strict_denies_the_first_touch_and_then_serves_everybody_within_the_limit() {
    let mut net = Net::new(3, spec(limit(1000, 100), STRICT), |_| {});
    assert!(
        !(0..3).any(|i| net.ask(i, KEY, 1)),
        "nobody may before the owner said so"
    );
    net.run(SECOND, flood(MS));
    let before = net.oracle.admitted;
    for _ in 0..3 {
        net.run(SECOND, |net, now_ns| {
            if now_ns.is_multiple_of(MS) {
                (0..3).for_each(|i| {
                    net.ask(i, KEY, 1);
                });
            }
            net.check_sums();
        });
    }
    let used = net.oracle.admitted - before;
    std::println!("strict: {used} of 3000, excess {}", net.oracle.excess());
    assert!(used >= 2850, "{used} of 3,000");
    assert!(net.oracle.excess() <= 0, "{}", net.oracle.excess());
}

/// Demand hops between nodes while the network is slow: the hardest case for whoever grows too early.
fn hopping(mutants: Mutants) -> i128 {
    let mut net = Net::new(3, spec(limit(1000, 10), STRICT), |config| {
        *config = config.clone().break_on_purpose(mutants)
    });
    net.delay_ns = 20 * MS;
    for hop in 0..30 {
        net.run(150 * MS, |net, now_ns| {
            if now_ns.is_multiple_of(MS / 2) {
                net.ask(hop % 3, KEY, 1);
            }
            if now_ns.is_multiple_of(MS) {
                // Those that lose their share still use it.
                (0..3).for_each(|i| {
                    net.ask(i, KEY, 1);
                });
            }
        });
    }
    net.oracle.excess()
}

/// What the owner says to the holder of most is held up, while another asks for as much.
fn held_up(mutants: Mutants) -> i128 {
    let mut net = Net::new(3, spec(limit(1000, 10), STRICT), |config| {
        *config = config.clone().break_on_purpose(mutants)
    });
    let owner = net.owner();
    let (first, second) = ((owner + 1) % 3, (owner + 2) % 3);
    let mut hungry = vec![first];
    for _ in 0..2 {
        net.run(500 * MS, |net, now_ns| {
            if now_ns.is_multiple_of(MS / 2) {
                for i in &hungry {
                    net.ask(*i, KEY, 1);
                }
            }
        });
        net.cut_way(owner, first);
        hungry.push(second);
    }
    net.oracle.excess()
}

#[test]
fn each_rule_left_out_is_noticed() {
    assert!(hopping(Mutants::default()).max(held_up(Mutants::default())) <= 0);
    let early = Mutants {
        grow_before_shrink: true,
        ..Mutants::default()
    };
    assert!(held_up(early) > 0, "a share that grows too early goes unnoticed");
    let unacknowledged = Mutants {
        ignore_acknowledgements: true,
        ..Mutants::default()
    };
    assert!(
        held_up(unacknowledged) > 0,
        "a shrink that counts when sent goes unnoticed"
    );
}

#[test]
fn strict_moves_to_where_the_demand_is() {
    let mut net = Net::new(3, spec(limit(1000, 100), STRICT), |_| {});
    for second in 0..6 {
        let before = net.oracle.admitted;
        net.run(SECOND, |net, now_ns| {
            if now_ns.is_multiple_of(MS / 2) {
                net.ask(second % 3, KEY, 1);
            }
            net.check_sums();
        });
        let used = net.oracle.admitted - before;
        std::println!("second {second}: {used}");
        assert!(used >= 850, "{used} in second {second}");
    }
    assert!(net.oracle.excess() <= 0, "{}", net.oracle.excess());
}

#[test]
fn bounded_spends_its_overdraft_at_once_and_no_more() {
    let mut net = Net::new(3, spec(limit(1000, 100), Mode::Bounded { units: 20 }), |_| {});
    for i in 0..3 {
        let allowed = (0..50).filter(|_| net.ask(i, KEY, 1)).count();
        assert_eq!(allowed, 20, "node {i}");
    }
    for _ in 0..4 {
        net.run(SECOND / 2, flood(MS));
    }
    let excess = net.oracle.excess();
    std::println!("bounded: {} in 2 s, excess {excess}", net.oracle.admitted);
    assert!(excess <= 60, "{excess}");
    assert!(net.oracle.admitted >= 1950, "{}", net.oracle.admitted);
    net.run(SECOND, |_, _| {});
    assert!(
        net.places.iter().all(|place| place.node.held_back.is_empty()),
        "all is paid and free again"
    );
}

#[test]
fn a_strict_owner_that_restarts_is_silent_and_starts_empty() {
    let mut net = Net::new(3, spec(limit(1000, 100), STRICT), |_| {});
    net.run(SECOND, flood(MS));
    let owner = net.owner();
    net.restart(owner, 2);
    for other in (0..3).filter(|i| *i != owner) {
        net.link(owner, other);
    }
    for _ in 0..30 {
        net.run(SECOND / 10, flood(MS));
        assert!(net.oracle.excess() <= 0, "{}", net.oracle.excess());
    }
    let before = net.oracle.admitted;
    net.run(SECOND, flood(MS));
    assert!(net.oracle.admitted - before >= 900, "it serves again");
}

#[test]
fn a_floor_is_served_while_the_owner_is_gone() {
    let mode = Mode::Strict { floor_ppm: 500_000 };
    let mut net = Net::new(3, spec(limit(1000, 100), mode), |config| config.max_nodes = 5);
    net.run(SECOND, flood(MS));
    let owner = net.owner();
    net.places[owner].alive = false;
    for other in (0..3).filter(|i| *i != owner) {
        net.cut_between(owner, other);
    }
    net.run(4 * SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            (0..3).filter(|i| *i != owner).for_each(|i| {
                net.ask(i, KEY, 1);
            });
        }
    });
    let before = net.oracle.admitted;
    net.run(SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            (0..3).filter(|i| *i != owner).for_each(|i| {
                net.ask(i, KEY, 1);
            });
        }
    });
    let used = net.oracle.admitted - before;
    // Half of the limit for five nodes, two of which live: 200 a second.
    assert!((190..=201).contains(&used), "{used}");
    assert!(net.oracle.excess() <= 0, "{}", net.oracle.excess());
}

#[test]
fn lowering_a_strict_limit_holds_when_it_says() {
    let mut net = Net::new(3, spec(limit(1000, 100), STRICT), |_| {});
    net.run(SECOND, flood(MS));
    let at_ns = net.places[1]
        .node
        .set_limit(LIMIT, limit(200, 20), STRICT)
        .expect("a limit");
    let wait_ns = at_ns - net.now_ns;
    net.run(wait_ns, flood(MS));
    let before = net.oracle.admitted;
    net.oracle = Oracle::new(Gcra::new(&limit(200, 20)).expect("numbers"));
    net.run(2 * SECOND, flood(MS));
    let _ = before;
    assert!(net.oracle.excess() <= 0, "{}", net.oracle.excess());
    assert!(net.oracle.admitted >= 340, "{} of 400", net.oracle.admitted);
}

fn random_story(mode: Mode, allowed_excess: impl Fn(i128) -> i128, steps: &[(u8, u8, u8)], rate: u64, burst: u64) {
    let mut net = Net::new(2, spec(limit(rate, burst), mode), |_| {});
    let mut life = 1;
    let mut restarts = 0;
    for (what, who, size) in steps {
        let who = usize::from(*who) % 2;
        match what {
            0 => net.delay_ns = u64::from(*size % 40 + 1) * MS / 2,
            1 => net.cut_between(0, 1),
            2 => {
                net.cut_between(0, 1);
                net.link(0, 1);
            }
            3 if size % 4 == 0 => {
                life += 1;
                restarts += 1;
                net.restart(who, life);
                net.link(0, 1);
            }
            4 => {
                // One way only: what `who` says is not heard.
                net.cut_way(who, 1 - who);
            }
            5 => net.mend(),
            6 => {
                for _ in 0..*size {
                    net.ask(who, KEY, 1);
                }
            }
            _ => {}
        }
        let (every, both) = (u64::from(size % 7 + 1), size % 3 == 0);
        net.run(u64::from(*size) * MS, |net, now_ns| {
            if now_ns.is_multiple_of(every * MS / 10 * 10) {
                net.ask(who, KEY, 1 + u64::from(now_ns.is_multiple_of(9 * MS)));
                if both {
                    net.ask(1 - who, KEY, 1);
                }
            }
            net.check_sums();
            let excess = net.oracle.excess();
            assert!(
                excess <= allowed_excess(restarts),
                "excess {excess} after {restarts} restarts"
            );
        });
    }
}

/// How many stories a test tells; `RATELIMIT_STORIES` multiplies.
fn stories(few: u32) -> u32 {
    let times = std::env::var("RATELIMIT_STORIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    few.saturating_mul(times)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: stories(12), ..ProptestConfig::default() })]

    #[test]
    fn strict_is_never_over_whatever_happens(
        steps in prop::collection::vec((0u8..9, any::<u8>(), any::<u8>()), 1..25), rate in 5u64..3000, burst in 1u64..200,
    ) {
        random_story(STRICT, |_| 0, &steps, rate, burst);
    }

    #[test]
    fn bounded_is_never_over_its_bound(
        steps in prop::collection::vec((0u8..9, any::<u8>(), any::<u8>()), 1..25), rate in 5u64..3000, burst in 1u64..200,
    ) {
        let units = 7;
        random_story(Mode::Bounded { units }, move |restarts| 7 * (2 + restarts), &steps, rate, burst);
    }
}
