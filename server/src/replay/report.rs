//! What a replay found, as text for people and as JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::keys::{self, By, Field};
use super::tally::{LimitTally, Tally};
use super::time::Utc;

/// The widest a client is shown in the text report, in characters. JSON has all that is kept.
const CLIENT_WIDTH: usize = 60;

/// What the report needs beside the counts.
pub struct Context {
    /// Names of what was read.
    pub sources: Vec<String>,
    /// What requests were counted by.
    pub by: By,
    /// The earliest and the latest time that was read.
    pub range: Option<(u64, u64)>,
    /// How many lines were no requests.
    pub unparsed: u64,
    /// The first of them.
    pub malformed: Vec<MalformedLine>,
    /// Whether the user stopped the replay.
    pub interrupted: bool,
    /// How many clients to list for each limit.
    pub top: usize,
}

/// A line that is no request.
#[derive(Clone, Debug, Serialize)]
pub struct MalformedLine {
    /// Where it was read.
    pub source: String,
    /// Its number in that source, from 1.
    pub line: u64,
    /// Its beginning, made safe to show.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// A whole replay. The fields are the JSON object; those of the first limit stand at the top as well.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Requests decided.
    pub requests: u64,
    /// Clients they came from: the number, or at least so many if `clients_exact` is false.
    pub clients: u64,
    /// Requests that the first limit allowed.
    pub allowed: u64,
    /// Requests that the first limit denied.
    pub denied: u64,
    /// Lines that are no requests.
    pub unparsed: u64,
    /// Whether `clients` is the exact number.
    pub clients_exact: bool,
    /// What requests were counted by.
    pub by: Vec<&'static str>,
    /// The earliest time, in UTC.
    pub first: Option<String>,
    /// The latest time, in UTC.
    pub last: Option<String>,
    /// Whether the user stopped the replay.
    pub interrupted: bool,
    /// What was read.
    pub sources: Vec<String>,
    /// What each limit did, in the order they were given.
    pub limits: Vec<LimitReport>,
    /// The first lines that are no requests.
    pub malformed: Vec<MalformedLine>,
}

/// What one limit did.
#[derive(Debug, Serialize)]
pub struct LimitReport {
    /// The limit as text.
    pub limit: String,
    /// Requests decided; the same for every limit.
    pub requests: u64,
    /// Clients; the same for every limit.
    pub clients: u64,
    /// Requests allowed.
    pub allowed: u64,
    /// Requests denied.
    pub denied: u64,
    /// Lines that are no requests; the same for every limit.
    pub unparsed: u64,
    /// Clients that were denied at least once: the number, or at least so many if `top_undercount` is not 0.
    pub clients_denied: u64,
    /// Decisions that are not exact, because more clients were in debt at a time than the engine's table holds.
    pub overflowed: u64,
    /// Each `denied` in `top` may be too low by so much. 0 unless more clients were denied than are kept apart.
    pub top_undercount: u64,
    /// Whom it denied most.
    pub top: Vec<TopClient>,
}

/// A client that was denied.
#[derive(Debug, Serialize)]
pub struct TopClient {
    /// Its key; fields of a combination are joined by ` | `.
    pub client: String,
    /// How often it was denied.
    pub denied: u64,
    /// All of its requests, unless it came when there were too many clients to keep apart.
    pub requests: Option<u64>,
    /// The key as safe to show on a terminal.
    #[serde(skip)]
    shown: String,
}

impl Report {
    /// Puts together what `tally` counted.
    #[must_use]
    pub fn new(tally: &Tally, context: Context) -> Self {
        let limits: Vec<_> = tally
            .limits
            .iter()
            .map(|limit| LimitReport::new(tally, limit, &context))
            .collect();
        let (first, last) = context.range.unzip();
        let iso = |time_ns| {
            let utc = Utc::from_ns(time_ns);
            format!("{}T{}Z", utc.date(), utc.clock())
        };
        Report {
            requests: tally.requests,
            clients: tally.clients.count(),
            allowed: limits.first().map_or(0, |limit| limit.allowed),
            denied: limits.first().map_or(0, |limit| limit.denied),
            unparsed: context.unparsed,
            clients_exact: tally.clients.exact(),
            by: context.by.fields().iter().map(|field| Field::name(*field)).collect(),
            first: first.map(iso),
            last: last.map(iso),
            interrupted: context.interrupted,
            sources: context.sources,
            limits,
            malformed: context.malformed,
        }
    }

