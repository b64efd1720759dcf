//! The memory of a table: one mapping that holds the header, the lines of the overrides and the lines of the cells; behind them,
//! in a clustered table, what lies beside the cells.
//!
//! The whole range is reserved at the start and costs nothing until it is touched; pages come as zeros, and zeros are a
//! valid empty table. So opening a tier is one store, and no operation does work in proportion to the table.
//!
//! The mapping is private to the process, or a file that others map too (`share`). There are no pointers in it, and all of it
//! is atomics, so it does not matter where it lies and who else writes.

use super::geometry::Geometry;
use super::header::Header;
#[cfg(not(ratelimit_loom))]
use super::line::CELLS;
use super::line::Line;

#[cfg(not(ratelimit_loom))]
pub(crate) use mapped::{Layout, Memory};
#[cfg(ratelimit_loom)]
pub(crate) use modelled::Memory;

#[cfg(not(ratelimit_loom))]
mod mapped {
    use super::{CELLS, Geometry, Header, Line};
    use crate::raw::denied::Denied;
    use crate::raw::held::Held;
    use crate::raw::lease::Pair;
    use crate::raw::side::{Side, SideHeader, SideLine, Wake, map_words};
    use crate::sync::AtomicU64;
    use memmap2::{MmapOptions, MmapRaw};
    use std::sync::Arc;

    const PAGE: u64 = 4_096;

    /// Where the parts of a table lie, in bytes.
    pub(crate) struct Layout {
        records_at: usize,
        cells_at: usize,
        /// Where the parts of a clustered table lie.
        side: Option<SideLayout>,
        pub(crate) bytes: usize,
    }

    /// Behind the cells, each at a multiple of the page size.
    struct SideLayout {
        header_at: usize,
        lines_at: usize,
        maps_at: usize,
        denied_at: usize,
        leases_at: usize,
        leases: usize,
    }

    impl SideLayout {
        /// With the end of it.
        fn behind(cells_end: u64, lines: u64) -> Option<(Self, u64)> {
            // As many leases as a sixteenth of the cells: keys are leased only while they are contended.
            let leases = (lines / 4).clamp(1_024, 1 << 20).next_power_of_two();
            let header_at = cells_end.checked_next_multiple_of(PAGE)?;
            let lines_at = header_at.checked_add((size_of::<SideHeader>() as u64).next_multiple_of(PAGE))?;
            let maps_at = lines
                .checked_mul(size_of::<SideLine>() as u64)?
                .checked_add(lines_at)?
                .checked_next_multiple_of(PAGE)?;
            let maps = map_words(lines) * 2 * size_of::<AtomicU64>() as u64;
            let denied_at = maps_at.checked_add(maps)?.checked_next_multiple_of(PAGE)?;
            let leases_at = lines
                .checked_mul((CELLS * size_of::<Denied>()) as u64)?
                .checked_add(denied_at)?
                .checked_next_multiple_of(PAGE)?;
            let end = leases_at.checked_add(leases * size_of::<Pair>() as u64)?;
            // What is below `end` fits as well.
            usize::try_from(end).ok()?;
            let layout = SideLayout {
                header_at: header_at as usize,
                lines_at: lines_at as usize,
                maps_at: maps_at as usize,
                denied_at: denied_at as usize,
                leases_at: leases_at as usize,
                leases: leases as usize,
            };
            Some((layout, end))
        }
    }

    impl Layout {
        /// `None` if that is more than can be addressed.
        pub(crate) fn of(cells: &Geometry, records: &Geometry) -> Option<Self> {
            let line = size_of::<Line>() as u64;
            let records_at = (size_of::<Header>() as u64).next_multiple_of(PAGE);
            let cells_at = (records_at + records.total_lines() * line).next_multiple_of(PAGE);
            let bytes = cells.total_lines().checked_mul(line)?.checked_add(cells_at)?;
            let (side, bytes) = if cells.clustered {
                let (side, end) = SideLayout::behind(bytes, cells.total_lines())?;
                (Some(side), end)
            } else {
                (None, bytes)
            };
            let bytes = isize::try_from(bytes).ok()? as usize;
            Some(Layout {
                records_at: records_at as usize,
                cells_at: cells_at as usize,
                side,
                bytes,
            })
        }
    }

    pub(crate) struct Memory {
        // Invariant: maps at least `size_of::<Header>()` bytes at `header`, `record_lines` lines at `records` and `cell_lines`
        // lines at `cells`. Each begins at a multiple of the page size, so that it is aligned for its type. If `side` is not
        // null it does the same for `SideHeader`, and `side_parts` says where in the mapping the others lie.
        map: Arc<MmapRaw>,
        header: *const Header,
        records: *const Line,
        record_lines: u64,
        cells: *const Line,
        cell_lines: u64,
        side: *const SideHeader,
        side_parts: SideParts,
        /// Of this process alone.
        wake: Wake,
    }

