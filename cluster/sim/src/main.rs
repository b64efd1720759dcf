//! The command `ratelimit-sim`: see the library of this package, which holds everything that can be tested without a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    ratelimit_sim::cli::main()
}
