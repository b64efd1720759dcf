//! The shared test data in `vectors/`, run twice: by the crate, and by the oracle that knows nothing of it. So the data are
//! not what the crate happened to answer, and every other language is held to the same.

mod oracle;

use std::collections::HashMap;
use std::time::Duration;
use std::{fs, path::PathBuf};

use oracle::{Answer, Bucket, Rule};
use ratelimit_model::time::wrap;
use ratelimit_model::{Decision, Gcra, Limit, LimitError, Verdict};
use serde_json::{Map, Value};

/// An object whose fields are taken out one by one; one that nobody asked for is an error.
struct Object {
    fields: Map<String, Value>,
    place: String,
}

impl Object {
    fn new(value: Value, place: &str) -> Object {
        match value {
            Value::Object(fields) => Object {
                fields,
                place: place.to_owned(),
            },
            other => panic!("{place}: {other} is not an object"),
        }
    }

    fn field(&mut self, name: &str) -> Value {
        self.fields
            .remove(name)
            .unwrap_or_else(|| panic!("{}: there is no field \"{name}\"", self.place))
    }

    fn text(&mut self, name: &str) -> String {
        match self.field(name) {
            Value::String(text) => text,
            other => panic!("{}: \"{name}\" is {other}, which is not a text", self.place),
        }
    }

    fn list(&mut self, name: &str) -> Vec<Object> {
        let place = format!("{} {name}", self.place);
        match self.field(name) {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| Object::new(item, &format!("{place} {index}")))
                .collect(),
            other => panic!("{place} is {other}, which is not a list"),
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        self.field(name)
            .as_bool()
            .unwrap_or_else(|| panic!("{}: \"{name}\" is not true or false", self.place))
    }

    /// An integer, as a text if it is above 2^53: many a JSON reader keeps numbers as doubles.
    fn number(&mut self, name: &str) -> u64 {
        match self.field(name) {
            Value::String(text) => {
                let number = text
                    .parse()
                    .unwrap_or_else(|_| panic!("{}: \"{name}\" is {text}", self.place));
                assert!(
                    number > 1 << 53,
                    "{}: \"{name}\" fits a number and should be one",
                    self.place
                );
                number
            }
            other => {
                let number = other
                    .as_u64()
                    .unwrap_or_else(|| panic!("{}: \"{name}\" is {other}", self.place));
                assert!(
                    number <= 1 << 53,
                    "{}: \"{name}\" must be a text, since it is above 2^53",
                    self.place
                );
                number
            }
        }
    }

    fn done(self) {
        let unknown: Vec<_> = self.fields.keys().collect();
        assert!(unknown.is_empty(), "{}: nobody reads {unknown:?}", self.place);
    }
}

/// All limits of one case, and each key's states.
struct Keys {
    limits: Vec<(Limit, Gcra, Rule)>,
    states: HashMap<String, Vec<u64>>,
    buckets: HashMap<String, Vec<Bucket>>,
}

fn answer(decision: &Decision) -> (bool, u64, u64, Option<u64>, u64) {
    let ns = |duration: Duration| duration.as_nanos() as u64;
    let retry = (decision.retry_after != Decision::NEVER).then(|| ns(decision.retry_after));
    (
        decision.allowed,
        decision.limit,
        decision.remaining,
        retry,
        ns(decision.reset_after),
    )
}

impl Keys {
    fn new(texts: &[String]) -> Keys {
        let limits = texts.iter().map(|text| {
            let limit: Limit = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let burst = text.contains("burst").then(|| limit.capacity());
            let rule = Rule::new(limit.rate_limit(), limit.window().as_nanos(), burst, limit.is_strict());
            let gcra = Gcra::new(&limit).expect("a parsed limit is valid");
            (limit, gcra, rule.with_documented_rounding(limit.is_strict()))
        });
        Keys {
            limits: limits.collect(),
            states: HashMap::new(),
            buckets: HashMap::new(),
        }
    }

    fn decide(&mut self, key: &str, cost: u64, now_ns: u64, charge: bool) -> Decision {
        let now = wrap(Duration::from_nanos(now_ns));
        let before = self
            .states
            .get(key)
            .cloned()
            .unwrap_or_else(|| vec![now; self.limits.len()]);
        let mut tats = before.clone();
        let verdicts: Vec<_> = tats
            .iter()
            .zip(&self.limits)
            .map(|(tat, (_, gcra, _))| gcra.decide(*tat, now, cost))
            .collect();
        let allowed = !verdicts.contains(&Verdict::Deny);
        let mut told: Option<Decision> = None;
        for ((tat, verdict), (_, gcra, _)) in tats.iter_mut().zip(verdicts).zip(&self.limits) {
            match verdict {
                Verdict::Allow(new) if allowed && charge => *tat = new,
                Verdict::Deny if charge && gcra.is_stepped(*tat, now) => *tat = gcra.full(now),
                _ => {}
            }
            let decision = gcra.decision(verdict != Verdict::Deny, *tat, now, cost);
            if told.is_none_or(|told| decision.binds_more_than(&told)) {
                told = Some(decision);
            }
        }
        // A key that was not charged has not been seen.
        if tats != before {
            self.states.insert(key.to_owned(), tats);
        }
        told.expect("a case has a limit")
    }

