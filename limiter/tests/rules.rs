//! Rules: when they apply, what they count by, all or none, watching, changing while decisions run.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ratelimit::{Clock, Decision, Limiter, RuleSet, Rules};

fn rules(text: &str) -> Rules {
    Limiter::builder()
        .clock(Clock::manual().0)
        .build_rules(RuleSet::from_toml(text).unwrap())
        .unwrap()
}

fn allowed(rules: &Rules, attributes: &[(&str, &str)]) -> bool {
    rules.check(attributes, 1).decision.allowed
}

/// Whether a rule with this condition applies to a request with these attributes.
fn applies(condition: &str, attributes: &[(&str, &str)]) -> bool {
    let text = format!("[[rule]]\nname = \"r\"\nwhen = {{ {condition} }}\nby = []\nlimits = \"1/hour\"\n");
    rules(&text).check(attributes, 1).rule.is_some()
}

#[test]
fn conditions_hold_for_what_they_say() {
    let get = [("path", "/api/x"), ("method", "GET"), ("ip", "10.1.2.3")];
    for (condition, expected) in [
        ("method = \"GET\"", true),
        ("method = \"get\"", false),
        ("method = [\"POST\", \"GET\"]", true),
        ("method = [\"POST\", \"PUT\"]", false),
        ("method = { equal = \"GET\" }", true),
        ("method = { one_of = [\"PUT\"] }", false),
        ("path = { prefix = \"/api/\" }", true),
        ("path = { prefix = [\"/x\", \"/api\"] }", true),
        ("path = { prefix = \"/API\" }", false),
        ("ip = { cidr = \"10.0.0.0/8\" }", true),
        ("ip = { cidr = [\"192.168.0.0/16\", \"2001:db8::/32\"] }", false),
        ("ip = { cidr = \"::ffff:10.0.0.0/104\" }", true),
        ("tier = { present = true }", false),
        ("tier = { present = false }", true),
        ("method = { present = true }, path = { prefix = \"/\" }", true),
        ("method = \"GET\", path = \"/other\"", false),
        ("tier = \"gold\"", false),
        ("path = { prefix = \"/api/\", one_of = [\"/api/x\", \"/api/y\"] }", true),
        ("path = { prefix = \"/api/\", one_of = [\"/api/y\"] }", false),
    ] {
        assert_eq!(applies(condition, &get), expected, "{condition}");
    }
    assert!(
        applies("ip = { cidr = \"2001:db8::/32\" }", &[("ip", "2001:db8:1:2::/64")]),
        "what client_ip answers"
    );
    assert!(applies(
        "ip = { cidr = \"10.0.0.0/8\" }",
        &[("ip", "[::ffff:10.0.0.1]:80")]
    ));
    for junk in ["", "x", "10.0.0", "/"] {
        assert!(!applies("ip = { cidr = \"0.0.0.0/0\" }", &[("ip", junk)]), "{junk}");
    }
    let bytes = Limiter::builder().build_rules(RuleSet::default()).unwrap();
    assert!(
        bytes.check(&[("ip", [0xff_u8, 0])], 1).decision.allowed,
        "values are any bytes"
    );
}

const TWO: &str = r#"
[[rule]]
name = "client"
by = ["ip"]
limits = ["3/minute", "100/day"]

[[rule]]
name = "login"
when = { path = { prefix = "/login" } }
by = ["ip", "user"]
limits = "1/minute"
"#;

#[test]
fn all_rules_allow_or_none_is_charged() {
    let rules = rules(TWO);
    let login = [("ip", "a"), ("user", "u"), ("path", "/login")];
    let first = rules.check(&login, 1);
    assert_eq!(
        (first.decision.allowed, first.rule.as_deref(), first.decision.remaining),
        (true, Some("login"), 0)
    );
    for _ in 0..5 {
        let denied = rules.check(&login, 1);
        assert_eq!(
            (denied.decision.allowed, denied.rule.as_deref()),
            (false, Some("login"))
        );
    }
    let other = [("ip", "a"), ("path", "/")];
    assert_eq!(
        rules.peek(&other, 1).decision.remaining,
        2,
        "denials by one rule charge no other"
    );
    assert!(allowed(&rules, &other) && allowed(&rules, &other));
    let denied = rules.check(&other, 1);
    assert_eq!((denied.rule.as_deref(), denied.decision.limit), (Some("client"), 3));
    assert!(allowed(&rules, &[("ip", "b"), ("path", "/")]));
    let no_login = [("ip", "b"), ("user", "u"), ("path", "/login")];
    assert!(allowed(&rules, &no_login), "counted by both attributes together");
    rules.refund(&login, 1);
    assert!(allowed(&rules, &login), "what is given back is given back to all");
    rules.reset(&login);
    assert!(allowed(&rules, &login) && allowed(&rules, &other));
}

