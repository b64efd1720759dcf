//! `Bounded` and `Strict`: the owner's pool and what it granted are the ledger.
//!
//! **What always holds** (the proof of Strict in `docs/consistency.md` rests on it). Write `rho_i`, `c_i` for what holder `i`
//! may have in force, and `l` for the pool's level, which refills at `rho_0` up to `c_0`. Then `rho_0 + sum rho_i <= R`,
//! `c_0 + sum c_i <= B`, and `l` plus the holders' levels never grows but by refilling. For that a *grow* counts from when
//! it is sent, a *shrink* only from when its acknowledgement arrives or its time is over. One change per holder is on its
//! way at a time; until it is answered, the larger of old and new counts, rate and capacity each for itself.

use alloc::vec::Vec;

use ratelimit_model::{Gcra, LEVEL_BITS, WHOLE_SHARE};

use super::{Account, Booked, DRIFT_PARTS, Desk, Terms, shares};
use crate::id::NodeId;
use crate::limits::{LimitNumbers, Mode};
use crate::message::{Entry, LeaseAck};

/// What one holder may have in force.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commitment {
    /// Share and capacity that the holder confirmed.
    confirmed: (u64, u64),
    confirmed_seq: u64,
    /// The change that is on its way: number, share, capacity.
    sent: Option<(u64, u64, u64)>,
    granted_ns: u64,
    /// When nothing of it can be in force any more, on this node's clock.
    expires_ns: u64,
    /// It asked for more than there was.
    hungry: bool,
}

impl Commitment {
    pub(crate) fn is_any(&self) -> bool {
        self.confirmed != (0, 0) || self.sent.is_some()
    }

    fn most(&self) -> (u64, u64) {
        let (share, capacity) = self.confirmed;
        match self.sent {
            Some((_, s, c)) => (share.max(s), capacity.max(c)),
            None => (share, capacity),
        }
    }
}

/// What is not granted to anybody.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Units with fraction bits; below 0 is a debt, from overdrafts.
    level: i128,
    at_ns: u64,
}

fn units(level: u64) -> i128 {
    i128::from(level) << LEVEL_BITS
}

/// The rate and the burst that may be granted: all but the floors, which belong to the nodes whether they are used or not.
fn whole(gcra: &Gcra, mode: Mode, terms: &Terms) -> (u64, u64) {
    match floor_of(gcra, mode, terms.max_nodes) {
        Some((share, tokens)) => (
            WHOLE_SHARE - share * terms.max_nodes,
            gcra.burst().saturating_sub(tokens * terms.max_nodes),
        ),
        None => (WHOLE_SHARE, gcra.burst()),
    }
}

/// Share and capacity that each node may always spend on a `Strict` key whose owner is gone; `None` if the floor is 0, or
/// too small for one unit a node.
pub(crate) fn floor_of(gcra: &Gcra, mode: Mode, max_nodes: u64) -> Option<(u64, u64)> {
    let Mode::Strict { floor_ppm } = mode else {
        return None;
    };
    let parts =
        |whole: u64| (u128::from(whole) * u128::from(floor_ppm) / 1_000_000 / u128::from(max_nodes.max(1))) as u64;
    let (share, tokens) = (parts(WHOLE_SHARE), parts(gcra.burst()));
    (share > 0 && tokens > 0).then_some((share, tokens))
}

impl Pool {
    /// In an owner's first life a key without an account has spent nothing. In a later one it may have spent its burst before:
    /// the bucket is empty when the silence ends, and full a burst's time later.
    pub(crate) fn open(gcra: &Gcra, mode: Mode, terms: &Terms) -> Self {
        if terms.empty_at_ns.is_none() {
            return Pool {
                level: units(whole(gcra, mode, terms).1),
                at_ns: terms.now_ns,
            };
        }
        let mut pool = Pool {
            level: 0,
            at_ns: terms.silent_until_ns,
        };
        let (share, capacity) = whole(gcra, mode, terms);
        pool.refill(gcra, share, capacity, terms.now_ns);
        pool
    }

    fn refill(&mut self, gcra: &Gcra, share: u64, capacity: u64, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.at_ns);
        self.at_ns = self.at_ns.max(now_ns);
        let refilled = gcra.refilled(elapsed, share - share.div_ceil(DRIFT_PARTS));
        self.level = self
            .level
            .saturating_add(i128::try_from(refilled).unwrap_or(i128::MAX))
            .min(units(capacity));
    }

    /// Takes units out, down to a debt of `most`.
    pub(crate) fn charge(&mut self, used: u64, most: i128) {
        self.level = self.level.saturating_sub(units(used)).max(self.level.min(-most));
    }

    /// Whole units below 0.
    pub(crate) fn debt(&self) -> u64 {
        let debt = self.level.min(0).unsigned_abs().div_ceil(1 << LEVEL_BITS);
        u64::try_from(debt).unwrap_or(u64::MAX)
    }

    fn available(&self) -> u64 {
        u64::try_from(self.level.max(0) >> LEVEL_BITS).unwrap_or(u64::MAX)
    }

    pub(crate) fn is_full(&self, gcra: &Gcra, mode: Mode, terms: &Terms) -> bool {
        self.level >= units(whole(gcra, mode, terms).1)
    }

    #[cfg(test)]
    pub(crate) fn level(&self) -> i128 {
        self.level
    }
}

