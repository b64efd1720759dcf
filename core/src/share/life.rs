//! Process slots: how the processes on a table prove that they live.
//!
//! A process has the lock on the byte of its slot, on an open file description of its own. The kernel gives it back when the
//! process is gone, whatever ended it, and not before its last instruction. Whoever takes a slot raises its incarnation, so
//! that the new holder never passes for the old one.
//!
//! A forked child shares its parent's descriptions, and with them the proof of its parent's life. So the child's copy is
//! closed in the child (`process::Owned`), which takes a slot of its own when it first needs one.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use super::lock::{first_locked, try_lock};
use crate::process::{self, Owned};
use crate::raw::{Held, SLOTS, Slot};

/// The byte that is locked while a process attaches, or replaces the file. Beyond all slots.
const GATE: usize = 1 << 20;

const SLOT_BITS: u32 = 16;
/// The mark of a process that could not take a slot: nobody can prove its death, so what it leaves half done stays.
const NOBODY: u64 = (1 << SLOT_BITS) - 1;
/// Incarnations that fit in a mark.
const INCARNATION_MASK: u64 = (1 << 40) - 1;

/// What makes two descriptors the same file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let data = file.metadata()?;
    Ok((data.dev(), data.ino()))
}

/// Opens the file again, as a description of its own that no child keeps.
pub(super) fn open_again(file: &File, expected: (u64, u64)) -> io::Result<Owned> {
    Owned::open(|| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = File::options().read(true).write(true).open(path)?;
        // Some daemons close all descriptors after a fork: the number may be another file's by now.
        if identity(&again)? != expected {
            return Err(io::Error::other(
                "the descriptor of the shared table was closed by someone else",
            ));
        }
        Ok(again)
    })
}

/// The right to attach to a file or to replace it. Given back when dropped, or with the process.
pub(super) struct Gate {
    owned: Owned,
}

impl Gate {
    /// `None` if another process has had it for ten seconds.
    pub(super) fn enter(file: &File) -> io::Result<Option<Self>> {
        let owned = open_again(file, identity(file)?)?;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut turns = 100;
        while !try_lock(owned.as_raw_fd(), GATE)? {
            if std::time::Instant::now() > deadline {
                return Ok(None);
            }
            crate::sync::pause(turns);
            turns += 1;
        }
        Ok(Some(Gate { owned }))
    }

    /// How many processes have a slot.
    pub(super) fn attached(&self) -> io::Result<usize> {
        count_locked(self.owned.as_raw_fd())
    }
}

fn count_locked(fd: RawFd) -> io::Result<usize> {
    let (mut count, mut from) = (0, 0);
    while from < SLOTS
        && let Some(slot) = first_locked(fd, from, SLOTS - from)?
    {
        count += 1;
        from = slot + 1;
    }
    Ok(count)
}

/// This process, on one table.
pub(crate) struct Life {
    /// To open the file again; no lock is ever taken through it, so a child may keep it.
    file: File,
    identity: (u64, u64),
    slots: Held<[Slot; SLOTS]>,
    /// The generation of the process that the fields below belong to.
    settled: AtomicU64,
    /// The generation of the process in which a thread is about to take a slot.
    taking: AtomicU64,
    mark: AtomicU64,
    /// The parts of an `Owned`, -1 if there is none.
    fd: AtomicI32,
    place: AtomicUsize,
}

impl Life {
    /// Takes a slot. `None` if all are taken.
    pub(super) fn begin(file: File, slots: Held<[Slot; SLOTS]>) -> io::Result<Option<Self>> {
        let life = Life {
            identity: identity(&file)?,
            file,
            slots,
            settled: AtomicU64::new(0),
            taking: AtomicU64::new(0),
            mark: AtomicU64::new(NOBODY),
            fd: AtomicI32::new(-1),
            place: AtomicUsize::new(0),
        };
        let Some((owned, mark)) = life.take_slot()? else {
            return Ok(None);
        };
        let (fd, place) = owned.into_parts();
        life.settle(process::generation(), mark, fd, place);
        Ok(Some(life))
    }

    fn settle(&self, generation: u64, mark: u64, fd: RawFd, place: usize) {
        self.mark.store(mark, Ordering::Relaxed);
        self.fd.store(fd, Ordering::Relaxed);
        self.place.store(place, Ordering::Relaxed);
        // Release: pairs with the Acquire in `settled`. Who sees this generation sees what belongs to it.
        self.settled.store(generation, Ordering::Release);
    }

