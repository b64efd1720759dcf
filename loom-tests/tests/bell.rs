//! The bell of the cluster's thread: no cell that is marked urgent is slept over.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[path = "../../cluster/quic/src/wake/flag.rs"]
mod flag;

use flag::Flag;

struct Model {
    flag: Flag,
    urgent: AtomicBool,
    rings: AtomicUsize,
}

/// Two decisions that mark cells urgent, and one sleep; `must_ring` and `try_sleep` are the flag's own or broken ones.
fn explore(must_ring: fn(&Flag) -> bool, try_sleep: fn(&Flag, &AtomicBool) -> bool) {
    loom::model(move || {
        let model = Arc::new(Model {
            flag: Flag::new(),
            urgent: AtomicBool::new(false),
            rings: AtomicUsize::new(0),
        });
        let deciding: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                loom::thread::spawn(move || {
                    model.urgent.store(true, Ordering::Relaxed);
                    if must_ring(&model.flag) {
                        model.rings.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let sleeps = try_sleep(&model.flag, &model.urgent);
        for thread in deciding {
            thread.join().unwrap();
        }
        let rings = model.rings.load(Ordering::Relaxed);
        assert!(rings <= 1, "{rings} rings for one sleep");
        assert!(!sleeps || rings == 1, "an urgent cell is slept over");
        if sleeps {
            assert!(model.flag.wake(), "it was kicked");
        }
    });
}

fn sound(flag: &Flag, urgent: &AtomicBool) -> bool {
    flag.try_sleep(|| urgent.load(Ordering::Relaxed))
}

#[test]
fn nothing_urgent_is_slept_over() {
    explore(Flag::must_ring, sound);
}

#[test]
#[should_panic(expected = "slept over")]
fn it_is_without_the_fence_of_the_decision() {
    explore(Flag::must_ring_unfenced, sound);
}

#[test]
#[should_panic(expected = "slept over")]
fn it_is_without_the_fence_of_the_sleep() {
    explore(Flag::must_ring, |flag, urgent| {
        flag.try_sleep_unfenced(|| urgent.load(Ordering::Relaxed))
    });
}

#[test]
#[should_panic(expected = "slept over")]
fn it_is_if_the_table_is_looked_at_before_the_sleep_is_announced() {
    explore(Flag::must_ring, |flag, urgent| {
        let seen = urgent.load(Ordering::Relaxed);
        flag.try_sleep(|| seen)
    });
}
