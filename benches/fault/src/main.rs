//! Breaks things on purpose and counts what happens. Each campaign ends with a line that says how many cases it ran; the first
//! broken promise ends the program with exit code 1 and the seed to repeat it.

mod bits;
#[cfg(target_os = "linux")]
mod child;
mod clock;
#[cfg(target_os = "linux")]
mod common;
mod io;
mod kill;
mod measure;
mod power;
#[cfg(target_os = "linux")]
mod share_kill;
#[cfg(target_os = "linux")]
mod share_step;
mod support;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Breaks things on purpose and counts what happens.
#[derive(Debug, Parser)]
#[command(name = "fault", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// SIGKILL at random instants while a process decides and writes snapshots
    Kill(kill::Args),
    /// Power lost at every call of writing, with torn, lost, reordered and stale sectors
    Power(power::Args),
    /// Every call of writing and reading failed in turn
    Io(io::Args),
    /// Every bit of a 64 KiB snapshot flipped, every length cut, and random damage
    Bits(bits::Args),
    /// Steps of years, reboots, suspends and backwards times
    Clock(clock::Args),
    /// Times and sizes with millions of live keys, and what a snapshot costs decisions
    Measure(measure::Args),
    /// Four processes on one shared table, one killed at a random instant: of each key exactly the limit is admitted
    #[cfg(target_os = "linux")]
    ShareKill(share_kill::Args),
    /// A process on a shared table killed before each instruction of what it does there
    #[cfg(target_os = "linux")]
    ShareStep(share_step::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().campaign {
        Campaign::Kill(args) => kill::run(&args),
        Campaign::Power(args) => power::run(&args),
        Campaign::Io(args) => io::run(&args),
        Campaign::Bits(args) => bits::run(&args),
        Campaign::Clock(args) => clock::run(&args),
        Campaign::Measure(args) => measure::run(&args),
        #[cfg(target_os = "linux")]
        Campaign::ShareKill(args) => share_kill::run(&args),
        #[cfg(target_os = "linux")]
        Campaign::ShareStep(args) => share_step::run(&args),
    };
    match outcome {
        Ok(figure) => {
            println!("{figure}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}
