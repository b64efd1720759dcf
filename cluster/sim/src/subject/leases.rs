//! The product: the protocol's own node, over maps or over the table.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ratelimit_model::Limit;
use ratelimit_protocol as protocol;
use ratelimit_protocol::{Cell, DrainSink, Drained, GiveOutcome, Lease, Node, Pass, Rules, Store};

use super::cells::Cells;
use super::newer::Newer;
use super::{Flow, LinkId, Mode, OnPartition, Rule, Settings, Sizes, Snapshot, Stream, Subject, Transmit};

/// One node of the protocol.
pub struct LeaseNode {
    node: Node,
    store: Reporting,
    members: Rc<Vec<String>>,
    author: protocol::NodeId,
    close: Vec<LinkId>,
    newer: Option<Newer>,
    left: bool,
}

/// The store, as the node sees it: a broken or hostile build reports more than it used.
struct Reporting {
    store: Cells,
    factor: u64,
}

struct Multiplied<'a> {
    sink: &'a mut dyn DrainSink,
    factor: u64,
}

impl DrainSink for Multiplied<'_> {
    fn accepts(&mut self, cell: Cell) -> bool {
        self.sink.accepts(cell)
    }

    fn take(&mut self, cell: Cell, drained: Drained) {
        let used = drained.used.saturating_mul(self.factor);
        self.sink.take(cell, Drained { used, ..drained });
    }
}

impl Store for Reporting {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        if self.factor == 1 {
            self.store.drain(pass, sink);
        } else {
            self.store.drain(
                pass,
                &mut Multiplied {
                    sink,
                    factor: self.factor,
                },
            );
        }
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        self.store.restore(cell, drained)
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.store.rearm(cell, units);
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        self.store.give_lease(cell, lease, now_ns)
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        self.store.end_lease(cell, now_ns)
    }

    fn set_rules(&mut self, limit: protocol::LimitId, rules: &Rules, now_ns: u64) {
        self.store.set_rules(limit, rules, now_ns);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.store.set_cut(partition, hard, cut);
    }
}

/// A rule's limit, as people write it.
pub(super) fn limit_of(rule: &Rule) -> Limit {
    let limit = Limit::new(rule.rate, Duration::from_secs(1)).expect("scenarios have sensible limits");
    limit.burst(rule.burst)
}

fn spec(number: usize, rule: &Rule, author: protocol::NodeId) -> protocol::LimitSpec {
    protocol::LimitSpec {
        id: protocol::LimitId(number as u32),
        version: rule.version,
        author,
        limit: limit_of(rule),
        mode: match rule.mode {
            Mode::Eventual => protocol::Mode::Eventual,
            Mode::Bounded(units) => protocol::Mode::Bounded { units },
            Mode::Strict => protocol::Mode::Strict { floor_ppm: 0 },
        },
    }
}

fn mutants(name: Option<&str>) -> protocol::Mutants {
    let mut mutants = protocol::Mutants::default();
    match name {
        None => {}
        Some("grow-before-shrink") => mutants.grow_before_shrink = true,
        Some("ignore-acknowledgements") => mutants.ignore_acknowledgements = true,
        Some("skip-incarnation") => mutants.skip_incarnation = true,
        Some(other) => unreachable!("the command line refuses the mutant {other}"),
    }
    mutants
}

impl LeaseNode {
    /// A node that nobody has asked yet.
    #[must_use]
    pub fn new(settings: &Settings, cells: Cells, now_ns: u64) -> Self {
        let mut config = protocol::NodeConfig::new(&settings.name);
        config.owners = settings.owners.clone();
        config.on_partition = match settings.rules[0].on_partition {
            OnPartition::Open => protocol::OnPartition::Open,
            OnPartition::Share => protocol::OnPartition::Share,
            OnPartition::Closed => protocol::OnPartition::Closed,
        };
        config.interval_ns = settings.interval_ns;
        config.max_nodes = config.max_nodes.max(settings.members.len() as u64);
        config.first_start = settings.first_start;
        config.caps.accounts = settings.ledger_cap;
        // All nodes read the same configuration file, so all name the same author.
        let author = protocol::NodeId::of(&settings.members[0]);
        config.limits = settings
            .rules
            .iter()
            .enumerate()
            .map(|(number, rule)| spec(number, rule, author))
            .collect();
        let config = config.break_on_purpose(mutants(settings.mutant.as_deref()));
        let incarnation = protocol::Incarnation(settings.incarnation);
        let node =
            Node::new(config, incarnation, settings.seed, now_ns).expect("scenarios have sensible configurations");
        LeaseNode {
            node,
            store: Reporting {
                store: cells,
                factor: 1,
            },
            members: Rc::clone(&settings.members),
            author,
            close: Vec::new(),
            left: false,
            newer: settings.newer.then(Newer::default),
        }
    }

