//! Options by name: every language hands over what its user wrote, and gets the same limiters and the same sentences.

use std::time::Duration;

use ratelimit::options::{Dialect, OptionValue, Options, option_help};
use ratelimit::{Clock, Error, Limit};

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.to_owned())
}

fn limits(dialect: Dialect, given: &[(&str, OptionValue)]) -> Result<Vec<Limit>, Error> {
    let mut options = Options::new(dialect);
    for (name, value) in given {
        options.set(name, value.clone())?;
    }
    options.all_limits()
}

#[test]
fn every_dialect_says_the_same_limit() {
    let expected = [Limit::new(100, Duration::from_millis(1_500)).unwrap().burst(20)];
    let burst = || OptionValue::Int(20);
    let python = [
        ("rate_limit", OptionValue::Int(100)),
        ("time_window", OptionValue::Float(1.5)),
        ("burst", burst()),
    ];
    let node = [
        ("rateLimit", OptionValue::Float(100.0)),
        ("timeWindowMs", OptionValue::Float(1_500.0)),
        ("burst", burst()),
    ];
    let c = [
        ("rate_limit", OptionValue::Int(100)),
        ("time_window_ns", OptionValue::Int(1_500_000_000)),
        ("burst", burst()),
    ];
    assert_eq!(limits(Dialect::SnakeSeconds, &python).unwrap(), expected);
    assert_eq!(limits(Dialect::CamelMillis, &node).unwrap(), expected);
    assert_eq!(limits(Dialect::SnakeNanos, &c).unwrap(), expected);
    let words = [("rate_limit", text("100/1.5s burst 20"))];
    assert_eq!(limits(Dialect::SnakeSeconds, &words).unwrap(), expected);
}

#[test]
fn several_limits_are_a_list_of_texts() {
    let list = OptionValue::Texts(vec!["10/s".to_owned(), "1000/day strict".to_owned()]);
    let expected: Vec<Limit> = vec!["10/s".parse().unwrap(), "1000/day strict".parse().unwrap()];
    assert_eq!(limits(Dialect::SnakeSeconds, &[("limits", list)]).unwrap(), expected);
}

#[test]
fn nothing_given_is_nothing_set() {
    let given = [
        ("rate_limit", OptionValue::Int(1)),
        ("time_window", OptionValue::Int(1)),
        ("burst", OptionValue::Nothing),
        ("max_keys", OptionValue::Nothing),
    ];
    assert_eq!(limits(Dialect::SnakeSeconds, &given).unwrap(), ["1/s".parse().unwrap()]);
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let one = || OptionValue::Int(1);
    let second = || ("time_window", OptionValue::Int(1));
    for (given, part) in [
        (vec![], "give rate_limit and time_window"),
        (vec![("rate_limit", one())], "without time_window"),
        (vec![second()], "time_window is given without rate_limit"),
        (
            vec![("rate_limit", OptionValue::Int(0)), second()],
            "rate_limit is 0: it takes a whole number from 1",
        ),
        (vec![("rate_limit", OptionValue::Int(-5)), second()], "rate_limit is -5"),
        (
            vec![("rate_limit", OptionValue::Float(1.5)), second()],
            "rate_limit is 1.5",
        ),
        (
            vec![("rate_limit", OptionValue::Int(1 << 100)), second()],
            "it takes a whole number",
        ),
        (
            vec![("rate_limit", OptionValue::Bool(true)), second()],
            "rate_limit is true",
        ),
        (
            vec![("rate_limit", OptionValue::Other("dict".to_owned()))],
            "rate_limit is dict",
        ),
        (
            vec![("rate_limit", one()), ("time_window", OptionValue::Float(f64::NAN))],
            "time_window is NaN",
        ),
        (
            vec![("rate_limit", one()), ("time_window", OptionValue::Float(-1.0))],
            "time_window is -1: it takes a duration above 0, in seconds",
        ),
        (
            vec![
                ("rate_limit", one()),
                ("time_window", OptionValue::Float(f64::INFINITY)),
            ],
            "time_window is inf",
        ),
        (
            vec![("rate_limit", one()), ("time_window", OptionValue::Int(0))],
            "time_window is 0",
        ),
        (
            vec![("limits", text("10/s")), ("burst", one())],
            "as text and in numbers",
        ),
        (vec![("limits", OptionValue::Texts(vec![]))], "limits is a list"),
        (vec![("limits", text("10/fortnight"))], "is not a limit"),
        (
            vec![("rate_limit", one()), second(), ("strict", one())],
            "strict is 1: it takes true or false",
        ),
        (
            vec![("clock", text("sundial"))],
            "clock is \"sundial\": it takes \"precise\", \"os\" or \"coarse\"",
        ),
        (vec![("overflow", text("evict"))], "overflow is \"evict\""),
        (vec![("timeWindow", one())], "did you mean \"time_window\"?"),
        (vec![("max", one())], "the options are rate_limit, time_window, burst"),
        (vec![("maxkeys", one())], "did you mean \"max_keys\"?"),
        (
            vec![("hash_key", text("0123"))],
            "hash_key is no such text: it takes 32 hexadecimal digits",
        ),
    ] {
        let error = limits(Dialect::SnakeSeconds, &given).expect_err(part).to_string();
        assert!(
            error.contains(part),
            "{given:?} gave {error:?}, which does not say {part:?}"
        );
    }
}

