//! A forked child decides at once, whatever the threads of its parent were doing.

#![cfg(target_os = "linux")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

#[path = "support/fork.rs"]
mod fork;
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fork::{Ended, fork, wait};
use ratelimit::{Limit, Limiter};
use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow, Sharing, With};
use support::{Random, rounds};

/// So many requests, and no refill within a test.
fn budget(requests: u64) -> Limit {
    Limit::new(1, Duration::from_secs(900)).unwrap().burst(requests)
}

/// Threads that decide on `key`, insert others and administer, until they are stopped; gives what was admitted of `key`.
fn busy<R>(limiter: &Limiter, key: &str, body: impl FnOnce() -> R) -> (R, usize) {
    let (stop, admitted) = (AtomicBool::new(false), AtomicUsize::new(0));
    let result = std::thread::scope(|scope| {
        for thread in 0..4 {
            let (stop, admitted) = (&stop, &admitted);
            scope.spawn(move || {
                let mut random = Random(thread);
                while !stop.load(Ordering::Relaxed) {
                    if thread == 3 {
                        let client = format!("own {}", random.below(8));
                        let own = random.one_in(2).then(|| budget(1 + random.below(3)));
                        limiter.set_override(&client, own).unwrap();
                        let _ = limiter.is_allowed(&client);
                        limiter.set_limits(&limiter.limits()).unwrap();
                    }
                    let _ = limiter.is_allowed(&format!("thread {thread} {}", random.below(100_000)));
                    if random.one_in(50) {
                        admitted.fetch_add(usize::from(limiter.is_allowed(key)), Ordering::Relaxed);
                    }
                }
            });
        }
        let result = body();
        stop.store(true, Ordering::Relaxed);
        result
    });
    (result, admitted.into_inner())
}

/// Forks `forks` times at random instants. Each child asks for `key` and for keys of its own, changes the limit of a client, and
/// ends with what it was allowed of `key`; all of it within a second, or what a slow machine needs for that.
fn storm(limiter: &Limiter, key: &str, forks: u64) -> usize {
    let mut random = Random(7);
    let mut admitted = 0;
    for child in 0..forks {
        for _ in 0..random.below(2_000) {
            std::hint::spin_loop();
        }
        let pid = fork(|| {
            let allowed = (0..20).filter(|_| limiter.is_allowed(key)).count();
            for i in 0..50 {
                let own = format!("child {child} {i}");
                if !limiter.is_allowed(&own) {
                    return 254;
                }
            }
            let client = format!("client of {child}");
            let changed = limiter.set_override(&client, Some(budget(2)));
            let taken = (0..4).filter(|_| limiter.is_allowed(&client)).count();
            let back = limiter.set_override(&client, None);
            if changed.is_err() || back.is_err() || taken != 2 || limiter.limits().len() != 1 {
                return 253;
            }
            allowed as u8
        });
        match wait(pid, Duration::from_secs(10)) {
            Ended::Code(code) if code <= 20 => admitted += code as usize,
            other => panic!("child {child} ended with {other:?}"),
        }
    }
    admitted
}

#[test]
fn children_of_a_busy_process_answer_on_their_copy() {
    let limiter = Limiter::builder()
        .limit(budget(1_000))
        .max_keys(400_000)
        .build()
        .unwrap();
    let (_, admitted) = busy(&limiter, "key", || storm(&limiter, "key", rounds(1_000, 1)));
    assert!(admitted <= 1_000);
    assert_eq!(limiter.audit().faults, 0, "{:?}", limiter.audit());
}

fn exact_over_forks(limiter: &Limiter, requests: usize) {
    let (by_children, by_threads) = busy(limiter, "key", || storm(limiter, "key", rounds(1_000, 1)));
    let rest = (0..=requests).filter(|_| limiter.is_allowed("key")).count();
    assert_eq!(by_children + by_threads + rest, requests);
    let audit = limiter.audit();
    assert_eq!(
        (audit.faults, audit.tentative, audit.claimed, audit.claimed_by_the_dead),
        (0, 0, 0, 0),
        "{audit:?}"
    );
    assert_eq!(limiter.stats().attached, 1, "no child is left");
}

