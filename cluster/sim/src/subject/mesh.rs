//! Baseline: full mesh of deltas. Each node runs the whole limit on all it knows, and tells every other node what it
//! admitted, every interval or as soon as an urgent amount is unsaid.
//!
//! This is the plainest reading of "nodes exchange deltas". It needs no owner and one hop. Its price: a report goes to all
//! others, so bytes grow with N squared; N nodes that have the same stale view all admit what is left; nothing bounds it.
//! Units for a peer that is not linked are not kept: it would need a queue per peer.

use std::collections::BTreeMap;
use std::time::Duration;

use ratelimit_model::{Gcra, Verdict};

use super::shares::{gcra, snapshot};
use super::{Flow, LinkId, Rule, Settings, Sizes, Snapshot, Stream, Subject, Transmit};
use crate::rng::Rng;

/// Key, limit and units: eight bytes, one and three, big-endian, behind a two-byte count.
const DELTA: usize = 12;
const DELTAS_IN_MESSAGE: usize = 2_000;
/// An owner's clamp has its like here: nobody is believed to be further over than this many bursts.
const DEBT_BURSTS: u64 = 64;

struct Link {
    free: usize,
    /// Bytes of a message that has not come to its end.
    partial: Vec<u8>,
    /// What the link could not take yet.
    unsent: BTreeMap<(u64, u32), u64>,
}

/// One node of the mesh.
pub struct MeshNode {
    rules: Vec<Gcra>,
    /// Units unsaid from which on a report is urgent.
    thresholds: Vec<u64>,
    nodes: u64,
    interval_ns: u64,
    urgent: bool,
    /// 1 for an honest node.
    factor: u64,
    cells: BTreeMap<(u64, u32), u64>,
    used: BTreeMap<(u64, u32), u64>,
    is_urgent: bool,
    links: BTreeMap<LinkId, Link>,
    next_report_ns: u64,
    out: std::collections::VecDeque<Transmit>,
}

impl MeshNode {
    /// A node that nobody has asked yet.
    #[must_use]
    pub fn new(settings: &Settings, now_ns: u64) -> Self {
        let nodes = settings.members.len() as u64;
        // Nodes that report in phase all act on the same stale view: the phase is drawn.
        let phase = Rng::new(settings.seed).below(settings.interval_ns);
        let mut node = MeshNode {
            rules: Vec::new(),
            thresholds: Vec::new(),
            nodes,
            interval_ns: settings.interval_ns,
            urgent: settings.urgent,
            factor: 1,
            cells: BTreeMap::new(),
            used: BTreeMap::new(),
            is_urgent: false,
            links: BTreeMap::new(),
            next_report_ns: now_ns + phase,
            out: std::collections::VecDeque::new(),
        };
        for rule in &settings.rules {
            node.rules.push(whole(rule));
            node.thresholds.push(threshold(rule, nodes));
        }
        node
    }

    fn charge(&mut self, key: u64, limit: u32, units: u64, now_ns: u64) {
        let Some(rule) = self.rules.get(limit as usize) else {
            return;
        };
        let tat = self.cells.entry((key, limit)).or_insert(now_ns);
        let debt = now_ns + rule.tolerance_ns().saturating_mul(DEBT_BURSTS);
        *tat = rule.charge((*tat).max(now_ns), units).min(debt);
    }

    fn report(&mut self) {
        let used = std::mem::take(&mut self.used);
        self.is_urgent = false;
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let mut message = Vec::new();
            if link.unsent.is_empty() && used.len() * DELTA + 2 <= link.free && used.len() <= DELTAS_IN_MESSAGE {
                encode(&mut message, used.iter());
            } else {
                for (&key, units) in &used {
                    *link.unsent.entry(key).or_default() += units;
                }
                let room = (link.free.saturating_sub(2) / DELTA).min(DELTAS_IN_MESSAGE);
                let now: Vec<_> = link
                    .unsent
                    .iter()
                    .take(room)
                    .map(|(&key, &units)| (key, units))
                    .collect();
                encode(&mut message, now.iter().map(|(key, units)| (key, units)));
                for (key, _) in &now {
                    link.unsent.remove(key);
                }
            }
            if !message.is_empty() {
                link.free -= message.len();
                self.out.push_back(Transmit {
                    link: id,
                    stream: Stream::Report,
                    bytes: message,
                });
            }
        }
    }
}

