//! What one process has of a keeper: its thread, the lock on the file, and its figures.
//!
//! After a fork the child has a copy of its parent's seat, with mutexes that may be locked by threads which are not there.
//! It leaves that copy alone and takes a seat of its own, found without a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use once_cell::race::OnceBox;
use ratelimit_core::process;
use ratelimit_core::snapshot::{
    Disk, Moment, Restored, SnapshotStats, StorageError, Written, keep_hash_key, last_generation,
};

use super::Plan;
use crate::Error;
use crate::events::tell;

pub(super) struct Seat {
    /// The generation of the process that it belongs to.
    home: u64,
    /// Held while a snapshot is written, so that two never overlap.
    writer: Mutex<Writer>,
    control: Mutex<Control>,
    wake: Condvar,
    figures: Figures,
    /// That of a child, once it has asked for one.
    next: OnceBox<Seat>,
}

#[derive(Default)]
struct Writer {
    disk: Option<Disk>,
    closed: bool,
    generation: u64,
    /// The engine's changes that are in the file, if it is known.
    saved: Option<u64>,
    /// Entries in the last file.
    entries: u64,
    /// Failures in a row.
    failures: u64,
}

#[derive(Default)]
struct Control {
    stop: bool,
    thread: Option<JoinHandle<()>>,
}

/// What is counted. Relaxed everywhere: figures order nothing.
#[derive(Default)]
struct Figures {
    written: AtomicU64,
    errors: AtomicU64,
    generation: AtomicU64,
    bytes: AtomicU64,
    cells: AtomicU64,
    duration_ns: AtomicU64,
    current: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked leaves is a state between two writes, which is as good as any other.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// That of the process that makes the limiter.
    pub(super) fn first(disk: Option<Disk>, generation: u64, changes: u64) -> Self {
        let writer = Writer {
            // A disk of our own is held since before the table was filled, so all of it is in the file.
            saved: disk.is_some().then_some(changes),
            disk,
            generation,
            ..Writer::default()
        };
        Self::new(process::generation(), writer)
    }

    fn new(home: u64, writer: Writer) -> Self {
        Seat {
            home,
            writer: Mutex::new(writer),
            control: Mutex::default(),
            wake: Condvar::new(),
            figures: Figures::default(),
            next: OnceBox::new(),
        }
    }

    /// Whether this process is the one that it belongs to.
    pub(super) fn is_here(&self) -> bool {
        self.home == process::generation()
    }

    /// The seat of a process that is this one's or a child of it; made if there is none and `make` says so.
    pub(super) fn of_process(&self, generation: u64, make: bool) -> Option<&Seat> {
        let mut seat = self;
        while seat.home != generation {
            seat = match (seat.next.get(), make) {
                (Some(next), _) => next,
                (None, true) => seat
                    .next
                    .get_or_init(|| Box::new(Seat::new(generation, Writer::default()))),
                (None, false) => return None,
            };
        }
        Some(seat)
    }

    /// In a forked child: closes the inherited files of the lock, so that the child does not hold the place after its parent.
    pub(super) fn let_go_of_inherited(&self) {
        let mut seat = Some(self);
        while let Some(inherited) = seat.filter(|seat| !seat.is_here()) {
            // The parent may have forked while it wrote. Then its mutex is locked here for ever, and the file stays open.
            if let Ok(mut writer) = inherited.writer.try_lock() {
                writer.disk = None;
            }
            seat = inherited.next.get();
        }
    }

    /// Starts the thread, unless it runs or was stopped.
    pub(super) fn start(&self, run: impl FnOnce() + Send + 'static) {
        let mut control = lock(&self.control);
        if control.stop || control.thread.is_some() {
            return;
        }
        let builder = std::thread::Builder::new().name("ratelimit-keeper".to_owned());
        // Signals are for the threads of the host.
        match process::without_signals(|| builder.spawn(run)) {
            Ok(thread) => control.thread = Some(thread),
            Err(error) => {
                self.figures.errors.fetch_add(1, Ordering::Relaxed);
                tell!(NO_KEEPER, %error);
            }
        }
    }

    /// What the thread does: `write`, every period, until it is stopped.
    pub(super) fn run(&self, every: Duration, write: impl Fn()) {
        let mut due = Instant::now().checked_add(every);
        loop {
            let mut control = lock(&self.control);
            loop {
                if control.stop {
                    return;
                }
                let left = due.map(|due| due.saturating_duration_since(Instant::now()));
                control = match left {
                    Some(Duration::ZERO) => break,
                    Some(left) => {
                        let woken = self.wake.wait_timeout(control, left);
                        woken.unwrap_or_else(PoisonError::into_inner).0
                    }
                    // A period beyond what the clock can tell.
                    None => self.wake.wait(control).unwrap_or_else(PoisonError::into_inner),
                };
            }
            drop(control);
            let _ = catch_unwind(AssertUnwindSafe(&write));
            due = due.and_then(|due| next_due(due, every, Instant::now()));
        }
    }

