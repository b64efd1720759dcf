//! A limiter that outlives its process: through the public interface, on a real disk.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ratelimit::options::{Dialect, OptionValue, Options};
use ratelimit::{Error, Limiter, Outcome, Restore, SnapshotStats};
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3_600);

/// A directory and the snapshot's path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    (directory, path)
}

fn limiter(path: &Path, every: Duration) -> Limiter {
    Limiter::builder()
        .limit("100/hour".parse().unwrap())
        .persist(path, every)
        .build()
        .unwrap()
}

fn snapshot_stats(limiter: &Limiter) -> SnapshotStats {
    limiter.stats().snapshot.unwrap()
}

/// Waits until `done`, for at most ten seconds.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn debts_outlive_the_limiter() {
    let (directory, path) = place();
    let first = limiter(&path, HOUR);
    assert_eq!(snapshot_stats(&first).restored.outcome, Outcome::ColdNone);
    assert!(first.check_n("a", 100).allowed && first.check_n("b", 40).allowed);
    // Dropping the last handle writes.
    drop(first.clone());
    assert!(!path.exists());
    drop(first);
    assert_eq!(
        names(&directory),
        ["api.snapshot", "api.snapshot.key", "api.snapshot.lock"]
    );

    let second = limiter(&path, HOUR);
    let restored = snapshot_stats(&second).restored;
    assert_eq!((restored.outcome, restored.cells), (Outcome::Exact, 2));
    assert!(!second.is_allowed("a"));
    assert_eq!(second.peek("b").remaining, 60);
    assert_eq!(second.peek("c").remaining, 100);
    // snapshot() writes now, also without a change.
    second.snapshot().unwrap();
    second.snapshot().unwrap();
    let stats = snapshot_stats(&second);
    assert_eq!(
        (stats.written, stats.errors, stats.last_cells, stats.generation),
        (2, 0, 2, 3)
    );
    assert_eq!(stats.last_bytes, fs::metadata(&path).unwrap().len());
    assert!(stats.age.unwrap() < Duration::from_secs(60));

    // close() gives the place up, and decisions go on.
    second.close().unwrap();
    second.close().unwrap();
    assert!(second.check_n("b", 60).allowed && !second.is_allowed("b"));
    assert!(matches!(second.snapshot(), Err(Error::Closed)));
    assert_eq!(
        limiter(&path, HOUR).peek("b").remaining,
        60,
        "what came after close is not kept"
    );
}

#[test]
fn the_thread_writes_what_changed_and_rests_otherwise() {
    let (_directory, path) = place();
    let first = limiter(&path, Duration::from_millis(5));
    std::thread::sleep(Duration::from_millis(30));
    assert!(!path.exists(), "no thread before the first decision");
    assert!(first.is_allowed("a"));
    until("the first snapshot", || snapshot_stats(&first).written == 1);
    // Nothing changes: it looks, and does not write. A denial changes nothing either.
    assert!(!first.check_n("a", 100).allowed);
    let looked = || snapshot_stats(&first).age.unwrap();
    until("a look", || looked() > Duration::from_millis(1));
    until("another look", || looked() < Duration::from_millis(5));
    assert_eq!(snapshot_stats(&first).written, 1);
    type Change = (&'static str, fn(&Limiter));
    let changes: [Change; 5] = [
        ("refund", |limiter| limiter.refund("a", 1)),
        ("reset", |limiter| limiter.reset("a")),
        ("block", |limiter| limiter.block("a", HOUR).unwrap()),
        ("limit", |limiter| {
            limiter.set_limit("50/hour".parse().unwrap()).unwrap()
        }),
        ("override", |limiter| {
            limiter.set_override("b", Some("5/hour".parse().unwrap())).unwrap();
        }),
    ];
    for (written, (what, change)) in (2..).zip(changes) {
        change(&first);
        until(what, || snapshot_stats(&first).written == written);
    }
    drop(first);
    // A client that is known already starts the thread as well: its decision would go the short way.
    let second = limiter(&path, Duration::from_millis(5));
    second.reset("a");
    assert!(second.is_allowed("a"));
    until("the thread of the second", || snapshot_stats(&second).written > 0);
    second.close().unwrap();
    let third = limiter(&path, Duration::from_millis(5));
    assert_eq!(snapshot_stats(&third).restored.cells, 1);
    assert!(third.is_allowed("a"));
    until("the thread of the third", || snapshot_stats(&third).written > 0);
}

#[test]
fn a_place_has_one_writer_and_makes_sense() {
    let (directory, path) = place();
    let first = limiter(&path, HOUR);
    let build = |path: &Path, every| {
        let builder = Limiter::builder().limit("100/hour".parse().unwrap());
        builder.persist(path, every).build().unwrap_err()
    };
    let busy = build(&path, HOUR);
    assert_eq!((busy.code(), busy.name()), (21, "snapshot_busy"));
    assert!(busy.to_string().contains("give each its own path"), "{busy}");
    first.close().unwrap();
    drop(limiter(&path, HOUR));
    for (path, every, says) in [
        (directory.path().join("api.snapshot.lock/x"), HOUR, "the system refused"),
        (directory.path().to_owned(), HOUR, "ordinary file"),
        (PathBuf::new(), HOUR, "names no file"),
        (path.clone(), Duration::ZERO, "too often"),
    ] {
        let error = build(&path, every);
        assert_eq!(error.code(), 20);
        assert!(error.to_string().contains(says), "{error}");
    }
    // As in `state/api.snapshot` of a service that starts for the first time.
    let made = directory.path().join("new/state");
    limiter(&made.join("api.snapshot"), HOUR).close().unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&made).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "a directory that is made is for this user alone");
    }
    let none = Limiter::builder().limit("1/s".parse().unwrap()).build().unwrap();
    assert!(matches!(none.snapshot(), Err(Error::NotPersistent(_))));
    none.close().unwrap();
    assert!(none.stats().snapshot.is_none());
    assert!(!none.prometheus().contains("snapshot"));
}

