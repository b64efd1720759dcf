//! The command line.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::campaign::Plan;
use crate::network::SECOND;
use crate::report;
use crate::run::{Outcome, run};
use crate::scenario::{CATALOGUE, Setting, find};
use crate::stop::{EXIT_INTERRUPTED, Stop};
use crate::subject::{Design, Mode};
use crate::table;

/// Runs a cluster in virtual time and judges it: one seed is one run, on every machine.
#[derive(Debug, Parser)]
#[command(name = "ratelimit-sim", version, max_term_width = 100, after_help = AFTER, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    simulate: SimulateArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes docs/accuracy.md and its plots, or checks that its small part is fresh
    Report(ReportArgs),
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// A scenario by name, or all of them
    #[arg(long, value_name = "NAME", default_value = "all")]
    scenario: String,
    /// Lists the scenarios and ends
    #[arg(long)]
    list: bool,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many seeds; from 2 on each is a short scenario of its own, with drawn nodes, network, limit and mode
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    seeds: u64,
    /// Draws nodes, network, limit and mode from the seed also for a single one
    #[arg(long)]
    drawn: bool,
    /// How many nodes [default: 5, or drawn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=4000))]
    nodes: Option<u16>,
    /// What is put to the test: leases, mesh or static
    #[arg(long, value_name = "DESIGN", default_value = "leases")]
    subject: Design,
    /// What leases are kept in: maps, or the lock-free table of the product
    #[arg(long, value_name = "STORE", default_value = "map")]
    store: StoreKind,
    /// The judged limit's mode: eventual, bounded:UNITS or strict [default: eventual, or drawn]
    #[arg(long)]
    mode: Option<Mode>,
    /// How many seconds requests come, in runs that are not drawn [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(2..))]
    seconds: Option<u16>,
    /// Units at once, in runs that are not drawn [default: 1000, at 1000 units per second]
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    burst: Option<u64>,
    /// Breaks a rule of the protocol on purpose
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Prints one JSON object per run in place of the table
    #[arg(long)]
    json: bool,
}

/// What the cells of a node of the product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// Ordered maps.
    Map,
    /// The lock-free table.
    Table,
}

impl SimulateArgs {
    fn design(&self) -> Design {
        match (self.subject, self.store) {
            (Design::Leases, StoreKind::Table) => Design::Table,
            (subject, _) => subject,
        }
    }
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// The folder with the documents
    #[arg(long, value_name = "DIR", default_value = "docs")]
    docs: PathBuf,
    /// Computes only the small part and compares it with the document
    #[arg(long)]
    check: bool,
    /// Computes only the small part and puts it into the document
    #[arg(long, conflicts_with = "check")]
    quick: bool,
    /// Leaves out clusters of more nodes
    #[arg(long, value_name = "N", default_value_t = 1000)]
    most_nodes: usize,
}

const AFTER: &str = "\
Exit codes:
  0    all promises hold
  1    a promise was broken, a document is stale, or a file could not be written
  2    the command line makes no sense
  130  stopped by Ctrl-C or SIGTERM; what was done until then is printed";

/// All promises hold.
const EXIT_OK: u8 = 0;
/// A promise was broken, or a file failed.
const EXIT_BROKEN: u8 = 1;
/// The command line makes no sense.
const EXIT_USAGE: u8 = 2;

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Stop::default();
    let mut err = io::stderr();
    if let Err(error) = stop.listen() {
        let _ = writeln!(err, "note: cannot listen for Ctrl-C ({error})");
    }
    match execute(&cli, &stop, &mut io::stdout().lock(), &mut err) {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "error: {error}");
            ExitCode::from(EXIT_BROKEN)
        }
    }
}

