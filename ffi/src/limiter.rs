//! `ratelimit_limiter`: opening, closing, and all that is not a decision.

use std::ffi::c_char;
use std::time::Duration;

use ratelimit::{Limit, Limiter};

use crate::boundary::{self, Failure, Out};
use crate::config::{self, ratelimit_config};
use crate::registry::{Entered, Registry};
use crate::result::ratelimit_result::{self, *};
use crate::statistics::{self, ratelimit_statistics};
use crate::threads::{self, ProcessFences};

/// A limiter: a number that is checked at each use. 0 is never one.
///
/// Any number of threads may use it at the same time, also while one closes it: their calls then answer
/// `RATELIMIT_ERR_CLOSED`, or are done before.
pub type ratelimit_limiter = u64;

pub(crate) static LIMITERS: Registry<Limiter> = Registry::new();

#[cold]
fn closed(limiter: ratelimit_limiter) -> Failure {
    Failure::new(
        RATELIMIT_ERR_CLOSED,
        match limiter {
            0 => "0 is not a limiter: open one with ratelimit_open",
            _ => "this limiter was closed, or was never opened: do not use it any more",
        },
    )
}

/// The limiter behind a handle, which stays for the length of a decision.
#[inline(always)]
pub(crate) fn enter(limiter: ratelimit_limiter) -> Result<Entered<'static, Limiter>, Failure> {
    LIMITERS
        .enter::<ProcessFences>(threads::place(), limiter)
        .ok_or_else(|| closed(limiter))
}

/// The limiter behind a handle for calls that take longer than a decision: who closes it meanwhile does not keep its memory
/// waiting for them in a place that decisions need.
pub(crate) fn hold(limiter: ratelimit_limiter) -> Result<Limiter, Failure> {
    enter(limiter).map(|entered| (*entered).clone())
}

/// Whether the handle is still open.
pub(crate) fn check_open(limiter: ratelimit_limiter) -> Result<(), Failure> {
    if LIMITERS.is_open(limiter) {
        return Ok(());
    }
    Err(closed(limiter))
}

/// Opens a limiter from a config, into `*out`.
///
/// Starts no thread, unless the config has a snapshot file.
/// Errors: those that setters had (see `ratelimit_config_set_burst`), `RATELIMIT_ERR_INVALID_LIMIT`,
/// `RATELIMIT_ERR_LIMIT_COUNT`, `RATELIMIT_ERR_MAX_KEYS`, `RATELIMIT_ERR_SYSTEM`, `RATELIMIT_ERR_OPTION`,
/// `RATELIMIT_ERR_UNSUPPORTED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_CLOSED` (the config), `RATELIMIT_ERR_HANDLES`; with a path also
/// `RATELIMIT_ERR_PERSIST`, `RATELIMIT_ERR_SNAPSHOT_BUSY`, `RATELIMIT_ERR_RESTORE_REQUIRED`.
/// Ownership: the config stays the caller's, and may be used again or freed. The limiter ends with `ratelimit_close`.
///
/// # Safety
/// A handle can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_open(
    config: *const ratelimit_config,
    out: *mut ratelimit_limiter,
) -> ratelimit_result {
    boundary::guard("ratelimit_open", || {
        // Safety: guaranteed by caller.
        let out = unsafe { Out::new(out, "out") }?;
        let limiter = config::build(config)?;
        threads::prepare();
        LIMITERS.sweep::<ProcessFences>(threads::places());
        let handle = LIMITERS.open(limiter).ok_or_else(|| {
            Failure::new(
                RATELIMIT_ERR_HANDLES,
                "a million limiters are open: close what is no longer used",
            )
        })?;
        out.write(handle);
        Ok(())
    })
}

