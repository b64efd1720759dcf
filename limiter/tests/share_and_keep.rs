//! A shared table that outlives all its processes: one of them is elected to write its snapshots, and when it is gone another is.

#![cfg(target_os = "linux")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

#[path = "support/fork.rs"]
mod fork;

use std::path::Path;
use std::time::{Duration, Instant};

use fork::{Ended, fork, wait};
use ratelimit::{Limiter, Outcome};

const HOUR: Duration = Duration::from_secs(3_600);

/// A table's name that no other test uses, removed when the test ends.
struct Name(String);

impl Name {
    fn new(test: &str) -> Self {
        Name(format!("test-{}-{test}", std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Limiter::unshare(&self.0);
    }
}

fn limiter(name: &Name, path: &Path, every: Duration) -> Limiter {
    Limiter::builder()
        .limit("5/day".parse().unwrap())
        .max_keys(1_000)
        .share(&name.0)
        .persist(path, every)
        .build()
        .unwrap()
}

fn allowed(limiter: &Limiter, key: &str) -> usize {
    (0..10).filter(|_| limiter.is_allowed(key)).count()
}

fn outcome(limiter: &Limiter) -> Outcome {
    limiter.stats().snapshot.unwrap().restored.outcome
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_shared_table_comes_back_after_its_last_process_and_its_file_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let name = Name::new("comes-back");
    let first = limiter(&name, &path, HOUR);
    assert_eq!(outcome(&first), Outcome::ColdNone);
    assert_eq!(allowed(&first, "a"), 5);
    let second = limiter(&name, &path, HOUR);
    assert_eq!(outcome(&second), Outcome::Attached);
    assert_eq!(allowed(&second, "a"), 0, "one table");
    drop((first, second));
    assert!(Limiter::unshare(&name.0).unwrap(), "as a reboot does");
    let third = limiter(&name, &path, HOUR);
    assert_eq!(outcome(&third), Outcome::Exact);
    assert_eq!(allowed(&third, "a"), 0, "what was spent is known");
    assert_eq!(allowed(&third, "b"), 5);
}

#[test]
fn one_writes_and_when_it_leaves_another_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let name = Name::new("election");
    let (first, second) = (limiter(&name, &path, HOUR), limiter(&name, &path, HOUR));
    assert!(first.is_allowed("a"));
    first.snapshot().unwrap();
    let refused = second.snapshot().unwrap_err();
    assert_eq!(refused.name(), "snapshot_busy");
    assert!(
        refused.to_string().contains("another process on the shared table"),
        "{refused}"
    );
    first.close().unwrap();
    assert!(first.is_allowed("a"), "decisions go on after close");
    second.snapshot().unwrap();
    let stats = second.stats().snapshot.unwrap();
    assert!(stats.generation > 1, "it goes on where the first stopped: {stats:?}");
    assert_eq!(first.snapshot().unwrap_err().name(), "closed");
}

#[test]
fn a_table_that_brings_its_own_secret_is_still_known_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let name = Name::new("own-secret");
    // Made by a process that keeps no snapshot: its secret is in the mapping alone.
    let plain = Limiter::builder()
        .limit("5/day".parse().unwrap())
        .max_keys(1_000)
        .share(&name.0);
    let plain = plain.build().unwrap();
    assert_eq!(allowed(&plain, "a"), 5);
    drop(limiter(&name, &path, HOUR));
    drop(plain);
    Limiter::unshare(&name.0).unwrap();
    let after = limiter(&name, &path, HOUR);
    assert_eq!((outcome(&after), allowed(&after, "a")), (Outcome::Exact, 0));
}

#[test]
fn workers_of_a_parent_that_never_decides_write_and_take_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let parent = Limiter::builder()
        .limit("5/day".parse().unwrap())
        .max_keys(1_000)
        .share_with_children()
        .persist(&path, Duration::from_millis(5))
        .build()
        .unwrap();
    let written = |limiter: &Limiter| limiter.stats().snapshot.unwrap().written;
    // The first worker decides, writes and is killed in the middle of its work; the second takes over.
    let leader = fork(|| {
        assert!(parent.is_allowed("a"));
        until("the first worker writes", || written(&parent) > 0);
        // Safety: ends this child as a crash does, without running anything of the parent's.
        unsafe { libc::raise(libc::SIGKILL) };
        1
    });
    assert_eq!(wait(leader, Duration::from_secs(90)), Ended::Signal(libc::SIGKILL));
    let heir = fork(|| {
        assert!(parent.is_allowed("a"));
        until("the second worker writes", || written(&parent) > 0);
        0
    });
    assert_eq!(wait(heir, Duration::from_secs(90)), Ended::Code(0));
    drop(parent);
    let after = Limiter::builder()
        .limit("5/day".parse().unwrap())
        .persist(&path, HOUR)
        .build()
        .unwrap();
    assert_eq!((outcome(&after), allowed(&after, "a")), (Outcome::Exact, 3));
}
