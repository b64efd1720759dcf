//! The table: its parts, and how it is made.

use ratelimit_model::Limit;

use super::asked::{Events, Overflow};
use super::geometry::Geometry;
use super::header::{DETOUR_CLUSTER, DETOUR_LIMITS, Header};
use super::line::CELLS;
use super::lives::Lives;
use super::memory::Memory;
use crate::hash::Fingerprint;
use crate::sync::Ordering;

/// Cells, limits and overrides in one piece of memory.
pub(crate) struct Table {
    pub(super) memory: Memory,
    pub(super) cells: Geometry,
    pub(super) records: Geometry,
    /// Cells of a line that are in use: all of them, but for models.
    #[cfg(ratelimit_loom)]
    pub(super) cells_per_line: usize,
    pub(super) overflow: Overflow,
    /// Keys say in their low bits which limit they are under.
    pub(super) several: bool,
    /// Whose claims these are, and who else lives.
    pub(super) lives: Lives,
    pub(crate) events: Events,
}

impl Table {
    /// A table of this process alone. The limits make sense.
    pub(crate) fn new(cells: Geometry, limits: &[Limit], overflow: Overflow) -> std::io::Result<Self> {
        let records = Geometry::records();
        let memory = Memory::new(&cells, &records, cells.presized)?;
        #[cfg(not(ratelimit_loom))]
        let lives = Lives::Private;
        #[cfg(ratelimit_loom)]
        let lives = Lives::Modelled(false.into());
        let table = Table::over(memory, cells, records, overflow, lives, limits.len() > 1);
        table.open(limits);
        Ok(table)
    }

    /// A table that lies in this memory.
    pub(crate) fn over(
        memory: Memory,
        cells: Geometry,
        records: Geometry,
        overflow: Overflow,
        lives: Lives,
        several: bool,
    ) -> Self {
        Table {
            memory,
            cells,
            records,
            #[cfg(ratelimit_loom)]
            cells_per_line: CELLS,
            overflow,
            several,
            lives,
            events: Events::default(),
        }
    }

    /// Nobody else sees the table yet.
    pub(crate) fn open(&self, limits: &[Limit]) {
        let header = self.header();
        header.hot.top.store(self.top_word(1, false), Ordering::Relaxed);
        let detours = if limits.len() > 1 { DETOUR_LIMITS } else { 0 };
        let cluster = if self.cells.clustered { DETOUR_CLUSTER } else { 0 };
        header.hot.detours.store(detours | cluster, Ordering::Relaxed);
        header.hot.records_top.store(1, Ordering::Relaxed);
        self.first_limits(limits);
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        self.memory.header()
    }

    #[inline(always)]
    pub(super) fn cells_per_line(&self) -> usize {
        #[cfg(ratelimit_loom)]
        return self.cells_per_line;
        #[cfg(not(ratelimit_loom))]
        CELLS
    }

    /// The key of a client's cell under a limit. With one limit it is the whole fingerprint.
    #[inline(always)]
    pub(crate) fn key(&self, client: Fingerprint, limit: usize) -> u64 {
        if self.several {
            client.among_limits(limit)
        } else {
            client.bits()
        }
    }

    /// Makes the memory read-only.
    #[cfg(all(unix, not(ratelimit_loom)))]
    pub(crate) fn write_protect(&self) -> std::io::Result<()> {
        self.memory.write_protect()
    }
}
