//! The owner's books: for each key it owns the debt, who asks for how much, and what was granted to whom.
//!
//! [`soft`] is `Eventual`: reports are the ledger, leases only damp. [`hard`] is `Bounded` and `Strict`: grants are the
//! ledger, reports only say who needs them.

mod books;
mod demand;
mod hard;
mod plausible;
mod shares;
mod soft;

use alloc::vec::Vec;

use ratelimit_model::{Gcra, LEVEL_BITS, WHOLE_SHARE};

pub(crate) use self::books::Ledger;
use self::demand::Demand;
pub(crate) use self::hard::{Commitment, Pool, floor_of};
use self::plausible::Plausible;
use crate::id::NodeId;
use crate::limits::{LimitNumbers, Mode};
use crate::membership::{DEAD_NS, HOLD_DOWN_NS};
use crate::message::Entry;
use crate::mutants::Switches;

/// Holders of one account at most; reports of more are charged but get no lease.
const MAX_HOLDERS: usize = 1024;
/// A holder that said nothing for this long is forgotten, once it holds nothing.
const HOLDER_IDLE_NS: u64 = 2_000_000_000;
/// A holder that made no report for this long was cut off or stopped, and its next one is about all that time.
const PAUSE_NS: u64 = 500_000_000;
/// An owner that was restarted takes keys it has no books of for empty, but no longer than this.
const MOST_EMPTY_NS: u64 = 60_000_000_000;
/// Clocks may differ in speed by this much: 500 parts in a million. What a holder counts is derated by it, what the owner
/// counts is stretched.
pub(crate) const DRIFT_PARTS: u64 = 2000;

/// What the owner must know beside the limit to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Now.
    pub(crate) now_ns: u64,
    /// Time between reports.
    pub(crate) interval_ns: u64,
    /// How long a lease holds.
    pub(crate) ttl_ns: u64,
    /// Of the rate, parts of 2^32 that this owner may give: less than all under the policy `share` in a partition.
    pub(crate) pool: u64,
    /// Nodes that are known, heard or not.
    pub(crate) nodes: u64,
    /// The most nodes there may be: floors are held back for as many.
    pub(crate) max_nodes: u64,
    /// A debt never exceeds this many bursts.
    pub(crate) debt_bursts: u64,
    /// Hard limits: nothing is granted before, since an earlier life of this owner may have granted it.
    pub(crate) silent_until_ns: u64,
    /// When this life of a node that had others began: its books may have been full before.
    pub(crate) empty_at_ns: Option<u64>,
    pub(crate) switches: Switches,
}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reporter {
    pub(crate) node: NodeId,
    /// How long its report before is ago, for what it may have spent meanwhile.
    pub(crate) gap_ns: u64,
    /// It has just come back, after it was not heard for so long; 0 if not.
    pub(crate) away_ns: u64,
    /// When it came back; 0 if it never was away.
    pub(crate) back_ns: u64,
    /// Its part of the limit during so long is not charged: it was away, and the part was held back for it.
    pub(crate) forgiven_ns: u64,
    /// When it made the report, by its own clock.
    pub(crate) sent_ns: u64,
    /// An account that its report opens first listens until then.
    pub(crate) quiet_until_ns: u64,
    /// An account that its report opens had an owner that died.
    pub(crate) orphaned: bool,
}

/// What an owner offers one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) node: NodeId,
    pub(crate) seq: u64,
    pub(crate) share: u64,
    pub(crate) capacity: u64,
    pub(crate) tokens: u64,
    pub(crate) ttl_ns: u64,
}

/// One node that uses a key.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) node: NodeId,
    demand: Demand,
    plausible: Plausible,
    heard_ns: u64,
    /// The last report was denied something.
    denied: bool,
    largest: u64,
    /// Soft: share and capacity last offered, and when; 0 if none.
    offered: u64,
    offered_capacity: u64,
    offered_ns: u64,
    offered_ttl_ns: u64,
    /// When it last came back from where it was not heard.
    back_ns: u64,
    /// Soft: units that it may report without being charged: they were presumed spent, or its part of the rate was held back
    /// while it was away.
    prepaid: u64,
    /// When it made its first report after that, on its own clock.
    resumed_ns: Option<u64>,
    /// Soft: the level that its lease had left at its last report, with fraction bits, as far as the owner can know.
    left: u128,
    /// Hard.
    pub(crate) commitment: Commitment,
}

/// One key under one limit.
#[derive(Debug)]
pub(crate) struct Account {
    version: u64,
    gcra: Gcra,
    pub(crate) mode: Mode,
    /// Soft: when the debt is paid.
    tat_ns: u64,
    /// Soft: the last answer found more asked for than there is.
    contended: bool,
    /// Hard: what is not granted.
    pub(crate) pool: Pool,
    pub(crate) holders: Vec<Holder>,
    /// A new owner first listens: what a dead one knew is in nobody's books.
    quiet_until_ns: u64,
    /// Soft: its owner before died, and so many units more than its books say may have been spent rightly in the time without
    /// one, which holders report when they first turn here.
    ownerless: u64,
    /// Whose report opened it.
    opened_by: NodeId,
}