#[test]
fn a_table_shared_with_children_is_exact() {
    let requests = 15_000;
    let limiter = Limiter::builder()
        .limit(budget(requests))
        .max_keys(600_000)
        .share_with_children()
        .build()
        .unwrap();
    exact_over_forks(&limiter, requests as usize);
}

#[test]
fn a_named_table_is_exact_over_forks() {
    let name = format!("test-fork-{}", std::process::id());
    let requests = 15_000;
    let limiter = Limiter::builder()
        .limit(budget(requests))
        .max_keys(600_000)
        .share(&name)
        .build()
        .unwrap();
    exact_over_forks(&limiter, requests as usize);
    drop(limiter);
    soon("the table cannot be removed", || {
        Limiter::unshare(&name).is_ok_and(|removed| removed)
    });
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn engine(with: With) -> Engine {
    let config = Config {
        limits: vec![budget(5)],
        max_keys: Some(1_000),
        hash_key: HashKey::new([3; 16]),
        clock: Clock::precise(),
        overflow: Overflow::Share,
    };
    let sharing = Sharing {
        with,
        replace_limits: false,
        hash_key_matters: false,
        clock_matters: false,
    };
    Engine::shared(config, sharing).unwrap()
}

/// A child keeps nothing that proves its parent's life: the parent's place is free when the parent is gone, also while the child
/// lives on.
#[test]
fn a_child_does_not_keep_its_parent_alive() {
    let name = format!("test-life-{}", std::process::id());
    let named = || With::Name {
        name: name.clone(),
        directory: ratelimit_core::SHARE_DIRECTORY.into(),
    };
    let here = engine(named());
    assert!(!here.lead_is_mine());
    let mut ends = [0; 2];
    // Safety: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let parent = fork(|| {
        let own = engine(named());
        if !own.try_lead() || own.stats().attached < 2 {
            return 1;
        }
        let child = fork(|| {
            // Until the test closes its end: without a decision, so without a place of its own.
            let mut byte = 0u8;
            // Safety: closes this process's copy, and reads one byte into a place for one.
            unsafe {
                libc::close(ends[1]);
                libc::read(ends[0], (&raw mut byte).cast(), 1);
            }
            u8::from(own.lead_is_mine())
        });
        // Leaves without giving anything back.
        u8::from(child <= 0)
    });
    assert_eq!(wait(parent, Duration::from_secs(20)), Ended::Code(0));
    // A child gives its copy of the proof back as its first act, which may not have been yet.
    soon("the dead parent still has its place", || here.stats().attached == 1);
    assert!(here.try_lead(), "the dead parent still leads");
    assert!(here.lead_is_mine());
    // Another engine of the same process is another one.
    let second = engine(named());
    assert!(!second.try_lead());
    drop(here);
    assert!(second.try_lead());
    // Safety: both were opened above, and are closed once.
    unsafe {
        libc::close(ends[0]);
        libc::close(ends[1]);
    }
    drop(second);
    // A child of another test may just be made.
    soon("the table cannot be removed", || {
        Engine::remove_shared(ratelimit_core::SHARE_DIRECTORY.as_ref(), &name).is_ok_and(|removed| removed)
    });
}

#[test]
fn a_child_leads_only_when_its_parent_does_not() {
    let table = engine(With::Children);
    assert!(table.try_lead());
    let child = fork(|| u8::from(table.lead_is_mine()) + u8::from(table.try_lead()));
    assert_eq!(wait(child, Duration::from_secs(20)), Ended::Code(0));
    let child = fork(|| u8::from(table.stats().attached != 2 || !table.is_allowed(table.fingerprint(b"x"))));
    assert_eq!(wait(child, Duration::from_secs(20)), Ended::Code(0));
    assert!(table.lead_is_mine());
}
