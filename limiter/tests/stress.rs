//! Many threads on the same clients: what is admitted in the end is exactly what one thread would have been admitted,
//! never more, and below the bound never less.
//!
//! About ten million decisions; a hundred million with `RATELIMIT_FULL=1`.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use ratelimit::{Clock, Limit, Limiter, ManualClock, Overflow};
use support::{Random, rounds};

const THREADS: u64 = 8;

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

fn build(limits: &[&str], max_keys: Option<usize>) -> (Limiter, ManualClock) {
    let (clock, hand) = Clock::manual();
    let mut builder = Limiter::builder().clock(clock).hash_key([3; 16]);
    for text in limits {
        builder = builder.limit(limit(text));
    }
    if let Some(max_keys) = max_keys {
        builder = builder.max_keys(max_keys);
    }
    (builder.build().unwrap(), hand)
}

/// Runs `work` in eight threads that start together.
fn threads(work: impl Fn(u64) + Sync) {
    let start = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                start.wait();
                work(thread);
            });
        }
    });
}

/// At one instant a client gets its burst and no more, however many threads ask; the counters agree.
#[test]
fn one_client_at_one_instant_gets_exactly_its_burst() {
    let asked = rounds(2_000_000, 10);
    let burst = asked / 3;
    let (limiter, _hand) = build(&[&format!("1000000/s burst {burst}")], None);
    let admitted = AtomicU64::new(0);
    threads(|_| {
        let mine = (0..asked / THREADS).filter(|_| limiter.is_allowed("one")).count();
        admitted.fetch_add(mine as u64, Relaxed);
    });
    assert_eq!(admitted.load(Relaxed), burst);
    let stats = limiter.stats();
    assert_eq!(
        (stats.allowed, stats.denied),
        (burst, asked / THREADS * THREADS - burst)
    );
}

/// While time passes, by each thread's own clock, a client that is never idle gets `(elapsed + tolerance) / T` requests,
/// to the request; with fractional intervals to one request.
#[test]
fn one_client_over_time_gets_exactly_its_rate() {
    for (text, interval, tolerance, slack) in [
        ("1000000/s burst 5000", 1_000.0, 5_000_000.0, 0),
        ("3000000/s burst 1000000", 1e9 / 3e6, 1e9 / 3.0, 1),
    ] {
        let (limiter, _hand) = build(&[text], None);
        let asked = rounds(2_000_000, 10) / THREADS;
        let origin: u64 = 1_795_000_000_000_000_000;
        // Less than a second in all: a thread that lags behind the others is late, and no clock was set back.
        let span = 900_000_000;
        let admitted = AtomicU64::new(0);
        let key = limiter.key("one");
        threads(|_| {
            let mine = (0..asked)
                .filter(|i| {
                    limiter
                        .check_at(&key, 1, Duration::from_nanos(origin + span * i / asked))
                        .allowed
                })
                .count();
            admitted.fetch_add(mine as u64, Relaxed);
        });
        // Whatever is left at the end.
        let end = Duration::from_nanos(origin + span);
        let rest = (0..1 << 26)
            .take_while(|_| limiter.check_at(&key, 1, end).allowed)
            .count() as u64;
        let exact = ((span as f64 + tolerance) / interval) as u64;
        let total = admitted.load(Relaxed) + rest;
        // Every thread asks at least twice per interval, so that the client is never idle. Not so in debug builds.
        if span as f64 / asked as f64 * 2.0 <= interval {
            assert!(total.abs_diff(exact) <= slack, "{text}: {total} instead of {exact}");
        }
        assert!(total <= exact + slack, "{text}: {total} instead of at most {exact}");
    }
}

