//! A denial writes nothing: it is decided on a table whose memory is read-only. The counter-proof is a child process that
//! admits a request there and dies of it.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use ratelimit::{Clock, Decision, Limiter, Overflow};

const CLIENTS: u64 = 5_000;
/// Set for the child process: what it is to do on the read-only table.
const CHILD: &str = "RATELIMIT_READONLY_CHILD";

fn ids() -> Vec<[u8; 8]> {
    (0..CLIENTS).map(u64::to_le_bytes).collect()
}

/// A read-only table in which all clients are exhausted but "fresh", who still has one request.
fn exhausted(limits: &[&str], max_keys: Option<usize>) -> Limiter {
    let (clock, _hand) = Clock::manual();
    let mut builder = Limiter::builder().clock(clock);
    for limit in limits {
        builder = builder.limit(limit.parse().unwrap());
    }
    if let Some(max_keys) = max_keys {
        builder = builder.max_keys(max_keys);
    }
    let limiter = builder.build().unwrap();
    for id in ids() {
        while limiter.is_allowed(&id) {}
        while limiter.check_at(&given(&id), 1, Duration::ZERO).allowed {}
    }
    assert!(limiter.is_allowed("fresh"));
    limiter.write_protect().unwrap();
    limiter
}

/// The name under which the same client is decided at given times.
fn given(id: &[u8]) -> Vec<u8> {
    [id, b" at given times"].concat()
}

/// Every kind of denial, and every look, works on memory that cannot be written: with one limit and with several, in a
/// table that grew over several tiers and in one that was made large enough.
#[test]
fn denials_and_looks_write_nothing() {
    let cases: [(&[&str], Option<usize>); 4] = [
        (&["2/hour"], None),
        (&["2/hour"], Some(50_000)),
        (&["3/minute", "2/hour"], None),
        (&["2/hour", "1000/day", "3/minute strict"], Some(50_000)),
    ];
    for (limits, max_keys) in cases {
        let limiter = exhausted(limits, max_keys);
        let before = limiter.stats();
        let ids = ids();
        for id in &ids {
            assert!(!limiter.is_allowed(id));
            let hashed = limiter.key(id);
            assert!(!limiter.is_allowed(&hashed));
            let denied = limiter.check(id);
            assert!(!denied.allowed && denied.retry_after > Duration::ZERO);
            assert_eq!(limiter.check_n(id, u64::MAX).retry_after, Decision::NEVER);
            assert!(limiter.check_n(id, 0).allowed);
            assert!(!limiter.check_at(&given(id), 1, Duration::ZERO).allowed);
            // A late thread.
            assert!(!limiter.check_at(&given(id), 2, Duration::ZERO).allowed);
            assert_eq!(limiter.peek(id), limiter.check(id));
            assert!(!limiter.peek_n(id, 2).allowed);
            assert!(!limiter.peek_at(&given(id), 1, Duration::ZERO).allowed);
        }
        let mut decisions = vec![Decision::default(); ids.len()];
        limiter.check_many(&ids, &mut decisions).unwrap();
        assert!(decisions.iter().all(|decision| !decision.allowed));
        limiter.check_many_n(&ids, &vec![2; ids.len()], &mut decisions).unwrap();
        assert!(decisions.iter().all(|decision| !decision.allowed));
        let mut allowed = vec![true; ids.len()];
        limiter.allowed_many(&ids, &mut allowed).unwrap();
        assert!(!allowed.contains(&true));
        // Clients that are not there: looking is free, a cost above the burst is denied, one of 0 allowed.
        assert!(limiter.peek("never seen").allowed);
        assert!(!limiter.check_n("never seen", 1_000_000).allowed);
        assert!(limiter.check_n("never seen", 0).allowed);
        let after = limiter.stats();
        assert!(after.denied > before.denied && after.inserted == before.inserted);
        assert!(!limiter.prometheus().is_empty());
    }
}

/// Blocks and overrides deny on read-only memory too, and so does a table that is full, where nobody is to share a cell.
#[test]
fn denials_of_blocked_and_overflowing_clients_write_nothing() {
    let (clock, _hand) = Clock::manual();
    let builder = Limiter::builder().limit("2/hour".parse().unwrap()).clock(clock);
    let limiter = builder.max_keys(10).overflow(Overflow::Deny).build().unwrap();
    limiter.set_override("own", Some("1/day".parse().unwrap())).unwrap();
    assert!(limiter.is_allowed("own") && !limiter.is_allowed("own"));
    limiter.block("blocked", Duration::from_secs(60)).unwrap();
    for id in ids() {
        let _ = limiter.check_n(&id, 2);
    }
    limiter.write_protect().unwrap();
    assert!(!limiter.is_allowed("own") && !limiter.is_allowed("blocked"));
    assert!(ids().iter().all(|id| !limiter.is_allowed(id)));
    assert!(limiter.stats().overflowed > CLIENTS);
}

/// What the child does when it is asked to: nothing of it is part of an ordinary run.
#[test]
fn child() {
    match std::env::var(CHILD).as_deref() {
        Ok("deny") => assert!(!exhausted(&["2/hour"], None).is_allowed(&ids()[0])),
        Ok("admit") => assert!(exhausted(&["2/hour"], None).is_allowed("fresh")),
        Ok("insert") => assert!(exhausted(&["2/hour"], None).is_allowed("never seen")),
        Ok("refund") => exhausted(&["2/hour"], None).refund(&ids()[0], 1),
        Ok(other) => panic!("no such thing: {other}"),
        Err(_) => {}
    }
}

/// The counter-proof: the memory is read-only indeed. Whatever writes dies by SIGSEGV; a denial in the same child does not.
#[test]
fn an_admission_on_read_only_memory_kills() {
    let run = |what: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child"]).env(CHILD, what);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap()
    };
    assert!(run("deny").success());
    for what in ["admit", "insert", "refund"] {
        let status = run(what);
        // Some systems report a write to a protected page as SIGBUS.
        assert!(matches!(status.signal(), Some(11 | 10 | 7)), "{what}: {status}");
    }
}
