//! `Eventual`: one GCRA that is charged with what was spent, debts allowed, and shares for those who spend too fast.

use alloc::vec::Vec;

use ratelimit_model::{Gcra, LEVEL_BITS, WHOLE_SHARE};

use super::{Account, Demand, Desk, Holder, Terms, shares};
use crate::id::NodeId;
use crate::membership::SUSPECT_NS;
use crate::message::Entry;

/// A debt is repaid in this time, by giving away less than the rate.
const REPAY_NS: u64 = 500_000_000;
/// However deep the debt, this part of the rate is given away: a twentieth. Repaying slower would leave room for the burst
/// of a node that starts anew.
const LEAST_POOL: u64 = 20;
/// A lease of a small share holds for four times what it takes to refill a unit, but no longer than this.
const MOST_TTL_NS: u64 = 16_000_000_000;
/// Room of a lease, if the burst allows.
const LEAST_CAPACITY: u64 = 4;
/// Whatever others hold, each gets this part of an equal share.
const LEAST_SHARE: u64 = 20;

impl Account {
    pub(super) fn book_soft(&mut self, entry: &Entry, used: u64, index: Option<usize>, seen: u64, desk: &mut Desk<'_>) {
        let now_ns = desk.terms.now_ns;
        let time_ns = self.group(desk.terms).time_of(u128::from(used) << LEVEL_BITS);
        if entry.refund {
            self.tat_ns = self.tat_ns.saturating_sub(time_ns);
        } else {
            let start_ns = self.tat_ns.max(now_ns);
            self.tat_ns = start_ns
                .saturating_add(time_ns)
                .min(self.latest(seen, desk.terms).max(start_ns));
        }
        if let Some(index) = index {
            self.answer_soft(index, desk);
        }
    }

    /// What this owner's side of a partition may spend of the limit: all of it, but under the policy `share`.
    fn group(&self, terms: &Terms) -> Gcra {
        if terms.pool >= WHOLE_SHARE {
            return self.gcra;
        }
        let burst = (u128::from(self.gcra.burst()) * u128::from(terms.pool)) >> 32;
        self.gcra
            .part(terms.pool, u64::try_from(burst).unwrap_or(u64::MAX).max(1))
    }

    /// The clamp on a debt: a burst for each node seen, never more than the configured number of bursts.
    fn latest(&self, seen: u64, terms: &Terms) -> u64 {
        let bursts = 1 + seen.min(terms.debt_bursts);
        terms
            .now_ns
            .saturating_add(self.gcra.tolerance_ns().saturating_mul(bursts))
    }

    pub(super) fn inherit(&mut self, units: u64, terms: &Terms) {
        let until_ns = terms
            .now_ns
            .saturating_add(self.gcra.time_of(u128::from(units) << LEVEL_BITS));
        self.tat_ns = self.tat_ns.max(until_ns.min(self.latest(u64::MAX, terms)));
        // No holder has reported here yet, and the first to do so would get what all the others still hold.
        self.quiet_until_ns = terms.now_ns.saturating_add(2 * terms.interval_ns);
    }

    /// Units owed until the bucket is full, rounded up.
    pub(crate) fn owed(&self, now_ns: u64) -> u64 {
        u64::try_from(self.gcra_units(self.tat_ns.saturating_sub(now_ns))).unwrap_or(u64::MAX)
    }

    /// Units that holders may have spent since they last reported, and units that their leases have left: the books do not
    /// know of the first, and must not give the second away again.
    fn outstanding(&self, terms: &Terms) -> (u64, u64) {
        let (mut unheard, mut left) = (0u128, 0u128);
        for holder in self.holders.iter().filter(|holder| holder.offered > 0) {
            unheard += holder.unheard(&self.gcra, terms);
            left += holder.left;
        }
        let whole = |level: u128| u64::try_from(level >> LEVEL_BITS).unwrap_or(u64::MAX);
        (whole(unheard), whole(left))
    }

