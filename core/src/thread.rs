//! A small number for each thread, so that what a thread writes often can lie on a line of its own.
//!
//! One variable for all that needs such a number: in a shared library each look at a variable of a thread is a call, and the
//! compiler makes one of several looks at the same one.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that have a number of their own at the same time.
pub const NUMBERS: usize = 256;

static TAKEN: [AtomicBool; NUMBERS] = [const { AtomicBool::new(false) }; NUMBERS];

/// What to do when a thread has taken a number: see [`when_taken`].
static WHEN_TAKEN: OnceLock<fn()> = OnceLock::new();

const UNKNOWN: usize = usize::MAX;

thread_local! {
    // No destructor: a thread may end while another library unloads.
    static MINE: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// This thread's number: the lowest that was free when it first asked. No other thread has it until it is given back, and
/// what the one before wrote under this number is visible. [`NUMBERS`] for all threads that found none.
///
/// Cost: one load; the first call of a thread looks for a free number.
#[inline(always)]
#[must_use]
pub fn number() -> usize {
    match MINE.get() {
        UNKNOWN => take(),
        mine => mine,
    }
}

/// The number if this thread has asked before: some larger number than any if not.
#[inline(always)]
#[must_use]
pub fn number_if_known() -> usize {
    MINE.get()
}

#[cold]
#[inline(never)]
fn take() -> usize {
    // Acquire: pairs with the Release in `give_back`.
    let is_free = |taken: &AtomicBool| {
        taken
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    let mine = TAKEN.iter().position(is_free).unwrap_or(NUMBERS);
    MINE.set(mine);
    if let Some(when_taken) = WHEN_TAKEN.get().filter(|_| mine < NUMBERS) {
        when_taken();
    }
    mine
}

/// Sets what each thread calls once it has taken a number: the place to see to it that the number is given back. The first
/// to call this wins.
pub fn when_taken(call: fn()) {
    let _the_first_wins = WHEN_TAKEN.set(call);
}

/// Gives this thread's number back, for a thread that ends. A thread that never calls it keeps its number taken.
///
/// If the thread asks again, it gets another one.
pub fn give_back() {
    if let Some(taken) = TAKEN.get(MINE.replace(UNKNOWN)) {
        // Release: pairs with the Acquire in `take`.
        taken.store(false, Ordering::Release);
    }
}

/// In a forked child, where no other thread is: frees all numbers but this thread's. Safe between fork and exec.
pub fn forget_others() {
    let mine = MINE.get();
    for (number, taken) in TAKEN.iter().enumerate() {
        if number != mine {
            // Relaxed: the child has one thread.
            taken.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_threads_until_it_is_given_back() {
        let mine = number();
        assert_eq!(number(), mine);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let others = number();
                assert_ne!(others, mine);
                give_back();
                // Tests beside this one take numbers too, so which one comes now is not known.
                assert_ne!(number(), mine);
                give_back();
                give_back();
            });
            other.join().expect("the thread");
        });
        assert_eq!(number(), mine);
    }
}
