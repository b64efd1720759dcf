//! The table of a cluster's node under real threads, and against a plain model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ratelimit_core::clustered::{Grant, LimitRule, Listed, Outcome, Report, Switched, Synchroniser, Unleased};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, Overflow};
use ratelimit_model::{Gcra, Limit, Verdict, time};

fn limit(burst: u64, interval: Duration) -> Limit {
    Limit::new(1, interval).expect("a limit").burst(burst)
}

fn engine_of(limits: &[Limit], max_keys: u64, clock: Clock, unconfirmed: &[u64]) -> Arc<Engine> {
    let config = Config {
        limits: limits.to_vec(),
        max_keys: Some(max_keys),
        hash_key: HashKey::new([7; 16]),
        clock,
        overflow: Overflow::Share,
    };
    Arc::new(Engine::clustered(config, unconfirmed).expect("an engine"))
}

fn engine(limit: Limit, max_keys: u64, clock: Clock) -> Arc<Engine> {
    engine_of(&[limit], max_keys, clock, &[u64::MAX])
}

/// At most so many unconfirmed units; urgent from so many on.
fn set_rules(sync: &mut Synchroniser, limit: &Limit, unconfirmed: u64, urgent: u64) {
    let unleased = Unleased {
        gcra: Gcra::new(limit).expect("numbers"),
        unconfirmed,
    };
    let rule = LimitRule {
        connected: unleased,
        cut: unleased,
        overdraft: unconfirmed > 0 && unconfirmed != u64::MAX,
        urgent,
    };
    assert!(sync.set_rule(0, &rule, None) && !sync.set_rule(1, &rule, None));
}

fn overflowed(engine: &Engine) -> u64 {
    engine.stats().overflowed
}