/// What became of a report's entry.
#[derive(Debug, Default)]
pub(crate) struct Booked {
    /// Units charged (or taken as a hint, for hard limits).
    pub(crate) applied: u64,
    /// Units cut because the holder cannot have spent them.
    pub(crate) cut: u64,
    /// Units for which there was no account and no room for one.
    pub(crate) dropped: u64,
    pub(crate) offers: Vec<Offer>,
    /// The key is in debt: overdraft must not be spent again yet.
    pub(crate) in_debt: bool,
}

impl Account {
    fn open(reporter: &Reporter, limit: &LimitNumbers, terms: &Terms) -> Self {
        Account {
            version: limit.spec.version,
            gcra: limit.gcra,
            mode: limit.spec.mode,
            tat_ns: Self::opening(limit, terms, reporter.orphaned),
            contended: false,
            pool: Pool::open(&limit.gcra, limit.spec.mode, terms),
            holders: Vec::new(),
            quiet_until_ns: reporter.quiet_until_ns,
            ownerless: Self::spent_ownerless(reporter, limit, terms),
            opened_by: reporter.node,
        }
    }

    /// What a soft account owes when it is opened. Usually nothing; but one that was in the books of a dead owner, or of an
    /// earlier life of this one, may have spent its burst there, and spending it again at every restart would add up.
    fn opening(limit: &LimitNumbers, terms: &Terms, orphaned: bool) -> u64 {
        let tolerance_ns = limit.gcra.tolerance_ns();
        if orphaned {
            return terms.now_ns.saturating_add(tolerance_ns);
        }
        terms.empty_at_ns.map_or(0, |empty_ns| {
            // After a minute nobody is held to what may have been.
            let full_ns = empty_ns.saturating_add(tolerance_ns.min(MOST_EMPTY_NS));
            if terms.now_ns < full_ns {
                empty_ns.saturating_add(tolerance_ns)
            } else {
                0
            }
        })
    }

    /// The dead owner was not replaced for so long. What nodes spent in that time is theirs up to what this side may spend.
    fn spent_ownerless(reporter: &Reporter, limit: &LimitNumbers, terms: &Terms) -> u64 {
        if !reporter.orphaned {
            return 0;
        }
        let units = limit.gcra.refilled(HOLD_DOWN_NS + DEAD_NS, terms.pool) >> LEVEL_BITS;
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Follows a change of the limit: the debt keeps its share of the burst; what is granted of a hard limit stays granted.
    fn follow(&mut self, limit: &LimitNumbers, terms: &Terms) {
        if self.version == limit.spec.version && self.gcra == limit.gcra && self.mode == limit.spec.mode {
            return;
        }
        if self.mode.is_hard() {
            self.follow_hard(limit, terms);
        } else {
            // Like a cell of the table: the spent part of the burst stays the same part, a debt the same units.
            let now_ns = terms.now_ns;
            let owed = self.gcra_units(self.tat_ns.saturating_sub(now_ns));
            let spent = owed.min(u128::from(self.gcra.burst()));
            let part = (spent * u128::from(limit.gcra.burst())).div_ceil(u128::from(self.gcra.burst()));
            let owed = part + (owed - spent);
            self.tat_ns = now_ns.saturating_add(limit.gcra.time_of(owed << LEVEL_BITS));
            if limit.spec.mode.is_hard() {
                self.pool = Pool::open(&limit.gcra, limit.spec.mode, terms);
                self.pool
                    .charge(u64::try_from(owed).unwrap_or(u64::MAX), i128::MAX >> 1);
            }
        }
        (self.version, self.gcra, self.mode) = (limit.spec.version, limit.gcra, limit.spec.mode);
        for holder in &mut self.holders {
            holder.offered = 0;
        }
    }

    fn gcra_units(&self, ns: u64) -> u128 {
        self.gcra.refilled(ns, WHOLE_SHARE).div_ceil(1 << LEVEL_BITS)
    }

    /// The version that grants are parts of.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn holder_mut(&mut self, node: NodeId) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.node == node)
    }

