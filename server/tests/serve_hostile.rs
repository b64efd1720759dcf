//! Clients that mean harm, over HTTP and in numbers. Those of RESP are in `serve_resp.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::node::{Client, Node, PATIENCE, config, serve, wait};

#[test]
fn of_ten_thousand_connections_most_are_refused_and_the_others_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = config(directory.path(), "max_connections = 300\n");
    let node = Node::start(directory.path(), &["--config", path.to_str().unwrap()]);
    let mut kept: Vec<Client> = Vec::new();
    for number in 0..300 {
        let mut client = node.connect();
        // Half of them say nothing, the others half of a request.
        if number % 2 == 0 {
            client.send(b"*2\r\n$4\r\nECHO\r\n$5\r\nab");
        }
        kept.push(client);
    }
    wait("all to be accepted", || {
        (node.metric("ratelimit_connections{listener=\"resp\"}") == 300.0).then_some(())
    });
    let before = node.memory_kib();
    for number in 300..10_000 {
        assert_eq!(
            node.connect().rest(),
            "-ERR max number of clients reached\r\n",
            "connection {number}"
        );
    }
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 4 * 1024, "grew by {grown} KiB");
    assert_eq!(
        node.metric("ratelimit_connections_refused_total{listener=\"resp\"}"),
        9_700.0
    );
    let quiet = &mut kept[1];
    assert_eq!(quiet.throttle("a 0 1 86400")[0], 0);
    assert_eq!(node.http("POST", "/v1/check", "", r#"{"key": "a"}"#).0, 200);
    let told = node.log().matches("connection_refused").count();
    assert!((1..20).contains(&told), "{told} events for 9,700 connections");
}

#[test]
fn as_many_files_may_be_open_as_connections_are_promised() {
    let directory = tempfile::tempdir().unwrap();
    let start = |limit: &str| {
        let node = serve(directory.path(), &[]);
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")])
            .arg(node.get_program())
            .args(node.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Node::run(&mut command)
    };
    let node = start("-Sn 64");
    let mut clients: Vec<Client> = (0..300).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.send(b"PING\r\n");
        client.expect("+PONG\r\n");
    }
    drop((clients, node));

    // Where the system allows no more, it is told, and those that fit are served.
    let node = start("-n 64");
    // Another thread reads what it tells.
    wait("the limit to be told", || {
        node.log().contains("few_files").then_some(())
    });
    let mut first = node.connect();
    first.send(b"PING\r\n");
    first.expect("+PONG\r\n");
    let others: Vec<Client> = (0..100).map(|_| node.connect()).collect();
    wait("the shortage to be told", || {
        node.log().contains("not_accepted").then_some(())
    });
    first.send(b"PING\r\n");
    first.expect("+PONG\r\n");
    drop(others);
    wait("room again", || {
        let mut client = node.connect();
        client.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        client.send(b"PING\r\n");
        let mut reply = [0; 7];
        (client.stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG\r\n").then_some(())
    });
}

#[test]
fn who_does_not_read_or_not_finish_over_http_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let connect = || {
        let stream = TcpStream::connect(&node.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // A body that never comes, and one that is too long to be read at all.
    let mut half = connect();
    half.write_all(
        b"POST /v1/check HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"key\"",
    )
    .unwrap();
    let mut greedy = connect();
    greedy
        .write_all(
            b"POST /v1/check HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n{",
        )
        .unwrap();
    let mut told = [0; 12];
    greedy.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 413");
    // A head without an end.
    let mut head = connect();
    let endless = "x-a: ".to_owned() + &"b".repeat(4096) + "\r\n";
    head.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    head.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..1_000 {
        if head.write_all(endless.as_bytes()).is_err() {
            break;
        }
    }
    let mut told = Vec::new();
    // The answer may be lost in the reset that follows, since more was sent than was read.
    let _ = head.read_to_end(&mut told);
    assert!(
        told.is_empty() || told.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&told)
    );

    // The page asked for over and over, and never read.
    let before = node.memory_kib();
    let mut slow = connect();
    slow.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let stalled = (0..1_000_000).find_map(|_| slow.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").err());
    let kind = stalled
        .unwrap_or_else(|| panic!("a million requests were taken in"))
        .kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "grew by {grown} KiB");
    assert_eq!(
        node.http("GET", "/healthz", "", "").0,
        200,
        "others are served meanwhile"
    );
    let mut told = String::new();
    half.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    wait("the connection to be dropped that is not read", || {
        (node.metric("ratelimit_connections{listener=\"http\"}") <= 1.0).then_some(())
    });
}

#[test]
fn a_key_may_be_as_long_as_is_said_and_not_longer() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut client = node.connect();
    let request = |length: usize| {
        let key = "k".repeat(length);
        format!("*5\r\n$11\r\nCL.THROTTLE\r\n${length}\r\n{key}\r\n$1\r\n0\r\n$1\r\n1\r\n$5\r\n86400\r\n")
    };
    client.send(request(65_536).as_bytes());
    assert_eq!(client.five()[0], 0);
    client.send(request(65_536).as_bytes());
    assert_eq!(client.five()[0], 1);
    client.send(request(65_537).as_bytes());
    assert_eq!(client.rest(), "-ERR Protocol error: invalid bulk length\r\n");
    let before = node.memory_kib();
    for round in 0..200 {
        let mut client = node.connect();
        client.send(format!("*2\r\n$4\r\nECHO\r\n$1073741824\r\n{round}").as_bytes());
        assert!(client.rest().contains("invalid bulk length"));
    }
    assert!(node.memory_kib() < before + 4 * 1024);
}
