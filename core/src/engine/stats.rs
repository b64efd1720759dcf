//! What an engine has done, and how full its table is.

use super::Engine;
use crate::clustered::Vain;
use crate::raw::{Events, Survey};
use crate::sampled::Latency;
use crate::snapshot::SnapshotStats;

/// What a limiter has done and how full it is. Counts are of this process, since the limiter was made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests allowed.
    pub allowed: u64,
    /// Requests denied.
    pub denied: u64,
    /// Decisions on clients that found no cell (see [`Overflow`](crate::Overflow)); they are counted above as well.
    pub overflowed: u64,
    /// Clients that got a cell.
    pub inserted: u64,
    /// Of those, how many took over the expired cell of another.
    pub recycled: u64,
    /// Cells brought along after a change of limit, of override or of the kind of time.
    pub translated: u64,
    /// Clients brought back because a clock was set back by more than their window.
    pub stepped: u64,
    /// How full the table is, from a sample.
    pub table: Survey,
    /// What the clock reads: `tsc`, `os`, `coarse` or `manual`.
    pub clock: &'static str,
    /// Whether the processor's counter was found wrong and the operating system's clock is used since.
    pub clock_fell_back: bool,
    /// How the keeping of snapshots goes, if any are kept.
    pub snapshot: Option<SnapshotStats>,
    /// How long sampled decisions took.
    pub latency: Latency,
    /// What was counted for the cluster in vain, on a node of one.
    pub counted_in_vain: Option<Vain>,
    /// With whom the table is shared: `no`, `children` or `name`.
    pub shared_with: &'static str,
    /// How many limiters are attached to the table, this one among them; 1 if it is not shared.
    pub attached: usize,
}

impl Engine {
    /// What was done and how full the table is. Cost: bounded, whatever the table's size.
    #[must_use]
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::Ordering::Relaxed;
        let (allowed, denied) = self.counters.sum();
        let Events {
            overflowed,
            stepped,
            inserted,
            recycled,
            translated,
            voided,
            undo_failed,
            refunded,
        } = &self.table.events;
        let vain = || Vain {
            voided: voided.load(Relaxed),
            undo_failed: undo_failed.load(Relaxed),
            refunded: refunded.load(Relaxed),
        };
        Stats {
            allowed,
            denied,
            overflowed: overflowed.load(Relaxed),
            inserted: inserted.load(Relaxed),
            recycled: recycled.load(Relaxed),
            translated: translated.load(Relaxed),
            stepped: stepped.load(Relaxed),
            table: self.table.survey(&self.asked(0, None)),
            clock: self.clock.source(),
            clock_fell_back: self.clock.fell_back(),
            snapshot: None,
            latency: self.sampled.latency(),
            counted_in_vain: self.is_clustered().then(vain),
            shared_with: self.shared_with(),
            attached: self.table.attached(),
        }
    }
}
