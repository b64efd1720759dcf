//! The results: the tables, the targets, and the same as JSON.

use std::fmt::Write as _;

use crate::cases::{CASES, Path, Plan};
use crate::engines::{governor, name, rateguard};
use crate::memory::{Filling, Subject};
use crate::place::{load, place};

/// Nanoseconds per call, one figure a round.
pub(crate) struct Series {
    pub(crate) case: &'static str,
    pub(crate) path: Path,
    pub(crate) entrant: &'static str,
    pub(crate) samples: Vec<f64>,
}

/// Calls per second of one thread and of two together, one figure a round.
pub(crate) struct Threads {
    pub(crate) case: &'static str,
    pub(crate) entrant: &'static str,
    pub(crate) one: Vec<f64>,
    pub(crate) two: Vec<f64>,
}

/// Resident bytes at each number of keys.
pub(crate) struct Memory {
    pub(crate) subject: Subject,
    pub(crate) filling: Filling,
    pub(crate) id_bytes: usize,
    pub(crate) steps: Vec<(usize, u64)>,
}

impl Memory {
    /// The worst bytes per key, and at how many keys.
    fn worst(&self) -> (f64, usize) {
        let per_key = self
            .steps
            .iter()
            .map(|&(keys, bytes)| (bytes as f64 / keys as f64, keys));
        per_key.fold((0.0, 0), |worst, step| if step.0 > worst.0 { step } else { worst })
    }

    fn filling(&self) -> String {
        match self.filling {
            Filling::Sized { keys } => format!("{} keys, sized for them where possible", thousands(keys)),
            Filling::Growing { up_to } => format!("growing from 10,000 to {} keys, worst", thousands(up_to)),
        }
    }
}

/// Median, least and most of some figures.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(samples: &[f64]) -> Spread {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        };
        Spread {
            median,
            least: at(0),
            most: at(sorted.len().wrapping_sub(1)),
        }
    }
}

/// A target of the project and what was measured for it.
struct Bar {
    says: String,
    target: f64,
    /// Whether staying below is the aim; else reaching.
    at_most: bool,
    value: Option<f64>,
}

impl Bar {
    fn met(&self) -> Option<bool> {
        self.value.map(|value| {
            if self.at_most {
                value <= self.target
            } else {
                value >= self.target
            }
        })
    }
}

