//! `ratelimit_statistics`.

use std::ffi::{CStr, c_char};

use ratelimit::Stats;

use crate::boundary::Failure;
use crate::decision::{RATELIMIT_NEVER, nanoseconds};
use crate::result::ratelimit_result::RATELIMIT_ERR_LENGTH;

/// What a limiter has done and how full it is. Counts are of this process, since the limiter was opened.
///
/// Set `struct_size` to `sizeof(ratelimit_statistics)` before the call: later versions add fields at the end and write only
/// what the caller has room for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ratelimit_statistics {
    /// Given by the caller: `sizeof(ratelimit_statistics)`.
    pub struct_size: usize,
    /// Requests allowed.
    pub allowed: u64,
    /// Requests denied.
    pub denied: u64,
    /// Decisions on clients that found the table full; they are counted above as well.
    pub overflowed: u64,
    /// Clients that got a cell.
    pub inserted: u64,
    /// Of those, how many took over the expired cell of another.
    pub recycled: u64,
    /// Cells brought along after a change of limit, of override or of the kind of time.
    pub translated: u64,
    /// Clients brought back because a clock was set back by more than their window.
    pub stepped: u64,
    /// Clients with debt, estimated from a sample.
    pub live_keys: u64,
    /// Cells in open tiers of the table.
    pub cells: u64,
    /// Cells in all tiers, open or not: the bound on the table.
    pub cells_max: u64,
    /// Open tiers.
    pub tiers: u64,
    /// Bytes of the open tiers. Those never touched take no memory.
    pub table_bytes: u64,
    /// What the clock reads: "tsc", "os", "coarse" or "manual". A static text.
    pub clock: *const c_char,
    /// Whether the processor's counter was found wrong and the system's clock is used since.
    pub clock_fell_back: bool,
    /// Snapshots written and durable. This and what follows is 0 if none are kept.
    pub snapshots_written: u64,
    /// Attempts to write one that failed.
    pub snapshot_errors: u64,
    /// The number of the last one written; 0 before the first.
    pub snapshot_generation: u64,
    /// Its bytes.
    pub snapshot_last_bytes: u64,
    /// Its debts and blocks.
    pub snapshot_last_cells: u64,
    /// How long it took.
    pub snapshot_last_duration_ns: u64,
    /// How long ago everything that had been decided was in the file. `RATELIMIT_NEVER` before the first time, or if none are
    /// kept.
    pub snapshot_age_ns: u64,
    /// With whom the table is shared: "no", "children" or "name". A static text.
    pub shared_with: *const c_char,
    /// How many limiters are attached to the table, this one among them; 1 if it is not shared.
    pub attached: u64,
}

impl From<Stats> for ratelimit_statistics {
    fn from(stats: Stats) -> Self {
        let snapshot = stats.snapshot.as_ref();
        ratelimit_statistics {
            struct_size: size_of::<ratelimit_statistics>(),
            allowed: stats.allowed,
            denied: stats.denied,
            overflowed: stats.overflowed,
            inserted: stats.inserted,
            recycled: stats.recycled,
            translated: stats.translated,
            stepped: stats.stepped,
            live_keys: stats.table.live,
            cells: stats.table.cells,
            cells_max: stats.table.cells_at_most,
            tiers: stats.table.tiers as u64,
            table_bytes: stats.table.bytes,
            clock: word(stats.clock).as_ptr(),
            clock_fell_back: stats.clock_fell_back,
            snapshots_written: snapshot.map_or(0, |snapshot| snapshot.written),
            snapshot_errors: snapshot.map_or(0, |snapshot| snapshot.errors),
            snapshot_generation: snapshot.map_or(0, |snapshot| snapshot.generation),
            snapshot_last_bytes: snapshot.map_or(0, |snapshot| snapshot.last_bytes),
            snapshot_last_cells: snapshot.map_or(0, |snapshot| snapshot.last_cells),
            snapshot_last_duration_ns: snapshot.map_or(0, |snapshot| nanoseconds(snapshot.last_duration)),
            snapshot_age_ns: snapshot
                .and_then(|snapshot| snapshot.age)
                .map_or(RATELIMIT_NEVER, nanoseconds),
            shared_with: word(stats.shared_with).as_ptr(),
            attached: stats.attached as u64,
        }
    }
}

/// The same word with a zero byte.
fn word(word: &str) -> &'static CStr {
    [c"tsc", c"os", c"coarse", c"manual", c"no", c"children", c"name"]
        .into_iter()
        .find(|known| known.to_bytes() == word.as_bytes())
        .unwrap_or(c"unknown")
}

/// How many bytes of the struct a caller gets who has room for `struct_size`.
///
/// Errors: fewer than the first version had.
pub(crate) fn bytes_for(struct_size: usize) -> Result<usize, Failure> {
    /// Of version 0.1. Never changes.
    const FIRST: usize = 192;
    const _: () = assert!(size_of::<ratelimit_statistics>() >= FIRST);
    if struct_size < FIRST {
        return Err(Failure::new(
            RATELIMIT_ERR_LENGTH,
            format!("struct_size is {struct_size}: set it to sizeof(ratelimit_statistics)"),
        ));
    }
    Ok(struct_size.min(size_of::<ratelimit_statistics>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_has_its_name() {
        use ratelimit::{Clock, Limiter};
        for made in [Clock::precise(), Clock::os(), Clock::coarse(), Clock::manual().0] {
            let limiter = Limiter::builder()
                .limit("1/s".parse().unwrap())
                .clock(made)
                .build()
                .unwrap();
            let name = limiter.stats().clock;
            assert_eq!(word(name).to_str(), Ok(name));
        }
    }
}
