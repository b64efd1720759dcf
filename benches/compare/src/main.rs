//! Measures this project's limiter, `governor` and `rateguard` in one process, in turn, on the same calls, and says
//! which of the project's speed and memory targets are met.
//!
//! Figures of different runs or machines do not compare: a clock read alone differs threefold between virtual
//! machines. So the engines alternate within every round, in an order that rotates, and what counts is the ratio.

mod cases;
mod engines;
mod memory;
mod place;
mod report;
mod work;

use std::process::ExitCode;

use cases::Plan;
use engines::RateguardMode;
use report::Report;
use work::Layout;

const HELP: &str = "\
Measures ratelimit, governor and rateguard in turn in one process and prints Markdown tables and a list of targets.

Usage: ratelimit-compare [options]

  --rounds N          rounds per case, the engines taking turns in each (default 9)
  --quick             3 rounds of few calls, no 8M case: shows that everything runs, not how fast
  --case NAME         only this case; may be repeated. A case is keys/path or keys/threads:
                        keys    hot-1, hot-1k, 1m, 8m
                        path    allowed, denied, threads
                      e.g. --case hot-1k, --case 1m/denied, --case threads. Memory is the case `memory`.
  --ids streamed      ids of 1m and 8m lie in memory in call order, as a request brings its id along (default)
  --ids scattered     they lie in a table of distinct ids that is read at random: every engine pays for that too
  --rateguard-live    let rateguard's background task run while it is measured (default: it stands still)
  --json              print the results as JSON
  --help              this text
";

/// What the command line asked for.
struct Options {
    rounds: Option<usize>,
    quick: bool,
    cases: Vec<String>,
    layout: Layout,
    rateguard: RateguardMode,
    json: bool,
}

impl Options {
    /// Reads the arguments; `None` means the help text was asked for.
    fn parse(args: &[String]) -> Result<Option<Options>, String> {
        let mut options = Options {
            rounds: None,
            quick: false,
            cases: Vec::new(),
            layout: Layout::Streamed,
            rateguard: RateguardMode::Still,
            json: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value; see --help"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--rateguard-live" => options.rateguard = RateguardMode::Live,
                "--rounds" => {
                    let text = value()?;
                    match text.parse() {
                        Ok(rounds) if (1..=1000).contains(&rounds) => options.rounds = Some(rounds),
                        _ => return Err(format!("--rounds takes a number from 1 to 1000, not {text:?}")),
                    }
                }
                "--case" => options.cases.push(value()?.to_lowercase()),
                "--ids" => {
                    options.layout = match value()?.as_str() {
                        "streamed" => Layout::Streamed,
                        "scattered" => Layout::Scattered,
                        other => return Err(format!("--ids takes streamed or scattered, not {other:?}")),
                    }
                }
                other => return Err(format!("There is no option {other:?}; see --help.")),
            }
        }
        Ok(Some(options))
    }
}

/// Whether `filter` picks the case `name`: one of its parts, or the beginning of it up to a slash.
fn picks(filter: &str, name: &str) -> bool {
    filter == name || name.split('/').any(|part| part == filter) || name.starts_with(&format!("{filter}/"))
}

fn run(args: &[String]) -> Result<(), String> {
    // Memory is measured in children of this program, each fresh: see `memory`.
    if let Some((memory::CHILD, rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return memory::child(rest);
    }
    let Some(options) = Options::parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let plan = Plan {
        rounds: options.rounds.unwrap_or(if options.quick { 3 } else { 9 }),
        quick: options.quick,
        layout: options.layout,
        rateguard: options.rateguard,
    };
    let known: Vec<String> = cases::names().into_iter().chain([memory::CASE.to_owned()]).collect();
    for filter in &options.cases {
        if !known.iter().any(|name| picks(filter, name)) {
            return Err(format!(
                "No case is called {filter:?}. There are: {}.",
                known.join(", ")
            ));
        }
    }
    let wanted = |name: &str| options.cases.is_empty() || options.cases.iter().any(|filter| picks(filter, name));

    let mut report = Report::new(&plan);
    cases::measure(&plan, &wanted, &mut report)?;
    if wanted(memory::CASE) {
        memory::measure(&plan, &mut report);
    }
    report.finish();
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.markdown());
    }
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::picks;

    #[test]
    fn a_filter_is_a_part_or_a_beginning_of_a_name() {
        assert!(picks("hot-1", "hot-1/allowed"));
        assert!(!picks("hot-1", "hot-1k/allowed"));
        assert!(picks("denied", "1m/denied"));
        assert!(picks("1m/denied", "1m/denied"));
        assert!(!picks("1m/de", "1m/denied"));
    }
}
