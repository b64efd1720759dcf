//! Keeps the snapshot: a thread that writes it now and then, and everything that is said about it.
//!
//! The thread starts with the first decision and not when the limiter is made, so that a server that forks its workers first
//! has no thread to lose. A forked child never writes: the lock, the file and the thread are its parent's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratelimit_core::snapshot::{Disk, Moment, Restore, Restored, SnapshotStats, StorageError, Written};
use ratelimit_core::{Engine, HashKey, process};

use crate::Error;

/// The shortest period: less only keeps the disk busy.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where and how often, before the limiter is made.
#[derive(Clone, Debug)]
pub(crate) struct Persist {
    pub(crate) path: PathBuf,
    pub(crate) every: Duration,
}

impl Persist {
    /// Takes the place for this process.
    pub(crate) fn open(&self) -> Result<Disk, Error> {
        if self.every < SHORTEST {
            return Err(Error::Persist(format!(
                "a snapshot every {:?} is too often: use at least {SHORTEST:?}, like 1 s",
                self.every
            )));
        }
        Ok(Disk::open(&self.path)?)
    }

    /// The secret beside the snapshot.
    pub(crate) fn hash_key(&self) -> Result<HashKey, Error> {
        ratelimit_core::snapshot::hash_key_of(&self.path).map_err(|error| Error::Persist(error.to_string()))
    }

    /// Restores the snapshot into an engine that nobody decides with yet, and goes on to keep it.
    pub(crate) fn begin(
        &self,
        mut disk: Disk,
        mut engine: Engine,
        policy: Restore,
    ) -> Result<(Arc<Engine>, Keeper), Error> {
        let restored = engine
            .restore(&mut disk, policy, Moment::now())
            .map_err(|refused| Error::RestoreRequired(format!("{}: {refused}", self.path.display())))?;
        tell_restored(&self.path, &restored);
        let engine = Arc::new(engine);
        let shared = Arc::new(Shared {
            every: self.every,
            home: process::generation(),
            writer: Mutex::new(Writer {
                saved: engine.changes(),
                disk: Some(disk),
                generation: restored.generation,
                failures: 0,
            }),
            control: Mutex::default(),
            wake: Condvar::new(),
            figures: Figures::default(),
            restored,
            engine: engine.clone(),
        });
        let waiting: Weak<Shared> = Arc::downgrade(&shared);
        engine.at_first_use(move || {
            if let Some(shared) = waiting.upgrade() {
                shared.start();
            }
        });
        Ok((engine, Keeper { shared }))
    }
}

/// Of one limiter and all its clones. Dropped with the last of them, it writes a last snapshot.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    every: Duration,
    /// The process that writes.
    home: u64,
    /// Held while a snapshot is written, so that two never overlap.
    writer: Mutex<Writer>,
    control: Mutex<Control>,
    wake: Condvar,
    figures: Figures,
    restored: Restored,
}

struct Writer {
    /// `None` once closed.
    disk: Option<Disk>,
    generation: u64,
    /// The engine's changes that are in the file.
    saved: u64,
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

impl Keeper {
    /// Writes a snapshot now and returns when it is durable.
    pub(crate) fn write(&self) -> Result<(), Error> {
        self.shared.write(true)
    }

    /// Stops the thread, writes what is not yet written and gives the place up. A second time it does nothing.
    pub(crate) fn close(&self) -> Result<(), Error> {
        let shared = &self.shared;
        if !shared.is_home() {
            shared.let_go();
            return Ok(());
        }
        let thread = {
            let mut control = lock(&shared.control);
            control.stop = true;
            control.thread.take()
        };
        shared.wake.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // It catches its own panics.
            let _ = thread.join();
        }
        let written = match shared.write(false) {
            Err(Error::Closed) => Ok(()),
            written => written,
        };
        lock(&shared.writer).disk = None;
        written
    }

    pub(crate) fn stats(&self) -> SnapshotStats {
        let Shared { figures, restored, .. } = &*self.shared;
        let load = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let current = if self.shared.is_home() {
            *lock(&figures.current)
        } else {
            None
        };
        let mut stats = SnapshotStats::new(*restored);
        stats.written = load(&figures.written);
        stats.errors = load(&figures.errors);
        stats.generation = load(&figures.generation);
        stats.last_bytes = load(&figures.bytes);
        stats.last_cells = load(&figures.cells);
        stats.last_duration = Duration::from_nanos(load(&figures.duration_ns));
        stats.age = current.map(|current| current.elapsed());
        stats
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // An error is told as an event; nobody is left to return it to.
        let _ = self.close();
        if !self.shared.is_home() {
            // Nothing of the parent's may be joined, detached or unlocked here: it is left as it is until the process ends.
            std::mem::forget(self.shared.clone());
        }
    }
}

