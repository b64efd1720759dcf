//! Handles of the C interface: a value is not freed while a call uses it, and a call on a closed handle uses nothing.
//!
//! The registry is included here, since the crate that it belongs to is a library for C.

#[allow(dead_code)]
#[path = "../../ffi/src/registry.rs"]
mod registry;

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use self::registry::{Fences, Place, Registry};
use crate::harness::{holds, models};

/// As where the system cannot make other threads execute a fence: both fence for themselves. loom knows no other way; that the
/// asymmetric pair does the same is the promise of the system call.
struct Both;

impl Fences for Both {
    fn light() {
        fence(Ordering::SeqCst);
    }

    fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

/// What a handle leads to. Says when it is freed, and fails a user that comes after.
struct Value {
    number: usize,
    is_freed: Arc<AtomicBool>,
    /// Written without order by who uses it: loom fails if the freeing is not ordered after.
    used: loom::cell::UnsafeCell<usize>,
}

// Safety: `used` is written by the one thread of a model that enters, and read when the value is freed.
unsafe impl Sync for Value {}

impl Value {
    fn new(number: usize) -> (Self, Arc<AtomicBool>) {
        let is_freed = Arc::new(AtomicBool::new(false));
        let value = Value {
            number,
            is_freed: Arc::clone(&is_freed),
            used: loom::cell::UnsafeCell::new(0),
        };
        (value, is_freed)
    }

    fn use_it(&self, number: usize) {
        holds!(!self.is_freed.load(Ordering::Relaxed), "used after it was freed");
        holds!(self.number == number, "{} in place of {number}", self.number);
        // Safety: loom checks that no other access is at the same time.
        self.used.with_mut(|used| unsafe { *used += 1 });
        holds!(!self.is_freed.load(Ordering::Relaxed), "freed while it was used");
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // Safety: loom checks that no other access is at the same time.
        self.used.with(|used| unsafe { *used });
        let freed_before = self.is_freed.swap(true, Ordering::Relaxed);
        holds!(!freed_before, "freed twice");
    }
}

/// A registry and the places of two threads.
struct World {
    registry: Registry<Value>,
    places: [Place; 2],
    uses: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            registry: Registry::new(),
            places: [Place::new(), Place::new()],
            uses: AtomicUsize::new(0),
        })
    }

    fn open(&self, number: usize) -> (u64, Arc<AtomicBool>) {
        let (value, is_freed) = Value::new(number);
        (self.registry.open(value).expect("a slot"), is_freed)
    }

    fn call(&self, place: Option<usize>, handle: u64, number: usize) -> bool {
        let place = place.map(|place| &self.places[place]);
        let Some(entered) = self.registry.enter::<Both>(place, handle) else {
            return false;
        };
        entered.use_it(number);
        self.uses.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn close(&self, handle: u64) -> bool {
        self.registry.close::<Both>(&self.places, handle, |_| {})
    }
}

fn spawn<R: 'static>(world: &Arc<World>, body: impl FnOnce(&World) -> R + 'static) -> loom::thread::JoinHandle<R> {
    let world = Arc::clone(world);
    loom::thread::spawn(move || body(&world))
}

fn join<R>(thread: loom::thread::JoinHandle<R>) -> R {
    thread.join().expect("a thread of a model")
}

