//! Numbers in place of pointers: what C holds is `{generation, slot}`, and a number that is no longer good is an error.
//!
//! The hazard: one thread closes a handle while others are inside calls on it. A count of calls in each slot would do, but two
//! locked instructions cost more than a decision may, and a count that all threads write is a line that all of them fight
//! for. So a call *marks* the handle in a place of its thread alone, with a plain store, and whoever closes looks at all
//! places:
//!
//! ```text
//!   call                                close
//!   1. place.marked := handle           1. slot.handle := CLOSED
//!   2. fence                            2. fence
//!   3. slot.handle = handle ?           3. is `handle` marked in any place?
//! ```
//!
//! Of the two fences one comes first. If the call's, then step 3 of the closer sees the mark, and the value stays until it is
//! gone. If the closer's, then step 3 of the call sees CLOSED. The call's fence is a compiler fence where the closer can make
//! all threads of the process execute a real one (`barrier`), which makes a call as cheap as two stores to a line of its own.
//!
//! A value that is still marked when its handle is closed stays with its slot on the list of retired slots, and whoever opens
//! or closes next looks again. Nobody waits for another thread, and what is kept is bounded: a place marks one handle.
//! A slot goes back to the free ones only when its value is gone, so that a slot has at most one value at any time.
//!
//! No lock, so that a child that is forked while another thread opens or closes can do both.
//!
//! The model is `loom-tests/tests/handles.rs`.

use std::ptr;

use self::atomics::{AtomicPtr, AtomicU64, Ordering, fence};

#[cfg(ratelimit_loom)]
mod atomics {
    pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
    pub(super) use loom::thread::yield_now;
}
#[cfg(not(ratelimit_loom))]
mod atomics {
    pub(super) use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
    pub(super) use std::thread::yield_now;
}

/// Bits of a handle that say which slot; the others are the generation, from 1.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const LAST_GENERATION: u64 = u64::MAX >> SLOT_BITS;

/// Slots are made in chunks that never move and are never freed: 16 KiB each.
#[cfg(not(ratelimit_loom))]
const CHUNK: usize = 256;
#[cfg(ratelimit_loom)]
const CHUNK: usize = 1;
#[cfg(not(ratelimit_loom))]
const CHUNKS: usize = 1 << (SLOT_BITS - CHUNK.trailing_zeros());
#[cfg(ratelimit_loom)]
const CHUNKS: usize = 3;

/// How often a closer looks again for calls that were inside.
#[cfg(not(ratelimit_loom))]
const TURNS: usize = 64;
#[cfg(ratelimit_loom)]
const TURNS: usize = 1;

/// Where one thread marks the handle whose value it uses.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Place {
    marked: AtomicU64,
}

impl Place {
    #[cfg(not(ratelimit_loom))]
    pub(crate) const fn new() -> Self {
        Place {
            marked: AtomicU64::new(0),
        }
    }

    #[cfg(ratelimit_loom)]
    pub(crate) fn new() -> Self {
        Place {
            marked: AtomicU64::new(0),
        }
    }

    /// Forgets the mark of a thread that does not exist in this process: after a fork, in the child.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn forget(&self) {
        // Relaxed: the child has one thread.
        self.marked.store(0, Ordering::Relaxed);
    }
}

/// How the two fences are made.
pub(crate) trait Fences {
    /// Between a mark and the look at the slot, in every call.
    fn light();
    /// Between closing and the look at the marks. False if that could not be made sure now: nothing is freed then.
    fn heavy() -> bool;
}

#[repr(align(64))]
struct Slot<T> {
    /// The handle that is open, or [`closed`].
    handle: AtomicU64,
    value: AtomicPtr<T>,
    /// Calls by threads that have no place, or are inside a call already (in a signal handler). Calls on handles that are no
    /// longer good are counted for a moment too.
    shared: AtomicU64,
    /// The last handle of this slot. Read and written only by whoever took the slot off a list.
    last: AtomicU64,
    /// The next slot of the list that this one is on, plus one.
    next: AtomicU64,
}