    fn book(&mut self, entry: &Entry, reporter: &Reporter, desk: &mut Desk<'_>) -> Booked {
        let (node, now_ns) = (reporter.node, desk.terms.now_ns);
        let mut booked = Booked::default();
        let seen = self.holders.len() as u64 + 1;
        let new = self.holders.iter().all(|holder| holder.node != node);
        let index = match self.holders.iter().position(|holder| holder.node == node) {
            Some(index) => Some(index),
            None if self.holders.len() < MAX_HOLDERS => {
                self.holders.push(Holder::new(reporter, &self.gcra, now_ns));
                Some(self.holders.len() - 1)
            }
            None => None,
        };
        let mut used = entry.used;
        let mut forgiven = 0;
        if let Some(index) = index {
            let holder = &mut self.holders[index];
            let unheard_ns = if new {
                u64::MAX
            } else {
                now_ns.saturating_sub(holder.heard_ns)
            };
            holder.forgive(reporter, unheard_ns, &self.gcra, desk.terms);
            holder.spend(used, &self.gcra, now_ns);
            holder.heard_ns = now_ns;
            if !entry.refund {
                let allowed = holder.plausible.admit(used, &self.gcra, now_ns);
                booked.cut = used - allowed;
                used = allowed;
                let asked = used.saturating_add(entry.denied.min(self.gcra.burst().saturating_mul(4)));
                holder.demand.add(asked, reporter.sent_ns, reporter.away_ns, now_ns);
            }
            holder.denied = entry.denied > 0;
            holder.largest = entry.largest.min(self.gcra.burst());
            if !entry.refund {
                forgiven = used.min(holder.prepaid);
                holder.prepaid -= forgiven;
                if now_ns >= self.quiet_until_ns.saturating_add(HOLDER_IDLE_NS) {
                    self.ownerless = 0;
                }
                if holder.resumed_ns == Some(reporter.sent_ns) {
                    let ownerless = (used - forgiven).min(self.ownerless);
                    self.ownerless -= ownerless;
                    forgiven += ownerless;
                }
            }
        }
        booked.applied = used;
        if self.mode.is_hard() {
            self.book_hard(entry, used, index, desk, &mut booked);
        } else {
            self.book_soft(entry, used - forgiven, index, seen, desk);
        }
        booked
    }

    /// Units beyond the burst.
    fn debt(&self, now_ns: u64) -> u64 {
        if self.mode.is_hard() {
            self.pool.debt()
        } else {
            let beyond = self
                .tat_ns
                .saturating_sub(now_ns)
                .saturating_sub(self.gcra.tolerance_ns());
            u64::try_from(self.gcra_units(beyond)).unwrap_or(u64::MAX)
        }
    }

    fn is_over(&mut self, terms: &Terms) -> bool {
        let now_ns = terms.now_ns;
        let idle = |holder: &Holder| now_ns.saturating_sub(holder.heard_ns) >= HOLDER_IDLE_NS;
        if self.mode.is_hard() {
            self.settle(terms);
            self.holders
                .retain(|holder| !idle(holder) || holder.commitment.is_any());
            self.holders.is_empty() && self.pool.is_full(&self.gcra, self.mode, terms)
        } else {
            self.presume(terms);
            let kept = |holder: &Holder| holder.prepaid > 0 && now_ns.saturating_sub(holder.heard_ns) < MOST_EMPTY_NS;
            self.holders
                .retain(|holder| !idle(holder) || holder.offered > 0 || kept(holder));
            self.holders.is_empty() && self.tat_ns <= now_ns
        }
    }
}

impl Holder {
    fn new(reporter: &Reporter, gcra: &Gcra, now_ns: u64) -> Self {
        Holder {
            node: reporter.node,
            demand: Demand::default(),
            plausible: Plausible::new(gcra, reporter.gap_ns, now_ns),
            heard_ns: now_ns,
            denied: false,
            largest: 0,
            offered: 0,
            offered_capacity: 0,
            offered_ns: 0,
            offered_ttl_ns: 0,
            back_ns: 0,
            prepaid: 0,
            resumed_ns: None,
            left: 0,
            commitment: Commitment::default(),
        }
    }

    fn prepay(&mut self, units: u64) {
        self.prepaid = self.prepaid.saturating_add(units);
        self.resumed_ns = None;
    }

    /// What it spent while it was away was held back for it, and comes in several reports: those that were on their way
    /// when the link broke, and what was in the cells.
    fn forgive(&mut self, reporter: &Reporter, unheard_ns: u64, gcra: &Gcra, terms: &Terms) {
        if reporter.forgiven_ns > 0 && self.back_ns != reporter.back_ns {
            self.back_ns = reporter.back_ns;
            let part = WHOLE_SHARE / terms.nodes.max(1);
            let units = gcra.refilled(reporter.forgiven_ns.min(unheard_ns), part) >> LEVEL_BITS;
            self.prepay(u64::try_from(units).unwrap_or(u64::MAX));
        }
        // Reports made before the silence are followed by one with all the rest of it. What comes later is new.
        let pause_ns = reporter.sent_ns.saturating_sub(self.demand.sent_ns());
        if pause_ns >= PAUSE_NS.max(4 * terms.interval_ns) {
            self.resumed_ns = Some(reporter.sent_ns);
        } else if self.resumed_ns.is_some_and(|at| reporter.sent_ns > at) {
            self.prepaid = 0;
        }
    }
}

/// Where offers are made out while one report or acknowledgement is dealt with.
struct Desk<'a> {
    terms: &'a Terms,
    next_seq: &'a mut u64,
    offers: Vec<Offer>,
}

impl Desk<'_> {
    fn offer(&mut self, node: NodeId, share: u64, capacity: u64, tokens: u64, ttl_ns: u64) -> u64 {
        let seq = *self.next_seq;
        *self.next_seq += 1;
        self.offers.push(Offer {
            node,
            seq,
            share,
            capacity,
            tokens,
            ttl_ns,
        });
        seq
    }
}

#[cfg(test)]
mod tests;
