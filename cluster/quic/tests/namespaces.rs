//! Real sockets over networks that are slow, lossy, cut, or cut one way; each node in a network namespace of its own.
//!
//! Needs the right to make namespaces (root, in most places); says so and ends where that is missing.
#![cfg(target_os = "linux")]

mod common;

use std::time::{Duration, Instant};

use common::net::{Net, Way, address, build};
use common::{Ca, Making, Node, compare_ledgers, hammer, per_second, spec, wait_linked, wait_until};
use ratelimit_protocol::Mode;
use ratelimit_protocol::membership::Standing;

const RATE: u64 = 200;
const BURST: u64 = 40;
const NAMES: [&str; 3] = ["a", "b", "c"];

fn cluster(mode: Mode) -> Option<(Net, Vec<Node>)> {
    let ca = Ca::new();
    build(NAMES.len(), |n| {
        let mut making = Making::new(NAMES[n], &ca, &[]);
        making.limits = vec![spec(1, per_second(RATE, BURST), mode)];
        if mode.is_hard() {
            making.owners = NAMES.to_vec();
        }
        making.listen = address(n);
        // A seed that is one's own, or not there yet, is no trouble.
        making.seeds = vec![address(0).to_string(), address(1).to_string()];
        making.start()
    })
}

fn to_each_other(nodes: &[Node]) -> Vec<&Node> {
    let nodes: Vec<&Node> = nodes.iter().collect();
    wait_linked(&nodes);
    nodes
}

fn slow_and_lossy(_: usize, _: usize) -> Way {
    Way {
        delay: Duration::from_millis(100),
        loss_percent: 30,
        ..Way::default()
    }
}

#[test]
fn a_strict_limit_holds_over_any_network() {
    let Some((net, nodes)) = cluster(Mode::Strict { floor_ppm: 0 }) else {
        return;
    };
    let nodes = to_each_other(&nodes);
    let began = Instant::now();
    let mut total = 0;
    let mut go = |what: &str, seconds: u64| {
        let allowed: u64 = hammer(&nodes, 1, 7, Duration::from_secs(seconds)).iter().sum();
        total += allowed;
        let most = BURST as f64 + RATE as f64 * began.elapsed().as_secs_f64();
        assert!(total as f64 <= most, "{what}: {total} in all, at most {most}");
        allowed
    };
    assert!(go("a good network", 2) > RATE, "most of the limit is used");
    net.set(slow_and_lossy);
    go("200 ms there and back, 30 % lost", 6);
    assert!(net.counts().1 > 20, "packets were lost: {:?}", net.counts());
    // c is alone.
    net.set(|from, to| Way {
        cut: (from == 2) != (to == 2),
        ..Way::default()
    });
    go("one node is cut off", 6);
    wait_until("the links are down", || {
        !nodes[2].is_linked("a") && !nodes[0].is_linked("c")
    });
    net.set(|_, _| Way::default());
    wait_linked(&nodes);
    assert!(go("healed", 3) > RATE, "the limit is used again");
    compare_ledgers(&nodes);
}

#[test]
fn an_eventual_limit_stays_within_its_bound_and_counts_nothing_twice() {
    let Some((net, nodes)) = cluster(Mode::Eventual) else {
        return;
    };
    let nodes = to_each_other(&nodes);
    net.set(slow_and_lossy);
    let began = Instant::now();
    let total: u64 = hammer(&nodes, 1, 7, Duration::from_secs(8)).iter().sum();
    // B + R (1 + eps) t + (N - 1) B + N R D1. D1 = 2 ms + 2 d + S with d the delay until a report has come through: at 30 %
    // loss QUIC needs some attempts, so a second is allowed.
    let (rate, burst) = (RATE as f64, BURST as f64);
    let most = burst + rate * 1.0005 * began.elapsed().as_secs_f64() + 2.0 * burst + 3.0 * rate * 1.0;
    assert!(total as f64 <= most, "{total}, at most {most}");
    compare_ledgers(&nodes);

    // One way only: a is not heard by b; both lose the link, and c hears both.
    net.set(|from, to| Way {
        cut: (from, to) == (0, 1),
        ..Way::default()
    });
    wait_until("both ends are down", || {
        !nodes[0].is_linked("b") && !nodes[1].is_linked("a")
    });
    assert!(nodes[2].is_linked("a") && nodes[2].is_linked("b"));
    hammer(&nodes, 1, 8, Duration::from_secs(1));
    net.set(|_, _| Way::default());
    wait_linked(&nodes);
    compare_ledgers(&nodes);

    // Everybody for himself, for less than a hold-down: what was on its way is counted once, by whoever owned it.
    net.set(|from, to| Way {
        cut: from != to,
        ..Way::default()
    });
    hammer(&nodes, 1, 9, Duration::from_secs(2));
    wait_until("b is silent", || {
        nodes[0]
            .peer("b")
            .is_some_and(|b| matches!(b.standing, Standing::Suspect | Standing::Dead))
    });
    wait_until("the link is down", || !nodes[0].is_linked("b"));
    net.set(|_, _| Way::default());
    wait_linked(&nodes);
    hammer(&nodes, 1, 9, Duration::from_millis(500));
    compare_ledgers(&nodes);
}
