//! Nodes find each other, share one limit, come and go.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Ca, Making, Node, compare_ledgers, hammer, per_second, quick, spec, wait_linked, wait_until};
use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::{LimitId, Mode};
use ratelimit_quic::{Event, ModeOfWork};

fn eventual() -> Vec<ratelimit_protocol::LimitSpec> {
    vec![spec(1, per_second(200, 40), Mode::Eventual)]
}

fn start<'a>(name: &'a str, ca: &Ca, seeds: &[&Node]) -> Making<'a> {
    let mut making = Making::new(name, ca, seeds);
    making.limits = eventual();
    making.change = Box::new(|config| quick(&mut config.tuning));
    making
}

#[test]
fn three_nodes_find_each_other_by_one_seed_and_share_a_limit() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let b = start("b", &ca, &[&a]).start();
    let c = start("c", &ca, &[&a]).start();
    assert!(b.driver().ready(common::PATIENCE), "its seed is linked");
    assert!(c.driver().ready(common::PATIENCE));
    wait_linked(&[&a, &b, &c]);
    assert!(b.saw(|event| *event == Event::ModeOfWork(ModeOfWork::Whole)));

    let began = Instant::now();
    let allowed = hammer(&[&a, &b, &c], 1, 7, Duration::from_secs(4));
    let seconds = began.elapsed().as_secs_f64();
    let total = allowed.iter().sum::<u64>() as f64;
    // B + R t, and E = (N - 1) B + N R D1 with a generous D1 for a machine that is shared.
    let most = 40.0 + 200.0 * seconds + 2.0 * 40.0 + 3.0 * 200.0 * 0.1;
    assert!(total <= most, "{allowed:?} in {seconds} s, at most {most}");
    assert!(total >= 0.8 * 200.0 * seconds, "{allowed:?} in {seconds} s");
    compare_ledgers(&[&a, &b, &c]);

    let state = a.peer("b").expect("a peer");
    assert!(state.rtt.is_some_and(|rtt| rtt < Duration::from_secs(1)), "{state:?}");
    assert!(state.sent_bytes > 1000 && state.received_bytes > 1000, "{state:?}");
    assert_eq!(state.address, Some(b.driver().local_addr()));
    assert_eq!(state.standing, Standing::Alive);
    assert!(state.incarnation.is_some());
}

#[test]
fn a_strict_limit_is_never_exceeded() {
    let ca = Ca::new();
    let strict = vec![spec(1, per_second(300, 60), Mode::Strict { floor_ppm: 0 })];
    let make = |name, seeds: &[&Node]| {
        let mut making = start(name, &ca, seeds);
        making.limits.clone_from(&strict);
        making.owners = vec!["a", "b", "c"];
        making.start()
    };
    let a = make("a", &[]);
    let b = make("b", &[&a]);
    let c = make("c", &[&a]);
    wait_linked(&[&a, &b, &c]);
    for key in 0..3 {
        let began = Instant::now();
        let allowed = hammer(&[&a, &b, &c], 1, key << 60, Duration::from_secs(2));
        let seconds = began.elapsed().as_secs_f64();
        let total = allowed.iter().sum::<u64>() as f64;
        assert!(total <= 60.0 + 300.0 * seconds, "key {key}: {allowed:?} in {seconds} s");
        assert!(total >= 0.5 * 300.0 * seconds, "key {key}: {allowed:?} in {seconds} s");
    }
    compare_ledgers(&[&a, &b, &c]);
}

#[test]
fn one_that_leaves_hands_over_and_is_known_to_have_left() {
    let ca = Ca::new();
    // Debts that last longer than the test.
    let slow = vec![spec(1, per_second(1, 40), Mode::Eventual)];
    let make = |name, seeds: &[&Node]| {
        let mut making = start(name, &ca, seeds);
        making.limits.clone_from(&slow);
        making.start()
    };
    let a = make("a", &[]);
    let mut b = make("b", &[&a]);
    wait_linked(&[&a, &b]);
    // Keys of all partitions: b owns about half.
    for key in 0..64 {
        for _ in 0..30 {
            a.table.decide(1, key << 58, 1);
        }
    }
    let books = |node: &Node| node.driver().stats().node.accounts;
    wait_until("all is in the books", || books(&a) + books(&b) >= 64);
    assert!(books(&b) > 8, "b owns a part");
    assert!(b.leave(), "a graceful end");
    assert!(b.saw(|event| *event == Event::Stopped { gracefully: true }));
    wait_until("a knows that b left", || {
        a.peer("b").is_some_and(|b| b.standing == Standing::Left)
    });
    wait_until("a keeps the books of all", || books(&a) >= 64);
    wait_until("a works alone", || {
        a.driver().stats().mode_of_work == Some(ModeOfWork::Alone)
    });
    assert!(!a.saw(|event| matches!(
        event,
        Event::PeerStanding {
            standing: Standing::Dead,
            ..
        }
    )));
}

