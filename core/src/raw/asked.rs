//! A request as the table is asked, what is said to it, and what is counted on the way.

use std::sync::atomic::AtomicU64 as Counter;

use ratelimit_model::Gcra;

use super::word::Axis;
use crate::clock::Clock;
use crate::sync::Ordering;

/// What is done for a client that finds no cell because the table is full of clients with debt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It shares a cell with others like it: jointly they are held to the limit of one. The error is denial, never
    /// admission. A client with a limit of its own is denied.
    #[default]
    Share,
    /// It is denied.
    Deny,
    /// It is allowed and not charged: the limit does not hold for it.
    Allow,
}

/// Things that happen seldom and that an operator wants to know of. Counted since the table was made, in this process.
///
/// On lines of their own: beside what every decision reads, each count would take that line from all other threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Events {
    /// Decisions on clients that found no cell.
    pub overflowed: Counter,
    /// Cells whose state lay further ahead than any decision puts it, and was brought back: steps of a clock.
    pub stepped: Counter,
    /// Clients that got a cell.
    pub inserted: Counter,
    /// Cells of other clients, expired, that were taken over for that.
    pub recycled: Counter,
    /// Cells brought along after a change of limit or of axis.
    pub translated: Counter,
    /// Units that were counted for the cluster and can never be charged, since their cell was taken over.
    pub voided: Counter,
    /// Units that were counted, not charged, and could not be taken back: they were reported, or voided, first.
    pub undo_failed: Counter,
    /// Units that were given back before they were reported.
    pub refunded: Counter,
}

impl Events {
    pub(crate) fn count(counter: &Counter) {
        // Relaxed: a counter orders nothing.
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request, without its key.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) now: u64,
    pub(crate) axis: Axis,
    pub(crate) cost: u64,
    /// Read only when a cell that was charged by the own clock is met by a time that was given.
    pub(crate) clock: &'a Clock,
    /// The limit that the caller keeps this key under, in place of the table's. Its keys have no overrides, and it is the
    /// caller's part that one key is under one limit.
    pub(crate) under: Option<&'a Gcra>,
}

/// What was decided, and what a [`ratelimit_model::Decision`] is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruling {
    pub(crate) allowed: bool,
    pub(crate) gcra: Gcra,
    pub(crate) tat: u64,
    pub(crate) now: u64,
    pub(crate) cost: u64,
}

impl Ruling {
    #[inline]
    pub(crate) fn new(allowed: bool, gcra: Gcra, tat: u64, asked: &Asked<'_>) -> Self {
        Ruling {
            allowed,
            gcra,
            tat,
            now: asked.now,
            cost: asked.cost,
        }
    }

    pub(crate) fn decision(&self) -> ratelimit_model::Decision {
        self.gcra.decision(self.allowed, self.tat, self.now, self.cost)
    }
}

/// Whether a state lies so far ahead that a clock must have been set back, and not only this thread have slept since it took
/// its time: the own clock is asked again before that is believed.
pub(super) fn was_set_back(gcra: &Gcra, tat: u64, asked: &Asked<'_>) -> bool {
    gcra.is_stepped(tat, asked.now) && (asked.axis == Axis::Given || gcra.is_stepped(tat, asked.clock.now()))
}
