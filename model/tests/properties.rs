//! What holds for every limit, state and time.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use ratelimit_model::time::{HALF, LATE_NS, MASK, add, ahead};
use ratelimit_model::{Decision, Gcra, Limit, MAX_TOLERANCE_NS, Verdict};

/// Rates whose interval is no whole number of nanoseconds, or hardly one.
const AWKWARD: [&str; 14] = [
    "3000000/s",
    "7000000/s",
    "9999991/s",
    "9999999/s burst 1",
    "6000000/s burst 2",
    "99999999/s burst 1000",
    "7/minute",
    "3/0.0000001s",
    "11/day",
    "13/0.1s burst 4",
    "1001/s",
    "86399/day",
    "7000000/s strict",
    "95238096/s burst 3",
];

fn limit(text: &str) -> Limit {
    text.parse().expect(text)
}

fn gcra(text: &str) -> Gcra {
    Gcra::new(&limit(text)).expect(text)
}

/// Every kind of limit: whole nanoseconds, lattice, rounded, strict; from 10 ns to 208 days.
fn limits() -> impl Strategy<Value = Limit> {
    let window = prop_oneof![
        (1u64..1 << 54).prop_map(Duration::from_nanos),
        (0u32..54, 1u64..1000).prop_map(|(bits, by)| Duration::from_nanos((1 << bits) + by)),
        proptest::sample::select(vec![1u64, 60, 3_600, 86_400, 2_592_000]).prop_map(Duration::from_secs),
    ];
    let number = prop_oneof![
        1u64..20,
        1u64..100_000_000,
        proptest::sample::select(vec![3, 7, 9_999_991, 10_000_000])
    ];
    let any = (
        number,
        window,
        proptest::option::of(1u64..10_000),
        any::<bool>(),
        any::<bool>(),
    );
    let any = any.prop_filter_map("not a limit", |(rate, window, burst, strict, few)| {
        // One of the two is enough to be legal most of the time.
        let rate = if few {
            rate.min(window.as_nanos() as u64 / 10).max(1)
        } else {
            rate
        };
        let mut limit = Limit::new(rate, window).ok()?;
        limit = if strict { limit.strict() } else { limit };
        limit = burst.map_or(limit, |burst| limit.burst(burst));
        limit.validate().ok().map(|()| limit)
    });
    prop_oneof![3 => any, 1 => proptest::sample::select(AWKWARD.to_vec()).prop_map(limit)]
}

fn is_lattice(gcra: &Gcra) -> bool {
    gcra.to_words()[3] != 0
}

/// A time; half of them less than a burst before the wrap of the circle.
fn times() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=MASK,
        Just(0),
        Just(MASK),
        Just(HALF),
        (0..1u64 << 54).prop_map(|before| MASK - before)
    ]
}

/// A limit, a time, and a state as decisions leave them or up to the lateness further on. On a lattice, which starts anew
/// where the circle closes, times are moved away from there; `across_the_wrap` has that case.
fn situations() -> impl Strategy<Value = (Gcra, u64, u64)> {
    (limits(), times(), 0.0..=1.0f64, 0u8..8).prop_map(|(limit, now, share, kind)| {
        let gcra = Gcra::new(&limit).expect("a valid limit");
        let now = if is_lattice(&gcra) { now & (HALF - 1) } else { now };
        let tolerance = gcra.tolerance_ns();
        let part = |of: u64| (of as f64 * share) as u64;
        let tat = match kind {
            0 => now,
            1 => now.wrapping_sub(part(HALF - 1)) & MASK,
            2 => add(now, tolerance),
            3 => add(now, tolerance + part(LATE_NS)),
            4 => gcra.charge(now, part(gcra.burst())),
            5 => add(now, tolerance.saturating_sub(part(4 * gcra.whole_interval()))),
            _ => add(now, part(tolerance)),
        };
        (gcra, tat, now)
    })
}

