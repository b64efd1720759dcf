//! The books against a naive model: what counts without timestamps cost and never give.

use super::*;
use crate::id::{Cell, Key, LimitId};
use crate::limits::LimitSpec;
use crate::message::LeaseAck;
use core::time::Duration;
use proptest::prelude::*;
use ratelimit_model::Limit;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const CELL: Cell = Cell {
    limit: LimitId(1),
    key: Key(7),
};

fn numbers(rate: u64, burst: u64, mode: Mode) -> LimitNumbers {
    let limit = Limit::new(rate, Duration::from_secs(1)).expect("a limit").burst(burst);
    LimitNumbers {
        spec: LimitSpec {
            id: CELL.limit,
            version: 1,
            author: A,
            limit,
            mode,
        },
        gcra: Gcra::new(&limit).expect("numbers"),
    }
}

fn terms(now_ns: u64) -> Terms {
    Terms {
        now_ns,
        interval_ns: 50_000_000,
        ttl_ns: 1_000_000_000,
        pool: WHOLE_SHARE,
        nodes: 5,
        max_nodes: 10,
        debt_bursts: 1000,
        silent_until_ns: 0,
        empty_at_ns: None,
        switches: Switches::default(),
    }
}

fn reporter(node: NodeId) -> Reporter {
    Reporter {
        node,
        gap_ns: 3_600_000_000_000,
        sent_ns: 0,
        away_ns: 0,
        back_ns: 0,
        forgiven_ns: 0,
        quiet_until_ns: 0,
        orphaned: false,
    }
}

fn used(used: u64) -> Entry {
    Entry {
        cell: CELL,
        used,
        denied: 0,
        largest: 0,
        leased: false,
        refund: false,
        waiting: false,
    }
}

/// One admission of `n` at `t`: the map `x -> max(x, t) + n T`.
fn charged(tat: u64, at: u64, units: u64, interval: u64) -> u64 {
    tat.max(at) + units * interval
}

