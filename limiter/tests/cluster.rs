//! One limit over several nodes, as a user of the crate has it: real sockets on loopback, real certificates.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ratelimit::{Builder, ClusterConfig, Error, Limiter, Mode, PeerState};

/// Long enough for a slow machine; nothing waits for as long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory as `ratelimit certs` makes it.
struct Certs {
    directory: tempfile::TempDir,
}

impl Certs {
    fn of(nodes: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        ratelimit_certs::make(&ratelimit_certs::Options::new(directory.path(), nodes)).unwrap();
        Certs { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().into()
    }
}

/// A port that was free a moment ago.
fn address() -> String {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn config(node: &str, listen: &str, seeds: &[&str], certs: &Path) -> ClusterConfig {
    ClusterConfig {
        node: node.into(),
        listen: listen.into(),
        seeds: seeds.iter().map(|seed| (*seed).into()).collect(),
        certs: Some(certs.into()),
        interval: Duration::from_millis(10),
        ..ClusterConfig::default()
    }
}

/// Nodes that know each other, made by `build`, and ready.
fn nodes(names: &[&str], certs: &Certs, build: impl Fn(ClusterConfig) -> Builder) -> Vec<Limiter> {
    let addresses: Vec<String> = names.iter().map(|_| address()).collect();
    let seeds: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let nodes: Vec<Limiter> = names
        .iter()
        .zip(&addresses)
        .map(|(name, listen)| build(config(name, listen, &seeds, &certs.path())).build().unwrap())
        .collect();
    for node in &nodes {
        // Starts all before it waits for any.
        let _ = node.ready(Duration::ZERO);
    }
    for node in &nodes {
        assert!(node.ready(PATIENCE), "{:?}", node.peers());
    }
    nodes
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_strict_limit_is_given_out_to_the_last_unit_and_not_beyond() {
    let certs = Certs::of(&["a", "b", "c"]);
    let nodes = nodes(&["a", "b", "c"], &certs, |mut config| {
        config.mode = Mode::Strict { floor_ppm: 0 };
        config.owners = vec!["a".into(), "b".into(), "c".into()];
        Limiter::builder().limit("60/day".parse().unwrap()).cluster(config)
    });
    assert_given_out(&nodes, 60);
}

/// Asks all nodes in turn until nobody gets anything any more: never beyond the limit, and all of it but for what is lost where a
/// busy machine lets a lease run out before its holder comes to use it.
fn assert_given_out(nodes: &[Limiter], limit: u32) {
    let mut admitted = 0;
    let (begin, mut last) = (Instant::now(), Instant::now());
    // Longer than a lease lives, so that nobody has one left over.
    while last.elapsed() < Duration::from_secs(3) && begin.elapsed() < PATIENCE {
        for node in nodes {
            if node.is_allowed("client-7") {
                (admitted, last) = (admitted + 1, Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(admitted <= limit, "{admitted} of {limit}");
    assert!(admitted * 10 >= limit * 7, "only {admitted} of {limit}");
}

#[test]
fn what_one_node_spends_another_does_not() {
    let certs = Certs::of(&["a", "b"]);
    let nodes = nodes(&["a", "b"], &certs, |config| {
        Limiter::builder().limit("1000/day".parse().unwrap()).cluster(config)
    });
    let spent = (0..1_500).filter(|_| nodes[0].is_allowed("client-7")).count();
    assert_eq!(spent, 1_000, "the whole burst is there for who comes alone");
    // An eventual limit lets a node begin before it is told; then it learns that there is nothing.
    let mut more = 0;
    until("b learns what a has spent", || {
        let allowed = nodes[1].is_allowed("client-7");
        more += u32::from(allowed);
        assert!(
            more <= 1_000,
            "the bound of an eventual limit: one burst for each further node"
        );
        !allowed
    });
    assert!(more < 500, "{more} of 1,000 once more: told too late");
    // Others are not concerned.
    assert!(nodes[1].is_allowed("client-8"));
}

#[test]
fn a_limit_is_changed_on_all_nodes() {
    let certs = Certs::of(&["a", "b"]);
    let nodes = nodes(&["a", "b"], &certs, |config| {
        Limiter::builder().limit("10/s".parse().unwrap()).cluster(config)
    });
    nodes[0].set_limit("20/minute".parse().unwrap()).unwrap();
    until("b has the new limit", || {
        nodes[1].limits() == ["20/minute".parse().unwrap()]
    });
    assert_eq!(nodes[1].check("client-7").limit, 20);
    until("a has it too", || nodes[0].limits() == nodes[1].limits());
    let error = nodes[1].set_limit(ratelimit::Limit::new(1, Duration::from_secs(60)).unwrap().burst(0));
    assert_eq!(error.unwrap_err().name(), "invalid_limit");
    assert_eq!(nodes[1].set_limits(&[]).unwrap_err().name(), "limit_count");
}

#[test]
fn peers_come_and_say_goodbye() {
    let certs = Certs::of(&["a", "b"]);
    let nodes = nodes(&["a", "b"], &certs, |config| {
        Limiter::builder().limit("10/s".parse().unwrap()).cluster(config)
    });
    let b = |node: &Limiter| node.peers().into_iter().find(|peer| peer.name == "b");
    until("b is linked", || {
        b(&nodes[0]).is_some_and(|peer| peer.state == PeerState::Linked && peer.rtt.is_some())
    });
    nodes[1].close().unwrap();
    until("b has left", || {
        b(&nodes[0]).is_none_or(|peer| peer.state == PeerState::Left)
    });
    // Who has left goes on deciding.
    assert!(nodes[1].is_allowed("client-7"));
    assert!(!nodes[1].ready(Duration::ZERO) && nodes[1].peers().is_empty());
    nodes[1].close().unwrap();
    assert_eq!(nodes[1].set_limit("1/s".parse().unwrap()).unwrap_err().name(), "closed");
}

#[test]
fn a_node_that_comes_back_from_its_snapshot_owes_what_it_owed() {
    let certs = Certs::of(&["a"]);
    let listen = address();
    let path = certs.path().join("state").join("a.snapshot");
    let build = || {
        Limiter::builder()
            .limit("3/day".parse().unwrap())
            .persist(&path, Duration::from_secs(3600))
            .cluster(config("a", &listen, &[], &certs.path()))
            .build()
            .unwrap()
    };
    let first = build();
    assert!(first.ready(PATIENCE));
    for _ in 0..3 {
        assert!(first.is_allowed("client-7"));
    }
    first.close().unwrap();
    drop(first);
    let second = build();
    assert!(second.ready(PATIENCE));
    assert!(!second.is_allowed("client-7"));
    assert!(second.is_allowed("client-8"));
    assert!(certs.path().join("state").join("a.snapshot.node").exists());
}

#[test]
fn several_limits_are_kept_at_once() {
    let certs = Certs::of(&["a", "b"]);
    let nodes = nodes(&["a", "b"], &certs, |mut config| {
        config.owners = vec!["a".into()];
        config.modes = vec![Mode::Eventual, Mode::Strict { floor_ppm: 0 }];
        Limiter::builder()
            .limit("1000/s".parse().unwrap())
            .limit("20/day".parse().unwrap())
            .cluster(config)
    });
    assert_given_out(&nodes, 20);
}

#[test]
fn what_cannot_be_is_said_when_the_limiter_is_made() {
    let certs = Certs::of(&["a"]);
    let limit = || Limiter::builder().limit("1/s".parse().unwrap());
    let name = |built: Result<Limiter, Error>| {
        let error = built.expect_err("refused");
        (error.name(), error.to_string())
    };
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (code, text) = name(
        limit()
            .cluster(config(
                "a",
                &taken.local_addr().unwrap().to_string(),
                &[],
                &certs.path(),
            ))
            .build(),
    );
    assert_eq!(code, "cluster_start", "{text}");

    let good = || config("a", "127.0.0.1:0", &[], &certs.path());
    let of_nobody = config("nobody", "127.0.0.1:0", &[], &certs.path());
    let (code, text) = name(limit().cluster(of_nobody).build());
    assert_eq!(code, "cluster_config");
    assert!(text.contains("nobody.pem"), "{text}");

    let mut other_name = good();
    other_name.node = "b".into();
    other_name.cert = Some(certs.path().join("a.pem").display().to_string());
    other_name.key = Some(certs.path().join("a.key").display().to_string());
    assert_eq!(name(limit().cluster(other_name).build()).0, "cluster_config");

    let (code, text) = name(
        limit()
            .cluster(ClusterConfig {
                seeds: vec!["b".into()],
                ..good()
            })
            .build(),
    );
    assert_eq!(code, "cluster_config");
    assert!(text.contains("no port"), "{text}");
    assert_eq!(name(limit().hash_key([7; 16]).cluster(good()).build()).0, "option");
    #[cfg(target_os = "linux")]
    assert_eq!(
        name(limit().share_with_children().cluster(good()).build()).0,
        "unsupported"
    );

    let node = limit().cluster(good()).build().unwrap();
    assert_eq!(
        node.set_override("client-7", Some("9/s".parse().unwrap()))
            .unwrap_err()
            .name(),
        "unsupported"
    );
}

#[test]
fn without_a_cluster_there_is_nobody_to_wait_for() {
    let alone = Limiter::builder().limit("1/s".parse().unwrap()).build().unwrap();
    assert!(alone.ready(Duration::ZERO) && alone.peers().is_empty());
}