models! {
    /// A call by a thread with a place, while another closes: it sees a whole value, or that the handle is closed.
    call_against_close: quick(all, 100), full(all, 2_000) => {
        let world = World::new();
        let (handle, is_freed) = world.open(1);
        let caller = spawn(&world, move |world| {
            world.call(Some(0), handle, 1);
            world.call(Some(0), handle, 1)
        });
        holds!(world.close(handle), "not closed");
        join(caller);
        holds!(!world.call(Some(1), handle, 1), "a closed handle was entered");
        world.registry.sweep::<Both>(&world.places);
        holds!(is_freed.load(Ordering::Relaxed), "nobody uses it, and it is still there");
    }

    /// The same by a thread without a place.
    shared_call_against_close: quick(all, 100), full(all, 2_000) => {
        let world = World::new();
        let (handle, is_freed) = world.open(1);
        let caller = spawn(&world, move |world| world.call(None, handle, 1));
        holds!(world.close(handle), "not closed");
        join(caller);
        world.registry.sweep::<Both>(&world.places);
        holds!(is_freed.load(Ordering::Relaxed), "nobody uses it, and it is still there");
    }

    /// A call by an old handle while its slot gets another value: it never sees that one.
    call_against_reuse: quick(2, 100), full(3, 2_000) => {
        let world = World::new();
        let (old, _) = world.open(1);
        let caller = spawn(&world, move |world| world.call(Some(0), old, 1));
        holds!(world.close(old), "not closed");
        let (new, is_freed) = world.open(2);
        holds!(new != old, "the same number again");
        holds!(world.call(Some(1), new, 2), "the new handle is not open");
        join(caller);
        holds!(!is_freed.load(Ordering::Relaxed), "the new value went with the old handle");
        holds!(world.close(new), "not closed");
    }

    /// Of two that close, one does, and the value is freed once.
    close_against_close: quick(all, 100), full(all, 2_000) => {
        let world = World::new();
        let (handle, is_freed) = world.open(1);
        let other = spawn(&world, move |world| world.close(handle));
        let here = world.close(handle);
        let there = join(other);
        holds!(here != there, "closed by both or by none: {here}, {there}");
        world.registry.sweep::<Both>(&world.places);
        holds!(is_freed.load(Ordering::Relaxed), "still there");
    }

    /// Two open while a slot is free and one is new: each has its own.
    open_against_open: quick(2, 100), full(3, 2_000) => {
        let world = World::new();
        let (first, _) = world.open(1);
        holds!(world.close(first), "not closed");
        let other = spawn(&world, |world| {
            let (handle, _) = world.open(2);
            holds!(world.call(Some(0), handle, 2), "not open");
            handle
        });
        let (handle, _) = world.open(3);
        holds!(world.call(Some(1), handle, 3), "not open");
        let others = join(other);
        holds!(others != handle, "one handle for two");
        holds!(world.call(Some(1), others, 2), "not open to others");
    }

    /// A slot goes to the free ones and back while another takes it off: nobody gets it twice.
    open_against_close: quick(2, 100), full(3, 2_000) => {
        let world = World::new();
        let (first, _) = world.open(1);
        let other = spawn(&world, move |world| {
            holds!(world.close(first), "not closed");
            let (handle, _) = world.open(2);
            holds!(world.call(Some(0), handle, 2), "not open");
            handle
        });
        let (handle, _) = world.open(3);
        holds!(world.call(Some(1), handle, 3), "not open");
        holds!(join(other) != handle, "one handle for two");
        holds!(world.call(Some(1), handle, 3), "not open any more");
    }

    /// A thread marks one handle after another: who closes the first and sees the mark of the second has seen the end of the
    /// first use.
    mark_over_mark: quick(3, 100), full(all, 2_000) => {
        let world = World::new();
        let (first, _) = world.open(1);
        let (second, _) = world.open(2);
        let caller = spawn(&world, move |world| {
            world.call(Some(0), first, 1);
            holds!(world.call(Some(0), second, 2), "the second handle is not open");
        });
        holds!(world.close(first), "not closed");
        join(caller);
    }

    /// A handle that was guessed, or came from another thread without order: whoever enters it sees a whole value.
    call_against_open: quick(all, 100), full(all, 2_000) => {
        let world = World::new();
        let first = 1 << 20;
        let caller = spawn(&world, move |world| world.call(Some(0), first, 1));
        let (handle, _) = world.open(1);
        holds!(handle == first, "the first handle is another: {handle}");
        join(caller);
    }

    /// A slot leaves the free ones and comes back while another thread is about to take it: the list stays whole.
    slot_there_and_back: quick(2, 200), full(3, 2_000) => {
        let world = World::new();
        let ((one, _), (two, _)) = (world.open(1), world.open(1));
        holds!(world.close(one) && world.close(two), "not closed");
        let other = spawn(&world, |world| {
            let ((one, _), (two, _)) = (world.open(2), world.open(3));
            holds!(world.close(one), "not closed");
            two
        });
        let (here, _) = world.open(4);
        let there = join(other);
        let (last, _) = world.open(5);
        for (handle, number) in [(there, 3), (here, 4), (last, 5)] {
            holds!(world.call(Some(0), handle, number), "{handle:x} is not open any more");
        }
    }
}