/// Every client gets exactly its burst while the table grows from its smallest size over several tiers and all threads
/// insert the same clients at once.
#[test]
fn every_client_gets_its_burst_while_the_table_grows() {
    let clients = rounds(400_000, 10) as usize;
    let (limiter, _hand) = build(&["2/hour"], None);
    let admitted: Vec<AtomicU8> = (0..clients).map(|_| AtomicU8::new(0)).collect();
    threads(|thread| {
        let mut random = Random(thread);
        // All threads go through the same clients in about the same order, with some disorder between them.
        for at in 0..clients {
            for _ in 0..2 {
                let client = (at + random.below(8) as usize).min(clients - 1);
                if limiter.is_allowed(&client.to_le_bytes()) {
                    admitted[client].fetch_add(1, Relaxed);
                }
            }
        }
    });
    for (client, admitted) in admitted.iter().enumerate() {
        let mut total = admitted.load(Relaxed);
        while total < 9 && limiter.is_allowed(&client.to_le_bytes()) {
            total += 1;
        }
        assert_eq!(total, 2, "client {client}");
    }
    let stats = limiter.stats();
    assert_eq!(
        (stats.overflowed, stats.inserted),
        (0, clients as u64),
        "one cell for each"
    );
    assert!(stats.table.tiers > 2 || cfg!(debug_assertions), "{stats:?}");
}

/// Clients that expire and lose their cells to others, over and over: in every round each gets exactly its burst.
#[test]
fn every_client_gets_its_burst_while_cells_are_recycled() {
    const CLIENTS: usize = 2_000;
    let (limiter, hand) = build(&["3/s"], Some(CLIENTS));
    let rounds = rounds(30, 10);
    let wrong = Mutex::new(Vec::new());
    let admitted: Vec<AtomicU64> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let barrier = Barrier::new(THREADS as usize);
    threads(|thread| {
        let mut random = Random(thread);
        for round in 0..rounds {
            for _ in 0..CLIENTS * 2 {
                let client = random.below(CLIENTS as u64) as usize;
                if limiter.is_allowed(&[round, client as u64].map(u64::to_le_bytes).concat()) {
                    admitted[client].fetch_add(1, Relaxed);
                }
            }
            if barrier.wait().is_leader() {
                for (client, admitted) in admitted.iter().enumerate() {
                    let id = [round, client as u64].map(u64::to_le_bytes).concat();
                    let rest = (0..9).take_while(|_| limiter.is_allowed(&id)).count() as u64;
                    let total = admitted.swap(0, Relaxed) + rest;
                    if total != 3 {
                        // Not said by a panic here: the others would wait for this thread for ever.
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("round {round}, client {client}: {total} instead of 3"));
                    }
                }
                hand.advance(Duration::from_secs(1));
            }
            barrier.wait();
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), [""; 0]);
    let stats = limiter.stats();
    assert_eq!(stats.overflowed, 0);
    assert!(stats.recycled > rounds * CLIENTS as u64 / 4, "{stats:?}");
}

/// A client whose expired cell went to others and who is then asked for by a late thread gets one burst and no more: what
/// the late thread is admitted counts for those who are on time.
#[test]
fn a_late_thread_gains_nothing_from_a_recycled_cell() {
    const BURST: usize = 5;
    let at = |ms: u64| Duration::from_millis(1_000_000 + ms);
    let mut lost = 0;
    for seed in 0..200 {
        let builder = Limiter::builder().limit(limit("5/s")).hash_key([seed; 16]);
        let limiter = builder.max_keys(8).build().unwrap();
        let spend = |ms| {
            let asked = (0..2 * BURST).map(|_| limiter.check_at("late", 1, at(ms)));
            asked.filter(|decision| decision.allowed).count()
        };
        assert_eq!(spend(0), BURST);
        // From here on its cell has expired. The table has 24 cells.
        for other in 0..14_u64 {
            let _ = limiter.check_at(&other.to_le_bytes(), 5, at(1_100));
        }
        // A look finds nothing that was spent if the cell is gone.
        lost += u64::from(limiter.peek_at("late", 1, at(500)).remaining == 5);
        // 500 ms after the burst two fit again, and at 1,100 ms the other three.
        assert_eq!(spend(500) + spend(1_100), BURST, "seed {seed}");
    }
    assert!(lost > 10, "the client lost its cell {lost} times only");
}