impl Shared {
    fn is_home(&self) -> bool {
        self.home == process::generation()
    }

    /// In a forked child: closes the inherited file of the lock, so that the child does not hold the place after its parent.
    fn let_go(&self) {
        // The parent may have forked while it wrote. Then its mutex is locked here for ever, and the file stays open.
        if let Ok(mut writer) = self.writer.try_lock() {
            writer.disk = None;
        }
    }

    /// Called at the first decision.
    fn start(self: &Arc<Self>) {
        if !self.is_home() {
            self.let_go();
            return;
        }
        let mut control = lock(&self.control);
        if control.stop || control.thread.is_some() {
            return;
        }
        let shared = self.clone();
        let builder = std::thread::Builder::new().name("ratelimit-keeper".to_owned());
        // Signals are for the threads of the host.
        match process::without_signals(|| builder.spawn(move || shared.run())) {
            Ok(thread) => control.thread = Some(thread),
            Err(error) => {
                self.figures.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %error,
                    "no thread could be started: snapshots are written only by snapshot() and close()"
                );
            }
        }
    }

    fn run(&self) {
        let mut due = Instant::now().checked_add(self.every);
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
            // Told by `write` already.
            let _ = catch_unwind(AssertUnwindSafe(|| self.write(false)));
            due = due.and_then(|due| next_due(due, self.every, Instant::now()));
        }
    }

    fn write(&self, even_unchanged: bool) -> Result<(), Error> {
        if !self.is_home() {
            return Err(Error::ForkedChild(
                "this is a forked child, and snapshots are written by the process that made the limiter: make a limiter here, \
                 with its own path"
                    .to_owned(),
            ));
        }
        let mut writer = lock(&self.writer);
        let Writer {
            disk: Some(disk),
            generation,
            saved,
            failures,
        } = &mut *writer
        else {
            return Err(Error::Closed);
        };
        // Before the table is read: a decision that comes meanwhile is written again, and never taken for written.
        let changes = self.engine.changes();
        let begun = Instant::now();
        if changes == *saved && !even_unchanged {
            *lock(&self.figures.current) = Some(begun);
            return Ok(());
        }
        // Also after a failure, which may have come behind the rename.
        *generation += 1;
        match self.engine.write_snapshot(disk, *generation, Moment::now) {
            Ok(written) => {
                *saved = changes;
                *failures = 0;
                self.count(&written, begun);
                tracing::debug!(
                    generation = written.generation,
                    bytes = written.bytes,
                    duration = ?written.duration,
                    "snapshot written"
                );
                Ok(())
            }
            Err(error) => {
                *failures += 1;
                self.tell_failure(&error, *failures);
                Err(Error::SnapshotWrite(error.to_string()))
            }
        }
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
    fn tell_failure(&self, error: &StorageError, failures: u64) {
        self.figures.errors.fetch_add(1, Ordering::Relaxed);
        if failures.is_power_of_two() {
            tracing::error!(%error, failures_in_a_row = failures, "snapshot not written");
        }
    }
}

/// The next multiple of the period: a snapshot that takes longer leaves out what it has missed.
fn next_due(due: Instant, every: Duration, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(due).as_nanos() / every.as_nanos();
    let steps = u32::try_from(late).unwrap_or(u32::MAX - 1) + 1;
    due.checked_add(every.checked_mul(steps)?)
}

fn tell_restored(path: &std::path::Path, restored: &Restored) {
    use ratelimit_core::snapshot::Outcome;
    let Restored {
        outcome,
        generation,
        cells,
        expired,
        unmapped,
        no_room,
        age,
        ..
    } = *restored;
    let path = path.display();
    match outcome {
        Outcome::Exact | Outcome::ColdNone => {
            tracing::info!(%path, outcome = outcome.name(), generation, cells, expired, unmapped, no_room, ?age, "{outcome}");
        }
        _ => {
            let damage = restored.damage.map(|damage| damage.to_string());
            let damaged_chunks = restored.damaged_chunks;
            tracing::warn!(
                %path, outcome = outcome.name(), generation, cells, expired, unmapped, no_room, ?age, damage, damaged_chunks,
                "{outcome}"
            );
        }
    }
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
