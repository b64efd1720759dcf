//! A process killed before each instruction of what it does to a shared table.
//!
//! The process is traced and runs one instruction at a time; after so many it is killed, and what it leaves is judged by another
//! one. The next process is killed an instruction later, until one gets to the end.

use std::time::{Duration, Instant};

use ratelimit::{Limit, Limiter};

use crate::child::{Child, State, stop_for_tracing};
use crate::common::{Named, budget};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills before every so many-th instruction of an insert and a charge.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    stride: u64,
    /// The same for a change of limit, an override and a block, which are longer.
    #[arg(long, default_value_t = 23, value_parser = clap::value_parser!(u64).range(1..))]
    admin_stride: u64,
}

/// Cells of the smallest table: two lines of four in each of two tiers. Every key may be in any of them.
const CELLS: u64 = 16;

/// Something that is done to a table, and how to judge what is left of it.
struct Operation {
    name: &'static str,
    /// Whether it is a decision: the others are longer.
    short: bool,
    before: fn(&Limiter) -> Result<(), String>,
    run: fn(&Limiter) -> Result<(), String>,
    after: fn(&Limiter) -> Result<(), String>,
}

fn text(error: ratelimit::Error) -> String {
    error.to_string()
}

fn expect(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}

/// What is left of `key`'s budget, taken.
fn take(limiter: &Limiter, key: &str) -> usize {
    (0..20).filter(|_| limiter.is_allowed(key)).count()
}

/// Every cell can be had: new keys fill the table to the last one.
fn fill(limiter: &Limiter) -> Result<(), String> {
    for key in 0..CELLS * 2 {
        let _ = limiter.is_allowed(&format!("fill {key}"));
        if limiter.stats().overflowed > 0 {
            break;
        }
    }
    let audit = limiter.audit();
    expect(
        &format!("{CELLS} cells in use and the table in order: {audit:?}"),
        audit.live == CELLS && audit.faults == 0 && audit.claimed_by_the_dead == 0,
    )
}

fn in_order(limiter: &Limiter) -> Result<(), String> {
    let audit = limiter.audit();
    expect(
        &format!("the table in order: {audit:?}"),
        audit.faults == 0 && audit.claimed == 0,
    )
}

fn nothing(_: &Limiter) -> Result<(), String> {
    Ok(())
}

const FIVE: u64 = 5;

fn own_limit() -> Limit {
    budget(2)
}