/// Runs a parsed command line: results go to `out`, everything else to `err`.
///
/// Errors: a file or a pipe failed.
pub fn execute(cli: &Cli, stop: &Stop, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    if let Some(Command::Report(args)) = &cli.command {
        let outcome = if args.check {
            report::check(&args.docs, stop, err)
        } else if args.quick {
            report::refresh(&args.docs, stop, err)
        } else {
            report::write(&args.docs, args.most_nodes, stop, err)
        };
        return outcome.map(|ending| match ending {
            report::Ending::Fresh => EXIT_OK,
            report::Ending::Stale => EXIT_BROKEN,
            report::Ending::Interrupted => EXIT_INTERRUPTED,
        });
    }
    let args = &cli.simulate;
    if args.list {
        for entry in CATALOGUE {
            writeln!(out, "{:<16} {}", entry.name, entry.about)?;
        }
        return Ok(EXIT_OK);
    }
    if args.scenario != "all" && find(&args.scenario).is_none() {
        writeln!(
            err,
            "error: there is no scenario \"{}\": --list names them",
            args.scenario
        )?;
        return Ok(EXIT_USAGE);
    }
    if args.mutant.is_some() && args.subject != Design::Leases {
        writeln!(err, "error: only leases have mutants: leave out --subject")?;
        return Ok(EXIT_USAGE);
    }
    if args.store != StoreKind::Map && args.subject != Design::Leases {
        writeln!(err, "error: only leases have a store: leave out --subject")?;
        return Ok(EXIT_USAGE);
    }
    if let Some(mutant) = args.mutant.as_deref()
        && !crate::subject::MUTANTS.contains(&mutant)
    {
        writeln!(
            err,
            "error: there is no mutant \"{mutant}\"; there are: {}",
            crate::subject::MUTANTS.join(", ")
        )?;
        return Ok(EXIT_USAGE);
    }
    if args.drawn || args.seeds > 1 {
        if args.seconds.is_some() || args.burst.is_some() {
            writeln!(
                err,
                "error: drawn runs draw their length and their burst: leave out --seconds and --burst"
            )?;
            return Ok(EXIT_USAGE);
        }
        many(args, stop, out, err)
    } else {
        table_of(args, stop, out, err)
    }
}

/// Each scenario once, in the published setting.
fn table_of(args: &SimulateArgs, stop: &Stop, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let nodes = usize::from(args.nodes.unwrap_or(5));
    let mut setting = Setting::published(nodes, args.seed);
    setting.full_mesh = args.subject == Design::Mesh;
    setting.mode = args.mode.unwrap_or(setting.mode);
    setting.load = args.seconds.map_or(setting.load, |seconds| u64::from(seconds) * SECOND);
    setting.burst = args.burst.unwrap_or(setting.burst);
    let mut head = !args.json;
    let mut code = EXIT_OK;
    for entry in CATALOGUE
        .iter()
        .filter(|entry| args.scenario == "all" || args.scenario == entry.name)
    {
        let scenario = entry.build(&setting);
        let outcome = run(&scenario, args.design(), args.seed, args.mutant.as_deref(), &|| {
            stop.requested()
        });
        let Some(outcome) = outcome else {
            return Ok(EXIT_INTERRUPTED);
        };
        if std::mem::take(&mut head) {
            writeln!(out, "{}", table::HEAD)?;
        }
        print(args, &outcome, out)?;
        if !outcome.broken.is_empty() {
            code = EXIT_BROKEN;
            let command = repeat(args, entry.name);
            for broken in &outcome.broken {
                writeln!(err, "{}: {broken}\n  repeat it: {command}", entry.name)?;
            }
        }
    }
    if !args.json {
        writeln!(out, "\n{}", table::LEGEND)?;
    }
    Ok(code)
}

fn repeat(args: &SimulateArgs, name: &str) -> String {
    let mut command = format!(
        "cargo run --release -p ratelimit-sim -- --scenario {name} --seed {}",
        args.seed
    );
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command += &format!(" --{name} {value}");
        }
    };
    option("nodes", args.nodes.map(|nodes| nodes.to_string()));
    option("mode", args.mode.map(|mode| mode.to_string()));
    option("seconds", args.seconds.map(|seconds| seconds.to_string()));
    option("burst", args.burst.map(|burst| burst.to_string()));
    option("mutant", args.mutant.clone());
    option("store", (args.store == StoreKind::Table).then(|| "table".to_owned()));
    command
}

fn print(args: &SimulateArgs, outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    if args.json {
        writeln!(out, "{}", serde_json::to_string(outcome).map_err(io::Error::other)?)
    } else {
        writeln!(out, "{}", table::line(outcome))
    }
}

/// A line now and then, since campaigns take long.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
const PROGRESS_IN_FILE_EVERY: Duration = Duration::from_secs(30);

