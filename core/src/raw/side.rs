//! What a clustered table keeps of each cell beside its line: use that was not reported yet, and the cell's lease.
//!
//! ```text
//!  u     63..40           39..36   35..0
//!       +----------------+-------+---------------------------------+
//!       | tag            | flags | field: units, saturating        |
//!       +----------------+-------+---------------------------------+
//!  aside 63..40           39..0
//!       +----------------+-----------------------------------------+
//!       | tag            | no lease: units in flight               |
//!       |                | under a lease: index of its pair        |
//!       +----------------+-----------------------------------------+
//! ```
//!
//! The tag names the incarnation of a cell, as the version in its word does, but does not come round within a stall: 24 bits, of
//! which the low 3 are the version. With a million new clients a second over 4,096 cells, 3 bits come round in 33 ms and 24 in
//! 19 hours. A cell's limit is not kept here: with several limits the key says it.
//!
//! Use is counted *before* it is charged, by compare-and-swap and only under the tag that the charge is for; a cell with use that
//! was not reported is not claimable. So use cannot land on another key, and what goes wrong is reported too much, never too
//! little. `docs/memory-ordering.md` has the rules and who would break them.
//!
//! Beside both lies what was denied since the last report (see [`super::denied`]): a hint, outside the protocol.
//!
//! A table that is not clustered has none of this, and its short way of deciding does not ask for it.

#[cfg(ratelimit_loom)]
use super::asked::Events;
use super::denied::Denied;
use super::find::Cell;
use super::header::{LimitSlot, MAX_LIMITS};
use super::lease::Aside;
use super::line::CELLS;
use super::table::Table;
use super::word::Word;
use crate::sync::{AtomicU64, Ordering, Rule, Site, order, rule};

// How a limit is kept in a cluster is no part of the protocol: it stays out of models.
use std::sync::atomic::AtomicU64 as Plain;

const TAG_SHIFT: u32 = 40;
const TAG_MASK: u64 = (1 << 24) - 1;
const FIELD_MASK: u64 = (1 << 36) - 1;
/// A request was denied since the last report.
const WANT: u64 = 1 << 36;
/// The key was under a lease: its word is not lowered any more.
const LEASED: u64 = 1 << 37;
/// A denial was reported since the last pass over all cells: the next one is not urgent.
const ASKED: u64 = 1 << 38;

/// The word `u` of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use(pub(crate) u64);

impl Use {
    /// The low 24 bits of this name an incarnation of the cell.
    #[inline]
    pub(crate) fn tag(self) -> u64 {
        let tag = self.0 >> TAG_SHIFT;
        // Without the rule a tag is no wider than what it is meant to outlast.
        if rule(Rule::WideTag) { tag } else { tag & 1 }
    }

    /// Units that are counted.
    #[inline]
    pub(crate) fn field(self) -> u64 {
        self.0 & FIELD_MASK
    }

    /// Whether a request was denied since the last report.
    #[inline]
    pub(crate) fn wants(self) -> bool {
        self.0 & WANT != 0
    }

    /// Whether the word is no longer lowered.
    #[inline]
    pub(crate) fn was_leased(self) -> bool {
        self.0 & LEASED != 0
    }

    /// Whether this can be the use of the incarnation that a word is of.
    #[inline]
    pub(crate) fn is_of(self, word: Word) -> bool {
        let mask = if rule(Rule::WideTag) { 0b111 } else { 1 };
        (self.0 >> TAG_SHIFT ^ word.version()) & mask == 0
    }

    #[inline]
    pub(crate) fn with_field(self, field: u64) -> Self {
        Use(self.0 & !FIELD_MASK | field.min(FIELD_MASK))
    }

    #[inline]
    pub(crate) fn wanting(self) -> Self {
        Use(self.0 | WANT)
    }

    pub(crate) fn satisfied(self) -> Self {
        Use(self.0 & !WANT)
    }

    /// Whether a denial was reported since the last pass over all cells.
    #[inline]
    pub(crate) fn has_asked(self) -> bool {
        self.0 & ASKED != 0
    }

    pub(crate) fn asked(self, asked: bool) -> Self {
        Use(self.0 & !ASKED | if asked { ASKED } else { 0 })
    }

    pub(crate) fn leased(self) -> Self {
        Use(self.0 | LEASED)
    }