fn other_own_limit() -> Limit {
    budget(3)
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "insert",
        short: true,
        before: nothing,
        run: |limiter| {
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        after: |limiter| {
            let left = take(limiter, "key");
            expect(&format!("5 or 4 requests left, not {left}"), left == 5 || left == 4)?;
            fill(limiter)
        },
    },
    Operation {
        name: "charge",
        short: true,
        before: |limiter| {
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        run: |limiter| {
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        after: |limiter| {
            let left = take(limiter, "key");
            expect(&format!("4 or 3 requests left, not {left}"), left == 4 || left == 3)?;
            fill(limiter)
        },
    },
    Operation {
        name: "change of limit",
        short: false,
        before: |limiter| {
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        run: |limiter| limiter.set_limit(budget(10)).map_err(text),
        after: |limiter| {
            let (shown, used) = (limiter.limits(), limiter.peek("key").limit);
            expect(
                &format!("one limit is shown and used: {shown:?}, {used}"),
                shown == [budget(FIVE)] && used == 5 || shown == [budget(10)] && used == 10,
            )?;
            let left = take(limiter, "key");
            expect(&format!("4 or 8 requests left, not {left}"), left == 4 || left == 8)?;
            limiter.set_limit(budget(7)).map_err(text)?;
            expect(
                "the next change holds",
                limiter.limits() == [budget(7)] && take(limiter, "other") == 7,
            )
        },
    },
    Operation {
        name: "override",
        short: false,
        before: |limiter| {
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        run: |limiter| limiter.set_override("key", Some(own_limit())).map_err(text),
        after: |limiter| judge_override(limiter, &[5, 2]),
    },
    Operation {
        name: "another override",
        short: false,
        before: |limiter| limiter.set_override("key", Some(own_limit())).map_err(text),
        run: |limiter| limiter.set_override("key", Some(other_own_limit())).map_err(text),
        after: |limiter| judge_override(limiter, &[2, 3, 5]),
    },
    Operation {
        name: "end of an override",
        short: false,
        before: |limiter| {
            limiter.set_override("key", Some(own_limit())).map_err(text)?;
            let _ = limiter.is_allowed("key");
            Ok(())
        },
        run: |limiter| limiter.set_override("key", None).map_err(text),
        after: |limiter| judge_override(limiter, &[2, 5]),
    },
    Operation {
        name: "block",
        short: false,
        before: nothing,
        run: |limiter| limiter.block("key", Duration::from_secs(600)).map_err(text),
        after: |limiter| {
            // Whoever administers next repairs what is left; until then the block may be half there.
            limiter.set_limit(budget(FIVE)).map_err(text)?;
            let blocked = !limiter.peek("key").allowed;
            limiter.block("key", Duration::from_secs(600)).map_err(text)?;
            expect("blocked", !limiter.is_allowed("key"))?;
            limiter.reset("key");
            expect(
                &format!("not blocked any more (it was: {blocked})"),
                limiter.is_allowed("key"),
            )
        },
    },
];

/// The client is under one of these limits, and can be put under others and back.
fn judge_override(limiter: &Limiter, bursts: &[u64]) -> Result<(), String> {
    let under = limiter.peek("key").limit;
    expect(&format!("a limit of {bursts:?}, not {under}"), bursts.contains(&under))?;
    limiter.set_override("key", Some(budget(4))).map_err(text)?;
    expect("the next override holds", limiter.peek("key").limit == 4)?;
    limiter.set_override("key", None).map_err(text)?;
    expect("and ends", limiter.peek("key").limit == FIVE)?;
    limiter.reset("key");
    let left = take(limiter, "key");
    expect(&format!("the whole burst again, not {left}"), left == FIVE as usize)
}

/// Kills a process after `instructions`. True if it had come to the end by then.
fn kill_after(operation: &Operation, instructions: u64) -> Result<bool, String> {
    let named = Named::new("step");
    let survivor = named.open(budget(FIVE), 1)?;
    (operation.before)(&survivor)?;
    let mut child = Child::fork(|| {
        let limiter = named.open(budget(FIVE), 1)?;
        stop_for_tracing()?;
        (operation.run)(&limiter)?;
        // Whatever comes after is not looked at. The limiter is not dropped: a killed process does not either.
        std::mem::forget(limiter);
        Ok(())
    })?;
    match child.wait()? {
        State::Stopped(_) => {}
        other => return Err(format!("it does not stop: {other:?}")),
    }
    let mut at_the_end = false;
    for _ in 0..instructions {
        match child.step()? {
            State::Stopped(_) => {}
            State::Code(0) => {
                at_the_end = true;
                break;
            }
            other => return Err(format!("it ended with {other:?}")),
        }
    }
    if !at_the_end {
        child.kill();
        child.wait()?;
    }
    in_order(&survivor)?;
    let start = Instant::now();
    (operation.after)(&survivor)?;
    in_order(&survivor)?;
    expect("done within 10 seconds", start.elapsed() < Duration::from_secs(10))?;
    drop(survivor);
    named.remove()?;
    Ok(at_the_end)
}

pub(crate) fn run(args: &Args) -> Result<String, String> {
    // Calibrates the clock once, for all children.
    drop(Limiter::builder().limit(budget(1)).build().map_err(text)?);
    let mut reached = Vec::new();
    for operation in OPERATIONS {
        let stride = if operation.short {
            args.stride
        } else {
            args.admin_stride
        };
        let (start, mut instructions, mut kills) = (Instant::now(), 0, 0);
        loop {
            let done = kill_after(operation, instructions)
                .map_err(|fault| format!("{} killed after {instructions} instructions: {fault}", operation.name))?;
            if done {
                break;
            }
            kills += 1;
            instructions += stride;
        }
        let line = format!("{}: {kills} kills over {instructions} instructions", operation.name);
        println!("{line}, {:.0} s", start.elapsed().as_secs_f64());
        reached.push(line);
    }
    Ok(format!("share-step: {}", reached.join("; ")))
}
