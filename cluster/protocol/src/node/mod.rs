//! One node: the state machine that joins links, membership, books and leases.
//!
//! - `links.rs`: links come and go, hellos are judged;
//! - `receive.rs`: what arrives;
//! - `owner.rs`: this node's books for the keys that it owns;
//! - `holder.rs`: the leases that it holds, and the rules it gives to its store;
//! - `report.rs`: what its store drains;
//! - `transmit.rs`: what goes out;
//! - `figures.rs`: its sizes and counters.

mod figures;
mod holder;
mod links;
mod owner;
mod peer;
mod receive;
mod report;
mod transmit;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use self::peer::Peer;
use crate::config::{ConfigError, NodeConfig, OnPartition};
use crate::event::Event;
use crate::id::{Cell, Incarnation, LimitId, LinkId, NodeId, Stream};
use crate::leases::Leases;
use crate::ledger::{Ledger, Terms};
use crate::limits::{Adopted, LimitSpec, Limits};
use crate::link::Link;
use crate::membership::{Membership, Standing};
use crate::ownership::{Ownership, PARTITIONS, partition};
use crate::rules::Rules;
use crate::stats::NodeStats;
use crate::store::Store;

/// Membership is looked at this often.
const CHECK_NS: u64 = 100_000_000;
/// A leaving node waits this long for its last acknowledgements.
const LEAVE_NS: u64 = 3_000_000_000;
/// Nodes whose lives began within this time, by their wall clocks, started together.
const TOGETHER_MS: u64 = 1000;
/// A clock that does not move leaves work for later, but not for ever.
const TICK_NS: u64 = 1_000_000;

/// Bytes to put on a stream of a link, in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The link.
    pub link: LinkId,
    /// Its stream.
    pub stream: Stream,
    /// The bytes. Frames may be cut anywhere.
    pub bytes: Vec<u8>,
}

/// One node of a cluster, without sockets, clocks or threads.
///
/// **Driving it.** There are four kinds of methods.
/// - `handle_*` tell it what happened: links, bytes, room on a stream, time. All take the node's own monotonic clock in
///   nanoseconds; a time before the last one counts as the last one.
/// - `poll_*` say what to do, and must be asked until they have no more, after every `handle_*`: first
///   [`poll_transmit`](Node::poll_transmit), then [`poll_event`](Node::poll_event), last
///   [`poll_timeout`](Node::poll_timeout), when [`handle_tick`](Node::handle_tick) is due.
/// - [`set_limit`](Node::set_limit) and [`leave`](Node::leave) are for those who run it.
/// - [`stats`](Node::stats) only looks.
///
/// **Links.** The driver names a link by a number it never uses again, and says whose certificate the other side showed.
/// Each link is two ordered streams of bytes each way. A stream takes 64 KiB until
/// [`handle_writable`](Node::handle_writable) says otherwise. Two nodes may have links in both directions for a moment: one
/// is closed by an [`Event::CloseLink`].
///
/// **Determinism.** The same calls with the same seed give the same bytes, on every machine.
///
/// **Memory.** Bounded by [`Caps`](crate::Caps) and `max_nodes`: members and peers by `max_nodes`, links by twice that, four
/// batches of 32 KiB and one frame of each stream per peer, 1,024 limits.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    me: NodeId,
    incarnation: Incarnation,
    fingerprint: u64,
    started_ns: u64,
    now_ns: u64,
    limits: Limits,
    membership: Membership,
    /// Owners of `Eventual` keys: the nodes in view.
    soft: Ownership,
    /// Owners of `Bounded` and `Strict` keys: the configured ones.
    hard: Ownership,
    peers: BTreeMap<NodeId, Peer>,
    links: BTreeMap<LinkId, Link>,
    ledger: Ledger,
    leases: Leases,
    /// Overdraft that its owner has charged but not yet set free, with the last batch that carried it.
    held_back: BTreeMap<(NodeId, Cell), (u64, u64)>,
    rules: BTreeMap<LimitId, Rules>,
    rules_due_ns: u64,
    cut: [Vec<bool>; 2],
    /// Units that the store kept in the last pass over all since nobody could be sent them, and since when: by limit.
    left_in_store: BTreeMap<LimitId, (u64, u64)>,
    next_pass_ns: u64,
    next_check_ns: u64,
    /// After a loss of an owner, until then: new accounts may have been in its books, and first listen.
    orphans_until_ns: u64,
    /// After this node joined older owners, or one left, until then: a new account may be one that is about to be handed
    /// over, and an empty book would give a burst away.
    settled_ns: u64,
    own_booked_ns: u64,
    /// Going through the books for keys that others own now.
    handover: Option<Option<Cell>>,
    handover_again_ns: Option<u64>,
    leaving: Option<u64>,
    left: bool,
    next_link: Option<LinkId>,
    /// Links that may have something to say. Whoever gives a link something to say wakes it; a check of all ten times a
    /// second, for heartbeats, also finds one that was forgotten.
    ready: BTreeSet<LinkId>,
    /// Links that were refused: they go once they have said why.
    refused: Vec<LinkId>,
    /// What this node sees, counted once for all heartbeats of one moment.
    sees: (u64, u64),
    events: VecDeque<Event>,
    count: NodeStats,
}

