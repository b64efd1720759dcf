//! The arithmetic on one 56-bit word against exact fractions on an endless line of time.

mod oracle;

use std::time::Duration;

use oracle::{Answer, Bucket, Rule};
use ratelimit_model::time::{MASK, wrap};
use ratelimit_model::{Decision, Gcra, Limit, Verdict};

/// Numbers below a bound (SplitMix64). Fixed seeds: a failure is there again on the next run.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

fn read(text: &str) -> (Limit, Gcra, Rule) {
    let limit: Limit = text.parse().expect(text);
    // The rule is built from the parts of the limit, not from what `Gcra` made of them.
    let burst = text.contains("burst").then(|| limit.capacity());
    let rule = Rule::new(limit.rate_limit(), limit.window().as_nanos(), burst, limit.is_strict());
    (limit, Gcra::new(&limit).expect(text), rule)
}

/// One client of the crate, as the table would keep it.
struct Word {
    gcra: Gcra,
    tat: Option<u64>,
}

impl Word {
    fn tat(&self, now: u64) -> u64 {
        self.tat.unwrap_or(now)
    }

    fn check(&mut self, now: u64, cost: u64) -> Decision {
        let tat = self.tat(now);
        match self.gcra.decide(tat, now, cost) {
            Verdict::Allow(new) => {
                self.tat = Some(new);
                self.gcra.decision(true, new, now, cost)
            }
            Verdict::Deny => {
                if self.gcra.is_stepped(tat, now) {
                    self.tat = Some(self.gcra.full(now));
                }
                self.gcra.decision(false, self.tat(now), now, cost)
            }
        }
    }

    fn refund(&mut self, now: u64, cost: u64) {
        self.tat = Some(self.gcra.refund(self.tat(now), now, cost));
    }
}

/// How far the next request is from the last one, in ns: mostly near the points where a decision turns.
fn gap(random: &mut impl FnMut(u64) -> u64, gcra: &Gcra, decision: &Decision) -> i128 {
    let (t, tolerance) = (gcra.whole_interval(), gcra.tolerance_ns());
    let near = |ns: u64, by: u64| i128::from(ns) + i128::from(by) - 2;
    let jitter = random(5);
    let ns = match random(16) {
        0..=3 => 0,
        4 | 5 => near(t, jitter),
        6 => near(decision.reset_after.as_nanos() as u64, jitter),
        7 | 8 if decision.retry_after != Decision::NEVER => near(decision.retry_after.as_nanos() as u64, jitter),
        9 => i128::from(random(t)),
        10 => i128::from(random(tolerance)),
        11 => i128::from(random(tolerance.saturating_mul(2))),
        // A late thread, and a clock that is set back by up to two bursts and a little more than the lateness allowed.
        12 => -i128::from(random(1_000_000_000)),
        13 if random(8) == 0 => {
            -i128::from(random(tolerance.saturating_mul(2))) - i128::from(random(2)) * 1_000_000_001
        }
        _ => i128::from(random(t / 2)),
    };
    // With a burst of 208 days at most, no TAT is then more than half a circle away.
    ns.clamp(-(1 << 53), 1 << 53)
}

fn ns(duration: Duration) -> i128 {
    duration.as_nanos() as i128
}

/// Limits of whole nanoseconds, by nature or by the documented rounding from 1 ms up: every answer is equal.
#[test]
fn whole_nanosecond_limits_decide_exactly_as_fractions_do() {
    let texts = [
        "10/s",
        "1/s",
        "100/minute burst 20",
        "1/30d",
        "5/10s",
        "1000/day burst 3",
        "10000000/s",
        "10000000/s burst 1",
        "1/200d",
        "7/minute",
        "3/s burst 2",
        "7/h",
        "11/day strict",
        "100/minute strict",
        "1/s strict",
        "2/s strict",
        "10/s burst 9 strict",
        "1000000/s burst 100000",
        "1/0.00000001s",
        "13/0.1s",
        "50000000/s",
        "2/208d",
    ];
    const OPERATIONS: usize = 12_000;
    let mut denied = 0;
    for (seed, text) in texts.into_iter().enumerate() {
        let mut random = random(seed as u64);
        let (limit, gcra, rule) = read(text);
        let rule = rule.with_documented_rounding(limit.is_strict());
        assert!(rule.is_whole(), "{text} is not of whole nanoseconds");
        // Anywhere on the circle: some runs go over its wrap.
        let origin = if seed % 2 == 0 {
            MASK - random(gcra.tolerance_ns())
        } else {
            random(MASK)
        };
        let (mut word, mut bucket, mut now) = (Word { gcra, tat: None }, Bucket::default(), 0i128);
        let mut last = Decision::default();
        for step in 0..OPERATIONS {
            now += gap(&mut random, &gcra, &last);
            // A table lets a key go that is idle; kept for years its TAT would lie ahead again, the other way round.
            if rule.is_idle(bucket, now, 1 << 53) {
                (word.tat, bucket) = (None, Bucket::default());
            }
            let wrapped = (i128::from(origin) + now) as u64 & MASK;
            let cost = match random(8) {
                0 => random(limit.capacity() + 3),
                1 => limit.capacity() + random(3),
                2 => 0,
                _ => 1 + random(limit.capacity().min(3)),
            };
            if random(16) == 0 {
                word.refund(wrapped, cost);
                rule.refund(&mut bucket, now, cost);
                continue;
            }
            last = word.check(wrapped, cost);
            let expected = rule.check(&mut bucket, now, cost);
            denied += usize::from(!last.allowed);
            let got = Answer {
                allowed: last.allowed,
                remaining: i128::from(last.remaining),
                retry: (last.retry_after != Decision::NEVER).then(|| ns(last.retry_after) * rule.tokens),
                reset: ns(last.reset_after) * rule.tokens,
            };
            assert_eq!(got, expected, "{text}, operation {step}: cost {cost} at {now}");
            assert_eq!(last.limit, limit.capacity());
        }
    }
    let all = texts.len() * OPERATIONS;
    assert!(
        denied > all / 10 && denied < all * 9 / 10,
        "{denied} denials of {all} prove little"
    );
}

