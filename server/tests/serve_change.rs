//! What a running `ratelimit serve` is told to change: all of it, or nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;

use common::node::{Node, config, wait};
use serde_json::{Value, json};

fn peek(node: &Node, key: &str) -> Value {
    let (status, text) = node.http("POST", "/v1/peek", "", &json!({"key": key}).to_string());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn a_reload_that_finds_no_room_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let before =
        "[limits.default]\nlimits = \"10/day\"\n[limits.default.overrides]\nkept = \"20/day\"\ngone = \"30/day\"\n";
    let path = config(directory.path(), before);
    let node = Node::start(directory.path(), &["--config", path.to_str().unwrap()]);
    let own = r#"{"override": "40/day"}"#;
    assert_eq!(node.http("PUT", "/v1/overrides/by-hand", "", own).0, 204);

    // There is room for 4,096 different limits of single clients.
    let mut after = "token = \"0123456789abcdef\"\n[limits.default]\nlimits = \"11/day\"\n[limits.default.overrides]\nkept = \"21/day\"\n\
                     by-hand = \"41/day\"\n"
        .to_owned();
    for number in 0..4_200 {
        writeln!(after, "z{number} = \"{}/day\"", 1_000 + number).unwrap();
    }
    config(directory.path(), &after);
    node.signal("-HUP");
    wait("the refusal", || {
        (node.metric("ratelimit_reload_errors_total") == 1.0).then_some(())
    });
    assert!(node.log().contains("different limits already"), "{}", node.log());
    for (key, limit) in [
        ("a", 10),
        ("kept", 20),
        ("gone", 30),
        ("by-hand", 40),
        ("z0", 10),
        ("z4000", 10),
    ] {
        assert_eq!(peek(&node, key)["limit"], limit, "{key}");
    }
    assert_eq!(node.http("GET", "/v1/limits", "", "").0, 200, "there is still no token");

    // Nothing of it takes up room either: a configuration that fits is put in force.
    config(directory.path(), &before.replace("20/day", "22/day"));
    node.signal("-HUP");
    wait("the reload", || {
        (node.metric("ratelimit_reloads_total") == 1.0).then_some(())
    });
    for (key, limit) in [("a", 10), ("kept", 22), ("gone", 30), ("by-hand", 40)] {
        assert_eq!(peek(&node, key)["limit"], limit, "{key}");
    }
}

#[test]
fn terms_beyond_their_number_are_refused_and_those_in_use_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path(), "[throttle]\nmax_limits = 3\n");
    let node = Node::start(directory.path(), &["--config", path.to_str().unwrap()]);
    let mut client = node.connect();
    for burst in 0..3 {
        assert_eq!(client.throttle(&format!("a {burst} 1 86400"))[0], 0);
    }
    client.send(b"CL.THROTTLE a 3 1 86400\r\n");
    client.expect(
        "-Cell error: 3 different limits are in use and no more fit: use fewer, or raise max_limits in the section [throttle]\r\n",
    );
    assert_eq!(client.throttle("a 0 1 86400")[0], 1);
    assert_eq!(client.throttle("b 2 1 86400")[0], 0);
    assert_eq!(node.metric("ratelimit_throttle_refused_total"), 1.0);
    assert_eq!(node.metric("ratelimit_throttle_limits"), 3.0);
}

#[test]
fn configurations_that_are_shipped_are_fine() {
    let packaging = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let shipped = std::fs::read_to_string(packaging.join("ratelimit.toml")).unwrap();
    let kubernetes = std::fs::read_to_string(packaging.join("kubernetes.yaml")).unwrap();
    let within = kubernetes.split("ratelimit.toml: |\n").nth(1).unwrap().lines();
    let within: Vec<&str> = within.map_while(|line| line.strip_prefix("    ")).collect();
    assert!(within.len() > 2);
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let made = common::ratelimit()
        .arg("certs")
        .arg(&certs)
        .arg("ratelimit-0")
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for text in [shipped, within.join("\n")] {
        let path = config(directory.path(), &text);
        let arguments = ["--check-config", "--config", path.to_str().unwrap()];
        let output = common::node::serve(directory.path(), &arguments)
            // What the file for Kubernetes gives a pod.
            .env("RATELIMIT_CLUSTER_NODE", "ratelimit-0")
            .env("RATELIMIT_CLUSTER_LISTEN", "0.0.0.0:7001")
            .env("RATELIMIT_CLUSTER_SEEDS", "ratelimit-nodes:7001")
            .env("RATELIMIT_CLUSTER_CERTS", &certs)
            .output()
            .unwrap();
        assert_eq!(
            common::stdout(&output),
            "the configuration is fine: limits default\n",
            "{output:?}"
        );
    }
    // The units hand over sockets by the names that the node knows, and start it with an option that it has.
    for name in ["http", "resp"] {
        let unit = std::fs::read_to_string(packaging.join(format!("ratelimit-{name}.socket"))).unwrap();
        assert!(unit.contains(&format!("FileDescriptorName={name}\n")), "{unit}");
    }
}
