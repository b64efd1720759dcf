//! What each call of an engine does on a node of a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratelimit_core::clustered::{Grant, LimitRule, Listed, Outcome, Report, Switched, Synchroniser, Unleased};
use ratelimit_core::snapshot::simulated::SimulatedDisk;
use ratelimit_core::snapshot::{Moment, Restore};
use ratelimit_core::{Clock, Config, Engine, EngineError, Fingerprint, HashKey, ManualClock, Overflow};
use ratelimit_model::{Decision, Gcra, Limit, WHOLE_SHARE};

const SECOND: Duration = Duration::from_secs(1);
const START: u64 = 1_000_000_000_000;

fn limit(rate: u64, burst: u64) -> Limit {
    Limit::new(rate, SECOND).expect("a limit").burst(burst)
}

fn gcra(rate: u64, burst: u64) -> Gcra {
    Gcra::new(&limit(rate, burst)).expect("numbers")
}

fn engine(limits: &[Limit], unconfirmed: &[u64]) -> (Arc<Engine>, ManualClock) {
    let (clock, hand) = Clock::manual();
    hand.set(Duration::from_nanos(START));
    let config = Config {
        limits: limits.to_vec(),
        max_keys: Some(100),
        hash_key: HashKey::new([7; 16]),
        clock,
        overflow: Overflow::Share,
    };
    (
        Arc::new(Engine::clustered(config, unconfirmed).expect("an engine")),
        hand,
    )
}

