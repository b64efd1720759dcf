//! The text form of limits: one parser for every language.

use alloc::format;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::{Limit, LimitError};

const SECOND_NS: u128 = 1_000_000_000;
/// Each unit's names and its length in seconds. The first name is the short one, the last is how a single unit is shown.
const UNITS: [(&[&str], u64); 4] = [
    (&["d", "day"], 86_400),
    (&["h", "hour"], 3_600),
    (&["m", "min", "minute"], 60),
    (&["s", "sec", "second"], 1),
];

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = |reason| LimitError::Text {
            text: text.chars().take(80).collect(),
            reason,
        };
        let (rate, rest) = text
            .split_once('/')
            .ok_or_else(|| wrong("there is no \"/\" between rate and window"))?;
        let rate_limit = whole(rate.trim()).ok_or_else(|| wrong("the rate is not a whole number"))?;

        let rest = rest.trim_start();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (count, rest) = rest.split_at(digits);
        let rest = rest.trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        let unit_s = UNITS
            .iter()
            .find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)))
            .map(|&(_, seconds)| seconds)
            .ok_or_else(|| wrong("the window has no unit of s, sec, second, m, min, minute, h, hour, d or day"))?;
        let window = window(count, unit_s).ok_or_else(|| wrong("the window's length is not a number"))?;

        if rest.chars().next().is_some_and(|c| !c.is_whitespace()) {
            return Err(wrong("something follows the window without a space"));
        }
        let mut limit = Limit {
            rate_limit,
            window,
            burst: None,
            strict: false,
        };
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            if word.eq_ignore_ascii_case("burst") {
                if limit.burst.is_some() {
                    return Err(wrong("it has two bursts"));
                }
                let burst = words.next().and_then(whole);
                limit.burst = Some(burst.ok_or_else(|| wrong("after \"burst\" comes a whole number"))?);
            } else if word.eq_ignore_ascii_case("strict") {
                if limit.strict {
                    return Err(wrong("it says \"strict\" twice"));
                }
                limit.strict = true;
            } else {
                return Err(wrong("after the window only \"burst N\" and \"strict\" may follow"));
            }
        }
        limit.validate()?;
        Ok(limit)
    }
}

/// Digits only: `u64::from_str` would also take a sign.
fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The window of `count` units, where no count means one. Decimals hold to the nanosecond.
fn window(count: &str, unit_s: u64) -> Option<Duration> {
    let (whole_units, fraction) = match count.split_once('.') {
        None if count.is_empty() => (1, ""),
        None => (whole(count)?, ""),
        Some((units, fraction)) => (whole(units)?, fraction),
    };
    let mut ns = u128::from(whole_units) * u128::from(unit_s) * SECOND_NS;
    if count.contains('.') {
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_s) * SECOND_NS;
        ns += part / 10u128.pow(fraction.len() as u32);
    }
    let seconds = u64::try_from(ns / SECOND_NS).ok()?;
    Some(Duration::new(seconds, (ns % SECOND_NS) as u32))
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.rate_limit)?;
        let (seconds, ns) = (self.window.as_secs(), self.window.subsec_nanos());
        if ns != 0 {
            write!(f, "{seconds}.{}s", format!("{ns:09}").trim_end_matches('0'))?;
        } else {
            // The last entry divides everything, so that a unit is always found.
            for (names, unit_s) in UNITS {
                if seconds == unit_s {
                    f.write_str(names[names.len() - 1])?;
                    break;
                } else if seconds % unit_s == 0 && (seconds > 0 || unit_s == 1) {
                    write!(f, "{}{}", seconds / unit_s, names[0])?;
                    break;
                }
            }
        }
        if let Some(burst) = self.burst {
            write!(f, " burst {burst}")?;
        }
        if self.strict {
            f.write_str(" strict")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn limit(rate: u64, seconds: u64) -> Limit {
        Limit::new(rate, Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn the_forms_of_the_documentation() {
        for (text, expected) in [
            ("100/minute", limit(100, 60)),
            ("10/s", limit(10, 1)),
            ("5/10s", limit(5, 10)),
            ("100/minute burst 20", limit(100, 60).burst(20)),
            ("100/minute strict", limit(100, 60).strict()),
            ("100/minute burst 20 strict", limit(100, 60).burst(20).strict()),
            ("100/minute strict burst 20", limit(100, 60).burst(20).strict()),
            (" 7 / 2 HOUR ", limit(7, 7_200)),
            ("1/30d", limit(1, 30 * 86_400)),
            ("10000000/sec", limit(10_000_000, 1)),
            ("3/0.5s", Limit::new(3, Duration::from_millis(500)).unwrap()),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (names, seconds) in UNITS {
            for name in names {
                assert_eq!(format!("9/{name}").parse(), Ok(limit(9, seconds)), "{name}");
            }
        }
    }

    #[test]
    fn what_is_not_a_limit_is_refused_with_a_reason() {
        for (text, part) in [
            ("", "no \"/\""),
            ("100", "no \"/\""),
            ("/s", "rate is not"),
            ("-1/s", "rate is not"),
            ("+1/s", "rate is not"),
            ("1.5/s", "rate is not"),
            ("99999999999999999999/s", "rate is not"),
            ("10/", "no unit"),
            ("10/5", "no unit"),
            ("10/fortnight", "no unit"),
            ("10/seconds", "no unit"),
            ("10/1.s", "length is not"),
            ("10/1..5s", "length is not"),
            ("10/99999999999999999999s", "length is not"),
            ("10/s-burst", "without a space"),
            ("10/s burst", "whole number"),
            ("10/s burst x", "whole number"),
            ("10/s burst 3 burst 4", "two bursts"),
            ("10/s strict strict", "twice"),
            ("10/s please", "only \"burst N\""),
            ("0/s", "rate limit is 0"),
            ("10/0s", "window is 0"),
            ("10/s burst 0", "burst is 0"),
            ("10/s burst 10 strict", "use a burst of at most 9"),
            ("1/s burst 2 strict", "use a burst of at most 1"),
            ("100000001/s", "100 million"),
            ("1/209d", "208 days"),
            ("10/day burst 100000", "208 days"),
            ("\u{1b}[2J/s", "\\u{1b}[2J"),
        ] {
            let error = text.parse::<Limit>().expect_err(text).to_string();
            assert!(
                error.contains(part),
                "{text:?} gave {error:?}, which does not say {part:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(
            rate in 1u64..1_000_000, ns in 1u64..MAX_WINDOW_NS, burst in proptest::option::of(1u64..1_000_000), strict: bool
        ) {
            let limit = Limit { rate_limit: rate, window: Duration::from_nanos(ns), burst, strict };
            if limit.validate().is_ok() {
                prop_assert_eq!(limit.to_string().parse::<Limit>(), Ok(limit));
            }
        }

        #[test]
        fn whole_units_are_read_back(rate in 1u64..1_000, count in 1u64..400, unit in 0usize..4) {
            let limit = Limit { rate_limit: rate, window: Duration::from_secs(count * UNITS[unit].1), burst: None, strict: false };
            if limit.validate().is_ok() {
                prop_assert_eq!(limit.to_string().parse::<Limit>(), Ok(limit));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9./a-z ]{0,30}") {
            let _ = text.parse::<Limit>();
        }
    }

    const MAX_WINDOW_NS: u64 = 1 << 54;
}
