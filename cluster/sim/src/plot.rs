//! Lines over an axis, as SVG written by hand.
//!
//! Three lines and two axes do not need a charting library. Lines differ in dashes and marks as well as in colour, so that
//! the drawing can be read in grey and by the colour-blind.

use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 64.0;

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#222}\
.title{font-size:20px;font-weight:600}.summary{font-size:13px;fill:#555}\
.label{font-size:12px}.tick{font-size:12px;fill:#444}.grid{stroke:#ddd}.axis{stroke:#444}\
.line{fill:none;stroke-width:2}";

/// How the lines look, in order.
const LOOKS: [(&str, &str); 4] = [
    ("#2b6c99", ""),
    ("#b91c1c", "7 4"),
    ("#4d7c0f", "2 4"),
    ("#555555", "12 4 2 4"),
];

/// What a plot shows.
pub struct Plot<'a> {
    /// The heading.
    pub title: &'a str,
    /// A sentence below it, also read out by screen readers.
    pub summary: &'a str,
    /// Below the horizontal axis.
    pub x_label: &'a str,
    /// Beside the vertical axis.
    pub y_label: &'a str,
    /// Powers of ten at equal distances, horizontally.
    pub log_x: bool,
    /// The same vertically; values below 1 are drawn as 1.
    pub log_y: bool,
    /// Name and points of each line, at most four.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

impl Plot<'_> {
    /// Draws it.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        let (title, summary) = (escaped(self.title), escaped(self.summary));
        put(
            &mut svg,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
                 height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"title summary\">\n\
                 <title id=\"title\">{title}</title>\n<desc id=\"summary\">{summary}</desc>\n<style>{STYLE}</style>\n\
                 <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
                 <text class=\"title\" x=\"{LEFT}\" y=\"32\">{title}</text>\n\
                 <text class=\"summary\" x=\"{LEFT}\" y=\"53\">{summary}</text>"
            ),
        );
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let x = Axis::of(points().map(|point| point.0), self.log_x, LEFT, WIDTH - RIGHT);
        let y = Axis::of(points().map(|point| point.1), self.log_y, HEIGHT - BOTTOM, TOP);
        let (base, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for value in y.ticks() {
            let place = y.place(value);
            put(
                &mut svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\n\
                     <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                    LEFT - 8.0,
                    place + 4.0
                ),
            );
        }
        put(
            &mut svg,
            format_args!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\"/>"),
        );
        for value in x.ticks() {
            let place = x.place(value);
            put(
                &mut svg,
                format_args!(
                    "<line class=\"axis\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{base}\" y2=\"{}\"/>\n\
                     <text class=\"tick\" x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
                    base + 5.0,
                    base + 19.0
                ),
            );
        }
        let (middle_x, middle_y) = (LEFT + (right - LEFT) / 2.0, TOP + (base - TOP) / 2.0);
        put(
            &mut svg,
            format_args!(
                "<text class=\"label\" x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
                 <text class=\"label\" x=\"20\" y=\"{middle_y}\" text-anchor=\"middle\" \
                 transform=\"rotate(-90 20 {middle_y})\">{}</text>",
                base + 44.0,
                escaped(self.x_label),
                escaped(self.y_label)
            ),
        );
        for (index, ((name, points), (colour, dashes))) in self.lines.iter().zip(LOOKS).enumerate() {
            let mut path = String::new();
            for (number, (px, py)) in points.iter().enumerate() {
                let letter = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{letter}{:.1} {:.1}", x.place(*px), y.place(*py));
            }
            put(
                &mut svg,
                format_args!("<path class=\"line\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" d=\"{path}\"/>"),
            );
            // Few points are measurements and get a mark each; many are a curve.
            if points.len() <= 12 {
                for (px, py) in points {
                    put(
                        &mut svg,
                        format_args!(
                            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                            x.place(*px),
                            y.place(*py)
                        ),
                    );
                }
            }
            let at = TOP + 10.0 + 22.0 * index as f64;
            put(
                &mut svg,
                format_args!(
                    "<line stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" x1=\"{}\" x2=\"{}\" \
                     y1=\"{at}\" y2=\"{at}\"/>\n<text class=\"label\" x=\"{}\" y=\"{}\">{}</text>",
                    right + 16.0,
                    right + 52.0,
                    right + 60.0,
                    at + 4.0,
                    escaped(name)
                ),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// From values to places on the drawing.
struct Axis {
    log: bool,
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if log {
            let (low, high) = (low.max(1.0).log10().floor(), high.max(1.0).log10().ceil());
            return Axis {
                log,
                low,
                high: high.max(low + 1.0),
                step: 1.0,
                from,
                to,
            };
        }
        let low = low.min(0.0);
        let step = round_step((high - low).max(1e-9) / 5.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Axis {
            log,
            low,
            high: high.max(low + step),
            step,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1.0).log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as i32;
        let value = |index: i32| self.low + f64::from(index) * self.step;
        (0..=count)
            .map(|index| {
                if self.log {
                    10_f64.powf(value(index))
                } else {
                    (value(index) * 1e6).round() / 1e6
                }
            })
            .collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(power * 10.0)
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{line}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([1.0, 3.0, 6.0, 11.0].map(round_step), [1.0, 5.0, 10.0, 20.0]);
    }

    #[test]
    fn points_lie_inside_and_every_line_has_its_name() {
        let plot = Plot {
            title: "a < b",
            summary: "s",
            x_label: "x",
            y_label: "y",
            log_x: true,
            log_y: false,
            lines: vec![("one", vec![(1.0, -5.0), (1000.0, 30.0)]), ("two", Vec::new())],
        };
        let svg = plot.svg();
        assert!(
            svg.contains("a &lt; b") && svg.contains(">one<") && svg.contains(">two<"),
            "{svg}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
    }
}