#[test]
fn values_cannot_be_written_to_look_like_others() {
    let rules = rules(TWO);
    let login = |ip: &str, user: &str| allowed(&rules, &[("ip", ip), ("user", user), ("path", "/login")]);
    assert!(login("a", "b|c") && login("a|b", "c") && login("a\0b", "c") && login("ab", ""));
    assert!(!login("a", "b|c"));
    // Without the attribute is another client than with an empty value.
    assert!(allowed(&rules, &[("ip", "ab"), ("path", "/login")]));
    assert!(
        !allowed(&rules, &[("ip", "ab"), ("path", "/login")]),
        "all without it are one"
    );
    let twice = [("ip", "z"), ("ip", "y"), ("user", "1"), ("path", "/login")];
    assert!(
        allowed(&rules, &twice) && !login("z", "1") && login("y", "1"),
        "the first of two counts"
    );
}

#[test]
fn what_watches_never_denies() {
    let text = "[[rule]]\nname = \"hard\"\nby = [\"ip\"]\nlimits = \"3/minute\"\n\
                [[rule]]\nname = \"soft\"\nby = [\"ip\"]\nlimits = \"1/minute\"\nshadow = true\n";
    let rules = rules(text);
    let told: Vec<_> = (0..5).map(|_| rules.check(&[("ip", "a")], 1)).collect();
    assert_eq!(told.iter().filter(|told| told.decision.allowed).count(), 3);
    let shadows: Vec<_> = told.iter().map(|told| told.shadow.as_deref()).collect();
    assert_eq!(shadows, [None, Some("soft"), Some("soft"), None, None]);
    assert!(told.iter().all(|told| told.rule.as_deref() == Some("hard")));
    assert_eq!(rules.peek(&[("ip", "b")], 2).shadow.as_deref(), Some("soft"));
    let stats = rules.stats();
    assert_eq!((stats[0].allowed, stats[0].denied, stats[0].would_deny), (3, 2, 0));
    assert_eq!((stats[1].allowed, stats[1].denied, stats[1].would_deny), (1, 0, 2));
    let text = rules.prometheus();
    for line in [
        "ratelimit_rule_decisions_total{rule=\"hard\",outcome=\"denied\"} 2",
        "ratelimit_rule_decisions_total{rule=\"soft\",outcome=\"would_deny\"} 2",
        "ratelimit_allowed_total 3",
        "ratelimit_rules 2",
    ] {
        assert!(text.lines().any(|each| each == line), "{line}: {text}");
    }
    assert!(!text.contains("\"a\""), "labels are never a client's");
}

#[test]
fn tiers_and_clients_have_limits_of_their_own() {
    let text = "[[rule]]\nname = \"api\"\nby = [\"key\"]\nlimits = \"1/minute\"\n\
                [rule.tiers.tier]\ngold = [\"3/minute\", \"1000/day\"]\nsilver = \"2/minute\"\n\
                [rule.overrides]\n\"vip\" = \"5/minute\"\n";
    let rules = rules(text);
    let burst = |key: &str, tier: Option<&str>| {
        let mut attributes = vec![("key", key)];
        attributes.extend(tier.map(|tier| ("tier", tier)));
        (0..10).take_while(|_| allowed(&rules, &attributes)).count()
    };
    assert_eq!(
        [burst("a", None), burst("b", Some("silver")), burst("c", Some("gold"))],
        [1, 2, 3]
    );
    assert_eq!([burst("d", Some("unknown")), burst("vip", Some("silver"))], [1, 5]);
    rules.set_override("api", "e", &["4/minute".parse().unwrap()]).unwrap();
    assert_eq!(burst("e", None), 4);
    rules.set_override("api", "vip", &[]).unwrap();
    assert_eq!(burst("vip", Some("gold")), 0, "what was spent is spent");
    let wrong = rules.set_override("apy", "e", &[]).unwrap_err();
    assert!(wrong.to_string().contains("there is no rule \"apy\""), "{wrong}");
}