fn allows(gcra: &Gcra, tat: u64, now: u64, cost: u64) -> bool {
    gcra.decide(tat, now, cost) != Verdict::Deny
}

/// A cost from 0 to beyond the burst, mostly near an end.
fn cost(gcra: &Gcra, choice: u64) -> u64 {
    match choice % 8 {
        0..=2 => choice / 8 % 4,
        3..=4 => gcra.burst().saturating_sub(choice / 8 % 3),
        5 => gcra.burst() + choice / 8 % 3,
        _ => choice / 8 % (gcra.burst() + 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_allowed_stays_allowed_later((gcra, tat, now) in situations(), choice: u64, share in 0.0..=1.0f64) {
        let cost = cost(&gcra, choice);
        if allows(&gcra, tat, now, cost) {
            // As far as the circle can tell the order of the two times.
            let most = if ahead(tat, now) > 0 { HALF - 1 } else { (HALF - 1).saturating_sub(ahead(now, tat)) };
            for later in [1, 2, gcra.whole_interval(), (most as f64 * share) as u64] {
                prop_assert!(allows(&gcra, tat, add(now, later.min(most)), cost), "{later} ns later");
            }
        }
    }

    #[test]
    fn an_allowed_charge_never_lowers_the_state((gcra, tat, now) in situations(), choice: u64) {
        let cost = cost(&gcra, choice);
        if let Verdict::Allow(new) = gcra.decide(tat, now, cost) {
            if cost == 0 {
                prop_assert_eq!(new, tat, "a cost of 0 charges nothing");
            } else {
                prop_assert!(ahead(new, now) > ahead(tat, now));
                prop_assert!(ahead(new, now) <= gcra.tolerance_ns(), "no decision leads beyond the tolerance");
                prop_assert_eq!(gcra.charge(add(now, ahead(tat, now)), cost), new, "charge is what decide does");
            }
        } else {
            prop_assert!(cost > 0);
        }
    }

    #[test]
    fn a_fresh_client_has_exactly_its_burst(limit in limits(), now in times()) {
        let gcra = Gcra::new(&limit).expect("a valid limit");
        prop_assert_eq!(gcra.burst(), limit.capacity());
        prop_assert!(allows(&gcra, now, now, gcra.burst()));
        prop_assert!(!allows(&gcra, now, now, gcra.burst() + 1));
        prop_assert_eq!(gcra.decision(true, now, now, 0).remaining, gcra.burst());
        let Verdict::Allow(full) = gcra.decide(now, now, gcra.burst()) else { unreachable!() };
        prop_assert!(!allows(&gcra, full, now, 1));
        prop_assert_eq!(gcra.decision(true, full, now, gcra.burst()).remaining, 0);
        // What `full` means differs from a burst that was spent by the rounding of a lattice.
        let difference = ahead(gcra.full(now), now) - ahead(full, now);
        let rounding = if is_lattice(&gcra) { 2 } else { 0 };
        prop_assert!(difference <= rounding);
        prop_assert!(!allows(&gcra, gcra.full(now), now, 1));
    }

    #[test]
    fn never_more_than_the_burst_at_one_instant((gcra, tat, now) in situations(), choices: Vec<u64>) {
        let (mut state, mut sum) = (tat, 0);
        for choice in choices {
            let cost = cost(&gcra, choice);
            if let Verdict::Allow(new) = gcra.decide(state, now, cost) {
                (state, sum) = (new, sum + cost);
            }
        }
        prop_assert!(sum <= gcra.burst(), "{sum} of {}", gcra.burst());
        prop_assert!(allows(&gcra, state, now, gcra.decision(true, state, now, 0).remaining));
    }

    #[test]
    fn many_at_once_are_many_one_by_one((gcra, tat, now) in situations(), count in 1u64..200) {
        let mut state = tat;
        let one_by_one = (0..count).all(|_| match gcra.decide(state, now, 1) {
            Verdict::Allow(new) => {
                state = new;
                true
            }
            Verdict::Deny => false,
        });
        let together = gcra.decide(tat, now, count);
        prop_assert_eq!(together, if one_by_one { Verdict::Allow(state) } else { Verdict::Deny });
    }

    /// In two parts of any size, since 200 single ones do not reach far into a large burst.
    #[test]
    fn many_at_once_are_the_same_in_two_parts((gcra, tat, now) in situations(), all: u64, share in 0.0..=1.0f64) {
        let all = cost(&gcra, all);
        let first = (all as f64 * share) as u64;
        let parts = match gcra.decide(tat, now, first) {
            Verdict::Allow(state) => gcra.decide(state, now, all.saturating_sub(first)),
            Verdict::Deny => Verdict::Deny,
        };
        if all <= gcra.burst() {
            prop_assert_eq!(gcra.decide(tat, now, all), parts);
        }
    }

    #[test]
    fn retry_after_is_exact((gcra, tat, now) in situations(), choice: u64) {
        let cost = cost(&gcra, choice);
        let allowed = allows(&gcra, tat, now, cost);
        let decision = gcra.decision(allowed, tat, now, cost);
        prop_assert_eq!(decision.allowed, allowed);
        if allowed {
            prop_assert_eq!(decision.retry_after, Duration::ZERO);
        } else if cost > gcra.burst() {
            prop_assert_eq!(decision.retry_after, Decision::NEVER);
        } else {
            let wait = decision.retry_after.as_nanos() as u64;
            prop_assert!(wait > 0);
            prop_assert!(!allows(&gcra, tat, add(now, wait - 1), cost), "already allowed {} ns later", wait - 1);
            prop_assert!(allows(&gcra, tat, add(now, wait), cost), "still denied {wait} ns later");
        }
    }

    #[test]
    fn reset_after_is_exact((gcra, tat, now) in situations()) {
        let wait = gcra.decision(true, tat, now, 0).reset_after.as_nanos() as u64;
        prop_assert!(allows(&gcra, tat, add(now, wait), gcra.burst()));
        // The rounding of a lattice lets the burst through up to 2 ns early.
        let early = if is_lattice(&gcra) { 3 } else { 1 };
        if wait >= early {
            prop_assert!(!allows(&gcra, tat, add(now, wait - early), gcra.burst()));
        }
    }

    #[test]
    fn remaining_is_exact((gcra, tat, now) in situations(), choice: u64) {
        let cost = cost(&gcra, choice);
        let (allowed, state) = match gcra.decide(tat, now, cost) {
            Verdict::Allow(new) => (true, new),
            Verdict::Deny => (false, tat),
        };
        let remaining = gcra.decision(allowed, state, now, cost).remaining;
        prop_assert!(allows(&gcra, state, now, remaining));
        prop_assert!(!allows(&gcra, state, now, remaining + 1));
    }

    #[test]
    fn a_refund_undoes_a_charge((gcra, tat, now) in situations(), choice: u64, late in 0u64..1 << 40) {
        let cost = cost(&gcra, choice);
        if let Verdict::Allow(new) = gcra.decide(tat, now, cost) {
            let back = gcra.refund(new, now, cost);
            let before = ahead(tat, now);
            // A state whose place between two points is the last of a longer gap loses that nanosecond in the charge.
            let lost = u64::from(is_lattice(&gcra));
            prop_assert!((before.saturating_sub(lost)..=before).contains(&ahead(back, now)));
            // And once on its path, never again: not even by a million pairs.
            let mut state = new;
            for _ in 0..20 {
                state = gcra.charge(gcra.refund(state, now, cost), cost);
            }
            if ahead(back, now) > 0 {
                prop_assert_eq!(state, new);
            }
            // Given back later it is the same state, or an empty one.
            let later = add(now, late.min(MASK - now));
            prop_assert_eq!(ahead(gcra.refund(new, later, cost), later), ahead(back, later));
        }
    }

    #[test]
    fn a_refund_gives_back_and_never_more((gcra, tat, now) in situations(), cost: u64, choice: u64) {
        for cost in [cost, self::cost(&gcra, choice), 0] {
            let back = gcra.refund(tat, now, cost);
            prop_assert!(ahead(back, now) <= ahead(tat, now));
            prop_assert!(ahead(tat, now) > 0 || back == tat, "a full bucket stays as it is");
            let (before, after) = (gcra.decision(true, tat, now, 0).remaining, gcra.decision(true, back, now, 0).remaining);
            prop_assert!(after <= gcra.burst());
            prop_assert!(after - before <= cost.saturating_add(u64::from(is_lattice(&gcra))));
            // A late thread refunds what its own clock has not reached yet.
            if ahead(tat, now) <= gcra.tolerance_ns() {
                prop_assert!(after >= before.saturating_add(cost).min(gcra.burst()), "{before} and {cost} are {after}");
            }
            if cost == 0 {
                prop_assert_eq!(ahead(back, now), ahead(tat, now));
            }
        }
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out((gcra, _, now) in situations(), back in 0..HALF) {
        let Verdict::Allow(tat) = gcra.decide(now, now, gcra.burst()) else { unreachable!() };
        // As far back as the circle can tell: further, the state no longer lies ahead and nothing is denied at all.
        let back = back.min(HALF - 1 - ahead(tat, now));
        let earlier = if is_lattice(&gcra) { now.saturating_sub(back) } else { now.wrapping_sub(back) & MASK };
        let back = ahead(now, earlier);
        let stepped = gcra.is_stepped(tat, earlier);
        prop_assert!(back > 0 || !stepped);
        prop_assert_eq!(stepped, ahead(tat, earlier) > gcra.tolerance_ns() + LATE_NS, "late threads are not steps");
        let state = if stepped { gcra.full(earlier) } else { tat };
        prop_assert!(!gcra.is_stepped(state, earlier));
        let shown = gcra.decision(false, tat, earlier, gcra.burst());
        prop_assert_eq!(shown, gcra.decision(false, state, earlier, gcra.burst()), "shown as it will be");
        let most = gcra.tolerance_ns() + LATE_NS;
        prop_assert!(allows(&gcra, state, add(earlier, most), gcra.burst()), "locked out longer than a burst and a second");
    }

    #[test]
    fn a_change_of_limit_keeps_the_share_of_the_burst((old, tat, now) in situations(), new in limits()) {
        let new = Gcra::new(&new).expect("a valid limit");
        let state = new.convert(tat, now, &old);
        let late = ahead(tat, now).saturating_sub(old.tolerance_ns());
        let spent = u128::from(ahead(tat, now).min(old.tolerance_ns()));
        let converted = u128::from(ahead(state, now) - late);
        // `converted / new = spent / old`, rounded up by less than one nanosecond.
        let (exact, old_all) = (spent * u128::from(new.tolerance_ns()), u128::from(old.tolerance_ns()));
        prop_assert!(converted * old_all >= exact && converted * old_all < exact + old_all);
        prop_assert!(!new.is_stepped(state, now));
        prop_assert_eq!(new.convert(now, now, &old), now, "a full bucket stays full");
        prop_assert_eq!(new.convert(old.full(now), now, &old), new.full(now), "an empty one stays empty");
        prop_assert_eq!(ahead(old.convert(tat, now, &old), now), ahead(tat, now), "the same limit changes nothing");
    }

    #[test]
    fn only_differences_of_time_matter(limit in limits(), start in times(), shift in times(), calls: Vec<(u8, u64)>) {
        let gcra = Gcra::new(&limit).expect("a valid limit");
        if is_lattice(&gcra) {
            return Ok(());
        }
        let (mut now, mut here, mut there) = (start, None, None);
        for (kind, choice) in calls {
            let cost = cost(&gcra, choice);
            now = add(now, match kind % 4 {
                0 => 0,
                1 => gcra.whole_interval(),
                2 => choice % gcra.tolerance_ns(),
                _ => MASK - choice % 1_000_000_000,
            });
            let answers = [(&mut here, now), (&mut there, add(now, shift))].map(|(state, now)| {
                let tat = state.unwrap_or(now);
                let (allowed, new) = match gcra.decide(tat, now, cost) {
                    Verdict::Allow(new) => (true, new),
                    Verdict::Deny if gcra.is_stepped(tat, now) => (false, gcra.full(now)),
                    Verdict::Deny => (false, tat),
                };
                *state = Some(if kind > 200 { gcra.refund(new, now, cost) } else { new });
                gcra.decision(allowed, new, now, cost)
            });
            prop_assert_eq!(answers[0], answers[1]);
            prop_assert_eq!(here.map(|tat| add(tat, shift)), there);
        }
    }

    /// Where the circle closes a lattice starts anew: a state that was charged before may be off by its rounding.
    #[test]
    fn across_the_wrap_a_lattice_keeps_its_nanoseconds(index in 0..AWKWARD.len(), before in 0u64..1 << 40, choice: u64) {
        let gcra = gcra(AWKWARD[index]);
        let burst = gcra.burst();
        let spend = 1 + choice % burst;
        let start = MASK - before % gcra.tolerance_ns();
        let far = 1 << 50;
        let (Verdict::Allow(near), Verdict::Allow(other)) = (gcra.decide(start, start, spend), gcra.decide(far, far, spend))
        else { unreachable!() };
        let differs = |a: u64, b: u64| a.abs_diff(b) > 2;
        prop_assert!(!differs(ahead(near, start), ahead(other, far)));
        for later in [0, before % gcra.tolerance_ns(), gcra.tolerance_ns() / 2, gcra.tolerance_ns()] {
            let (here, there) = (add(start, later), add(far, later));
            let (a, b) = (gcra.decision(false, near, here, burst), gcra.decision(false, other, there, burst));
            prop_assert!(a.remaining.abs_diff(b.remaining) <= 1);
            prop_assert!(!differs(a.reset_after.as_nanos() as u64, b.reset_after.as_nanos() as u64));
            prop_assert!(a.retry_after.abs_diff(b.retry_after) <= Duration::from_nanos(4));
            let wait = a.retry_after.as_nanos() as u64;
            prop_assert!(allows(&gcra, near, add(here, wait + 4), burst));
        }
    }

    /// Debug builds check every addition, so that a call which returns has not overflowed.
    #[test]
    fn no_argument_panics(
        limit in limits(), other in limits(), tat in 0..=MASK, now in 0..=MASK, cost in prop_oneof![any::<u64>(), Just(u64::MAX)],
        allowed: bool, seconds: u64, nanos in 0u32..1_000_000_000
    ) {
        let (gcra, other) = (Gcra::new(&limit).expect("a valid limit"), Gcra::new(&other).expect("a valid limit"));
        for cost in [cost, cost % (gcra.burst() + 2), gcra.burst()] {
            for tat in [tat, now, add(now, HALF - 1), add(now, HALF), gcra.full(now)] {
                let states = [
                    gcra.charge(tat, cost),
                    gcra.refund(tat, now, cost),
                    gcra.convert(tat, now, &other),
                    gcra.full(now),
                    if let Verdict::Allow(new) = gcra.decide(tat, now, cost) { new } else { tat },
                ];
                prop_assert!(states.iter().all(|state| *state <= MASK), "{states:?} leaves the circle");
                let decision = gcra.decision(allowed, tat, now, cost);
                prop_assert!(decision.remaining <= gcra.burst());
                prop_assert!(decision.reset_after <= Duration::from_nanos(gcra.tolerance_ns() + LATE_NS));
                let _ = gcra.is_stepped(tat, now);
            }
        }
        prop_assert_eq!(Gcra::from_words(gcra.to_words()), gcra);
        // Whatever is asked for is a limit or an error with a sentence.
        for limit in [Limit::new(cost, Duration::new(seconds, nanos)), Limit::new(seconds, Duration::from_nanos(cost))] {
            match limit {
                Ok(limit) => for limit in [limit.burst(cost), limit.strict(), limit.burst(cost).strict()] {
                    let _ = limit.validate().map_err(|error| error.to_string());
                },
                Err(error) => prop_assert!(error.to_string().len() > 20),
            }
        }
    }

    #[test]
    fn a_charge_beyond_every_burst_is_as_long_as_the_longest((gcra, _, now) in situations(), cost: u64) {
        let cost = cost.max(gcra.burst() + 1);
        let state = gcra.charge(now, cost);
        prop_assert!(ahead(state, now) >= gcra.tolerance_ns().min(MAX_TOLERANCE_NS - 1), "no charge goes round the circle");
        prop_assert!(!allows(&gcra, state, now, 1));
    }
}

/// Counts what is admitted, and the most of it in any window.
struct Window {
    length: u64,
    /// Whether both ends belong to the window, or only its start.
    closed: bool,
    admitted: VecDeque<(u64, u64)>,
    most: u64,
}

impl Window {
    fn admit(&mut self, now: u64, count: u64) {
        self.admitted.push_back((now, count));
        // The fullest window is one that ends with an admission.
        while let Some(&(first, _)) = self.admitted.front() {
            let inside = if self.closed {
                now - first <= self.length
            } else {
                now - first < self.length
            };
            if inside {
                break;
            }
            self.admitted.pop_front();
        }
        self.most = self.most.max(self.admitted.iter().map(|(_, count)| count).sum());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A strict limit of `N` admits at most `N` in every window `[t, t + W]`, both ends included, for `N` of 2 and more:
    /// by the formula `b + floor(W / T) = b + (N - b)`. A limit of 1 admits one in every `[t, t + W)`; the next is
    /// admitted exactly at the end of its window.
    #[test]
    fn strict_holds_in_any_window(
        limit in limits(), start in 0..HALF, moves in proptest::collection::vec((0u8..16, any::<u64>()), 1..400)
    ) {
        let limit = limit.strict();
        // A burst that was given for a limit on average may be too large for a strict one.
        let limit = if limit.validate().is_ok() { limit } else { limit.burst((limit.rate_limit() / 2).max(1)) };
        prop_assume!(limit.validate().is_ok());
        let gcra = Gcra::new(&limit).expect("a valid limit");
        let length = u64::try_from(limit.window().as_nanos()).expect("windows are below 2^54 here");
        let (t, tolerance) = (gcra.whole_interval(), gcra.tolerance_ns());
        // The line of the counter does not wrap; the circle of the state does.
        let (mut line, mut state) = (0u64, start);
        let mut window = Window { length, closed: limit.rate_limit() > 1, admitted: VecDeque::new(), most: 0 };
        for (kind, choice) in moves {
            let now = add(start, line);
            // Every retry_after makes a greedy client that loses nothing.
            let wait = gcra.decision(false, state, now, 1).retry_after.as_nanos() as u64;
            let by = choice % 3;
            line += match kind {
                0 => 0,
                1 => by,
                2 => t - 1 + by,
                3 => length - 1 + by,
                4 => tolerance - 1 + by,
                5 => length.saturating_sub(tolerance) + by,
                6 => choice % t,
                7 => choice % length,
                8 => (wait - 1) + by,
                _ => if allows(&gcra, state, now, 1) { 0 } else { wait },
            };
            let now = add(start, line);
            if ahead(now, state) > HALF / 2 {
                state = now;
            }
            let remaining = gcra.decision(true, state, now, 0).remaining;
            let count = match kind % 3 {
                0 => remaining,
                1 => 1,
                _ => choice % (remaining + 1),
            };
            if count > 0 && let Verdict::Allow(new) = gcra.decide(state, now, count) {
                state = new;
                window.admit(line, count);
            }
        }
        prop_assert!(window.most <= limit.rate_limit(), "{} in a window of {limit}", window.most);
    }
}

/// Random times seldom hit the last nanosecond of a longer gap between two points: here is every one of some thousand.
#[test]
fn every_place_on_a_lattice_keeps_the_rules() {
    for text in AWKWARD.into_iter().filter(|text| is_lattice(&gcra(text))) {
        let gcra = gcra(text);
        let most = gcra.burst().min(5);
        for now in (0..3_000)
            .chain((1 << 55)..(1 << 55) + 3_000)
            .chain(MASK - 3_000..=MASK)
        {
            let point = gcra.charge(now, 1);
            assert!(ahead(point, now) >= gcra.whole_interval() - 1 && ahead(point, now) <= gcra.whole_interval() + 1);
            assert!(
                allows(&gcra, now, now, gcra.burst()),
                "{text}: not the whole burst at {now}"
            );
            assert!(
                !allows(&gcra, now, now, gcra.burst() + 1),
                "{text}: more than the burst at {now}"
            );
            let (mut state, tat) = (now, add(now, gcra.tolerance_ns() / 2));
            for count in 1..=most {
                state = match gcra.decide(state, now, 1) {
                    Verdict::Allow(new) => new,
                    Verdict::Deny => panic!("{text}: {count} do not fit at {now}"),
                };
                assert_eq!(
                    gcra.decide(now, now, count),
                    Verdict::Allow(state),
                    "{text}: {count} at {now}"
                );
                assert_eq!(gcra.refund(state, now, count), now, "{text}: {count} back at {now}");
            }
            assert_eq!(
                (gcra.refund(tat, now, 0), gcra.charge(tat, 0)),
                (tat, tat),
                "{text}: nothing, at {now}"
            );
        }
    }
}

/// The bound is met, so it is not held by being much too strict; and without `strict` it is broken as documented.
#[test]
fn a_greedy_client_gets_what_the_documentation_says() {
    for (text, expected_most) in [
        ("10/s burst 2 strict", 10),
        ("11/s burst 1 strict", 11),
        ("61/minute burst 1 strict", 61),
        ("2/s strict", 2),
        ("1/s strict", 1),
        ("1/30d strict", 1),
        ("10/s burst 9 strict", 10),
        // A ninth of a second is rounded up, so that the tenth request is due some nanoseconds after the window.
        ("10/s strict", 9),
        ("1000000/s strict burst 200000", 1_000_000),
        // On average only: a full burst, and what is refilled until the end of the window, both ends included.
        ("10/s", 20),
        ("100/minute burst 20", 120),
    ] {
        let (limit, gcra) = (limit(text), gcra(text));
        let length = limit.window().as_nanos() as u64;
        let closed = limit.rate_limit() > 1;
        let mut window = Window {
            length,
            closed,
            admitted: VecDeque::new(),
            most: 0,
        };
        let (mut now, mut state) = (1u64, 1u64);
        let steps = 300;
        for _ in 0..steps {
            let remaining = gcra.decision(true, state, now, 0).remaining;
            if let Verdict::Allow(new) = gcra.decide(state, now, remaining)
                && remaining > 0
            {
                state = new;
                window.admit(now, remaining);
            }
            // As much as is refilled in a tenth of a window, or one.
            let chunk = (gcra.burst() / 2).min(limit.rate_limit() / 10).max(1);
            now += gcra.decision(false, state, now, chunk).retry_after.as_nanos() as u64;
        }
        // Only whole chunks were asked for; a window may hold one less than its bound.
        assert!(window.most <= expected_most, "{text}: {}", window.most);
        assert!(
            window.most * 10 >= expected_most * 9,
            "{text}: {} is too strict",
            window.most
        );
        if expected_most <= 100 {
            assert_eq!(window.most, expected_most, "{text}");
        }
    }
}

/// From 1 per 30 days to 10 million per second: asked one by one, in bursts, and by a client that polls.
#[test]
fn rates_hold_within_a_part_in_a_thousand() {
    let slow = [
        "1/30d",
        "1/day",
        "7/day",
        "11/h",
        "7/minute",
        "100/minute",
        "1/s",
        "3/s",
        "10/s",
    ];
    let fast = [
        "1000/s",
        "1001/s",
        "1000000/s",
        "3000000/s",
        "6000000/s",
        "7000000/s",
        "9999991/s",
        "9999999/s",
        "10000000/s",
    ];
    for text in slow.iter().chain(&fast).chain(&AWKWARD) {
        let (limit, gcra) = (limit(text), gcra(text));
        // In a strict limit only what is not in the burst comes back per window.
        let rate = limit.rate_limit() - if limit.is_strict() { gcra.burst() } else { 0 };
        let exact = |count: u64| u128::from(count) * limit.window().as_nanos() / u128::from(rate);
        // A part in a million for a rounded interval, where a thousand is promised; and the nanoseconds of a lattice.
        let close = |elapsed: u128, count: u64| elapsed.abs_diff(exact(count)) <= exact(count) / 1_000_000 + 4;

        // One at a time, each at the first instant it fits, after the burst.
        let (mut now, mut state) = (12_345u64, 0u64);
        let Verdict::Allow(full) = gcra.decide(now, now, gcra.burst()) else {
            unreachable!()
        };
        state = full.max(state);
        let (mut count, mut elapsed) = (0u64, 0u128);
        while count < 20_000 {
            let wait = gcra.decision(false, state, now, 1).retry_after.as_nanos() as u64;
            (now, elapsed) = (add(now, wait), elapsed + u128::from(wait));
            let Verdict::Allow(new) = gcra.decide(state, now, 1) else {
                panic!("{text}: denied after retry_after")
            };
            (state, count) = (new, count + 1);
        }
        assert!(
            close(elapsed, count),
            "{text}: {count} took {elapsed} ns instead of {}",
            exact(count)
        );

        // A burst at a time, until the client has been busy for a year, or two thousand bursts.
        let (mut count, mut elapsed) = (0u64, 0u128);
        while count < 2_000 * gcra.burst() && elapsed < 31_536_000_000_000_000 {
            let wait = gcra.decision(false, state, now, gcra.burst()).retry_after.as_nanos() as u64;
            (now, elapsed) = (add(now, wait), elapsed + u128::from(wait));
            let Verdict::Allow(new) = gcra.decide(state, now, gcra.burst()) else {
                panic!("{text}: denied after retry_after")
            };
            (state, count) = (new, count + gcra.burst());
        }
        assert!(
            close(elapsed, count),
            "{text}: {count} took {elapsed} ns instead of {}",
            exact(count)
        );

        // A poll that is in step with nothing, and asks often enough to spend all that comes back. A burst of 1 keeps
        // nothing for the next poll, so that its client would lose by polling.
        if gcra.burst() == 1 {
            continue;
        }
        let (start, mut count) = (now, 0);
        let step = 1 + gcra.whole_interval() * 3 / 7;
        for _ in 0..20_000 {
            now = add(now, step);
            while let Verdict::Allow(new) = gcra.decide(state, now, 1) {
                (state, count) = (new, count + 1);
            }
        }
        let elapsed = u128::from(ahead(now, start));
        if 20_000 * u128::from(step) < u128::from(HALF) {
            // What the last poll found is up to one request off, at either end.
            let off = elapsed.abs_diff(exact(count));
            assert!(
                off <= exact(count) / 100_000 + 2 * exact(1),
                "{text}: {count} took {elapsed} ns by polls of {step} ns"
            );
        }
    }
}
