//! Decisions on a `ratelimit_limiter`.

use std::time::{Duration, Instant};

use ratelimit::{Decision, Wait};

use crate::boundary::{self, Failure, Out};
use crate::decision::{RATELIMIT_NEVER, ratelimit_decision};
use crate::limiter::{check_open, enter, hold, ratelimit_limiter};
use crate::result::ratelimit_result;

/// Keys of a batch that are converted at a time, on the stack.
const BATCH: usize = 128;

/// How long `ratelimit_acquire` sleeps before it looks whether the limiter was closed.
const TURN: Duration = Duration::from_millis(100);

/// Whether one request of this client is allowed now. If so it is charged.
///
/// Keys are any bytes of any length; NULL with a length of 0 is the empty key.
/// Fails open: if anything is wrong (a closed limiter, a NULL key with a length, a defect) the answer is true, since a broken
/// limiter should not stop a service; `ratelimit_check` tells the difference, and `ratelimit_last_error_message` the reason.
/// Cost: a hash, a reading of the clock, one or two lines of memory, and for an admission one compare-and-swap. No lock, no
/// allocation, no system call.
///
/// # Safety
/// `key_len` bytes can be read at `key`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_is_allowed(limiter: ratelimit_limiter, key: *const u8, key_len: usize) -> bool {
    boundary::answer("ratelimit_is_allowed", true, || {
        // Safety: guaranteed by caller.
        let key = unsafe { boundary::key(key, key_len) }?;
        Ok(enter(limiter)?.is_allowed(key))
    })
}

/// Decides a request that costs as much as `cost` ordinary ones, into `*out`: all of it is allowed and charged, or nothing.
///
/// A cost of 0 is always allowed and charges nothing. A cost above the burst is never allowed, and `retry_after_ns` is then
/// `RATELIMIT_NEVER`.
/// Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL` (`out`, or a NULL key with a length), `RATELIMIT_ERR_LENGTH`.
///
/// # Safety
/// `key_len` bytes can be read at `key`; a decision can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_check(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    out: *mut ratelimit_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_check", || {
        // Safety: guaranteed by caller.
        let (key, out) = unsafe { (boundary::key(key, key_len)?, Out::new(out, "out")?) };
        out.write(enter(limiter)?.check_n(key, cost).into());
        Ok(())
    })
}

/// As `ratelimit_check`, at a given time: nanoseconds since an origin of the caller's choice. 0 is a legal time, and so is the
/// time since 1970.
///
/// Use one kind of time for one key: to mix given times and the limiter's own clock is safe but of little use. A time further
/// back than the client's window (and a second) is taken as a clock that was set back, and the client then starts with
/// a spent burst at that time.
///
/// # Safety
/// As for `ratelimit_check`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_check_at(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    now_ns: u64,
    out: *mut ratelimit_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_check_at", || {
        // Safety: guaranteed by caller.
        let (key, out) = unsafe { (boundary::key(key, key_len)?, Out::new(out, "out")?) };
        out.write(enter(limiter)?.check_at(key, cost, Duration::from_nanos(now_ns)).into());
        Ok(())
    })
}

/// What `ratelimit_check` would say now. Charges nothing and writes nothing.
///
/// # Safety
/// As for `ratelimit_check`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_peek(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    out: *mut ratelimit_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_peek", || {
        // Safety: guaranteed by caller.
        let (key, out) = unsafe { (boundary::key(key, key_len)?, Out::new(out, "out")?) };
        out.write(enter(limiter)?.peek_n(key, cost).into());
        Ok(())
    })
}

/// What `ratelimit_check_at` would say.
///
/// # Safety
/// As for `ratelimit_check`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_peek_at(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    now_ns: u64,
    out: *mut ratelimit_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_peek_at", || {
        // Safety: guaranteed by caller.
        let (key, out) = unsafe { (boundary::key(key, key_len)?, Out::new(out, "out")?) };
        out.write(enter(limiter)?.peek_at(key, cost, Duration::from_nanos(now_ns)).into());
        Ok(())
    })
}

/// The keys of a batch, checked as a whole before the first is decided.
struct Keys<'a> {
    data: &'a [*const u8],
    lens: &'a [usize],
}

impl<'a> Keys<'a> {
    /// # Safety
    /// There are `count` pointers at `keys` and as many lengths at `key_lens`, and each pair as for `boundary::key`.
    unsafe fn new(keys: *const *const u8, key_lens: *const usize, count: usize) -> Result<Self, Failure> {
        // Safety: guaranteed by caller.
        let (data, lens) = unsafe {
            (
                boundary::array(keys, count, "keys")?,
                boundary::array(key_lens, count, "key_lens")?,
            )
        };
        for (data, len) in data.iter().zip(lens) {
            // Safety: guaranteed by caller.
            unsafe { boundary::key(*data, *len) }?;
        }
        Ok(Keys { data, lens })
    }

