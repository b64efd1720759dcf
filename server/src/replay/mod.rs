//! `ratelimit replay`: decides a real access log at its own timestamps.
//!
//! The path of a line:
//!
//! 1. [`input`] reads and unpacks in a thread of its own; [`split`] cuts chunks into lines with a bound on their length.
//! 2. [`line`](mod@line) takes a line apart, [`time`] reads its timestamp, [`keys`] builds the key it is counted by.
//! 3. [`sort`] puts time and key of all requests in order, on disk if they are many ([`merge`]).
//! 4. [`tally`] decides each under every limit, by the [`engine`]; [`frequent`] and [`timeline`] count.
//! 5. [`report`] says what came out, [`plot`] draws it.
//!
//! Memory does not grow with the log: the sort has its budget, all counters have a bound, and each says so when it is met.

pub mod args;
pub mod by_rules;
pub mod drawing;
pub mod engine;
pub mod frequent;
pub mod input;
pub mod keys;
pub mod line;
pub mod merge;
pub mod plot;
pub mod progress;
pub mod report;
pub mod sample;
pub mod sort;
pub mod split;
pub mod tally;
pub mod time;
pub mod timeline;

use std::io::Write;

pub use args::ReplayArgs;

use crate::failure::{Failure, output};
use crate::stop::Stop;
use by_rules::RulesTally;
use drawing::Drawing;
use input::{Event, Reader, Source};
use keys::By;
use line::{Line, Malformed};
use progress::Progress;
use report::{Context, MalformedLine, Report};
use sort::Sorter;
use split::{Piece, Splitter};
use tally::Tally;
use timeline::Axis;

/// Malformed lines that are shown; all are counted.
const MALFORMED_SHOWN: usize = 5;
/// Characters of a malformed line that are shown.
const MALFORMED_WIDTH: usize = 100;
/// Requests between two looks at the clock and the stop flag.
const LOOK_EVERY: u64 = 4096;

/// How a replay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was read and decided.
    Complete,
    /// The user stopped it; what was done until then was reported.
    Interrupted,
}

/// Runs a replay. Results go to `out`, notes and progress to `err`; `terminal` says whether `err` is one.
pub fn run(
    args: &ReplayArgs,
    stop: &Stop,
    out: &mut dyn Write,
    err: &mut dyn Write,
    terminal: bool,
) -> Result<Ending, Failure> {
    if let Some(path) = &args.config {
        return run_by_rules(args, RulesTally::open(path)?, stop, out, err, terminal);
    }
    let limits = args.limits()?;
    let sources = args.sources()?;
    let folder = args.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let budget = usize::try_from(u64::from(args.sort_memory) << 20).unwrap_or(usize::MAX);
    let mut progress = Progress::new(err, args.progress || terminal, terminal);
    if args.limits.is_empty() {
        progress.note(&format!("no --limit was given, so {} is tried", limits[0]));
    }

    let drawing = match &args.plot {
        Some(path) => Some(Drawing::open(path, &sources)?),
        None => None,
    };
    let gathered = gather(&sources, &args.by, Sorter::new(budget, &folder), stop, &mut progress)?;
    let axis = args
        .plot
        .as_ref()
        .and(gathered.range)
        .map(|(first_ns, last_ns)| Axis::new(first_ns, last_ns));
    let mut tally = Tally::new(&limits, axis)?;
    let Gathered {
        sorter,
        requests,
        stopped,
        ..
    } = gathered;
    let decided = decide(sorter, &mut tally, requests, stopped, stop, &mut progress)?;
    progress.clear();

    let interrupted = stopped || !decided;
    let report = Report::new(
        &tally,
        Context {
            sources: sources.iter().map(Source::name).collect(),
            by: args.by.clone(),
            range: gathered.range,
            unparsed: gathered.unparsed,
            malformed: gathered.malformed,
            interrupted,
            top: args.top,
        },
    );
    notes(&report, requests, stopped, &mut progress);
    let written = if args.json {
        report.write_json(out)
    } else {
        report.write_text(out)
    };
    let written = written.and_then(|()| out.flush()).map_err(output);
    // The report first, and the drawing even if nobody reads the report: neither is lost by what happens to the other.
    if let Some(drawing) = drawing {
        drawing.fill(|file| plot::draw(&tally, &report, file))?;
    }
    written?;
    Ok(if interrupted {
        Ending::Interrupted
    } else {
        Ending::Complete
    })
}

/// As [`run`], by rules.
fn run_by_rules(
    args: &ReplayArgs,
    mut tally: RulesTally,
    stop: &Stop,
    out: &mut dyn Write,
    err: &mut dyn Write,
    terminal: bool,
) -> Result<Ending, Failure> {
    let sources = args.sources()?;
    let folder = args.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let budget = usize::try_from(u64::from(args.sort_memory) << 20).unwrap_or(usize::MAX);
    let mut progress = Progress::new(err, args.progress || terminal, terminal);
    let by = tally.by().clone();
    let gathered = gather(&sources, &by, Sorter::new(budget, &folder), stop, &mut progress)?;
    RulesTally::check_range(gathered.range)?;
    let (requests, stopped) = (gathered.requests, gathered.stopped);
    let mut complete = true;
    gathered.sorter.drain(|time_ns, key| {
        tally.decide(time_ns, key);
        if tally.requests().is_multiple_of(LOOK_EVERY) {
            let share = tally.requests() as f64 / requests as f64;
            progress.tick("deciding", tally.requests(), Some(share));
            complete = stopped || !stop.requested();
        }
        Ok(complete)
    })?;
    progress.clear();
    let interrupted = stopped || !complete;
    if gathered.unparsed > 0 {
        let lines = report::count(
            gathered.unparsed,
            "line is malformed and was",
            "lines are malformed and were",
        );
        progress.note(&format!("{lines} left out"));
    }
    let report = tally.report(gathered.unparsed, interrupted);
    let written = if args.json {
        report.write_json(out)
    } else {
        report.write_text(out)
    };
    written.and_then(|()| out.flush()).map_err(output)?;
    Ok(if interrupted {
        Ending::Interrupted
    } else {
        Ending::Complete
    })
}

