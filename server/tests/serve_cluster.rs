//! Three nodes of `ratelimit serve` that keep one limit, each a process.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::cluster::{NODES, addresses, body, certificates, linked, start};
use common::node::{Node, wait};
use common::ratelimit;
use serde_json::json;

fn allowed(node: &Node, key: &str) -> bool {
    let (status, text) = node.http("POST", "/v1/check", "", &json!({ "key": key }).to_string());
    assert_eq!(status, 200, "{text}");
    body(&text)["allowed"].as_bool().unwrap()
}

#[test]
fn a_strict_limit_is_kept_over_three_nodes_and_over_one_that_leaves() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let addresses = addresses();
    let mut nodes: Vec<Node> = NODES
        .iter()
        .map(|name| start(directory.path(), &addresses, name, "strict"))
        .collect();
    for node in &nodes {
        wait("all links", || (linked(node) == 2).then_some(()));
    }
    let mut admitted = 0;
    let mut last = Instant::now();
    // Nobody gets anything any more for longer than a lease lives.
    while last.elapsed() < Duration::from_secs(3) && admitted <= 40 {
        for node in &nodes {
            if allowed(node, "client-7") {
                (admitted, last) = (admitted + 1, Instant::now());
            }
        }
    }
    assert!((28..=40).contains(&admitted), "{admitted} of 40");
    assert_eq!(
        nodes[0].metric("ratelimit_cluster_mode_of_work{limiter=\"api\",mode=\"whole\"}"),
        1.0
    );
    assert!(nodes[2].stop().success());
    wait("c has left", || (linked(&nodes[0]) == 1).then_some(()));
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert!(
            !allowed(&nodes[0], "client-7") && !allowed(&nodes[1], "client-7"),
            "41 of 40"
        );
    }
}

#[test]
fn a_configuration_is_checked_beside_the_node_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let addresses = addresses();
    let _node = start(directory.path(), &addresses, "a", "eventual");
    let file = directory.path().join("a").join("node.toml");
    let checked = |file: &Path| {
        ratelimit()
            .args(["serve", "--check-config", "--config"])
            .arg(file)
            .output()
            .unwrap()
    };
    let fine = checked(&file);
    assert!(fine.status.success(), "{fine:?}");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("mode = \"eventual\"", "mode = \"lax\"");
    std::fs::write(&file, text).unwrap();
    let wrong = checked(&file);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        !wrong.status.success() && told.contains("mode is \"lax\"") && told.contains("line "),
        "{told}"
    );
}
