//! `ratelimit replay` agrees with an exact rational GCRA over time-sorted lines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use common::oracle::Oracle;
use common::real_log;
use ratelimit_server::replay::engine::Decider;
use ratelimit_server::replay::line::Line;
use ratelimit_server::replay::sample::{Sample, SampleConfig};

const SECOND_NS: u128 = 1_000_000_000;

/// Each limit as text, and again as the numbers that the text means: the oracle must not learn them from the parser.
fn cases() -> Vec<(&'static str, Oracle)> {
    let minute = 60 * SECOND_NS;
    let hour = 60 * minute;
    let day = 24 * hour;
    vec![
        ("1/s", Oracle::new(1, SECOND_NS, 1)),
        ("3/s", Oracle::new(3, SECOND_NS, 3)),
        ("10/s", Oracle::new(10, SECOND_NS, 10)),
        ("5/10s", Oracle::new(5, 10 * SECOND_NS, 5)),
        ("7/minute", Oracle::new(7, minute, 7)), // No whole number of nanoseconds between two requests.
        ("10/minute", Oracle::new(10, minute, 10)),
        ("11/minute", Oracle::new(11, minute, 11)),
        ("60/minute", Oracle::new(60, minute, 60)),
        ("13/7s", Oracle::new(13, 7 * SECOND_NS, 13)),
        ("100/minute burst 20", Oracle::new(100, minute, 20)),
        ("7/minute burst 23", Oracle::new(7, minute, 23)),
        ("10/minute burst 1", Oracle::new(10, minute, 1)),
        ("1/minute", Oracle::new(1, minute, 1)),
        ("97/hour", Oracle::new(97, hour, 97)),
        ("1000/day", Oracle::new(1000, day, 1000)),
        ("17/day burst 3", Oracle::new(17, day, 3)),
        ("1/10s strict", Oracle::strict(1, 10 * SECOND_NS, None)),
        ("2/s strict", Oracle::strict(2, SECOND_NS, None)),
        ("10/minute strict", Oracle::strict(10, minute, None)),
        ("30/minute strict", Oracle::strict(30, minute, None)),
        ("100/minute burst 37 strict", Oracle::strict(100, minute, Some(37))),
        ("500/hour strict", Oracle::strict(500, hour, None)),
    ]
}

/// Time and client of every request, by time; equal times by place.
fn sorted(log: &[u8]) -> Vec<(u64, &[u8])> {
    let lines = log
        .split(|byte| *byte == b'\n')
        .filter_map(|line| Line::parse(line).ok());
    let mut requests: Vec<_> = lines.map(|line| (line.time_ns, line.ip)).collect();
    requests.sort_by_key(|(time_ns, _)| *time_ns); // Stable.
    requests
}

/// A client's debt goes along when the limiter's generation changes, whatever share of the burst it is: every 2^54 ns.
#[test]
fn debt_goes_along_with_the_generation() {
    let border_ns = 80_u64 << 54;
    for (text, mut oracle) in cases() {
        let mut engine = Decider::new(text.parse().unwrap()).unwrap();
        // Fifty clients at every pace from 1/8 s to 3 min, up to an hour before and after; times are whole eighths of a second.
        let mut requests: Vec<(u64, u64)> = (1..=50_u64)
            .flat_map(|client| {
                let step_ns = 125_000_000 * (client * client * client / 90 + 1);
                let start_ns = (border_ns - 3_600_000_000_000) / 125_000_000 * 125_000_000;
                (0..400).map(move |place| (start_ns + place * step_ns, client))
            })
            .filter(|(time_ns, _)| *time_ns < border_ns + 3_600_000_000_000)
            .collect();
        requests.sort_unstable();
        assert!(requests.iter().any(|(time_ns, _)| *time_ns > border_ns));
        for (time_ns, client) in requests {
            let expected = oracle.allows(&client.to_le_bytes(), time_ns.into());
            let decided = engine
                .allows(&client.to_le_bytes(), Duration::from_nanos(time_ns))
                .unwrap();
            assert_eq!(decided, expected, "{text}: client {client} at {time_ns} ns");
        }
    }
}

/// The promise of strict limits, counted by hand: no window of that length sees more than the rate.
#[test]
fn strict_holds_in_any_window_of_the_sample() {
    let log = sample(4, 40_000);
    for (text, rate, window_s) in [
        ("10/minute strict", 10, 60),
        ("30/minute strict", 30, 60),
        ("7/13s strict", 7, 13),
    ] {
        let mut engine = Decider::new(text.parse().unwrap()).unwrap();
        let mut allowed: HashMap<&[u8], Vec<u64>> = HashMap::new();
        for (time_ns, ip) in sorted(&log) {
            if engine.allows(ip, Duration::from_nanos(time_ns)).unwrap() {
                allowed.entry(ip).or_default().push(time_ns);
            }
        }
        let mut full = 0;
        for times in allowed.values() {
            for pair in times.windows(rate + 1) {
                assert!(pair[rate] - pair[0] >= window_s * 1_000_000_000, "{text}");
                full += 1;
            }
        }
        assert!(full > 100, "{text} was hardly put to the test");
    }
}

