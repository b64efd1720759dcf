//! Whether this process is still the one that made something, or a forked child of it.
//!
//! A child inherits memory, but no thread and no lock that proves a life: whoever keeps such a thing remembers the
//! [`generation`] that it was made in, and makes it anew where that has changed.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many forks lie between this process and the one that first asked.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// A number, never 0, that is another one in every forked child than in its parent. Not the same in all processes: compare
/// it only with what this process, or one it was forked from, has kept in memory of its own.
///
/// Cost: one load. The first call in a process asks the system to be told of forks.
#[inline]
#[must_use]
pub fn generation() -> u64 {
    watch();
    // Relaxed: it changes only in a child, before any code of ours runs there.
    GENERATION.load(Ordering::Relaxed)
}

#[cfg(unix)]
#[inline]
fn watch() {
    static WATCHED: Once = Once::new();

    extern "C" fn in_child() {
        // An atomic is all that is safe to touch between fork and exec.
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }

    WATCHED.call_once(|| {
        // Safety: `in_child` is a function of the right type that only adds to an atomic. The C library forgets it when this
        // library is unloaded.
        let _failed_for_want_of_memory = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

#[cfg(not(unix))]
fn watch() {}

/// Runs `start` with all signals blocked in this thread, so that a thread which it starts blocks them too, from its first
/// instruction.
pub fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    #[cfg(unix)]
    let _restored_when_dropped = Blocked::new();
    start()
}

/// Signals as they were before.
#[cfg(unix)]
struct Blocked(libc::sigset_t);

#[cfg(unix)]
impl Blocked {
    fn new() -> Self {
        // Safety: a signal set is plain numbers, for which zeros are valid; the calls get places for one each and write nothing
        // else. The mask is this thread's own.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Blocked(before)
        }
    }
}

#[cfg(unix)]
impl Drop for Blocked {
    fn drop(&mut self) {
        // Safety: as in `new`; the set is one that the system gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::generation;

    #[test]
    fn a_child_has_another_generation() {
        let here = generation();
        assert_ne!(here, 0);
        // Safety: the child calls nothing but what is safe after a fork of a process with threads, and leaves at once.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "no fork");
        if child == 0 {
            let code = i32::from(generation() != here + 1);
            // Safety: ends this process without running destructors of the parent's.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // Safety: waits for the child that was just made; `status` is a place for its status.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
        assert_eq!(generation(), here, "the parent stays as it was");
    }
}
