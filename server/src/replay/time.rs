//! The timestamps of access logs, and times as the report shows them.
//!
//! The form is fixed (`17/May/2015:10:05:03 +0000`), so that reading it by hand costs a few comparisons per line, needs no
//! pattern and no zone database, and can say what is wrong.

use std::fmt;

/// Nanoseconds per second.
pub const SECOND_NS: u64 = 1_000_000_000;

const DAY_S: i64 = 86_400;
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// The years that are taken: before 1970 a time would be negative, and a year far ahead is a broken clock.
const YEARS: std::ops::RangeInclusive<i64> = 1970..=2500;

/// Why a timestamp is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// Not of the form `17/May/2015:10:05:03 +0000`.
    Form,
    /// The form is right, but there is no such day, hour, minute, second or zone.
    Value,
    /// The year is before 1970 or after 2500.
    Year,
}

impl fmt::Display for TimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeFault::Form => "the time is not of the form [17/May/2015:10:05:03 +0000]",
            TimeFault::Value => "the calendar and the clock have no such time",
            TimeFault::Year => "the year is not in 1970 to 2500",
        })
    }
}

/// Reads `17/May/2015:10:05:03 +0000`, without its brackets, as nanoseconds since the UNIX epoch.
///
/// A fraction of a second (`10:05:03.250`) is taken too; some servers write it. Second 60 is the leap second, and counts as
/// the first of the next minute.
pub fn parse(text: &[u8]) -> Result<u64, TimeFault> {
    let (head, rest) = text.split_at_checked(20).ok_or(TimeFault::Form)?;
    if [head[2], head[6], head[11], head[14], head[17]] != *b"//:::" {
        return Err(TimeFault::Form);
    }
    let day = number(&head[..2])?;
    let month = month(&head[3..6])?;
    let year = number(&head[7..11])?;
    let (hour, minute, second) = (number(&head[12..14])?, number(&head[15..17])?, number(&head[18..20])?);
    let (fraction_ns, zone) = fraction(rest)?;
    let offset_s = zone_offset_s(zone)?;

    if !YEARS.contains(&year) {
        return Err(TimeFault::Year);
    }
    if day == 0 || day > days_in_month(year, month) || hour > 23 || minute > 59 || second > 60 {
        return Err(TimeFault::Value);
    }
    let seconds = days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
    let seconds = u64::try_from(seconds).map_err(|_| TimeFault::Year)?;
    Ok(seconds * SECOND_NS + fraction_ns)
}

fn number(digits: &[u8]) -> Result<i64, TimeFault> {
    digits.iter().try_fold(0, |sum, digit| match digit {
        b'0'..=b'9' => Ok(sum * 10 + i64::from(digit - b'0')),
        _ => Err(TimeFault::Form),
    })
}

/// The month, 1 to 12. English names: the log formats fix them, whatever the server's locale.
fn month(name: &[u8]) -> Result<i64, TimeFault> {
    let index = MONTHS
        .iter()
        .position(|month| month.eq_ignore_ascii_case(name))
        .ok_or(TimeFault::Form)?;
    Ok(index as i64 + 1)
}

