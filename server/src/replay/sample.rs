//! A made-up day of traffic, so that a replay can be tried without a log.
//!
//! It is a log as a server would write it, and goes through the same parser and sorter: many clients of which few are busy,
//! a quiet night and a busy evening, pages that pull in their parts, four clients that abuse the service, lines stamped with
//! when the request came but written when it was answered, and now and then a broken line. One seed gives one log, on every
//! machine: only whole numbers are used, since roundings of `sin` or `pow` differ between systems.

use std::io::{self, Read, Write};

use super::time::{SECOND_NS, Utc};

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleConfig {
    /// Another seed gives other traffic of the same kind.
    pub seed: u64,
    /// How many well-formed lines.
    pub requests: u64,
}

/// Monday, 2 March 2026, 00:00 UTC.
const DAY_START_S: u64 = 1_772_409_600;
const DAY_S: u64 = 86_400;
const CLIENTS: u64 = 5_000;
/// Sessions that go on side by side; each is one client loading one page.
const SESSIONS: usize = 24;
/// One broken line among so many good ones.
const BROKEN_ONE_IN: u64 = 5_000;
/// Bytes made at a time.
const BATCH: usize = 32 << 10;

/// How busy each hour is.
const HOURS: [u64; 24] = [
    30, 22, 16, 13, 12, 15, 24, 40, 62, 80, 92, 97, 95, 94, 96, 98, 100, 99, 97, 100, 98, 85, 64, 44,
];
const PAGES: [&str; 10] = [
    "/",
    "/products",
    "/products/42?ref=home",
    "/search?q=limits",
    "/cart",
    "/blog/2026/tokens",
    "/docs/start",
    "/about",
    "/account",
    "/feed.xml",
];
const PARTS: [&str; 8] = [
    "/static/app.js",
    "/static/app.css",
    "/img/logo.svg",
    "/img/hero.webp",
    "/api/v1/session",
    "/api/v1/cart",
    "/fonts/text.woff2",
    "/favicon.ico",
];
const AGENTS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "ShopApp/4.2 (Android 16)",
    "curl/8.17.0",
];

/// A client that asks too much: `percent` of all requests, in `length_s` seconds from `start_s` of every `period_s`.
struct Abuser {
    ip: &'static str,
    request: &'static str,
    status: u16,
    agent: &'static str,
    percent: u64,
    period_s: u64,
    start_s: u64,
    length_s: u64,
}

const ABUSERS: [Abuser; 4] = [
    // Scrapes the shop for three and a half hours of the night.
    Abuser {
        ip: "203.0.113.7",
        request: "GET /products?page=next",
        status: 200,
        agent: "python-requests/2.32",
        percent: 8,
        period_s: DAY_S,
        start_s: 11_400,
        length_s: 12_600,
    },
    // Tries passwords for half an hour.
    Abuser {
        ip: "203.0.113.66",
        request: "POST /login",
        status: 401,
        agent: "Mozilla/5.0",
        percent: 3,
        period_s: DAY_S,
        start_s: 50_520,
        length_s: 1_800,
    },
    // Floods for three minutes.
    Abuser {
        ip: "2001:db8:bad::1",
        request: "GET /search?q=%27%20OR%201=1",
        status: 200,
        agent: "-",
        percent: 2,
        period_s: DAY_S,
        start_s: 72_900,
        length_s: 180,
    },
    // Wakes up at every full hour and fetches all it can in twenty seconds.
    Abuser {
        ip: "198.51.100.23",
        request: "GET /api/v1/export",
        status: 200,
        agent: "nightly-job/1.0",
        percent: 1,
        period_s: 3_600,
        start_s: 0,
        length_s: 20,
    },
];

impl Abuser {
    /// How many of its `total` requests are behind it at the end of second `second` of the day.
    fn done(&self, total: u64, second: u64) -> u64 {
        let periods = second / self.period_s;
        let active_s = periods * self.length_s
            + (second % self.period_s + 1)
                .saturating_sub(self.start_s)
                .min(self.length_s);
        portion(total, active_s, DAY_S / self.period_s * self.length_s)
    }
}

/// `total * part / whole`, whatever the size of `total`.
fn portion(total: u64, part: u64, whole: u64) -> u64 {
    (u128::from(total) * u128::from(part) / u128::from(whole)) as u64
}

#[derive(Clone, Copy, Default)]
struct Session {
    client: u64,
    page: usize,
    left: u64,
}

