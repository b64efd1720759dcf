//! Whether the loom that these models run under sees what they need it to see.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A thread that has read a place itself may write it before or after another's read. The loom of crates.io (0.7.3) misses
/// one of the two, and with it most of the executions of a table whose every compare-and-swap comes after a load; see
/// `loom-tests/loom/README.md`.
#[test]
fn a_load_does_not_hide_anothers_load() {
    let seen = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let outcomes = Arc::clone(&seen);
    loom::model(move || {
        let word = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let writers = Arc::clone(&word);
        let writer = loom::thread::spawn(move || {
            let old = writers.load(Ordering::Acquire);
            let _ = writers.compare_exchange(old, 1, Ordering::AcqRel, Ordering::Relaxed);
        });
        outcomes[word.load(Ordering::Acquire)].fetch_add(1, Ordering::Relaxed);
        writer.join().unwrap();
    });
    let seen = [0, 1].map(|value| seen[value].load(Ordering::Relaxed));
    assert!(
        seen.iter().all(|&times| times > 0),
        "the load saw 0 and 1 {seen:?} times: this loom misses executions, and every model with it"
    );
}