#[test]
fn every_language_can_ask_for_it_by_name() {
    let (_directory, path) = place();
    let text = |text: &str| OptionValue::Text(text.to_owned());
    let with = |more: &[(&str, OptionValue)]| {
        let mut options = Options::new(Dialect::CamelMillis);
        options.set("limits", text("100/hour")).unwrap();
        for (name, value) in more {
            options.set(name, value.clone())?;
        }
        options.build()
    };
    let path = text(path.to_str().unwrap());
    let first = with(&[("path", path.clone()), ("snapshotEveryMs", OptionValue::Int(5))]).unwrap();
    assert!(first.check_n("a", 30).allowed);
    until("a snapshot", || snapshot_stats(&first).written > 0);
    assert!(
        first
            .stats_by_name()
            .iter()
            .any(|&(name, value)| name == "snapshot_written" && value > 0)
    );
    drop(first);
    let second = with(&[("path", path.clone()), ("restore", text("required"))]).unwrap();
    assert_eq!(second.peek("a").remaining, 70);
    assert!(second.stats_by_name().contains(&("restored_cells", 1)));
    for (more, says) in [
        (("restore", text("salvage")), "give path too"),
        (("restore", text("maybe")), "\"auto\", \"salvage\" or \"required\""),
    ] {
        let error = with(&[more]).unwrap_err();
        assert_eq!(error.name(), "option");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_damaged_file_is_told_and_refused_only_on_demand() {
    let (_directory, path) = place();
    let first = limiter(&path, HOUR);
    assert!(first.check_n("a", 100).allowed);
    drop(first);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&path, &bytes).unwrap();
    let required = || {
        let builder = Limiter::builder().limit("100/hour".parse().unwrap());
        builder.persist(&path, HOUR).restore(Restore::Required).build()
    };
    let refused = required().unwrap_err();
    assert_eq!(refused.name(), "restore_required");
    assert!(
        refused.to_string().contains("api.snapshot") && refused.to_string().contains("remove the damaged"),
        "{refused}"
    );
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "a refusal leaves the file for who looks into it"
    );
    let cold = limiter(&path, HOUR);
    assert_eq!(snapshot_stats(&cold).restored.outcome, Outcome::ColdDamaged);
    let text = cold.prometheus();
    assert!(
        text.contains("ratelimit_restore_outcome{outcome=\"cold_damaged\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("ratelimit_restore_outcome{outcome=\"exact\"} 0\n"),
        "{text}"
    );
    assert!(cold.check_n("a", 70).allowed);
    cold.snapshot().unwrap();
    drop(cold);
    let warm = required().unwrap();
    assert_eq!(warm.peek("a").remaining, 30);
}

#[test]
fn the_secret_lies_beside_the_snapshot_unless_it_is_given() {
    let (directory, path) = place();
    let with_secret = |secret| {
        let builder = Limiter::builder().limit("100/hour".parse().unwrap());
        builder.persist(&path, HOUR).hash_key(secret).build().unwrap()
    };
    assert!(with_secret([1; 16]).check_n("a", 100).allowed);
    assert_eq!(names(&directory), ["api.snapshot", "api.snapshot.lock"]);
    assert!(!with_secret([1; 16]).is_allowed("a"));
    let other = with_secret([2; 16]);
    assert_eq!(snapshot_stats(&other).restored.outcome, Outcome::ColdKey);
    assert!(other.is_allowed("a"));
    drop(other);
    // A secret that was damaged: whatever it keyed is lost, and a new one is made.
    fs::remove_file(&path).unwrap();
    fs::remove_file(path.with_extension("snapshot.1")).ok();
    assert!(limiter(&path, HOUR).check_n("a", 100).allowed);
    let key = directory.path().join("api.snapshot.key");
    fs::write(&key, b"half a k").unwrap();
    let cold = limiter(&path, HOUR);
    assert_eq!(snapshot_stats(&cold).restored.outcome, Outcome::ColdKey);
    assert_eq!(fs::read(&key).unwrap().len(), 49);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_disk_that_fails_changes_no_decision() {
    let (directory, path) = place();
    let first = limiter(&path, Duration::from_millis(2));
    assert!(first.check_n("a", 60).allowed);
    first.snapshot().unwrap();
    // A directory where the temporary file should be: it cannot be made, whoever runs this test.
    let temp = directory
        .path()
        .join(format!("api.snapshot.tmp.{}", std::process::id()));
    fs::create_dir(&temp).unwrap();
    let kept = fs::read(&path).unwrap();
    assert!(first.check_n("a", 10).allowed);
    until("failures", || snapshot_stats(&first).errors >= 3);
    let error = first.snapshot().unwrap_err();
    assert_eq!(error.code(), 22);
    assert!(error.to_string().contains("decisions go on"), "{error}");
    assert_eq!(first.peek("a").remaining, 30);
    assert_eq!(fs::read(&path).unwrap(), kept);
    // It goes on by itself once the disk is mended.
    fs::remove_dir(&temp).unwrap();
    until("a snapshot", || fs::read(&path).unwrap() != kept);
    drop(first);
    assert_eq!(limiter(&path, HOUR).peek("a").remaining, 30);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_no_signal() {
    // Only who may mount can have a disk that is small enough.
    let directory = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(directory.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        println!("skipped: this user may not mount a small file system");
        return;
    }
    let path = directory.path().join("api.snapshot");
    let outcome = std::panic::catch_unwind(|| {
        let first = limiter(&path, HOUR);
        assert!(first.check_n("known", 50).allowed);
        first.snapshot().unwrap();
        let kept = fs::read(&path).unwrap();
        // 6 MiB of debts do not fit.
        for number in 0..400_000u32 {
            assert!(first.is_allowed(&number.to_le_bytes()));
        }
        let error = first.snapshot().unwrap_err();
        assert_eq!(error.code(), 22);
        assert_eq!(fs::read(&path).unwrap(), kept);
        assert_eq!(first.peek("known").remaining, 50);
        assert!(first.close().is_err());
    });
    let unmounted = std::process::Command::new("umount")
        .arg(directory.path())
        .status()
        .unwrap();
    assert!(unmounted.success());
    outcome.unwrap();
}

#[cfg(unix)]
#[test]
fn a_forked_child_decides_and_does_not_write() {
    let (_directory, path) = place();
    let first = limiter(&path, HOUR);
    assert!(first.check_n("a", 60).allowed);
    first.snapshot().unwrap();
    let kept = fs::read(&path).unwrap();
    // Safety: the child uses the limiter, which relies on no lock or thread of the parent, and leaves without running any
    // destructor of the test's.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no fork");
    if child == 0 {
        let decides = first.check_n("a", 40).allowed && !first.is_allowed("a") && first.is_allowed("b");
        let refused = matches!(first.snapshot(), Err(Error::ForkedChild(_)));
        let closes = first.close().is_ok();
        drop(first);
        let code = i32::from(!(decides && refused && closes));
        // Safety: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // Safety: waits for the child that was just made; `status` is a place for its status.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    assert_eq!(fs::read(&path).unwrap(), kept);
    // The parent still holds its place, and still writes.
    let builder = Limiter::builder().limit("1/s".parse().unwrap());
    assert!(matches!(
        builder.persist(&path, HOUR).build(),
        Err(Error::SnapshotBusy(_))
    ));
    assert_eq!(first.peek("a").remaining, 40, "the child's table is its own");
    first.snapshot().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_thread_takes_no_signals_of_the_host() {
    let (_directory, path) = place();
    let first = limiter(&path, Duration::from_millis(2));
    assert!(first.is_allowed("a"));
    until("a snapshot", || snapshot_stats(&first).written > 0);
    let mut found = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread of another test may be gone by now.
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        if name.trim() != "ratelimit-keepe" {
            continue;
        }
        let Ok(status) = fs::read_to_string(task.join("status")) else {
            continue;
        };
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
        // All but those that cannot be blocked, and the two that the C library keeps for itself.
        let (kill, stop) = (1 << 8, 1 << 18);
        let library = (1 << 31) | (1 << 32);
        assert_eq!(blocked | kill | stop | library, u64::MAX, "{blocked:x}");
        found += 1;
    }
    assert!(found > 0, "the thread has another name");
}