proptest! {
    /// Theorem 1. Events applied at their time of arrival, each at most `D` late and in order, leave a state between the
    /// true one and the true one plus `D`: never below the truth.
    #[test]
    fn counts_applied_on_arrival_never_undercount(
        events in prop::collection::vec((0u64..200_000_000, 1u64..20, 0u64..100_000_000), 1..60),
    ) {
        let limit = numbers(1000, 1_000_000, Mode::Eventual);
        let interval = limit.gcra.whole_interval();
        let mut ledger = Ledger::new(16);
        let (mut at, mut arrived, mut truth, mut latest) = (0, 0, 0, 0);
        for (gap, units, late) in events {
            at += gap;
            // An ordered stream: nothing overtakes.
            arrived = arrived.max(at + late);
            latest = latest.max(arrived - at);
            truth = charged(truth, at, units, interval);
            ledger.book(&used(units), &reporter(A), &limit, &terms(arrived));
            let booked = ledger.get(CELL).expect("an account").tat_ns;
            prop_assert!(booked >= truth, "{booked} is below the truth {truth}");
            prop_assert!(booked <= truth + latest, "{booked} is more than {latest} above {truth}");
        }
    }

    /// Theorem 2. The same events at their own times, in any order, err within [0, lateness]: here by brute force over
    /// what a ledger with timestamps would do, which is why none are sent.
    #[test]
    fn any_order_errs_within_the_lateness(
        mut events in prop::collection::vec((0u64..1_000, 1u64..5), 1..30), order: u64,
    ) {
        let interval = 10;
        events.sort_unstable();
        let mut truth = 0;
        for (at, units) in &events {
            truth = charged(truth, *at, *units, interval);
        }
        let mut shuffled = events.clone();
        let mut seed = order;
        for i in (1..shuffled.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (seed >> 33) as usize % (i + 1));
        }
        let (mut state, mut newest, mut lateness) = (0, 0u64, 0);
        for (at, units) in &shuffled {
            newest = newest.max(*at);
            lateness = lateness.max(newest - at);
            state = charged(state, *at, *units, interval);
        }
        prop_assert!(state >= truth, "{state} is below the truth {truth}");
        prop_assert!(state <= truth + lateness, "{state} is more than {lateness} above {truth}");
    }

    /// The clamp: no debt is above a burst for each node that used the key, whatever is reported.
    #[test]
    fn debts_are_bounded(reports in prop::collection::vec((any::<bool>(), any::<u64>(), 0u64..1 << 40), 1..50), burst in 1u64..1000) {
        let limit = numbers(1000, burst, Mode::Eventual);
        let mut ledger = Ledger::new(16);
        let mut now_ns = 0;
        for (who, units, gap) in reports {
            now_ns += gap;
            ledger.book(&used(units), &reporter(if who { A } else { B }), &limit, &terms(now_ns));
            prop_assert!(ledger.debts(now_ns).all(|(_, debt)| debt <= 3 * burst + 1));
        }
    }

    /// What is granted of a hard limit and what is kept is never more than the limit, whatever holders say.
    #[test]
    fn grants_and_pool_never_exceed_the_limit(
        steps in prop::collection::vec((0u8..6, any::<bool>(), 0u64..300, 0u64..300_000_000), 1..100),
        rate in 1u64..10_000, burst in 1u64..300, bounded: bool,
    ) {
        let mode = if bounded { Mode::Bounded { units: 5 } } else { Mode::Strict { floor_ppm: 0 } };
        let limit = numbers(rate, burst, mode);
        let mut ledger = Ledger::new(16);
        let mut now_ns = 0;
        // Tokens given out and not given back: the most that holders can have, were nothing spent and nothing refilled.
        let mut offers: Vec<Offer> = Vec::new();
        for (what, who, size, gap) in steps {
            now_ns += gap;
            let node = if who { A } else { B };
            let terms = terms(now_ns);
            match what {
                0..=2 => {
                    let entry = Entry { denied: size, largest: 1, leased: what > 0, ..used(size / 3) };
                    offers.extend(ledger.book(&entry, &reporter(node), &limit, &terms).offers);
                }
                _ => if let Some(offer) = offers.iter().rev().find(|offer| offer.node == node).copied() {
                    let ack = LeaseAck {
                        cell: CELL,
                        // Sometimes of a grant that never was.
                        seq: offer.seq + u64::from(size == 0),
                        returned: if what == 4 { size * 1000 } else { 0 },
                        ended: what == 5,
                        declared: size % 5 == 0,
                    };
                    offers.extend(ledger.acknowledged(node, &ack, now_ns / 2, &terms));
                },
            }
            let Some(account) = ledger.accounts.get(&CELL) else { continue };
            let granted = account.granted();
            prop_assert!(granted.0 <= u128::from(WHOLE_SHARE), "{} parts of the rate are granted", granted.0);
            prop_assert!(granted.1 <= u128::from(burst), "{} of {burst} are granted", granted.1);
            let level = account.pool.level();
            let left = (i128::from(burst) - granted.1 as i128) << LEVEL_BITS;
            prop_assert!(level <= left, "the pool holds more than what is not granted");
        }
    }
}

#[test]
fn a_denied_holder_of_a_quiet_key_gets_all_there_is() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let mut ledger = Ledger::new(16);
    let asking = Entry {
        denied: 1,
        largest: 1,
        ..used(10)
    };
    let booked = ledger.book(&asking, &reporter(A), &limit, &terms(1));
    let offer = booked.offers[0];
    assert_eq!((offer.share, offer.capacity, offer.tokens), (WHOLE_SHARE, 100, 90));
    let quiet = ledger.book(&used(1), &reporter(B), &limit, &terms(2));
    assert!(quiet.offers.is_empty(), "nobody asked");
}