/// The log, as something to read from.
pub struct Sample {
    random: Random,
    /// Sums of how busy the minutes up to each one are.
    minutes: Vec<u64>,
    /// Sums of how busy the clients up to each one are.
    clients: Vec<u64>,
    totals: [u64; ABUSERS.len()],
    ordinary: u64,
    sessions: [Session; SESSIONS],
    second: u64,
    /// Requests still to be made in this second: of ordinary clients, then of each abuser.
    due: [u64; ABUSERS.len() + 1],
    batch: Vec<u8>,
    taken: usize,
}

impl Sample {
    /// The log of `config`.
    #[must_use]
    pub fn new(config: &SampleConfig) -> Self {
        let mut random = Random(config.seed);
        let busy = |minute: u64| {
            let (hour, past) = ((minute / 60) as usize, minute % 60);
            HOURS[hour] * (60 - past) + HOURS[(hour + 1) % 24] * past
        };
        let minutes = sums((0..DAY_S / 60).map(|minute| busy(minute) * random.between(80, 120)));
        // Zipf's law, flattened at the top: the busiest client is one in sixty, not one in nine.
        let clients = sums((0..CLIENTS).map(|rank| 1_000_000_000 / (rank + 10)));
        let totals = ABUSERS.map(|abuser| portion(config.requests, abuser.percent, 100));
        Sample {
            random,
            minutes,
            clients,
            ordinary: config.requests - totals.iter().sum::<u64>(),
            totals,
            sessions: [Session::default(); SESSIONS],
            second: 0,
            due: [0; ABUSERS.len() + 1],
            batch: Vec::new(),
            taken: 0,
        }
        .with_due()
    }

    fn with_due(mut self) -> Self {
        self.count_due();
        self
    }

    /// Ordinary requests that are behind us at the end of a second of the day.
    fn ordinary_done(&self, second: u64) -> u64 {
        let (minute, past) = ((second / 60) as usize, second % 60 + 1);
        let before = if minute == 0 { 0 } else { self.minutes[minute - 1] };
        let whole = self.minutes[self.minutes.len() - 1];
        portion(
            self.ordinary,
            before * 60 + (self.minutes[minute] - before) * past,
            whole * 60,
        )
    }

    fn count_due(&mut self) {
        let done = |sample: &Sample, second: u64| {
            let mut done = [sample.ordinary_done(second); ABUSERS.len() + 1];
            for (index, abuser) in ABUSERS.iter().enumerate() {
                done[index + 1] = abuser.done(sample.totals[index], second);
            }
            done
        };
        let now = done(self, self.second);
        let before = self
            .second
            .checked_sub(1)
            .map_or([0; ABUSERS.len() + 1], |second| done(self, second));
        self.due = std::array::from_fn(|index| now[index] - before[index]);
    }

    /// Fills the batch with the next lines; leaves it empty at the end of the day.
    fn refill(&mut self) {
        self.batch.clear();
        self.taken = 0;
        while self.batch.len() < BATCH && self.second < DAY_S {
            let due: u64 = self.due.iter().sum();
            if due == 0 {
                self.second += 1;
                if self.second < DAY_S {
                    self.count_due();
                }
                continue;
            }
            let mut pick = self.random.below(due);
            let who = self.due.iter().position(|&count| {
                let here = pick < count;
                pick = pick.saturating_sub(count);
                here
            });
            let who = who.unwrap_or(0);
            self.due[who] -= 1;
            self.line(who);
        }
    }

    /// Writes one line of ordinary traffic (`who` is 0) or of an abuser.
    fn line(&mut self, who: usize) {
        if self.random.below(BROKEN_ONE_IN) == 0 {
            self.broken();
        }
        // A line is written when the answer is sent, but stamped with when the request came.
        let took_s = match self.random.below(100) {
            0..70 => 0,
            70..95 => self.random.between(1, 2),
            _ => self.random.between(3, 8),
        };
        let time = Utc::from_ns((DAY_START_S + self.second.saturating_sub(took_s)) * SECOND_NS).log();
        let size = self.random.between(180, 60_000);
        let written = match who.checked_sub(1).map(|index| &ABUSERS[index]) {
            Some(abuser) => {
                let Abuser {
                    ip,
                    request,
                    status,
                    agent,
                    ..
                } = abuser;
                writeln!(
                    self.batch,
                    "{ip} - - [{time}] \"{request} HTTP/1.1\" {status} {size} \"-\" \"{agent}\""
                )
            }
            None => {
                let (client, path, referer) = self.browse();
                let agent = AGENTS[(client * 7 % 23 % 5) as usize];
                let status = match self.random.below(1000) {
                    0..900 => 200,
                    900..960 => 304,
                    960..990 => 404,
                    990..997 => 301,
                    _ => 500,
                };
                let ip = address(client);
                writeln!(
                    self.batch,
                    "{ip} - - [{time}] \"GET {path} HTTP/1.1\" {status} {size} \"{referer}\" \"{agent}\""
                )
            }
        };
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
    }

