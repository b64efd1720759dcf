//! Keeps one limit over three nodes with Redis, Gubernator, `rateguard` and this project's limiter in turn, under the
//! same load on the same machine, and prints what each admits, how long a call takes, and what it costs.
//!
//! Figures of different runs or machines do not compare. So the subjects alternate within every round, in an order that
//! rotates, and what counts is the ratio.

mod load;
mod network;
mod node;
mod outcome;
mod plan;
mod process;
mod report;
mod run;
mod subject;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use plan::{COLD_RATE, Phase, Quota};
use process::{Place, Process, Stop};
use report::Report;
use subject::{Subject, gubernator, ours, redis};

const HELP: &str = "\
Keeps one limit over three nodes with Redis, Gubernator, rateguard and ratelimit in turn and prints Markdown tables.

Usage: ratelimit-cluster-bench [options]

  --rounds N          rounds, the subjects taking turns in each (default 3; one takes two to three minutes)
  --quick             one round of short loads: shows that everything runs, not how well
  --subject NAME      only this one; may be repeated: redis, gubernator, gubernator-global, gubernator-window,
                      gubernator-global-window, rateguard, eventual, strict
  --load NAME         only this one; may be repeated: cold, paced, full
  --rate N            the limit of the load \"cold\", requests a second (default 1000); its burst is a tenth, and ten
                      times as much is offered
  --gubernator FILE   its daemon; without it `go install` builds one, which takes minutes the first time
  --help              this text

It wants redis-server, go, and unshare, ip and ss (util-linux, iproute2). What is missing is left out and said. Where
network namespaces are not permitted, bytes are not counted.
";

/// How long building Gubernator may take.
const BUILD_WITHIN: Duration = Duration::from_secs(1200);

/// What the command line asked for.
#[derive(Debug, PartialEq)]
struct Options {
    rounds: usize,
    quick: bool,
    limit: Quota,
    subjects: Vec<Subject>,
    loads: Vec<Phase>,
    gubernator: Option<Result<PathBuf, String>>,
    inside: bool,
}

impl Options {
    /// Reads the arguments; `None` means the help text was asked for.
    fn parse(args: &[String]) -> Result<Option<Options>, String> {
        let mut options = Options {
            rounds: 3,
            quick: false,
            limit: Quota::cold(COLD_RATE),
            subjects: Vec::new(),
            loads: Vec::new(),
            gubernator: None,
            inside: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value; see --help"));
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => {
                    options.quick = true;
                    options.rounds = 1;
                }
                "--rounds" => {
                    let text = value()?;
                    match text.parse() {
                        Ok(rounds) if (1..=100).contains(&rounds) => options.rounds = rounds,
                        _ => return Err(format!("--rounds takes a number from 1 to 100, not {text:?}")),
                    }
                }
                "--rate" => {
                    let text = value()?;
                    match text.parse() {
                        Ok(rate) if (10..=10_000).contains(&rate) => options.limit = Quota::cold(rate),
                        _ => return Err(format!("--rate takes a number from 10 to 10000, not {text:?}")),
                    }
                }
                "--subject" => {
                    let name = value()?;
                    let subject = Subject::named(name).ok_or_else(|| {
                        let names = Subject::ALL.map(Subject::name).join(", ");
                        format!("No subject is called {name:?}. There are: {names}.")
                    })?;
                    options.subjects.push(subject);
                }
                "--load" => {
                    let name = value()?;
                    let load = Phase::ALL.into_iter().find(|load| load.name() == name).ok_or_else(|| {
                        let names = Phase::ALL.map(Phase::name).join(", ");
                        format!("No load is called {name:?}. There are: {names}.")
                    })?;
                    options.loads.push(load);
                }
                "--gubernator" => options.gubernator = Some(Ok(PathBuf::from(value()?))),
                // These two are what this program says to itself.
                ABSENT => options.gubernator = Some(Err(value()?.clone())),
                network::INSIDE => options.inside = true,
                other => return Err(format!("There is no option {other:?}; see --help.")),
            }
        }
        if options.subjects.is_empty() {
            options.subjects = Subject::ALL.to_vec();
        }
        if options.loads.is_empty() {
            options.loads = Phase::ALL.to_vec();
        }
        Ok(Some(options))
    }

    fn wants_gubernator(&self) -> bool {
        self.subjects.iter().any(|subject| subject.is_gubernator())
    }
}

/// Says why there is no Gubernator.
const ABSENT: &str = "--gubernator-absent";