    /// Keys from `start`, as many as fit, into `into`; answers how many.
    fn fill(&self, start: usize, into: &mut [&'a [u8]; BATCH]) -> usize {
        let end = self.data.len().min(start + BATCH);
        for (place, (data, len)) in into
            .iter_mut()
            .zip(self.data[start..end].iter().zip(&self.lens[start..end]))
        {
            // Safety: guaranteed by the caller of `new`, where every pair was checked.
            *place = unsafe { boundary::key(*data, *len) }.unwrap_or_default();
        }
        end - start
    }
}

/// Decides one request of each of `count` keys, in order, into `out[0..count]`.
///
/// `costs` is NULL for a cost of 1 each, or has `count` costs. Keys are hashed and their memory brought near 16 at a time, so
/// that with many clients a decision costs a third of a single call.
/// Errors: as `ratelimit_check`, for any key; nothing is decided then.
///
/// # Safety
/// `keys`, `key_lens`, `out` and, unless it is NULL, `costs` have `count` elements; `key_lens[i]` bytes can be read at `keys[i]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_check_many(
    limiter: ratelimit_limiter,
    keys: *const *const u8,
    key_lens: *const usize,
    costs: *const u64,
    count: usize,
    out: *mut ratelimit_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_check_many", || {
        // Safety: guaranteed by caller.
        let keys = unsafe { Keys::new(keys, key_lens, count) }?;
        let costs = match costs.is_null() {
            true => None,
            // Safety: guaranteed by caller.
            false => Some(unsafe { boundary::array(costs, count, "costs") }?),
        };
        boundary::checked_array(out, count, "out")?;
        let limiter = hold(limiter)?;
        let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
        let mut decisions = [Decision::default(); BATCH];
        for start in (0..count).step_by(BATCH) {
            let len = keys.fill(start, &mut batch);
            let (batch, decisions) = (&batch[..len], &mut decisions[..len]);
            match costs {
                None => limiter.check_many(batch, decisions)?,
                Some(costs) => limiter.check_many_n(batch, &costs[start..start + len], decisions)?,
            }
            for (i, decision) in decisions.iter().enumerate() {
                // Safety: `out` is not null (checked), and has room for `count` (guaranteed by caller). What is there is not read.
                unsafe { out.add(start + i).write((*decision).into()) };
            }
        }
        Ok(())
    })
}

/// As `ratelimit_check_many` for costs of 1, for those who only want to know whether: faster, since nothing else is worked out.
///
/// # Safety
/// `keys`, `key_lens` and `out` have `count` elements; `key_lens[i]` bytes can be read at `keys[i]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_allowed_many(
    limiter: ratelimit_limiter,
    keys: *const *const u8,
    key_lens: *const usize,
    count: usize,
    out: *mut bool,
) -> ratelimit_result {
    boundary::guard("ratelimit_allowed_many", || {
        // Safety: guaranteed by caller.
        let keys = unsafe { Keys::new(keys, key_lens, count) }?;
        boundary::checked_array(out, count, "out")?;
        let limiter = hold(limiter)?;
        let mut batch: [&[u8]; BATCH] = [&[]; BATCH];
        let mut allowed = [false; BATCH];
        for start in (0..count).step_by(BATCH) {
            let len = keys.fill(start, &mut batch);
            limiter.allowed_many(&batch[..len], &mut allowed[..len])?;
            // Safety: `out` is not null (checked), and has room for `count` (guaranteed by caller); a caller's array does not
            // overlap ours.
            unsafe { std::ptr::copy_nonoverlapping(allowed.as_ptr(), out.add(start), len) };
        }
        Ok(())
    })
}

/// Waits until a request of `cost` is allowed, and charges it: `*acquired` is then true. False if it cannot be within
/// `timeout_ns` (`RATELIMIT_NEVER`: however long it takes), or ever: that is said at once, without waiting.
///
/// This thread sleeps meanwhile. Who waits holds no place in a queue: of several that wait for one client whoever asks first
/// after the time is up is allowed, and the others sleep again.
/// Errors: `RATELIMIT_ERR_CLOSED` (also when it is closed meanwhile), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`.
///
/// # Safety
/// `key_len` bytes can be read at `key`, until the call returns; a bool can be written to `acquired`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_acquire(
    limiter: ratelimit_limiter,
    key: *const u8,
    key_len: usize,
    cost: u64,
    timeout_ns: u64,
    acquired: *mut bool,
) -> ratelimit_result {
    boundary::guard("ratelimit_acquire", || {
        // Safety: guaranteed by caller.
        let (key, acquired) = unsafe { (boundary::key(key, key_len)?, Out::new(acquired, "acquired")?) };
        let until = match timeout_ns {
            RATELIMIT_NEVER => None,
            ns => Instant::now().checked_add(Duration::from_nanos(ns)),
        };
        loop {
            // Entered anew for each decision: a waiting thread keeps no limiter from being closed.
            let decision = enter(limiter)?.check_n(key, cost);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match Wait::after(&decision, left) {
                Wait::Allowed => break acquired.write(true),
                Wait::GiveUp => break acquired.write(false),
                Wait::Sleep(time) => sleep(limiter, time)?,
            }
        }
        Ok(())
    })
}

fn sleep(limiter: ratelimit_limiter, time: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        check_open(limiter)?;
        let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
            return Ok(());
        };
        std::thread::sleep(left.min(TURN));
    }
}
