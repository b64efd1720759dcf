//! Schedules of clocks: snapshots are made and restored over and over while wall clock, boot clock, boot id, own clock and
//! given times go where they like. Nobody is locked out beyond his window, and nobody gets more than one burst at once.

use std::time::Duration;

use ratelimit_core::snapshot::simulated::SimulatedDisk;
use ratelimit_core::snapshot::{Moment, Restore};

use crate::support::{self, Outcome, Random, client, promise};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Schedules
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const LIMITS: [&str; 5] = ["10/s", "100/minute", "5/hour burst 50", "1000/day strict", "3/7d"];
const YEAR_NS: u64 = 31_557_600_000_000_000;

pub(crate) fn run(args: &Args) -> Outcome {
    let mut restores = 0;
    for schedule in 0..args.count {
        restores += one(args.seed.wrapping_add(schedule))
            .map_err(|broken| format!("schedule of seed {}: {broken}", args.seed.wrapping_add(schedule)))?;
    }
    Ok(format!(
        "clock: {} schedules with {restores} restores, nobody locked out, nobody given more than one burst",
        args.count
    ))
}

fn one(seed: u64) -> Result<u64, String> {
    let mut random = Random(seed);
    let limit = random.pick(&LIMITS);
    let (mut engine, mut hand) = support::engine(limit)?;
    let burst = engine.limits()[0].capacity();
    let full = {
        // The longest that anyone waits: an empty bucket's time to fill.
        let (fresh, _) = support::engine(limit)?;
        let _ = fresh.check(client(&fresh, 0), burst, None);
        fresh.peek(client(&fresh, 0), 0, None).reset_after
    };
    let mut now = Moment {
        boot_id: 1,
        boot_ns: random.magnitude(),
        wall_ns: 50 * YEAR_NS,
    };
    let steps = 2 + random.below(6);
    for _ in 0..steps {
        // Some decisions, at own and at given times, also backwards.
        for _ in 0..random.below(4) {
            let given = random.one_in(2).then(|| Duration::from_nanos(random.magnitude()));
            let _ = engine.check(client(&engine, 1), 1 + random.below(burst), given);
            if random.one_in(8) {
                // The own clock is set back: then the table tells more debt than there can be.
                hand.set(Duration::ZERO);
            } else {
                hand.advance(Duration::from_nanos(random.magnitude() % (1 << 40)));
            }
        }
        let mut disk = SimulatedDisk::new();
        engine
            .write_snapshot(&mut disk, 1, || now)
            .map_err(|error| error.to_string())?;
        step(&mut random, &mut now);
        (engine, hand) = support::engine(limit)?;
        hand.set(Duration::from_nanos(random.magnitude()));
        engine
            .restore(&mut disk, Restore::Required, now)
            .map_err(|refused| refused.to_string())?;
        let shown = engine.peek(client(&engine, 1), 1, None);
        promise!(
            shown.reset_after <= full,
            "{limit}: waits {:?} of {full:?}",
            shown.reset_after
        );
        promise!(
            shown.remaining <= burst,
            "{limit}: {} of {burst} at once",
            shown.remaining
        );
    }
    // A window later he is free, and has one burst.
    hand.advance(full);
    let mut admitted = 0;
    while engine.check(client(&engine, 1), 1, None).allowed {
        admitted += 1;
        promise!(admitted <= burst, "{limit}: more than one burst of {burst}");
    }
    promise!(admitted == burst, "{limit}: {admitted} of {burst} after a whole window");
    Ok(steps)
}

/// What may happen to clocks between a snapshot and its restore.
fn step(random: &mut Random, now: &mut Moment) {
    let years = random.below(60) * YEAR_NS;
    match random.below(6) {
        // A step of years either way.
        0 => now.wall_ns = now.wall_ns.saturating_add(years),
        1 => now.wall_ns = now.wall_ns.saturating_sub(years),
        // A reboot, perhaps on another machine.
        2 => {
            now.boot_id = u128::from(random.next());
            now.boot_ns = random.magnitude();
        }
        // A suspend: only the boot clock and the wall clock go on.
        3 => {
            let slept = random.magnitude() % YEAR_NS;
            now.boot_ns = now.boot_ns.saturating_add(slept);
            now.wall_ns = now.wall_ns.saturating_add(slept);
        }
        // A boot that nobody can tell.
        4 => now.boot_id = 0,
        // No time at all, or a boot clock that makes no sense.
        _ => now.boot_ns = now.boot_ns.wrapping_sub(random.magnitude()),
    }
}
