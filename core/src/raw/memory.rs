//! The memory of a table: one mapping that holds the header, the lines of the overrides and the lines of the cells.
//!
//! The whole range is reserved at the start and costs nothing until it is touched; pages come as zeros, and zeros are a
//! valid empty table. So opening a tier is one store, and no operation does work in proportion to the table.

use super::geometry::Geometry;
use super::header::Header;
use super::line::Line;

#[cfg(not(ratelimit_loom))]
pub(crate) use mapped::Memory;
#[cfg(ratelimit_loom)]
pub(crate) use modelled::Memory;

#[cfg(not(ratelimit_loom))]
mod mapped {
    use super::{Geometry, Header, Line};
    use memmap2::{MmapOptions, MmapRaw};

    const PAGE: u64 = 4_096;

    pub(crate) struct Memory {
        // Invariant: maps at least `size_of::<Header>()` bytes at `header`, `record_lines` lines at `records` and `cell_lines`
        // lines at `cells`. Each begins at a multiple of the page size, so that it is aligned for its type.
        map: MmapRaw,
        header: *const Header,
        records: *const Line,
        record_lines: u64,
        cells: *const Line,
        cell_lines: u64,
    }

    // Safety: the pointers lead into `map`, which lives and moves with them and is itself `Send` and `Sync`; what they point
    // to is atomics only.
    unsafe impl Send for Memory {}
    // Safety: as above.
    unsafe impl Sync for Memory {}

    impl Memory {
        /// Reserves room for a table. With `huge_pages` the cells are asked to lie on large pages: for a table that will be
        /// full soon, since each touch then makes 2 MiB resident.
        pub(crate) fn new(cells: &Geometry, records: &Geometry, huge_pages: bool) -> std::io::Result<Self> {
            let too_large = || std::io::Error::new(std::io::ErrorKind::OutOfMemory, "more than can be addressed");
            let line = size_of::<Line>() as u64;
            let records_at = (size_of::<Header>() as u64).next_multiple_of(PAGE);
            let records_bytes = records.total_lines() * line;
            let cells_at = (records_at + records_bytes).next_multiple_of(PAGE);
            let bytes = cells
                .total_lines()
                .checked_mul(line)
                .and_then(|bytes| bytes.checked_add(cells_at));
            let bytes = bytes
                .and_then(|bytes| isize::try_from(bytes).ok())
                .ok_or_else(too_large)?;
            // No swap is reserved, because most of the range is never touched.
            let map = MmapOptions::new().len(bytes as usize).no_reserve_swap().map_anon()?;
            #[cfg(target_os = "linux")]
            if huge_pages {
                // Refused where the kernel has no large pages: the table works as well without, a little slower.
                let rest = bytes as usize - cells_at as usize;
                let _ = map.advise_range(memmap2::Advice::HugePage, cells_at as usize, rest);
            }
            #[cfg(not(target_os = "linux"))]
            let _ = huge_pages;
            let map = MmapRaw::from(map);
            let start: *const u8 = map.as_ptr();
            // Both offsets lie inside the mapping: they were added up to get its length.
            let (records_start, cells_start) = (
                start.wrapping_add(records_at as usize),
                start.wrapping_add(cells_at as usize),
            );
            Ok(Memory {
                header: start.cast(),
                records: records_start.cast(),
                record_lines: records.total_lines(),
                cells: cells_start.cast(),
                cell_lines: cells.total_lines(),
                map,
            })
        }

        #[inline(always)]
        pub(crate) fn header(&self) -> &Header {
            // Safety: a header is mapped there (Invariant of `map`) as long as `self` lives; it is atomics only, for which
            // zeros are valid and shared writes are sound.
            unsafe { &*self.header }
        }

        /// Line `index` of the cells.
        #[inline(always)]
        pub(crate) fn line(&self, index: u64) -> &Line {
            debug_assert!(index < self.cell_lines);
            // Safety: `Tier::candidates` gives indices below the sum of all lines, and those are mapped there (Invariant of
            // `map`); a line is atomics only.
            unsafe { &*self.cells.add(index as usize) }
        }

        /// Line `index` of the overrides.
        #[inline(always)]
        pub(crate) fn record_line(&self, index: u64) -> &Line {
            debug_assert!(index < self.record_lines);
            // Safety: as in `line`.
            unsafe { &*self.records.add(index as usize) }
        }

        /// Brings a line of the cells near, for a decision soon. A hint: touches nothing.
        #[inline(always)]
        pub(crate) fn prefetch(&self, index: u64) {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                let line: *const Line = self.line(index);
                // Safety: a prefetch of any address is harmless.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = index;
        }

        /// Makes the memory read-only, for the proof that a denial writes nothing.
        #[cfg(unix)]
        pub(crate) fn write_protect(&self) -> std::io::Result<()> {
            use rustix::mm::{MprotectFlags, mprotect};
            // Safety: the range is our own mapping. References into it stay valid for reading, and a write, which would be
            // the bug to be found, stops the process.
            unsafe { mprotect(self.map.as_mut_ptr().cast(), self.map.len(), MprotectFlags::READ) }?;
            Ok(())
        }
    }
}

#[cfg(ratelimit_loom)]
mod modelled {
    use super::{Geometry, Header, Line};
    use crate::sync::AtomicU64;
    use std::array::from_fn;

    pub(crate) struct Memory {
        header: Header,
        cells: Vec<Line>,
        records: Vec<Line>,
    }

    impl Memory {
        pub(crate) fn new(cells: &Geometry, records: &Geometry, _huge_pages: bool) -> std::io::Result<Self> {
            let lines = |count: u64| {
                let line = || Line {
                    k: from_fn(|_| AtomicU64::new(0)),
                    w: from_fn(|_| AtomicU64::new(0)),
                };
                (0..count).map(|_| line()).collect()
            };
            Ok(Memory {
                header: Header::for_models(),
                cells: lines(cells.total_lines()),
                records: lines(records.total_lines()),
            })
        }

        pub(crate) fn header(&self) -> &Header {
            &self.header
        }

        pub(crate) fn line(&self, index: u64) -> &Line {
            &self.cells[index as usize]
        }

        pub(crate) fn record_line(&self, index: u64) -> &Line {
            &self.records[index as usize]
        }

        pub(crate) fn prefetch(&self, _index: u64) {}
    }
}
