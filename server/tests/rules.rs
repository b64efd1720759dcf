//! Rules from the outside: a log replayed by them, and a node that decides by them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use common::node::{Node, config, wait};
use common::{Scratch, json, line, real_log, replay, stderr, stdout};
use serde_json::{Value, json};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rules.toml");

#[test]
fn a_real_log_is_decided_by_the_example() {
    let Some(log) = real_log() else { return };
    let report = json(&replay(&[&log, "--config", EXAMPLE, "--json"]));
    assert_eq!(
        (&report["requests"], &report["clients"]),
        (&json!(10_000), &json!(1_753))
    );
    let count = |value: &Value| value.as_u64().unwrap();
    let rules = report["rules"].as_array().unwrap();
    let of = |name: &str| rules.iter().find(|rule| rule["rule"] == name).unwrap();
    // Rule "all" applies to every request, and each denial is one rule's.
    assert_eq!(of("all")["allowed"], report["allowed"]);
    let denied: u64 = rules.iter().map(|rule| count(&rule["denied"])).sum();
    assert_eq!(denied, count(&report["denied"]));
    assert_eq!(count(&report["allowed"]) + denied, 10_000);
    assert!(count(&of("writes")["allowed"]) > 0, "{report}");
    assert_eq!(of("agents")["denied"], 0, "it only watches");
    // Alone, one rule decides as the same limit does.
    let scratch = Scratch::new();
    let one = scratch.file(
        "one.toml",
        b"[[rule]]\nname = \"one\"\nby = [\"ip\"]\nlimits = \"10/minute\"\n",
    );
    let report = json(&replay(&[&log, "--config", &one, "--json"]));
    assert_eq!((&report["allowed"], &report["denied"]), (&json!(8_987), &json!(1_013)));
}

#[test]
fn a_log_is_decided_by_rules_in_text_and_json() {
    let scratch = Scratch::new();
    let log: String = (0..6).map(|second| line("192.0.2.1", second)).collect();
    let log = scratch.file("a.log", (log + &line("192.0.2.2", 5)).as_bytes());
    let rules = scratch.file(
        "rules.toml",
        b"http = \"off\"\n[[rule]]\nname = \"few\"\nwhen.path.prefix = \"/a\"\nby = [\"ip\"]\nlimits = \"4/day\"\n\
          [[rule]]\nname = \"fewer\"\nwhen.host.present = false\nby = [\"ip\", \"agent\"]\nlimits = \"3/day\"\nshadow = true\n",
    );
    let output = replay(&[&log, "--config", &rules]);
    assert_eq!(
        stdout(&output),
        "Replayed 7 requests of 2 clients: 5 allowed, 2 denied, 0 under no rule.\n\n\
         RULE         ALLOWED         DENIED     WOULD DENY\n\
         few                5              2              -\n\
         fewer              4              0              1\n",
    );
    let report = json(&replay(&[&log, "--config", &rules, "--json"]));
    assert_eq!(
        report["rules"][1],
        json!({"rule": "fewer", "shadow": true, "allowed": 4, "denied": 0, "would_deny": 1})
    );
}