    /// Nothing used, in the incarnation that the claim `claim` begins: the next tag whose low bits are its version, also where a
    /// claimer died before he came to this.
    pub(crate) fn fresh(self, claim: Word) -> Self {
        let tag = self.0 >> TAG_SHIFT;
        let step = match claim.version().wrapping_sub(tag) & 0b111 {
            0 => 8,
            step => step,
        };
        Use(((tag + step) & TAG_MASK) << TAG_SHIFT)
    }
}

/// The words of a cell that lie beside its line: 16 bytes, doubling the table.
#[repr(C)]
pub(crate) struct SideCell {
    pub(crate) u: AtomicU64,
    /// Written by the one who synchronises, and only by him.
    pub(crate) aside: AtomicU64,
}

/// Those of a line.
#[repr(C, align(64))]
pub(crate) struct SideLine {
    pub(crate) cells: [SideCell; CELLS],
}

/// Keys are told apart by their top 12 bits where it matters whether their owner is heard.
pub(crate) const PARTITIONS: usize = 4096;

/// How the cells of a limit are treated.
#[repr(C)]
pub(crate) struct LimitRules {
    /// The most units that may be spent without a lease and without the owner's confirmation; `u64::MAX` for no bound. That
    /// also says which of the two classes a limit is of: with a bound it must never be exceeded.
    pub(crate) unconfirmed: Plain,
    /// Units not reported at which a cell is reported at once.
    pub(crate) urgent: Plain,
    /// 1 if units stay counted until they are confirmed.
    pub(crate) overdraft: Plain,
    /// As `unconfirmed`, for keys whose owner is not heard.
    pub(crate) cut_unconfirmed: Plain,
    /// The numbers for those, all 0 if they are those of the limit.
    pub(crate) cut: LimitSlot,
}

/// What a clustered table knows beside its cells.
#[repr(C, align(64))]
pub(crate) struct SideHeader {
    pub(crate) limits: [LimitRules; MAX_LIMITS],
    /// The mark of the process that synchronises, or 0.
    pub(crate) syncer: AtomicU64,
    /// 1 if there may be something urgent: one load instead of a look at the whole map.
    pub(crate) is_urgent: Plain,
    /// For limits without a bound and with one: partitions whose owner is not heard, a bit each.
    pub(crate) cuts: [[Plain; PARTITIONS / 64]; 2],
}

/// A line has a bit in each of two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Map {
    /// There is something to report.
    Dirty = 0,
    /// It is to be reported at once.
    Urgent = 1,
}

/// The parts of a clustered table, as [`super::memory::Memory`] hands them out.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) header: &'a SideHeader,
    pub(crate) lines: &'a [SideLine],
    /// Of each [`Map`] in turn, 64 lines to a word.
    pub(crate) maps: &'a [AtomicU64],
    pub(crate) leases: &'a [super::lease::Pair],
    /// Of each cell. Models have none.
    pub(crate) denied: &'a [Denied],
    /// What is called when something becomes urgent. Models have nothing.
    pub(crate) wake: Option<&'a Wake>,
}

/// What is called when something becomes urgent.
pub(crate) type Wake = std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>;

/// Words of one map, for a table of so many lines.
pub(crate) const fn map_words(lines: u64) -> u64 {
    lines.div_ceil(64)
}

