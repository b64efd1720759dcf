//! What counting for a cluster adds to an admission of one hot key, and draining to the thread that does it.
//!
//! ```sh
//! cargo run --release -p ratelimit-benches --example counted
//! ```
//!
//! Short slices alternate, with the id hashed before, so that the difference is the counting:
//! the word beside the cell and its compare-and-swap, and the bit that says where to look. A request under a lease goes the long
//! way of deciding. The fastest tenth of the slices is told, as in `hot_key`, and the median of the differences.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ratelimit_core::clustered::{ClusteredTable, Grant, Listed, Outcome, Switched};
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
    let plain = Engine::new(Config {
        limits: vec![limit],
        max_keys: Some(1_024),
        hash_key: HashKey::random()?,
        clock: Clock::precise(),
        overflow: Overflow::Share,
    })?;
    let counted = ClusteredTable::new(&[limit], Some(1_024), Clock::precise())?;
    counted.set_rules(0, u64::MAX, 10_000);
    let mut sync = counted.synchronise().ok_or("another synchronises")?;
    let client = Fingerprint::new(0x9e37_79b9_7f4a_7c15);
    let leased = ClusteredTable::new(&[limit], Some(1_024), Clock::precise())?;
    let gcra = Gcra::new(&limit)?;
    assert!(leased.decide(client, 0, 1).allowed);
    let mut lessor = leased.synchronise().ok_or("another synchronises")?;
    let outcome = lessor.give(client, 0, &Grant { gcra, until: None }, |_| Switched {
        tat: Clock::precise().now(),
        returned: 0,
    });
    assert_eq!(outcome, Outcome::Done(0));
    let mut drained = 0;
    let mut slices: [Vec<f64>; 5] = Default::default();
    for _ in 0..SLICES {
        slices[0].push(slice(|| plain.check(black_box(client), 1, None).allowed));
        slices[1].push(slice(|| counted.decide(black_box(client), 0, 1).allowed));
        slices[2].push(slice(|| leased.decide(black_box(client), 0, 1).allowed));
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