/// Threads that come late by up to a fifth of a second, on clients that lose their expired cells to others all the time:
/// in no stretch of time does a client get more than its own cell would have given it.
#[test]
fn late_threads_gain_nothing_from_recycled_cells() {
    const CLIENTS: u64 = 400;
    const WINDOW: u64 = 10_000_000;
    const BURST: u64 = 5;
    const LATE: u64 = 200_000_000;
    let (limiter, _hand) = build(&["5/0.01s"], Some(60));
    let now = AtomicU64::new(1_000_000_000);
    let admitted: Vec<Mutex<Vec<(u64, u64)>>> = (0..CLIENTS).map(|_| Mutex::new(Vec::new())).collect();
    let each = rounds(1_600_000, 10) / THREADS;
    // With the lateness less than a second in all: no clock was set back.
    let step = 750_000_000 / (each * THREADS);
    threads(|thread| {
        let mut random = Random(thread);
        for _ in 0..each {
            let start = now.fetch_add(step, Relaxed);
            let at = start - if random.one_in(4) { random.below(LATE) } else { 0 };
            // A few clients at a time, others later.
            let client = (at / 2_000_000 + random.below(40)) % CLIENTS;
            if limiter
                .check_at(&client.to_le_bytes(), 1, Duration::from_nanos(at))
                .allowed
            {
                let end = now.load(Relaxed);
                admitted[client as usize].lock().unwrap().push((start, end));
            }
        }
    });
    let stats = limiter.stats();
    assert!(stats.recycled > 100 && stats.stepped == 0, "{stats:?}");
    for (client, times) in admitted.into_iter().enumerate() {
        let mut times = times.into_inner().unwrap();
        times.sort_unstable();
        for first in 0..times.len() {
            let mut ends: Vec<u64> = times[first..].iter().map(|time| time.1).collect();
            ends.sort_unstable();
            for (count, end) in ends.into_iter().enumerate() {
                let most = (end - times[first].0 + LATE + WINDOW) / (WINDOW / BURST);
                assert!(
                    (count as u64) < most,
                    "client {client}: {count} from {} to {end}",
                    times[first].0
                );
            }
        }
    }
}

/// What is given back can be spent again, exactly once.
#[test]
fn refunds_are_spent_exactly_once() {
    let asked = rounds(1_000_000, 10) / THREADS;
    let burst = 1_000;
    let (limiter, _hand) = build(&[&format!("1000000/s burst {burst}")], None);
    let (admitted, refunded) = (AtomicU64::new(0), AtomicU64::new(0));
    threads(|thread| {
        let mut random = Random(thread);
        for _ in 0..asked {
            let cost = 1 + random.below(3);
            if limiter.check_n("one", cost).allowed {
                admitted.fetch_add(cost, Relaxed);
                if random.one_in(2) {
                    limiter.refund("one", cost);
                    refunded.fetch_add(cost, Relaxed);
                }
            }
        }
    });
    let rest = (0..1 << 26).take_while(|_| limiter.is_allowed("one")).count() as u64;
    assert_eq!(admitted.load(Relaxed) + rest - refunded.load(Relaxed), burst);
}

/// Tells the other threads that it is over.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Changes of limit, and overrides that come and go, 100,000 times while threads decide: the share that is spent is kept,
/// so that one burst is all there is.
#[test]
fn changes_of_limit_and_override_give_nothing_away() {
    let changes = rounds(50_000, 2);
    let (limiter, _hand) = build(&["10000/10s"], None);
    let done = AtomicBool::new(false);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    if limiter.is_allowed("one") {
                        admitted.fetch_add(1, Relaxed);
                    }
                    let denied = limiter.peek_n("one", 10_001);
                    assert!(!denied.allowed && denied.limit == 10_000, "{denied:?}");
                    std::thread::yield_now();
                }
            });
        }
        // Also if a change panics: the others would ask for ever.
        let end = End(&done);
        // Tenfold intervals and back, so that shares are whole numbers of nanoseconds.
        let other = limit("10000/100s");
        for change in 0..changes {
            match change % 4 {
                0 => limiter.set_limit(other).unwrap(),
                1 => limiter.set_override("one", Some(limit("10000/1000s"))).unwrap(),
                2 => limiter.set_limit(limit("10000/10s")).unwrap(),
                _ if change % 8 == 3 => limiter.set_override("one", None).unwrap(),
                _ => limiter.clear_overrides(),
            }
            // One that fits is rare; the cell is brought under the terms in force, so that none are forgotten.
            if limiter.is_allowed("one") {
                admitted.fetch_add(1, Relaxed);
            }
        }
        drop(end);
    });
    limiter.clear_overrides();
    let rest = (0..1 << 26).take_while(|_| limiter.is_allowed("one")).count() as u64;
    assert_eq!(admitted.load(Relaxed) + rest, 10_000);
}

