//! `ratelimit_result`: what every call answers, and the texts about it.

use std::ffi::{CStr, c_char};

use ratelimit::Error;

use crate::boundary::{self, Failure};

/// What a call answers: `RATELIMIT_OK`, or what is wrong.
///
/// A denial is not wrong: it is `RATELIMIT_OK` with `allowed = false`. Whatever is wrong is found before anything is changed,
/// and out-parameters are written on success alone (but for lengths, where it is said). Numbers are never given to
/// another error; codes below 1000 are the same in every language.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ratelimit_result {
    /// Done.
    RATELIMIT_OK = 0,
    /// A limit makes no sense, or its text is not a limit.
    RATELIMIT_ERR_INVALID_LIMIT = 1,
    /// No limit, too many, or another number than are in force.
    RATELIMIT_ERR_LIMIT_COUNT = 2,
    /// `max_keys` is more than a table can address.
    RATELIMIT_ERR_MAX_KEYS = 3,
    /// The system gave no memory, or no randomness.
    RATELIMIT_ERR_SYSTEM = 4,
    /// No room for another override or block.
    RATELIMIT_ERR_FULL = 5,
    /// Lists that belong together differ in length.
    RATELIMIT_ERR_LENGTHS = 6,
    /// Policies for header fields do not fit.
    RATELIMIT_ERR_POLICY = 7,
    /// An option has a wrong value, or contradicts another.
    RATELIMIT_ERR_OPTION = 8,
    /// Something that this version or build cannot do.
    RATELIMIT_ERR_UNSUPPORTED = 9,
    /// An argument of the wrong kind, or out of its range.
    RATELIMIT_ERR_ARGUMENT = 10,
    /// A handle that is not open: it never was, or is closed or freed.
    RATELIMIT_ERR_CLOSED = 11,
    /// A bug of this library, contained: the call did nothing more.
    RATELIMIT_ERR_INTERNAL = 12,
    /// No snapshot can be kept there, or that often.
    RATELIMIT_ERR_PERSIST = 20,
    /// Another limiter keeps its snapshot there.
    RATELIMIT_ERR_SNAPSHOT_BUSY = 21,
    /// A snapshot could not be written; the one before is as it was.
    RATELIMIT_ERR_SNAPSHOT_WRITE = 22,
    /// A whole snapshot was required, and there was none.
    RATELIMIT_ERR_RESTORE_REQUIRED = 23,
    /// A snapshot was asked of a limiter that keeps none.
    RATELIMIT_ERR_NOT_PERSISTENT = 24,
    /// A forked child was asked for what only its parent may do.
    RATELIMIT_ERR_FORKED_CHILD = 25,
    /// A name that a shared table cannot have.
    RATELIMIT_ERR_SHARE_NAME = 30,
    /// The shared table has other limits, size, hash key or clock.
    RATELIMIT_ERR_SHARE_MISMATCH = 31,
    /// Too many limiters are attached to the shared table.
    RATELIMIT_ERR_SHARE_FULL = 32,
    /// The shared table cannot be made, opened or removed.
    RATELIMIT_ERR_SHARE_UNAVAILABLE = 33,
    /// A cluster's name, address, owner, certificate or secret cannot be.
    RATELIMIT_ERR_CLUSTER_CONFIG = 40,
    /// A cluster's node cannot be started.
    RATELIMIT_ERR_CLUSTER_START = 41,

    /// C only: a pointer is NULL that must not be, or is not aligned.
    RATELIMIT_ERR_NULL = 1001,
    /// C only: a length above PTRDIFF_MAX, or a struct_size that this version does not know.
    RATELIMIT_ERR_LENGTH = 1002,
    /// C only: a text that is not UTF-8.
    RATELIMIT_ERR_TEXT = 1003,
    /// C only: the buffer is too small; the length that is needed was written.
    RATELIMIT_ERR_BUFFER_TOO_SMALL = 1004,
    /// C only: a million limiters, or a million configs, are open.
    RATELIMIT_ERR_HANDLES = 1005,
}

