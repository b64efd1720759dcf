//! Leases: what a node may spend on a key by its owner's leave.
//!
//! A lease in force lies in one of the two slots of a pair, and the word of the cell says in which: that is what its two last
//! rules are for. Phase 0 of the design is any other rule, phase 1 is rule 6 (slot 0), phase 2 is rule 7 (slot 1). Only the slot
//! that is out of force is written; then one compare-and-swap of the word puts it in force. A decision that read the old word
//! either landed before, and is in the level that the switch computed, or fails.
//!
//! For that no word may return: a switch raises the TAT by at least a nanosecond, a charge raises it, a refund stops at the
//! lease's start. What the raising adds to the state is kept in the slot as *shift* and taken off again by every decision, so
//! the backlog stays what it is.

use ratelimit_model::{Gcra, time};

use super::side::Side;
use super::switch::Grant;
use crate::sync::{AtomicU64, Ordering, Site, order};

/// The most that a shift may be: an eighth of the horizon.
pub(crate) const MOST_SHIFT: u64 = time::HALF / 8;

/// In `until`: past its time the lease denies.
const HARD: u64 = 1 << 63;
/// In `until`: no lease, but the rule without one, until the TAT is what that rule says.
const STANDING: u64 = 1 << 62;
/// In `until`: the power of two of the units from which on a cell is reported at once.
const URGENT_SHIFT: u32 = 56;
const URGENT_MASK: u64 = 0b11_1111;

/// One of the two places of a lease.
#[repr(C, align(64))]
pub(crate) struct LeaseSlot {
    numbers: [AtomicU64; 4],
    shift: AtomicU64,
    start: AtomicU64,
    until: AtomicU64,
    /// For the one who synchronises alone. In slot 0 of a pair: units in flight when the first lease began, less what was confirmed
    /// since. In slot 1: units that were counted without a lease by then, and were not drained yet.
    pub(crate) owed: AtomicU64,
}

/// The two places of a cell's lease.
#[repr(C)]
pub(crate) struct Pair {
    pub(crate) slots: [LeaseSlot; 2],
}

/// A lease as deciders read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InForce {
    pub(crate) gcra: Gcra,
    /// How far the TAT is ahead of the state that it stands for.
    pub(crate) shift: u64,
    /// The TAT that it began with: no refund leads below.
    pub(crate) start: u64,
    until: u64,
}

impl InForce {
    pub(crate) fn new(grant: &Grant, standing: bool, shift: u64, start: u64) -> Self {
        let urgent = u64::from(
            grant
                .urgent
                .max(1)
                .checked_next_power_of_two()
                .unwrap_or(1 << 63)
                .ilog2(),
        );
        let hard = grant.until.map_or(0, |until| HARD | until & time::MASK);
        InForce {
            gcra: grant.gcra,
            shift,
            start,
            until: hard | urgent << URGENT_SHIFT | if standing { STANDING } else { 0 },
        }
    }

    /// Whether this is no lease but the rule without one.
    #[inline]
    pub(crate) fn is_standing(&self) -> bool {
        self.until & STANDING != 0
    }

    /// Units that are not reported from which on the cell is reported at once; a threshold of speed, up to twice what was
    /// asked for.
    #[inline]
    pub(crate) fn urgent(&self) -> u64 {
        1 << (self.until >> URGENT_SHIFT & URGENT_MASK)
    }

    /// The state that a TAT stands for.
    #[inline]
    pub(crate) fn state(&self, tat: u64) -> u64 {
        tat.wrapping_sub(self.shift) & time::MASK
    }

    /// Whether it denies past its time.
    #[inline]
    pub(crate) fn is_hard(&self) -> bool {
        self.until & HARD != 0
    }

    /// Whether it denies because its time has passed.
    #[inline]
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.is_hard() && time::ahead(self.until & time::MASK, now) == 0
    }
}

impl LeaseSlot {
    fn load(&self) -> InForce {
        // Acquire: pairs with `LeaseStore`. Who sees a number of a later lease sees, when he looks at the word again, that
        // the one he read about is not in force any more.
        let load = |word: &AtomicU64| word.load(order(Site::LeaseLoad, Ordering::Acquire));
        InForce {
            gcra: Gcra::from_words(std::array::from_fn(|i| load(&self.numbers[i]))),
            shift: load(&self.shift),
            start: load(&self.start),
            until: load(&self.until),
        }
    }

    /// Writes a lease that is not in force yet.
    pub(crate) fn store(&self, lease: &InForce) {
        let store = |word: &AtomicU64, value: u64| {
            // Release: pairs with `LeaseLoad`. Carries the switch that took this slot out of force.
            word.store(value, order(Site::LeaseStore, Ordering::Release));
        };
        for (word, number) in self.numbers.iter().zip(lease.gcra.to_words()) {
            store(word, number);
        }
        store(&self.shift, lease.shift);
        store(&self.start, lease.start);
        store(&self.until, lease.until);
    }
}

/// What lies beside a cell's use: see [`super::side`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aside(pub(crate) u64);

const TAG_SHIFT: u32 = 40;
/// The value is the index of a pair.
const LEASE: u64 = 1 << 39;
/// The slot in force is no lease, but the rule without one.
const WITHOUT: u64 = 1 << 38;
const VALUE_MASK: u64 = WITHOUT - 1;

impl Aside {
    pub(crate) fn in_flight(tag: u64, units: u64) -> Self {
        Aside(tag << TAG_SHIFT | units.min(VALUE_MASK))
    }

    pub(crate) fn pair(tag: u64, index: usize) -> Self {
        Aside(tag << TAG_SHIFT | LEASE | index as u64 & VALUE_MASK)
    }

    pub(crate) fn is_pair(self, tag: u64) -> bool {
        self.0 & LEASE != 0 && self.0 >> TAG_SHIFT == tag
    }

    /// Whether what is counted from now on is spent without a lease.
    pub(crate) fn is_standing(self) -> bool {
        self.0 & WITHOUT != 0
    }

    pub(crate) fn standing(self, standing: bool) -> Self {
        Aside(self.0 & !WITHOUT | if standing { WITHOUT } else { 0 })
    }

    /// The units in flight of the incarnation with this tag.
    pub(crate) fn units(self, tag: u64) -> u64 {
        if self.0 & LEASE == 0 && self.0 >> TAG_SHIFT == tag {
            self.0 & VALUE_MASK
        } else {
            0
        }
    }

    /// The index, which may be of any kind if the reader slept.
    pub(crate) fn index(self) -> usize {
        (self.0 & VALUE_MASK) as usize
    }
}

impl<'a> Side<'a> {
    /// The lease in slot `slot` of a cell. To be believed only if the cell's word is the same *after* this.
    pub(crate) fn lease(&self, number: u64, slot: usize) -> InForce {
        // Acquire: pairs with the Release in `switch`; the word that named the slot came after it.
        let aside = Aside(self.cell(number).aside.load(order(Site::PairLoad, Ordering::Acquire)));
        self.pair(aside.index()).slots[slot].load()
    }

    /// A pair of the slab. A stalled reader may come with any index.
    pub(crate) fn pair(&self, index: usize) -> &'a Pair {
        // There is a power of two of them.
        &self.leases[index & (self.leases.len() - 1)]
    }
}

#[cfg(ratelimit_loom)]
impl Pair {
    pub(crate) fn for_models() -> Self {
        let zero = || AtomicU64::new(0);
        let slot = || LeaseSlot {
            numbers: std::array::from_fn(|_| zero()),
            shift: zero(),
            start: zero(),
            until: zero(),
            owed: zero(),
        };
        Pair {
            slots: [slot(), slot()],
        }
    }
}