/// Several limits at once: the tightest is kept exactly, and what was charged to the others for requests that it denied
/// has been given back, to the request. All threads ask for the last requests of one client after another.
#[test]
fn several_limits_are_all_kept() {
    let clients = rounds(5_000, 10);
    let (limiter, hand) = build(&["1000000/s burst 100", "10/s burst 11", "1000/s burst 4"], None);
    let admitted: Vec<AtomicU64> = (0..clients).map(|_| AtomicU64::new(0)).collect();
    let barrier = Barrier::new(THREADS as usize);
    threads(|_| {
        for (client, admitted) in admitted.iter().enumerate() {
            barrier.wait();
            for _ in 0..3 {
                admitted.fetch_add(u64::from(limiter.is_allowed(&client.to_le_bytes())), Relaxed);
            }
        }
    });
    let drain = || -> Vec<u64> {
        let client = |client: usize| {
            (0..99)
                .take_while(|_| limiter.is_allowed(&client.to_le_bytes()))
                .count() as u64
        };
        (0..clients as usize).map(client).collect()
    };
    // A race for the last request may deny both: whoever asks next is allowed.
    let rest = drain();
    let first: Vec<u64> = admitted
        .iter()
        .zip(rest)
        .map(|(admitted, rest)| admitted.load(Relaxed) + rest)
        .collect();
    assert!(first.iter().all(|total| *total == 4), "{first:?}");
    // Ten milliseconds later the tightest has room again, until the next tightest has given the seven that it has left.
    hand.advance(Duration::from_millis(10));
    let second = drain();
    hand.advance(Duration::from_millis(10));
    let third = drain();
    let left: Vec<u64> = second.iter().zip(third).map(|(second, third)| second + third).collect();
    assert!(left.iter().all(|left| *left == 7), "{left:?}");
}

/// At the bound: clients without a cell share one, and none of them gets more than its burst.
#[test]
fn no_client_gets_more_than_its_burst_when_the_table_is_full() {
    const CLIENTS: usize = 20_000;
    for overflow in [Overflow::Share, Overflow::Deny] {
        let (clock, hand) = Clock::manual();
        let builder = Limiter::builder().limit(limit("2/s")).clock(clock).max_keys(1_000);
        let limiter = builder.overflow(overflow).build().unwrap();
        let admitted: Vec<AtomicU8> = (0..CLIENTS).map(|_| AtomicU8::new(0)).collect();
        let wrong = Mutex::new(Vec::new());
        let barrier = Barrier::new(THREADS as usize);
        threads(|thread| {
            let mut random = Random(thread);
            for _ in 0..rounds(10, 10) {
                for _ in 0..CLIENTS {
                    let client = random.below(CLIENTS as u64) as usize;
                    if limiter.is_allowed(&client.to_le_bytes()) {
                        admitted[client].fetch_add(1, Relaxed);
                    }
                }
                if barrier.wait().is_leader() {
                    for (client, admitted) in admitted.iter().enumerate() {
                        let total = admitted.swap(0, Relaxed);
                        if total > 2 {
                            // As above: no panic while others wait.
                            wrong
                                .lock()
                                .unwrap()
                                .push(format!("client {client}: {total} instead of 2"));
                        }
                    }
                    hand.advance(Duration::from_secs(1));
                }
                barrier.wait();
            }
        });
        assert_eq!(wrong.into_inner().unwrap(), [""; 0], "{overflow:?}");
        assert!(limiter.stats().overflowed > 0);
    }
}
