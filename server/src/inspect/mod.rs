//! `ratelimit inspect FILE`: what a snapshot says, and what in it can be believed.
//!
//! The way of a file: [`examine`](examine::examine) reads and checks it into a [`Report`], and that is printed as text or JSON.
//! What is to be inspected is told apart by [`Subject::of`], so that something that is no file has its place there.

mod examine;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, output};
pub use examine::Report;

/// What to inspect and how to say it.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The snapshot
    pub file: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What a name stands for.
enum Subject<'a> {
    /// A snapshot file.
    Snapshot(&'a Path),
}

impl<'a> Subject<'a> {
    fn of(path: &'a Path) -> Self {
        Subject::Snapshot(path)
    }
}

/// Runs the command: prints the report, and fails if what it is about is damaged.
pub fn run(args: &InspectArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let report = match Subject::of(&args.file) {
        Subject::Snapshot(path) => examine::examine(path)?,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)
            .map_err(|error| output(error.into()))
            .and_then(|()| writeln!(out).map_err(output))?;
    } else {
        text::write(&report, out).map_err(output)?;
    }
    out.flush().map_err(output)?;
    match report.damage {
        Some(damage) => Err(Failure::Io(format!("{} is damaged: {damage}", args.file.display()))),
        None => Ok(()),
    }
}