/// All that reading found.
struct Gathered {
    sorter: Sorter,
    requests: u64,
    /// The earliest and the latest time.
    range: Option<(u64, u64)>,
    unparsed: u64,
    malformed: Vec<MalformedLine>,
    stopped: bool,
}

/// Reads all sources into the sorter, until their end or until the user stops it.
fn gather(
    sources: &[Source],
    by: &By,
    sorter: Sorter,
    stop: &Stop,
    progress: &mut Progress<'_>,
) -> Result<Gathered, Failure> {
    // Unknown for pipes; one unknown size leaves no share to tell.
    let sizes = sources.iter().map(Source::size).collect::<Result<Vec<_>, _>>()?;
    let size = sizes.into_iter().sum::<Option<u64>>();
    let mut gathered = Gathered {
        sorter,
        requests: 0,
        range: None,
        unparsed: 0,
        malformed: Vec::new(),
        stopped: false,
    };
    let mut key = Vec::new();
    let mut splitter = Splitter::default();
    let mut read_whole = 0;
    let reader = Reader::start(sources.to_vec());
    while let Some(event) = reader.next(|| stop.requested()) {
        match event {
            Event::Chunk(index, chunk) => {
                splitter.feed(&chunk, |number, piece| {
                    gathered.take(&sources[index], number, piece, by, &mut key)
                })?;
                let share = size.map(|size| reader.taken() as f64 / size.max(1) as f64);
                progress.tick("reading", gathered.requests + gathered.unparsed, share);
            }
            Event::End(index) => {
                splitter.finish(|number, piece| gathered.take(&sources[index], number, piece, by, &mut key))?;
                splitter = Splitter::default();
                read_whole += 1;
            }
            Event::Failed(index, error) => {
                progress.clear();
                return Err(Failure::Io(format!("cannot read {}: {error}", sources[index].name())));
            }
        }
    }
    // A stop that comes after the last byte cuts nothing off. A line that a stop cuts in two is not counted at all.
    gathered.stopped = read_whole < sources.len();
    if gathered.stopped && !stop.requested() {
        return Err(Failure::Io("the reading thread ended before the input did".to_owned()));
    }
    Ok(gathered)
}

impl Gathered {
    /// Takes one line: into the sorter, or into the count of malformed ones.
    fn take(
        &mut self,
        source: &Source,
        number: u64,
        piece: Piece<'_>,
        by: &By,
        key: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let (text, line) = match piece {
            Piece::Line(text) if text.trim_ascii().is_empty() => return Ok(()),
            Piece::Line(text) => (text, Line::parse(text)),
            Piece::TooLong(head) => (head, Err(Malformed::TooLong)),
        };
        match line {
            Ok(line) => {
                by.key(&line, key);
                self.sorter.push(line.time_ns, key)?;
                self.requests += 1;
                let (first, last) = self.range.unwrap_or((line.time_ns, line.time_ns));
                self.range = Some((first.min(line.time_ns), last.max(line.time_ns)));
            }
            Err(why) => {
                self.unparsed += 1;
                if self.malformed.len() < MALFORMED_SHOWN {
                    self.malformed.push(MalformedLine {
                        source: source.name(),
                        line: number,
                        text: keys::shown(&text[..text.len().min(4 * MALFORMED_WIDTH)], MALFORMED_WIDTH),
                        why: why.to_string(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Decides all requests by time. Returns false if the user stopped it before the end; a stop while reading (`stopped`) does
/// not count again, since deciding what was read is what that user still wants.
fn decide(
    sorter: Sorter,
    tally: &mut Tally,
    requests: u64,
    stopped: bool,
    stop: &Stop,
    progress: &mut Progress<'_>,
) -> Result<bool, Failure> {
    let mut complete = true;
    sorter.drain(|time_ns, key| {
        tally.decide(time_ns, key)?;
        if tally.requests.is_multiple_of(LOOK_EVERY) {
            progress.tick(
                "deciding",
                tally.requests,
                Some(tally.requests as f64 / requests as f64),
            );
            complete = stopped || !stop.requested();
        }
        Ok(complete)
    })?;
    Ok(complete)
}

/// Says on stderr what the numbers alone would hide. `requests` were read; `stopped` tells whether that was all.
fn notes(report: &Report, requests: u64, stopped: bool, progress: &mut Progress<'_>) {
    if report.unparsed > 0 {
        let lines = report::count(
            report.unparsed,
            "line is malformed and was",
            "lines are malformed and were",
        );
        progress.note(&format!("{lines} left out"));
        for line in &report.malformed {
            progress.note(&format!("{}:{}: {}: {}", line.source, line.line, line.why, line.text));
        }
        let more = report.unparsed - report.malformed.len() as u64;
        if more > 0 {
            progress.note(&format!("{} not shown", report::count(more, "more is", "more are")));
        }
        if requests == 0 {
            progress.note("no line is a request: is this an access log in common or combined format?");
        }
    }
    if stopped {
        progress.note("stopped while reading: this is about what was read until then");
    } else if report.interrupted {
        let (done, all) = (report::thousands(report.requests), report::thousands(requests));
        progress.note(&format!(
            "stopped while deciding: this is about the first {done} of {all} requests by time"
        ));
    }
}