#[test]
fn wrong_rules_say_in_which_line_and_what_to_do() {
    for (line, part, text) in [
        (1, "expected", "[[rule]\n"),
        (2, "name", "\n[[rule]]\nby = []\nlimits = \"1/s\"\n"),
        (4, "limits", "[[rule]]\nname = \"a\"\nby = []\nlimitz = \"1/s\"\n"),
        (4, "limit", "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1 per s\"\n"),
        (4, "1 to 256 texts", "[[rule]]\nname = \"a\"\nby = []\nlimits = []\n"),
        (2, "letters", "[[rule]]\nname = \"a b\"\nby = []\nlimits = \"1/s\"\n"),
        (
            3,
            "twice",
            "[[rule]]\nname = \"a\"\nby = [\"ip\", \"ip\"]\nlimits = \"1/s\"\n",
        ),
        (
            3,
            "at most 8",
            "[[rule]]\nname = \"a\"\nby = [\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]\nlimits = \"1/s\"\n",
        ),
        (
            5,
            "no condition \"prefx\"",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\nwhen.path = { prefx = \"/\" }\n",
        ),
        (
            5,
            "network",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\nwhen.ip = { cidr = \"10.0.0.0/40\" }\n",
        ),
        (
            5,
            "true or false",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\nwhen.ip = { present = 1 }\n",
        ),
        (
            5,
            "empty",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\nwhen.ip = {}\n",
        ),
        (
            5,
            "two rules",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\n[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\n",
        ),
        (
            3,
            "one attribute",
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\n[rule.overrides]\nx = \"2/s\"\n",
        ),
        (1, "unknown field `http`", "http = \"off\"\n"),
    ] {
        let error = RuleSet::from_toml(text).expect_err(text).to_string();
        assert!(
            error.starts_with(&format!("line {line}: ")) && error.contains(part),
            "{error}\n{text}"
        );
    }
    let others = "http = \"off\"\n[[rule]]\nname = \"a\"\nby = []\nlimits = \"1/s\"\n";
    assert_eq!(RuleSet::in_toml(others).unwrap().names().collect::<Vec<_>>(), ["a"]);
    let many: String = (0..257)
        .map(|i| format!("[[rule]]\nname = \"r{i}\"\nby = []\nlimits = \"1/s\"\n"))
        .collect();
    assert!(
        RuleSet::from_toml(&many)
            .unwrap_err()
            .to_string()
            .contains("more than 256 rules")
    );
    let many: String = (0..33)
        .map(|i| format!("[[rule]]\nname = \"r{i}\"\nby = [\"a{i}\"]\nlimits = \"1/s\"\n"))
        .collect();
    assert!(
        RuleSet::from_toml(&many)
            .unwrap_err()
            .to_string()
            .contains("more than 32 attributes")
    );
    let limited = Limiter::builder()
        .limit("1/s".parse().unwrap())
        .build_rules(RuleSet::default());
    assert!(limited.unwrap_err().to_string().contains("leave limits out"));
}

#[test]
fn rules_that_stay_keep_their_counts() {
    let (clock, hand) = Clock::manual();
    let one = |name: &str, by: &str, limits: &str| {
        format!("[[rule]]\nname = \"{name}\"\nby = [{by}]\nlimits = \"{limits}\"\n")
    };
    let set = |text: &str| RuleSet::from_toml(text).unwrap();
    let rules = Limiter::builder()
        .clock(clock)
        .build_rules(set(&one("a", "\"ip\"", "4/minute")))
        .unwrap();
    let client = [("ip", "c")];
    assert!((0..4).all(|_| allowed(&rules, &client)) && !allowed(&rules, &client));
    // Beside another rule, and under another limit of the same window: the same share is spent.
    rules
        .replace(set(&(one("b", "", "100/s") + &one("a", "\"ip\"", "8/minute"))))
        .unwrap();
    assert!(!allowed(&rules, &client));
    hand.advance(Duration::from_secs(30));
    assert_eq!((0..8).take_while(|_| allowed(&rules, &client)).count(), 4);
    // Under a shorter window nobody waits longer than that.
    rules.replace(set(&one("a", "\"ip\"", "10/s"))).unwrap();
    let waits = rules.check(&client, 1).decision;
    assert!(
        !waits.allowed && waits.retry_after <= Duration::from_secs(1),
        "{waits:?}"
    );
    hand.advance(Duration::from_secs(1));
    assert!(allowed(&rules, &client));
    // Counted by something else it is another rule, and so is one of another name.
    rules.replace(set(&one("a", "\"ip\", \"x\"", "4/minute"))).unwrap();
    assert_eq!((0..9).take_while(|_| allowed(&rules, &client)).count(), 4);
    let before = rules.stats()[0].allowed;
    assert!(before >= 13, "what it did goes on: {before}");
    // What is wrong changes nothing.
    assert!(rules.replace_from_toml("[[rule]]\n").is_err());
    assert!(!allowed(&rules, &client));
    rules.replace(RuleSet::default()).unwrap();
    let free = rules.check(&client, u64::MAX);
    assert_eq!(
        (free.decision.allowed, free.rule, free.decision.remaining),
        (true, None, u64::MAX)
    );
    assert_eq!(rules.unmatched(), 1);
}

#[test]
fn counts_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.snapshot");
    let open = || {
        let builder = Limiter::builder().persist(&path, Duration::from_secs(60));
        builder.build_rules(RuleSet::from_toml(TWO).unwrap()).unwrap()
    };
    let login = [("ip", "a"), ("user", "u"), ("path", "/login")];
    let rules = open();
    assert!(allowed(&rules, &login) && !allowed(&rules, &login));
    rules.close().unwrap();
    drop(rules);
    let again = open();
    assert_eq!(again.check(&login, 1).rule.as_deref(), Some("login"));
    assert_eq!(again.peek(&[("ip", "a")], 1).decision.remaining, 2);
}

#[test]
fn a_full_table_denies_and_costs_of_nothing_are_free() {
    let set = RuleSet::from_toml("[[rule]]\nname = \"a\"\nby = [\"ip\"]\nlimits = \"1/day\"\n").unwrap();
    let rules = Limiter::builder().max_keys(16).build_rules(set).unwrap();
    let admitted = (0..100_000)
        .filter(|i| rules.check(&[("ip", i.to_string())], 1).decision.allowed)
        .count();
    assert!(admitted < 50_000, "{admitted}");
    let free = rules.check(&[("ip", "new")], 0);
    assert!(free.decision.allowed);
    let never = rules.check(&[("ip", "new")], 2);
    assert_eq!(
        (never.decision.allowed, never.decision.retry_after),
        (false, Decision::NEVER)
    );
}

/// Threads count under two rules while others put rules in force that add, drop and reorder all else: each request is decided
/// and counted once, and no limit is exceeded.
#[test]
fn changed_under_load_nothing_is_lost_or_counted_twice() {
    const EACH: u64 = 30_000;
    let kept = "[[rule]]\nname = \"all\"\nby = []\nlimits = \"40000/day\"\n\
                [[rule]]\nname = \"own\"\nwhen.thread.present = true\nby = [\"thread\"]\nlimits = \"15000/day\"\n";
    let noise = |i: u64| {
        format!(
            "[[rule]]\nname = \"noise{}\"\nby = [\"thread\"]\nlimits = \"1/s\"\nshadow = true\n",
            i % 3
        )
    };
    let rules = rules(kept);
    let (done, admitted, replaced) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mine: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (rules, admitted) = (&rules, &admitted);
                scope.spawn(move || {
                    let name = format!("t{thread}");
                    let mine = (0..EACH).filter(|_| allowed(rules, &[("thread", &name)])).count() as u64;
                    admitted.fetch_add(mine, Relaxed);
                    mine
                })
            })
            .collect();
        scope.spawn(|| {
            for i in 0.. {
                let text = if i % 2 == 0 {
                    noise(i) + kept
                } else {
                    kept.to_owned() + &noise(i)
                };
                rules.replace_from_toml(&text).unwrap();
                replaced.fetch_add(1, Relaxed);
                if done.load(Relaxed) {
                    break;
                }
            }
        });
        let mine = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, Relaxed);
        mine
    });
    let admitted = admitted.load(Relaxed);
    assert!(replaced.load(Relaxed) > 1, "nothing was changed meanwhile");
    assert!(
        admitted <= 40_000 && mine.iter().all(|&mine| mine <= 15_000),
        "{mine:?}"
    );
    // Nothing of the denied requests is left charged: what remains is exactly what was not admitted.
    rules.replace_from_toml(kept).unwrap();
    for (thread, mine) in mine.iter().enumerate() {
        let left = rules.peek(&[("thread", format!("t{thread}"))], 1).decision;
        assert_eq!(left.remaining, (15_000 - mine).min(40_000 - admitted));
    }
    let nobody: [(&str, &str); 0] = [];
    assert_eq!(rules.peek(&nobody, 1).decision.remaining, 40_000 - admitted);
    let [all, own] = &rules.stats()[..] else {
        panic!("two rules")
    };
    assert_eq!((all.allowed, own.allowed), (admitted, admitted));
    assert_eq!(
        all.denied + own.denied + admitted,
        4 * EACH,
        "each request has one outcome"
    );
}
