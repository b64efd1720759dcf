//! Nodes that keep one limit together, each a process.

use std::net::UdpSocket;
use std::path::Path;

use serde_json::Value;

use super::node::{Node, config};
use super::ratelimit;

pub const NODES: [&str; 3] = ["a", "b", "c"];

pub fn body(text: &str) -> Value {
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub fn linked(node: &Node) -> usize {
    let (status, text) = node.http("GET", "/v1/peers", "", "");
    assert_eq!(status, 200);
    let peers = body(&text)["peers"].as_array().unwrap().clone();
    peers.iter().filter(|peer| peer["state"] == "linked").count()
}

/// The node `name` of the cluster, in a directory of its own.
pub fn start(directory: &Path, addresses: &[String], name: &str, mode: &str) -> Node {
    let place = NODES.iter().position(|node| *node == name).unwrap();
    let own = directory.join(name);
    std::fs::create_dir_all(&own).unwrap();
    let text = format!(
        "[limits.api]\nlimits = \"40/day\"\n[limits.api.cluster]\nnode = \"{name}\"\nlisten = \"{}\"\nseeds = {:?}\n\
         certs = {:?}\nmode = \"{mode}\"\nowners = [\"a\", \"b\", \"c\"]\ninterval = 0.02\n",
        addresses[place],
        addresses,
        directory.join("certs"),
    );
    let config = config(&own, &text);
    Node::start(&own.join("state"), &["--config", config.to_str().unwrap()])
}

pub fn certificates(directory: &Path) {
    let made = ratelimit()
        .arg("certs")
        .arg(directory.join("certs"))
        .args(NODES)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

pub fn addresses() -> Vec<String> {
    let sockets: Vec<UdpSocket> = NODES.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().to_string())
        .collect()
}