#[test]
fn a_secret_is_not_shown() {
    let secret = "00112233445566778899aabbccddeeffX";
    let error = limits(Dialect::SnakeSeconds, &[("hash_key", text(secret))]).unwrap_err();
    assert!(!error.to_string().contains("0011"), "{error}");
}

#[test]
fn names_are_spelt_as_the_language_spells_them() {
    let names = |dialect: Dialect| -> Vec<String> { option_help().iter().map(|help| dialect.spell(help)).collect() };
    let python = names(Dialect::SnakeSeconds);
    let node = names(Dialect::CamelMillis);
    assert_eq!(&python[..4], ["rate_limit", "time_window", "burst", "strict"]);
    assert_eq!(&node[..4], ["rateLimit", "timeWindowMs", "burst", "strict"]);
    assert!(node.contains(&"snapshotEveryMs".to_owned()) && node.contains(&"maxKeys".to_owned()));
    for dialect in [Dialect::SnakeSeconds, Dialect::CamelMillis, Dialect::SnakeNanos] {
        for name in names(dialect) {
            // Every option that is listed exists: it is refused for its value, not for its name.
            let error = Options::new(dialect)
                .set(&name, OptionValue::Other("a thing".to_owned()))
                .unwrap_err();
            assert!(!error.to_string().contains("there is no option"), "{error}");
        }
    }
}

#[test]
fn options_make_limiters_that_decide() {
    let mut options = Options::new(Dialect::SnakeSeconds);
    options.set("rate_limit", OptionValue::Int(2)).unwrap();
    options.set("time_window", OptionValue::Int(60)).unwrap();
    options.set("max_keys", OptionValue::Int(100)).unwrap();
    let hand = options.manual_clock();
    let limiter = options.build().unwrap();
    assert!(limiter.is_allowed("a") && limiter.is_allowed("a") && !limiter.is_allowed("a"));
    hand.advance(Duration::from_secs(30));
    assert!(limiter.is_allowed("a"));
    assert!(
        options.build().unwrap().is_allowed("a"),
        "another limiter of the same options"
    );
}

#[test]
fn limiters_share_a_clock_that_exists_already() {
    let (clock, hand) = Clock::manual();
    let mut options = Options::new(Dialect::SnakeSeconds);
    options.set("rate_limit", text("1/s")).unwrap();
    options.use_clock(clock);
    let (one, other) = (options.build().unwrap(), options.build().unwrap());
    assert!(one.is_allowed("a") && !one.is_allowed("a"));
    assert!(other.is_allowed("a") && !other.is_allowed("a"));
    hand.advance(Duration::from_secs(1));
    assert!(one.is_allowed("a") && other.is_allowed("a"));
}

#[cfg(target_os = "linux")]
#[test]
fn tables_are_shared_by_name_and_with_children() {
    let with = |share: OptionValue, replace: bool| {
        let mut options = Options::new(Dialect::SnakeSeconds);
        options.set("limits", OptionValue::Text("10/hour".to_owned())).unwrap();
        options.set("max_keys", OptionValue::Int(1_000)).unwrap();
        options.set("share", share).unwrap();
        options.set("replace_limits", OptionValue::Bool(replace)).unwrap();
        options.build()
    };
    let children = with(OptionValue::Bool(true), false).unwrap();
    assert_eq!(children.stats().shared_with, "children");
    let name = format!("test-options-{}", std::process::id());
    let limiter = with(OptionValue::Text(name.clone()), true).unwrap();
    assert_eq!(limiter.stats().shared_with, "name");
    drop(limiter);
    assert!(ratelimit::Limiter::unshare(&name).unwrap());
    assert_eq!(
        with(OptionValue::Text("a b".to_owned()), false).unwrap_err().name(),
        "share_name"
    );
    assert_eq!(
        with(OptionValue::Bool(false), true).unwrap_err().name(),
        "share_mismatch"
    );
}

#[test]
fn a_period_without_a_snapshot_is_no_mistake_and_a_restore_is() {
    let mut options = Options::new(Dialect::SnakeSeconds);
    options.set("limits", text("10/s")).unwrap();
    options.set("snapshot_every", OptionValue::Float(1.0)).unwrap();
    assert!(options.build().unwrap().is_allowed("a"));
    options.set("restore", text("required")).unwrap();
    let error = options.build().unwrap_err().to_string();
    assert!(error.contains("give path too"), "{error}");
}