/// What a slot without an open handle says: a handle that leads to another slot, so no call that comes here can hold it.
const fn closed(index: u64) -> u64 {
    index ^ 1
}

/// A stack of slots: the index of the top plus one below, and above it a count of pushes, without which a slot that is taken
/// and comes back between load and compare-and-swap would go unnoticed.
struct Stack(AtomicU64);

/// All handles of one kind, and the values behind them.
pub(crate) struct Registry<T> {
    chunks: [AtomicPtr<[Slot<T>; CHUNK]>; CHUNKS],
    /// How many slots were ever used.
    used: AtomicU64,
    free: Stack,
    retired: Stack,
}

/// A value that is not freed before this is dropped.
pub(crate) struct Entered<'a, T> {
    value: &'a T,
    mark: &'a AtomicU64,
    is_shared: bool,
}

impl<T> std::ops::Deref for Entered<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release, both: pairs with the Acquire in `is_in_use`. Whoever frees has seen the end of every use.
        if self.is_shared {
            self.mark.fetch_sub(1, Ordering::Release);
        } else {
            self.mark.store(0, Ordering::Release);
        }
    }
}

impl<T> Registry<T> {
    #[cfg(not(ratelimit_loom))]
    pub(crate) const fn new() -> Self {
        Registry {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            used: AtomicU64::new(0),
            free: Stack(AtomicU64::new(0)),
            retired: Stack(AtomicU64::new(0)),
        }
    }

    #[cfg(ratelimit_loom)]
    pub(crate) fn new() -> Self {
        Registry {
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            used: AtomicU64::new(0),
            free: Stack(AtomicU64::new(0)),
            retired: Stack(AtomicU64::new(0)),
        }
    }

    #[inline(always)]
    fn slot(&self, index: u64) -> Option<&Slot<T>> {
        let index = index as usize;
        // Acquire: pairs with the exchange in `slot_or_new`. Who sees the chunk sees its slots.
        let chunk = self.chunks.get(index / CHUNK)?.load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        // Safety: a chunk that was published is whole and is never freed while the registry lives.
        Some(unsafe { &(*chunk)[index % CHUNK] })
    }

    /// The value behind a handle, which stays until the answer is dropped; `None` if the handle is not open.
    ///
    /// `place` is the calling thread's own, if it has one: no other thread marks anything there.
    #[inline(always)]
    pub(crate) fn enter<'a, F: Fences>(&'a self, place: Option<&'a Place>, handle: u64) -> Option<Entered<'a, T>> {
        let slot = self.slot(handle & SLOT_MASK)?;
        match place {
            // Relaxed: this thread's own store. A mark that is there already is that of a call which a signal interrupted.
            Some(place) if place.marked.load(Ordering::Relaxed) == 0 => {
                // Release: pairs with the Acquire in `is_in_use`. Who sees this mark in place of the one before has also seen
                // the end of the use before.
                place.marked.store(handle, Ordering::Release);
                F::light();
                Self::look(slot, handle, &place.marked, false)
            }
            _ => Self::enter_shared(slot, handle),
        }
    }

