//! Counts what is allocated, so that a campaign can say that bytes made nothing large.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with the largest single allocation remembered.
pub(crate) struct Counting;

// Relaxed: the campaign runs on one thread, and reads what that thread wrote.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// Safety: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // Safety: guaranteed by caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // Safety: guaranteed by caller; `place` came from `System`, since `alloc` and `realloc` take from nowhere else.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // Safety: guaranteed by caller; `place` came from `System`, since `alloc` and `realloc` take from nowhere else.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// The largest single allocation that `work` made, in bytes.
pub(crate) fn largest<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.store(0, Ordering::Relaxed);
    let value = work();
    (value, LARGEST.load(Ordering::Relaxed))
}
