//! The tables.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::outcome::Outcome;
use crate::plan::{CALLERS, KEYS, NODES, PACED, Phase, Quota};
use crate::run::Measured;
use crate::subject::Subject;

/// The subject whose figures the ratios are of.
const OF: Subject = Subject::Eventual;

#[derive(Debug)]
pub(crate) struct Report {
    rounds: usize,
    quick: bool,
    limit: Quota,
    counted: bool,
    versions: BTreeMap<Subject, String>,
    skipped: Vec<(Subject, String)>,
    measured: BTreeMap<(Phase, Subject), Vec<Measured>>,
    load_at_start: String,
}

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn load_average() -> String {
    let line = first_line("/proc/loadavg").unwrap_or_default();
    line.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The version of a dependency, from the exact requirement in this crate's manifest.
pub(crate) fn pinned(name: &str) -> &'static str {
    include_str!("../Cargo.toml")
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
        .find_map(|rest| rest.split('"').nth(1)?.strip_prefix('='))
        .unwrap_or("unknown")
}

/// The middle of what is given, or the mean of the two in the middle; 0 of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// With commas between thousands, and decimals only where they say something.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 0.1 {
        return format!("{value:.3}");
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds of a number of nanoseconds.
fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

impl Report {
    pub(crate) fn new(rounds: usize, quick: bool, limit: Quota, counted: bool) -> Report {
        Report {
            rounds,
            quick,
            limit,
            counted,
            versions: BTreeMap::new(),
            skipped: Vec::new(),
            measured: BTreeMap::new(),
            load_at_start: load_average(),
        }
    }

    pub(crate) fn version(&mut self, subject: Subject, version: String) {
        self.versions.insert(subject, version);
    }

    pub(crate) fn skip(&mut self, subject: Subject, reason: String) {
        self.skipped.push((subject, reason));
    }

    pub(crate) fn add(&mut self, subject: Subject, load: Phase, measured: Measured) {
        self.measured.entry((load, subject)).or_default().push(measured);
    }

    /// The median over the rounds of something about one subject under one load.
    fn of(&self, load: Phase, subject: Subject, what: impl Fn(&Measured) -> f64) -> f64 {
        let rounds = self.measured.get(&(load, subject));
        median(rounds.into_iter().flatten().map(what).collect())
    }

    /// The least and the most of it.
    fn span(&self, load: Phase, subject: Subject, what: impl Fn(&Measured) -> f64) -> String {
        let rounds = self.measured.get(&(load, subject));
        let values: Vec<f64> = rounds.into_iter().flatten().map(what).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        format!("{}..{}", number(least), number(most))
    }