/// Closes a limiter. Calls that are running in other threads are done before its memory goes; later ones answer
/// `RATELIMIT_ERR_CLOSED`, and `ratelimit_acquire` that waits answers so within a tenth of a second.
///
/// With a snapshot file a last snapshot is written, if anything changed, and the file is free for others.
/// Does not wait for other threads: what one of them still uses is freed by the next `ratelimit_open` or `ratelimit_close`.
/// Errors: `RATELIMIT_ERR_CLOSED` if it is not open; nothing happens then. `RATELIMIT_ERR_SNAPSHOT_WRITE` if the disk failed: the
/// limiter is closed, and the snapshot before is as it was.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_close(limiter: ratelimit_limiter) -> ratelimit_result {
    boundary::guard("ratelimit_close", || {
        let mut outcome = Ok(());
        let is_closed =
            LIMITERS.close::<ProcessFences>(threads::places(), limiter, |limiter| outcome = limiter.close());
        if !is_closed {
            return Err(closed(limiter));
        }
        Ok(outcome?)
    })
}

/// Gives `cost` requests back, for instance because what they asked for failed. A client never has more than its full burst.
///
/// Errors, of this and the other calls with a key: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL` (a NULL key with a length),
/// `RATELIMIT_ERR_LENGTH`.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_refund(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
) -> ratelimit_result {
    boundary::guard("ratelimit_refund", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        enter(limiter)?.refund(key, cost);
        Ok(())
    })
}

/// As `ratelimit_refund`, for a client that is decided at given times.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_refund_at(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    now_ns: u64,
) -> ratelimit_result {
    boundary::guard("ratelimit_refund_at", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        enter(limiter)?.refund_at(key, cost, Duration::from_nanos(now_ns));
        Ok(())
    })
}

/// Forgets what a client has spent and lifts its block. A limit of its own stays.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_reset(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_reset", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        hold(limiter)?.reset(key);
        Ok(())
    })
}

/// As `ratelimit_reset`, for a client that is decided at given times.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_reset_at(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    now_ns: u64,
) -> ratelimit_result {
    boundary::guard("ratelimit_reset_at", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        hold(limiter)?.reset_at(key, Duration::from_nanos(now_ns));
        Ok(())
    })
}

/// Denies every request of a client for so many nanoseconds, by the limiter's own clock; at most 208 days. 0 lifts the block.
///
/// Errors: `RATELIMIT_ERR_FULL` (no room for another block), and those of every call with a key.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_block(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    duration_ns: u64,
) -> ratelimit_result {
    boundary::guard("ratelimit_block", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        Ok(hold(limiter)?.block(key, Duration::from_nanos(duration_ns))?)
    })
}

/// # Safety
/// As for `boundary::text`.
unsafe fn parsed(text: *const c_char) -> Result<Limit, Failure> {
    // Safety: guaranteed by caller.
    let text = unsafe { boundary::text(text, "limit") }?;
    text.parse()
        .map_err(|error| Failure::from(ratelimit::Error::Limit(error)))
}

/// Puts another limit in force, as text, while decisions run. Each client keeps the share of its burst that it has spent.
///
/// Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_LIMIT_COUNT` (the limiter has several limits: see
/// `ratelimit_set_limits`), `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
///
/// # Safety
/// `limit` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_set_limit(limiter: ratelimit_limiter, limit: *const c_char) -> ratelimit_result {
    boundary::guard("ratelimit_set_limit", || {
        // Safety: guaranteed by caller.
        let limit = unsafe { parsed(limit) }?;
        Ok(hold(limiter)?.set_limit(limit)?)
    })
}

/// Puts other limits in force, as texts: one for each that the limiter has, in the same order.
///
/// Errors: as `ratelimit_set_limit`; nothing is changed then.
///
/// # Safety
/// `limits` points to `count` texts that each end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_set_limits(
    limiter: ratelimit_limiter,
    limits: *const *const c_char,
    count: usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_set_limits", || {
        // Safety: guaranteed by caller.
        let texts = unsafe { boundary::array(limits, count, "limits") }?;
        let limits = texts
            .iter()
            // Safety: guaranteed by caller.
            .map(|text| unsafe { parsed(*text) })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(hold(limiter)?.set_limits(&limits)?)
    })
}