/// Limits on a lattice: never later than fractions say and less than 3 ns earlier, times and counts alike.
#[test]
fn lattice_limits_decide_within_the_documented_nanoseconds() {
    let texts = [
        "3000000/s",
        "7000000/s",
        "9999991/s",
        "9999991/s burst 1",
        "6000000/s burst 2",
        "99999999/s burst 1000",
        "7/0.001s",
        "1001/s",
        "3/0.0000001s",
        "700000/minute burst 50",
        "7000000/s strict",
        "9999991/s strict burst 3",
        "86399999/day burst 1000",
        "3/0.000001s burst 1",
        "33333333/s burst 5",
        "95238096/s burst 2",
    ];
    const OPERATIONS: usize = 12_000;
    let (mut denied, mut early) = (0, 0);
    for (seed, text) in texts.into_iter().enumerate() {
        let mut random = random(100 + seed as u64);
        let (limit, gcra, rule) = read(text);
        assert!(!rule.is_whole(), "{text} is of whole nanoseconds");
        let (mut word, mut bucket) = (Word { gcra, tat: None }, Bucket::default());
        let mut now = i128::from(wrap(Duration::from_secs(random(10_000_000))));
        let mut last = Decision::default();
        let one = rule.tokens;
        let mut charges = 0;
        for step in 0..OPERATIONS {
            // Forwards only: the step back of a clock is a matter of whole nanoseconds, tested above.
            now += gap(&mut random, &gcra, &last).max(0);
            let cost = match random(8) {
                0 => random(limit.capacity() + 3),
                1 => limit.capacity() + random(3),
                2 => 0,
                _ => 1 + random(limit.capacity().min(3)),
            };
            // `T` itself is rounded to 2^-40 ns, which the charges of a run and the burst add up.
            let drift = ((one * (charges + rule.burst)) >> 40) + 1;
            let expected = rule.peek(bucket, now, cost);
            last = word.check(now as u64, cost);
            denied += usize::from(!last.allowed);
            let place = format!("{text}, operation {step}: cost {cost} at {now}: {last:?} for {expected:?}");
            if last.allowed {
                if !expected.allowed {
                    let missing = expected.retry.expect("a cost above the burst was allowed");
                    assert!(missing < 3 * one + drift, "allowed too early: {place}");
                    early += 1;
                }
                rule.force(&mut bucket, now, cost);
                charges += i128::from(cost);
            } else {
                let left = rule.level(bucket, now) - i128::from(cost) * rule.window_ns;
                assert!(!expected.allowed || left < drift, "denied though it fits: {place}");
                match expected.retry {
                    None => assert_eq!(last.retry_after, Decision::NEVER),
                    Some(retry) => {
                        let difference = ns(last.retry_after) * one - retry;
                        assert!(
                            (-3 * one - drift..=one + drift).contains(&difference),
                            "retry_after: {place}"
                        );
                    }
                }
            }
            let after = rule.peek(bucket, now, 0);
            let difference = ns(last.reset_after) * one - after.reset;
            assert!(
                (-2 * one - drift..=one + drift).contains(&difference),
                "reset_after: {place}, after {after:?}"
            );
            // Up to 3 ns early is up to one request more, and only where the next is due within them.
            let more = i128::from(last.remaining) - after.remaining;
            let due = rule.window_ns - rule.level(bucket, now).rem_euclid(rule.window_ns);
            assert!(
                more == 0 || more == 1 && due < 3 * one + drift,
                "remaining: {place}, after {after:?}"
            );
        }
    }
    let all = texts.len() * OPERATIONS;
    assert!(
        denied > all / 10 && denied < all * 9 / 10,
        "{denied} denials of {all} prove little"
    );
    assert!(early > 0 && early < all / 20, "{early} early ones of {all}");
}