#[test]
fn when_a_key_becomes_contended_everybody_is_told_at_once() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let mut ledger = Ledger::new(16);
    assert!(
        ledger
            .book(&used(30), &reporter(A), &limit, &terms(1))
            .offers
            .is_empty()
    );
    let offers = ledger.book(&used(30), &reporter(B), &limit, &terms(2)).offers;
    assert_eq!(offers.iter().map(|offer| offer.node).collect::<Vec<_>>(), [A, B]);
    assert!(offers.iter().map(|offer| offer.share).sum::<u64>() <= WHOLE_SHARE);
    assert!(
        offers.iter().map(|offer| offer.tokens).sum::<u64>() <= 40,
        "no more tokens than are left"
    );
}

#[test]
fn a_debt_lowers_the_shares_until_it_is_repaid() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let mut ledger = Ledger::new(16);
    // 100 units of debt: a fifth of what half a second refills.
    let offers = ledger.book(&used(200), &reporter(A), &limit, &terms(1)).offers;
    let share = offers[0].share as f64 / WHOLE_SHARE as f64;
    assert!((0.79..0.81).contains(&share), "{share}");
    let deep = ledger.book(&used(100), &reporter(B), &limit, &terms(2)).offers;
    let total: u64 = deep.iter().map(|offer| offer.share).sum();
    assert!(total > 0, "somebody is always served");
}

/// A and B use a key of 1,000 a second fully, reporting 25 units each every 50 ms; from `silent_from` on A is not heard.
fn busy_until(ledger: &mut Ledger, limit: &LimitNumbers, silent_from: u64, until_ns: u64) {
    let mut now_ns = 50_000_000;
    while now_ns <= until_ns {
        for node in [A, B].into_iter().filter(|node| *node == B || now_ns < silent_from) {
            let entry = Entry {
                denied: 10,
                largest: 1,
                ..used(25)
            };
            let reporter = Reporter {
                sent_ns: now_ns,
                ..reporter(node)
            };
            ledger.book(&entry, &reporter, limit, &terms(now_ns));
        }
        now_ns += 50_000_000;
    }
}

#[test]
fn a_holder_that_falls_silent_is_charged_for_it_and_leaves_no_credit() {
    let limit = numbers(1000, 1000, Mode::Eventual);
    let second = 1_000_000_000;
    let mut ledger = Ledger::new(16);
    // For a second and a half A may go on with half of the rate, and nobody is told: 750 units. B uses the other half, so
    // that in the half second after that 250 of them are repaid.
    busy_until(&mut ledger, &limit, 2 * second, 4 * second);
    ledger.sweep(10, &terms(4 * second));
    let owed = ledger.get(CELL).map_or(0, |account| account.owed(4 * second));
    assert!((450..=550).contains(&owed), "{owed} owed");
}

#[test]
fn what_was_held_back_is_not_charged_however_many_reports_tell_it() {
    let limit = numbers(1000, 1000, Mode::Eventual);
    let second = 1_000_000_000;
    let mut ledger = Ledger::new(16);
    busy_until(&mut ledger, &limit, 2 * second, 12 * second);
    let now_ns = 12 * second;
    let before = ledger.get(CELL).map_or(0, |account| account.owed(now_ns));
    // Ten seconds of an equal part of five nodes: two batches that were on their way, and then all that is in the cell.
    let back = |sent_ns: u64| Reporter {
        sent_ns,
        away_ns: 10 * second,
        back_ns: now_ns,
        forgiven_ns: 17 * second / 2,
        ..reporter(A)
    };
    for (sent_ns, units) in [(2 * second, 25), (2 * second + 50_000_000, 25), (now_ns, 1950)] {
        ledger.book(&used(units), &back(sent_ns), &limit, &terms(now_ns));
    }
    let after = ledger.get(CELL).map_or(0, |account| account.owed(now_ns));
    assert_eq!(after, before, "its part was held back");
    ledger.book(&used(100), &back(now_ns + 50_000_000), &limit, &terms(now_ns));
    let later = ledger.get(CELL).map_or(0, |account| account.owed(now_ns));
    assert_eq!(later, after + 100, "what comes later is new");
}