impl<'a> Side<'a> {
    #[inline(always)]
    pub(crate) fn cell(&self, number: u64) -> &'a SideCell {
        let number = number as usize;
        &self.lines[number / CELLS].cells[number % CELLS]
    }

    pub(crate) fn map(&self, map: Map) -> &'a [AtomicU64] {
        let words = self.maps.len() / 2;
        &self.maps[map as usize * words..][..words]
    }

    /// Tells the one who synchronises that a cell has something to report.
    #[inline(never)]
    pub(crate) fn mark(&self, map: Map, number: u64) {
        let line = number / CELLS as u64;
        // Release: pairs with `MarkTake`. Who takes the bit sees what was counted before.
        self.map(map)[(line / 64) as usize].fetch_or(1 << (line % 64), order(Site::Mark, Ordering::Release));
        if map == Map::Urgent {
            // AcqRel, after the bit. One who clears this meanwhile may miss the bit until the next pass over all cells: a matter
            // of speed.
            let was = self.header.is_urgent.swap(1, Ordering::AcqRel);
            if was == 0
                && let Some(call) = self.wake.and_then(Wake::get)
            {
                call();
            }
        }
    }

    #[inline(always)]
    pub(crate) fn load(&self, number: u64) -> Use {
        // Acquire: pairs with `Reserve` and `Void`. Who sees use counted sees the key that it was counted for.
        Use(self.cell(number).u.load(order(Site::UseLoad, Ordering::Acquire)))
    }

    #[inline(always)]
    fn swap(&self, site: Site, number: u64, from: Use, to: Use) -> Result<(), Use> {
        // AcqRel: see the sites in `docs/memory-ordering.md`.
        let success = order(site, Ordering::AcqRel);
        let failure = order(Site::UseLoad, Ordering::Acquire);
        match self.cell(number).u.compare_exchange(from.0, to.0, success, failure) {
            Ok(_) => Ok(()),
            Err(other) => Err(Use(other)),
        }
    }

    /// Counts `units` before they are charged, if the cell still has the tag of `seen` and no more than `most` are then counted.
    ///
    /// `urgent`: units that are not reported from which on the cell is reported at once.
    #[inline(always)]
    pub(crate) fn reserve(&self, number: u64, seen: Use, units: u64, most: u64, urgent: u64) -> Reserved {
        if !rule(Rule::DirtyAfterCount) {
            self.mark(Map::Dirty, number);
        }
        let mut now = seen;
        loop {
            if now.tag() != seen.tag() && rule(Rule::CountUnderTag) {
                return Reserved::Moved;
            }
            let field = now.field();
            if units > most || field > most - units {
                return Reserved::TooMany;
            }
            match self.count(number, now, units) {
                Ok(()) => {
                    self.list(number, field, units, urgent);
                    return Reserved::Counted;
                }
                Err(other) => now = other,
            }
        }
    }

    /// One attempt of that.
    #[inline(always)]
    pub(crate) fn count(&self, number: u64, now: Use, units: u64) -> Result<(), Use> {
        self.swap(Site::Reserve, number, now, now.with_field(now.field() + units))
    }

    /// Lists a cell after `units` were counted on top of `field`.
    #[inline(always)]
    pub(crate) fn list(&self, number: u64, field: u64, units: u64, urgent: u64) {
        if field == 0 && rule(Rule::DirtyAfterCount) {
            self.mark(Map::Dirty, number);
        }
        if field < urgent && field + units >= urgent {
            self.mark(Map::Urgent, number);
        }
    }

    /// Takes units out of what is to be reported, as far as they are still there; returns how many.
    pub(crate) fn forget(&self, number: u64, seen: Use, units: u64) -> u64 {
        let mut now = seen;
        while now.tag() == seen.tag() && now.field() > 0 && units > 0 {
            let taken = units.min(now.field());
            match self.swap(Site::Unreserve, number, now, now.with_field(now.field() - taken)) {
                Ok(()) => return taken,
                Err(other) => now = other,
            }
        }
        0
    }

    /// Says that a request was denied, if it was not said since the last report. `hurry`: the first time since the last pass
    /// over all cells it is to be reported at once.
    #[inline]
    pub(crate) fn want(&self, number: u64, seen: Use, hurry: bool) {
        let mut now = seen;
        while !now.wants() && now.tag() == seen.tag() {
            match self.swap(Site::Want, number, now, now.wanting()) {
                Ok(()) => {
                    self.mark(Map::Dirty, number);
                    if hurry && !now.has_asked() {
                        self.mark(Map::Urgent, number);
                    }
                    return;
                }
                Err(other) => now = other,
            }
        }
    }

    /// Whether all use of the cell is reported, for one who has read a word of it *before* and would claim it on that word. If
    /// not it is to be reported soon.
    pub(crate) fn is_reported(&self, number: u64) -> bool {
        if !rule(Rule::ClaimerAsksField) {
            return true;
        }
        // Acquire, and after the word: a word carries all that was counted before the charges that are in it.
        let now = Use(self.cell(number).u.load(order(Site::ClaimUse, Ordering::Acquire)));
        if now.field() == 0 && !now.wants() {
            return true;
        }
        let line = number / CELLS as u64;
        // Relaxed: a bit that is set already need not be set again.
        if self.map(Map::Urgent)[(line / 64) as usize].load(Ordering::Relaxed) & 1 << (line % 64) == 0 {
            self.mark(Map::Urgent, number);
        }
        false
    }
}

/// What became of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    Counted,
    /// The cell is another's by now.
    Moved,
    /// More than may be spent without being confirmed.
    TooMany,
}

