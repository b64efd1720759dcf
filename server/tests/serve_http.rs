//! `ratelimit serve` over HTTP, and how it starts, changes and stops.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::node::{Node, PATIENCE, config, serve, wait};
use serde_json::{Value, json};

/// The body of a response as JSON.
fn body(text: &str) -> Value {
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn post(node: &Node, path: &str, asked: &Value) -> (u16, Value) {
    let (status, text) = node.http("POST", path, "", &asked.to_string());
    let is_empty = text.ends_with("\r\n\r\n");
    (status, if is_empty { Value::Null } else { body(&text) })
}

const TWO_LIMITS: &str = "[limits.api]\nlimits = [\"3/hour\", \"5/day\"]\n\
                          [limits.api.overrides]\nbig = \"100/day\"\n\
                          [limits.login]\nrate_limit = 1\ntime_window = 3600\n";

fn node_of(directory: &tempfile::TempDir, text: &str) -> Node {
    let config = config(directory.path(), text);
    Node::start(directory.path(), &["--config", config.to_str().unwrap()])
}

#[test]
fn decisions_are_told_as_json_or_as_a_status() {
    let directory = tempfile::tempdir().unwrap();
    let node = node_of(&directory, TWO_LIMITS);
    let ask = json!({"key": "a", "limit": "api"});
    let (status, told) = post(&node, "/v1/peek", &ask);
    assert_eq!((status, &told["remaining"]), (200, &json!(3)));
    let (status, told) = post(&node, "/v1/check", &ask);
    assert_eq!(status, 200);
    assert_eq!(told["allowed"], true);
    assert_eq!(
        (&told["limit"], &told["remaining"], &told["retry_after"]),
        (&json!(3), &json!(2), &json!(0.0))
    );
    let reset_after = told["reset_after"].as_f64().unwrap();
    assert!((1199.0..=17_280.0).contains(&reset_after), "{told}");

    let never = json!({"key": "a", "limit": "api", "cost": 4});
    let (status, told) = post(&node, "/v1/check", &never);
    assert_eq!(
        (status, &told["allowed"], &told["retry_after"]),
        (200, &json!(false), &Value::Null)
    );

    let (status, text) = node.http(
        "POST",
        "/v1/check?status=429",
        "",
        &json!({"key": "a", "limit": "api", "cost": 2}).to_string(),
    );
    assert_eq!(status, 200);
    assert!(
        text.contains("\r\nratelimit-policy: \"3/hour\";q=3;w=3600, \"5/day\";q=5;w=86400\r\n"),
        "{text}"
    );
    let (status, text) = node.http("POST", "/v1/check?status=429", "", &ask.to_string());
    assert_eq!(status, 429);
    assert!(
        text.contains("content-type: application/problem+json\r\n") && text.contains("\r\nretry-after: "),
        "{text}"
    );
    assert_eq!(body(&text)["violated-policies"], json!(["3/hour"]));

    let (status, _) = post(&node, "/v1/refund", &json!({"key": "a", "limit": "api", "cost": 2}));
    assert_eq!(status, 204);
    assert_eq!(post(&node, "/v1/peek", &ask).1["remaining"], 2);
    // A number is the same key as its digits.
    assert_eq!(
        post(&node, "/v1/check", &json!({"key": 7, "limit": "login"})).1["allowed"],
        true
    );
    assert_eq!(
        post(&node, "/v1/check", &json!({"key": "7", "limit": "login"})).1["allowed"],
        false
    );
    // An override of the configuration.
    assert_eq!(
        post(&node, "/v1/peek", &json!({"key": "big", "limit": "api"})).1["limit"],
        100
    );
    assert_eq!(node.metric("ratelimit_allowed_total{limiter=\"login\"}"), 1.0);
    assert_eq!(node.http("GET", "/healthz", "", "").0, 200);
    assert_eq!(node.http("GET", "/readyz", "", "").0, 200);
}

#[test]
fn a_batch_is_decided_in_order_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let node = node_of(&directory, TWO_LIMITS);
    let login = |key: &str| json!({"key": key, "limit": "login"});
    let wrong = json!({"requests": [login("a"), {"key": "a", "limit": "logn"}]});
    assert_eq!(post(&node, "/v1/check/batch", &wrong).0, 404);
    let (status, told) = post(
        &node,
        "/v1/check/batch",
        &json!({"requests": [login("a"), login("b"), login("a")]}),
    );
    let allowed: Vec<_> = told["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|decision| &decision["allowed"])
        .collect();
    assert_eq!(
        (status, allowed),
        (200, vec![&json!(true), &json!(true), &json!(false)])
    );
    let many = json!({"requests": vec![login("c"); 1001]});
    assert_eq!(post(&node, "/v1/check/batch", &many).0, 400);
    assert_eq!(
        post(&node, "/v1/peek", &login("c")).1["allowed"],
        true,
        "a batch that is too long charges nothing"
    );
}

#[test]
fn administrators_change_limits_and_clients() {
    let directory = tempfile::tempdir().unwrap();
    let node = node_of(&directory, TWO_LIMITS);
    let limits = json!({"limits": {"api": ["3/hour", "5/day"], "login": ["1/hour"]}});
    assert_eq!(body(&node.http("GET", "/v1/limits", "", "").1), limits);
    let ask = json!({"key": "a", "limit": "login"});
    assert_eq!(post(&node, "/v1/check", &ask).1["allowed"], true);
    assert_eq!(post(&node, "/v1/check", &ask).1["allowed"], false);

    let (status, text) = node.http("PUT", "/v1/limits", "", r#"{"limits": {"login": ["4/hour"]}}"#);
    assert_eq!((status, &body(&text)["limits"]["login"]), (200, &json!(["4/hour"])));
    let told = post(&node, "/v1/peek", &ask).1;
    assert_eq!(
        (&told["limit"], &told["remaining"]),
        (&json!(4), &json!(0)),
        "the spent share stays spent"
    );
    let (status, text) = node.http(
        "PUT",
        "/v1/limits",
        "",
        r#"{"limits": {"api": ["9/hour", "9/day"], "login": ["1/s", "2/s"]}}"#,
    );
    assert_eq!((status, &body(&text)["error"]["name"]), (400, &json!("limit_count")));
    assert_eq!(
        body(&node.http("GET", "/v1/limits", "", "").1)["limits"]["api"],
        json!(["3/hour", "5/day"])
    );

    assert_eq!(post(&node, "/v1/reset", &ask).0, 204);
    assert_eq!(post(&node, "/v1/peek", &ask).1["remaining"], 4);
    assert_eq!(
        post(
            &node,
            "/v1/block",
            &json!({"key": "a", "limit": "login", "duration": 60})
        )
        .0,
        204
    );
    assert_eq!(post(&node, "/v1/check", &ask).1["allowed"], false);
    assert_eq!(
        post(
            &node,
            "/v1/block",
            &json!({"key": "a", "limit": "login", "duration": 0})
        )
        .0,
        204
    );
    assert_eq!(post(&node, "/v1/check", &ask).1["allowed"], true);
    assert_eq!(
        post(
            &node,
            "/v1/block",
            &json!({"key": "a", "limit": "login", "duration": -1})
        )
        .0,
        400
    );
    assert_eq!(
        post(
            &node,
            "/v1/block",
            &json!({"key": "a", "limit": "login", "duration": 1e300})
        )
        .0,
        400
    );

    // A key with a slash and a letter that is not ASCII.
    let own = r#"{"override": "50/day", "limit": "login"}"#;
    assert_eq!(node.http("PUT", "/v1/overrides/a%2Fb%C3%A9", "", own).0, 204);
    let ask = json!({"key": "a/bé", "limit": "login"});
    assert_eq!(post(&node, "/v1/peek", &ask).1["limit"], 50);
    assert_eq!(
        node.http("DELETE", "/v1/overrides/a%2Fb%C3%A9?limit=login", "", "").0,
        204
    );
    assert_eq!(post(&node, "/v1/peek", &ask).1["limit"], 4);
}

#[test]
fn administrators_are_asked_who_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let get = |node: &Node, headers: &str| node.http("GET", "/v1/limits", headers, "").0;
    assert_eq!(get(&node, ""), 200);
    assert_eq!(get(&node, "x-forwarded-for: 127.0.0.1\r\n"), 403);
    let rebound = "GET /v1/limits HTTP/1.1\r\nhost: evil.example:8078\r\nconnection: close\r\n\r\n";
    assert_eq!(node.raw(rebound).0, 403);
    drop(node);

    let node = Node::run(serve(directory.path(), &[]).env("RATELIMIT_TOKEN", "0123456789abcdef"));
    assert_eq!(get(&node, ""), 401);
    assert_eq!(get(&node, "authorization: Bearer 0123456789abcdeX\r\n"), 401);
    assert_eq!(get(&node, "authorization: Basic 0123456789abcdef\r\n"), 401);
    assert_eq!(get(&node, "authorization: Bearer 0123456789abcdef\r\n"), 200);
    for (method, path) in [
        ("PUT", "/v1/limits"),
        ("POST", "/v1/reset"),
        ("POST", "/v1/block"),
        ("PUT", "/v1/overrides/a"),
        ("DELETE", "/v1/overrides/a"),
    ] {
        assert_eq!(node.http(method, path, "", "{}").0, 401, "{method} {path}");
    }
    assert_eq!(
        post(&node, "/v1/check", &json!({"key": "a"})).0,
        200,
        "services need no token to ask"
    );
}

#[test]
fn misuse_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let node = node_of(&directory, TWO_LIMITS);
    let long = json!({"key": "k".repeat(64 * 1024 + 1), "limit": "api"}).to_string();
    let huge = json!({"key": "k".repeat(1024 * 1024), "limit": "api"}).to_string();
    for (method, path, sent, status, name) in [
        ("POST", "/v1/check", "{", 400, "argument"),
        ("POST", "/v1/check", "{}", 400, "argument"),
        ("POST", "/v1/check", r#"{"key": "a"}"#, 404, "no_such_limit"),
        (
            "POST",
            "/v1/check",
            r#"{"key": "a", "limit": "apx"}"#,
            404,
            "no_such_limit",
        ),
        (
            "POST",
            "/v1/check",
            r#"{"key": "a", "limit": "api", "csot": 2}"#,
            400,
            "argument",
        ),
        (
            "POST",
            "/v1/check",
            r#"{"key": "a", "limit": "api", "cost": -1}"#,
            400,
            "argument",
        ),
        ("POST", "/v1/check", r#"{"key": 1.5, "limit": "api"}"#, 400, "argument"),
        (
            "POST",
            "/v1/check?status=500",
            r#"{"key": "a", "limit": "api"}"#,
            400,
            "argument",
        ),
        (
            "POST",
            "/v1/check?statsu=429",
            r#"{"key": "a", "limit": "api"}"#,
            400,
            "argument",
        ),
        ("POST", "/v1/check", &long, 400, "argument"),
        ("POST", "/v1/check", &huge, 413, "too_large"),
        ("POST", "/v1/check", "", 415, "media_type"),
        ("GET", "/v1/check", "", 405, "method_not_allowed"),
        ("GET", "/v2/check", "", 404, "not_found"),
        (
            "PUT",
            "/v1/limits",
            r#"{"limits": {"login": ["1/fortnight"]}}"#,
            400,
            "invalid_limit",
        ),
    ] {
        let (got, text) = node.http(method, path, "", sent);
        let shown = &sent[..sent.len().min(60)];
        assert_eq!(got, status, "{method} {path} {shown}: {text}");
        let error = &body(&text)["error"];
        assert_eq!(error["name"], name, "{method} {path} {shown}");
        assert!(error["message"].as_str().unwrap().len() > 20, "{error}");
        let known = ratelimit::ERROR_CODES.iter().find(|known| known.name == name);
        assert_eq!(error["code"], json!(known.map(|known| known.code)));
    }
    assert_eq!(node.metric("ratelimit_allowed_total{limiter=\"api\"}"), 0.0);
}

#[test]
fn a_configuration_is_checked_without_being_used() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let check = |text: &str| {
        let config = config(directory.path(), text);
        serve(&state, &["--check-config", "--config", config.to_str().unwrap()])
            .output()
            .unwrap()
    };
    let fine = check(TWO_LIMITS);
    assert!(fine.status.success());
    assert_eq!(common::stdout(&fine), "the configuration is fine: limits api, login\n");
    let nine = format!("[limits.api]\nlimits = {:?}\n", ["1/s"; 9]);
    for (text, part) in [
        (
            "\n[limits.api]\nlimits = \"x\"\n",
            "node.toml, line 3: \"x\" is not a limit",
        ),
        (&nine, "limit \"api\": "),
        ("nonsense = 1", "node.toml, line 1: unknown field `nonsense`"),
    ] {
        let wrong = check(text);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(common::stderr(&wrong).contains(part), "{}", common::stderr(&wrong));
    }
    assert!(!state.exists());
    let mut remote = common::ratelimit();
    remote
        .args(["serve", "--resp", "0.0.0.0:0"])
        .env("RATELIMIT_HTTP", "127.0.0.1:0");
    let remote = remote.output().unwrap();
    assert_eq!(remote.status.code(), Some(2));
    assert!(
        common::stderr(&remote).contains("--allow-remote"),
        "{}",
        common::stderr(&remote)
    );
}

#[test]
fn a_second_node_on_the_same_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let second = serve(directory.path(), &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        common::stderr(&second).contains("default"),
        "{}",
        common::stderr(&second)
    );
    let mut taken = common::ratelimit();
    let taken = taken
        .args(["serve", "--http", &node.http, "--resp", "off", "--state"])
        .arg(directory.path().join("other"));
    let taken = taken.output().unwrap();
    assert!(common::stderr(&taken).contains("port 0"), "{}", common::stderr(&taken));
}

