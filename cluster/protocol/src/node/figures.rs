//! What a node says of its sizes and counters.

use alloc::collections::BTreeMap;

use super::Node;
use crate::id::LimitId;
use crate::limits::Mode;
use crate::stats::{LimitStats, NodeStats, PeerStats};

impl Node {
    /// Sizes and counters. Cost: walks the books.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let peers = self.peers.iter().map(|(id, peer)| {
            let waiting_bytes = peer.link.and_then(|link| self.links.get(&link));
            let waiting_bytes = waiting_bytes.map_or(0, |link| link.out.iter().map(|out| out.held()).sum());
            let stats = PeerStats {
                drained_units: peer.outbox.drained_units,
                acked_units: peer.outbox.acked_units,
                in_flight_units: peer.outbox.unacked_units(),
                withdrawn_units: peer.outbox.withdrawn_units,
                doubled_units: peer.outbox.doubled_units,
                applied_units: peer.inbox.applied_units,
                repeated_batches: peer.inbox.repeated,
                unacked_batches: peer.outbox.unacked(),
                waits_ns: peer.outbox.waits_since().map_or(0, |at| self.now_ns.saturating_sub(at)),
                waiting_answers: peer.waiting_answers(),
                waiting_bytes,
                strikes: peer.strikes,
            };
            (*id, stats)
        });
        let (by_limit, largest_debt) = self.by_limit();
        NodeStats {
            peers: peers.collect(),
            by_limit,
            members: self.membership.len(),
            links: self.links.len(),
            accounts: self.ledger.len(),
            holders: self.ledger.holders(),
            largest_debt,
            leases: self.leases.len(),
            held_back: self.held_back.len(),
            limits: self.limits.len(),
            events: self.events.len(),
            ..self.count.clone()
        }
    }

    /// How many nodes own keys, and how many of those are not heard.
    fn owners_of(&self, hard: bool) -> LimitStats {
        let owners = if hard { &self.hard } else { &self.soft }.candidates();
        let unheard = owners.iter().filter(|owner| !self.membership.hears(**owner));
        LimitStats {
            owners: owners.len(),
            owners_unheard: unheard.count(),
            ..LimitStats::default()
        }
    }

    /// How far the books of each limit are behind, and the largest debt of one key.
    fn by_limit(&self) -> (BTreeMap<LimitId, LimitStats>, u64) {
        let known = self.limits.all().map(|limit| limit.spec);
        let mut by_limit: BTreeMap<LimitId, LimitStats> = known
            .map(|spec| (spec.id, self.owners_of(spec.mode.is_hard())))
            .collect();
        let mut largest_debt = 0;
        for (limit, debt) in self.ledger.debts(self.now_ns).filter(|(_, debt)| *debt > 0) {
            largest_debt = largest_debt.max(debt);
            if let Some(stats) = by_limit.get_mut(&limit) {
                stats.excess_units = stats.excess_units.saturating_add(debt);
            }
        }
        let mut wait = |limit: LimitId, units: u64, unbacked: u64, since_ns: u64| {
            if let Some(stats) = by_limit.get_mut(&limit).filter(|_| units > 0) {
                stats.unconfirmed_units = stats.unconfirmed_units.saturating_add(units);
                stats.unbacked_units = stats.unbacked_units.saturating_add(unbacked);
                stats.staleness_ns = stats.staleness_ns.max(self.now_ns.saturating_sub(since_ns));
            }
        };
        let mode = |limit| self.limits.get(limit).map(|limit| limit.spec.mode);
        for peer in self.peers.values() {
            for (limit, spent, sent_ns) in peer.outbox.waiting() {
                let unbacked = match mode(limit) {
                    // An owner that hears this node sets its lease aside; one that does not has given it away.
                    Some(Mode::Eventual) if peer.link.is_none() => spent.units(),
                    Some(Mode::Eventual | Mode::Bounded { .. }) => spent.unleased,
                    // Nothing is spent that was not granted before, or held back for it.
                    Some(Mode::Strict { .. }) | None => 0,
                };
                wait(limit, spent.units(), unbacked, sent_ns);
            }
        }
        for (limit, (units, since_ns)) in &self.left_in_store {
            let strict = matches!(mode(*limit), Some(Mode::Strict { .. }));
            wait(*limit, *units, if strict { 0 } else { *units }, *since_ns);
        }
        (by_limit, largest_debt)
    }
}
