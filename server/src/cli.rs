//! The command line: subcommands, help and exit codes. What a subcommand does lives in its own module.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::certs::{self, CertsArgs};
use crate::failure::{EXIT_INTERRUPTED, EXIT_OK, Failure};
use crate::inspect::{self, InspectArgs};
use crate::manual::{self, CompletionsArgs, ManArgs};
use crate::replay::{self, Ending, ReplayArgs};
use crate::serve::{self, ServeArgs};
use crate::stop::Stop;

/// Rate limits, tried out and run from the command line.
#[derive(Debug, Parser)]
#[command(name = "ratelimit", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands. A further one is a variant here and a module beside [`replay`].
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decides a real access log at its own timestamps, and says what each limit would have done
    Replay(ReplayArgs),
    /// Describes a snapshot: age, limits, debts, and the health of every part of it
    Inspect(InspectArgs),
    /// Serves limits over HTTP and the protocol of Redis; needs no configuration
    Serve(ServeArgs),
    /// Makes the certificates of a cluster: a private authority, and one for each node
    Certs(CertsArgs),
    /// Prints the manual page, of this command or of a subcommand
    Man(ManArgs),
    /// Prints what a shell needs to complete the command
    Completions(CompletionsArgs),
}

const EXIT_CODES: &str = "\
Exit codes:
  0    all done; of serve: stopped by a signal, with everything saved
  1    a file, pipe, disk or socket failed, or a snapshot is damaged
  2    the command line or the configuration makes no sense
  130  stopped by Ctrl-C or SIGTERM; what was read until then is reported";

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Stop::new();
    let mut stderr = io::stderr();
    if let Err(error) = stop.listen() {
        // Harmless: Ctrl-C then ends the process without a report. A closed stderr is no reason to give up either.
        let _ = writeln!(stderr, "note: cannot listen for Ctrl-C ({error})");
    }
    ExitCode::from(run(&cli, &stop, &mut io::stdout().lock(), &mut stderr))
}

/// Runs a parsed command line: results go to `out`, everything else to `err`. Returns the exit code.
pub fn run(cli: &Cli, stop: &Stop, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let outcome = match &cli.command {
        Command::Replay(args) => replay::run(args, stop, out, err, io::stderr().is_terminal()),
        Command::Inspect(args) => inspect::run(args, out).map(|()| Ending::Complete),
        Command::Certs(args) => certs::run(args, out).map(|()| Ending::Complete),
        Command::Serve(args) => serve::run(args, stop, out, err).map(|()| Ending::Complete),
        Command::Man(args) => manual::man(args, out).map(|()| Ending::Complete),
        Command::Completions(args) => manual::completions(args, out).map(|()| Ending::Complete),
    };
    match outcome {
        Ok(Ending::Complete) => EXIT_OK,
        Ok(Ending::Interrupted) => EXIT_INTERRUPTED,
        Err(failure) => {
            if !matches!(failure, Failure::OutputClosed) {
                // If stderr is gone too, the exit code is all we can still say.
                let _ = writeln!(err, "error: {failure}");
            }
            failure.exit_code()
        }
    }
}