pub(crate) struct Report {
    plan: Plan,
    /// What the numbers depend on, as name and text.
    place: Vec<(&'static str, String)>,
    pub(crate) series: Vec<Series>,
    pub(crate) threads: Vec<Threads>,
    pub(crate) memory: Vec<Memory>,
    /// A sentence for everything that was left out.
    pub(crate) absent: Vec<String>,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Report {
        Report {
            plan: *plan,
            place: place(plan),
            series: Vec::new(),
            threads: Vec::new(),
            memory: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// Notes how busy the machine was when all was measured.
    pub(crate) fn finish(&mut self) {
        self.place.push(("load average at the end", load()));
    }

    fn series(&self, case: &str, path: Path, entrant: &str) -> Option<&Series> {
        let wanted = |one: &&Series| one.case == case && one.path == path && one.entrant == entrant;
        self.series.iter().find(wanted)
    }

    fn ratio(&self, case: &str, path: Path, entrant: &str, other: &str) -> Option<f64> {
        let [one, other] = [entrant, other].map(|name| self.series(case, path, name));
        Some(ratios(&one?.samples, &other?.samples).median)
    }

    fn memory_of(&self, id_bytes: usize, growing: bool) -> Option<f64> {
        let wanted = |one: &&Memory| {
            one.subject == Subject::Ours
                && one.id_bytes == id_bytes
                && growing == matches!(one.filling, Filling::Growing { .. })
        };
        self.memory.iter().find(wanted).map(|one| one.worst().0)
    }

    fn bars(&self) -> Vec<Bar> {
        use Path::{Allowed, Denied};
        let mut bars = Vec::new();
        let mut at_most = |says: &str, target: f64, value: Option<f64>| {
            bars.push(Bar {
                says: says.to_owned(),
                target,
                at_most: true,
                value,
            });
        };
        let of_governor = |case, entrant| self.ratio(case, Allowed, entrant, governor::NAME);
        at_most(
            "one hot key, is_allowed(&str), of governor",
            0.70,
            of_governor("hot-1", name::ID),
        );
        at_most(
            "1,024 keys, is_allowed(&str), of governor",
            0.85,
            of_governor("hot-1k", name::ID),
        );
        let of_rateguard = self.ratio("hot-1k", Allowed, name::ID, rateguard::NAME);
        at_most("1,024 keys, is_allowed(&str), of rateguard", 0.50, of_rateguard);
        at_most(
            "1,024 keys, ClientKey, of governor",
            0.55,
            of_governor("hot-1k", name::KEY),
        );
        let coarse = of_governor("hot-1k", name::KEY_COARSE);
        at_most("1,024 keys, ClientKey, coarse clock, of governor", 0.40, coarse);
        at_most(
            "1M keys, is_allowed(&str), of governor",
            0.45,
            of_governor("1m", name::ID),
        );
        at_most(
            "1M keys, batches of 16, of governor",
            0.16,
            of_governor("1m", name::BATCH_ID),
        );
        at_most(
            "1M keys, is_allowed(&str), grown, of governor",
            0.60,
            of_governor("1m", name::ID_GROWN),
        );
        for case in &CASES {
            let [denied, allowed] = [Denied, Allowed].map(|path| self.series(case.name, path, name::ID));
            let value = denied
                .zip(allowed)
                .map(|(denied, allowed)| ratios(&denied.samples, &allowed.samples).median);
            at_most(&format!("{}, a denial, of an admission", case.says), 1.0, value);
        }
        at_most(
            "1M keys sized beforehand, bytes per key, 22-byte ids",
            36.0,
            self.memory_of(22, false),
        );
        at_most(
            "1M keys sized beforehand, bytes per key, 200-byte ids",
            36.0,
            self.memory_of(200, false),
        );
        at_most(
            "growing to 5M keys, worst bytes per key",
            90.0,
            self.memory_of(22, true),
        );
        for case in &CASES {
            let threads = |one: &&Threads| one.case == case.name && one.entrant == name::ID;
            let Some(threads) = self.threads.iter().find(threads) else {
                continue;
            };
            bars.push(Bar {
                says: format!("{}, two threads on different keys, of one thread", case.says),
                target: 1.8,
                at_most: false,
                value: Some(gain(threads).median),
            });
        }
        bars
    }

    /// The whole report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.place {
            line(&mut text, format_args!("- {what}: {value}"));
        }
        self.time_tables(&mut text);
        self.thread_table(&mut text);
        self.memory_table(&mut text);
        if !self.absent.is_empty() {
            line(&mut text, format_args!("\n### Left out\n"));
            for sentence in &self.absent {
                line(&mut text, format_args!("- {sentence}"));
            }
        }
        line(&mut text, format_args!("\n### Bars\n"));
        for bar in self.bars() {
            let relation = if bar.at_most { "at most" } else { "at least" };
            let verdict = match bar.met() {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "not measured",
            };
            let value = bar.value.map_or(String::new(), |value| format!(" ({value:.2})"));
            line(
                &mut text,
                format_args!("- {verdict}{value}: {}, {relation} {:.2}", bar.says, bar.target),
            );
        }
        text
    }

    fn time_tables(&self, text: &mut String) {
        for case in &CASES {
            let names = distinct(
                self.series
                    .iter()
                    .filter(|one| one.case == case.name)
                    .map(|one| one.entrant),
            );
            if names.is_empty() {
                continue;
            }
            line(
                text,
                format_args!("\n### {} (`{}`), ns per call\n", case.says, case.name),
            );
            line(
                text,
                format_args!(
                    "| call | allowed | min..max | of governor | of rateguard | denied | min..max | of governor | of rateguard |"
                ),
            );
            line(text, format_args!("|---|---:|---:|---:|---:|---:|---:|---:|---:|"));
            for name in names {
                let mut row = format!("| {name} |");
                for path in [Path::Allowed, Path::Denied] {
                    match self.series(case.name, path, name).map(|one| Spread::of(&one.samples)) {
                        Some(Spread { median, least, most }) => {
                            let _ = write!(row, " {median:.1} | {least:.1}..{most:.1} |");
                        }
                        None => row.push_str(" | |"),
                    }
                    for other in [governor::NAME, rateguard::NAME] {
                        match self.ratio(case.name, path, name, other) {
                            Some(ratio) => {
                                let _ = write!(row, " {ratio:.2} |");
                            }
                            None => row.push_str(" |"),
                        }
                    }
                }
                line(text, format_args!("{row}"));
            }
        }
    }

    fn thread_table(&self, text: &mut String) {
        if self.threads.is_empty() {
            return;
        }
        line(
            text,
            format_args!("\n### Two threads, each on keys of its own, million calls per second\n"),
        );
        line(
            text,
            format_args!("| keys | call | one thread | two threads | two of one | min..max |"),
        );
        line(text, format_args!("|---|---|---:|---:|---:|---:|"));
        for one in &self.threads {
            let Spread { median, least, most } = gain(one);
            line(
                text,
                format_args!(
                    "| {} | {} | {:.1} | {:.1} | {median:.2} | {least:.2}..{most:.2} |",
                    one.case,
                    one.entrant,
                    Spread::of(&one.one).median / 1e6,
                    Spread::of(&one.two).median / 1e6,
                ),
            );
        }
    }

    fn memory_table(&self, text: &mut String) {
        if self.memory.is_empty() {
            return;
        }
        line(text, format_args!("\n### Resident bytes per live key\n"));
        line(
            text,
            format_args!("| engine | id bytes | filling | bytes per key | at keys |"),
        );
        line(text, format_args!("|---|---:|---|---:|---:|"));
        for one in &self.memory {
            let (worst, keys) = one.worst();
            line(
                text,
                format_args!(
                    "| {} | {} | {} | {worst:.1} | {} |",
                    one.subject.name(),
                    one.id_bytes,
                    one.filling(),
                    thousands(keys)
                ),
            );
        }
    }

    /// The same as JSON: samples of every round, so that other statistics can be taken.
    pub(crate) fn json(&self) -> String {
        let place = self
            .place
            .iter()
            .map(|(what, value)| format!("{}:{}", quoted(what), quoted(value)));
        let series = self.series.iter().map(|one| {
            format!(
                "{{\"case\":{},\"path\":{},\"call\":{},\"ns_median\":{},\"ns\":{}}}",
                quoted(one.case),
                quoted(one.path.name()),
                quoted(one.entrant),
                number(Spread::of(&one.samples).median),
                numbers(&one.samples)
            )
        });
        let threads = self.threads.iter().map(|one| {
            format!(
                "{{\"case\":{},\"call\":{},\"two_of_one\":{},\"one_per_s\":{},\"two_per_s\":{}}}",
                quoted(one.case),
                quoted(one.entrant),
                number(gain(one).median),
                numbers(&one.one),
                numbers(&one.two)
            )
        });
        let memory = self.memory.iter().map(|one| {
            let steps = one.steps.iter().map(|(keys, bytes)| format!("[{keys},{bytes}]"));
            format!(
                "{{\"engine\":{},\"filling\":{},\"id_bytes\":{},\"worst_bytes_per_key\":{},\"keys_bytes\":{}}}",
                quoted(one.subject.name()),
                quoted(&one.filling()),
                one.id_bytes,
                number(one.worst().0),
                list(steps)
            )
        });
        let bars = self.bars().into_iter().map(|bar| {
            format!(
                "{{\"says\":{},\"at_most\":{},\"target\":{},\"value\":{},\"met\":{}}}",
                quoted(&bar.says),
                bar.at_most,
                number(bar.target),
                bar.value.map_or("null".to_owned(), number),
                bar.met().map_or("null".to_owned(), |met| met.to_string())
            )
        });
        format!(
            "{{\"rounds\":{},\"place\":{{{}}},\"times\":{},\"threads\":{},\"memory\":{},\"left_out\":{},\"bars\":{}}}",
            self.plan.rounds,
            place.collect::<Vec<_>>().join(","),
            list(series),
            list(threads),
            list(memory),
            list(self.absent.iter().map(|sentence| quoted(sentence))),
            list(bars)
        )
    }
}

/// `one` against `other`, round by round: the runs of a round follow each other closely, so that whatever else the
/// machine does weighs on both. The ratio of two medians would compare different moments.
fn ratios(one: &[f64], other: &[f64]) -> Spread {
    let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    Spread::of(&ratios)
}

/// How much more two threads did than one.
fn gain(threads: &Threads) -> Spread {
    ratios(&threads.two, &threads.one)
}

/// Writing to a `String` cannot fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{arguments}");
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn numbers(values: &[f64]) -> String {
    list(values.iter().copied().map(number))
}

/// JSON knows no NaN.
fn number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.3}")
    } else {
        "null".to_owned()
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for symbol in text.chars() {
        match symbol {
            '"' | '\\' => quoted.extend(['\\', symbol]),
            symbol if symbol.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(symbol));
            }
            symbol => quoted.push(symbol),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert!(Spread::of(&[]).median.is_nan());
    }

    #[test]
    fn text_is_quoted_for_json() {
        assert_eq!(quoted("a \"b\" \\ \n"), "\"a \\\"b\\\" \\\\ \\u000a\"");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(thousands(999), "999");
    }
}
