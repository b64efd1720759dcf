//! Whether the thread sleeps: what both sides of the bell look at.
//!
//! Under `--cfg ratelimit_loom` it is built with loom's atomics, and explored by `loom-tests/tests/bell.rs`.

#[cfg(ratelimit_loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(ratelimit_loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Debug)]
pub(crate) struct Flag {
    sleeping: AtomicBool,
}

impl Flag {
    pub(crate) fn new() -> Self {
        Flag {
            sleeping: AtomicBool::new(false),
        }
    }

    /// Whether the bell is to be rung by this caller, who has just marked a cell urgent.
    pub(crate) fn must_ring(&self) -> bool {
        // SeqCst, with the one in `try_sleep`: the caller marked its cell before this, and the thread announced its sleep
        // before it looked at the table. Of the two reads that follow the fences at least one sees the other's write.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence. The swap lets one of many callers through.
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }

    /// The thread announces a sleep. False if the table turned urgent meanwhile: then there is none.
    pub(crate) fn try_sleep(&self, is_urgent: impl FnOnce() -> bool) -> bool {
        // Relaxed: ordered by the fence.
        self.sleeping.store(true, Ordering::Relaxed);
        // SeqCst: the partner of the one in `must_ring`.
        fence(Ordering::SeqCst);
        if is_urgent() {
            self.wake();
            return false;
        }
        true
    }

    /// As `must_ring` without its fence, so that a model can show that it would notice.
    #[cfg(ratelimit_loom)]
    pub(crate) fn must_ring_unfenced(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }

    /// As `try_sleep` without its fence.
    #[cfg(ratelimit_loom)]
    pub(crate) fn try_sleep_unfenced(&self, is_urgent: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        if is_urgent() {
            self.wake();
            return false;
        }
        true
    }

    /// The sleep is over; true if it was ended by a kick.
    pub(crate) fn wake(&self) -> bool {
        // Relaxed: whether a kick comes now or a moment later, the thread looks at the table next.
        !self.sleeping.swap(false, Ordering::Relaxed)
    }
}