    fn take_slot(&self) -> io::Result<Option<(Owned, u64)>> {
        let owned = open_again(&self.file, self.identity)?;
        for (index, slot) in self.slots.iter().enumerate() {
            if !try_lock(owned.as_raw_fd(), index)? {
                continue;
            }
            // The lock was free, so the holder before is dead; from here on its marks are told apart from ours.
            // Release: pairs with `is_dead`. Who sees the new incarnation comes after the old one's death.
            let incarnation = (slot.incarnation.load(Ordering::Relaxed) + 1) & INCARNATION_MASK;
            slot.pid.store(u64::from(std::process::id()), Ordering::Relaxed);
            slot.incarnation.store(incarnation, Ordering::Release);
            return Ok(Some((owned, (incarnation << SLOT_BITS) | (index as u64 + 1))));
        }
        Ok(None)
    }

    /// The mark of this process. In a forked child the first call takes a slot for it.
    ///
    /// Cost: two loads, but for that first call.
    #[inline]
    pub(crate) fn mark(&self) -> u64 {
        // Acquire: pairs with `settle`.
        if self.settled.load(Ordering::Acquire) != process::generation() {
            self.settle_in_child();
        }
        self.mark.load(Ordering::Relaxed)
    }

    #[cold]
    fn settle_in_child(&self) {
        let generation = process::generation();
        let before = self.taking.load(Ordering::Relaxed);
        let first = before != generation
            && self
                .taking
                .compare_exchange(before, generation, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if first {
            // A decision has no error to return: without a slot what this process leaves half done stays, which costs a cell.
            match self.take_slot() {
                Ok(Some((owned, mark))) => {
                    let (fd, place) = owned.into_parts();
                    self.settle(generation, mark, fd, place);
                }
                Ok(None) | Err(_) => self.settle(generation, NOBODY, -1, 0),
            }
            return;
        }
        // Another thread of this process is at it, and is done in microseconds.
        let mut turns = 0;
        while self.settled.load(Ordering::Acquire) != generation {
            crate::sync::pause(turns);
            turns += 1;
        }
    }

    /// Whether the process behind a mark is proven to be gone.
    pub(crate) fn is_dead(&self, mark: u64) -> bool {
        let own = self.mark();
        let slot = (mark & NOBODY) as usize;
        if mark == own || slot == 0 || slot > SLOTS {
            return false;
        }
        // Acquire: pairs with `take_slot`. Another incarnation took the lock of the one behind the mark, so that one was dead.
        if self.slots[slot - 1].incarnation.load(Ordering::Acquire) != mark >> SLOT_BITS {
            return true;
        }
        let fd = self.fd.load(Ordering::Relaxed);
        fd >= 0 && matches!(first_locked(fd, slot - 1, 1), Ok(None))
    }

    /// How many processes have the table open, this one among them.
    pub(crate) fn attached(&self) -> usize {
        let own = usize::from(self.mark() != NOBODY);
        let fd = self.fd.load(Ordering::Relaxed);
        own + if fd >= 0 { count_locked(fd).unwrap_or(0) } else { 0 }
    }

    /// Whether this process has a slot, so that its death can be proven.
    pub(crate) fn is_provable(&self) -> bool {
        self.mark() != NOBODY
    }

    /// Whether this process is the one that the fields are of: in a child that has not asked yet it is not.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) == process::generation()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let fd = self.fd.load(Ordering::Relaxed);
        if fd >= 0 && self.is_settled() {
            // Safety: the parts come from `into_parts` in this process, as its generation says, and are used here only.
            drop(unsafe { Owned::from_parts(fd, self.place.load(Ordering::Relaxed)) });
        }
    }
}

/// As [`Life::is_dead`], for one who has no slot.
pub(super) fn is_dead_from_outside(mark: u64, slots: &[Slot; SLOTS], is_alive: impl Fn(usize) -> bool) -> bool {
    let slot = (mark & NOBODY) as usize;
    if slot == 0 || slot > SLOTS {
        return false;
    }
    slots[slot - 1].incarnation.load(Ordering::Acquire) != mark >> SLOT_BITS || !is_alive(slot - 1)
}