    /// Writes one JSON object and a newline.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        // As text first: serde would write piece by piece into an unbuffered pipe.
        let text = serde_json::to_string_pretty(self)?;
        writeln!(out, "{text}")
    }

    /// Writes tables for people.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = Vec::new();
        self.text(&mut text)?;
        out.write_all(&text)
    }

    /// One sentence about what was replayed, which the drawing shows too.
    #[must_use]
    pub fn summary(&self) -> String {
        let at_least = if self.clients_exact { "" } else { "at least " };
        let range = match (&self.first, &self.last) {
            (Some(first), Some(last)) => {
                format!(
                    ", {} to {}",
                    first.replace(['T', 'Z'], " ").trim(),
                    last.replace(['T', 'Z'], " ").trim()
                )
            }
            _ => return "0 requests".to_owned(),
        };
        format!(
            "{} by {at_least}{} (by {}){range} UTC",
            count(self.requests, "request", "requests"),
            count(self.clients, "client", "clients"),
            self.by.join(","),
        )
    }

    fn text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        writeln!(out, "Replayed {}.", self.summary())?;
        let mut totals = Table::new(["LIMIT", "ALLOWED", "DENIED", "DENIED %", "CLIENTS DENIED"]);
        for limit in &self.limits {
            totals.row([
                limit.limit.clone(),
                thousands(limit.allowed),
                thousands(limit.denied),
                percent(limit.denied, limit.requests),
                at_least(limit.clients_denied, limit.top_undercount > 0),
            ]);
        }
        writeln!(out)?;
        totals.write(out)?;
        for limit in self.limits.iter().filter(|limit| !limit.top.is_empty()) {
            let mut top = Table::new(["CLIENT", "DENIED", "REQUESTS", "DENIED %"]);
            for client in &limit.top {
                top.row([
                    client.shown.clone(),
                    at_least(client.denied, limit.top_undercount > 0),
                    client.requests.map_or_else(|| "?".to_owned(), thousands),
                    client
                        .requests
                        .map_or_else(|| "?".to_owned(), |requests| percent(client.denied, requests)),
                ]);
            }
            writeln!(out, "\nDenied most by {}:", limit.limit)?;
            top.write(out)?;
            if limit.top_undercount > 0 {
                let missing = thousands(limit.top_undercount);
                writeln!(
                    out,
                    "So many clients were denied that each count may be too low by up to {missing}."
                )?;
            }
        }
        for limit in self.limits.iter().filter(|limit| limit.overflowed > 0) {
            let decisions = count(limit.overflowed, "decision", "decisions");
            writeln!(
                out,
                "\n{decisions} by {} shared a place in a full table and may be too severe.",
                limit.limit
            )?;
        }
        if !self.clients_exact {
            writeln!(
                out,
                "\nThere were more clients than are kept apart; ? stands for what is not known."
            )?;
        }
        if self.unparsed > 0 {
            writeln!(
                out,
                "\n{} left out as malformed.",
                count(self.unparsed, "line was", "lines were")
            )?;
        }
        if self.interrupted {
            writeln!(out, "\nStopped before the end: these are the counts until then.")?;
        }
        Ok(())
    }
}

impl LimitReport {
    fn new(tally: &Tally, limit: &LimitTally, context: &Context) -> Self {
        let top = tally
            .top(limit, context.top)
            .into_iter()
            .map(|(client, requests)| TopClient {
                client: keys::plain(&client.name),
                denied: client.count,
                requests,
                shown: keys::shown(&client.name, CLIENT_WIDTH),
            });
        LimitReport {
            limit: limit.limit.to_string(),
            requests: tally.requests,
            clients: tally.clients.count(),
            allowed: limit.allowed,
            denied: limit.denied,
            unparsed: context.unparsed,
            clients_denied: limit.most_denied.clients(),
            overflowed: limit.overflowed(),
            top_undercount: limit.most_denied.undercount(),
            top: top.collect(),
        }
    }
}

/// A table: the first column to the left, numbers to the right.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(head: [&str; N]) -> Self {
        Table {
            rows: vec![head.map(str::to_owned)],
        }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            write!(out, "{:<width$}", row[0], width = widths[0])?;
            for (cell, width) in row.iter().zip(widths).skip(1) {
                write!(out, "  {cell:>width$}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// `12,345`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 line` or `2 lines`.
#[must_use]
pub fn count(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { more })
}

fn at_least(number: u64, more: bool) -> String {
    format!("{}{}", if more { ">= " } else { "" }, thousands(number))
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}", part as f64 / whole.max(1) as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(count(1, "line", "lines"), "1 line");
        assert_eq!(count(0, "line", "lines"), "0 lines");
        assert_eq!(percent(1, 3), "33.33");
        assert_eq!(percent(0, 0), "0.00");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["A", "NUMBER"]);
        table.row(["café".to_owned(), "1".to_owned()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A     NUMBER\ncafé       1\n");
    }
}
