//! What the protocol needs of a node's table.

use crate::id::{Cell, LimitId};
use crate::rules::{Lease, Rules};

/// Use taken out of a cell, to be reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Units used since the last time, under a lease or without.
    pub used: u64,
    /// Units denied, at least: a store may count only the first denial.
    pub denied: u64,
    /// The cost of the largest denied request; 0 if none was.
    pub largest: u64,
    /// Units given back after they were reported.
    pub refunded: u64,
    /// `used` was spent under a lease.
    pub leased: bool,
}

/// Takes what a store drains.
pub trait DrainSink {
    /// Whether use of this cell can be sent now. If not, the store leaves it where it is: the cell is the send queue.
    fn accepts(&mut self, cell: Cell) -> bool;
    /// Takes it; only after [`accepts`](DrainSink::accepts) said so.
    fn take(&mut self, cell: Cell, drained: Drained);
    /// Told of use that stays in the store, since [`accepts`](DrainSink::accepts) refused its cell.
    fn leaves(&mut self, cell: Cell, used: u64) {
        let _ = (cell, used);
    }
}

/// Which cells to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Those marked urgent: unreported units reached the rule's `urgent_units`, or the level of a key without a lease fell
    /// below half the burst, or a request was denied for the first time since the last full pass.
    Urgent,
    /// All that have something to report.
    All,
}

/// What became of a lease given to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GiveOutcome {
    /// It is in force. If not, the key is gone or there is no room.
    pub given: bool,
    /// Whole units that go back to the owner.
    pub returned: u64,
}

/// A node's table, as far as the protocol drives it. Deciding a request is the store's own work, with the functions of
/// [`crate::rules`].
pub trait Store {
    /// Offers every cell with something to report to the sink, and empties those that it takes.
    ///
    /// Units of an [overdraft](Rules::overdraft) leave the unreported count but stay unconfirmed until
    /// [`rearm`](Store::rearm). A cell with both leased and unleased use is taken as two.
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink);

    /// Puts drained units back, since they were never applied, so that they are drained again. False if there is no room:
    /// they are counted as lost.
    fn restore(&mut self, cell: Cell, drained: Drained) -> bool;

    /// The owner confirmed `units` of an overdraft: they may be spent again.
    fn rearm(&mut self, cell: Cell, units: u64);

    /// Puts a lease into force, by [`rules::switch`](crate::rules::switch). From the tokens of a soft lease the units that
    /// are not drained yet are taken off first: the owner gave them without knowing of those.
    ///
    /// A soft lease of a key without a cell makes one if there is room, since a node that joins is told of contended keys
    /// before it meets them. A hard one is not given: its tokens go back.
    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome;

    /// Ends the lease of a cell, by [`rules::end`](crate::rules::end); returns the whole units that go back.
    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64;

    /// New rules for a limit, or a new limit.
    fn set_rules(&mut self, limit: LimitId, rules: &Rules, now_ns: u64);

    /// Whether the keys of a partition have an owner that is heard.
    ///
    /// `hard`: for the limits whose owners are configured (`Bounded`, `Strict`); otherwise for `Eventual` ones.
    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool);
}
