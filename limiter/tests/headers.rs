//! Every header text, exactly; and what must hold of any decision.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::time::Duration;

use proptest::prelude::*;
use ratelimit::headers::{HeaderStyle, Headers, OVERRIDE_NAME, Policy, PolicyError, Reset, retry_after};
use ratelimit::{Decision, Limit, Limiter};

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

fn limiter(limits: &[&str]) -> Limiter {
    let builder = limits
        .iter()
        .fold(Limiter::builder(), |builder, text| builder.limit(limit(text)));
    builder.build().unwrap()
}

fn unnamed(limiter: &Limiter) -> Headers {
    Headers::unnamed(&limiter.limits()).unwrap()
}

/// The fields as lines, at a time of day of 1000.4 s.
fn lines(headers: &Headers, decision: &Decision) -> Vec<String> {
    let fields = headers.headers_at(decision, Duration::from_millis(1_000_400));
    fields.map(|(name, value)| format!("{name}: {value}")).collect()
}

const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn allowed() {
    let limiter = limiter(&["100/minute"]);
    assert_eq!(
        lines(&unnamed(&limiter), &limiter.check_at("a", 50, MS(0))),
        [
            r#"ratelimit-policy: "default";q=100;w=60"#,
            r#"ratelimit: "default";r=50;t=30"#
        ],
    );
}

#[test]
fn allowed_without_debt() {
    let limiter = limiter(&["100/minute"]);
    assert_eq!(
        lines(&unnamed(&limiter), &limiter.check_at("a", 0, MS(0))),
        [
            r#"ratelimit-policy: "default";q=100;w=60"#,
            r#"ratelimit: "default";r=100;t=0"#
        ],
    );
}

