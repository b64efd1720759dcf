//! For the torture tests: a panic in any entry, on demand. Not in a library that is shipped.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicPtr, Ordering};

static NEXT: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Lets the next call of the entry of this name panic; NULL takes that back.
///
/// # Safety
/// `entry` is a static text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_test_panic(entry: *const c_char) {
    NEXT.store(entry.cast_mut(), Ordering::SeqCst);
}

#[allow(clippy::panic)]
pub(crate) fn panic_if_asked(entry: &str) {
    let next = NEXT.load(Ordering::SeqCst);
    // Safety: a static text, by the contract of `ratelimit_test_panic`.
    if !next.is_null() && unsafe { CStr::from_ptr(next) }.to_bytes() == entry.as_bytes() {
        NEXT.store(std::ptr::null_mut(), Ordering::SeqCst);
        panic!("asked for in {entry}");
    }
}