    /// Stops the thread and waits for it.
    pub(super) fn stop(&self) {
        let thread = {
            let mut control = lock(&self.control);
            control.stop = true;
            control.thread.take()
        };
        self.wake.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // It catches its own panics.
            let _ = thread.join();
        }
    }

    /// Gives the place up for good.
    pub(super) fn close(&self) {
        let mut writer = lock(&self.writer);
        writer.disk = None;
        writer.closed = true;
    }

    /// Writes what has changed, if it is this process that writes; if `asked`, also what has not.
    pub(super) fn write(&self, plan: &Plan, asked: bool) -> Result<(), Error> {
        let mut writer = lock(&self.writer);
        if writer.closed {
            return Err(Error::Closed);
        }
        if plan.elected && !plan.engine.try_lead() {
            return if asked {
                Err(Error::SnapshotBusy(format!(
                    "another process on the shared table writes its snapshots, every {:?}: ask there, or wait for the next",
                    plan.persist.every
                )))
            } else {
                Ok(())
            };
        }
        let failures = writer.failures;
        let written = self.lead(&mut writer, plan, asked);
        match &written {
            Ok(()) => writer.failures = 0,
            Err(error) => {
                writer.failures = failures + 1;
                self.tell_failure(error, writer.failures);
                if writer.disk.is_none() {
                    // Perhaps another process may use the place.
                    plan.engine.resign();
                }
            }
        }
        written
    }

    /// As [`write`](Seat::write), for the one process that writes.
    fn lead(&self, writer: &mut Writer, plan: &Plan, asked: bool) -> Result<(), Error> {
        let engine = &plan.engine;
        let disk = match &mut writer.disk {
            Some(disk) => disk,
            none => {
                let mut disk = plan.persist.open()?;
                if plan.own_key {
                    keep_hash_key(&plan.persist.path, engine.hash_key())
                        .map_err(|error| Error::Persist(error.to_string()))?;
                }
                // Goes on where the leader before stopped.
                writer.generation = writer.generation.max(last_generation(&mut disk));
                none.insert(disk)
            }
        };
        // Before the table is read: a decision that comes meanwhile is written again, and never taken for written.
        let changes = engine.changes();
        let begun = Instant::now();
        let unchanged = if plan.elected {
            // What others decide is not counted here; without any debt there is nothing that they could have changed.
            writer.saved.is_some() && writer.entries == 0 && engine.stats().table.live == 0
        } else {
            writer.saved == Some(changes)
        };
        if unchanged && !asked {
            *lock(&self.figures.current) = Some(begun);
            return Ok(());
        }
        // Also after a failure, which may have come behind the rename.
        writer.generation += 1;
        let written = engine
            .write_snapshot(disk, writer.generation, Moment::now)
            .map_err(|error: StorageError| Error::SnapshotWrite(error.to_string()))?;
        writer.saved = Some(changes);
        writer.entries = written.entries.iter().sum();
        self.count(&written, begun);
        tell!(SNAPSHOT_WRITTEN, generation = written.generation, bytes = written.bytes, duration = ?written.duration);
        Ok(())
    }

    fn count(&self, written: &Written, begun: Instant) {
        let Figures {
            generation,
            bytes,
            cells,
            duration_ns,
            ..
        } = &self.figures;
        let ns = u64::try_from(written.duration.as_nanos()).unwrap_or(u64::MAX);
        for (figure, value) in [
            (generation, written.generation),
            (bytes, written.bytes),
            (cells, written.entries.iter().sum()),
            (duration_ns, ns),
        ] {
            figure.store(value, Ordering::Relaxed);
        }
        self.figures.written.fetch_add(1, Ordering::Relaxed);
        *lock(&self.figures.current) = Some(begun);
    }

    /// A full disk fails every period: it is told the first time, the second, the fourth and so on.
    fn tell_failure(&self, error: &Error, failures: u64) {
        self.figures.errors.fetch_add(1, Ordering::Relaxed);
        if failures.is_power_of_two() {
            tell!(SNAPSHOT_FAILED, %error, failures_in_a_row = failures);
        }
    }

    /// The figures of this process. Those that a child has inherited are not `current`.
    pub(super) fn stats(&self, restored: Restored, current: bool) -> SnapshotStats {
        let figures = &self.figures;
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let mut stats = SnapshotStats::new(restored);
        stats.written = load(&figures.written);
        stats.errors = load(&figures.errors);
        stats.generation = load(&figures.generation);
        stats.last_bytes = load(&figures.bytes);
        stats.last_cells = load(&figures.cells);
        stats.last_duration = Duration::from_nanos(load(&figures.duration_ns));
        if current {
            stats.age = lock(&figures.current).map(|current| current.elapsed());
        }
        stats
    }
}

/// The next multiple of the period: a snapshot that takes longer leaves out what it has missed.
fn next_due(due: Instant, every: Duration, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(due).as_nanos() / every.as_nanos();
    let steps = u32::try_from(late).unwrap_or(u32::MAX - 1) + 1;
    due.checked_add(every.checked_mul(steps)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_do_not_drift_and_never_pile_up() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let every = Duration::from_millis(100);
        assert_eq!(next_due(at(100), every, at(103)), Some(at(200)));
        assert_eq!(next_due(at(100), every, at(199)), Some(at(200)));
        assert_eq!(next_due(at(100), every, at(430)), Some(at(500)));
        assert_eq!(
            next_due(at(100), every, at(90)),
            Some(at(200)),
            "a timer that fired early"
        );
        assert_eq!(next_due(at(100), Duration::MAX, at(103)), None);
    }
}