    #[cold]
    fn enter_shared(slot: &Slot<T>, handle: u64) -> Option<Entered<'_, T>> {
        // AcqRel: part of the chain of changes that `is_in_use` acquires. The fence is the one between mark and look.
        slot.shared.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        Self::look(slot, handle, &slot.shared, true)
    }

    /// Step 3 of a call.
    #[inline(always)]
    fn look<'a>(slot: &'a Slot<T>, handle: u64, mark: &'a AtomicU64, is_shared: bool) -> Option<Entered<'a, T>> {
        // Acquire: pairs with the Release in `open`. Who sees the handle sees its value.
        let is_open = slot.handle.load(Ordering::Acquire) == handle;
        // Relaxed: the Acquire above, and no other value comes while this handle is open or marked.
        let value = slot.value.load(Ordering::Relaxed);
        if is_open {
            // Safety: the handle was open after it was marked, so whoever closes it sees the mark (the argument above), and
            // frees the value only once the mark is gone: when the answer is dropped.
            let value = unsafe { &*value };
            return Some(Entered { value, mark, is_shared });
        }
        if is_shared {
            mark.fetch_sub(1, Ordering::Release);
        } else {
            mark.store(0, Ordering::Release);
        }
        None
    }

    /// Whether a handle is open at this moment. Nothing keeps it so.
    pub(crate) fn is_open(&self, handle: u64) -> bool {
        // Relaxed: a hint.
        self.slot(handle & SLOT_MASK)
            .is_some_and(|slot| slot.handle.load(Ordering::Relaxed) == handle)
    }

    /// Puts a value behind a new handle, never 0. `None` if there are a million handles already; the value is dropped.
    pub(crate) fn open(&self, value: T) -> Option<u64> {
        let (index, slot) = match self.free.pop(self) {
            Some(free) => free,
            None => self.slot_or_new()?,
        };
        // Relaxed: the slot is this thread's alone, and came with Acquire off a list or is new.
        let generation = (slot.last.load(Ordering::Relaxed) >> SLOT_BITS) + 1;
        let handle = (generation << SLOT_BITS) | index;
        slot.last.store(handle, Ordering::Relaxed);
        slot.value.store(Box::into_raw(Box::new(value)), Ordering::Relaxed);
        // Release: pairs with the Acquire in `look` and in `close`.
        slot.handle.store(handle, Ordering::Release);
        Some(handle)
    }

    #[cold]
    fn slot_or_new(&self) -> Option<(u64, &Slot<T>)> {
        // Relaxed: the number alone matters.
        let take = |used: u64| (used < (CHUNK * CHUNKS) as u64).then_some(used + 1);
        let index = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        let chunk = &self.chunks[index as usize / CHUNK];
        if chunk.load(Ordering::Acquire).is_null() {
            let first = index - index % CHUNK as u64;
            let made = Box::into_raw(Box::new(std::array::from_fn(|i| Slot {
                handle: AtomicU64::new(closed(first + i as u64)),
                value: AtomicPtr::new(ptr::null_mut()),
                shared: AtomicU64::new(0),
                last: AtomicU64::new(0),
                next: AtomicU64::new(0),
            })));
            // AcqRel: Release for who sees the chunk in `slot`; Acquire for the chunk of another, if that came first.
            let published = chunk.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
            if published.is_err() {
                // Safety: it was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
            }
        }
        self.slot(index).map(|slot| (index, slot))
    }

    /// Ends a handle; false if it is not open. `last_words` is given its value first, after no new call can come in.
    ///
    /// The value is freed at once if no call uses it, else by whoever opens or closes after the last of them.
    pub(crate) fn close<F: Fences>(&self, places: &[Place], handle: u64, last_words: impl FnOnce(&T)) -> bool {
        let index = handle & SLOT_MASK;
        let Some(slot) = self.slot(index) else {
            return false;
        };
        // AcqRel: Acquire for the value, from `open`; Release for what this thread did with it. Of two who close one wins.
        let won = slot
            .handle
            .compare_exchange(handle, closed(index), Ordering::AcqRel, Ordering::Relaxed);
        if won.is_err() {
            return false;
        }
        // Safety: the value is freed only by who takes the slot off the list of retired slots, where it is put below.
        last_words(unsafe { &*slot.value.load(Ordering::Relaxed) });
        self.retired.push(index, slot);
        // A call takes less time than a thread's turn, so a few turns nearly always free the value now. The bound is for
        // threads that were stopped in the middle of one.
        for _ in 0..TURNS {
            if self.sweep::<F>(places) {
                break;
            }
            atomics::yield_now();
        }
        true
    }

    /// Frees what was retired and is no longer in use; false if something was left.
    pub(crate) fn sweep<F: Fences>(&self, places: &[Place]) -> bool {
        if self.retired.is_empty() {
            return true;
        }
        let mut all = Vec::new();
        while let Some(retired) = self.retired.pop(self) {
            all.push(retired);
        }
        let is_sure = F::heavy();
        // For the calls that count themselves in the slot, and where `heavy` is for other threads only.
        fence(Ordering::SeqCst);
        for (index, slot) in all {
            // Relaxed: the slot is this thread's alone since it was popped.
            let handle = slot.last.load(Ordering::Relaxed);
            if !is_sure || Self::is_in_use(slot, places, handle) {
                self.retired.push(index, slot);
                continue;
            }
            let value = slot.value.load(Ordering::Relaxed);
            slot.value.store(ptr::null_mut(), Ordering::Relaxed);
            if handle >> SLOT_BITS < LAST_GENERATION {
                self.free.push(index, slot);
            }
            // Safety: it came from `Box::into_raw` in `open`, the handle is closed, and no call marks it (the argument above).
            drop(unsafe { Box::from_raw(value) });
        }
        self.retired.is_empty()
    }

    /// Step 3 of the closer.
    fn is_in_use(slot: &Slot<T>, places: &[Place], handle: u64) -> bool {
        // Acquire, both: pairs with the Release in `drop` and in `enter`. All uses that are over lie before the freeing.
        slot.shared.load(Ordering::Acquire) != 0
            || places
                .iter()
                .any(|place| place.marked.load(Ordering::Acquire) == handle)
    }

    /// In a forked child: forgets calls of threads that do not exist here.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn forget_shared_calls(&self) {
        // Relaxed: the child has one thread.
        for index in 0..self.used.load(Ordering::Relaxed) {
            if let Some(slot) = self.slot(index) {
                slot.shared.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl Stack {
    const INDEX: u64 = u32::MAX as u64;

    fn is_empty(&self) -> bool {
        // Relaxed: a hint; `pop` looks again.
        self.0.load(Ordering::Relaxed) & Self::INDEX == 0
    }

    fn push<T>(&self, index: u64, slot: &Slot<T>) {
        let mut top = self.0.load(Ordering::Relaxed);
        loop {
            slot.next.store(top & Self::INDEX, Ordering::Relaxed);
            let pushed = ((top >> 32).wrapping_add(1) << 32) | (index + 1);
            // Release: pairs with the Acquire in `pop`, which hands the slot over.
            match self
                .0
                .compare_exchange(top, pushed, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => top = changed,
            }
        }
    }

    fn pop<'a, T>(&self, registry: &'a Registry<T>) -> Option<(u64, &'a Slot<T>)> {
        let mut top = self.0.load(Ordering::Acquire);
        loop {
            let index = (top & Self::INDEX).checked_sub(1)?;
            let slot = registry.slot(index)?;
            // Relaxed: it may be another's by now. Then the slot was pushed again if it is on top, and the count tells.
            let popped = (top & !Self::INDEX) | slot.next.load(Ordering::Relaxed);
            // Acquire: pairs with the Release in `push`.
            match self
                .0
                .compare_exchange(top, popped, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some((index, slot)),
                Err(changed) => top = changed,
            }
        }
    }
}

// Safety: values are handed to other threads, by reference and to be dropped there; all else is atomics.
unsafe impl<T: Send + Sync> Send for Registry<T> {}
// Safety: as above.
unsafe impl<T: Send + Sync> Sync for Registry<T> {}

impl<T> Drop for Registry<T> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            let chunk = chunk.load(Ordering::Relaxed);
            if chunk.is_null() {
                continue;
            }
            // Safety: the chunk came from `Box::into_raw`, and nobody else has the registry any more.
            let chunk = unsafe { Box::from_raw(chunk) };
            for slot in chunk.iter() {
                let value = slot.value.load(Ordering::Relaxed);
                if !value.is_null() {
                    // Safety: a value in a slot came from `Box::into_raw` and was not freed, since that takes it out.
                    drop(unsafe { Box::from_raw(value) });
                }
            }
        }
    }
}
