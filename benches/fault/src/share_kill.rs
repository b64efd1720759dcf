//! Processes killed at random instants while they decide on one table.
//!
//! **How admissions are counted.** Each process has a cell for the key that it is about to ask for, and one count for each
//! key. It writes the key before it asks, adds to the count if it was admitted, and clears the key after. So of a killed process
//! at most one admission is in doubt, and it is known of which key. At the end the survivor takes what is left of
//! each key. Then for each key
//!
//! ```text
//! limit - counted  =  admissions in doubt that were charged  <=  processes killed while they asked for this key
//! ```
//!
//! with equality to 0 wherever nobody was killed at that key: exactly the limit.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use ratelimit::Limiter;

use crate::child::{Child, State};
use crate::common::{Counts, Named, Random, budget};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Processes to kill. Rounds in which the one to be killed was done before do not count.
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Chooses keys and instants.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const PROCESSES: usize = 4;
/// A round takes about as long.
const LONGEST_WAIT_US: u64 = 2_500;
const KEYS: usize = 1_000;
const LIMIT: u64 = 20;

/// Where a process writes which key it asks for, plus 1.
fn asking(process: usize) -> usize {
    process
}

/// How many processes are ready.
const READY: usize = PROCESSES;

fn count(process: usize, key: usize) -> usize {
    PROCESSES + 1 + process * KEYS + key
}

/// What a process does in a round: asks for keys in an order of its own until it was denied so often that nothing can be left.
fn work(limiter: &Limiter, counts: &Counts, process: usize, round: u64, seed: u64) {
    counts.at(READY).fetch_add(1, SeqCst);
    while counts.at(READY).load(SeqCst) < PROCESSES as u64 {
        std::thread::yield_now();
    }
    let mut random = Random(seed ^ (process as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
    let mut denied_in_a_row = 0;
    while denied_in_a_row < 2_000 {
        // New keys come up all the time, so that inserts are under way when the end comes.
        let key = random.below(KEYS as u64) as usize;
        counts.at(asking(process)).store(key as u64 + 1, SeqCst);
        if limiter.is_allowed(&format!("{round}/{key}")) {
            counts.at(count(process, key)).fetch_add(1, SeqCst);
            denied_in_a_row = 0;
        } else {
            denied_in_a_row += 1;
        }
        counts.at(asking(process)).store(0, SeqCst);
    }
}

#[derive(Default)]
struct Tally {
    /// The others were done before their end came.
    killed: u64,
    killed_while_asking: u64,
    in_doubt_charged: u64,
    dead_claims: u64,
    tentative: u64,
}

fn round(number: u64, random: &mut Random, tally: &mut Tally) -> Result<(), String> {
    let named = Named::new("kill");
    // So much room that every key finds a cell.
    let keys = 4 * KEYS;
    let counts = Counts::new(count(PROCESSES, 0))?;
    let seed = random.next();
    let spawn = |process: usize| {
        Child::fork(|| {
            let limiter = named.open(budget(LIMIT), keys)?;
            work(&limiter, &counts, process, number, seed);
            Ok(())
        })
    };
    let mut children = (0..PROCESSES).map(spawn).collect::<Result<Vec<_>, _>>()?;
    // The victim decides for about as long as a round takes.
    let victim = random.below(PROCESSES as u64) as usize;
    let started = Instant::now();
    while counts.at(READY).load(SeqCst) < PROCESSES as u64 {
        if started.elapsed() > Duration::from_secs(30) {
            return Err("the processes do not get ready: one is blocked".to_owned());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    std::thread::sleep(Duration::from_micros(random.below(LONGEST_WAIT_US)));
    children[victim].kill();
    let mut was_killed = false;
    // The survivors end by themselves: nobody waits for the dead.
    for (process, child) in children.iter_mut().enumerate() {
        match child.wait_within(Duration::from_secs(30))? {
            State::Code(0) => {}
            State::Killed(libc::SIGKILL) if process == victim => was_killed = true,
            other => return Err(format!("process {process} ended with {other:?}")),
        }
    }

    let limiter = named.open(budget(LIMIT), keys)?;
    let attached = limiter.stats().attached;
    if attached != 1 {
        return Err(format!("{attached} limiters are attached where all but one are gone"));
    }
    let audit = limiter.audit();
    if audit.faults > 0 || audit.claimed > 0 {
        return Err(format!("the table is not in order: {audit:?}"));
    }
    let doubtful = match counts.at(asking(victim)).load(SeqCst) {
        0 => None,
        key if was_killed => Some(key as usize - 1),
        key => return Err(format!("a process ended while it asked for key {}", key - 1)),
    };
    tally.killed += u64::from(was_killed);
    tally.killed_while_asking += u64::from(doubtful.is_some());
    tally.dead_claims += audit.claimed_by_the_dead;
    tally.tentative += audit.tentative;
    for key in 0..KEYS {
        let counted: u64 = (0..PROCESSES)
            .map(|process| counts.at(count(process, key)).load(SeqCst))
            .sum();
        let id = format!("{number}/{key}");
        let rest = (0..=LIMIT).filter(|_| limiter.is_allowed(&id)).count() as u64;
        let missing = LIMIT.checked_sub(counted + rest);
        match missing {
            Some(0) => {}
            // Killed after it had added to the count, or before it was charged: then nothing is missing.
            Some(1) if doubtful == Some(key) => tally.in_doubt_charged += 1,
            _ => {
                return Err(format!(
                    "key {key}: {counted} + {rest} admissions of {LIMIT}, in doubt: {doubtful:?}"
                ));
            }
        }
    }
    let overflowed = limiter.stats().overflowed;
    if overflowed > 0 {
        return Err(format!("{overflowed} decisions found no cell where there is room"));
    }
    let audit = limiter.audit();
    if audit.faults > 0 || audit.tentative > 0 || audit.live != KEYS as u64 {
        return Err(format!("the table is not in order at the end: {audit:?}"));
    }
    drop(limiter);
    named.remove()
}

pub(crate) fn run(&Args { count, seed }: &Args) -> Result<String, String> {
    // Calibrates the clock once, for all children.
    drop(
        Limiter::builder()
            .limit(budget(1))
            .build()
            .map_err(|error| error.to_string())?,
    );
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let start = Instant::now();
    let mut told = Instant::now();
    let mut number = 0;
    // A round in which the victim was done before its end came does not count.
    while tally.killed < count {
        number += 1;
        round(number, &mut random, &mut tally).map_err(|fault| format!("round {number} of seed {seed}: {fault}"))?;
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            println!(
                "{} of {count} killed, {:.0} s",
                tally.killed,
                start.elapsed().as_secs_f64()
            );
        }
    }
    Ok(format!(
        "share-kill: {} of {PROCESSES} processes on one table killed in turn, in {number} rounds and {:.1} s; {} requests admitted of {} \
         keys, exactly the limit of each; {} killed in the middle of a request, {} of these charged; {} claims and {} unfinished inserts of the dead were found",
        tally.killed,
        start.elapsed().as_secs_f64(),
        number * KEYS as u64 * LIMIT,
        number * KEYS as u64,
        tally.killed_while_asking,
        tally.in_doubt_charged,
        tally.dead_claims,
        tally.tentative,
    ))
}