/// A client whose key leads to a place of its own.
fn client(number: u64) -> Fingerprint {
    Fingerprint::new((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

fn drain_into(sync: &mut Synchroniser, listed: Listed, reports: &mut Vec<Report>) {
    sync.drain(listed, &mut |_, _, _| true, &mut |report| reports.push(report));
}

/// A small generator: the test must not depend on luck.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Many keys pass through few cells, so that cells expire and are taken over under the threads, while one thread drains. What
/// was reported for a key is what it was admitted, but for what the table says it counted in vain.
#[test]
fn use_stays_with_its_key_under_threads() {
    const THREADS: u64 = 4;
    const KEYS: u64 = 300;
    const CALLS: u64 = 40_000;
    // 8 main cells and as many behind: nearly every key has to take over a cell, and the rest share.
    let table = engine(limit(3, Duration::from_micros(2)), 60, Clock::precise());
    let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let mut sync = table.synchronise().expect("the first");
    assert!(table.synchronise().is_none(), "there is one at a time");
    let reports = std::thread::scope(|scope| {
        let drainer = scope.spawn(|| {
            let mut reports = Vec::new();
            while !done.load(Ordering::Acquire) {
                drain_into(&mut sync, Listed::Urgent, &mut reports);
                drain_into(&mut sync, Listed::All, &mut reports);
                std::thread::yield_now();
            }
            drain_into(&mut sync, Listed::All, &mut reports);
            // Each bit was set after what it lists was counted, so that nothing is left.
            sync.list_all();
            let before = reports.len();
            drain_into(&mut sync, Listed::All, &mut reports);
            assert_eq!(reports.len(), before, "use was counted and not listed");
            reports
        });
        let deciders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (table, admitted) = (&table, &admitted);
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    for _ in 0..CALLS {
                        let key = random.below(KEYS);
                        let before = overflowed(table);
                        let allowed = table.is_allowed(client(key));
                        // Decided in a shared cell, by this thread or another: it may be uncounted.
                        if allowed && overflowed(table) == before {
                            admitted[key as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for decider in deciders {
            decider.join().expect("a decider");
        }
        done.store(true, Ordering::Release);
        drainer.join().expect("the drainer")
    });
    let mut reported = BTreeMap::new();
    for report in &reports {
        *reported.entry(report.key).or_insert(0u64) += report.units;
    }
    let mut total = 0;
    for (number, admitted) in admitted.iter().enumerate() {
        let admitted = admitted.load(Ordering::Relaxed);
        let reported = reported
            .get(&table.cluster_key(client(number as u64), 0))
            .copied()
            .unwrap_or(0);
        assert!(
            reported >= admitted,
            "client {number}: {reported} reported of {admitted}"
        );
        total += admitted;
    }
    let all: u64 = reported.values().sum();
    assert!(total > 1_000, "only {total} admissions");
    assert!(all >= total, "{all} reported of {total}");
    if overflowed(&table) == 0 {
        let vain = table.stats().counted_in_vain.expect("counted");
        assert_eq!(all + vain.voided, total + vain.undo_failed, "{vain:?}");
    }
}

/// Without anything refilled, threads together are admitted the burst and no more, and exactly that is reported.
#[test]
fn a_hot_key_is_exact_under_threads() {
    const BURST: u64 = 50_000;
    let limit = limit(BURST, Duration::from_secs(60));
    let table = engine(limit, 100, Clock::precise());
    let done = AtomicBool::new(false);
    let mut sync = table.synchronise().expect("the first");
    set_rules(&mut sync, &limit, u64::MAX, 100);
    let (admitted, reports) = std::thread::scope(|scope| {
        let drainer = scope.spawn(|| {
            let mut reports = Vec::new();
            while !done.load(Ordering::Acquire) {
                drain_into(&mut sync, Listed::Urgent, &mut reports);
            }
            drain_into(&mut sync, Listed::All, &mut reports);
            reports
        });
        let deciders: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..BURST).filter(|_| table.is_allowed(client(1))).count() as u64))
            .collect();
        let admitted: u64 = deciders
            .into_iter()
            .map(|decider| decider.join().expect("a decider"))
            .sum();
        done.store(true, Ordering::Release);
        (admitted, drainer.join().expect("the drainer"))
    });
    assert_eq!(admitted, BURST);
    let reported: u64 = reports.iter().map(|report| report.units).sum();
    let vain = table.stats().counted_in_vain.expect("counted");
    assert_eq!(reported + vain.voided, admitted + vain.undo_failed, "{vain:?}");
    assert!(reports.iter().any(|report| report.wanted), "nobody was denied");
}

/// No more is spent than may be unconfirmed, whoever spends it; confirmed, it may be spent again.
#[test]
fn an_overdraft_is_never_exceeded_under_threads() {
    const MOST: u64 = 7;
    let limit = limit(1 << 30, Duration::from_micros(1));
    let table = engine(limit, 100, Clock::precise());
    let (spent, confirmed) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut sync = table.synchronise().expect("the first");
    set_rules(&mut sync, &limit, MOST, MOST / 2);
    std::thread::scope(|scope| {
        let deciders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        // Spent is counted after, and confirmed before: their distance is never less than the truth of it.
                        if table.check(client(1), 2, None).allowed {
                            spent.fetch_add(2, Ordering::AcqRel);
                        }
                    }
                })
            })
            .collect();
        while confirmed.load(Ordering::Acquire) < 2_000 && Instant::now() < deadline {
            let mut reports = Vec::new();
            drain_into(&mut sync, Listed::All, &mut reports);
            for report in &reports {
                confirmed.fetch_add(report.units, Ordering::AcqRel);
                let (spent, confirmed) = (spent.load(Ordering::Acquire), confirmed.load(Ordering::Acquire));
                assert!(spent <= confirmed + MOST, "{spent} spent, {confirmed} confirmed");
                sync.confirm(report);
            }
        }
        done.store(true, Ordering::Release);
        for decider in deciders {
            decider.join().expect("a decider");
        }
    });
    let (spent, confirmed) = (spent.load(Ordering::Acquire), confirmed.load(Ordering::Acquire));
    assert!(confirmed >= 2_000, "only {confirmed} confirmed");
    assert!(spent <= confirmed + MOST, "{spent} spent, {confirmed} confirmed");
}