fn client(number: u64) -> Fingerprint {
    Fingerprint::new((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

fn drained(sync: &mut Synchroniser, listed: Listed) -> Vec<Report> {
    let mut reports = Vec::new();
    sync.drain(listed, &mut |_, _, _| true, &mut |report| reports.push(report));
    reports
}

fn units(reports: &[Report], limit: usize) -> u64 {
    reports.iter().filter(|r| r.limit == limit).map(|r| r.units).sum()
}

fn rule(connected: Unleased, cut: Unleased) -> LimitRule {
    LimitRule {
        connected,
        cut,
        overdraft: false,
        urgent: 1_000,
    }
}

fn free(gcra: Gcra) -> Unleased {
    Unleased {
        gcra,
        unconfirmed: u64::MAX,
    }
}

fn nothing(gcra: Gcra) -> Unleased {
    Unleased { gcra, unconfirmed: 0 }
}

#[test]
fn each_of_several_limits_is_counted_and_a_denial_is_told_where_it_was() {
    let (engine, _) = engine(&[limit(100, 10), limit(100, 3)], &[u64::MAX; 2]);
    let mut sync = engine.synchronise().expect("the first");
    assert_eq!((0..5).filter(|_| engine.is_allowed(client(1))).count(), 3);
    assert!(!engine.peek(client(1), 1, None).allowed && engine.peek(client(2), 1, None).allowed);
    let reports = drained(&mut sync, Listed::All);
    assert_eq!((units(&reports, 0), units(&reports, 1)), (3, 3));
    let keys = [0, 1].map(|limit| engine.cluster_key(client(1), limit));
    for report in &reports {
        assert_eq!(report.key, keys[report.limit]);
        assert_eq!(report.wanted, report.limit == 1, "only the second denied: {report:?}");
    }
    assert_eq!(reports.iter().map(|r| r.denied).sum::<u64>(), 2);
    // A refund of what was told is told again, limit by limit.
    engine.refund(client(1), 2, None);
    let mut told = Vec::new();
    sync.drain_refunds(&mut |key, limit, units| {
        told.push((key, limit, units));
        limit == 0
    });
    told.sort_unstable_by_key(|told| told.1);
    assert_eq!(told, [(keys[0], 0, 2), (keys[1], 1, 2)]);
    told.clear();
    sync.drain_refunds(&mut |key, limit, units| {
        told.push((key, limit, units));
        true
    });
    assert_eq!(told, [(keys[1], 1, 2)], "what was not taken waits");
    assert!(engine.audit().faults == 0, "{:?}", engine.audit().shown);
}

#[test]
fn batches_count_as_single_calls_do() {
    let (engine, _) = engine(&[limit(100, 10)], &[u64::MAX]);
    let mut sync = engine.synchronise().expect("the first");
    let keys = [1, 2, 1, 1].map(client);
    let mut allowed = [false; 4];
    engine.allowed_many(&keys, &mut allowed, |key| *key).expect("lengths");
    let mut decisions = [Decision::default(); 4];
    let costs = [1, 11, 2, 3];
    engine
        .check_many(&keys, Some(&costs), None, &mut decisions, |key| *key)
        .expect("lengths");
    assert_eq!(allowed, [true; 4]);
    assert_eq!(decisions.map(|d| d.allowed), [true, false, true, true]);
    assert_eq!(decisions[3].remaining, 1);
    let reports = drained(&mut sync, Listed::All);
    let of = |number| reports.iter().find(|r| r.key == engine.cluster_key(client(number), 0));
    assert_eq!(of(1).map(|r| (r.units, r.wanted)), Some((9, false)));
    assert_eq!(of(2).map(|r| (r.units, r.denied, r.largest)), Some((1, 11, 11)));
}

#[test]
fn times_that_are_given_are_apart_and_not_counted() {
    let (engine, _) = engine(&[limit(100, 2)], &[u64::MAX]);
    let mut sync = engine.synchronise().expect("the first");
    let given = Some(Duration::from_secs(5));
    assert_eq!((0..5).filter(|_| engine.check(client(1), 1, given).allowed).count(), 2);
    assert!(!engine.peek(client(1), 1, given).allowed);
    assert_eq!(
        (0..5).filter(|_| engine.is_allowed(client(1))).count(),
        2,
        "two buckets"
    );
    let reports = drained(&mut sync, Listed::All);
    assert_eq!(units(&reports, 0), 2);
    engine.refund(client(1), 1, given);
    assert!(engine.check(client(1), 1, given).allowed && !engine.is_allowed(client(1)));
    engine.reset(client(1), given);
    assert!(engine.check(client(1), 2, given).allowed && engine.check(client(1), 2, None).allowed);

    sync.set_rule(0, &rule(nothing(gcra(100, 2)), nothing(gcra(100, 2))), None);
    let denied = engine.check(client(2), 1, given);
    assert!(
        !denied.allowed && denied.retry_after == Decision::NEVER,
        "only an owner keeps this one"
    );
    assert!(!engine.peek(client(2), 1, given).allowed && engine.check(client(2), 0, given).allowed);
}

#[test]
fn what_a_node_cannot_do_by_itself_is_refused() {
    let (engine, _) = engine(&[limit(100, 2)], &[u64::MAX]);
    let refused = [
        engine.set_limits(&[limit(5, 5)]),
        engine.set_override(client(1), Some(limit(5, 5))),
    ];
    for error in refused {
        assert!(matches!(error, Err(EngineError::Clustered(text)) if text.contains("cluster")));
    }
    assert!(engine.set_override(client(1), None).is_ok());
    engine.clear_overrides();
    assert_eq!(engine.limits(), [limit(100, 2)]);
    assert!(engine.stats().counted_in_vain.is_some());
    let mut sync = engine.synchronise().expect("the first");
    let shown = limit(50, 3);
    assert!(sync.set_rule(0, &rule(free(gcra(25, 3)), free(gcra(25, 3))), Some(&shown)));
    assert_eq!(
        engine.limits(),
        [shown],
        "the whole limit, of which this node keeps a part"
    );
    assert_eq!(engine.peek(client(3), 1, None).limit, 3);
}

#[test]
fn a_block_holds_here_and_a_reset_makes_no_tokens_of_a_strict_limit() {
    let (engine, hand) = engine(&[limit(10, 2), limit(10, 2)], &[u64::MAX; 2]);
    let mut sync = engine.synchronise().expect("the first");
    assert!(engine.check(client(1), 2, None).allowed && !engine.is_allowed(client(1)));
    engine.reset(client(1), None);
    assert!(engine.is_allowed(client(1)), "as on a table of its own");
    engine.block(client(1), SECOND).expect("room");
    assert!(!engine.is_allowed(client(1)));
    engine.reset(client(1), None);
    assert!(engine.is_allowed(client(1)), "a reset lifts a block");

    let strict = rule(nothing(gcra(10, 2)), nothing(gcra(10, 2)));
    assert!(sync.set_rule(1, &strict, None));
    assert!(!engine.is_allowed(client(2)));
    let key = engine.cluster_key(client(2), 1);
    let part = gcra(10, 2).part(WHOLE_SHARE / 1_000, 2);
    let until = Some(START + 1_000_000_000);
    let grant = Grant {
        until,
        ..Grant::of(part)
    };
    let outcome = sync.give(key, &grant, |before| {
        assert!(before.lease.is_none());
        Switched {
            tat: START,
            returned: 0,
        }
    });
    assert_eq!(outcome, Outcome::Done(0));
    assert!(engine.check(client(2), 2, None).allowed && !engine.is_allowed(client(2)));
    engine.reset(client(2), None);
    assert!(
        !engine.is_allowed(client(2)),
        "what an owner gave once is not spent twice"
    );
    hand.set(Duration::from_nanos(START + 2_000_000_000));
    assert!(!engine.is_allowed(client(2)), "the lease is over");
}

#[test]
fn keys_whose_owner_is_not_heard_are_under_other_numbers() {
    let (engine, hand) = engine(&[limit(100, 10)], &[u64::MAX]);
    let mut sync = engine.synchronise().expect("the first");
    sync.set_rule(0, &rule(free(gcra(100, 10)), free(gcra(100, 2))), None);
    let key = engine.cluster_key(client(1), 0);
    let other = (0..)
        .map(client)
        .find(|c| c.bits() >> 52 != key >> 52)
        .expect("one elsewhere");
    sync.set_cut((key >> 52) as usize, false, true);
    sync.set_cut(9_999, false, true);
    assert_eq!((0..5).filter(|_| engine.is_allowed(client(1))).count(), 2);
    assert_eq!((0..5).filter(|_| engine.is_allowed(other)).count(), 5);
    sync.set_cut((key >> 52) as usize, false, false);
    assert_eq!(
        (0..20).filter(|_| engine.is_allowed(client(1))).count(),
        8,
        "the same time to wait"
    );
    // A floor: nothing while the owner is heard.
    sync.set_rule(0, &rule(nothing(gcra(100, 3)), free(gcra(100, 3))), None);
    hand.set(Duration::from_nanos(START + 1_000_000_000));
    assert!(!engine.is_allowed(client(1)));
    sync.set_cut((key >> 52) as usize, true, true);
    assert_eq!((0..5).filter(|_| engine.is_allowed(client(1))).count(), 3);
}

#[test]
fn denials_are_urgent_once_and_told_with_the_largest() {
    let (engine, _) = engine(&[limit(10, 40)], &[0]);
    let mut sync = engine.synchronise().expect("the first");
    assert!(!sync.is_urgent());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    assert!(engine.at_urgent(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(!engine.at_urgent(|| ()), "one at a time");
    for cost in [1, 9, 3] {
        assert!(!engine.check(client(1), cost, None).allowed);
    }
    assert!(!engine.is_allowed(client(2)) && sync.is_urgent());
    assert_eq!(calls.load(Ordering::Relaxed), 1, "who was woken sees the rest");
    let mut reports = drained(&mut sync, Listed::Urgent);
    reports.retain(|report| report.key == engine.cluster_key(client(1), 0));
    assert_eq!(
        reports
            .iter()
            .map(|r| (r.units, r.denied, r.largest))
            .collect::<Vec<_>>(),
        [(0, 13, 9)]
    );
    assert!(!sync.is_urgent());
    // Until the next pass over all cells the owner knows enough.
    assert!(!engine.is_allowed(client(1)) && !sync.is_urgent());
    assert_eq!(drained(&mut sync, Listed::All).len(), 1);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!engine.is_allowed(client(1)) && sync.is_urgent());
    assert_eq!(drained(&mut sync, Listed::Urgent).len(), 1);
    // A pass that finds nothing new about it, too.
    assert_eq!(drained(&mut sync, Listed::All).len(), 0);
    assert!(!engine.is_allowed(client(1)) && sync.is_urgent());
}

#[test]
fn half_a_burst_without_a_lease_is_urgent_and_under_one_its_own_number_is() {
    let (engine, _) = engine(&[limit(10, 40)], &[u64::MAX]);
    let mut sync = engine.synchronise().expect("the first");
    assert!(engine.check(client(1), 20, None).allowed && !sync.is_urgent());
    assert!(engine.is_allowed(client(1)) && sync.is_urgent());
    assert_eq!(units(&drained(&mut sync, Listed::Urgent), 0), 21);
    let key = engine.cluster_key(client(1), 0);
    let grant = Grant {
        urgent: 5,
        ..Grant::of(gcra(10, 40))
    };
    let outcome = sync.give(key, &grant, |before| {
        assert_eq!(before.unreported, 0);
        Switched {
            tat: START,
            returned: 0,
        }
    });
    assert_eq!(outcome, Outcome::Done(0));
    assert!(engine.check(client(1), 7, None).allowed && !sync.is_urgent());
    assert!(
        engine.is_allowed(client(1)) && sync.is_urgent(),
        "5, rounded up to a power of two"
    );
    assert_eq!(kinds(&drained(&mut sync, Listed::All)), [(8, true, false)]);
}

/// Units, whether they were spent under a lease, and whether they are in flight.
fn kinds(reports: &[Report]) -> Vec<(u64, bool, bool)> {
    reports.iter().map(|r| (r.units, r.leased, r.in_flight)).collect()
}

#[test]
fn use_with_a_lease_and_without_one_is_told_apart() {
    let (engine, _) = engine(&[limit(100, 10)], &[4]);
    let mut sync = engine.synchronise().expect("the first");
    let key = engine.cluster_key(client(1), 0);
    let grant = Grant::of(gcra(100, 10));
    let to = |_: &_| Switched {
        tat: START,
        returned: 0,
    };
    assert!(engine.check(client(1), 1, None).allowed);
    assert_eq!(kinds(&drained(&mut sync, Listed::All)), [(1, false, true)]);
    assert!(engine.check(client(1), 2, None).allowed);
    assert_eq!(sync.give(key, &grant, to), Outcome::Done(0));
    assert!(engine.check(client(1), 6, None).allowed);
    assert_eq!(
        kinds(&drained(&mut sync, Listed::All)),
        [(2, false, true), (6, true, false)]
    );
    sync.confirm_key(key, 1);
    assert!(engine.check(client(1), 1, None).allowed);
    assert_eq!(kinds(&drained(&mut sync, Listed::All)), [(1, true, false)]);
    // At the end leased use does not pass for overdraft: 2 of 4 are in flight, and 2 may be spent.
    assert!(engine.check(client(1), 3, None).allowed);
    let mut left = 0;
    let ended = sync.end(key, 0, START, |_, _, tat| Switched { tat, returned: 0 }, &mut |units| {
        left += units
    });
    assert_eq!((ended, left, engine.unreported()), (Outcome::Standing(0), 3, 0));
}

#[test]
fn a_key_that_was_never_met_gets_a_cell_for_its_lease() {
    for limits in [1, 3] {
        let (engine, _) = engine(&vec![limit(100, 10); limits], &vec![u64::MAX; limits]);
        let mut sync = engine.synchronise().expect("the first");
        for place in 0..limits {
            let key = engine.cluster_key(client(1), place);
            let grant = Grant::of(gcra(100, 10));
            let to = |_: &_| Switched {
                tat: START,
                returned: 0,
            };
            assert_eq!(sync.give(key, &grant, to), Outcome::Gone);
            assert!(sync.open(key, place, START));
            let grant = Grant::of(gcra(100, 4 + place as u64));
            assert_eq!(sync.give(key, &grant, to), Outcome::Done(0));
        }
        assert!(!sync.open(1, limits, START));
        assert_eq!(engine.peek(client(1), 1, None).limit, 4);
        assert_eq!((0..20).filter(|_| engine.is_allowed(client(1))).count(), 4);
    }
}

/// The rule without a lease holds at once when a lease ends, also while the word is still ahead of what it stands for.
#[test]
fn an_ended_lease_leaves_the_rule_without_one() {
    for (unconfirmed, expected) in [(u64::MAX, 6), (0, 0), (2, 2)] {
        let (engine, hand) = engine(&[limit(100, 10)], &[unconfirmed]);
        let mut sync = engine.synchronise().expect("the first");
        let key = engine.cluster_key(client(1), 0);
        assert!(sync.open(key, 0, START));
        let slow = gcra(100, 10).part(WHOLE_SHARE / 100, 10);
        // So slow that the word is ten seconds ahead, and then quick: the difference is a shift.
        for part in [slow, gcra(100, 10)] {
            let tat = START + part.tolerance_ns();
            assert_eq!(
                sync.give(key, &Grant::of(part), |_| Switched { tat, returned: 0 }),
                Outcome::Done(0)
            );
            assert!(!engine.is_allowed(client(1)));
        }
        drained(&mut sync, Listed::All);
        let six_left = START + 40_000_000;
        let to = |_: &Gcra, _: Gcra, _: u64| Switched {
            tat: six_left,
            returned: 0,
        };
        let ended = sync.end(key, 0, START, to, &mut |_| ());
        assert_eq!(ended, Outcome::Standing(0));
        assert_eq!((0..20).filter(|_| engine.is_allowed(client(1))).count(), expected);
        assert!(!engine.peek(client(1), 1, None).allowed);
        let reports = drained(&mut sync, Listed::All);
        assert!(reports.iter().all(|report| !report.leased), "{reports:?}");
        hand.set(Duration::from_nanos(START + 20_000_000_000));
        let to = |_: &Gcra, _: Gcra, _: u64| panic!("a rule that stands has a state");
        let left = &mut |units: u64| panic!("{units} units were under no lease");
        assert_eq!(sync.end(key, 0, START + 20_000_000_000, to, left), Outcome::Done(0));
        // What is in flight stays so when a lease ends.
        assert_eq!(engine.is_allowed(client(1)), unconfirmed == u64::MAX);
    }
}

#[test]
fn an_overdraft_is_confirmed_and_restored_by_key() {
    let (engine, _) = engine(&[limit(100, 10)], &[4]);
    let mut sync = engine.synchronise().expect("the first");
    let key = engine.cluster_key(client(1), 0);
    assert!(engine.check(client(1), 4, None).allowed && !engine.is_allowed(client(1)));
    let reports = drained(&mut sync, Listed::All);
    assert!(reports.len() == 1 && reports[0].in_flight, "{reports:?}");
    assert!(sync.restore_key(key, 0, 4, true));
    assert_eq!(units(&drained(&mut sync, Listed::All), 0), 4);
    sync.confirm_key(key, 3);
    assert!(engine.check(client(1), 3, None).allowed && !engine.is_allowed(client(1)));
    // More than is in flight is never set free.
    sync.confirm_key(key, 100);
    assert!(engine.is_allowed(client(1)) && !engine.is_allowed(client(1)));
    assert!(
        !sync.restore_key(engine.cluster_key(client(9), 0), 0, 1, false),
        "it has no cell"
    );
}

/// A snapshot has what was spent, with a lease or without one, and a node that takes it back counts as ever.
#[test]
fn debts_come_back_from_a_snapshot_and_leases_do_not() {
    let (engine, _) = engine(&[limit(100, 10)], &[u64::MAX]);
    let mut sync = engine.synchronise().expect("the first");
    assert!(engine.check(client(1), 4, None).allowed && engine.check(client(2), 1, None).allowed);
    let key = engine.cluster_key(client(2), 0);
    let to = |_: &_| Switched {
        tat: START,
        returned: 0,
    };
    let part = gcra(100, 10).part(WHOLE_SHARE / 2, 8);
    assert_eq!(sync.give(key, &Grant::of(part), to), Outcome::Done(0));
    assert!(engine.check(client(2), 6, None).allowed);
    let mut disk = SimulatedDisk::new();
    let now = || Moment {
        boot_id: 7,
        boot_ns: START,
        wall_ns: START,
    };
    engine.write_snapshot(&mut disk, 1, now).expect("a disk that works");

    let (clock, hand) = Clock::manual();
    hand.set(Duration::from_nanos(START));
    let config = Config {
        limits: vec![limit(100, 10)],
        max_keys: Some(100),
        hash_key: HashKey::new([7; 16]),
        clock,
        overflow: Overflow::Share,
    };
    let mut again = Engine::clustered(config, &[u64::MAX]).expect("an engine");
    let restored = again
        .restore(&mut disk, Restore::Auto, now())
        .expect("nothing is required");
    assert_eq!(restored.cells, 2);
    assert_eq!(again.peek(client(1), 1, None).remaining, 6);
    // Six units were spent of the lease, and they are six of the limit.
    assert_eq!(again.peek(client(2), 1, None).remaining, 4);
    let again = Arc::new(again);
    let mut sync = again.synchronise().expect("the first");
    assert!(again.is_allowed(client(1)) && again.is_allowed(client(2)));
    assert_eq!(
        units(&drained(&mut sync, Listed::All), 0),
        2,
        "what is restored was reported by another life"
    );
    assert!(again.audit().faults == 0, "{:?}", again.audit().shown);
}