    /// The next request of one of the sessions: who, what, and from which page.
    fn browse(&mut self) -> (u64, &'static str, String) {
        let slot = self.random.below(SESSIONS as u64) as usize;
        if self.sessions[slot].left > 0 {
            self.sessions[slot].left -= 1;
            let Session { client, page, .. } = self.sessions[slot];
            let part = PARTS[self.random.below(PARTS.len() as u64) as usize];
            return (client, part, format!("https://shop.example{}", PAGES[page]));
        }
        let busy = self.random.below(self.clients[self.clients.len() - 1]);
        let client = self.clients.partition_point(|&sum| sum <= busy) as u64;
        // Two draws, the lower one: early pages are asked for more often.
        let page = self
            .random
            .below(PAGES.len() as u64)
            .min(self.random.below(PAGES.len() as u64)) as usize;
        let left = if self.random.below(3) == 0 {
            self.random.between(3, 14)
        } else {
            0
        };
        self.sessions[slot] = Session { client, page, left };
        (client, PAGES[page], "-".to_owned())
    }

    fn broken(&mut self) {
        let text: &[u8] = match self.random.below(4) {
            0 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            1 => b"10.3.2.1 - - [02/Mar/2026:10:0",
            2 => b"10.9.8.7 - - [02/Mrz/2026:11:12:13 +0000] \"GET / HTTP/1.1\" 200 512 \"-\" \"-\"",
            _ => b"logrotate: copying new log",
        };
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
    }
}

impl Read for Sample {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.batch.len() {
            self.refill();
        }
        let count = (&self.batch[self.taken..]).read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

/// The address of a client: every sixth has IPv6. Multiplying by an odd number shuffles the rest without meeting twice.
fn address(client: u64) -> String {
    if client % 6 == 5 {
        return format!("2001:db8:{:x}::{:x}", client / 16, client * 40_503 % 65_536);
    }
    let shuffled = (client + 1) * 10_368_889 % (1 << 24);
    format!("10.{}.{}.{}", shuffled >> 16, shuffled >> 8 & 255, shuffled & 255)
}

fn sums(values: impl Iterator<Item = u64>) -> Vec<u64> {
    values
        .scan(0, |sum, value| {
            *sum += value;
            Some(*sum)
        })
        .collect()
}

/// SplitMix64: small, good enough for made-up traffic, and the same for ever, which a library would not promise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::line::Line;

    fn log(seed: u64, requests: u64) -> Vec<u8> {
        let mut text = Vec::new();
        Sample::new(&SampleConfig { seed, requests })
            .read_to_end(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn one_seed_gives_one_log() {
        assert!(log(7, 3_000) == log(7, 3_000));
        assert!(log(7, 3_000) != log(8, 3_000));
    }

    #[test]
    fn exactly_as_many_requests_as_asked_for_within_the_day() {
        for requests in [0, 1, 99, 20_000] {
            let text = log(1, requests);
            let times: Vec<_> = text
                .split(|byte| *byte == b'\n')
                .filter_map(|line| Line::parse(line).ok())
                .map(|line| line.time_ns)
                .collect();
            assert_eq!(times.len() as u64, requests);
            let day = DAY_START_S * SECOND_NS..(DAY_START_S + DAY_S) * SECOND_NS;
            assert!(times.iter().all(|time_ns| day.contains(time_ns)));
        }
    }

    #[test]
    fn it_is_like_real_traffic() {
        let text = log(1, 50_000);
        let lines: Vec<_> = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        let good: Vec<_> = lines.iter().filter_map(|line| Line::parse(line).ok()).collect();
        assert!(lines.len() > good.len(), "some lines are broken");
        assert!(
            !good.is_sorted_by_key(|line| line.time_ns),
            "some lines are out of order"
        );
        let at_hour = |hour| {
            good.iter()
                .filter(|line| (line.time_ns / SECOND_NS - DAY_START_S) / 3600 == hour)
                .count()
        };
        assert!(
            at_hour(16) > 3 * at_hour(2),
            "the night is quiet: {} and {}",
            at_hour(16),
            at_hour(2)
        );
        let of = |ip: &[u8]| good.iter().filter(|line| line.ip == ip).count();
        assert_eq!(of(b"203.0.113.7"), 4_000);
        assert_eq!(of(b"203.0.113.66"), 1_500);
    }
}