/// Leases change under threads that spend them: what was given is at least what was spent and what came back.
#[test]
fn no_token_is_made_by_a_switch_under_threads() {
    // So slow that nothing is refilled in the time of a test; the interval changes from lease to lease all the same.
    let interval = Duration::from_secs(1_000);
    let table = engine_of(&[limit(1_000, interval)], 100, Clock::precise(), &[0]);
    let key = client(1);
    let cluster_key = table.cluster_key(key, 0);
    assert!(!table.is_allowed(key), "nothing may be spent without a lease");
    let mut sync = table.synchronise().expect("the first");
    let mut reports = Vec::new();
    drain_into(&mut sync, Listed::Urgent, &mut reports);
    assert!(
        reports.len() == 1 && reports[0].wanted && reports[0].units == 0,
        "{reports:?}"
    );

    let done = AtomicBool::new(false);
    let spent = AtomicU64::new(0);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (admitted, given, returned) = std::thread::scope(|scope| {
        let deciders: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        // Relaxed: read after the threads have ended.
                        spent.fetch_add(u64::from(table.is_allowed(key)), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let (mut given, mut returned) = (0, 0);
        // One scale of time for all, so that a whole number of units is a whole number of intervals of each.
        let mut turn = 0u64;
        while (turn < 2_000 || spent.load(Ordering::Relaxed) < 500) && Instant::now() < deadline {
            let gcra = Gcra::new(&limit(20 + turn % 7, interval * (1 + (turn % 3) as u32))).expect("numbers");
            let tokens = turn % 5;
            let outcome = sync.give(cluster_key, &Grant::of(gcra), |before| {
                let held = tokens + before.lease.map_or(0, |(old, state)| level(&old, state));
                let kept = held.min(gcra.burst());
                Switched {
                    tat: state_of(&gcra, kept),
                    returned: held - kept,
                }
            });
            let Outcome::Done(back) = outcome else {
                panic!("{outcome:?} in turn {turn}")
            };
            given += tokens;
            returned += back;
            turn += 1;
        }
        done.store(true, Ordering::Release);
        for decider in deciders {
            decider.join().expect("a decider");
        }
        let admitted = spent.load(Ordering::Relaxed);
        let to = |without: &Gcra, lease: Gcra, state| Switched {
            tat: state_of(without, 0),
            returned: level(&lease, state),
        };
        let outcome = sync.end(cluster_key, 0, table.clock().now(), to, &mut |_| ());
        match outcome {
            Outcome::Done(back) | Outcome::Standing(back) => returned += back,
            Outcome::Gone => panic!("the key is gone"),
        }
        (admitted, given, returned)
    });
    assert!(admitted >= 500, "only {admitted} admissions");
    // A request is decided at its own time, which is later than the origin that levels are taken at.
    assert!(
        admitted + returned <= given,
        "{admitted} admitted and {returned} returned of {given}"
    );
}

thread_local! {
    static ORIGIN: u64 = Clock::precise().now();
}

/// Whole units that may be spent at once.
fn level(gcra: &Gcra, state: u64) -> u64 {
    let backlog = time::ahead(state, ORIGIN.with(|now| *now));
    gcra.tolerance_ns().saturating_sub(backlog) / gcra.whole_interval()
}

fn state_of(gcra: &Gcra, units: u64) -> u64 {
    let now = ORIGIN.with(|now| *now);
    time::add(now, gcra.tolerance_ns() - units * gcra.whole_interval())
}

/// One thread, random calls: every answer and every report is what a map of states says.
#[test]
fn a_map_says_the_same() {
    let limit = limit(4, Duration::from_nanos(1_000));
    let gcra = Gcra::new(&limit).expect("numbers");
    let (clock, hand) = Clock::manual();
    let table = engine(limit, 1_000, clock);
    let mut sync = table.synchronise().expect("the first");
    let mut states: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut random = Random(7);
    let mut now = 1_000;
    for step in 0..200_000 {
        now += random.below(200);
        hand.set(Duration::from_nanos(now));
        let number = random.below(40);
        let (state, unreported) = states.entry(number).or_insert((now, 0));
        match random.below(20) {
            0 => {
                let mut reports = Vec::new();
                drain_into(&mut sync, Listed::All, &mut reports);
                let mut found: BTreeMap<u64, u64> = BTreeMap::new();
                for report in reports.iter().filter(|report| report.units > 0) {
                    *found.entry(report.key).or_insert(0) += report.units;
                }
                let expected: BTreeMap<u64, u64> = states
                    .iter()
                    .filter(|(_, (_, units))| *units > 0)
                    .map(|(&number, &(_, units))| (table.cluster_key(client(number), 0), units))
                    .collect();
                assert_eq!(found, expected, "step {step}");
                states.values_mut().for_each(|(_, units)| *units = 0);
            }
            1 => {
                let cost = 1 + random.below(2);
                table.refund(client(number), cost, None);
                // Only what is still charged can be given back, and a cell whose use waits to be reported is still there.
                if time::ahead(*state, now) > 0 {
                    *state = gcra.refund(*state, now, cost);
                    *unreported -= cost.min(*unreported);
                }
            }
            _ => {
                let cost = 1 + random.below(3);
                let decision = table.check(client(number), cost, None);
                match gcra.decide(*state, now, cost) {
                    Verdict::Allow(next) => {
                        assert!(decision.allowed, "step {step}");
                        (*state, *unreported) = (next, *unreported + cost);
                    }
                    Verdict::Deny => assert!(!decision.allowed, "step {step}"),
                }
            }
        }
    }
    let vain = table.stats().counted_in_vain.expect("counted");
    assert_eq!(
        (vain.voided, vain.undo_failed),
        (0, 0),
        "nothing is counted in vain by one thread"
    );
}

/// A report that never arrived is made again, with what was spent since.
#[test]
fn what_was_not_applied_is_reported_again() {
    let limit = limit(10, Duration::from_secs(60));
    let table = engine(limit, 10, Clock::precise());
    for most in [u64::MAX, 8] {
        let key = client(most % 100);
        let mut sync = table.synchronise().expect("the last one has ended");
        set_rules(&mut sync, &limit, most, 100);
        let mut reports = Vec::new();
        assert!(table.check(key, 3, None).allowed);
        drain_into(&mut sync, Listed::All, &mut reports);
        assert_eq!(reports.iter().map(|report| report.units).sum::<u64>(), 3);
        assert!(table.check(key, 1, None).allowed);
        assert!(sync.restore(&reports[0]));
        reports.clear();
        drain_into(&mut sync, Listed::All, &mut reports);
        assert_eq!(
            reports.iter().map(|report| report.units).sum::<u64>(),
            4,
            "at most {most}"
        );
        // What was spent since is not confirmed with it.
        assert_eq!(reports[0].in_flight, most == 8);
        assert!(table.check(key, 1, None).allowed);
        sync.confirm(&reports[0]);
        // Whoever has no room leaves it where it is.
        assert!(table.check(key, 2, None).allowed);
        sync.drain(Listed::All, &mut |_, _, _| false, &mut |report| panic!("{report:?}"));
        reports.clear();
        drain_into(&mut sync, Listed::All, &mut reports);
        assert_eq!(
            reports.iter().map(|report| report.units).sum::<u64>(),
            3,
            "at most {most}"
        );
    }
}

/// Who comes after one who ended reports what is not confirmed again: too much, and never too little.
#[test]
fn a_successor_finds_what_was_left() {
    let limit = limit(10, Duration::from_secs(60));
    let table = engine(limit, 10, Clock::precise());
    let mut reports = Vec::new();
    let mut first = table.synchronise().expect("the first");
    set_rules(&mut first, &limit, 4, 100);
    assert!(table.check(client(1), 3, None).allowed);
    drain_into(&mut first, Listed::All, &mut reports);
    drop(first);
    assert!(!table.check(client(1), 2, None).allowed, "3 of 4 are not confirmed");
    let mut next = table.synchronise().expect("the first has ended");
    drain_into(&mut next, Listed::All, &mut reports);
    assert_eq!(reports.iter().map(|report| report.units).collect::<Vec<_>>(), [3, 3]);
    next.confirm(&reports[1]);
    assert!(table.check(client(1), 4, None).allowed);
}
