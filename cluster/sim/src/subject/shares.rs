//! Baseline: every node has `R/N` and `B/N`, and they never talk.
//!
//! Never over the limit, free of charge, and useless as soon as the load is not even: a node that gets all of it serves one
//! Nth of the limit.

use std::collections::BTreeMap;
use std::time::Duration;

use ratelimit_model::{Gcra, Limit, Verdict};

use super::{Flow, LinkId, Rule, Settings, Sizes, Snapshot, Stream, Subject, Transmit};

/// One node of static shares.
pub struct StaticNode {
    nodes: u64,
    shares: Vec<Gcra>,
    cells: BTreeMap<(u64, u32), u64>,
}

/// The numbers of a limit of `burst` units at once and `rate` in `window`.
///
/// Panics if that is no limit: scenarios are ours, and one without a limit has no meaning.
pub(crate) fn gcra(rate: u64, window: Duration, burst: u64) -> Gcra {
    let limit = Limit::new(rate, window).map(|limit| limit.burst(burst));
    limit
        .and_then(|limit| Gcra::new(&limit))
        .expect("scenarios have sensible limits")
}

impl StaticNode {
    /// A node that nobody has asked yet.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let nodes = settings.members.len() as u64;
        let mut node = StaticNode {
            nodes,
            shares: Vec::new(),
            cells: BTreeMap::new(),
        };
        node.shares = settings.rules.iter().map(|rule| node.share(rule)).collect();
        node
    }

    /// `R/N` exactly, as R in N seconds. `B/N` is at least one unit, or no request would ever pass.
    fn share(&self, rule: &Rule) -> Gcra {
        gcra(
            rule.rate,
            Duration::from_secs(self.nodes),
            (rule.burst / self.nodes).max(1),
        )
    }
}

impl Subject for StaticNode {
    fn decide(&mut self, key: u64, limit: u32, cost: u64, now_ns: u64) -> bool {
        let share = &self.shares[limit as usize];
        let tat = self.cells.entry((key, limit)).or_insert(now_ns);
        match share.decide(*tat, now_ns, cost) {
            Verdict::Allow(next) => {
                *tat = next;
                true
            }
            Verdict::Deny => false,
        }
    }

    fn tick(&mut self, _now_ns: u64) {}

    fn next_tick(&self) -> Option<u64> {
        None
    }

    fn is_urgent(&self) -> bool {
        false
    }

    fn link_up(&mut self, _link: LinkId, _peer: &str, _outbound: bool, _now_ns: u64) {}

    fn link_down(&mut self, _link: LinkId, _now_ns: u64) {}

    fn bytes(&mut self, _link: LinkId, _stream: Stream, _bytes: &[u8], _now_ns: u64) {}

    fn writable(&mut self, _link: LinkId, _stream: Stream, _bytes_free: usize) {}

    fn transmit(&mut self) -> Option<Transmit> {
        None
    }

    fn close(&mut self) -> Option<LinkId> {
        None
    }

    fn set_limit(&mut self, limit: u32, rule: Rule, _now_ns: u64) {
        self.shares[limit as usize] = self.share(&rule);
    }

    fn lie(&mut self, _factor: u64) {}

    fn leave(&mut self, _now_ns: u64) {}

    fn has_left(&self) -> bool {
        true
    }

    fn snapshot(&self, now_ns: u64) -> Snapshot {
        snapshot(&self.cells, now_ns)
    }

    fn restore(&mut self, snapshot: &Snapshot, now_ns: u64) {
        for &(key, limit, backlog) in &snapshot.cells {
            let backlog = backlog.min(self.shares[limit as usize].tolerance_ns());
            self.cells.insert((key, limit), now_ns + backlog);
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            cells: self.cells.len(),
            ..Sizes::default()
        }
    }

    fn flows(&self) -> Vec<Flow> {
        Vec::new()
    }

    fn is_quiet(&self) -> bool {
        true
    }
}

/// The snapshot of a map of cells.
pub(crate) fn snapshot(cells: &BTreeMap<(u64, u32), u64>, now_ns: u64) -> Snapshot {
    let live = cells.iter().filter(|(_, tat)| **tat > now_ns);
    Snapshot {
        cells: live.map(|(&(key, limit), &tat)| (key, limit, tat - now_ns)).collect(),
    }
}
