//! What belongs to threads and processes: each thread's place for marks, the fences between them, and forks.
//!
//! No `thread_local` with a destructor of Rust's: registering one allocates. A key of the C library gives a thread's number
//! back when it ends; the shared library is never unloaded, so its destructor is there for as long as any thread.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

use ratelimit_core::thread;

use crate::registry::{Fences, Place};

/// One for each number that a thread may have.
static PLACES: [Place; thread::NUMBERS] = [const { Place::new() }; thread::NUMBERS];

/// Every thread's place.
pub(crate) fn places() -> &'static [Place] {
    &PLACES
}

/// The place of this thread. None for threads beyond the numbers: they count their calls in the slot, which is correct, and
/// about 10 ns slower.
#[inline(always)]
pub(crate) fn place() -> Option<&'static Place> {
    PLACES.get(thread::number())
}

/// Whether a closer can make all threads execute a fence, so that calls need none. Goes from false to true once, before the
/// first handle is handed out: who sees it true may rely on it, who still sees it false makes a fence more than needed.
static IS_ASYMMETRIC: AtomicBool = AtomicBool::new(false);

/// The fences of this process.
pub(crate) struct ProcessFences;

impl Fences for ProcessFences {
    #[inline(always)]
    fn light() {
        // Relaxed: see `IS_ASYMMETRIC`.
        if IS_ASYMMETRIC.load(Ordering::Relaxed) {
            // Pairs with `heavy`: the system runs a full fence on every thread of the process that is running, and one that is
            // not running went through a fence when it was taken off its processor.
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    fn heavy() -> bool {
        // Acquire on the handle that is closed lies before this, and `prepare` before it was handed out.
        if IS_ASYMMETRIC.load(Ordering::Relaxed) {
            system::fence_all_threads()
        } else {
            fence(Ordering::SeqCst);
            true
        }
    }
}

/// Before the first handle is handed out: asks the system for fences, for the ends of threads, and to be told of forks.
pub(crate) fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        system::watch();
        if system::can_fence_all_threads() {
            IS_ASYMMETRIC.store(true, Ordering::Relaxed);
        }
    });
}

#[cfg(unix)]
mod system {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicU64, Ordering};

    use ratelimit_core::thread;

    /// The key of the C library, plus one; 0 if there is none.
    static KEY: AtomicU64 = AtomicU64::new(0);

    pub(super) fn watch() {
        let mut key = 0;
        // Safety: `key` is a place for a key, and the destructor has the right type.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(at_exit)) } == 0 {
            // Relaxed: a thread that sees 0 keeps its number taken, which is only a waste.
            KEY.store(u64::from(key) + 1, Ordering::Relaxed);
            thread::when_taken(give_back_at_exit);
        }
        // Safety: the handler has the right type, touches atomics only, and lives as long as the library, which is not unloaded.
        let _failed_for_want_of_memory = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    }

    fn give_back_at_exit() {
        if let Some(key) = KEY.load(Ordering::Relaxed).checked_sub(1) {
            // Any value but null, which would mean that there is nothing to do.
            let something = (&raw const KEY).cast::<c_void>();
            // Safety: the key was made by `watch` and is never deleted; the value is not read.
            let _failed_for_want_of_memory =
                unsafe { libc::pthread_setspecific(key as libc::pthread_key_t, something) };
        }
    }

    extern "C" fn at_exit(_something: *mut c_void) {
        thread::give_back();
    }

    extern "C" fn in_child() {
        let mine = super::place();
        for place in super::places() {
            // This thread's own mark stays: a signal handler may fork in the middle of a call.
            if !mine.is_some_and(|mine| std::ptr::eq(mine, place)) {
                place.forget();
            }
        }
        thread::forget_others();
        crate::forget_shared_calls();
    }

    #[cfg(target_os = "linux")]
    mod membarrier {
        // From linux/membarrier.h.
        const PRIVATE_EXPEDITED: libc::c_int = 1 << 3;
        const REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

        fn call(command: libc::c_int) -> bool {
            // Safety: the system call takes three numbers and touches no memory of ours.
            unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
        }

        pub(in super::super) fn can_fence_all_threads() -> bool {
            call(REGISTER_PRIVATE_EXPEDITED) && call(PRIVATE_EXPEDITED)
        }

        pub(in super::super) fn fence_all_threads() -> bool {
            // A forked child may have to register again.
            call(PRIVATE_EXPEDITED) || can_fence_all_threads()
        }
    }
    #[cfg(target_os = "linux")]
    pub(super) use membarrier::{can_fence_all_threads, fence_all_threads};

    #[cfg(not(target_os = "linux"))]
    pub(super) fn can_fence_all_threads() -> bool {
        false
    }
    #[cfg(not(target_os = "linux"))]
    pub(super) fn fence_all_threads() -> bool {
        false
    }
}

#[cfg(not(unix))]
mod system {
    pub(super) fn watch() {}
    pub(super) fn give_back_at_exit(_index: usize) {}
    pub(super) fn can_fence_all_threads() -> bool {
        false
    }
    pub(super) fn fence_all_threads() -> bool {
        false
    }
}
