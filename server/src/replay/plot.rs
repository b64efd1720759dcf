//! The drawing: allowed and denied requests over time, one panel for each limit, as SVG written by hand.
//!
//! Two stacked areas and two axes do not need a charting library. Denied requests are hatched and outlined as well as
//! coloured, so that the drawing can be read in grey and by the colour-blind.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::report::{Report, thousands};
use super::tally::{LimitTally, Tally};
use super::time::{SECOND_NS, Utc};
use super::timeline::{Axis, Bin, round_step_s};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 44.0; // Half a date, which the last tick can need.
/// Above the first panel: title and summary.
const TOP: f64 = 72.0;
/// From one panel's top to the next one's: its heading, the area, the axis and its labels.
const PANEL: f64 = 300.0;
const HEADING: f64 = 34.0;
const AREA: f64 = 200.0;
const DAY_S: u64 = 86_400;

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#222}\
.title{font-size:20px;font-weight:600}.summary{font-size:13px;fill:#555}.limit{font-size:15px;font-weight:600}\
.label{font-size:12px}.tick{font-size:12px;fill:#444}.grid{stroke:#ddd}.axis{stroke:#444}\
.allowed{fill:#9ecae1;stroke:#2b6c99}.denied{fill:url(#hatch);stroke:#7f1d1d}";

/// Draws what `tally` counted over time. Writes a note in place of panels if there is nothing to draw.
pub fn draw(tally: &Tally, report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let panels = if tally.axis.is_some() { tally.limits.len() } else { 0 };
    let height = TOP + PANEL * panels.max(1) as f64;
    let summary = escaped(&report.summary());
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title summary\">\n\
         <title id=\"title\">Requests allowed and denied over time</title>\n\
         <desc id=\"summary\">{summary}</desc>\n\
         <style>{STYLE}</style>\n\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#fdd0a2\"/>\
         <rect width=\"2.5\" height=\"6\" fill=\"#b91c1c\"/></pattern></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"32\">Requests allowed and denied over time</text>\n\
         <text class=\"summary\" x=\"{LEFT}\" y=\"53\">{summary}</text>"
    )?;
    match tally.axis {
        Some(axis) => {
            for (index, limit) in tally.limits.iter().enumerate() {
                out.write_all(panel(limit, &axis, TOP + PANEL * index as f64).as_bytes())?;
            }
        }
        None => writeln!(
            out,
            "<text class=\"label\" x=\"{LEFT}\" y=\"{TOP}\">There is no request to draw.</text>"
        )?,
    }
    writeln!(out, "</svg>")
}

/// One limit's panel, its upper edge at `top`.
fn panel(limit: &LimitTally, axis: &Axis, top: f64) -> String {
    let base = top + HEADING + AREA;
    let most = limit.bins.iter().map(|bin| bin.allowed + bin.denied).max().unwrap_or(0);
    let step = round_step((most.max(1)).div_ceil(4));
    let ceiling = most.max(1).next_multiple_of(step);
    let y = |count: u64| base - count as f64 / ceiling as f64 * AREA;
    let mut svg = String::new();

    let heading = top + HEADING - 12.0;
    put(
        &mut svg,
        format_args!(
            "<text class=\"limit\" x=\"{LEFT}\" y=\"{heading}\">{}</text>",
            escaped(&limit.limit.to_string())
        ),
    );
    legend(&mut svg, limit, heading);
    for count in (0..=ceiling).step_by(step as usize) {
        let (y, right) = (y(count), WIDTH - RIGHT);
        put(
            &mut svg,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"),
        );
        let (x, y) = (LEFT - 8.0, y + 4.0);
        put(
            &mut svg,
            format_args!(
                "<text class=\"tick\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                thousands(count)
            ),
        );
    }
    let (x, middle) = (20.0, base - AREA / 2.0);
    put(
        &mut svg,
        format_args!(
            "<text class=\"label\" x=\"{x}\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {middle})\">\
             requests per {}</text>",
            length(axis.width_s)
        ),
    );
    // Denied requests stand on the allowed ones, so that the upper edge is all that was asked for.
    area(&mut svg, "allowed", axis, &limit.bins, |bin| (y(0), y(bin.allowed)));
    area(&mut svg, "denied", axis, &limit.bins, |bin| {
        (y(bin.allowed), y(bin.allowed + bin.denied))
    });
    time_axis(&mut svg, axis, base);
    svg
}

/// What the two areas mean, with their totals, at the right end of the heading.
fn legend(svg: &mut String, limit: &LimitTally, y: f64) {
    let mut x = WIDTH - RIGHT - 360.0;
    for (class, count) in [("allowed", limit.allowed), ("denied", limit.denied)] {
        let (swatch, text) = (y - 11.0, x + 24.0);
        put(
            svg,
            format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"{swatch}\" width=\"18\" height=\"12\"/>"),
        );
        put(
            svg,
            format_args!(
                "<text class=\"label\" x=\"{text}\" y=\"{y}\">{class}: {}</text>",
                thousands(count)
            ),
        );
        x += 190.0;
    }
}

/// The area of the bins between the two heights that `edges` gives for each, as one path per stretch without gaps.
fn area(svg: &mut String, class: &str, axis: &Axis, bins: &[Bin], edges: impl Fn(&Bin) -> (f64, f64)) {
    let width = (WIDTH - LEFT - RIGHT) / axis.bins as f64;
    let mut path = String::new();
    let mut stretch: Vec<(f64, f64, f64)> = Vec::new();
    for (index, bin) in bins.iter().chain([&Bin::default()]).enumerate() {
        let (low, high) = edges(bin);
        if index < bins.len() && low != high {
            stretch.push((LEFT + index as f64 * width, low, high));
            continue;
        }
        // Along the upper edge from left to right, then back along the lower one.
        for (place, (x, _, high)) in stretch.iter().enumerate() {
            let letter = if place == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {high:.1}H{:.1}", x + width);
        }
        for (x, low, _) in stretch.iter().rev() {
            let _ = write!(path, "L{:.1} {low:.1}H{x:.1}", x + width);
        }
        if !stretch.is_empty() {
            path.push('Z');
        }
        stretch.clear();
    }
    if !path.is_empty() {
        put(svg, format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
    }
}

/// The line below the areas with times, and dates where they change.
fn time_axis(svg: &mut String, axis: &Axis, base: f64) {
    let right = WIDTH - RIGHT;
    put(
        svg,
        format_args!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\"/>"),
    );
    let length_s = axis.end_s() - axis.start_s;
    let step_s = round_step_s(length_s.div_ceil(8)).max(axis.width_s);
    let mut last_date = String::new();
    let mut at_s = axis.start_s.next_multiple_of(step_s);
    while at_s <= axis.end_s() {
        let x = LEFT + (at_s - axis.start_s) as f64 / length_s as f64 * (right - LEFT);
        let utc = Utc::from_ns(at_s * SECOND_NS);
        let clock = utc.clock();
        let clock = if step_s < 60 { &clock[..] } else { &clock[..5] };
        let (date, tick) = (utc.date(), base + 5.0);
        put(
            svg,
            format_args!("<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{base}\" y2=\"{tick}\"/>"),
        );
        // Whole days need no clock.
        let mut y = base + 19.0;
        if step_s < DAY_S {
            put(
                svg,
                format_args!("<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{clock}</text>"),
            );
            y += 15.0;
        }
        if date != last_date {
            put(
                svg,
                format_args!("<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{date}</text>"),
            );
            last_date = date;
        }
        at_s += step_s;
    }
    let (x, y) = (LEFT + (right - LEFT) / 2.0, base + 52.0);
    put(
        svg,
        format_args!("<text class=\"label\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">time (UTC)</text>"),
    );
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}

/// The smallest of 1, 2, 5, 10, 20, 50 and so on that is not below `least`.
fn round_step(least: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            match power.checked_mul(factor) {
                Some(step) if step >= least => return step,
                Some(_) => {}
                None => return least,
            }
        }
        power = power.saturating_mul(10);
    }
}