/// The nanoseconds of an optional `.123`, and what follows.
fn fraction(rest: &[u8]) -> Result<(u64, &[u8]), TimeFault> {
    let Some(digits) = rest.strip_prefix(b".") else {
        return Ok((0, rest));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    let scale = match length {
        1..=9 => 10_u64.pow(9 - length as u32),
        _ => return Err(TimeFault::Form),
    };
    Ok((number(digits)?.unsigned_abs() * scale, rest))
}

/// Seconds that local time is ahead of UTC: ` +0130` is 5400.
fn zone_offset_s(zone: &[u8]) -> Result<i64, TimeFault> {
    let &[b' ', sign @ (b'+' | b'-'), h1, h2, m1, m2] = zone else {
        return Err(TimeFault::Form);
    };
    let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
    if hours > 23 || minutes > 59 {
        return Err(TimeFault::Value);
    }
    let offset_s = hours * 3600 + minutes * 60;
    Ok(if sign == b'-' { -offset_s } else { offset_s })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. The year is counted from March, so that the leap day comes last and months follow one formula.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A time in UTC, taken apart for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc {
    /// Year, such as 2015.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Second of the day.
    pub second: i64,
}

impl Utc {
    /// The UTC time `time_ns` nanoseconds after the UNIX epoch; what is below a second is dropped.
    #[must_use]
    pub fn from_ns(time_ns: u64) -> Self {
        let seconds = (time_ns / SECOND_NS) as i64; // At most 2^64 / 10^9, far below 2^63.
        let days = seconds.div_euclid(DAY_S) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        Utc {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            second: seconds.rem_euclid(DAY_S),
        }
    }

    /// `2015-05-17`.
    #[must_use]
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `10:05:03`.
    #[must_use]
    pub fn clock(&self) -> String {
        format!(
            "{:02}:{:02}:{:02}",
            self.second / 3600,
            self.second / 60 % 60,
            self.second % 60
        )
    }

    /// `17/May/2015:10:05:03 +0000`: what [`parse`] reads.
    #[must_use]
    pub fn log(&self) -> String {
        let month = String::from_utf8_lossy(MONTHS[(self.month - 1) as usize]);
        format!("{:02}/{month}/{:04}:{} +0000", self.day, self.year, self.clock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(parse(b"01/Jan/1970:00:00:00 +0000"), Ok(0));
        assert_eq!(parse(b"17/May/2015:10:05:03 +0000"), Ok(1_431_857_103 * SECOND_NS));
        assert_eq!(parse(b"17/May/2015:12:35:03 +0230"), Ok(1_431_857_103 * SECOND_NS));
        assert_eq!(parse(b"17/May/2015:02:05:03 -0800"), Ok(1_431_857_103 * SECOND_NS));
        assert_eq!(
            parse(b"17/May/2015:10:05:03.25 +0000"),
            Ok(1_431_857_103 * SECOND_NS + 250_000_000)
        );
        assert_eq!(parse(b"29/Feb/2000:00:00:00 +0000"), Ok(951_782_400 * SECOND_NS));
        assert_eq!(
            parse(b"30/Jun/2015:23:59:60 +0000"),
            parse(b"01/Jul/2015:00:00:00 +0000")
        );
    }

    #[test]
    fn what_is_no_time() {
        for (text, fault) in [
            ("", TimeFault::Form),
            ("17/May/2015:10:05:03", TimeFault::Form),
            ("17/Mai/2015:10:05:03 +0000", TimeFault::Form),
            ("2015-05-17T10:05:03Z", TimeFault::Form),
            ("17/May/2015:10:05:03 UTC", TimeFault::Form),
            ("17/May/2015:10:05:03. +0000", TimeFault::Form),
            ("17/May/2015:10:05:03 +00000", TimeFault::Form),
            ("+7/May/2015:10:05:03 +0000", TimeFault::Form),
            ("29/Feb/2015:10:05:03 +0000", TimeFault::Value),
            ("00/May/2015:10:05:03 +0000", TimeFault::Value),
            ("31/Apr/2015:10:05:03 +0000", TimeFault::Value),
            ("17/May/2015:24:05:03 +0000", TimeFault::Value),
            ("17/May/2015:10:05:61 +0000", TimeFault::Value),
            ("17/May/2015:10:05:03 +2400", TimeFault::Value),
            ("17/May/1969:10:05:03 +0000", TimeFault::Year),
            ("17/May/9999:10:05:03 +0000", TimeFault::Year),
            ("01/Jan/1970:00:00:00 +0100", TimeFault::Year),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(fault), "{text}");
        }
    }

    #[test]
    fn every_day_comes_back() {
        for day in 0..190_000_u64 {
            let time_ns = (day * 86_400 + day % 86_400) * SECOND_NS;
            let utc = Utc::from_ns(time_ns);
            assert_eq!(parse(utc.log().as_bytes()), Ok(time_ns), "{}", utc.date());
        }
    }
}