impl Node {
    /// A node in the given life, with the links, leases and books of none.
    ///
    /// `seed`: any number; nodes should differ, so that they do not all report at the same moment.
    ///
    /// Errors: all that can be wrong with a configuration; see [`ConfigError`].
    pub fn new(config: NodeConfig, incarnation: Incarnation, seed: u64, now_ns: u64) -> Result<Node, ConfigError> {
        config.check()?;
        let me = NodeId::of(&config.name);
        let mut limits = Limits::default();
        for spec in &config.limits {
            limits.adopt(spec);
        }
        let owners = config.owner_ids();
        let hard = Ownership::new(owners.iter().copied().collect());
        // Nodes that start together must not report together: a random part of an interval lies between them.
        let phase_ns = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % config.interval_ns;
        let members = usize::try_from(config.max_nodes).unwrap_or(usize::MAX);
        let membership = Membership::new(me, owners, members);
        let mut node = Node {
            me,
            incarnation,
            fingerprint: config.fingerprint(),
            started_ns: now_ns,
            now_ns,
            limits,
            soft: Ownership::new(membership.candidates(false, now_ns)),
            hard,
            membership,
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            ledger: Ledger::new(config.caps.accounts),
            leases: Leases::new(config.caps.leases),
            held_back: BTreeMap::new(),
            rules: BTreeMap::new(),
            rules_due_ns: now_ns,
            cut: [vec![false; PARTITIONS], vec![false; PARTITIONS]],
            left_in_store: BTreeMap::new(),
            next_pass_ns: now_ns + phase_ns,
            next_check_ns: now_ns,
            orphans_until_ns: 0,
            settled_ns: 0,
            own_booked_ns: now_ns,
            handover: None,
            handover_again_ns: None,
            leaving: None,
            left: false,
            next_link: None,
            ready: BTreeSet::new(),
            refused: Vec::new(),
            sees: (u64::MAX, 0),
            events: VecDeque::new(),
            count: NodeStats::default(),
            config,
        };
        node.refresh_view();
        Ok(node)
    }

    /// Time passed. Due at [`poll_timeout`](Node::poll_timeout), and within a millisecond while the store has urgent cells.
    pub fn handle_tick<S: Store>(&mut self, now_ns: u64, store: &mut S) {
        self.advance(now_ns);
        if self.left {
            return;
        }
        if self.now_ns >= self.next_check_ns {
            self.next_check_ns = self.now_ns + CHECK_NS;
            self.check_members(store);
        }
        self.update_rules(store);
        self.end_leases_in_time(store);
        let full = self.now_ns >= self.next_pass_ns || self.leaving.is_some();
        if full {
            self.next_pass_ns = self.now_ns + self.config.interval_ns;
        }
        self.report(full, store);
        if full {
            self.give_back_idle(store);
            let budget = self.ledger.len() / 100 + 64;
            let terms = self.terms();
            self.ledger.sweep(budget, &terms);
        }
        self.hand_over();
        self.finish_leaving();
    }

    /// Sets a limit here and everywhere: a new version of it, spread to all nodes.
    ///
    /// Returns when it is in force on all nodes that are reachable: a strict limit that was lowered is kept once every
    /// lease of the old one is confirmed or over.
    pub fn set_limit(
        &mut self,
        id: LimitId,
        limit: ratelimit_model::Limit,
        mode: crate::Mode,
    ) -> Result<u64, ConfigError> {
        let version = self
            .limits
            .get(id)
            .map_or(1, |known| known.spec.version.saturating_add(1));
        let spec = LimitSpec {
            id,
            version,
            author: self.me,
            limit,
            mode,
        };
        self.config.check_limit(&spec)?;
        if self.limits.adopt(&spec) != Adopted::Yes {
            return Err(ConfigError::TooManyLimits);
        }
        self.rules_due_ns = 0;
        self.wake_all();
        self.tell(Event::LimitChanged { id, version });
        // One lease time for those granted before the owner learns of it, and a little for the news to travel.
        let stretched = self.config.ttl_ns + self.config.ttl_ns.div_ceil(crate::ledger::DRIFT_PARTS);
        Ok(self.now_ns + stretched + self.config.interval_ns)
    }

    /// Leaves the cluster: reports what is left, hands over the keys it owns, says goodbye. [`Event::LeaveDone`] says when
    /// that is done, after at most three seconds.
    ///
    /// From now on its store decides without leases.
    pub fn leave(&mut self, now_ns: u64) {
        self.advance(now_ns);
        if self.leaving.is_none() {
            self.leaving = Some(self.now_ns);
            self.membership.leave();
            self.refresh_view();
            self.handover = Some(None);
        }
    }