use ratelimit_result::*;

/// A result's name and meaning, for a caller in C.
struct Told {
    result: ratelimit_result,
    name: &'static CStr,
    meaning: &'static CStr,
}

macro_rules! told {
    ($($result:ident $name:literal $meaning:literal)*) => {
        const TOLD: &[Told] = &[$(Told { result: $result, name: $name, meaning: $meaning },)*];
    };
}

// Names and meanings of the first part are those of `ERROR_CODES`, with the zero byte that C needs: a test compares them.
told! {
    RATELIMIT_OK c"ok" c"done"
    RATELIMIT_ERR_INVALID_LIMIT c"invalid_limit" c"a limit makes no sense, or its text is not a limit"
    RATELIMIT_ERR_LIMIT_COUNT c"limit_count" c"no limit, too many, or another number than are in force"
    RATELIMIT_ERR_MAX_KEYS c"max_keys" c"max_keys is more than a table can address"
    RATELIMIT_ERR_SYSTEM c"system" c"the system gave no memory, or no randomness"
    RATELIMIT_ERR_FULL c"full" c"no room for another override or block"
    RATELIMIT_ERR_LENGTHS c"lengths" c"lists that belong together differ in length"
    RATELIMIT_ERR_POLICY c"policy" c"policies for header fields do not fit"
    RATELIMIT_ERR_OPTION c"option" c"an option that does not exist, has a wrong value, or contradicts another"
    RATELIMIT_ERR_UNSUPPORTED c"unsupported" c"something that this version or build cannot do"
    RATELIMIT_ERR_ARGUMENT c"argument" c"an argument of the wrong kind, or out of its range"
    RATELIMIT_ERR_CLOSED c"closed" c"the limiter was closed"
    RATELIMIT_ERR_INTERNAL c"internal" c"a bug of this library, contained"
    RATELIMIT_ERR_PERSIST c"persist" c"no snapshot can be kept there, or that often"
    RATELIMIT_ERR_SNAPSHOT_BUSY c"snapshot_busy" c"another limiter keeps its snapshot there"
    RATELIMIT_ERR_SNAPSHOT_WRITE c"snapshot_write" c"a snapshot could not be written; the one before is as it was"
    RATELIMIT_ERR_RESTORE_REQUIRED c"restore_required" c"a whole snapshot was required, and there was none"
    RATELIMIT_ERR_NOT_PERSISTENT c"not_persistent" c"a snapshot was asked of a limiter that keeps none"
    RATELIMIT_ERR_FORKED_CHILD c"forked_child" c"a forked child was asked for what only its parent may do"
    RATELIMIT_ERR_SHARE_NAME c"share_name" c"a name that a shared table cannot have"
    RATELIMIT_ERR_SHARE_MISMATCH c"share_mismatch" c"the shared table has other limits, size, hash key or clock"
    RATELIMIT_ERR_SHARE_FULL c"share_full" c"too many limiters are attached to the shared table"
    RATELIMIT_ERR_SHARE_UNAVAILABLE c"share_unavailable" c"the shared table cannot be made, opened or removed"
    RATELIMIT_ERR_CLUSTER_CONFIG c"cluster_config" c"a cluster's name, address, owner, certificate or secret cannot be"
    RATELIMIT_ERR_CLUSTER_START c"cluster_start" c"a cluster's node cannot be started"
    RATELIMIT_ERR_NULL c"null" c"a pointer is NULL that must not be, or is not aligned"
    RATELIMIT_ERR_LENGTH c"length" c"a length above PTRDIFF_MAX, or a struct_size that this version does not know"
    RATELIMIT_ERR_TEXT c"text" c"a text that is not UTF-8"
    RATELIMIT_ERR_BUFFER_TOO_SMALL c"buffer_too_small" c"the buffer is too small; the length that is needed was written"
    RATELIMIT_ERR_HANDLES c"handles" c"a million limiters or configs are open: close what is no longer used"
}