#[test]
fn refunds_lower_the_debt_but_make_no_credit() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let mut ledger = Ledger::new(16);
    ledger.book(&used(50), &reporter(A), &limit, &terms(1));
    let refund = Entry {
        refund: true,
        ..used(20)
    };
    ledger.book(&refund, &reporter(A), &limit, &terms(1));
    assert_eq!(ledger.get(CELL).map(|account| account.owed(1)), Some(30));
    ledger.book(&Entry { used: 1000, ..refund }, &reporter(A), &limit, &terms(1));
    assert_eq!(ledger.get(CELL).map(|account| account.owed(1)), Some(0));
    ledger.book(&used(10), &reporter(A), &limit, &terms(1));
    assert_eq!(ledger.get(CELL).map(|account| account.owed(1)), Some(10));
}

#[test]
fn a_changed_limit_keeps_the_part_that_is_owed() {
    let mut ledger = Ledger::new(16);
    ledger.book(&used(50), &reporter(A), &numbers(1000, 100, Mode::Eventual), &terms(1));
    let mut slower = numbers(100, 100, Mode::Eventual);
    slower.spec.version = 2;
    ledger.book(&used(0), &reporter(A), &slower, &terms(1));
    assert_eq!(ledger.get(CELL).map(|account| account.owed(1)), Some(50));
    let mut small = numbers(100, 10, Mode::Eventual);
    small.spec.version = 3;
    ledger.book(&used(0), &reporter(A), &small, &terms(1));
    assert_eq!(
        ledger.get(CELL).map(|account| account.owed(1)),
        Some(5),
        "half a burst is half a burst"
    );
}

#[test]
fn a_restarted_owner_does_not_give_the_burst_again() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let after = |now_ns| {
        let mut ledger = Ledger::new(16);
        let terms = Terms {
            empty_at_ns: Some(1_000_000_000),
            ..terms(now_ns)
        };
        ledger.book(&used(0), &reporter(A), &limit, &terms);
        ledger.get(CELL).map(|account| account.owed(now_ns))
    };
    assert_eq!(after(1_000_000_000), Some(100));
    assert_eq!(after(1_040_000_000), Some(60));
    assert_eq!(after(1_100_000_000), Some(0));
}

#[test]
fn an_owners_first_life_begins_with_full_buckets_whatever_its_clock_says() {
    // A day to refill, on a clock that was started a moment ago.
    let day = Limit::new(60, Duration::from_secs(86_400)).expect("a limit");
    let limit = LimitNumbers {
        gcra: Gcra::new(&day).expect("numbers"),
        ..numbers(60, 60, Mode::Strict { floor_ppm: 0 })
    };
    let level = |terms: &Terms| Pool::open(&limit.gcra, limit.spec.mode, terms).level() >> LEVEL_BITS;
    assert_eq!(level(&terms(1_000_000)), 60);
    let restarted = Terms {
        silent_until_ns: 1_000_000_000,
        empty_at_ns: Some(0),
        ..terms(1_000_000_000)
    };
    assert_eq!(level(&restarted), 0);
}

#[test]
fn accounts_are_bounded_by_the_cap_and_by_who_opens_them() {
    let limit = numbers(1000, 100, Mode::Eventual);
    let mut ledger = Ledger::new(8);
    let open = |ledger: &mut Ledger, node: NodeId, key: u64| {
        let cell = Cell { key: Key(key), ..CELL };
        ledger
            .book(&Entry { cell, ..used(1) }, &reporter(node), &limit, &terms(1))
            .dropped
    };
    let dropped: u64 = (0..20).map(|key| open(&mut ledger, A, key)).sum();
    assert_eq!((ledger.len(), dropped), (6, 14));
    let dropped: u64 = (100..120).map(|key| open(&mut ledger, B, key)).sum();
    assert_eq!((ledger.len(), dropped), (8, 18));
    for round in 0..3 {
        ledger.sweep(100, &terms(10_000_000_000 + round));
    }
    assert_eq!(ledger.len(), 0);
    assert!(ledger.opened.is_empty());
}