#[test]
fn a_reload_under_load_loses_no_count() {
    struct SetWhenDropped<'a>(&'a AtomicBool);
    impl Drop for SetWhenDropped<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let limits = |day: u32| format!("[limits.default]\nlimits = \"{day}/day\"\n");
    let node = node_of(&directory, &limits(1_000_000));
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let allowed: u64 = std::thread::scope(|scope| {
        // Also when a wait below fails: the scope waits for its threads.
        let _done = SetWhenDropped(&done);
        let load = || {
            let mut stream = TcpStream::connect(&node.http).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let ask = r#"{"key":"a"}"#;
            let request = format!(
                "POST /v1/check HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ask}",
                ask.len()
            );
            let mut allowed = 0;
            while !done.load(Ordering::Relaxed) {
                stream.write_all(request.as_bytes()).unwrap();
                let mut response = Vec::new();
                while !response.ends_with(b"}") {
                    let mut part = [0; 1024];
                    let read = stream.read(&mut part).unwrap();
                    assert!(read > 0, "the connection ended");
                    response.extend_from_slice(&part[..read]);
                }
                allowed += u64::from(String::from_utf8(response).unwrap().contains("\"allowed\":true"));
                asked.fetch_add(1, Ordering::Relaxed);
            }
            allowed
        };
        let loads: Vec<_> = (0..3).map(|_| scope.spawn(load)).collect();
        for round in 1..=10u32 {
            let day = if round % 2 == 0 { 1_000_000 } else { 2_000_000 };
            config(directory.path(), &limits(day));
            node.signal("-HUP");
            wait("the reload", || {
                (node.metric("ratelimit_reloads_total") == f64::from(round)).then_some(())
            });
            wait("some load under the new limit", || {
                (asked.load(Ordering::Relaxed) >= 300 * u64::from(round)).then_some(())
            });
        }
        // A configuration that makes no sense changes nothing.
        config(directory.path(), "[limits.default]\nlimits = \"1/fortnight\"\n");
        node.signal("-HUP");
        wait("the refusal", || {
            (node.metric("ratelimit_reload_errors_total") == 1.0).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        loads.into_iter().map(|load| load.join().unwrap()).sum()
    });
    assert!(allowed > 100, "{allowed}");
    assert_eq!(
        node.metric("ratelimit_allowed_total{limiter=\"default\"}") as u64,
        allowed
    );
    let told = post(&node, "/v1/peek", &json!({"key": "a"})).1;
    let spent = 1_000_000 - told["remaining"].as_u64().unwrap();
    // Under the doubled limit a request costs half as much of the burst. What refills meanwhile, 12 requests a second, is less than
    // is taken; each of ten changes may round by one.
    assert!(
        spent >= allowed / 2 - 12 * 30 - 10 && spent <= allowed + 10,
        "{spent} spent of {allowed}"
    );
    assert!(
        node.log().contains("configuration refused") && node.log().contains("line 2"),
        "{}",
        node.log()
    );

    config(
        directory.path(),
        "http = \"127.0.0.1:1\"\n[limits.default]\nlimits = \"5/day\"\n[limits.more]\nlimits = \"1/day\"\n",
    );
    node.signal("-HUP");
    wait("a further limit", || {
        (post(&node, "/v1/check", &json!({"key": "a", "limit": "more"})).0 == 200).then_some(())
    });
    assert_eq!(
        post(&node, "/v1/check", &json!({"key": "a", "limit": "more"})).1["allowed"],
        false
    );
    config(directory.path(), "[limits.default]\nlimits = \"5/day\"\n");
    node.signal("-HUP");
    wait("one limit less", || {
        (post(&node, "/v1/check", &json!({"key": "a", "limit": "more"})).0 == 404).then_some(())
    });
}

#[test]
fn slow_and_surplus_connections_are_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), "max_connections = 2\n");
    let mut node = Node::start(directory.path(), &["--config", config.to_str().unwrap()]);
    let first = TcpStream::connect(&node.http).unwrap();
    let _second = TcpStream::connect(&node.http).unwrap();
    let mut third = TcpStream::connect(&node.http).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut told = String::new();
    third.read_to_string(&mut told).unwrap();
    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.contains("retry-after: 1"),
        "{told}"
    );
    drop(first);
    wait("room", || {
        let mut stream = TcpStream::connect(&node.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut told = String::new();
        // A surplus connection may be reset, with our request unread.
        let _ = stream.read_to_string(&mut told);
        told.starts_with("HTTP/1.1 200 ").then_some(())
    });
    // An idle connection does not keep the node from stopping.
    assert_eq!(node.stop().code(), Some(0), "{}", node.log());
}