impl ratelimit_result {
    pub(crate) fn of(error: &Error) -> Self {
        let code = error.code();
        TOLD.iter()
            .map(|told| told.result)
            .find(|result| *result as u32 == code)
            // A test compares all codes with the list, so this is for nobody.
            .unwrap_or(RATELIMIT_ERR_INTERNAL)
    }
}

fn told(result: u32) -> Option<&'static Told> {
    TOLD.iter().find(|told| told.result as u32 == result)
}

/// What a result means, in general; `ratelimit_last_error_message` says it in particular.
///
/// Any number may be given. The text is static and ends with a zero byte.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_result_str(result: u32) -> *const c_char {
    boundary::answer("ratelimit_result_str", c"unknown result".as_ptr(), || {
        Ok(told(result).map_or(c"unknown result", |told| told.meaning).as_ptr())
    })
}

/// The name of a result: the same word in every language, as "invalid_limit".
///
/// Any number may be given. The text is static and ends with a zero byte.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_result_name(result: u32) -> *const c_char {
    boundary::answer("ratelimit_result_name", c"unknown".as_ptr(), || {
        Ok(told(result).map_or(c"unknown", |told| told.name).as_ptr())
    })
}

/// The version of the library that is linked, as "1.2.3"; `RATELIMIT_VERSION` is that of the header.
///
/// The text is static and ends with a zero byte.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    boundary::answer("ratelimit_version", VERSION.as_ptr().cast(), || {
        Ok(VERSION.as_ptr().cast())
    })
}

/// The sentence about this thread's last error, which says what to do. Empty if there was none. Success leaves it as it is.
///
/// Writes the text and a zero byte into `buffer`, and into `*needed` the bytes that both take. With `capacity` 0 only that is
/// written. Texts are at most 1,023 bytes long; longer ones are cut.
/// Errors: `RATELIMIT_ERR_NULL` (`needed`, or `buffer` with a capacity), `RATELIMIT_ERR_BUFFER_TOO_SMALL` (`*needed` is
/// written, `buffer` is not). They leave the sentence as it is.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_last_error_message(
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> ratelimit_result {
    boundary::quietly("ratelimit_last_error_message", || {
        boundary::with_last_error(|text| {
            // Safety: forwarded to the caller.
            unsafe { boundary::write_text(text, buffer, capacity, needed) }
        })
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(ratelimit_result::of(&error), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ratelimit::ERROR_CODES;

    use super::*;

    #[test]
    fn codes_names_and_meanings_are_those_of_every_language() {
        let shared: Vec<_> = TOLD
            .iter()
            .filter(|told| (1..1_000).contains(&(told.result as u32)))
            .map(|told| {
                (
                    told.result as u32,
                    told.name.to_str().unwrap(),
                    told.meaning.to_str().unwrap(),
                )
            })
            .collect();
        let expected: Vec<_> = ERROR_CODES
            .iter()
            .map(|error| (error.code, error.name, error.meaning))
            .collect();
        assert_eq!(
            shared, expected,
            "include/ratelimit.h has to follow the list of limiter/src/error.rs"
        );
    }

    #[test]
    fn codes_of_c_alone_are_promises() {
        let own: Vec<_> = TOLD
            .iter()
            .filter(|told| told.result as u32 >= 1_000)
            .map(|told| (told.result as u32, told.name.to_str().unwrap()))
            .collect();
        let promised = [
            (1001, "null"),
            (1002, "length"),
            (1003, "text"),
            (1004, "buffer_too_small"),
            (1005, "handles"),
        ];
        assert_eq!(own, promised);
    }

    #[test]
    fn each_constant_is_called_by_its_name() {
        for told in &TOLD[1..] {
            let spelt = format!("RATELIMIT_ERR_{}", told.name.to_str().unwrap().to_uppercase());
            assert_eq!(format!("{:?}", told.result), spelt);
        }
    }
}