/// Builds Gubernator's daemon into the temporary directory: the daemon, or why there is none.
fn build_gubernator(place: &Place) -> Result<Result<PathBuf, String>, String> {
    if !process::on_path("go") {
        return Ok(Err("install Go (https://go.dev/dl)".to_owned()));
    }
    let package = format!("{}@{}", gubernator::PACKAGE, gubernator::VERSION);
    eprintln!("Building {package}: some minutes the first time.");
    let mut command = Command::new("go");
    command
        .args(["install", "-p", "2", &package])
        .env("GOBIN", place.temporary());
    let mut build = Process::start("go", command, place)?;
    let mut failed = None;
    place.stop.until("go install", BUILD_WITHIN, || {
        let daemon = place.temporary().join("gubernator");
        match build.ended() {
            None => Ok(false),
            Some(_) if daemon.is_file() => Ok(true),
            Some(words) => {
                failed = Some(format!("`go install {package}` failed: {words}"));
                Ok(true)
            }
        }
    })?;
    Ok(failed.map_or_else(|| Ok(place.temporary().join("gubernator")), Err))
}

/// What is outside of the namespaces: builds what needs the internet, then goes inside.
fn outside(args: &[String], mut options: Options) -> Result<ExitCode, String> {
    let stop = Stop::listen()?;
    let place = Place::new(stop.clone(), Err("not built".to_owned()))?;
    if options.gubernator.is_none() && options.wants_gubernator() {
        options.gubernator = Some(build_gubernator(&place)?);
    }
    let mut inner = args.to_vec();
    match &options.gubernator {
        Some(Ok(path)) => inner.extend(["--gubernator".to_owned(), path.display().to_string()]),
        Some(Err(reason)) => inner.extend([ABSENT.to_owned(), reason.clone()]),
        None => {}
    }
    if let Some(code) = network::enter(&inner, &stop)? {
        return Ok(ExitCode::from(code));
    }
    eprintln!("Network namespaces are not permitted here: bytes are not counted.");
    measure(&options, stop).map(|()| ExitCode::SUCCESS)
}

fn measure(options: &Options, stop: Stop) -> Result<(), String> {
    let gubernator = options.gubernator.clone().unwrap_or(Err("not asked for".to_owned()));
    let place = Place::new(stop, gubernator)?;
    let mut report = Report::new(options.rounds, options.quick, options.limit, options.inside);
    let mut present = Vec::new();
    for &subject in &options.subjects {
        let version = match subject {
            Subject::Redis => redis::version(),
            Subject::Rateguard => Ok(report::pinned("rateguard").to_owned()),
            Subject::Eventual | Subject::Strict => {
                ours::certificates(&place.certificates())?;
                Ok(env!("CARGO_PKG_VERSION").to_owned())
            }
            _ if !options.inside => Err("its daemons need host names of their own: permit namespaces".to_owned()),
            _ => place.gubernator.clone().map(|_| gubernator::VERSION.to_owned()),
        };
        match version {
            Ok(version) => {
                report.version(subject, version);
                present.push(subject);
            }
            Err(reason) => report.skip(subject, reason),
        }
    }
    for round in 0..options.rounds {
        for &load in &options.loads {
            let work = load.work(options.quick, options.limit);
            let here: Vec<_> = present.iter().copied().filter(|subject| subject.takes(load)).collect();
            for turn in 0..here.len() {
                let subject = here[(turn + round) % here.len()];
                let prefix = format!("{}-{round}", load.name());
                eprintln!(
                    "round {} of {}: {}, {}",
                    round + 1,
                    options.rounds,
                    load.name(),
                    subject.title()
                );
                let measured = run::measure(subject, load, &work, &prefix, options.inside, &place)?;
                report.add(subject, load, measured);
            }
        }
    }
    print!("{}", report.markdown());
    Ok(())
}

fn run(args: &[String]) -> Result<ExitCode, String> {
    if args.first().is_some_and(|arg| arg == "--node") {
        return node::run().map(|()| ExitCode::SUCCESS);
    }
    let Some(options) = Options::parse(args)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    if options.inside {
        let stop = Stop::listen()?;
        network::stop_with_input(&stop);
        network::switch_on()?;
        return measure(&options, stop).map(|()| ExitCode::SUCCESS);
    }
    outside(args, options)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_picks_subjects_and_loads() {
        let all = parse("").expect("nothing is enough").expect("not help");
        assert_eq!((all.subjects.len(), all.loads.len(), all.rounds), (8, 3, 3));
        let some = parse("--subject redis --subject strict --load cold --quick")
            .expect("options")
            .expect("not help");
        assert_eq!(some.subjects, [Subject::Redis, Subject::Strict]);
        assert_eq!(some.loads, [Phase::Cold]);
        assert!(!some.wants_gubernator());
        assert_eq!(parse("--help"), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_said() {
        for (line, word) in [
            ("--subject memcached", "gubernator-global"),
            ("--load warm", "paced"),
            ("--rounds 0", "1 to 100"),
            ("--rate 5", "10 to 10000"),
            ("--rounds", "wants a value"),
            ("--fast", "--help"),
        ] {
            let told = parse(line).expect_err(line);
            assert!(told.contains(word), "{line}: {told}");
        }
    }
}
