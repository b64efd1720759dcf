//! This node as a holder: the leases that it takes and gives back, and the rules for keys without one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use ratelimit_model::{Gcra, LEVEL_BITS, WHOLE_SHARE};

use super::Node;
use crate::config::OnPartition;
use crate::id::{Cell, Incarnation, NodeId};
use crate::ledger::{DRIFT_PARTS, floor_of};
use crate::limits::{LimitNumbers, Mode};
use crate::message::{Entry, Grant, LeaseAck};
use crate::ownership::{PARTITIONS, partition};
use crate::rules::{Lease, Rules, Unleased};
use crate::store::Store;

/// A restarted node runs without overdraft for a burst's time, but no longer than this.
const MOST_WITHOUT_OVERDRAFT_NS: u64 = 60_000_000_000;

impl Node {
    /// A grant of this node's own books. Returns what a remote holder would acknowledge.
    pub(super) fn take_own_grant<S: Store>(&mut self, grant: &Grant, store: &mut S) -> Option<LeaseAck> {
        let (me, life, now_ns) = (self.me, self.incarnation, self.now_ns);
        self.take_grant(me, life, Some(now_ns), grant, store)
    }

    /// `unheard`: units by cell that are on their way to the owner since the report that it answers.
    pub(super) fn receive_grant<S: Store>(
        &mut self,
        id: NodeId,
        after: u64,
        grant: &Grant,
        unheard: &BTreeMap<Cell, u64>,
        store: &mut S,
    ) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let (Some(life), sent_ns) = (peer.life, peer.outbox.sent_at(after)) else {
            return;
        };
        let soft = self
            .limits
            .get(grant.cell.limit)
            .is_some_and(|limit| !limit.spec.mode.is_hard());
        let unheard = unheard.get(&grant.cell).copied().filter(|_| soft).unwrap_or(0);
        // The owner gave tokens of an Eventual key without knowing of these. A hard grant's tokens are the ledger.
        let grant = Grant {
            tokens: grant.tokens.saturating_sub(unheard),
            ..*grant
        };
        let ack = self.take_grant(id, life, sent_ns, &grant, store);
        if let (Some(ack), Some(peer)) = (ack, self.peers.get_mut(&id)) {
            queue_ack(peer, ack, self.config.caps.answers_per_peer);
            self.ready.extend(peer.link);
        }
    }

    /// `sent_ns`: when the report was sent that this answers: the lease's time counts from there.
    fn take_grant<S: Store>(
        &mut self,
        owner: NodeId,
        owner_life: Incarnation,
        sent_ns: Option<u64>,
        grant: &Grant,
        store: &mut S,
    ) -> Option<LeaseAck> {
        let now_ns = self.now_ns;
        let cell = grant.cell;
        let limit = self.limits.get(cell.limit).copied();
        let hard = limit.is_some_and(|limit| limit.spec.mode.is_hard());
        let held = self
            .leases
            .get(cell)
            .copied()
            .filter(|held| held.owner == owner && held.owner_life == owner_life);
        if held.is_some_and(|held| grant.seq <= held.seq) {
            return None;
        }
        let ttl_ns = grant.ttl_ms.min(60_000).saturating_mul(1_000_000);
        let until_ns = match sent_ns {
            // The owner counts longer, from later; so this is over first, by clocks of any speed within 500 ppm.
            Some(sent_ns) if hard => sent_ns.saturating_add(ttl_ns - ttl_ns.div_ceil(DRIFT_PARTS)),
            Some(sent_ns) => sent_ns.saturating_add(ttl_ns),
            None if hard => 0,
            None => now_ns.saturating_add(ttl_ns),
        };
        // An earlier grant's time stays good for what both give: the owner counts from the later one, too.
        let until_ns = until_ns.max(held.map_or(0, |held| held.until_ns));
        let of_owner = self.owner(cell) == Some(owner);
        let usable = match limit {
            Some(limit) => of_owner && limit.spec.version == grant.version && self.leaving.is_none(),
            None => false,
        };
        let nothing = grant.share == 0 || grant.capacity == 0 || until_ns <= now_ns;
        let (Some(limit), true, false) = (limit, usable && self.leases.has_room(cell), nothing) else {
            // A soft share that means nothing here is only left; a hard one's tokens must go back, and whatever is in
            // force of it must end, or the owner could not know what is.
            if !hard {
                return None;
            }
            let of_this = self.leases.get(cell).is_some_and(|held| held.owner == owner);
            let left = if of_this { self.end_lease(cell, store) } else { 0 };
            return Some(LeaseAck {
                cell,
                seq: grant.seq,
                returned: grant.tokens.saturating_add(left),
                ended: true,
                declared: false,
            });
        };
        let share = if hard {
            grant.share - grant.share.div_ceil(DRIFT_PARTS)
        } else {
            grant.share
        };
        let gcra = limit.gcra.part(share, grant.capacity);
        let refill = units_in(&gcra, self.config.interval_ns);
        let lease = Lease {
            seq: grant.seq,
            gcra,
            tokens: grant.tokens,
            hard,
            until_ns,
            urgent_units: self.urgent_units(&limit.gcra).max(refill),
        };
        let outcome = store.give_lease(cell, &lease, now_ns);
        if outcome.given {
            self.leases.put(cell, owner, owner_life, grant.seq, hard, until_ns);
            // Not a hard one, which keeps others from what it holds.
            if !hard {
                let unit_passes = gcra.time_of(1 << LEVEL_BITS) / self.config.interval_ns;
                self.leases
                    .be_patient(cell, u32::try_from(unit_passes).unwrap_or(u32::MAX));
            }
        } else {
            self.leases.remove(cell);
        }
        hard.then_some(LeaseAck {
            cell,
            seq: grant.seq,
            returned: outcome.returned,
            ended: !outcome.given,
            declared: false,
        })
    }

    fn end_lease<S: Store>(&mut self, cell: Cell, store: &mut S) -> u64 {
        self.leases.remove(cell);
        store.end_lease(cell, self.now_ns)
    }

    /// Leases whose time is over. A hard one is void: its tokens count as spent. A soft one goes on while its owner is not
    /// heard, since a share is closer to the truth than a fresh burst.
    pub(super) fn end_leases_in_time<S: Store>(&mut self, store: &mut S) {
        for cell in self.leases.over(self.now_ns) {
            let Some(held) = self.leases.get(cell).copied() else {
                continue;
            };
            // Under `share` the others hold back an equal part for a node that they do not hear: more would be given twice.
            let equal = self.config.on_partition == OnPartition::Share;
            if held.hard || equal || self.answers(held.owner) || self.owner(cell) != Some(held.owner) {
                self.end_lease(cell, store);
            } else {
                self.leases.postpone(cell, self.now_ns + self.config.ttl_ns / 4);
            }
        }
    }

    /// Whether an owner would have renewed a lease if it had wanted to: it is heard, and acknowledges what it is sent.
    fn answers(&self, owner: NodeId) -> bool {
        let waits = self.peers.get(&owner).and_then(|peer| peer.outbox.waits_since());
        let waits = waits.is_some_and(|since_ns| self.now_ns.saturating_sub(since_ns) >= 4 * self.config.interval_ns);
        !waits && self.membership.unseen_ns(owner, self.now_ns) < self.membership.patience_ns(owner) / 2
    }

    /// Leases that nobody used for three passes go back, and all of them when the node leaves.
    pub(super) fn give_back_idle<S: Store>(&mut self, store: &mut S) {
        let mut idle = self.leases.pass();
        if self.leaving.is_some() {
            idle = self.leases.all().map(|(cell, _)| cell).collect();
        }
        for cell in idle {
            let Some(held) = self.leases.get(cell).copied() else {
                continue;
            };
            let returned = self.end_lease(cell, store);
            let ack = LeaseAck {
                cell,
                seq: held.seq,
                returned: if held.hard { returned } else { 0 },
                ended: true,
                declared: false,
            };
            if held.owner == self.me {
                let me = self.me;
                self.receive_lease_ack(me, &ack, store);
            } else if let Some(peer) = self.peers.get_mut(&held.owner)
                && peer.link.is_some()
                && peer.life == Some(held.owner_life)
            {
                queue_ack(peer, ack, self.config.caps.answers_per_peer);
                self.ready.extend(peer.link);
            }
        }
    }

    /// What came back with an acknowledgement: overdraft is free again, unless its owner says that it left a debt. After a
    /// reconnect (`held` is `None`) the owner is asked about everything.
    pub(super) fn settle_acknowledged<S: Store>(
        &mut self,
        id: NodeId,
        entries: Vec<(u64, Entry)>,
        held: Option<&[Cell]>,
        store: &mut S,
    ) {
        let mut sorted: Vec<Cell> = held.unwrap_or_default().to_vec();
        sorted.sort_unstable();
        for (seq, entry) in entries {
            let bounded = self
                .limits
                .get(entry.cell.limit)
                .is_some_and(|l| matches!(l.spec.mode, Mode::Bounded { .. }));
            if !bounded || entry.leased || entry.refund || entry.used == 0 {
                continue;
            }
            if held.is_some() && sorted.binary_search(&entry.cell).is_err() {
                store.rearm(entry.cell, entry.used);
                continue;
            }
            let place = (id, entry.cell);
            if self.held_back.len() >= self.config.caps.leases && !self.held_back.contains_key(&place) {
                // No room to remember it: it is reported once more, which errs on the side of denying.
                let again = Entry {
                    waiting: false,
                    ..entry
                };
                self.put_back(alloc::vec![again], store);
                continue;
            }
            let (units, up_to) = self.held_back.entry(place).or_default();
            (*units, *up_to) = (units.saturating_add(entry.used), seq.max(*up_to));
        }
    }

    fn urgent_units(&self, limit: &Gcra) -> u64 {
        let nodes = self.membership.counts(self.now_ns).0.max(1);
        let refill = units_in(limit, self.config.interval_ns) / nodes;
        (limit.burst() / (2 * nodes)).max(refill).max(1)
    }

    /// Gives the store new rules where they changed, and says which partitions are cut.
    pub(super) fn update_rules<S: Store>(&mut self, store: &mut S) {
        if self.now_ns < self.rules_due_ns {
            return;
        }
        self.rules_due_ns = u64::MAX;
        let (visible, known) = self.membership.counts(self.now_ns);
        let limits: Vec<LimitNumbers> = self.limits.all().copied().collect();
        let mut cut_matters = [false; 2];
        for limit in limits {
            let rules = self.rules_of(&limit, visible, known);
            let hard = limit.spec.mode.is_hard();
            cut_matters[usize::from(hard)] |= rules.cut != rules.connected;
            let id = limit.spec.id;
            if self.rules.get(&id) != Some(&rules) {
                store.set_rules(id, &rules, self.now_ns);
                self.rules.insert(id, rules);
            }
        }
        for hard in [false, true] {
            self.update_cuts(hard, cut_matters[usize::from(hard)], store);
        }
    }

    fn rules_of(&mut self, limit: &LimitNumbers, visible: u64, known: u64) -> Rules {
        let gcra = limit.gcra;
        let since_start = self.now_ns.saturating_sub(self.started_ns);
        let mut connected = Unleased::Deny;
        let mut cut = None;
        match limit.spec.mode {
            Mode::Eventual => {
                let nodes = if self.config.on_partition == OnPartition::Open {
                    visible
                } else {
                    known
                };
                connected = Unleased::Part(gcra.part(WHOLE_SHARE / nodes.max(1), gcra.burst()));
                if self.config.on_partition == OnPartition::Closed {
                    let known = known.max(1);
                    cut = Some(Unleased::Part(
                        gcra.part(WHOLE_SHARE / known, (gcra.burst() / known).max(1)),
                    ));
                }
            }
            Mode::Bounded { units } => {
                // The last life may have spent an overdraft that nobody heard of.
                let wait_ns = gcra.tolerance_ns().min(MOST_WITHOUT_OVERDRAFT_NS);
                let units = self.after_restart(units, 0, wait_ns, since_start);
                connected = Unleased::Overdraft { gcra, units };
            }
            Mode::Strict { .. } => {
                if let Some((share, tokens)) = floor_of(&gcra, limit.spec.mode, self.config.max_nodes) {
                    let floor = gcra.part(share - share.div_ceil(DRIFT_PARTS), tokens);
                    // The last life may have emptied it.
                    let rule =
                        self.after_restart(Unleased::Part(floor), Unleased::Deny, floor.tolerance_ns(), since_start);
                    cut = Some(rule);
                }
            }
        }
        Rules {
            shown: limit.spec.limit,
            limit: gcra,
            connected,
            cut: cut.unwrap_or(connected),
            urgent_units: self.urgent_units(&gcra),
            overdraft: matches!(limit.spec.mode, Mode::Bounded { .. }),
        }
    }

    /// `then`, but `before` until `wait_ns` after the start of a life that had another before it.
    fn after_restart<T>(&mut self, then: T, before: T, wait_ns: u64, since_start: u64) -> T {
        if self.config.first_start || since_start >= wait_ns {
            return then;
        }
        self.rules_due_ns = self.rules_due_ns.min(self.started_ns + wait_ns);
        before
    }

    fn update_cuts<S: Store>(&mut self, hard: bool, matters: bool, store: &mut S) {
        let owners = if hard {
            self.hard.candidates()
        } else {
            self.soft.candidates()
        };
        let unheard = |owner: &NodeId| !self.membership.hears(*owner) || self.membership.is_barred(*owner, self.now_ns);
        let any = matters && owners.iter().any(unheard);
        if !any && !self.cut[usize::from(hard)].contains(&true) {
            return;
        }
        for partition in 0..PARTITIONS as u16 {
            let owner = if hard {
                self.hard.owner(partition)
            } else {
                self.soft.owner(partition)
            };
            let cut = any
                && owner
                    .is_none_or(|owner| !self.membership.hears(owner) || self.membership.is_barred(owner, self.now_ns));
            let place = &mut self.cut[usize::from(hard)][usize::from(partition)];
            if *place != cut {
                *place = cut;
                store.set_cut(partition, hard, cut);
            }
        }
        if any && !hard {
            // `closed`: a share of an owner that is not heard ends; the floor takes its place.
            let over: Vec<Cell> = self
                .leases
                .all()
                .filter(|(cell, held)| !held.hard && self.cut[0][usize::from(partition(cell.key))])
                .map(|(cell, _)| cell)
                .collect();
            for cell in over {
                self.end_lease(cell, store);
            }
        }
    }
}

fn units_in(gcra: &Gcra, ns: u64) -> u64 {
    u64::try_from(gcra.refilled(ns, WHOLE_SHARE) >> LEVEL_BITS).unwrap_or(u64::MAX)
}

/// A later acknowledgement of a cell says what an earlier one said, but for the units that come back.
fn queue_ack(peer: &mut super::peer::Peer, ack: LeaseAck, cap: usize) {
    if let Some(waiting) = peer.lease_acks.get_mut(&ack.cell) {
        let returned = waiting.returned.saturating_add(ack.returned);
        let declared = waiting.declared || ack.declared;
        *waiting = LeaseAck {
            returned,
            declared,
            ..ack
        };
    } else if peer.lease_acks.len() < cap {
        peer.lease_acks.insert(ack.cell, ack);
    }
    // Without room it is dropped: the owner counts the lease as held until its time is over.
}
