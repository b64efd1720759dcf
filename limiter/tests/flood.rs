//! Floods of ids that are seen once: memory stays bounded, limited clients stay limited, and a client that has its cell
//! keeps it.
//!
//! Ten million ids; a hundred million with `RATELIMIT_FULL=1`.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use ratelimit::{Clock, Limiter, Overflow};
use support::{rounds, status_kib};

const MAX_KEYS: usize = 100_000;

/// The tests of this file measure the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// One-shot ids through a table for 100,000 clients, at ten million a second by the limiter's clock, so that the table is
/// full of clients with debt nearly all the time: what is allocated stays within one percent and 128 KiB, a client at its limit stays limited, one
/// in the middle of its burst keeps its cell and is always allowed, and the overflow is counted.
#[test]
fn a_flood_of_ids_changes_nothing_for_others() {
    let _alone = alone();
    for policy in [Overflow::Share, Overflow::Deny, Overflow::Allow] {
        let ids = rounds(
            if policy == Overflow::Share {
                10_000_000
            } else {
                2_000_000
            },
            10,
        );
        let (clock, hand) = Clock::manual();
        let builder = Limiter::builder().limit("10/s".parse().unwrap()).clock(clock);
        let limiter = builder.max_keys(MAX_KEYS).overflow(policy).build().unwrap();
        // Both have their cells before the flood begins.
        while limiter.is_allowed("limited") {}
        assert!(limiter.check_n("polite", 5).allowed);
        let warm_up = ids / 10;
        let (mut resident, mut admitted, mut limited) = (0, 0_u64, 0_u64);
        for id in 0..ids {
            if id == warm_up {
                resident = status_kib("RssAnon");
            }
            admitted += u64::from(limiter.is_allowed(&id.to_le_bytes()));
            if id % 10 == 0 {
                hand.advance(Duration::from_micros(1));
            }
            // The limited one asks a hundred times as often as it may, the polite one exactly as often.
            if id % 10_000 == 0 {
                limited += u64::from(limiter.is_allowed("limited"));
            }
            if id % 1_000_000 == 999_999 {
                assert!(limiter.is_allowed("polite"), "{policy:?}: denied after {id} ids");
            }
        }
        let after = status_kib("RssAnon");
        // What is resident is little more than the table: a few pages of stacks and lists are allowed beside its one percent.
        assert!(
            after.abs_diff(resident) <= resident / 100 + 128,
            "{policy:?}: {resident} KiB became {after} KiB"
        );
        // One per 100 ms of the clock, which moved by 100 ns for each id.
        let rate = ids / 1_000_000;
        assert!(
            limited.abs_diff(rate) <= 1,
            "{policy:?}: the limited client got {limited} instead of {rate}"
        );
        let stats = limiter.stats();
        let overflowed = stats.overflowed;
        match policy {
            Overflow::Allow => assert_eq!(admitted, ids),
            Overflow::Deny => assert_eq!(admitted, ids - overflowed),
            // Ids that share a cell have the rate of one client between them.
            Overflow::Share => assert!(admitted < ids),
        }
        assert!(overflowed > ids / 10 || cfg!(debug_assertions), "{policy:?}: {stats:?}");
        println!(
            "{policy:?}: {ids} ids, {overflowed} found no cell, {admitted} admitted, {} KiB before and {} KiB after",
            resident, after
        );
    }
}

/// A table that was made for a million clients and holds exactly a million: how many of them found no cell.
#[test]
fn a_table_holds_as_many_clients_as_it_was_made_for() {
    let _alone = alone();
    let keys = rounds(1_000_000, 1);
    let (mut worst, mut sum) = (0, 0);
    let tables = 5;
    for secret in 0..tables {
        let (clock, _hand) = Clock::manual();
        let builder = Limiter::builder().limit("1/hour".parse().unwrap()).clock(clock);
        let limiter = builder.max_keys(keys as usize).hash_key([secret; 16]).build().unwrap();
        let mut next = 0_u64;
        let mut fill = |up_to: u64| {
            while next < up_to {
                let _ = limiter.is_allowed(&next.to_le_bytes());
                next += 1;
            }
            limiter.stats().overflowed
        };
        let lost = fill(keys);
        worst = worst.max(lost);
        sum += lost;
        if secret == 0 {
            for percent in [110, 120, 130, 150, 180, 200] {
                let filled = keys * percent / 100;
                println!("filled to {percent} %: {} of {filled} found no cell", fill(filled));
            }
        }
    }
    let share = sum as f64 / (keys * u64::from(tables)) as f64;
    println!("filled as far as it was made for: {share:.1e} of the clients found no cell, at worst {worst} of {keys}");
    assert!(worst * 100_000 <= keys, "{worst} of {keys} found no cell");
}
