//! One hot key: where the nanoseconds and the instructions of a decision go.
//!
//! ```sh
//! cargo run --release -p ratelimit-benches --example hot_key          # nanoseconds of the fastest of many short slices
//! valgrind --tool=callgrind --toggle-collect='*repeat*' \
//!     target/release/examples/hot_key allow 100000                    # instructions, divided by the calls
//! ```
//!
//! The fastest slices need no quiet machine: of some thousand slices of 15 microseconds some are always left alone. They say
//! what a call costs at best, and so what a change of the code has saved. How we do against others is not for here but for
//! `ratelimit-compare`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ratelimit::{Clock, Limit, Limiter};

/// 24 bytes, as in `ratelimit-compare`.
const ID: &str = "0123456789abcdef01234567";

/// A limiter whose every decision on a key but the first is the same.
fn limiter(allow: bool) -> Result<Limiter, ratelimit::Error> {
    let limit = if allow {
        Limit::new(1, Duration::from_micros(1))?.burst(1 << 40)
    } else {
        Limit::new(1, Duration::from_secs(86_400))?.burst(1)
    };
    Limiter::builder().limit(limit).max_keys(1_024).build()
}

/// Kept whole, so that Valgrind can be told to count in here only.
#[inline(never)]
fn repeat(limiter: &Limiter, calls: u64) -> u64 {
    (0..calls).map(|_| u64::from(limiter.is_allowed(black_box(ID)))).sum()
}

fn time<R>(what: &str, mut call: impl FnMut() -> R) {
    const SLICES: usize = 5_000;
    const CALLS: u32 = 500;
    let mut slices: Vec<f64> = (0..SLICES)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                black_box(call());
            }
            start.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    slices.sort_by(f64::total_cmp);
    println!(
        "{what:32} {:6.1} ns, a tenth of the slices below {:.1}",
        slices[0],
        slices[SLICES / 10]
    );
}

fn times() -> Result<(), ratelimit::Error> {
    let clock = Clock::precise();
    let (allowing, denying) = (limiter(true)?, limiter(false)?);
    time("the clock", || clock.now());
    time("the hash", || allowing.key(black_box(ID)));
    for (answer, limiter) in [("allowed", &allowing), ("denied", &denying)] {
        let key = limiter.key(ID);
        time(&format!("is_allowed(&str), {answer}"), || {
            limiter.is_allowed(black_box(ID))
        });
        time(&format!("is_allowed(ClientKey), {answer}"), || {
            limiter.is_allowed(black_box(&key))
        });
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => Ok(times()?),
        [answer @ ("allow" | "deny"), calls] => {
            let calls = calls.parse()?;
            let allowed = repeat(&limiter(answer == "allow")?, calls);
            println!("{allowed} of {calls} allowed");
            Ok(())
        }
        _ => Err("Usage: hot_key [allow CALLS | deny CALLS]".into()),
    }
}