/// Gives a client a limit of its own, as text, in place of all the limiter's limits; NULL takes it away again. The client
/// keeps the share of its burst that it has spent.
///
/// Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_FULL` (no room for another), `RATELIMIT_ERR_TEXT`, and those of every
/// call with a key; the client stays under the limit it had.
///
/// # Safety
/// `key_len` bytes can be read at `key`; `limit` is NULL or ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_set_override(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    limit: *const c_char,
) -> ratelimit_result {
    boundary::guard("ratelimit_set_override", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        let limit = match limit.is_null() {
            true => None,
            // Safety: guaranteed by caller.
            false => Some(unsafe { parsed(limit) }?),
        };
        Ok(hold(limiter)?.set_override(key, limit)?)
    })
}

/// Takes a client's own limit away. To have none is no error.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_clear_override(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_clear_override", || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        Ok(hold(limiter)?.set_override(key, None)?)
    })
}

/// Takes all clients' own limits away. Cost: work in proportion to their number.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_clear_overrides(limiter: ratelimit_limiter) -> ratelimit_result {
    boundary::guard("ratelimit_clear_overrides", || {
        hold(limiter)?.clear_overrides();
        Ok(())
    })
}

/// What was done and how full the table is, into `*out`, whose `struct_size` the caller has set.
///
/// Cost: bounded, whatever the size of the table.
/// Errors: `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH` (struct_size), `RATELIMIT_ERR_CLOSED`.
///
/// # Safety
/// `out->struct_size` can be read, and so many bytes can be written at `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_stats(
    limiter: ratelimit_limiter,
    out: *mut ratelimit_statistics,
) -> ratelimit_result {
    boundary::guard("ratelimit_stats", || {
        // Safety: guaranteed by caller; the rest of the struct is not looked at.
        unsafe { Out::new(out, "out") }?;
        // Safety: not null and aligned (above), readable (guaranteed by caller).
        let struct_size = unsafe { (&raw const (*out).struct_size).read() };
        let bytes = statistics::bytes_for(struct_size)?;
        let mut filled = ratelimit_statistics::from(hold(limiter)?.stats());
        filled.struct_size = bytes;
        // Safety: `bytes` is neither above what the caller has room for nor above the size of `filled`.
        unsafe { std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), out.cast::<u8>(), bytes) };
        Ok(())
    })
}

/// The same as text for Prometheus, in its exposition format 0.0.4.
///
/// Writes the text and a zero byte into `buffer`, and into `*needed` the bytes that both take. With `capacity` 0 only that is
/// written. The text grows by some digits as numbers do, so ask again if it did not fit; 8,192 bytes are enough today.
/// Errors: `RATELIMIT_ERR_BUFFER_TOO_SMALL` (`*needed` is written, `buffer` is not), `RATELIMIT_ERR_NULL`,
/// `RATELIMIT_ERR_LENGTH`, `RATELIMIT_ERR_CLOSED`.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_prometheus(
    limiter: ratelimit_limiter,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_prometheus", || {
        let text = hold(limiter)?.prometheus();
        // Safety: guaranteed by caller.
        unsafe { boundary::write_text(text.as_bytes(), buffer, capacity, needed) }
    })
}

/// Writes a snapshot now, and returns when it is durable. Decisions go on meanwhile.
///
/// Errors: `RATELIMIT_ERR_NOT_PERSISTENT` (the config had no path), `RATELIMIT_ERR_SNAPSHOT_WRITE` (the disk failed; the snapshot
/// before is as it was), `RATELIMIT_ERR_FORKED_CHILD` (only the process that opened the limiter writes),
/// `RATELIMIT_ERR_CLOSED`.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_snapshot(limiter: ratelimit_limiter) -> ratelimit_result {
    boundary::guard("ratelimit_snapshot", || Ok(hold(limiter)?.snapshot()?))
}