    /// What the oracle says to the same call: the binding one by the words of the documentation.
    fn expect(&mut self, key: &str, cost: u64, now_ns: u64, charge: bool) -> (bool, u64, u64, Option<u64>, u64) {
        let now = i128::from(now_ns);
        let buckets = self
            .buckets
            .entry(key.to_owned())
            .or_insert_with(|| vec![Bucket::default(); self.limits.len()]);
        let rules = self.limits.iter().map(|(_, _, rule)| rule);
        let asked: Vec<Answer> = rules
            .clone()
            .zip(&*buckets)
            .map(|(rule, bucket)| rule.peek(*bucket, now, cost))
            .collect();
        let allowed = asked.iter().all(|answer| answer.allowed);
        let mut binding = Vec::new();
        for ((rule, bucket), mut answer) in rules.zip(buckets).zip(asked) {
            if charge && allowed {
                answer = rule.check(bucket, now, cost);
            } else if charge && !answer.allowed {
                rule.settle(bucket, now);
            }
            if answer.allowed == allowed {
                let whole = |parts: i128| u64::try_from(parts.div_euclid(rule.tokens)).expect("a time");
                assert!(
                    answer.reset % rule.tokens == 0,
                    "the answers to {rule:?} are no whole nanoseconds"
                );
                let told = (
                    allowed,
                    rule.burst as u64,
                    answer.remaining as u64,
                    if allowed { Some(0) } else { answer.retry.map(whole) },
                    whole(answer.reset),
                );
                binding.push(told);
            }
        }
        let longest = |retry: Option<u64>| retry.unwrap_or(u64::MAX);
        let told = if allowed {
            binding
                .into_iter()
                .min_by_key(|&(_, _, remaining, _, reset)| (remaining, u64::MAX - reset))
        } else {
            binding
                .into_iter()
                .max_by_key(|&(_, _, _, retry, reset)| (longest(retry), reset))
        };
        told.expect("a case has a limit")
    }

    fn refund(&mut self, key: &str, cost: u64, now_ns: u64) {
        let now = wrap(Duration::from_nanos(now_ns));
        for (tat, (_, gcra, _)) in self.states.get_mut(key).into_iter().flatten().zip(&self.limits) {
            *tat = gcra.refund(*tat, now, cost);
        }
        for (bucket, (_, _, rule)) in self.buckets.get_mut(key).into_iter().flatten().zip(&self.limits) {
            rule.refund(bucket, i128::from(now_ns), cost);
        }
    }
}

/// Files of calls with an answer each.
fn run_calls(mut file: Object) -> usize {
    let mut calls_run = 0;
    for mut case in file.list("cases") {
        let (name, why) = (case.text("name"), case.text("why"));
        assert!(!why.is_empty());
        let place = format!("{}, \"{name}\"", case.place);
        let texts: Vec<String> = match case.field("limit") {
            Value::String(text) => vec![text],
            Value::Array(texts) => texts
                .iter()
                .map(|text| text.as_str().expect("a limit is a text").to_owned())
                .collect(),
            other => panic!("{place}: the limit is {other}"),
        };
        let mut keys = Keys::new(&texts);
        for (index, mut call) in case.list("calls").into_iter().enumerate() {
            let place = format!("{place}, call {index}");
            let (op, key, now_ns) = (call.text("op"), call.text("key"), call.number("now_ns"));
            calls_run += 1;
            match op.as_str() {
                "check" | "peek" => {
                    let cost = call.number("cost");
                    let mut expected = Object::new(call.field("expected"), &place);
                    let got = answer(&keys.decide(&key, cost, now_ns, op == "check"));
                    let exact = keys.expect(&key, cost, now_ns, op == "check");
                    // An empty object promises nothing about this answer.
                    if !expected.fields.is_empty() {
                        let allowed = expected.flag("allowed");
                        let (limit, remaining) = (expected.number("limit"), expected.number("remaining"));
                        let retry = if expected.fields["retry_after_ns"] == "never" {
                            expected.field("retry_after_ns");
                            None
                        } else {
                            Some(expected.number("retry_after_ns"))
                        };
                        let expected_answer = (allowed, limit, remaining, retry, expected.number("reset_after_ns"));
                        assert_eq!(
                            exact, expected_answer,
                            "{place}: the data differ from exact arithmetic (left)"
                        );
                        assert_eq!(got, expected_answer, "{place}: the crate (left) differs from the data");
                    }
                    expected.done();
                }
                "refund" => keys.refund(&key, call.number("cost"), now_ns),
                "reset" => {
                    keys.states.remove(&key);
                    keys.buckets.remove(&key);
                }
                other => panic!("{place}: there is no operation \"{other}\""),
            }
            call.done();
        }
        case.done();
    }
    file.done();
    calls_run
}

