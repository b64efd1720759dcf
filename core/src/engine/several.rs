//! Deciding by several limits, overrides and blocks.

use std::time::Duration;

use ratelimit_model::{Decision, Gcra, time};

use super::Engine;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Axis, MAX_LIMITS, Ruling};

/// 208 days.
pub(super) const LONGEST_BLOCK_NS: u64 = ratelimit_model::MAX_TOLERANCE_NS;

impl Engine {
    /// With several limits, overrides or blocks, and for clients without a cell.
    #[cold]
    #[inline(never)]
    pub(super) fn decide_the_long_way(&self, client: Fingerprint, now: u64, axis: Axis, cost: u64) -> Decision {
        let asked = &Asked {
            now,
            axis,
            cost,
            clock: &self.clock,
            under: None,
        };
        let decision = self.decide_by_all(client, asked);
        if decision.allowed && asked.axis == Axis::Given && self.table.has_records() {
            // A change of override measures by this time what the client has spent.
            self.table.raise_given_now(asked.now);
        }
        decision
    }

    fn decide_by_all(&self, client: Fingerprint, asked: &Asked<'_>) -> Decision {
        if let Some(blocked) = self.blocked(client, asked).or_else(|| self.refused(asked)) {
            return blocked;
        }
        let limits = self.limits_of(client);
        let client = self.cell_of(client, asked.axis);
        if limits == 1 {
            return self.table.decide(client, 0, asked).decision();
        }
        // All are asked before any is charged, so that a denial writes nothing (but what brings a cell up to date).
        let asked_first = self.binding((0..limits).map(|limit| self.table.ask(client, limit, asked)));
        if !asked_first.allowed {
            if self.is_clustered() && asked.axis == Axis::Own {
                self.want(client, asked);
            }
            return asked_first;
        }
        let mut rulings: [Option<Ruling>; MAX_LIMITS] = [None; MAX_LIMITS];
        for (limit, charged) in rulings.iter_mut().enumerate().take(limits) {
            let ruling = self.table.decide(client, limit, asked);
            if !ruling.allowed {
                // Another thread was faster at this limit. What was charged goes back; whoever saw it charged meanwhile
                // may have been denied one request too many, never allowed one.
                for (earlier, charged) in rulings.iter().flatten().enumerate() {
                    if self.is_clustered() {
                        self.give_back(client, earlier, asked);
                    } else {
                        self.table.take_back(client, earlier, asked, charged.tat);
                    }
                }
                return ruling.decision();
            }
            *charged = Some(ruling);
        }
        self.binding(rulings.into_iter().flatten())
    }

    /// Tells the owners of a request that some of several limits deny: it is decided under those, which says so beside the cell.
    #[cold]
    fn want(&self, client: Fingerprint, asked: &Asked<'_>) {
        for limit in 0..self.limits {
            let is_denied = !self.table.peek(client, limit, asked).allowed;
            // Allowed after all, since a lease came meanwhile: but the request is denied as a whole.
            if is_denied && self.table.decide(client, limit, asked).allowed {
                self.give_back(client, limit, asked);
            }
        }
    }

    pub(super) fn give_back(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) {
        let sent = self.table.refund(client, limit, asked);
        if sent > 0
            && let Some(refunds) = &self.refunds
        {
            refunds.add(self.table.key(client, limit), limit, sent);
        }
    }

    /// Where a client is kept. By times that are given, a node of a cluster keeps it apart: cells by the own clock may be under
    /// leases, which know no other time.
    pub(super) fn cell_of(&self, client: Fingerprint, axis: Axis) -> Fingerprint {
        match axis {
            Axis::Given if self.is_clustered() => client.of_given(),
            _ => client,
        }
    }

    /// What is said to a request whose time is given under a limit that only an owner can keep.
    pub(super) fn refused(&self, asked: &Asked<'_>) -> Option<Decision> {
        if asked.axis == Axis::Own || asked.cost == 0 || !self.is_clustered() {
            return None;
        }
        let limit = (0..self.limits).find(|&limit| self.table.is_hard(limit))?;
        let burst = self.table.rule_without_lease(0, limit).0.burst();
        Some(Decision::new(false, burst, 0, Decision::NEVER, Duration::ZERO))
    }

    /// Of several rulings the one that binds.
    pub(super) fn binding(&self, rulings: impl Iterator<Item = Ruling>) -> Decision {
        let decisions = rulings.map(|ruling| ruling.decision());
        decisions
            .reduce(|a, b| if b.binds_more_than(&a) { b } else { a })
            .unwrap_or_default()
    }

    /// How many limits hold for a client: one that has its own is under that alone.
    pub(super) fn limits_of(&self, client: Fingerprint) -> usize {
        if self.limits > 1 && self.table.has_records() && self.table.record(client).override_limit().is_some() {
            return 1;
        }
        self.limits
    }

    pub(super) fn blocked(&self, client: Fingerprint, asked: &Asked<'_>) -> Option<Decision> {
        if asked.cost == 0 || !self.table.has_records() {
            return None;
        }
        let until = self.table.record(client.of_block()).blocked_until()?;
        let now = if asked.axis == Axis::Own {
            asked.now
        } else {
            self.clock.now()
        };
        let left = time::ahead(until, now);
        // What seems to be longer than any block that is made is long over, and time has come round; unless it is so by no
        // more than a clock may have been set back: 13 days.
        if left == 0 || left > LONGEST_BLOCK_NS + LONGEST_BLOCK_NS / 16 {
            return None;
        }
        let shown = self.binding((0..self.limits_of(client)).map(|limit| self.table.peek(client, limit, asked)));
        let left = Duration::from_nanos(left);
        // Once the block is over the debt still counts, and a cost above the burst never fits.
        let retry_after = left.max(shown.retry_after);
        Some(Decision::new(
            false,
            shown.limit,
            0,
            retry_after,
            left.max(shown.reset_after),
        ))
    }
}

impl<'a> Asked<'a> {
    /// The same request under a limit of the caller's.
    pub(crate) fn under<'b>(&self, gcra: &'b Gcra) -> Asked<'b>
    where
        'a: 'b,
    {
        Asked {
            under: Some(gcra),
            ..*self
        }
    }
}