    /// Holders that stopped reporting without giving their lease back are cut off or dead. What they may have spent until
    /// that shows is charged; what they spend from then on is held back elsewhere, or charged when they are heard again.
    pub(super) fn presume(&mut self, terms: &Terms) {
        let now_ns = terms.now_ns;
        let latest_ns = self.latest(self.holders.len() as u64, terms);
        for holder in &mut self.holders {
            let silent_ns = now_ns.saturating_sub(holder.heard_ns);
            if holder.offered == 0 || silent_ns < SUSPECT_NS.max(holder.offered_ttl_ns + 2 * terms.interval_ns) {
                continue;
            }
            let spent = holder.unheard(&self.gcra, terms);
            let start_ns = self.tat_ns.max(now_ns);
            self.tat_ns = start_ns
                .saturating_add(self.gcra.time_of(spent))
                .min(latest_ns.max(start_ns));
            holder.prepay(u64::try_from(spent >> LEVEL_BITS).unwrap_or(u64::MAX));
            (holder.offered, holder.left) = (0, 0);
        }
    }

    fn answer_soft(&mut self, index: usize, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        let now_ns = terms.now_ns;
        self.presume(terms);
        if now_ns < self.quiet_until_ns {
            return;
        }
        let group = self.group(terms);
        let tolerance_ns = group.tolerance_ns();
        let backlog_ns = self.tat_ns.saturating_sub(now_ns);
        let weights: Vec<u64> = self.holders.iter().map(|holder| holder.weight(terms)).collect();
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        let rate = (u128::from(Demand::of_rate(self.gcra.interval_q40())) * u128::from(terms.pool)) >> 32;
        let (unheard, left) = self.outstanding(terms);
        let unheard_ns = group.time_of(u128::from(unheard) << LEVEL_BITS);
        // Half a burst gone, or seven tenths of the rate asked for; and it is over only at a quarter and six tenths, so that
        // a key does not swing between shares and all of it.
        let (backlog_parts, demand_parts) = if self.contended { (4, 6) } else { (2, 7) };
        let contended =
            backlog_ns.saturating_add(unheard_ns) > tolerance_ns / backlog_parts || total * 10 > rate * demand_parts;
        let level = ((group.level(backlog_ns) >> LEVEL_BITS) as u64)
            .saturating_sub(unheard)
            .saturating_sub(left);
        let became = contended && !self.contended;
        // Whoever had a lease of the owner before has units of it left, which are not in these books: none are given away on
        // top of them.
        let level = if became && self.quiet_until_ns > 0 { 0 } else { level };
        self.contended = contended;
        if !contended {
            // A quiet key costs no message. One that was cut short by its cold rate or an old share gets all there is.
            let holder = &mut self.holders[index];
            if holder.denied {
                holder.offer(terms.pool, group.burst(), level, terms.ttl_ns, now_ns);
                desk.offer(holder.node, terms.pool, group.burst(), level, terms.ttl_ns);
            }
            return;
        }
        // A debt of d units is d*T of time: giving away 1 - d*T/0.5 s of the rate repays it in half a second.
        let debt_ns = backlog_ns
            .saturating_add(unheard_ns)
            .saturating_sub(tolerance_ns)
            .min(REPAY_NS);
        let repaid = terms.pool - (u128::from(terms.pool) * u128::from(debt_ns) / u128::from(REPAY_NS)) as u64;
        let pool = repaid.max(terms.pool / LEAST_POOL);
        let shares = shares::divide(pool, &weights);
        let of_level: Vec<u64> = weights
            .iter()
            .map(|weight| {
                (u128::from(level) * u128::from(*weight))
                    .checked_div(total)
                    .unwrap_or(0) as u64
            })
            .collect();
        if became {
            // All are told at once when it begins, since they may spend a burst each until their next report.
            for (i, share) in shares.iter().enumerate() {
                self.offer_soft(i, *share, of_level[i], &group, desk);
            }
            return;
        }
        // What is offered adds up to no more than there is, however late the reports are: a holder grows into what others
        // were told to leave.
        let others = |account: &Account| {
            let holders = account.holders.iter().enumerate().filter(|(i, _)| *i != index);
            holders
                .map(|(_, holder)| holder.in_force(terms))
                .fold(0, u64::saturating_add)
        };
        if shares[index].saturating_add(others(self)) > pool {
            for (i, share) in shares.iter().enumerate() {
                let held = self.holders[i].in_force(terms);
                if i != index && held > share.saturating_add(share / 16) {
                    self.offer_soft(i, *share, 0, &group, desk);
                }
            }
        }
        let least = shares[index].min(terms.pool / LEAST_SHARE / self.holders.len() as u64);
        let share = shares[index].min(pool.saturating_sub(others(self))).max(least);
        self.offer_soft(index, share, of_level[index], &group, desk);
    }