/// Files of long series with the number of those allowed.
fn run_polls(mut file: Object) -> usize {
    let mut calls_run = 0;
    for mut poll in file.list("polls") {
        let (name, text) = (poll.text("name"), poll.text("limit"));
        let mut keys = Keys::new(&[text]);
        let rule = keys.limits[0].2;
        let (start_ns, every_ns, calls) = (poll.number("start_ns"), poll.number("every_ns"), poll.number("calls"));
        let (cost, min, max) = (
            poll.number("cost"),
            poll.number("allowed_min"),
            poll.number("allowed_max"),
        );
        poll.done();
        let mut bucket = Bucket::default();
        let (mut allowed, mut exact) = (0, 0);
        for index in 0..calls {
            let now_ns = start_ns + index * every_ns;
            allowed += u64::from(keys.decide("a", cost, now_ns, true).allowed);
            exact += u64::from(rule.check(&mut bucket, i128::from(now_ns), cost).allowed);
        }
        assert!(
            (min..=max).contains(&exact),
            "{name}: exactly {exact} fit, which is not in {min}..={max}"
        );
        assert!(
            (min..=max).contains(&allowed),
            "{name}: {allowed} were allowed, which is not in {min}..={max}"
        );
        // A part in a thousand and the ends: a wider range would prove nothing.
        assert!(max - min <= 3 + exact / 400, "{name}: {min}..={max} is too wide");
        calls_run += calls as usize;
    }
    file.done();
    calls_run
}

/// Limit texts and what they mean.
fn run_texts(mut file: Object) -> usize {
    let (accepted, refused) = (file.list("accepted"), file.list("refused"));
    let count = accepted.len() + refused.len();
    for mut entry in accepted {
        let text = entry.text("text");
        let limit: Limit = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(limit.rate_limit(), entry.number("rate_limit"), "{text:?}");
        assert_eq!(
            limit.window(),
            Duration::from_nanos(entry.number("window_ns")),
            "{text:?}"
        );
        assert_eq!(limit.capacity(), entry.number("burst"), "{text:?}");
        assert_eq!(limit.is_strict(), entry.flag("strict"), "{text:?}");
        let canonical = entry.text("canonical");
        assert_eq!(limit.to_string(), canonical, "{text:?}");
        assert_eq!(canonical.parse(), Ok(limit), "{text:?}");
        entry.done();
    }
    for mut entry in refused {
        let (text, why) = (entry.text("text"), entry.text("why"));
        let error = text.parse::<Limit>().expect_err(&format!("{text:?}: {why}"));
        let kind = match error {
            LimitError::Text { .. } => "text",
            LimitError::ZeroRate => "zero_rate",
            LimitError::ZeroWindow => "zero_window",
            LimitError::ZeroBurst => "zero_burst",
            LimitError::RateTooHigh { .. } => "rate_too_high",
            LimitError::TooLong { .. } => "too_long",
            LimitError::StrictBurst { .. } => "strict_burst",
            other => panic!("{text:?} gave {other:?}, which has no name here"),
        };
        assert_eq!(kind, entry.text("kind"), "{text:?}: {why}");
        entry.done();
    }
    file.done();
    count
}

#[test]
fn all_shared_vectors_hold() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors");
    let mut seen = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder vectors/ lies beside the crate") {
        let path = entry.expect("a folder that can be read").path();
        let name = path
            .file_name()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        // Addresses are nothing that a model knows of.
        if name == "README.md" || name == "client_ip.json" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut file = Object::new(value, &name);
        assert!(!file.text("about").is_empty());
        let count = match name.as_str() {
            "gcra.json" | "strict.json" | "several.json" | "clock.json" => run_calls(file),
            "rates.json" => run_polls(file),
            "text.json" => run_texts(file),
            _ => panic!("vectors/{name} has no reader here"),
        };
        assert!(count > 30, "{name} has only {count} entries");
        seen.push(name);
    }
    seen.sort();
    let expected = [
        "clock.json",
        "gcra.json",
        "rates.json",
        "several.json",
        "strict.json",
        "text.json",
    ];
    assert_eq!(seen, expected, "a file is missing");
}
