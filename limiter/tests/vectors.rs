//! The shared test data in `vectors/`, through the public interface: the same files that every other language runs. See
//! `vectors/README.md` for their shape.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;
use std::{fs, path::PathBuf};

use ratelimit::client_ip::TrustedProxies;
use ratelimit::{Clock, Decision, Limit, LimitError, Limiter};
use serde_json::Value;

/// A number: an integer, or a text of digits above 2^53.
fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        _ => value.as_u64().unwrap_or_else(|| panic!("{value} is no number")),
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    let value = &object[field];
    value
        .as_str()
        .unwrap_or_else(|| panic!("{object} has no text \"{field}\""))
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    let value = &object[field];
    value
        .as_array()
        .unwrap_or_else(|| panic!("there is no list \"{field}\""))
}

fn limiter(limit: &Value) -> Limiter {
    let texts = match limit {
        Value::Array(texts) => texts.as_slice(),
        one => std::slice::from_ref(one),
    };
    // Given times only: the own clock is not to matter.
    let mut builder = Limiter::builder().clock(Clock::manual().0);
    for text in texts {
        builder = builder.limit(text.as_str().unwrap().parse().unwrap());
    }
    builder.build().unwrap()
}

fn time(object: &Value, field: &str) -> Duration {
    Duration::from_nanos(number(&object[field]))
}

fn run_cases(file: &Value) -> usize {
    let mut run = 0;
    for case in list(file, "cases") {
        let limiter = limiter(&case["limit"]);
        for (index, call) in list(case, "calls").iter().enumerate() {
            let place = format!("\"{}\", call {index}: {call}", text(case, "name"));
            let (key, now) = (text(call, "key"), time(call, "now_ns"));
            run += 1;
            let decision = match text(call, "op") {
                "check" => limiter.check_at(key, number(&call["cost"]), now),
                "peek" => limiter.peek_at(key, number(&call["cost"]), now),
                "refund" => {
                    limiter.refund_at(key, number(&call["cost"]), now);
                    continue;
                }
                "reset" => {
                    limiter.reset_at(key, now);
                    continue;
                }
                other => panic!("{place}: there is no operation \"{other}\""),
            };
            let expected = &call["expected"];
            if expected.as_object().unwrap().is_empty() {
                continue;
            }
            assert_eq!(
                decision.allowed,
                expected["allowed"].as_bool().unwrap(),
                "{place}: {decision:?}"
            );
            assert_eq!(decision.limit, number(&expected["limit"]), "{place}: {decision:?}");
            assert_eq!(
                decision.remaining,
                number(&expected["remaining"]),
                "{place}: {decision:?}"
            );
            let retry_after = match &expected["retry_after_ns"] {
                Value::String(never) if never == "never" => Decision::NEVER,
                ns => Duration::from_nanos(number(ns)),
            };
            assert_eq!(decision.retry_after, retry_after, "{place}: {decision:?}");
            assert_eq!(
                decision.reset_after,
                time(expected, "reset_after_ns"),
                "{place}: {decision:?}"
            );
        }
    }
    run
}

fn run_polls(file: &Value) -> usize {
    let mut run = 0;
    for poll in list(file, "polls") {
        let limiter = limiter(&poll["limit"]);
        let (start, every, calls) = (
            time(poll, "start_ns"),
            number(&poll["every_ns"]),
            number(&poll["calls"]),
        );
        let cost = number(&poll["cost"]);
        let now = |call| start + Duration::from_nanos(every * call);
        let allowed = (0..calls)
            .filter(|call| limiter.check_at("a", cost, now(*call)).allowed)
            .count() as u64;
        let range = number(&poll["allowed_min"])..=number(&poll["allowed_max"]);
        assert!(
            range.contains(&allowed),
            "\"{}\": {allowed} is not in {range:?}",
            text(poll, "name")
        );
        run += calls as usize;
    }
    run
}

fn run_texts(file: &Value) -> usize {
    for accepted in list(file, "accepted") {
        let limit: Limit = text(accepted, "text").parse().unwrap();
        assert_eq!(limit.rate_limit(), number(&accepted["rate_limit"]), "{accepted}");
        assert_eq!(limit.window(), time(accepted, "window_ns"), "{accepted}");
        assert_eq!(limit.capacity(), number(&accepted["burst"]), "{accepted}");
        assert_eq!(Some(limit.is_strict()), accepted["strict"].as_bool(), "{accepted}");
        assert_eq!(limit.to_string(), text(accepted, "canonical"));
        assert_eq!(limit.to_string().parse(), Ok(limit));
        // What can be said can be put in force.
        let limiter = Limiter::builder().limit(limit).build().unwrap();
        assert_eq!(limiter.check("a").limit, limit.capacity());
    }
    for refused in list(file, "refused") {
        let error = text(refused, "text").parse::<Limit>().expect_err(&refused.to_string());
        let kind = match error {
            LimitError::Text { .. } => "text",
            LimitError::ZeroRate => "zero_rate",
            LimitError::ZeroWindow => "zero_window",
            LimitError::ZeroBurst => "zero_burst",
            LimitError::RateTooHigh { .. } => "rate_too_high",
            LimitError::TooLong { .. } => "too_long",
            LimitError::StrictBurst { .. } => "strict_burst",
            other => panic!("{other:?} has no name here"),
        };
        assert_eq!(kind, text(refused, "kind"), "{refused}");
    }
    list(file, "accepted").len() + list(file, "refused").len()
}

fn run_client_ips(file: &Value) -> usize {
    for one in list(file, "client_ips") {
        let mut proxies: TrustedProxies = text(one, "trusted").parse().unwrap();
        if let Some(header) = one["header"].as_str() {
            proxies = proxies.header(header).unwrap();
        }
        if let Some(bits) = one["ipv6_prefix"].as_u64() {
            proxies = proxies.ipv6_prefix(bits as u8).unwrap();
        }
        let values = list(one, "values").iter().map(|value| value.as_str().unwrap());
        assert_eq!(
            proxies.client_ip(text(one, "peer"), values).as_deref(),
            one["expected"].as_str(),
            "{one}"
        );
    }
    list(file, "client_ips").len()
}

/// Every file in `vectors/` gives what it says, in all five fields. A file that is not known here fails.
#[test]
fn all_shared_vectors_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let run = match name.as_str() {
            "gcra.json" | "strict.json" | "several.json" | "clock.json" => run_cases(&file),
            "rates.json" => run_polls(&file),
            "text.json" => run_texts(&file),
            "client_ip.json" => run_client_ips(&file),
            other => panic!("vectors/{other} has no reader here"),
        };
        assert!(run > 30, "{name} has {run} entries only");
        files += 1;
    }
    assert!(files >= 7, "{files} files only");
}