#[test]
fn wrong_rules_say_where() {
    let scratch = Scratch::new();
    let log = scratch.file("a.log", line("192.0.2.1", 1).as_bytes());
    for (text, part) in [
        (
            "[[rule]]\nname = \"a\"\nby = []\nlimits = \"x\"\n",
            "rules.toml, line 4: ",
        ),
        ("http = \"off\"\n", "there is no [[rule]] in it"),
    ] {
        let rules = scratch.file("rules.toml", text.as_bytes());
        let output = replay(&[&log, "--config", &rules]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let output = replay(&[&log, "--config", EXAMPLE, "--limit", "1/s"]);
    assert_eq!(output.status.code(), Some(2), "rules or limits");
}

#[test]
fn a_node_tells_who_is_seen_most() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--limit", "10/day"]);
    let batch = json!({"requests": vec![json!({"key": "hog"}); 1000]});
    for _ in 0..4 {
        assert_eq!(post(&node, "/v1/check/batch", &batch).0, 200);
    }
    let (status, text) = node.http("GET", "/v1/top?n=5", "", "");
    assert_eq!(status, 200);
    let told: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let denied = told["limits"]["default"]["denied"].as_array().unwrap();
    // One thread decides a whole batch, and of 511 denials it looks at one at least.
    assert_eq!(denied.len(), 1, "{told}");
    assert_eq!(
        denied[0]["client"].as_str().unwrap().len(),
        8,
        "a fingerprint and no id"
    );
    assert!(!text.contains("hog"));
    assert_eq!(node.http("GET", "/v1/top?n=0", "", "").0, 400);
    assert_eq!(node.http("GET", "/v1/top", "x-forwarded-for: 10.0.0.1\r\n", "").0, 403);
    assert!(node.metric("ratelimit_decision_seconds_count{limiter=\"default\"}") >= 1.0);
}

const RULES: &str = "[[rule]]\nname = \"login\"\nwhen.path.prefix = \"/login\"\nby = [\"ip\"]\nlimits = \"2/hour\"\n";

fn post(node: &Node, path: &str, asked: &Value) -> (u16, Value) {
    let (status, text) = node.http("POST", path, "", &asked.to_string());
    let body = text.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn a_node_decides_by_rules_and_changes_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = config(directory.path(), RULES);
    let start = || Node::start(directory.path(), &["--config", file.to_str().unwrap()]);
    let mut node = start();
    let login = json!({"attributes": {"ip": "192.0.2.7", "path": "/login", "tier": null, "number": 5}});
    let (status, told) = post(&node, "/v1/check", &login);
    assert_eq!(
        (status, &told["allowed"], &told["rule"]),
        (200, &json!(true), &json!("login"))
    );
    assert_eq!(post(&node, "/v1/peek", &login).1["remaining"], 1);
    let batch = json!({"requests": [login, {"key": "a"}, login]});
    let (_, told) = post(&node, "/v1/check/batch", &batch);
    let allowed: Vec<_> = told["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["allowed"].clone())
        .collect();
    assert_eq!(allowed, [true, true, false]);
    let (status, text) = node.http("POST", "/v1/check?status=429", "", &login.to_string());
    assert_eq!(status, 429);
    assert!(text.contains("\r\nretry-after: 1800\r\n"), "{text}");
    let (_, free) = post(&node, "/v1/check", &json!({"attributes": {"path": "/"}}));
    assert_eq!(
        (&free["allowed"], &free["rule"], &free["remaining"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    for wrong in [
        json!({}),
        json!({"key": "a", "attributes": {}}),
        json!({"attributes": {}, "limit": "default"}),
    ] {
        let (status, told) = post(&node, "/v1/check", &wrong);
        assert_eq!((status, &told["error"]["name"]), (400, &json!("argument")), "{told}");
    }
    let (_, metrics) = node.http("GET", "/metrics", "", "");
    let line = "ratelimit_rule_decisions_total{limiter=\"@rules\",rule=\"login\",outcome=\"denied\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");

    // Another rule beside it, while it decides: the count of this one stays.
    let more = RULES.to_owned() + "[[rule]]\nname = \"all\"\nby = []\nlimits = \"1000/s\"\n";
    config(directory.path(), &more);
    node.signal("-HUP");
    wait("the reload", || {
        (node.metric("ratelimit_reloads_total") == 1.0).then_some(())
    });
    assert_eq!(post(&node, "/v1/check", &login).1["allowed"], false);
    assert_eq!(
        post(&node, "/v1/check", &json!({"attributes": {"path": "/"}})).1["rule"],
        "all"
    );
    assert_eq!(post(&node, "/v1/refund", &login).0, 204);
    assert_eq!(post(&node, "/v1/check", &login).1["allowed"], true);
    // What is wrong is refused, and the rules before stay.
    config(directory.path(), "[[rule]]\nname = 5\n");
    node.signal("-HUP");
    wait("the refusal", || {
        (node.metric("ratelimit_reload_errors_total") == 1.0).then_some(())
    });
    assert_eq!(post(&node, "/v1/check", &login).1["allowed"], false);
    config(directory.path(), RULES);
    assert!(node.stop().success());
    let again = start();
    wait("what was counted", || {
        (post(&again, "/v1/peek", &login).1["allowed"] == false).then_some(())
    });
}
