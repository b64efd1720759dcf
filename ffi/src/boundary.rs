//! The one place between C and Rust: catches panics, checks pointers and lengths, remembers what was wrong.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use ratelimit::Error;

use crate::result::ratelimit_result::{self, *};

// Panics are caught here, which needs unwinding: with panic = "abort" a defect would end the host.
#[cfg(not(panic = "unwind"))]
compile_error!("libratelimit must be built with panic = \"unwind\"");

/// Why a call did nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) result: ratelimit_result,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    #[cold]
    pub(crate) fn new(result: ratelimit_result, text: impl Into<Cow<'static, str>>) -> Self {
        Failure {
            result,
            text: text.into(),
        }
    }
}

/// Runs the body of an entry that answers a result.
#[inline(always)]
pub(crate) fn guard(entry: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> ratelimit_result {
    match caught(entry, body) {
        Ok(()) => RATELIMIT_OK,
        Err(failure) => remember(&failure),
    }
}

/// Runs the body of an entry that answers something else, which is `otherwise` if anything is wrong.
#[inline(always)]
pub(crate) fn answer<T>(entry: &'static str, otherwise: T, body: impl FnOnce() -> Result<T, Failure>) -> T {
    match caught(entry, body) {
        Ok(answer) => answer,
        Err(failure) => {
            let _ = remember(&failure);
            otherwise
        }
    }
}

/// As [`guard`], without a change of what is remembered.
pub(crate) fn quietly(entry: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> ratelimit_result {
    match caught(entry, body) {
        Ok(()) => RATELIMIT_OK,
        Err(failure) => failure.result,
    }
}

#[inline(always)]
#[cfg_attr(not(feature = "test-hooks"), allow(unused_variables))]
fn caught<T>(entry: &'static str, body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Nothing that the body shares is left half changed by a panic: limiters are made for threads that stop anywhere, and
    // options are set as a whole.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "test-hooks")]
        crate::hooks::panic_if_asked(entry);
        body()
    }));
    match outcome {
        Ok(outcome) => outcome,
        Err(payload) => {
            let failure = Failure::from(Error::of_panic(&*payload));
            // Its destructor may panic too; what that leaves is not worth a third try.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            let _ = dropped.map_err(std::mem::forget);
            Err(failure)
        }
    }
}

// --- The last error of each thread -----------------------------------------------------------------------------------

const LONGEST: usize = 1_023;

struct Sentence {
    bytes: [u8; LONGEST],
    len: usize,
}

thread_local! {
    // No destructor, so that it may be used while a thread ends.
    static LAST: UnsafeCell<Sentence> = const { UnsafeCell::new(Sentence { bytes: [0; LONGEST], len: 0 }) };
}

#[cold]
fn remember(failure: &Failure) -> ratelimit_result {
    let mut len = failure.text.len().min(LONGEST);
    while !failure.text.is_char_boundary(len) {
        len -= 1;
    }
    LAST.with(|last| {
        // Safety: this thread's own, and neither this nor the reader calls anything while it holds the reference.
        let last = unsafe { &mut *last.get() };
        last.len = len;
        last.bytes[..len].copy_from_slice(&failure.text.as_bytes()[..len]);
    });
    failure.result
}

pub(crate) fn with_last_error<T>(read: impl FnOnce(&[u8]) -> T) -> T {
    let mut copy = [0; LONGEST];
    let len = LAST.with(|last| {
        // Safety: as in `remember`.
        let last = unsafe { &*last.get() };
        copy[..last.len].copy_from_slice(&last.bytes[..last.len]);
        last.len
    });
    read(&copy[..len])
}

// --- What comes in ---------------------------------------------------------------------------------------------------

#[cold]
fn null(what: &str) -> Failure {
    Failure::new(RATELIMIT_ERR_NULL, format!("{what} is NULL: give a pointer"))
}

#[cold]
fn bad_bytes(data: *const u8, len: usize, what: &str) -> Failure {
    if data.is_null() {
        Failure::new(
            RATELIMIT_ERR_NULL,
            format!("{what} is NULL with a length of {len}: NULL stands for the empty {what} only, with length 0"),
        )
    } else {
        Failure::new(
            RATELIMIT_ERR_LENGTH,
            format!("the length of {what} is {len}, which is more than memory can hold: is it a negative number?"),
        )
    }
}

