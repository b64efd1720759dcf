//! A reference that keeps what it points to alive.

use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// A `T` inside something that is counted: one pointer to follow, whoever owns it.
pub(crate) struct Held<T> {
    // Invariant: points into what `owner` owns, which neither moves nor changes its type while it lives.
    at: NonNull<T>,
    owner: Arc<dyn Any + Send + Sync>,
}

// Safety: it gives out `&T` only, and the owner is `Send` and `Sync`.
unsafe impl<T: Sync> Send for Held<T> {}
// Safety: as above.
unsafe impl<T: Sync> Sync for Held<T> {}

impl<T: Send + Sync + 'static> Held<T> {
    /// One that owns its value.
    pub(crate) fn new(value: T) -> Self {
        let owner = Arc::new(value);
        Held {
            at: NonNull::from(&*owner),
            owner,
        }
    }
}

impl<T> Held<T> {
    /// A part of what `owner` owns.
    ///
    /// # Safety
    /// `at` points into memory that stays where it is, and stays a `T`, as long as `owner` lives.
    #[cfg_attr(ratelimit_loom, allow(dead_code))]
    pub(super) unsafe fn within(owner: Arc<dyn Any + Send + Sync>, at: &T) -> Self {
        Held {
            at: NonNull::from(at),
            owner,
        }
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // Safety: the owner lives as long as `self`, and it stays put (Invariant of `at`).
        unsafe { self.at.as_ref() }
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Held {
            at: self.at,
            owner: Arc::clone(&self.owner),
        }
    }
}