    /// When [`handle_tick`](Node::handle_tick) is due at the latest; `None` once the node has left.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        if self.left {
            return None;
        }
        let soon = self.now_ns + TICK_NS;
        let mut due = self
            .next_pass_ns
            .min(self.next_check_ns)
            .min(self.rules_due_ns.max(self.now_ns));
        if let Some(over_ns) = self.leases.first_over_ns() {
            due = due.min(over_ns);
        }
        if self.handover.is_some() || self.leaving.is_some() {
            due = due.min(soon);
        }
        Some(due.max(self.now_ns))
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// This node's identity.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.me
    }

    /// The node that owns a cell now, as this node sees it; `None` if nobody does.
    pub fn owner(&mut self, cell: Cell) -> Option<NodeId> {
        let hard = self.limits.get(cell.limit)?.spec.mode.is_hard();
        let owners = if hard { &mut self.hard } else { &mut self.soft };
        owners
            .owner(partition(cell.key))
            .filter(|owner| !hard || !self.membership.is_barred(*owner, self.now_ns))
    }

    /// Names and standings of the nodes that this one knows.
    pub fn peers(&self) -> impl Iterator<Item = (&str, Standing)> {
        self.membership
            .all()
            .map(|(_, member)| (member.name.as_str(), member.standing))
    }

    /// The limits in force here.
    pub fn limits(&self) -> impl Iterator<Item = &LimitSpec> {
        self.limits.all().map(|limit| &limit.spec)
    }

    /// Each link may have something to say.
    fn wake_all(&mut self) {
        self.ready.extend(self.links.keys());
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.config.caps.events {
            self.events.pop_front();
            self.count.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    fn name_of(&self, id: NodeId) -> String {
        match self.membership.get(id) {
            Some(member) => member.name.clone(),
            None if id == self.me => self.config.name.clone(),
            None => String::from("?").to_string(),
        }
    }

    fn terms(&self) -> Terms {
        let (visible, known) = self.membership.present();
        let whole = ratelimit_model::WHOLE_SHARE;
        // Those that are not heard spend their part on their own, so it is not given away twice. They are missed from when
        // they are suspect: waiting for the hold-down would give it away twice for so long.
        let seen = match self.config.on_partition {
            OnPartition::Share | OnPartition::Closed => visible,
            OnPartition::Open => known,
        };
        let all = known + self.membership.duplicates(self.now_ns);
        let pool = (u128::from(whole) * u128::from(seen) / u128::from(all)) as u64;
        let silent_until_ns = if self.config.first_start {
            0
        } else {
            let ttl_ns = self.config.ttl_ns;
            self.started_ns + ttl_ns + ttl_ns.div_ceil(crate::ledger::DRIFT_PARTS)
        };
        Terms {
            now_ns: self.now_ns,
            interval_ns: self.config.interval_ns,
            ttl_ns: self.config.ttl_ns,
            pool,
            nodes: known,
            max_nodes: self.config.max_nodes,
            debt_bursts: self.config.debt_bursts,
            silent_until_ns,
            empty_at_ns: (!self.config.first_start).then_some(self.started_ns),
            switches: self.config.switches,
        }
    }

    /// The nodes that may own keys changed, or may have.
    fn refresh_view(&mut self) {
        let closed = self.config.on_partition == OnPartition::Closed;
        let candidates = self.membership.candidates(closed, self.now_ns);
        if candidates == self.soft.candidates() {
            return;
        }
        let gone = self.soft.candidates().iter().any(|old| {
            let left = self
                .membership
                .get(*old)
                .is_none_or(|member| member.standing != Standing::Left);
            *old != self.me && !candidates.contains(old) && left
        });
        // Nodes that started together have no books to hand to each other.
        let started_ms = |life: Incarnation| life.0 >> 16;
        let older = |id: &NodeId| {
            let life = self.peers.get(id).and_then(|peer| peer.life);
            life.is_some_and(|life| started_ms(life) + TOGETHER_MS < started_ms(self.incarnation))
        };
        let before = self.soft.candidates();
        let joined_them = candidates.iter().any(|id| !before.contains(id) && older(id));
        let lost = before.iter().any(|id| !candidates.contains(id));
        let settled_ns = self.now_ns + 2 * self.config.interval_ns;
        if joined_them || lost {
            self.settled_ns = settled_ns;
        }
        if gone {
            self.orphans_until_ns = settled_ns;
        }
        let owners = candidates.len() as u64;
        self.soft = Ownership::new(candidates);
        self.handover = Some(None);
        self.handover_again_ns = Some(self.now_ns + 1_000_000_000);
        self.rules_due_ns = 0;
        let nodes = self.membership.counts(self.now_ns).0;
        self.tell(Event::OwnersChanged { owners, nodes });
    }

    fn check_members<S: Store>(&mut self, store: &mut S) {
        for (id, standing) in self.membership.refresh(self.now_ns) {
            let name = self.name_of(id);
            self.tell(Event::PeerStanding { name, standing });
            self.rules_due_ns = 0;
        }
        self.close_silent_links();
        self.wake_all();
        // Counts of nodes are told by others, too.
        self.rules_due_ns = 0;
        self.refresh_view();
        self.withdraw_from_lost(store);
        self.peers
            .retain(|id, peer| peer.link.is_some() || self.membership.get(*id).is_some());
        if self.handover_again_ns.is_some_and(|at| self.now_ns >= at) {
            self.handover_again_ns = None;
            self.handover = Some(None);
        }
    }
}

#[cfg(test)]
mod tests;