#[test]
fn one_that_is_killed_is_noticed_and_comes_back_in_a_later_life() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let mut b = start("b", &ca, &[&a]).start();
    wait_linked(&[&a, &b]);
    let first = a.peer("b").and_then(|b| b.incarnation).expect("a life");
    let address = b.driver().local_addr();
    b.kill();
    assert!(b.saw(|event| *event == Event::Stopped { gracefully: false }));
    wait_until("the link is down", || !a.is_linked("b"));
    wait_until("b is taken for dead", || {
        a.peer("b").is_some_and(|b| b.standing == Standing::Dead)
    });
    assert!(a.saw(|event| matches!(
        event,
        Event::PeerStanding {
            standing: Standing::Suspect,
            ..
        }
    )));
    // Without a seed: a still calls where b was.
    let mut again = start("b", &ca, &[]);
    again.listen = address;
    again.first_start = false;
    let b = again.start();
    wait_linked(&[&a, &b]);
    let second = a.peer("b").and_then(|b| b.incarnation).expect("a life");
    assert!(second > first, "{second:?} after {first:?}");
    hammer(&[&a, &b], 1, 3, Duration::from_millis(500));
    compare_ledgers(&[&a, &b]);
}

#[test]
fn one_that_comes_back_elsewhere_is_called_there() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let mut b = start("b", &ca, &[&a]).start();
    wait_linked(&[&a, &b]);
    b.kill();
    wait_until("the link is down", || !a.is_linked("b"));
    let mut elsewhere = start("b", &ca, &[&a]).start();
    wait_linked(&[&a, &elsewhere]);
    let address = elsewhere.driver().local_addr();
    elsewhere.kill();
    wait_until("the link is down", || !a.is_linked("b"));
    // It has no seed now: only a can find it, by what b said of itself.
    let mut again = start("b", &ca, &[]);
    again.listen = address;
    let b = again.start();
    wait_linked(&[&a, &b]);
}

#[test]
fn the_own_address_and_names_are_seeds_like_others() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let port = a.driver().local_addr().port();
    let mut making = start("b", &ca, &[]);
    // Its own address is known only if the port is: take one that was free a moment ago.
    let free = std::net::UdpSocket::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    making.listen = free;
    making.seeds = vec![
        format!("localhost:{port}"),
        free.to_string(),
        format!("localhost:{}", free.port()),
    ];
    let b = making.start();
    assert!(b.driver().ready(common::PATIENCE));
    wait_linked(&[&a, &b]);
    assert_eq!(b.driver().peers().len(), 1, "not itself");
    assert!(!b.saw(|event| matches!(event, Event::DuplicateName { .. })));
}

#[test]
fn a_node_that_listens_on_all_addresses_knows_itself_by_its_connection() {
    let ca = Ca::new();
    let free = std::net::UdpSocket::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let mut making = start("a", &ca, &[]);
    making.listen = SocketAddr::from(([0, 0, 0, 0], free.port()));
    making.seeds = vec![free.to_string()];
    making.change = Box::new(|config| {
        quick(&mut config.tuning);
        config.advertise = Some("127.0.0.1".to_owned());
    });
    let a = making.start();
    assert_eq!(a.driver().advertised(), free.to_string());
    assert!(a.driver().ready(common::PATIENCE), "its only seed is itself");
    assert!(a.driver().peers().is_empty());
    assert!(!a.saw(|event| matches!(event, Event::DuplicateName { .. })));
}

#[test]
fn two_processes_with_one_name_are_told_so() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let twin = start("a", &ca, &[&a]).start();
    let told = |node: &Node| node.saw(|event| *event == Event::DuplicateName { name: "a".to_owned() });
    wait_until("both are told", || told(&a) && told(&twin));
}

#[test]
fn more_than_a_stream_holds_at_once_gets_through() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let b = start("b", &ca, &[&a]).start();
    wait_linked(&[&a, &b]);
    // About ten bytes for each key that the other owns: 200 KiB over a stream that takes 64 at a time.
    for key in 0..40_000u64 {
        assert!(a.table.decide(1, key.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1));
    }
    compare_ledgers(&[&a, &b]);
    let sent = a.peer("b").expect("a peer").sent_bytes;
    assert!(sent > 128 * 1024, "{sent} bytes");
}

#[test]
fn a_limit_set_on_one_node_is_in_force_on_all() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let b = start("b", &ca, &[&a]).start();
    wait_linked(&[&a, &b]);
    let in_force = a
        .driver()
        .set_limit(LimitId(1), per_second(500, 5), Mode::Eventual)
        .expect("a limit");
    assert!(
        in_force >= Duration::from_secs(1) && in_force < Duration::from_secs(2),
        "{in_force:?}"
    );
    wait_until("b has it", || {
        b.driver()
            .limits()
            .iter()
            .any(|spec| spec.limit == per_second(500, 5) && spec.version == 2)
    });
    assert!(b.saw(|event| *event
        == Event::LimitChanged {
            id: LimitId(1),
            version: 2
        }));
    let refused = a
        .driver()
        .set_limit(LimitId(9), per_second(500, 5), Mode::Strict { floor_ppm: 0 });
    assert!(refused.expect_err("no owners").to_string().contains("owners"));
}

#[test]
fn nodes_with_different_owners_refuse_each_other_and_say_so() {
    let ca = Ca::new();
    let a = start("a", &ca, &[]).start();
    let mut making = start("b", &ca, &[&a]);
    making.owners = vec!["b"];
    let b = making.start();
    let refused = |event: &Event| {
        matches!(
            event,
            Event::PeerRefused {
                reason: ratelimit_protocol::message::Refusal::Configuration,
                ..
            }
        )
    };
    wait_until("one is told", || a.saw(refused) || b.saw(refused));
    assert!(!a.is_linked("b") && !b.is_linked("a"));
}
