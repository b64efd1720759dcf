//! What counting for a cluster adds to an admission of one hot key, and draining to the thread that does it.
//!
//! ```sh
//! cargo run --release -p ratelimit-benches --example counted
//! ```
//!
//! Short slices alternate, with the id hashed before, so that the difference is the counting:
//! the word beside the cell and its compare-and-swap, and the bit that says where to look. A request under a lease also reads
//! that. The fastest tenth of the slices is told, as in `hot_key`, and the median of the differences.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratelimit_core::clustered::{Grant, LimitRule, Listed, Outcome, Switched, Unleased};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, Overflow};
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
    let client = Fingerprint::new(0x9e37_79b9_7f4a_7c15);
    assert!(leased.is_allowed(client));
    let mut lessor = leased.synchronise().ok_or("another synchronises")?;
    let key = leased.cluster_key(client, 0);
    let tat = leased.clock().now();
    let outcome = lessor.give(key, &Grant::of(gcra), |_| Switched { tat, returned: 0 });
    assert_eq!(outcome, Outcome::Done(0));
    let mut drained = 0;
    let mut slices: [Vec<f64>; 5] = Default::default();
    for _ in 0..SLICES {
        slices[0].push(slice(|| plain.is_allowed(black_box(client))));
        slices[1].push(slice(|| counted.is_allowed(black_box(client))));
        slices[2].push(slice(|| leased.is_allowed(black_box(client))));
        let last = |slices: &Vec<f64>| slices[slices.len() - 1];
        let differences = [1, 2].map(|which| last(&slices[which]) - last(&slices[0]));
        slices[3].push(differences[0]);
        slices[4].push(differences[1]);
        // Every 50 ms or so in a node; here as soon as it is urgent, which is oftener.
        sync.drain(Listed::Urgent, &mut |_, _| true, &mut |report| drained += report.units);
    }
    for (what, slices) in [
        "not counted",
        "counted",
        "under a lease",
        "counting adds",
        "a lease adds",
    ]
    .iter()
    .zip(&mut slices)
    {
        slices.sort_by(f64::total_cmp);
        println!(
            "{what:13} {:6.1} ns at best, a tenth of the slices below {:.1}, median {:.1}",
            slices[0],
            slices[SLICES / 10],
            slices[SLICES / 2]
        );
    }
    println!("{drained} of {} reported", SLICES as u32 * CALLS);
    Ok(())
}