/// A key: `len` bytes at `data`. NULL with a length of 0 is the empty key.
///
/// # Safety
/// Unless `data` is null or `len` is above PTRDIFF_MAX, `len` bytes can be read there, and nobody writes them meanwhile.
#[inline(always)]
pub(crate) unsafe fn key<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if data.is_null() || len > isize::MAX as usize {
        if data.is_null() && len == 0 {
            return Ok(&[]);
        }
        return Err(bad_bytes(data, len, "key"));
    }
    // Safety: not null and not too long (above), readable and not written (guaranteed by caller).
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// An array of `count` things. NULL with a count of 0 is the empty array.
///
/// # Safety
/// Unless `data` is null or the array is longer than PTRDIFF_MAX bytes, it can be read, and nobody writes it meanwhile.
pub(crate) unsafe fn array<'a, T>(data: *const T, count: usize, what: &str) -> Result<&'a [T], Failure> {
    checked_array(data, count, what)?;
    if count == 0 {
        return Ok(&[]);
    }
    // Safety: not null, aligned and not too long (checked), readable and not written (guaranteed by caller).
    Ok(unsafe { slice::from_raw_parts(data, count) })
}

/// Whether an array of `count` things may lie at `data`, for reading or for writing.
pub(crate) fn checked_array<T>(data: *const T, count: usize, what: &str) -> Result<(), Failure> {
    let fits = count
        .checked_mul(size_of::<T>())
        .is_some_and(|bytes| bytes <= isize::MAX as usize);
    if (data.is_null() && count != 0) || !fits {
        return Err(bad_bytes(data.cast(), count, what));
    }
    if !data.is_aligned() {
        return Err(Failure::new(
            RATELIMIT_ERR_NULL,
            format!("{what} is no aligned pointer"),
        ));
    }
    Ok(())
}

/// A text that ends with a zero byte.
///
/// # Safety
/// Unless it is null, a zero byte follows, and nobody writes the bytes before it meanwhile.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(null(what));
    }
    // Safety: not null (above), ended by a zero byte (guaranteed by caller).
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| {
        Failure::new(
            RATELIMIT_ERR_TEXT,
            format!("{what} is not UTF-8: byte {} is wrong", error.valid_up_to()),
        )
    })
}

// --- What goes out ---------------------------------------------------------------------------------------------------

/// A place for an answer, checked before anything is done.
#[derive(Clone, Copy)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    /// Unless it is null or not aligned, a `T` can be written there, until the call returns.
    #[inline(always)]
    pub(crate) unsafe fn new(out: *mut T, what: &str) -> Result<Self, Failure> {
        if out.is_null() || !out.is_aligned() {
            return Err(null(what));
        }
        Ok(Out(out))
    }

    #[inline(always)]
    pub(crate) fn write(self, value: T) {
        // Safety: not null and aligned (checked by `new`), writable (guaranteed by the caller of `new`). What was there is not read.
        unsafe { ptr::write(self.0, value) };
    }
}

/// Writes a text and a zero byte into a caller's buffer, and the bytes that both take into `needed`.
///
/// # Safety
/// `buffer` has room for `capacity` bytes, unless it is null; `needed` as for [`Out::new`].
pub(crate) unsafe fn write_text(
    text: &[u8],
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> Result<(), Failure> {
    // Safety: guaranteed by caller.
    let needed = unsafe { Out::new(needed, "needed") }?;
    checked_array(buffer, capacity, "buffer")?;
    needed.write(text.len() + 1);
    if capacity == 0 {
        return Ok(());
    }
    if capacity <= text.len() {
        return Err(Failure::new(
            RATELIMIT_ERR_BUFFER_TOO_SMALL,
            format!(
                "the buffer has room for {capacity} bytes, and {} are needed",
                text.len() + 1
            ),
        ));
    }
    // Safety: the buffer is not null (checked) and has room for the text and a zero byte (above, and guaranteed by caller); a
    // buffer of the caller's does not overlap a text of ours.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len());
        ptr::write(buffer.add(text.len()), 0);
    }
    Ok(())
}
