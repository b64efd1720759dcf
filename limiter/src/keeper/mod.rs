//! Keeps the snapshot: a thread that writes it now and then, and everything that is said about it.
//!
//! The thread starts with the first decision and not when the limiter is made, so that a server that forks its workers first
//! has no thread to lose. What belongs to one process, its thread and the lock on the file, is its [`seat`].
//!
//! A private table is its process's: a forked child never writes, for the lock, the file and the thread are its parent's. A
//! shared table is everybody's: each process that decides has a thread, one of them is elected, and only that one takes the lock
//! and writes. When it is gone another is.

mod seat;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ratelimit_core::snapshot::{Disk, Moment, Restore, Restored, SnapshotStats};
use ratelimit_core::{Engine, HashKey, process};

use crate::Error;
use crate::events::tell;
use seat::Seat;

/// The shortest period: less only keeps the disk busy.
const SHORTEST: Duration = Duration::from_millis(1);

/// Where and how often.
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

    /// Restores the snapshot into an engine that nobody decides with yet.
    pub(crate) fn restore(&self, disk: &mut Disk, engine: &mut Engine, policy: Restore) -> Result<Restored, Error> {
        engine
            .restore(disk, policy, Moment::now())
            .map_err(|refused| Error::RestoreRequired(format!("{}: {refused}", self.path.display())))
    }

    /// Goes on to keep the snapshot of an engine. Without a `disk` its table is shared, and who takes the place is elected;
    /// `own_key` says that the secret lies beside the snapshot and not with the caller.
    pub(crate) fn keep(
        self,
        engine: Engine,
        disk: Option<Disk>,
        restored: Restored,
        own_key: bool,
    ) -> (Arc<Engine>, Keeper) {
        tell_restored(&self.path, &restored);
        let engine = Arc::new(engine);
        let plan = Arc::new(Plan {
            elected: disk.is_none(),
            first: Seat::first(disk, restored.generation, engine.changes()),
            persist: self,
            own_key,
            restored,
            engine: engine.clone(),
        });
        let waiting: Weak<Plan> = Arc::downgrade(&plan);
        engine.at_first_use(move || {
            if let Some(plan) = waiting.upgrade() {
                plan.start();
            }
        });
        (engine, Keeper { plan })
    }
}

/// Of one limiter and all its clones. Dropped with the last of them, it writes a last snapshot.
pub(crate) struct Keeper {
    plan: Arc<Plan>,
}

/// What all processes know that have this limiter, because they made it or inherited it.
struct Plan {
    engine: Arc<Engine>,
    persist: Persist,
    elected: bool,
    own_key: bool,
    restored: Restored,
    first: Seat,
}

impl Keeper {
    /// Writes a snapshot now and returns when it is durable.
    pub(crate) fn write(&self) -> Result<(), Error> {
        self.plan.write(true)
    }

    /// Stops the thread, writes what is not yet written and gives the place up. A second time it does nothing.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.plan.close()
    }

    pub(crate) fn stats(&self) -> SnapshotStats {
        match self.plan.seat() {
            Some(seat) => seat.stats(self.plan.restored, true),
            None => self.plan.first.stats(self.plan.restored, false),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // An error is told as an event; nobody is left to return it to.
        let _ = self.close();
        if !self.plan.first.is_here() {
            // Nothing of the parent's may be joined, detached or unlocked here: it is left as it is until the process ends.
            std::mem::forget(self.plan.clone());
        }
    }
}

impl Plan {
    /// What is this process's own. `None` in a forked child, if the table is its parent's.
    fn seat(&self) -> Option<&Seat> {
        self.first.of_process(process::generation(), self.elected)
    }

    /// Called at the first decision of this process.
    fn start(self: &Arc<Self>) {
        // A child must not hold the place after its parent.
        self.first.let_go_of_inherited();
        if let Some(seat) = self.seat() {
            let plan = self.clone();
            seat.start(move || plan.run());
        }
    }

    fn run(&self) {
        if let Some(seat) = self.seat() {
            // What goes wrong is told by `write`.
            seat.run(self.persist.every, || drop(self.write(false)));
        }
    }

    /// Writes, if this process is the one that should. `asked`: the caller waits for it.
    fn write(&self, asked: bool) -> Result<(), Error> {
        let seat = self.seat().ok_or_else(|| {
            Error::ForkedChild(
                "this is a forked child, and snapshots are written by the process that made the limiter: make a limiter here, \
                 with its own path"
                    .to_owned(),
            )
        })?;
        seat.write(self, asked)
    }

    fn close(&self) -> Result<(), Error> {
        let Some(seat) = self.seat() else {
            self.first.let_go_of_inherited();
            return Ok(());
        };
        seat.stop();
        // Of a shared table whoever leads or can lead writes; if another one does there is nothing to do.
        let last = match self.write(false) {
            Err(Error::Closed) => Ok(()),
            written => written,
        };
        seat.close();
        if self.elected {
            self.engine.resign();
        }
        last
    }
}

fn tell_restored(path: &Path, restored: &Restored) {
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
        Outcome::Exact | Outcome::ColdNone | Outcome::Attached => {
            tell!(RESTORED, %path, outcome = outcome.name(), result = %outcome, generation, cells, expired, unmapped, no_room, ?age);
        }
        _ => {
            let damage = restored.damage.map(|damage| damage.to_string());
            let damaged_chunks = restored.damaged_chunks;
            tell!(
                RESTORED_PARTLY, %path, outcome = outcome.name(), result = %outcome, generation, cells, expired, unmapped, no_room, ?age, damage, damaged_chunks
            );
        }
    }
}