    /// The median of the rounds' ratios to ours; nothing if either is missing.
    fn ratio(&self, load: Phase, subject: Subject, what: impl Fn(&Measured) -> f64) -> String {
        let (Some(theirs), Some(ours)) = (self.measured.get(&(load, subject)), self.measured.get(&(load, OF))) else {
            return String::new();
        };
        let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| what(theirs) / what(ours));
        number(median(ratios.filter(|ratio| ratio.is_finite()).collect()))
    }

    fn subjects(&self, load: Phase) -> impl Iterator<Item = Subject> {
        Subject::ALL
            .into_iter()
            .filter(move |subject| self.measured.contains_key(&(load, *subject)))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        for load in Phase::ALL {
            if self.subjects(load).next().is_none() {
                continue;
            }
            match load {
                Phase::Cold => self.cold(&mut text),
                Phase::Paced => self.paced(&mut text),
                Phase::Full => self.full(&mut text),
            }
        }
        text
    }

    fn head(&self, text: &mut String) {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = first_line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let quick = if self.quick { " of a quick run" } else { "" };
        let _ = writeln!(text, "- CPU: {cpu}, {cores} cores");
        let _ = writeln!(text, "- kernel: linux {kernel}, {}", std::env::consts::ARCH);
        let _ = writeln!(
            text,
            "- load average: {} at the start, {} at the end",
            self.load_at_start,
            load_average()
        );
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(subject, version)| format!("{} ({version})", subject.title()))
            .collect();
        let _ = writeln!(text, "- measured: {}", versions.join("; "));
        for (subject, reason) in &self.skipped {
            let _ = writeln!(text, "- {}: skipped: {reason}", subject.title());
        }
        let _ = writeln!(
            text,
            "- {NODES} nodes, {} rounds{quick}, medians; a ratio is the median of the rounds' ratios",
            self.rounds
        );
        if !self.counted {
            let _ = writeln!(text, "- bytes: not counted, network namespaces are not permitted here");
        }
    }

    fn cold(&self, text: &mut String) {
        let lasts = Phase::Cold.work(self.quick, self.limit).lasts;
        let whole = lasts.as_secs_f64();
        let allowed = |seconds: f64| self.limit.allows(seconds);
        let _ = write!(
            text,
            "\n### Load starts cold on three nodes\n\nOne key, {}/s with a burst of {}, {} calls a second offered over \
             {NODES} nodes (open loop). The limit admits {} in the first second, {} in {} s.\n\n",
            number(f64::from(self.limit.rate)),
            self.limit.burst,
            number(self.limit.offered()),
            number(allowed(1.0)),
            number(allowed(whole)),
            whole
        );
        let _ = writeln!(
            text,
            "| | first 0.1 s | first 1 s | min..max | of the limit | first {whole} s | of the limit | a second, second half \
             | best second | answered a second | failed | KB/s between nodes |"
        );
        let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        let within = |outcome: &Outcome, to: Duration| outcome.admitted_within(Duration::ZERO, to) as f64;
        for subject in self.subjects(Phase::Cold) {
            let of = |what: &dyn Fn(&Measured) -> f64| self.of(Phase::Cold, subject, what);
            let first = |m: &Measured| within(&m.outcome, Duration::from_secs(1));
            let all = |m: &Measured| within(&m.outcome, lasts);
            let half = lasts / 2;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {:.2} | {} | {:.2} | {} | {} | {} | {} | {} |",
                subject.title(),
                number(of(&|m| within(&m.outcome, Duration::from_millis(100)))),
                number(of(&first)),
                self.span(Phase::Cold, subject, first),
                of(&first) / allowed(1.0),
                number(of(&all)),
                of(&all) / allowed(whole),
                number(of(&|m| {
                    m.outcome.admitted_within(half, lasts) as f64 / (lasts - half).as_secs_f64()
                })),
                number(of(&|m| best_second(&m.outcome, lasts))),
                number(of(&|m| m.outcome.answered as f64 / whole)),
                number(of(&|m| (m.outcome.failed + m.outcome.unasked) as f64)),
                self.kilobytes(Phase::Cold, subject),
            );
        }
    }

    /// Kilobytes a second between nodes, or between the nodes and the store.
    fn kilobytes(&self, load: Phase, subject: Subject) -> String {
        if !self.counted {
            return "not counted".to_owned();
        }
        let rate = |bytes: u64, m: &Measured| bytes as f64 / 1000.0 / m.work.lasts.as_secs_f64();
        let all = self.of(load, subject, |m| rate(m.bytes.map_or(0, |bytes| bytes.all), m));
        let between = self.of(load, subject, |m| {
            rate(m.bytes.map_or(0, |bytes| bytes.between_nodes), m)
        });
        match subject {
            Subject::Redis => number(all),
            _ if subject.is_gubernator() => {
                format!("{} + {} of clients", number(between), number((all - between).max(0.0)))
            }
            _ => number(between),
        }
    }

    fn paced(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n### Time of a call\n\n{} calls a second on each of {NODES} nodes over {KEYS} keys, under a limit that is never reached (open loop). \
             *Call*: from asking to the answer. *Due*: from when the call was due, so with what the machine and the calls \
             before it delayed.\n\n",
            number(PACED)
        );
        let _ = writeln!(
            text,
            "| | call p50, us | p99 | p99.9 | p50 of ours | due p50, us | p99 | p99.9 | % of a core | KB/s between nodes \
             | admitted, % | failed |"
        );
        let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        for subject in self.subjects(Phase::Paced) {
            let call = |q: f64| number(self.of(Phase::Paced, subject, |m| us(m.outcome.call_ns.value_at_quantile(q))));
            let due = |q: f64| number(self.of(Phase::Paced, subject, |m| us(m.outcome.due_ns.value_at_quantile(q))));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                subject.title(),
                call(0.5),
                call(0.99),
                call(0.999),
                self.ratio(Phase::Paced, subject, |m| us(m.outcome.call_ns.value_at_quantile(0.5))),
                due(0.5),
                due(0.99),
                due(0.999),
                number(self.of(Phase::Paced, subject, |m| {
                    100.0 * m.cpu().as_secs_f64() / m.work.lasts.as_secs_f64()
                })),
                self.kilobytes(Phase::Paced, subject),
                number(self.of(Phase::Paced, subject, admitted)),
                number(self.of(Phase::Paced, subject, |m| (m.outcome.failed + m.outcome.unasked) as f64)),
            );
        }
    }

    fn full(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n### As fast as it answers\n\n{KEYS} keys, under a limit that is never reached (closed loop). Servers are asked by {CALLERS} callers \
             of each node at a time; embedded limiters by one thread of each.\n\n",
        );
        let _ = writeln!(
            text,
            "| | decisions/s, all nodes | min..max | of ours | of the slowest and the fastest node | CPU s per million: \
             servers | those who ask | all, of ours | KB per million decisions | admitted, % | failed |"
        );
        let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        let rate = |m: &Measured| m.outcome.answered as f64 / m.work.lasts.as_secs_f64();
        let node = |m: &Measured, count: Option<&u64>| count.copied().unwrap_or(0) as f64 / m.work.lasts.as_secs_f64();
        let million = |time: Duration, m: &Measured| time.as_secs_f64() * 1e6 / (m.outcome.answered.max(1) as f64);
        for subject in self.subjects(Phase::Full) {
            let of = |what: &dyn Fn(&Measured) -> f64| number(self.of(Phase::Full, subject, what));
            let bytes = if self.counted {
                of(&|m| m.bytes.map_or(0, |bytes| bytes.all) as f64 * 1000.0 / (m.outcome.answered.max(1) as f64))
            } else {
                "not counted".to_owned()
            };
            let servers = if subject.is_embedded() {
                "none".to_owned()
            } else {
                of(&|m| million(m.servers, m))
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {}..{} | {} | {} | {} | {} | {} | {} |",
                subject.title(),
                of(&rate),
                self.span(Phase::Full, subject, rate),
                self.ratio(Phase::Full, subject, rate),
                of(&|m| node(m, m.answered.iter().min())),
                of(&|m| node(m, m.answered.iter().max())),
                servers,
                of(&|m| million(m.askers, m)),
                self.ratio(Phase::Full, subject, |m| million(m.cpu(), m)),
                bytes,
                of(&admitted),
                of(&|m| (m.outcome.failed + m.outcome.unasked) as f64),
            );
        }
    }
}