    /// Where a clustered table has its parts; all null or 0 in another.
    #[derive(Clone, Copy)]
    struct SideParts {
        lines: *const SideLine,
        maps: *const AtomicU64,
        map_words: usize,
        denied: *const Denied,
        leases: *const Pair,
        leases_len: usize,
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
            let layout = Layout::of(cells, records).ok_or_else(too_large)?;
            // No swap is reserved, because most of the range is never touched.
            let map = MmapOptions::new().len(layout.bytes).no_reserve_swap().map_anon()?;
            #[cfg(target_os = "linux")]
            if huge_pages {
                // Refused where the kernel has no large pages: the table works as well without, a little slower.
                let rest = layout.bytes - layout.cells_at;
                let _ = map.advise_range(memmap2::Advice::HugePage, layout.cells_at, rest);
            }
            #[cfg(not(target_os = "linux"))]
            let _ = huge_pages;
            Self::over(Arc::new(map.into()), cells, records).ok_or_else(too_large)
        }

        /// A table that lies in a mapping. `None` if the mapping is too short for it.
        pub(crate) fn over(map: Arc<MmapRaw>, cells: &Geometry, records: &Geometry) -> Option<Self> {
            let layout = Layout::of(cells, records).filter(|layout| layout.bytes <= map.len())?;
            let start: *const u8 = map.as_ptr();
            // Both offsets lie inside the mapping: they are less than its length.
            let (records_start, cells_start) = (
                start.wrapping_add(layout.records_at),
                start.wrapping_add(layout.cells_at),
            );
            let part = |at: fn(&SideLayout) -> usize| {
                let at = layout.side.as_ref().map(at);
                at.map_or(std::ptr::null(), |at| start.wrapping_add(at))
            };
            let side_parts = SideParts {
                lines: part(|side| side.lines_at).cast(),
                maps: part(|side| side.maps_at).cast(),
                map_words: 2 * map_words(cells.total_lines()) as usize,
                denied: part(|side| side.denied_at).cast(),
                leases: part(|side| side.leases_at).cast(),
                leases_len: layout.side.as_ref().map_or(0, |side| side.leases),
            };
            Some(Memory {
                side: part(|side| side.header_at).cast(),
                side_parts,
                wake: Wake::new(),
                header: start.cast(),
                records: records_start.cast(),
                record_lines: records.total_lines(),
                cells: cells_start.cast(),
                cell_lines: cells.total_lines(),
                map,
            })
        }

        /// A part of the header that lives on after this.
        pub(crate) fn hold<T>(&self, part: impl for<'a> FnOnce(&'a Header) -> &'a T) -> Held<T> {
            let part = part(self.header());
            // Safety: what a function gives out of any header lies in this one, or lives for ever; the mapping stays where it
            // is until its last owner is gone.
            unsafe { Held::within(self.map.clone(), part) }
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

        /// What lies beside the cells, in a clustered table.
        #[inline(always)]
        pub(crate) fn side(&self) -> Option<Side<'_>> {
            if self.side.is_null() {
                return None;
            }
            let parts = &self.side_parts;
            // Safety: `over` has put all five parts inside the mapping, each at a multiple of the page size and with room for so
            // many elements (Invariant of `map`); they are atomics only, for which zeros are valid and shared writes are sound.
            unsafe {
                Some(Side {
                    header: &*self.side,
                    lines: std::slice::from_raw_parts(parts.lines, self.cell_lines as usize),
                    maps: std::slice::from_raw_parts(parts.maps, parts.map_words),
                    leases: std::slice::from_raw_parts(parts.leases, parts.leases_len),
                    denied: std::slice::from_raw_parts(parts.denied, self.cell_lines as usize * CELLS),
                    wake: Some(&self.wake),
                })
            }
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
    use crate::raw::header::{LimitSlot, Numbers};
    use crate::raw::lease::Pair;
    use crate::raw::side::{LimitRules, Side, SideCell, SideHeader, SideLine};
    use crate::sync::AtomicU64;
    use std::array::from_fn;

    pub(crate) struct Memory {
        header: Header,
        cells: Vec<Line>,
        records: Vec<Line>,
        side: Option<ModelledSide>,
    }

    struct ModelledSide {
        header: SideHeader,
        lines: Vec<SideLine>,
        maps: [AtomicU64; 2],
        leases: [Pair; 2],
    }

    impl ModelledSide {
        fn new(lines: u64) -> Self {
            let zero = || AtomicU64::new(0);
            let cell = || SideCell {
                u: zero(),
                aside: zero(),
            };
            ModelledSide {
                header: SideHeader {
                    limits: from_fn(|_| LimitRules {
                        unconfirmed: 0.into(),
                        urgent: 0.into(),
                        overdraft: 0.into(),
                        cut_unconfirmed: 0.into(),
                        cut: LimitSlot {
                            generation: zero(),
                            numbers: from_fn(|_| Numbers {
                                words: from_fn(|_| zero()),
                            }),
                        },
                    }),
                    syncer: zero(),
                    is_urgent: 0.into(),
                    cuts: from_fn(|_| from_fn(|_| 0.into())),
                },
                lines: (0..lines)
                    .map(|_| SideLine {
                        cells: from_fn(|_| cell()),
                    })
                    .collect(),
                maps: from_fn(|_| zero()),
                leases: from_fn(|_| Pair::for_models()),
            }
        }
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
                side: cells.clustered.then(|| ModelledSide::new(cells.total_lines())),
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

        pub(crate) fn side(&self) -> Option<Side<'_>> {
            self.side.as_ref().map(|side| Side {
                header: &side.header,
                lines: &side.lines,
                maps: &side.maps,
                leases: &side.leases,
                denied: &[],
                wake: None,
            })
        }

        pub(crate) fn prefetch(&self, _index: u64) {}
    }
}