    fn offer_soft(&mut self, index: usize, share: u64, tokens: u64, group: &Gcra, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        let refill = (self.gcra.refilled(terms.interval_ns, share) >> LEVEL_BITS) as u64;
        // With room for one, a request that comes a moment early is lost for good. Many nodes get no more room than four
        // bursts together.
        let nodes = self.holders.len() as u64;
        let least = (group.burst().saturating_mul(4) / nodes).clamp(1, LEAST_CAPACITY);
        let holder = &mut self.holders[index];
        let capacity = holder.largest.max(least).max(refill).max(tokens).min(group.burst());
        // The same again, soon after, says nothing new.
        let same = share.abs_diff(holder.offered) <= holder.offered / 64;
        if same && !holder.denied && terms.now_ns.saturating_sub(holder.offered_ns) < holder.offered_ttl_ns / 2 {
            return;
        }
        // A lease that ends before it has refilled a unit is of no use.
        let unit_ns = self.gcra.part(share.max(1), 1).time_of(1 << LEVEL_BITS);
        let ttl_ns = unit_ns
            .saturating_mul(4)
            .clamp(terms.ttl_ns, MOST_TTL_NS.max(terms.ttl_ns));
        holder.offer(share, capacity, tokens, ttl_ns, terms.now_ns);
        desk.offer(holder.node, share, capacity, tokens, ttl_ns);
    }

    /// What a node that has not used the key yet is told when it joins: a share to begin with and no tokens, so that it does
    /// not begin with a burst of its own on a key that is contended.
    pub(super) fn welcome_soft(&mut self, node: NodeId, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        let equal = terms.pool / (self.holders.len() as u64 + 1);
        let refill = (self.gcra.refilled(terms.interval_ns, equal) >> LEVEL_BITS) as u64;
        desk.offer(node, equal, refill.max(1), 0, terms.ttl_ns);
    }
}

impl Holder {
    /// The holder reported `used` units: what that leaves of its lease.
    pub(super) fn spend(&mut self, used: u64, gcra: &Gcra, now_ns: u64) {
        if self.offered > 0 {
            let refilled = gcra.refilled(now_ns.saturating_sub(self.heard_ns), self.offered);
            let most = u128::from(self.offered_capacity) << LEVEL_BITS;
            self.left = (self.left + refilled)
                .saturating_sub(u128::from(used) << LEVEL_BITS)
                .min(most);
        }
    }

    /// What it may have spent since it last reported, with fraction bits.
    fn unheard(&self, gcra: &Gcra, terms: &Terms) -> u128 {
        let since_ns = terms.now_ns.saturating_sub(self.heard_ns);
        gcra.refilled(since_ns, self.offered)
            .min(self.demand.spent_in(since_ns))
    }

    /// What it asks for. One that holds a lease and is silent is held up, and goes on: were it idle, it would give the
    /// lease back. So what it has is not given to others before its time is over.
    fn weight(&self, terms: &Terms) -> u64 {
        if self.in_force(terms) > 0 {
            self.demand.last()
        } else {
            self.demand.settled(terms.interval_ns, terms.now_ns)
        }
    }

    /// The share that it may have in force.
    fn in_force(&self, terms: &Terms) -> u64 {
        let over = terms.now_ns.saturating_sub(self.offered_ns) >= self.offered_ttl_ns;
        if over { 0 } else { self.offered }
    }

    fn offer(&mut self, share: u64, capacity: u64, tokens: u64, ttl_ns: u64, now_ns: u64) {
        (self.offered, self.offered_capacity, self.offered_ns) = (share, capacity, now_ns);
        self.offered_ttl_ns = ttl_ns;
        self.left = (self.left + (u128::from(tokens) << LEVEL_BITS)).min(u128::from(capacity) << LEVEL_BITS);
    }
}