#[test]
fn denied_waits_are_rounded_up() {
    let limiter = limiter(&["2/5s"]);
    assert!(limiter.check_at("a", 2, MS(0)).allowed);
    for (now, text) in [
        (MS(0), "3"),
        (MS(499), "3"),
        (MS(500), "2"),
        (MS(1500), "1"),
        (MS(2499), "1"),
    ] {
        assert_eq!(
            lines(&unnamed(&limiter), &limiter.check_at("a", 1, now)),
            [
                String::from(r#"ratelimit-policy: "default";q=2;w=5"#),
                format!(r#"ratelimit: "default";r=0;t={text}"#),
                format!("retry-after: {text}"),
            ],
            "at {now:?}"
        );
    }
}

#[test]
fn a_denied_cost_shows_nothing_remaining() {
    let limiter = limiter(&["10/10s"]);
    assert!(limiter.check_at("a", 7, MS(0)).allowed);
    let denied = limiter.check_at("a", 5, MS(0));
    assert_eq!((denied.allowed, denied.remaining), (false, 3));
    assert_eq!(
        lines(&unnamed(&limiter), &denied)[1..],
        [r#"ratelimit: "default";r=0;t=2"#, "retry-after: 2"]
    );
}

#[test]
fn never_has_no_retry_after() {
    let limiter = limiter(&["2/5s"]);
    assert_eq!(
        lines(&unnamed(&limiter), &limiter.check_at("a", 3, MS(0))),
        [
            r#"ratelimit-policy: "default";q=2;w=5"#,
            r#"ratelimit: "default";r=0;t=1"#
        ],
    );
    assert!(limiter.check_at("a", 2, MS(0)).allowed);
    assert_eq!(
        lines(&unnamed(&limiter), &limiter.check_at("a", 3, MS(0)))[1..],
        [r#"ratelimit: "default";r=0;t=5"#],
    );
}

#[test]
fn a_blocked_client_is_told_how_long() {
    let limiter = limiter(&["2/5s"]);
    limiter.block("a", Duration::from_secs(3600)).unwrap();
    assert_eq!(
        lines(&unnamed(&limiter), &limiter.check("a"))[1..],
        [r#"ratelimit: "default";r=0;t=3600"#, "retry-after: 3600"],
    );
}

#[test]
fn several_limits_are_listed_and_the_binding_one_is_told() {
    let limiter = limiter(&["10/s", "12/day"]);
    let headers = Headers::named(["burst", "daily"], &limiter.limits()).unwrap();
    let policy = r#"ratelimit-policy: "burst";q=10;w=1, "daily";q=12;w=86400"#;
    assert_eq!(
        lines(&headers, &limiter.check_at("a", 8, MS(0))),
        [policy, r#"ratelimit: "burst";r=2;t=1"#]
    );
    assert_eq!(
        lines(&headers, &limiter.check_at("a", 3, MS(0))),
        [policy, r#"ratelimit: "burst";r=0;t=1"#, "retry-after: 1"]
    );
    assert_eq!(
        lines(&headers, &limiter.check_at("a", 3, MS(1000))),
        [policy, r#"ratelimit: "daily";r=1;t=79199"#]
    );
    assert_eq!(
        lines(&headers, &limiter.check_at("a", 2, MS(2000))),
        [policy, r#"ratelimit: "daily";r=0;t=7198"#, "retry-after: 7198"]
    );
}

#[test]
fn of_limits_with_one_burst_the_slowest_binds() {
    // In either order.
    for limits in [["10/s", "1000/day burst 10"], ["1000/day burst 10", "10/s"]] {
        let limiter = limiter(&limits);
        let headers = unnamed(&limiter);
        let slow = "1000/day burst 10";
        let mut now = Duration::ZERO;
        for i in 0..200 {
            let decision = limiter.check_at("a", i % 4, now);
            assert_eq!(headers.binding(&decision).map(Policy::name), Some(slow));
            let alone = headers.policies().iter().find(|policy| policy.name() == slow).unwrap();
            assert_eq!(decision.limit, alone.limit().capacity());
            // What only the slow one can say: more than a second until it is full.
            if i > 0 {
                assert!(decision.reset_after > Duration::from_secs(1));
            }
            now += MS(i * 7 % 40_000);
        }
    }
}

#[test]
fn names_are_made_up_where_there_are_none() {
    let names = |limits: &[&str]| -> Vec<String> {
        let headers = unnamed(&limiter(limits));
        headers
            .policies()
            .iter()
            .map(|policy| policy.name().to_owned())
            .collect()
    };
    assert_eq!(names(&["10/s"]), ["default"]);
    assert_eq!(names(&["10/s", "1000/day strict"]), ["10/second", "1000/day strict"]);
    assert_eq!(names(&["10/s", "10/s"]), ["10/second"]);
}

#[test]
fn a_limit_of_a_clients_own_is_shown_as_such() {
    let limiter = limiter(&["10/s", "1000/day"]);
    limiter.set_override("vip", Some(limit("500/minute burst 50"))).unwrap();
    let headers = Headers::named(["burst", "daily"], &limiter.limits()).unwrap();
    let decision = limiter.check_at("vip", 5, MS(0));
    assert_eq!(headers.binding(&decision), None);
    assert_eq!(
        lines(&headers, &decision),
        [
            r#"ratelimit-policy: "override";q=50"#,
            r#"ratelimit: "override";r=45;t=1"#
        ],
    );
    let denied = limiter.check_at("vip", 50, MS(0));
    assert!(
        headers
            .problem(&denied)
            .ends_with(r#""violated-policies":["override"]}"#)
    );
}

#[test]
fn windows_are_sent_in_whole_seconds() {
    for (window_ms, text) in [
        (10, r#""a";q=6"#),
        (999, r#""a";q=6"#),
        (1000, r#""a";q=6;w=1"#),
        (1001, r#""a";q=6;w=2"#),
        (1500, r#""a";q=6;w=2"#),
        (60_000, r#""a";q=6;w=60"#),
    ] {
        let policy = Policy::new("a", Limit::new(6, MS(window_ms)).unwrap()).unwrap();
        assert_eq!(policy.to_string(), text, "{window_ms} ms");
    }
    // The quota is the rate, not the burst: together with the window it is what a client may rely on.
    assert_eq!(
        Policy::new("a", limit("100/minute burst 20")).unwrap().to_string(),
        r#""a";q=100;w=60"#
    );
}

#[test]
fn older_fields() {
    let limiter = limiter(&["2/5s"]);
    let headers = |style| unnamed(&limiter).with_style(style);
    let quiet = HeaderStyle::new().ratelimit(false);
    let allowed = limiter.check_at("a", 2, MS(0));
    let denied = limiter.check_at("a", 1, MS(0));
    assert_eq!(lines(&headers(quiet), &allowed), [""; 0]);
    assert_eq!(lines(&headers(quiet), &denied), ["retry-after: 3"]);
    assert_eq!(
        lines(&headers(quiet.x_ratelimit(Reset::Delta)), &denied),
        [
            "retry-after: 3",
            "x-ratelimit-limit: 2",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 3"
        ]
    );
    // 1000.4 s + 2.5 s.
    assert_eq!(
        lines(&headers(quiet.x_ratelimit(Reset::Epoch)), &denied)[3],
        "x-ratelimit-reset: 1003"
    );
    assert_eq!(
        lines(&headers(quiet.x_ratelimit(Reset::Epoch)), &allowed),
        [
            "x-ratelimit-limit: 2",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 1006"
        ]
    );
    assert_eq!(
        lines(&headers(quiet.draft_6()), &allowed),
        ["ratelimit-limit: 2", "ratelimit-remaining: 0", "ratelimit-reset: 5"]
    );
    assert_eq!(
        lines(
            &headers(HeaderStyle::new().x_ratelimit(Reset::Epoch).draft_6()),
            &denied
        )
        .len(),
        9
    );
}

#[test]
fn the_time_of_day_is_this_one() {
    let limiter = limiter(&["2/5s"]);
    let headers = unnamed(&limiter).with_style(HeaderStyle::new().x_ratelimit(Reset::Epoch));
    let now_s = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let before = now_s();
    let (_, reset) = headers.headers(&limiter.check_at("a", 2, MS(0))).last().unwrap();
    assert!((before + 5..=now_s() + 6).contains(&reset.parse().unwrap()));
}

#[test]
fn what_remains_can_be_capped() {
    let limiter = limiter(&["1000/s"]);
    let headers = |most| {
        let style = HeaderStyle::new().x_ratelimit(Reset::Delta).cap_remaining(most);
        unnamed(&limiter).with_style(style)
    };
    let decision = limiter.check_at("a", 1, MS(0));
    let capped = lines(&headers(20), &decision);
    assert_eq!(capped[1], r#"ratelimit: "default";r=20;t=1"#);
    assert_eq!(capped[3], "x-ratelimit-remaining: 20");
    assert_eq!(lines(&headers(5000), &decision)[1], r#"ratelimit: "default";r=999;t=1"#);
}

#[test]
fn problem_details() {
    let limiter = limiter(&["1/2s"]);
    let headers = Headers::named([r#"a "quoted\" name"#], &limiter.limits()).unwrap();
    let problem = |seconds: &str| {
        format!(
            "{}{}{seconds}{}",
            r#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#,
            r#""title":"Request cannot be satisfied as assigned quota has been exceeded","status":429,"detail":""#,
            r#"","violated-policies":["a \"quoted\\\" name"]}"#
        )
    };
    assert!(limiter.check_at("a", 1, MS(0)).allowed);
    let body = |cost, now| headers.problem(&limiter.check_at("a", cost, now));
    assert_eq!(body(1, MS(0)), problem("Try again in 2 seconds."));
    assert_eq!(body(1, MS(1500)), problem("Try again in 1 second."));
    assert_eq!(
        body(2, MS(1500)),
        problem("This request costs more than is ever allowed at once.")
    );
}

#[test]
fn names_are_quoted() {
    for (name, text) in [
        ("default", r#""default""#),
        ("two words", r#""two words""#),
        (r#"a"b"#, r#""a\"b""#),
        (r"a\b", r#""a\\b""#),
        (r#"\""#, r#""\\\"""#),
        // What would be another parameter or policy is part of the name.
        (r#"x";q=1, "y"#, r#""x\";q=1, \"y""#),
    ] {
        let policy = Policy::new(name, limit("1/s")).unwrap();
        assert_eq!(policy.to_string(), format!("{text};q=1;w=1"));
    }
}

#[test]
fn names_that_cannot_be_sent_are_refused() {
    for name in [
        "",
        "a\r\nset-cookie: b=c",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\tb",
        "a\u{7f}b",
        "grün",
        "a\u{2028}b",
        "\u{10d}\u{10a}",
        &"a".repeat(129),
        OVERRIDE_NAME,
    ] {
        let error = Policy::new(name, limit("1/s")).unwrap_err();
        assert!(matches!(error, PolicyError::Name { .. }), "{name:?}");
        let text = error.to_string();
        assert!(
            text.is_ascii() && !text.contains(char::is_control) && text.len() < 250,
            "{text}"
        );
    }
    assert!(Policy::new("a".repeat(128), limit("1/s")).is_ok());
}

#[test]
fn other_misuse_is_refused() {
    let limits = [limit("1/s"), limit("2/day")];
    assert_eq!(Headers::new([]).unwrap_err(), PolicyError::NoPolicy);
    assert_eq!(Headers::unnamed(&[]).unwrap_err(), PolicyError::NoPolicy);
    assert_eq!(
        Headers::named(["a", "a"], &limits).unwrap_err().to_string(),
        "two policies have the name \"a\": give each its own, or clients cannot tell them apart"
    );
    assert_eq!(
        Headers::named(["a"], &limits).unwrap_err().to_string(),
        "1 names were given for 2 limits: give one for each, in the same order"
    );
    assert!(matches!(
        Policy::new("a", limit("1/s").burst(0)),
        Err(PolicyError::Limit(_))
    ));
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Decision::NEVER),
        any::<u64>().prop_map(Duration::from_nanos),
        (0u64..5_000_000_000).prop_map(Duration::from_nanos),
        (0u64..1_000_000).prop_map(Duration::from_secs),
        (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, ns)| Duration::new(s, ns)),
    ]
}

/// Decisions as limiters make them, and such as none would make.
fn decisions() -> impl Strategy<Value = Decision> {
    (
        any::<bool>(),
        prop_oneof![0u64..30, any::<u64>()],
        prop_oneof![0u64..30, any::<u64>()],
        durations(),
        durations(),
    )
        .prop_map(|(allowed, limit, remaining, retry, reset)| {
            Decision::new(
                allowed,
                limit,
                remaining,
                if allowed { Duration::ZERO } else { retry },
                reset,
            )
        })
}

/// `"name";KEY=1;KEY=2` to the name and numbers, as strict as RFC 9651 has it for what is sent here.
fn parse<const N: usize>(item: &str, keys: [&str; N]) -> (String, [u64; N]) {
    let (name, parameters) = item.strip_prefix('"').unwrap().split_once('"').unwrap();
    let mut parameters = parameters.split(';');
    assert_eq!(parameters.next(), Some(""));
    let numbers = keys.map(|key| {
        let digits = parameters
            .next()
            .unwrap()
            .strip_prefix(key)
            .unwrap()
            .strip_prefix('=')
            .unwrap();
        assert!((1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.parse().unwrap()
    });
    assert_eq!(parameters.next(), None);
    (name.to_owned(), numbers)
}

/// More seconds than a structured field can say are cut there: 31 million years.
const LARGEST: u64 = 999_999_999_999_999;

proptest! {
    #[test]
    fn any_decision(decision in decisions(), cap in prop_oneof![0u64..30, Just(u64::MAX)], since_1970 in durations()) {
        let limits = [limit("10/s"), limit("20/minute"), limit("10/day")];
        let style = HeaderStyle::new().x_ratelimit(Reset::Epoch).draft_6().cap_remaining(cap);
        let headers = Headers::unnamed(&limits).unwrap().with_style(style);
        let fields: std::collections::HashMap<_, _> = headers.headers_at(&decision, since_1970).collect();
        let (name, [r, t]) = parse(&fields["ratelimit"], ["r", "t"]);
        let seconds = Duration::from_secs(t);

        // The name is one that is listed, and the right one.
        let policies = &fields["ratelimit-policy"];
        let listed = policies.split(", ").any(|item| item.starts_with(&format!("\"{name}\";")));
        prop_assert!(listed);
        prop_assert_eq!(name, match decision.limit { 10 => "10/day", 20 => "20/minute", _ => OVERRIDE_NAME });

        let wait = if decision.allowed {
            prop_assert_eq!(r, decision.remaining.min(cap).min(LARGEST));
            decision.reset_after
        } else {
            prop_assert_eq!(r, 0);
            prop_assert!(t >= 1);
            if decision.retry_after == Decision::NEVER { decision.reset_after } else { decision.retry_after }
        };
        // Never earlier, and never later than rounding makes it.
        prop_assert!(seconds >= wait || t == LARGEST);
        prop_assert!(seconds < wait.saturating_add(Duration::from_secs(1)) || t == 1);

        let retry = fields.get("retry-after").map(|text| text.parse::<u64>().unwrap());
        prop_assert_eq!(retry, retry_after(&decision));
        prop_assert_eq!(retry, (!decision.allowed && decision.retry_after != Decision::NEVER).then_some(t));

        // The older fields say the same.
        let number = |name: &str| fields[name].parse::<u64>().unwrap();
        prop_assert_eq!((number("x-ratelimit-remaining"), number("ratelimit-remaining")), (r, r));
        prop_assert_eq!(number("ratelimit-reset"), t);
        prop_assert_eq!(number("x-ratelimit-limit"), number("ratelimit-limit"));
        let epoch = number("x-ratelimit-reset");
        prop_assert!(Duration::from_secs(epoch) >= since_1970.saturating_add(wait) || epoch == LARGEST);

        // Whatever is sent is a legal field value, and the body has no raw control character.
        for text in fields.values().chain([&headers.problem(&decision)]) {
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        }
    }

    /// A client that waits as it is told is allowed.
    #[test]
    fn waiting_as_told_is_enough(
        rate in 1u64..1000,
        window_ms in 1u64..100_000,
        steps in proptest::collection::vec((1u64..20, 0u64..3_000_000_000), 1..40),
    ) {
        let limiter = Limiter::builder().limit(Limit::new(rate, MS(window_ms)).unwrap()).build().unwrap();
        let mut now = Duration::ZERO;
        for (cost, pause_ns) in steps {
            let decision = limiter.check_at("a", cost, now);
            match retry_after(&decision) {
                Some(seconds) => {
                    prop_assert!(Duration::from_secs(seconds) >= decision.retry_after);
                    now += Duration::from_secs(seconds);
                    prop_assert!(limiter.check_at("a", cost, now).allowed);
                }
                None => prop_assert!(decision.allowed || cost > rate),
            }
            now += Duration::from_nanos(pause_ns);
        }
    }

    #[test]
    fn any_name(name in any::<String>(), extra in prop_oneof!["[ -~]{0,20}", "[\"\\\\ ,;=\r\n]{0,6}"]) {
        let name = name + &extra;
        if let Ok(policy) = Policy::new(name.clone(), limit("7/s")) {
            let text = policy.to_string();
            let quoted = text.strip_suffix(";q=7;w=1").unwrap();
            // Read back as RFC 9651 reads a string (4.2.5).
            let mut characters = quoted.chars();
            prop_assert_eq!(characters.next(), Some('"'));
            let mut read = String::new();
            loop {
                match characters.next().unwrap() {
                    '"' => break,
                    '\\' => {
                        let escaped = characters.next().unwrap();
                        prop_assert!(matches!(escaped, '"' | '\\'));
                        read.push(escaped);
                    }
                    character => {
                        prop_assert!((' '..='~').contains(&character));
                        read.push(character);
                    }
                }
            }
            prop_assert_eq!(characters.next(), None);
            prop_assert_eq!(read, name);
        } else {
            prop_assert!(name.is_empty() || name.len() > 128 || name == OVERRIDE_NAME || name.chars().any(|c| !(' '..='~').contains(&c)));
        }
    }
}
