//! Outcomes as lines of text.

use std::fmt::Write as _;

use crate::run::Outcome;

/// The head of a table of outcomes for a terminal.
pub const HEAD: &str = "\
scenario         subject  nodes mode          excess      %  busiest   used  worst s   min  mean   max  settled  bytes/node/s  pkts/node/s  invariants";

/// One outcome under [`HEAD`].
#[must_use]
pub fn line(outcome: &Outcome) -> String {
    let Outcome {
        scenario,
        nodes,
        mode,
        excess_units,
        excess_percent,
        busiest_second,
        used,
        worst_second,
        ..
    } = outcome;
    let (min, mean, max) = outcome.per_100_ms;
    let settled = outcome
        .settled_s
        .map_or_else(|| "never".to_owned(), |s| format!("{s:.1} s"));
    let broken = if outcome.broken.is_empty() {
        "hold".to_owned()
    } else {
        format!("BROKEN: {}", outcome.broken[0])
    };
    format!(
        "{scenario:<16} {:<8} {nodes:>5} {mode:<12} {excess_units:>7.1} {excess_percent:>6.1} {busiest_second:>8.3} {used:>6.3} \
         {worst_second:>8.3} {min:>5.2} {mean:>5.2} {max:>5.2} {settled:>8} {:>13.0} {:>12.1}  {broken}",
        outcome.subject.name(),
        outcome.bytes_per_node_s,
        outcome.packets_per_node_s,
    )
}

/// Ten bins a line, each with what was admitted and what the ideal limiter admits.
#[must_use]
pub fn timeline(outcome: &Outcome) -> String {
    let bins: Vec<(u32, u32)> = outcome
        .admitted_bins
        .iter()
        .copied()
        .zip(outcome.ideal_bins.iter().copied())
        .collect();
    let mut text = String::new();
    for (second, bins) in bins.chunks(10).enumerate() {
        let _ = write!(text, "{second:>5} s");
        for (admitted, ideal) in bins {
            let _ = write!(text, "  {admitted:>4}/{ideal:<4}");
        }
        text.push('\n');
    }
    text
}

/// What the columns mean.
pub const LEGEND: &str = "\
excess: worst over-admission over all windows, in units above the burst, and in percent of the burst (below 0: never spent).
busiest: most admitted in any second of the steady state, over the limit. used: admitted over what one ideal limiter admits.
worst s: largest shortfall of one second. min, mean, max: admitted per 100 ms, over the limit's part.
settled: until admissions are within 5 % of the ideal limiter's for good. bytes, pkts: sent, with packet headers.";
