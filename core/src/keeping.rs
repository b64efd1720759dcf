//! What an engine does for snapshots: telling its debts, taking them back, and saying when there is something to keep.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratelimit_model::Limit;

use crate::engine::Engine;
use crate::hash::{Fingerprint, LIMIT_MASK};
use crate::process;
use crate::raw::{Asked, Axis, Told};
use crate::snapshot::{
    ChunkHealth, Entry, Found, Header, LimitLine, Moment, Outcome, Restore, RestoreRefused, Restored, Snapshot,
    Storage, StorageError, Written, find, write,
};

/// Debts that are put into the table in one go.
const BATCH: usize = 4_096;

/// One for the keeper of snapshots, one for the node of a cluster.
const WAITERS: usize = 2;

/// What waits for the first decision of a process.
#[derive(Default)]
pub(crate) struct FirstUse {
    /// The process that has called it; 0 if none has.
    seen: AtomicU64,
    calls: [OnceLock<Box<dyn Fn() + Send + Sync>>; WAITERS],
}

impl FirstUse {
    /// Cost: two loads.
    #[inline(always)]
    pub(crate) fn is_due(&self) -> bool {
        // Relaxed: whoever misses the store comes once more, which the swap in `take` catches.
        self.seen.load(Ordering::Relaxed) != process::known_generation()
    }

    /// Calls what waits, once in each process.
    #[cold]
    #[inline(never)]
    pub(crate) fn take(&self) {
        let here = process::generation();
        // Relaxed: only one of several threads gets another value than `here`; nothing else hangs on the order.
        if self.seen.swap(here, Ordering::Relaxed) != here {
            for call in self.calls.iter().filter_map(OnceLock::get) {
                call();
            }
        }
    }
}

impl Engine {
    /// Has `call` called after the first decision of this process, and of every forked child; the first of this process does. It
    /// runs on the deciding thread: it should only start a thread. False if two wait already.
    pub fn at_first_use(&self, call: impl Fn() + Send + Sync + 'static) -> bool {
        let mut call: Box<dyn Fn() + Send + Sync> = Box::new(call);
        let mut set = false;
        for place in &self.first_use.calls {
            match place.set(call) {
                Ok(()) => {
                    set = true;
                    break;
                }
                Err(taken) => call = taken,
            }
        }
        if set {
            self.first_use.seen.store(0, Ordering::Relaxed);
        }
        set
    }

    /// A number that moves whenever there is something new to keep: an admission, a refund, a reset, a block, another limit. Those
    /// of other processes that share the table are not in it.
    #[must_use]
    pub fn changes(&self) -> u64 {
        // Relaxed: a change that is missed now is seen the next time.
        self.counters.sum().0.wrapping_add(self.changes.load(Ordering::Relaxed))
    }

    /// What says whether a snapshot is of this engine's secret.
    #[must_use]
    pub fn key_check(&self) -> u64 {
        self.hash_key.check_value()
    }

