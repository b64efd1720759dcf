//! `cargo run --release -p ratelimit-fuzz -- TARGET [--count N] [--seed S]`: damaged bytes against what reads them.
//!
//! libFuzzer needs a nightly compiler, which this workspace does without. So the inputs are made here: messages of every
//! kind, damaged in the ways that decoders fail by (bits, lengths, cuts, splices), from a seed. The same seed makes the same
//! inputs. What it finds is printed as hex with the command that repeats it.

mod corpus;
mod damage;
mod decoder;
mod memory;
mod node;
mod resp;

use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

const USAGE: &str = "usage: ratelimit-fuzz decoder|node|resp [--count N] [--seed S]\n\
    decoder: frames into the message decoder: no panic, little memory, and what is understood encodes to the same bytes\n\
    node: streams into a whole node: no panic, bounded memory, honest links stay up\n\
    resp: requests of Redis's protocol into a node: no panic, no large allocation, only whole replies";

struct Arguments {
    target: String,
    count: u64,
    seed: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let target = given.next().ok_or(USAGE)?;
    let mut arguments = Arguments {
        target,
        count: 1_000_000,
        seed: 1,
    };
    while let Some(option) = given.next() {
        let place = match option.as_str() {
            "--count" => &mut arguments.count,
            "--seed" => &mut arguments.seed,
            _ => return Err(format!("{option} is no option\n{USAGE}")),
        };
        let value = given.next().ok_or(format!("{option} needs a number"))?;
        *place = value
            .parse()
            .map_err(|_| format!("\"{value}\" is no number for {option}"))?;
    }
    Ok(arguments)
}

fn run() -> Result<(), String> {
    let arguments = arguments()?;
    let start = Instant::now();
    let summary = match arguments.target.as_str() {
        "decoder" => decoder::campaign(arguments.count, arguments.seed),
        "node" => node::campaign(arguments.count, arguments.seed),
        "resp" => resp::campaign(arguments.count, arguments.seed),
        other => return Err(format!("{other} is no target\n{USAGE}")),
    };
    let seconds = start.elapsed().as_secs_f64();
    match summary {
        Ok(summary) => {
            println!(
                "{} executions in {seconds:.0} s, seed {}: {summary}",
                arguments.count, arguments.seed
            );
            Ok(())
        }
        Err(found) => Err(format!(
            "{found}\nrepeat it with: cargo run --release -p ratelimit-fuzz -- {} --count {} --seed {}",
            arguments.target, arguments.count, arguments.seed
        )),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