/// A length of time in words.
fn length(seconds: u64) -> String {
    let (unit_s, unit) = match seconds {
        s if s.is_multiple_of(DAY_S) => (DAY_S, "day"),
        s if s.is_multiple_of(3600) => (3600, "hour"),
        s if s.is_multiple_of(60) => (60, "minute"),
        _ => (1, "second"),
    };
    match seconds / unit_s {
        1 => unit.to_owned(),
        count => format!("{count} {unit}s"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(
            [1, 2, 3, 6, 11, 21, 99, 101].map(round_step),
            [1, 2, 5, 10, 20, 50, 100, 200]
        );
        assert!(round_step(u64::MAX) == u64::MAX);
    }

    #[test]
    fn lengths_in_words() {
        assert_eq!(
            [1, 30, 60, 600, 3600, DAY_S].map(length),
            ["second", "30 seconds", "minute", "10 minutes", "hour", "day"]
        );
    }

    #[test]
    fn an_area_has_one_stretch_for_each_run_of_bins() {
        let axis = Axis {
            start_s: 0,
            width_s: 1,
            bins: 4,
        };
        let bins = [1, 0, 2, 3].map(|allowed| Bin { allowed, denied: 0 });
        let mut svg = String::new();
        area(&mut svg, "allowed", &axis, &bins, |bin| {
            (100.0, 100.0 - bin.allowed as f64)
        });
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
        assert_eq!(svg.matches('Z').count(), 2, "{svg}");
        let mut svg = String::new();
        area(&mut svg, "denied", &axis, &bins, |_| (100.0, 100.0));
        assert_eq!(svg, "", "nothing denied, nothing drawn");
    }
}