fn many(args: &SimulateArgs, stop: &Stop, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let plan = Plan {
        scenario: find(&args.scenario).map(|entry| entry.name),
        design: args.design(),
        nodes: args.nodes.map(usize::from),
        mode: args.mode,
        mutant: args.mutant.clone(),
    };
    let terminal = io::stderr().is_terminal();
    let started = Instant::now();
    let mut last = started;
    let (mut done, mut failed, mut events) = (0_u64, 0_u64, 0_u64);
    let mut digest = crate::trace::Trace::default();
    let mut interrupted = false;
    if args.seeds == 1 && !args.json {
        writeln!(out, "{}", table::HEAD)?;
    }
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        match plan.run(seed, &|| stop.requested()) {
            Ok(None) => {
                interrupted = true;
                break;
            }
            Ok(Some(outcome)) => {
                events += outcome.events;
                digest.bytes(1, seed, outcome.trace.as_bytes());
                if args.seeds == 1 || args.json {
                    print(args, &outcome, out)?;
                }
                if !outcome.broken.is_empty() {
                    failed += 1;
                    for broken in &outcome.broken {
                        writeln!(
                            err,
                            "seed {seed}, {}, {} nodes, {}: {broken}",
                            outcome.scenario, outcome.nodes, outcome.mode
                        )?;
                    }
                    writeln!(err, "  repeat it: {}", plan.repeat(seed))?;
                }
            }
            Err(panic) => {
                failed += 1;
                writeln!(err, "seed {seed}: I6: {panic}\n  repeat it: {}", plan.repeat(seed))?;
            }
        }
        done += 1;
        let every = if terminal {
            PROGRESS_EVERY
        } else {
            PROGRESS_IN_FILE_EVERY
        };
        if last.elapsed() >= every && args.seeds > 1 {
            last = Instant::now();
            let text = format!(
                "{done} of {} seeds, {failed} failed, {} s",
                args.seeds,
                started.elapsed().as_secs()
            );
            if terminal {
                write!(err, "\r\x1b[K{text}")?;
            } else {
                writeln!(err, "{text}")?;
            }
        }
    }
    if terminal && args.seeds > 1 {
        write!(err, "\r\x1b[K")?;
    }
    if !args.json && args.seeds > 1 {
        let seconds = started.elapsed().as_secs_f64();
        writeln!(
            out,
            "{done} seeds from {}, {failed} failed, {events} events in {seconds:.0} s, digest of all traces {:016x}",
            args.seed,
            digest.hash()
        )?;
    }
    Ok(match (interrupted, failed) {
        (true, _) => EXIT_INTERRUPTED,
        (_, 0) => EXIT_OK,
        _ => EXIT_BROKEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str]) -> (u8, String, String) {
        let cli = Cli::try_parse_from([&["ratelimit-sim"], arguments].concat()).expect("a sensible command line");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = execute(&cli, &Stop::default(), &mut out, &mut err).expect("memory does not fail");
        (
            code,
            String::from_utf8(out).expect("text"),
            String::from_utf8(err).expect("text"),
        )
    }

    #[test]
    fn nonsense_is_refused_with_what_to_do() {
        let (code, _, err) = said(&["--scenario", "evne"]);
        assert_eq!(code, EXIT_USAGE);
        assert!(err.contains("--list"), "{err}");
        let (code, _, err) = said(&["--mutant", "x"]);
        assert_eq!(code, EXIT_USAGE);
        assert!(err.contains("there are:"), "{err}");
        let (code, _, err) = said(&["--subject", "mesh", "--store", "table"]);
        assert_eq!(code, EXIT_USAGE);
        assert!(err.contains("leave out"), "{err}");
        let (code, _, err) = said(&["--drawn", "--seconds", "9"]);
        assert_eq!(code, EXIT_USAGE);
        assert!(err.contains("leave out"), "{err}");
        for wrong in [
            &["--nodes", "1"][..],
            &["--subject", "x"],
            &["--mode", "bounded"],
            &["--mode", "bounded:x"],
            &["--store", "x"],
        ] {
            assert!(
                Cli::try_parse_from([&["ratelimit-sim"], wrong].concat()).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn one_table_and_one_object() {
        let (code, out, _) = said(&["--scenario", "even", "--subject", "static", "--seconds", "3"]);
        assert_eq!(code, EXIT_OK);
        assert!(out.starts_with("scenario") && out.contains("\neven "), "{out}");
        let (_, out, _) = said(&["--scenario", "even", "--subject", "mesh", "--seconds", "3", "--json"]);
        let value: serde_json::Value = serde_json::from_str(&out).expect("one object");
        assert_eq!(
            (value["scenario"].as_str(), value["nodes"].as_u64()),
            (Some("even"), Some(5))
        );
    }

    #[test]
    fn a_raised_flag_ends_the_run() {
        let stop = Stop::default();
        stop.request();
        let cli = Cli::try_parse_from(["ratelimit-sim", "--subject", "mesh"]).expect("sensible");
        let code = execute(&cli, &stop, &mut Vec::new(), &mut Vec::new()).expect("memory does not fail");
        assert_eq!(code, EXIT_INTERRUPTED);
    }
}
