//! `ratelimit inspect FILE`: what a snapshot says, and what in it can be believed; or how a table that processes share is.
//!
//! The way of a file: `examine` reads and checks it into a [`Report`], and that is printed as text or JSON.
//! A shared table is known by the name of its file, or asked for by its own name; `live` looks at it.

mod examine;
mod live;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, output};
pub use examine::Report;
pub use live::LiveReport;
use serde::Serialize;

/// What to inspect and how to say it.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// A snapshot, or the file of a shared table (like /dev/shm/ratelimit-1000-api-...)
    #[arg(required_unless_present = "share")]
    pub file: Option<PathBuf>,
    /// The name of a shared table, in place of a file
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    pub share: Option<String>,
    /// Where the file of the shared table lies
    #[arg(long, value_name = "DIR", default_value = "/dev/shm", requires = "share")]
    pub share_directory: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// What a command line stands for.
enum Subject<'a> {
    /// A snapshot file.
    Snapshot(&'a Path),
    /// A shared table: its directory and name.
    Shared(&'a Path, &'a str),
}

impl<'a> Subject<'a> {
    fn of(args: &'a InspectArgs) -> Result<Self, Failure> {
        match (&args.share, &args.file) {
            (Some(name), _) => Ok(Subject::Shared(&args.share_directory, name)),
            (None, Some(file)) => Ok(match live::name_of(file) {
                Some((directory, name)) => Subject::Shared(directory, name),
                None => Subject::Snapshot(file),
            }),
            (None, None) => Err(Failure::Usage("give a file, or --share NAME".to_owned())),
        }
    }
}

/// Runs the command: prints the report, and fails if what it is about is damaged.
pub fn run(args: &InspectArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let fault = match Subject::of(args)? {
        Subject::Snapshot(path) => {
            let report = examine::examine(path)?;
            print(args, out, &report, |out| text::write(&report, out))?;
            let damaged = |damage| format!("{} is damaged: {damage}", path.display());
            report.damage.as_ref().map(damaged)
        }
        Subject::Shared(directory, name) => {
            let report = live::look(directory, name)?;
            print(args, out, &report, |out| live::write(&report, out))?;
            let faults = || {
                format!(
                    "{} faults were found in the shared table \"{name}\"",
                    report.fault_count
                )
            };
            (report.fault_count > 0).then(faults)
        }
    };
    fault.map_or(Ok(()), |sentence| Err(Failure::Io(sentence)))
}

fn print(
    args: &InspectArgs,
    out: &mut dyn Write,
    report: &impl Serialize,
    text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, report)
            .map_err(|error| output(error.into()))
            .and_then(|()| writeln!(out).map_err(output))?;
    } else {
        text(out).map_err(output)?;
    }
    out.flush().map_err(output)
}