impl Account {
    /// Brings the pool up to now, and takes back what nobody can have in force any more.
    pub(super) fn settle(&mut self, terms: &Terms) {
        let (share, capacity) = self.ungranted(terms);
        self.pool.refill(&self.gcra, share, capacity, terms.now_ns);
        for holder in &mut self.holders {
            let commitment = &mut holder.commitment;
            if commitment.is_any() && commitment.expires_ns <= terms.now_ns {
                // Its tokens count as spent.
                (commitment.confirmed, commitment.sent) = ((0, 0), None);
            }
        }
    }

    /// `sum rho_i` and `sum c_i`.
    pub(super) fn granted(&self) -> (u128, u128) {
        self.holders.iter().fold((0, 0), |(share, capacity), holder| {
            let most = holder.commitment.most();
            (share + u128::from(most.0), capacity + u128::from(most.1))
        })
    }

    /// `rho_0` and `c_0`: what is left, which is nothing while a lowered limit waits for its holders.
    fn ungranted(&self, terms: &Terms) -> (u64, u64) {
        let (whole, granted) = (whole(&self.gcra, self.mode, terms), self.granted());
        let left = |whole: u64, granted: u128| u64::try_from(u128::from(whole).saturating_sub(granted)).unwrap_or(0);
        (left(whole.0, granted.0), left(whole.1, granted.1))
    }

    /// What is granted is told as parts of the limit, and stays what it is when the limit changes.
    pub(super) fn follow_hard(&mut self, limit: &LimitNumbers, terms: &Terms) {
        self.settle(terms);
        if !limit.spec.mode.is_hard() {
            // The debt goes with the account: the pool's missing units are what is owed.
            let missing = units(self.gcra.burst()) - self.pool.level;
            let owed = u128::try_from(missing).unwrap_or(0);
            self.tat_ns = terms.now_ns.saturating_add(limit.gcra.time_of(owed));
            self.holders
                .iter_mut()
                .for_each(|holder| holder.commitment = Commitment::default());
            return;
        }
        let (old, new) = (self.gcra.interval_q40(), limit.gcra.interval_q40());
        let convert = |share: u64| {
            // A lower rate makes an old share a larger part of it, perhaps more than all.
            u64::try_from((u128::from(share) * new).div_ceil(old)).unwrap_or(u64::MAX)
        };
        for holder in &mut self.holders {
            let commitment = &mut holder.commitment;
            commitment.confirmed.0 = convert(commitment.confirmed.0);
            if let Some((_, share, _)) = &mut commitment.sent {
                *share = convert(*share);
            }
        }
        (self.gcra, self.mode) = (limit.gcra, limit.spec.mode);
        let capacity = self.ungranted(terms).1;
        self.pool.level = self.pool.level.min(units(capacity));
    }

    pub(super) fn book_hard(
        &mut self,
        entry: &Entry,
        used: u64,
        index: Option<usize>,
        desk: &mut Desk<'_>,
        booked: &mut Booked,
    ) {
        let terms = desk.terms;
        self.settle(terms);
        if !entry.leased {
            if entry.refund {
                let capacity = self.ungranted(terms).1;
                self.pool.level = self.pool.level.saturating_add(units(used)).min(units(capacity));
            } else if let Mode::Bounded { units: overdraft } = self.mode {
                let nodes = (self.holders.len() as u64 + 1).max(terms.max_nodes);
                let most = units(self.gcra.burst()).saturating_add(units(overdraft.saturating_mul(nodes)));
                self.pool.charge(used, most);
            }
            // In Strict only a floor is spent without a lease, and floors are not in the pool.
        }
        booked.in_debt = self.pool.level < 0;
        if let Some(index) = index {
            self.answer_hard(index, desk);
        }
    }

    pub(super) fn acknowledged_hard(&mut self, node: NodeId, ack: &LeaseAck, linked_ns: u64, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        self.settle(terms);
        let Some(holder) = self.holders.iter_mut().find(|holder| holder.node == node) else {
            return;
        };
        let commitment = &mut holder.commitment;
        // A holder gives back at most what it held and what it was sent; a broken one must not make tokens.
        let most = commitment
            .confirmed
            .1
            .saturating_add(commitment.sent.map_or(0, |(_, _, capacity)| capacity));
        let returned = ack.returned.min(most);
        if let Some((sent, share, capacity)) = commitment.sent
            && sent == ack.seq
        {
            commitment.sent = None;
            commitment.confirmed_seq = ack.seq;
            commitment.confirmed = if ack.ended { (0, 0) } else { (share, capacity) };
        } else if ack.seq == commitment.confirmed_seq && commitment.is_any() {
            if ack.ended {
                // What is on its way stays so: it may still arrive.
                commitment.confirmed = (0, 0);
            }
            if ack.declared && commitment.granted_ns < linked_ns {
                // Said first on a new link: what was sent on the old one is void, and its tokens with it.
                commitment.sent = None;
            }
        } else {
            return;
        }
        let capacity = self.ungranted(terms).1;
        self.pool.level = self.pool.level.saturating_add(units(returned)).min(units(capacity));
        let hungry: Vec<usize> = (0..self.holders.len())
            .filter(|i| self.holders[*i].commitment.hungry)
            .collect();
        for index in hungry {
            self.answer_hard(index, desk);
        }
    }

