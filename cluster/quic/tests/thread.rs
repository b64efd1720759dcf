//! What the thread costs, and what becomes of everybody else when it is slow or breaks.

mod common;

use std::time::{Duration, Instant};

use common::{Ca, Making, Node, compare_ledgers, hammer, per_second, quick, spec, wait_linked, wait_until};
use ratelimit_protocol::Mode;
use ratelimit_quic::{Event, SetLimitError};

fn pair(ca: &Ca) -> (Node, Node) {
    let make = |name, seeds: &[&Node]| {
        let mut making = Making::new(name, ca, seeds);
        making.limits = vec![spec(1, per_second(1000, 100), Mode::Eventual)];
        making.change = Box::new(|config| quick(&mut config.tuning));
        making.start()
    };
    let a = make("a", &[]);
    let b = make("b", &[&a]);
    wait_linked(&[&a, &b]);
    (a, b)
}

#[test]
fn a_panic_ends_a_life_and_not_the_driver() {
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    let first = b.driver().stats().incarnation;
    b.table.set_broken(true);
    wait_until("it broke more than once", || {
        b.driver().stats().panics > 0 || b.saw(|event| matches!(event, Event::Restarted { .. }))
    });
    assert!(b.table.decide(1, 3, 1), "decisions go on");
    b.table.set_broken(false);
    wait_linked(&[&a, &b]);
    wait_until("it lives again", || b.driver().stats().incarnation > first);
    assert!(b.saw(|event| *event
        == Event::Restarted {
            panic: "broken by a test".to_owned()
        }));
    wait_until("a met the new life", || {
        a.peer("b").and_then(|b| b.incarnation) == Some(b.driver().stats().incarnation)
    });
    assert!(b.driver().stats().panics >= 1);
    assert!(!b.driver().limits().is_empty(), "limits are kept");
    hammer(&[&a, &b], 1, 5, Duration::from_millis(300));
    compare_ledgers(&[&a, &b]);
}

#[test]
fn a_driver_that_breaks_for_ever_can_be_dropped() {
    let ca = Ca::new();
    let (_a, mut b) = pair(&ca);
    b.table.set_broken(true);
    wait_until("it broke", || b.saw(|event| matches!(event, Event::Restarted { .. })));
    let began = Instant::now();
    b.kill();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(b.saw(|event| *event == Event::Stopped { gracefully: false }));
}

#[test]
fn nobody_waits_for_a_frozen_table() {
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    b.table.freeze(3000);
    let drains = b.table.drains();
    wait_until("the thread is in the table", || b.table.drains() > drains);
    let began = Instant::now();
    for _ in 0..1000 {
        let _ = (b.driver().peers(), b.driver().stats(), b.driver().limits());
        b.table.decide(1, 3, 1);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let refused = b
        .driver()
        .set_limit(ratelimit_protocol::LimitId(1), per_second(5, 5), Mode::Eventual);
    assert!(matches!(refused, Ok(_) | Err(SetLimitError::Busy)), "{refused:?}");
    b.table.freeze(0);
    wait_until("it goes on", || {
        b.driver().stats().longest_turn >= Duration::from_secs(2)
    });
    wait_linked(&[&a, &b]);
}

#[test]
fn an_urgent_cell_is_reported_at_once_and_an_idle_node_sleeps() {
    let ca = Ca::new();
    let make = |name, seeds: &[&Node]| {
        let mut making = Making::new(name, &ca, seeds);
        making.limits = vec![spec(1, per_second(1000, 100), Mode::Eventual)];
        making.change = Box::new(|config| {
            quick(&mut config.tuning);
            config.tuning.reload_every = Duration::from_secs(10);
            // Without the bell a report would be up to five seconds away.
            config.node.interval_ns = 5_000_000_000;
            config.node.ttl_ns = 20_000_000_000;
        });
        making.start()
    };
    let a = make("a", &[]);
    let b = make("b", &[&a]);
    wait_linked(&[&a, &b]);
    // A quarter of the burst is urgent with two nodes; keys of all partitions, so that some are the other's.
    let began = Instant::now();
    for key in 0..16 {
        for _ in 0..60 {
            a.table.decide(1, key << 60, 1);
        }
    }
    wait_until("the owner was told", || b.driver().stats().node.booked_units > 0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    wait_until("the bell was rung", || a.driver().stats().kicks > 0);

    // Idle: a turn for each look at the members (ten a second), for heartbeats of the peer and for the published copy.
    let before = b.driver().stats().wakes;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let wakes = b.driver().stats().wakes - before;
    assert!(wakes < 3 * 60, "{wakes} wakes in 3 s");
}

#[test]
#[cfg(unix)]
fn a_forked_child_leaves_the_driver_alone() {
    let ca = Ca::new();
    let (a, mut b) = pair(&ca);
    // Safety: the child calls only what is under test and `_exit`; it neither returns nor unwinds into the harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a child");
    if child == 0 {
        let kicker = b.driver().kicker();
        let began = Instant::now();
        let nothing = b.driver().peers().is_empty() && !b.driver().ready(Duration::from_secs(5));
        let ended = b
            .driver()
            .set_limit(ratelimit_protocol::LimitId(1), per_second(5, 5), Mode::Eventual);
        kicker.kick();
        b.kill();
        let good = nothing && ended == Err(SetLimitError::Ended) && began.elapsed() < Duration::from_secs(1);
        // Safety: it ends this process, and nothing runs after it.
        unsafe { libc::_exit(if good { 0 } else { 1 }) }
    }
    let mut status = 0;
    // Safety: the child is this test's own, and `status` is a place for one number.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(
        (waited, status),
        (child, 0),
        "the child found everything as it should be"
    );
    assert_eq!(a.peer("b").expect("a peer").links_up, 1);
    hammer(&[&a, &b], 1, 5, Duration::from_millis(200));
    compare_ledgers(&[&a, &b]);
}

#[test]
#[cfg(unix)]
fn a_forked_child_does_not_keep_the_port() {
    let ca = Ca::new();
    let (_a, mut b) = pair(&ca);
    let address = b.driver().local_addr();
    let mut ends = [0; 2];
    // Safety: `ends` is a place for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // Safety: the child calls only what is safe after a fork, and `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a child");
    if child == 0 {
        let mut byte = 0u8;
        // Safety: these descriptors are the child's own copies, and `byte` is a place for one; it lives until the parent's
        // end of the pipe is closed.
        unsafe {
            libc::close(ends[1]);
            libc::read(ends[0], (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
    }
    b.kill();
    let taken = std::net::UdpSocket::bind(address);
    let mut status = 0;
    // Safety: the child is this test's own, and `status` is a place for one number.
    let lives = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0;
    // Safety: both descriptors and the child are this test's own.
    unsafe {
        libc::close(ends[1]);
        libc::close(ends[0]);
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
    }
    assert!(lives, "the child was to live until now: {status}");
    taken.expect("the port is free although the child lives");
}