    /// Writes every debt over zero as snapshot number `generation`, as of now. Returns when it is durable.
    ///
    /// Decisions go on; nothing here makes one wait. Cost: reads the open tiers once and writes 16 bytes a debt.
    ///
    /// Errors: the storage failed; the snapshots before are as they were.
    pub fn write_snapshot(
        &self,
        storage: &mut dyn Storage,
        generation: u64,
        now: impl Fn() -> Moment,
    ) -> Result<Written, StorageError> {
        let (made, own) = self.one_instant(now);
        let at = self.table.instants(own);
        let (limits, told) = self.limits_as_told();
        let line = |(limit, told): (&Limit, &Told)| LimitLine {
            text: limit.to_string(),
            burst: limit.capacity(),
            tolerance_ns: told.tolerance_ns(),
        };
        let header = Header {
            generation,
            made,
            key_check: self.key_check(),
            limits: limits.iter().zip(&told).map(line).collect(),
            cells_estimate: self.stats().table.live,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        write(storage, &header, |add| {
            self.table
                .export(&told, at, |debt| add(Entry::from(debt)))
                .map_err(|error: io::Error| error)
        })
    }

    /// One instant by both clocks, no more than a tenth of a millisecond apart unless this thread is put to sleep every time.
    fn one_instant(&self, now: impl Fn() -> Moment) -> (Moment, u64) {
        const TRIES: usize = 16;
        const CLOSE_NS: u64 = 100_000;
        let mut before = now();
        for _ in 0..TRIES {
            let own = self.clock.now();
            let after = now();
            if after.since(&before) < CLOSE_NS {
                return (before, own);
            }
            before = after;
        }
        (before, self.clock.now())
    }

    /// The limits and the numbers that debts are told in, of the same moment.
    fn limits_as_told(&self) -> (Vec<Limit>, Vec<Told>) {
        let limits = self.limits();
        let told = self.table.told(limits.len());
        (limits, told)
    }

    /// Puts the debts of the best snapshot into the table, less what has passed until `now`. Only before anyone decides: `&mut`
    /// proves that for this process.
    ///
    /// Debts are held to the limits in force: nobody waits longer than for a full burst. Under another limit than the file's
    /// a client keeps the share of its burst that is spent. Overrides are configuration and are not restored; their clients
    /// keep their share too.
    ///
    /// Errors: no whole snapshot where one is [required](Restore::Required). Nothing else about a file is an error.
    pub fn restore(
        &mut self,
        storage: &mut dyn Storage,
        policy: Restore,
        now: Moment,
    ) -> Result<Restored, RestoreRefused> {
        let (found, generation, damage) = find(storage, policy, self.key_check());
        let (outcome, bytes) = match found {
            Found::File { outcome, bytes } => (outcome, bytes),
            Found::Nothing(outcome) => {
                if policy == Restore::Required && outcome != Outcome::ColdNone {
                    return Err(RestoreRefused { outcome, damage });
                }
                return Ok(Restored::cold(outcome, generation, damage));
            }
        };
        let mut restored = Restored::cold(outcome, generation, damage);
        // Parsed a second time, for a lifetime that ends here.
        if let Ok(snapshot) = Snapshot::parse(&bytes) {
            self.apply(&snapshot, now, &mut restored);
        }
        Ok(restored)
    }

    fn apply(&mut self, snapshot: &Snapshot<'_>, now: Moment, restored: &mut Restored) {
        let header = snapshot.header();
        let elapsed = now.since(&header.made);
        restored.age = Duration::from_nanos(elapsed);
        restored.is_exact_age = now.is_same_boot(&header.made);
        let intact = |health: &&_| !matches!(health, ChunkHealth::Intact { .. });
        restored.damaged_chunks = snapshot.chunks().iter().filter(intact).count() as u64;

        let (_, told) = self.limits_as_told();
        let was_several = header.limits.len() > 1;
        let mut batch: Vec<(u64, u64)> = Vec::with_capacity(BATCH);
        for entry in snapshot.entries() {
            let (key, limit, debt_ns, tolerance_ns) = match entry {
                Entry::Block { key, left_ns } => {
                    self.restore_block(key, left_ns, elapsed, restored);
                    continue;
                }
                Entry::Override {
                    key,
                    debt_ns,
                    tolerance_ns,
                } => (key, 0, debt_ns, tolerance_ns),
                Entry::Cell { key, limit, debt_ns } => {
                    let limit = usize::from(limit);
                    let line = header.limits.get(limit);
                    (key, limit, debt_ns, line.map_or(0, |line| line.tolerance_ns))
                }
            };
            let mapped = self.key_from_snapshot(key, limit, was_several);
            let (Some(key), Some(now_told), true) = (mapped, told.get(limit), tolerance_ns > 0) else {
                restored.unmapped += 1;
                continue;
            };
            // What has passed has passed under the old limit.
            let left = debt_ns.saturating_sub(elapsed);
            if left == 0 {
                restored.expired += 1;
                continue;
            }
            restored.cells += 1;
            batch.push((key, share(left, tolerance_ns, now_told.tolerance_ns())));
            if batch.len() == BATCH {
                self.import(&mut batch, &told, restored);
            }
        }
        self.import(&mut batch, &told, restored);
    }

    fn import(&mut self, batch: &mut Vec<(u64, u64)>, told: &[Told], restored: &mut Restored) {
        let clock = self.clock.clone();
        let asked = Asked {
            now: clock.now(),
            axis: Axis::Own,
            cost: 1,
            clock: &clock,
            under: None,
        };
        let no_room = self.table.import(batch, told, &asked);
        restored.cells -= no_room;
        restored.no_room += no_room;
        batch.clear();
    }

    fn restore_block(&mut self, key: u64, left_ns: u64, elapsed: u64, restored: &mut Restored) {
        let left = left_ns.saturating_sub(elapsed);
        let now = self.clock.now();
        if left == 0 {
            restored.expired += 1;
        } else if self.table.import_block(key, left, now) {
            restored.blocks += 1;
        } else {
            restored.no_room += 1;
        }
    }

    /// The key in this table of a key in a file. Of several limits a key keeps 61 bits of the fingerprint, so the way from one
    /// limit to several is open and the way back is not.
    fn key_from_snapshot(&self, key: u64, limit: usize, was_several: bool) -> Option<u64> {
        match (was_several, self.table.is_several()) {
            _ if key == 0 => None,
            (true, true) => (key & LIMIT_MASK == limit as u64).then_some(key),
            (true, false) => None,
            (false, _) => Some(self.table.key(Fingerprint::new(key), limit)),
        }
    }
}

/// The same share of another burst, rounded up: as `Gcra::convert` does in a running table. A debt of more than its burst, as the
/// table tells it when a clock was set back, becomes more than that one too: `Table::import` holds all of them to it.
fn share(debt_ns: u64, of: u64, to: u64) -> u64 {
    let share = (u128::from(debt_ns) * u128::from(to)).div_ceil(u128::from(of.max(1)));
    u64::try_from(share).unwrap_or(u64::MAX)
}