    /// Offers holder `index` its part as far as it is free, and asks others for what they hold beyond theirs.
    fn answer_hard(&mut self, index: usize, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        let now_ns = terms.now_ns;
        if now_ns < terms.silent_until_ns {
            return;
        }
        let weights: Vec<u64> = self
            .holders
            .iter()
            .map(|holder| holder.demand.settled(terms.interval_ns, now_ns))
            .collect();
        let active: Vec<usize> = (0..weights.len())
            .filter(|i| *i == index || weights[*i] > 1 << 12 || self.holders[*i].commitment.is_any())
            .collect();
        let active_weights: Vec<u64> = active.iter().map(|i| weights[*i]).collect();
        let whole = whole(&self.gcra, self.mode, terms);
        let target_shares = shares::divide(whole.0, &active_weights);
        let target_capacities = shares::divide(whole.1, &active_weights);
        let targets: Vec<(usize, u64, u64)> = active
            .iter()
            .zip(target_shares.iter().zip(&target_capacities))
            .map(|(i, (share, capacity))| {
                (
                    *i,
                    *share,
                    (*capacity).max(self.holders[*i].largest).max(1).min(whole.1),
                )
            })
            .collect();
        let Some(&(_, target_share, target_capacity)) = targets.iter().find(|(i, _, _)| *i == index) else {
            return;
        };
        let free = if terms.switches.get().grow_before_shrink {
            whole
        } else {
            self.ungranted(terms)
        };
        let granted = self.granted();
        let available = self.pool.available();
        let holder = &mut self.holders[index];
        let asked = holder.denied;
        let commitment = &mut holder.commitment;
        if commitment.sent.is_some() {
            commitment.hungry = asked;
            return;
        }
        let (held_share, held_capacity) = commitment.confirmed;
        let near = |held: u64, target: u64| held.abs_diff(target) <= held / 16;
        // Shrinking is left to those who ask for what this one has too much of (see below), unless the limit was lowered and
        // more is granted than there is.
        let next = |held: u64, free: u64, target: u64, over: bool| match over {
            true => held.min(target),
            false => held.max(held.saturating_add(free).min(target)),
        };
        let share = next(held_share, free.0, target_share, granted.0 > u128::from(whole.0));
        let capacity = next(held_capacity, free.1, target_capacity, granted.1 > u128::from(whole.1));
        let first = !commitment.is_any();
        let tokens = if first || asked || capacity > held_capacity {
            available.min(capacity)
        } else {
            0
        };
        let changed = !(near(held_share, share) && near(held_capacity, capacity));
        let old = now_ns.saturating_sub(commitment.granted_ns) >= terms.ttl_ns / 3;
        let worth_it = if first {
            share > 0 && capacity > 0
        } else {
            changed || tokens > 0 || old
        };
        commitment.hungry = (asked || first) && (share < target_share || capacity < target_capacity);
        let hungry = commitment.hungry;
        if worth_it {
            self.grant(index, share, capacity, tokens, desk);
        }
        if hungry {
            for (other, share, capacity) in targets {
                let commitment = &self.holders[other].commitment;
                let held = commitment.confirmed;
                let too_much = |held: u64, target: u64| held > target && !near(held, target);
                if other != index
                    && commitment.sent.is_none()
                    && (too_much(held.0, share) || too_much(held.1, capacity))
                {
                    self.grant(other, held.0.min(share), held.1.min(capacity), 0, desk);
                }
            }
        }
    }

    fn grant(&mut self, index: usize, share: u64, capacity: u64, tokens: u64, desk: &mut Desk<'_>) {
        let terms = desk.terms;
        self.pool.level -= units(tokens);
        let holder = &mut self.holders[index];
        let seq = desk.offer(holder.node, share, capacity, tokens);
        let commitment = &mut holder.commitment;
        commitment.sent = Some((seq, share, capacity));
        if terms.switches.get().ignore_acknowledgements {
            (commitment.confirmed, commitment.confirmed_seq, commitment.sent) = ((share, capacity), seq, None);
        }
        commitment.granted_ns = terms.now_ns;
        let stretched_ns = terms.ttl_ns.saturating_add(terms.ttl_ns.div_ceil(DRIFT_PARTS));
        commitment.expires_ns = commitment.expires_ns.max(terms.now_ns.saturating_add(stretched_ns));
        let capacity_left = self.ungranted(terms).1;
        self.pool.level = self.pool.level.min(units(capacity_left));
    }
}
