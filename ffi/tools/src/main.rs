//! Makes `include/ratelimit.h` from the sources of `ffi`, and from `vectors/` a table that a test in C can run.
//!
//! A crate of its own, so that the chores need no cbindgen. `cargo xtask header` and `cargo xtask c` call it.

mod header;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Usage: ratelimit-ffi-tools header [--check]   write include/ratelimit.h, or fail if it is not what the sources say
       ratelimit-ffi-tools tables DIR         write vectors.h and entries.h, for the tests in C
";

fn root() -> PathBuf {
    // The manifest lies two folders below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["header"] => header::write(),
        ["header", "--check"] => header::check(),
        ["tables", folder] => vectors::write(Path::new(folder)).and_then(|()| header::write_entries(Path::new(folder))),
        _ => Err(HELP.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("ratelimit-ffi-tools: {sentence}");
            ExitCode::FAILURE
        }
    }
}
