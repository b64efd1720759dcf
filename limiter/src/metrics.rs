//! The form of metrics: tables of them, and the one writer of Prometheus's text (exposition format 0.0.4).
//!
//! Not for users, who get the text from [`Limiter::prometheus`](crate::Limiter::prometheus): the program `ratelimit` writes its own metrics
//! with it.

use std::fmt::{Display, Write};

/// A metric that is read from a `S`: whoever has one has its name, its help, and its value.
#[derive(Clone, Copy, Debug)]
pub struct Metric<S, V = f64> {
    /// Its name, with the prefix that all have.
    pub name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&S) -> V,
}

/// One that only rises. By convention its name ends with `_total`.
pub const fn counter<S, V>(name: &'static str, help: &'static str, value: fn(&S) -> V) -> Metric<S, V> {
    Metric {
        name,
        kind: "counter",
        help,
        value,
    }
}

/// One that rises and falls.
pub const fn gauge<S, V>(name: &'static str, help: &'static str, value: fn(&S) -> V) -> Metric<S, V> {
    Metric {
        name,
        kind: "gauge",
        help,
        value,
    }
}

impl<S, V: Display> Metric<S, V> {
    /// Its value now.
    pub fn value(&self, of: &S) -> V {
        (self.value)(of)
    }

    /// Whether its name says what it is: those of counters end with `_total`, and no other's does.
    #[must_use]
    pub fn is_named_well(&self) -> bool {
        self.name.ends_with("_total") == (self.kind == "counter")
    }

    /// Writes it, without a label.
    pub fn write(&self, of: &S, text: &mut String) {
        head(text, self.name, self.kind, self.help);
        sample(text, self.name, &[], self.value(of));
    }

    /// Writes it for each of several, told apart by a label.
    pub fn write_each<'a>(&self, label: &str, each: impl Iterator<Item = (&'a str, &'a S)>, text: &mut String)
    where
        S: 'a,
    {
        head(text, self.name, self.kind, self.help);
        for (which, of) in each {
            sample(text, self.name, &[(label, which)], self.value(of));
        }
    }
}

/// Writes what a metric is.
pub fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// Writes one sample of it.
pub fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    text.push_str(name);
    for (place, (label, of)) in labels.iter().enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{label}=\"{}\"", escaped(of));
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// A label's value: a name in a certificate may have any letter.
fn escaped(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_labels_escaped() {
        let mut text = String::new();
        sample(&mut text, "a", &[], 1);
        sample(&mut text, "a", &[("x", "1"), ("y", "a\"b\\\n")], f64::NAN);
        assert_eq!(text, "a 1\na{x=\"1\",y=\"a\\\"b\\\\\\n\"} NaN\n");
    }

    #[test]
    fn a_metric_is_written_with_its_help_once() {
        const LENGTH: Metric<String, usize> = gauge("length", "How long it is.", |s| s.len());
        let both = ["ab".to_owned(), "c".to_owned()];
        let mut text = String::new();
        LENGTH.write_each("of", both.iter().map(|s| (s.as_str(), s)), &mut text);
        assert_eq!(
            text,
            "# HELP length How long it is.\n# TYPE length gauge\nlength{of=\"ab\"} 2\nlength{of=\"c\"} 1\n"
        );
        assert!(LENGTH.is_named_well());
    }
}