    fn hear(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                protocol::Event::CloseLink { link, .. } => self.close.push(link.0),
                protocol::Event::LeaveDone => self.left = true,
                _ => {}
            }
        }
    }
}

impl Subject for LeaseNode {
    fn decide(&mut self, key: u64, limit: u32, cost: u64, now_ns: u64) -> bool {
        self.store.store.decide(limit, key, cost, now_ns)
    }

    fn tick(&mut self, now_ns: u64) {
        self.store.store.set_time(now_ns);
        self.node.handle_tick(now_ns, &mut self.store);
        self.store.store.sweep(now_ns);
        self.hear();
    }

    fn next_tick(&self) -> Option<u64> {
        self.node.poll_timeout()
    }

    fn is_urgent(&self) -> bool {
        self.store.store.is_urgent()
    }

    fn link_up(&mut self, link: LinkId, peer: &str, outbound: bool, now_ns: u64) {
        self.node.handle_link_up(protocol::LinkId(link), peer, outbound, now_ns);
        self.hear();
    }

    fn link_down(&mut self, link: LinkId, now_ns: u64) {
        if let Some(newer) = &mut self.newer {
            newer.forget(link);
        }
        self.node.handle_link_down(protocol::LinkId(link), now_ns);
        self.hear();
    }

    fn bytes(&mut self, link: LinkId, stream: Stream, bytes: &[u8], now_ns: u64) {
        self.store.store.set_time(now_ns);
        self.node.handle_bytes(
            protocol::LinkId(link),
            stream_of(stream),
            bytes,
            now_ns,
            &mut self.store,
        );
        self.hear();
    }

    fn writable(&mut self, link: LinkId, stream: Stream, bytes_free: usize) {
        self.node
            .handle_writable(protocol::LinkId(link), stream_of(stream), bytes_free);
    }

    fn transmit(&mut self) -> Option<Transmit> {
        loop {
            let transmit = self.node.poll_transmit()?;
            let transmit = Transmit {
                link: transmit.link.0,
                stream: match transmit.stream {
                    protocol::Stream::Control => Stream::Control,
                    protocol::Stream::Report => Stream::Report,
                },
                bytes: transmit.bytes,
            };
            match &mut self.newer {
                None => return Some(transmit),
                // An incomplete frame waits for its end, which the node may have ready.
                Some(newer) => match newer.rewrite(transmit) {
                    Some(transmit) => return Some(transmit),
                    None => continue,
                },
            }
        }
    }

    fn close(&mut self) -> Option<LinkId> {
        self.close.pop()
    }

    fn set_limit(&mut self, limit: u32, rule: Rule, _now_ns: u64) {
        let spec = spec(limit as usize, &rule, self.author);
        self.node
            .set_limit(spec.id, spec.limit, spec.mode)
            .expect("scenarios have sensible limits");
    }

    fn lie(&mut self, factor: u64) {
        self.store.factor = factor;
    }

    fn leave(&mut self, now_ns: u64) {
        self.node.leave(now_ns);
    }

    fn has_left(&self) -> bool {
        self.left
    }

    fn snapshot(&self, _now_ns: u64) -> Snapshot {
        Snapshot::default()
    }

    fn restore(&mut self, _snapshot: &Snapshot, _now_ns: u64) {}

    fn sizes(&self) -> Sizes {
        let stats = self.node.stats();
        let most = |size: fn(&protocol::PeerStats) -> usize| stats.peers.values().map(size).max().unwrap_or(0);
        Sizes {
            cells: self.store.store.count(),
            ledger: stats.accounts,
            leases: stats.leases,
            in_flight: most(|peer| peer.unacked_batches),
            queued_bytes: most(|peer| peer.waiting_bytes),
        }
    }

    fn flows(&self) -> Vec<Flow> {
        let stats = self.node.stats();
        let names: BTreeMap<_, _> = self
            .members
            .iter()
            .map(|name| (protocol::NodeId::of(name), name))
            .collect();
        let flow = |(id, peer): (&protocol::NodeId, &protocol::PeerStats)| {
            Some(Flow {
                peer: (*names.get(id)?).clone(),
                drained: peer.drained_units,
                acknowledged: peer.acked_units,
                in_flight: peer.in_flight_units,
                withdrawn: peer.withdrawn_units,
                doubled: peer.doubled_units,
                applied: peer.applied_units,
            })
        };
        stats.peers.iter().filter_map(flow).collect()
    }

    fn is_quiet(&self) -> bool {
        let stats = self.node.stats();
        let waits = |peer: &protocol::PeerStats| peer.in_flight_units > 0 || peer.unacked_batches > 0;
        self.store.store.unreported() == 0 && !stats.peers.values().any(waits)
    }
}

fn stream_of(stream: Stream) -> protocol::Stream {
    match stream {
        Stream::Control => protocol::Stream::Control,
        Stream::Report => protocol::Stream::Report,
    }
}