/// Admitted of what was answered, in per cent.
fn admitted(measured: &Measured) -> f64 {
    let admitted: u64 = measured.outcome.admitted.iter().sum();
    100.0 * admitted as f64 / (measured.outcome.answered.max(1) as f64)
}

/// The most admitted within any second that begins after the first one with a slot.
fn best_second(outcome: &Outcome, lasts: Duration) -> f64 {
    let second = Duration::from_secs(1);
    let mut from = second;
    let mut most = 0;
    while from + second <= lasts {
        most = most.max(outcome.admitted_within(from, from + second));
        from += crate::plan::SLOT;
    }
    most as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_commas() {
        for (value, text) in [
            (0.0, "0"),
            (0.0423, "0.042"),
            (1.234, "1.23"),
            (45.67, "45.7"),
            (999.6, "1,000"),
            (1234567.0, "1,234,567"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn the_best_second_is_not_the_first() {
        let lasts = Duration::from_secs(4);
        let mut outcome = Outcome::new(lasts);
        outcome.answers(900, 900, Duration::from_millis(100));
        outcome.answers(50, 50, Duration::from_millis(1900));
        outcome.answers(60, 60, Duration::from_millis(2100));
        outcome.answers(10, 10, Duration::from_millis(3900));
        assert!((best_second(&outcome, lasts) - 110.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_pinned_version_is_found() {
        assert!(pinned("rateguard").starts_with("0.7"));
    }
}
