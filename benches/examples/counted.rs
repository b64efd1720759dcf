//! What counting for a cluster adds to an admission of one hot key, and draining to the thread that does it.
//!
//! ```sh
//! cargo run --release -p ratelimit-benches --example counted
//! ```
//!
//! Short slices alternate between an engine of its own, one that counts, and one whose key is under a lease; once with the id hashed
//! before and once with the hash of an id, which is what a caller pays. The difference is the counting: the word beside the cell
//! and its compare-and-swap, and the bit that says where to look. A request under a lease also reads that. The fastest tenth of
//! the slices is told, as in `hot_key`, the median, and the median of the ratios of neighbours.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratelimit_core::clustered::{Grant, LimitRule, Listed, Outcome, Switched, Unleased};
use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow};
use ratelimit_model::{Gcra, Limit};

const SLICES: usize = 5_000;
const CALLS: u32 = 500;

fn slice(mut call: impl FnMut() -> bool) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(call());
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limit = Limit::new(1, Duration::from_micros(1))?.burst(1 << 40);
    let config = Config {
        limits: vec![limit],
        max_keys: Some(1_024),
        hash_key: HashKey::random()?,
        clock: Clock::precise(),
        overflow: Overflow::Share,
    };
    let plain = Engine::new(config.clone())?;
    let clustered = || Engine::clustered(config.clone(), &[u64::MAX]).map(Arc::new);
    let (counted, leased) = (clustered()?, clustered()?);
    let mut sync = counted.synchronise().ok_or("another synchronises")?;
    let gcra = Gcra::new(&limit)?;
    let unleased = Unleased {
        gcra,
        unconfirmed: u64::MAX,
    };
    let rule = LimitRule {
        connected: unleased,
        cut: unleased,
        overdraft: false,
        urgent: 10_000,
    };
    assert!(sync.set_rule(0, &rule, None));
    let id: &[u8] = b"client-7";
    let client = plain.fingerprint(id);
    assert!(leased.is_allowed(client));
    let mut lessor = leased.synchronise().ok_or("another synchronises")?;
    let key = leased.cluster_key(client, 0);
    let tat = leased.clock().now();
    let outcome = lessor.give(key, &Grant::of(gcra), |_| Switched { tat, returned: 0 });
    assert_eq!(outcome, Outcome::Done(0));
    // Denials: of an engine of its own, and of one that has no more under its lease.
    let slow = Limit::new(1, Duration::from_secs(86_400))?;
    let denying = Engine::new(Config {
        limits: vec![slow],
        ..config.clone()
    })?;
    let denied = denying.fingerprint(id);
    let spent = leased.fingerprint(b"spent");
    assert!(denying.is_allowed(denied) && leased.is_allowed(spent));
    let grant = Grant::of(Gcra::new(&slow)?);
    let tat = leased.clock().now();
    let outcome = lessor.give(leased.cluster_key(spent, 0), &grant, |_| Switched { tat, returned: 0 });
    assert_eq!(outcome, Outcome::Done(0));
    assert!(leased.is_allowed(spent) && !leased.is_allowed(spent) && !denying.is_allowed(denied));
    let mut drained = 0;
    let mut denials: [Vec<f64>; 2] = Default::default();
    let mut slices: [Vec<f64>; 6] = Default::default();
    for _ in 0..SLICES {
        for (i, engine) in [&plain, &*counted, &*leased].into_iter().enumerate() {
            slices[i].push(slice(|| engine.is_allowed(black_box(client))));
            slices[3 + i].push(slice(|| engine.is_allowed(engine.fingerprint(black_box(id)))));
        }
        denials[0].push(slice(|| denying.is_allowed(black_box(denied))));
        denials[1].push(slice(|| leased.is_allowed(black_box(spent))));
        // Every 50 ms or so in a node; here as soon as it is urgent, which is oftener.
        sync.drain(Listed::Urgent, &mut |_, _, _| true, &mut |report| {
            drained += report.units
        });
    }
    for (what, alone) in [("hashed before", 0), ("with the hash", 3)] {
        for (how, which) in [
            ("not counted", alone),
            ("counted", alone + 1),
            ("under a lease", alone + 2),
        ] {
            let mut ratios: Vec<f64> = slices[which].iter().zip(&slices[alone]).map(|(a, b)| a / b).collect();
            let mut differences: Vec<f64> = slices[which].iter().zip(&slices[alone]).map(|(a, b)| a - b).collect();
            let mut sorted = slices[which].clone();
            for list in [&mut ratios, &mut differences, &mut sorted] {
                list.sort_by(f64::total_cmp);
            }
            println!(
                "{what}, {how:13} {:6.1} ns for a tenth of the slices, median {:5.1}, {:+5.1} ns, {:.2} of not counted",
                sorted[SLICES / 10],
                sorted[SLICES / 2],
                differences[SLICES / 2],
                ratios[SLICES / 2],
            );
        }
    }
    for (how, slices) in ["not counted", "under a lease"].iter().zip(&mut denials) {
        slices.sort_by(f64::total_cmp);
        println!(
            "denied, hashed before, {how:13} {:6.1} ns for a tenth of the slices, median {:5.1}",
            slices[SLICES / 10],
            slices[SLICES / 2]
        );
    }
    println!("{drained} of {} reported", 2 * SLICES as u32 * CALLS);
    Ok(())
}