fn whole(rule: &Rule) -> Gcra {
    gcra(rule.rate, Duration::from_secs(1), rule.burst)
}

fn threshold(rule: &Rule, nodes: u64) -> u64 {
    (rule.burst / (2 * nodes)).max(1)
}

fn encode<'a>(message: &mut Vec<u8>, deltas: impl Iterator<Item = (&'a (u64, u32), &'a u64)>) {
    message.extend([0, 0]);
    let mut count = 0_u16;
    for (&(key, limit), &units) in deltas {
        message.extend(key.to_be_bytes());
        message.push(limit as u8);
        message.extend(&(units.min(0xff_ffff) as u32).to_be_bytes()[1..]);
        count += 1;
    }
    if count == 0 {
        message.clear();
    } else {
        message[..2].copy_from_slice(&count.to_be_bytes());
    }
}

impl Subject for MeshNode {
    fn decide(&mut self, key: u64, limit: u32, cost: u64, now_ns: u64) -> bool {
        let rule = &self.rules[limit as usize];
        let tat = self.cells.entry((key, limit)).or_insert(now_ns);
        match rule.decide(*tat, now_ns, cost) {
            Verdict::Allow(next) => {
                *tat = next;
                let used = self.used.entry((key, limit)).or_default();
                *used += cost.saturating_mul(self.factor);
                self.is_urgent |= self.urgent && *used > self.thresholds[limit as usize];
                true
            }
            Verdict::Deny => false,
        }
    }

    fn tick(&mut self, now_ns: u64) {
        if now_ns >= self.next_report_ns || self.is_urgent {
            self.report();
        }
        while self.next_report_ns <= now_ns {
            self.next_report_ns += self.interval_ns;
        }
    }

    fn next_tick(&self) -> Option<u64> {
        Some(self.next_report_ns)
    }

    fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    fn link_up(&mut self, link: LinkId, _peer: &str, _outbound: bool, _now_ns: u64) {
        self.links.insert(
            link,
            Link {
                free: 0,
                partial: Vec::new(),
                unsent: BTreeMap::new(),
            },
        );
    }

    fn link_down(&mut self, link: LinkId, _now_ns: u64) {
        self.links.remove(&link);
    }

    fn bytes(&mut self, link: LinkId, _stream: Stream, bytes: &[u8], now_ns: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.partial.extend(bytes);
        let stream = std::mem::take(&mut state.partial);
        let mut rest = &stream[..];
        while let [high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low])) * DELTA;
            if body.len() < length {
                break;
            }
            for delta in body[..length].chunks_exact(DELTA) {
                let key = delta[..8].iter().fold(0, |key, byte| (key << 8) | u64::from(*byte));
                let units = delta[9..].iter().fold(0, |units, byte| (units << 8) | u64::from(*byte));
                self.charge(key, u32::from(delta[8]), units, now_ns);
            }
            rest = &body[length..];
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.partial = rest.to_vec();
        }
    }

    fn writable(&mut self, link: LinkId, stream: Stream, bytes_free: usize) {
        if stream == Stream::Report
            && let Some(link) = self.links.get_mut(&link)
        {
            link.free = bytes_free;
        }
    }

    fn transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    fn close(&mut self) -> Option<LinkId> {
        None
    }

    fn set_limit(&mut self, limit: u32, rule: Rule, _now_ns: u64) {
        self.rules[limit as usize] = whole(&rule);
        self.thresholds[limit as usize] = threshold(&rule, self.nodes);
    }

    fn lie(&mut self, factor: u64) {
        self.factor = factor;
    }

    fn leave(&mut self, _now_ns: u64) {
        self.report();
    }

    fn has_left(&self) -> bool {
        true
    }

    fn snapshot(&self, now_ns: u64) -> Snapshot {
        snapshot(&self.cells, now_ns)
    }

    fn restore(&mut self, snapshot: &Snapshot, now_ns: u64) {
        for &(key, limit, backlog) in &snapshot.cells {
            let backlog = backlog.min(self.rules[limit as usize].tolerance_ns());
            self.cells.insert((key, limit), now_ns + backlog);
        }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            cells: self.cells.len(),
            queued_bytes: self.links.values().map(|link| link.unsent.len() * DELTA).sum(),
            ..Sizes::default()
        }
    }

    fn flows(&self) -> Vec<Flow> {
        Vec::new()
    }

    fn is_quiet(&self) -> bool {
        self.used.is_empty() && self.out.is_empty()
    }
}