impl Table {
    /// Units that are counted and were not sent. Work in proportion to the table; exact only while nobody decides.
    pub(crate) fn units_left(&self) -> u64 {
        let Some(side) = self.side() else { return 0 };
        let mut units = 0;
        for line in side.lines {
            for cell in &line.cells {
                let now = Use(cell.u.load(Ordering::Acquire));
                let aside = Aside(cell.aside.load(Ordering::Acquire));
                let in_flight = if aside.is_pair(now.tag()) {
                    // Relaxed: as the one who synchronises reads it.
                    side.pair(aside.index()).slots[0].owed.load(Ordering::Relaxed)
                } else {
                    aside.units(now.tag())
                };
                units += now.field() - in_flight.min(now.field());
            }
        }
        units
    }

    #[inline(always)]
    pub(crate) fn side(&self) -> Option<Side<'_>> {
        self.memory.side()
    }

    /// Takes back what was counted for a charge that was not made. Too late if it was reported, or voided, meanwhile.
    pub(super) fn unreserve(&self, side: &Side<'_>, cell: Cell<'_>, tag: u64, units: u64) {
        let mut now = side.load(cell.number);
        while (now.tag() == tag || !rule(Rule::UndoUnderTag)) && now.field() >= units {
            match side.swap(Site::Unreserve, cell.number, now, now.with_field(now.field() - units)) {
                Ok(()) => return,
                Err(other) => now = other,
            }
        }
        // Relaxed: a counter orders nothing.
        self.events.undo_failed.fetch_add(units, Ordering::Relaxed);
    }

    /// Begins a cell's next incarnation, by the one who has claimed it and before he writes its key. What was counted until here
    /// will never be charged: the claim is in its way.
    pub(super) fn void(&self, side: &Side<'_>, number: u64, claim: Word) -> Use {
        let u = &side.cell(number).u;
        // Relaxed: only a claimer changes the tag; what else is in there is what the swap gives back.
        let fresh = Use(u.load(Ordering::Relaxed)).fresh(claim);
        // AcqRel, before the key: pairs with `Drain`. Who has read the new key fails on the old tag.
        let old = Use(u.swap(fresh.0, order(Site::Void, Ordering::AcqRel)));
        // Relaxed: a counter orders nothing.
        self.events.voided.fetch_add(old.field(), Ordering::Relaxed);
        if let Some(denied) = side.denied.get(number as usize) {
            denied.clear();
        }
        fresh
    }
}

/// Counts that say what became of what was counted and not charged.
#[cfg(ratelimit_loom)]
impl Events {
    pub(crate) fn units(&self) -> (u64, u64) {
        (
            self.voided.load(Ordering::Relaxed),
            self.undo_failed.load(Ordering::Relaxed),
        )
    }
}

impl Side<'_> {
    /// As [`Side::swap`], for the one who synchronises.
    pub(super) fn drain_swap(&self, number: u64, from: Use, to: Use) -> Result<(), Use> {
        self.swap(Site::Drain, number, from, to)
    }
}

#[cfg(all(test, not(ratelimit_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_tag_is_above_and_ends_in_the_version() {
        let mut word = Word(0);
        let mut used = Use(0);
        for turn in 1..100u64 {
            word = word.claim(1, true);
            let next = Use(used.0 | WANT | LEASED | 5).fresh(word);
            assert_eq!(next.tag(), turn);
            assert!(next.is_of(word) && next.field() == 0 && !next.wants() && !next.was_leased());
            used = next;
        }
        // A claimer who died before he came to the tag leaves it behind.
        word = word.claim(1, true).claim(1, true);
        assert_eq!(used.fresh(word).tag(), 101);
        // Round once.
        let last = Use(TAG_MASK << TAG_SHIFT);
        let claim = (0..8).fold(Word(0), |word, _| word.claim(1, true));
        assert_eq!(last.fresh(claim).tag(), 0);
        assert_eq!(Use(0).fresh(claim).tag(), 8, "never the same");
    }

    #[test]
    fn the_field_saturates_and_leaves_the_rest() {
        let used = Use(7 << TAG_SHIFT).wanting().leased().with_field(u64::MAX);
        assert_eq!(used.field(), FIELD_MASK);
        assert_eq!(used.tag(), 7);
        assert!(used.wants() && used.was_leased());
        assert!(!used.satisfied().wants() && used.satisfied().was_leased());
    }
}
