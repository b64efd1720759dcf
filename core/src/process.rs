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

/// As [`generation`], for one who has asked for it before: without that call nobody says when a fork comes.
///
/// Cost: one load, and nothing else on the deciding path.
#[inline(always)]
pub(crate) fn known_generation() -> u64 {
    // Relaxed: as in `generation`.
    GENERATION.load(Ordering::Relaxed)
}

#[cfg(unix)]
#[inline]
fn watch() {
    static WATCHED: Once = Once::new();

    extern "C" fn prepare() {
        owned::before_fork();
    }

    extern "C" fn in_parent() {
        owned::after_fork();
    }

    extern "C" fn in_child() {
        // Atomics and `close` are all that is safe to use between fork and exec.
        GENERATION.fetch_add(1, Ordering::Relaxed);
        owned::close_inherited();
    }

    WATCHED.call_once(|| {
        // Safety: these are functions of the right type that only use atomics, `close` and `sched_yield`. The C library
        // forgets them when this library is unloaded.
        let _failed_for_want_of_memory =
            unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) };
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

#[cfg(unix)]
pub(crate) use owned::Owned;
#[cfg(unix)]
pub use owned::{InThisProcess, open_in_this_process};

/// Descriptors that a forked child does not keep.
#[cfg(unix)]
mod owned {
    use std::fs::File;
    use std::io;
    use std::mem::ManuallyDrop;
    use std::os::fd::{AsRawFd, FromRawFd, RawFd};
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    /// The most of them at the same time.
    const MOST: usize = 1_024;

    static KEPT: [AtomicI32; MOST] = [const { AtomicI32::new(-1) }; MOST];
    /// Set while a descriptor is opened or closed, or a fork is under way: neither may see the other half done.
    static BUSY: AtomicBool = AtomicBool::new(false);
    static BUSY_FORKING: AtomicBool = AtomicBool::new(false);

    /// A file that is closed in every forked child, so that a lock on it proves that *this* process lives.
    #[derive(Debug)]
    pub(crate) struct Owned {
        file: ManuallyDrop<File>,
        place: usize,
        generation: u64,
    }

    impl Owned {
        /// Keeps what `open` opens.
        ///
        /// Errors: those of `open`, and too many of these in one process.
        pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
            let generation = super::generation();
            while BUSY.swap(true, Ordering::Acquire) {
                std::thread::yield_now();
            }
            let opened = open().and_then(|file| {
                let place = keep(file.as_raw_fd())?;
                Ok(Owned {
                    file: ManuallyDrop::new(file),
                    place,
                    generation,
                })
            });
            BUSY.store(false, Ordering::Release);
            opened
        }

        pub(crate) fn as_raw_fd(&self) -> RawFd {
            self.file.as_raw_fd()
        }

        /// Takes the descriptor out of this, to be kept as a number.
        pub(crate) fn into_parts(self) -> (RawFd, usize) {
            let this = ManuallyDrop::new(self);
            (this.file.as_raw_fd(), this.place)
        }

        /// The inverse of [`into_parts`](Owned::into_parts), in the same process.
        ///
        /// # Safety
        /// The parts come from one call of `into_parts` in this process, and are used once.
        pub(crate) unsafe fn from_parts(fd: RawFd, place: usize) -> Self {
            Owned {
                // Safety: the descriptor is open and nobody else's, as the caller promises.
                file: ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }),
                place,
                generation: super::generation(),
            }
        }
    }

    /// Says that a descriptor is to be closed in every forked child; see [`open_in_this_process`].
    #[derive(Debug)]
    pub struct InThisProcess {
        place: usize,
        generation: u64,
    }

    /// Opens something whose descriptor a forked child is not to keep: a socket that a child held open would keep its port
    /// taken after this process has ended.
    ///
    /// Errors: those of `open`, and too many of these in one process.
    ///
    /// # Safety
    /// In a forked child nothing uses or closes what was opened. In this process the second value is dropped before what was
    /// opened is closed.
    pub unsafe fn open_in_this_process<F: AsRawFd>(
        open: impl FnOnce() -> io::Result<F>,
    ) -> io::Result<(F, InThisProcess)> {
        let generation = super::generation();
        while BUSY.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        let opened = open().and_then(|opened| {
            let place = keep(opened.as_raw_fd())?;
            Ok((opened, InThisProcess { place, generation }))
        });
        BUSY.store(false, Ordering::Release);
        opened
    }

    /// Takes a place for a descriptor; only while [`BUSY`] is this caller's.
    fn keep(fd: RawFd) -> io::Result<usize> {
        let mut places = KEPT.iter();
        let free = places.position(|kept| {
            let take = kept.compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed);
            take.is_ok()
        });
        free.ok_or_else(|| {
            io::Error::other("this process has 1,024 shared limiters and cluster nodes open already: close some")
        })
    }

    impl Drop for InThisProcess {
        fn drop(&mut self) {
            if self.generation != super::generation() {
                // Closed when this child was made.
                return;
            }
            while BUSY.swap(true, Ordering::Acquire) {
                std::thread::yield_now();
            }
            KEPT[self.place].store(-1, Ordering::Release);
            BUSY.store(false, Ordering::Release);
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            if self.generation != super::generation() {
                // Closed when this child was made; the number may be another file's by now.
                return;
            }
            while BUSY.swap(true, Ordering::Acquire) {
                std::thread::yield_now();
            }
            KEPT[self.place].store(-1, Ordering::Release);
            // Safety: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.file) };
            BUSY.store(false, Ordering::Release);
        }
    }

    /// Waits until no descriptor is on its way. Not for ever: a fork inside a signal handler would wait for itself.
    pub(super) fn before_fork() {
        for _ in 0..1_000_000 {
            if !BUSY.swap(true, Ordering::Acquire) {
                BUSY_FORKING.store(true, Ordering::Relaxed);
                return;
            }
            // Safety: has no effect but to let others run.
            unsafe { libc::sched_yield() };
        }
    }

    pub(super) fn after_fork() {
        if BUSY_FORKING.swap(false, Ordering::Relaxed) {
            BUSY.store(false, Ordering::Release);
        }
    }

    /// In a child, which has one thread: nobody opens or closes anything here.
    pub(super) fn close_inherited() {
        BUSY_FORKING.store(false, Ordering::Relaxed);
        BUSY.store(false, Ordering::Relaxed);
        for kept in &KEPT {
            let fd = kept.swap(-1, Ordering::Relaxed);
            if fd >= 0 {
                // Safety: the descriptor is the child's copy of one that only an `Owned` of the parent's uses, which does not
                // touch it in another generation, or of one that nobody uses in a child, as `open_in_this_process` was promised.
                unsafe { libc::close(fd) };
            }
        }
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