/// What rounding an interval up costs a client of a strict limit: next to nothing, and never the promise.
#[test]
fn strict_rounding_is_rare_on_whole_seconds() {
    let log = sample(1, 60_000);
    let requests = sorted(&log);
    for (text, rate, burst) in [("30/minute strict", 30, 3), ("100/minute burst 37 strict", 100, 37)] {
        let mut exact = Oracle::new(rate - burst, 60 * SECOND_NS, burst);
        let mut engine = Decider::new(text.parse().unwrap()).unwrap();
        // Which request of two is denied can change; how many are, hardly.
        let (mut by_exact, mut by_engine) = (0_u64, 0_u64);
        for &(time_ns, ip) in &requests {
            by_exact += u64::from(exact.allows(ip, time_ns.into()));
            by_engine += u64::from(engine.allows(ip, Duration::from_nanos(time_ns)).unwrap());
        }
        let most = requests.len() as u64 / 1_000;
        assert!(
            by_exact.abs_diff(by_engine) <= most,
            "{text}: exactly {by_exact}, by the engine {by_engine}"
        );
    }
}

/// Each single decision agrees, so that two errors cannot hide behind one sum.
fn decisions_agree(log: &[u8]) {
    let requests = sorted(log);
    assert!(!requests.is_empty());
    for (text, mut oracle) in cases() {
        let mut engine = Decider::new(text.parse().unwrap()).unwrap();
        for (place, &(time_ns, ip)) in requests.iter().enumerate() {
            let expected = oracle.allows(ip, time_ns.into());
            let decided = engine.allows(ip, Duration::from_nanos(time_ns)).unwrap();
            let ip = String::from_utf8_lossy(ip);
            assert_eq!(decided, expected, "{text}: request {place} of {ip} at {time_ns} ns");
        }
    }
}

/// What the command reports agrees: allowed, denied, and whom it names.
fn report_agrees(log: &[u8], args: &[&str]) {
    let requests = sorted(log);
    let mut cases = cases();
    let mut all = vec!["--json", "--top", "3"];
    all.extend_from_slice(args);
    for (text, _) in &cases {
        all.extend_from_slice(&["--limit", text]);
    }
    let report = common::json(&common::replay(&all));
    assert_eq!(report["requests"], requests.len());
    let found = report["limits"].as_array().unwrap();
    assert_eq!(found.len(), cases.len());
    for ((text, oracle), found) in cases.iter_mut().zip(found) {
        let mut denied: HashMap<&[u8], u64> = HashMap::new();
        for &(time_ns, ip) in &requests {
            if !oracle.allows(ip, time_ns.into()) {
                *denied.entry(ip).or_default() += 1;
            }
        }
        let sum: u64 = denied.values().sum();
        assert_eq!(found["denied"], sum, "{text}");
        assert_eq!(found["allowed"], requests.len() as u64 - sum, "{text}");
        assert_eq!(found["clients_denied"], denied.len(), "{text}");
        let mut top: Vec<_> = denied.into_iter().collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        top.truncate(3);
        for ((ip, count), found) in top.iter().zip(found["top"].as_array().unwrap()) {
            assert_eq!(found["client"], *String::from_utf8_lossy(ip), "{text}");
            assert_eq!(found["denied"], *count, "{text}");
        }
    }
}

fn sample(seed: u64, requests: u64) -> Vec<u8> {
    let mut log = Vec::new();
    Sample::new(&SampleConfig { seed, requests })
        .read_to_end(&mut log)
        .unwrap();
    log
}

#[test]
fn the_sample_is_decided_exactly() {
    for seed in [1, 2] {
        decisions_agree(&sample(seed, 20_000));
    }
    report_agrees(&sample(1, 20_000), &["--sample", "--sample-requests", "20000"]);
    report_agrees(
        &sample(5, 50_000),
        &[
            "--sample",
            "--sample-requests",
            "50000",
            "--seed",
            "5",
            "--sort-memory",
            "1",
        ],
    );
}

#[test]
fn a_real_log_is_decided_exactly() {
    let Some(path) = real_log() else { return };
    let log = std::fs::read(&path).unwrap();
    decisions_agree(&log);
    report_agrees(&log, &[&path]);
}

/// Archives span years: a client that comes back after any pause, up to the longest a clock in the engine can wrap around,
/// must be met as if it were new.
#[test]
fn a_client_can_come_back_after_years() {
    for (text, mut oracle) in cases() {
        let mut engine = Decider::new(text.parse().unwrap()).unwrap();
        let mut now_ns: u64 = 1_000_000_000 * 86_400 * 365 * 20;
        for pause_days in [
            0, 100, 200, 300, 417, 418, 500, 600, 700, 833, 834, 835, 1_000, 1_251, 1_600, 1_668, 1_669, 2_100,
        ] {
            now_ns += pause_days * 86_400 * 1_000_000_000;
            for repeat in 0..40 {
                let expected = oracle.allows(b"client", now_ns.into());
                let decided = engine.allows(b"client", Duration::from_nanos(now_ns)).unwrap();
                assert_eq!(decided, expected, "{text}: request {repeat} after {pause_days} days");
            }
        }
    }
}
