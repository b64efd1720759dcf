//! The run: nodes, network, clocks, requests and faults, moved on by one queue of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::clock::{Clock, TrueNs};
use crate::fault::Fault;
use crate::judge::Judge;
use crate::network::{MS, Network, SECOND, WINDOW};
use crate::queue::Queue;
use crate::rng::{Rng, mix};
use crate::scenario::Scenario;
use crate::subject::{Design, Flow, LinkId, Rule, Settings, Sizes, Snapshot, Stream, Subject};
use crate::trace::Trace;

/// What happens next.
#[derive(Debug)]
pub enum Event {
    /// A request of this source arrives.
    Arrival(usize),
    /// The node asked to be called about now; void if it has another date by then.
    Tick(usize),
    /// Bytes of a stream arrive.
    Deliver {
        /// The connection.
        link: LinkId,
        /// Whom they reach.
        to: usize,
        /// The stream.
        stream: Stream,
    },
    /// A window update arrives.
    Writable {
        /// The connection.
        link: LinkId,
        /// The sender.
        node: usize,
        /// The stream.
        stream: Stream,
    },
    /// An end may have heard nothing for too long.
    Idle {
        /// The connection.
        link: LinkId,
        /// The end.
        node: usize,
        /// Since when; void if it heard something since.
        since: TrueNs,
        /// The other machine runs, and knows nothing of this connection.
        refused: bool,
    },
    /// The other end closed in good order.
    Closed {
        /// The connection.
        link: LinkId,
        /// This end.
        node: usize,
    },
    /// A node tries to reach another.
    Dial(usize, usize),
    /// The handshake is over, if both still live.
    Dialled(usize, usize),
    /// The listener learns of the connection.
    Accepted(LinkId, usize),
    /// The fault of this number happens.
    Fault(usize),
    /// All write their snapshots, and sizes are looked at.
    Every100Ms,
    /// A node that leaves has had its time.
    Exit(usize, u64),
    /// A node that left, and is to come back, starts.
    Restart(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Running,
    Leaving,
    /// Asleep, thread by thread or whole.
    Asleep {
        decides: bool,
    },
}

struct Process {
    name: String,
    state: State,
    subject: Option<Box<dyn Subject>>,
    clock: Clock,
    /// Counts lives.
    life: u64,
    last_incarnation: u64,
    newer: bool,
    tick_at: Option<TrueNs>,
    /// The sync thread looks every millisecond, each node in its own phase.
    phase: TrueNs,
    snapshot: Snapshot,
    /// The limits as its configuration file has them now.
    rules: Vec<Rule>,
    /// A balancer sends requests to a node that came later once it calls itself ready.
    serves_from: TrueNs,
    /// Whoever waits for it to end wants it started again.
    comes_back: bool,
    asleep_from: TrueNs,
    /// Requests that wait for a machine that sleeps.
    waiting: VecDeque<(u64, u64)>,
    /// What the transport has to say once the process listens again.
    deferred: Vec<Event>,
}

/// How long a node that joins is linked before it gets requests: a health check now and then, and `ready`.
const READY: TrueNs = 250 * MS;
/// More requests than this do not wait for a machine that sleeps.
const WAITING: usize = 2_000;

/// A cluster in one process.
pub struct World<'a> {
    scenario: &'a Scenario,
    design: Design,
    seed: u64,
    mutant: Option<String>,
    queue: Queue<Event>,
    network: Network,
    nodes: Vec<Process>,
    /// Which connection a node made to whom.
    dialled: BTreeMap<(usize, usize), LinkId>,
    /// Who has a date to dial whom: one at most, or two that refuse each other would dial ever more often.
    dialling: BTreeSet<(usize, usize)>,
    sources: Vec<Rng>,
    rng: Rng,
    /// Judges every request.
    pub judge: Judge,
    /// Everything, in order.
    pub trace: Trace,
    /// The largest that each structure was.
    pub largest: Sizes,
    /// Of lives that ended.
    past: Books,
}

impl<'a> World<'a> {
    /// The cluster of `scenario`, built of `design`, before anything happened.
    #[must_use]
    pub fn new(scenario: &'a Scenario, design: Design, seed: u64, mutant: Option<&str>) -> Self {
        let root = Rng::new(seed);
        let mut rng = root.fork(1);
        let count = scenario.names.len();
        let nodes = (0..count)
            .map(|node| Process {
                name: scenario.names[node].clone(),
                state: State::Down,
                subject: None,
                // Monotonic clocks count from some boot long ago.
                clock: Clock::new(
                    rng.between(SECOND, 1 << 48),
                    scenario.drift_ppm.get(node).copied().unwrap_or(0),
                ),
                life: 0,
                last_incarnation: 0,
                newer: false,
                tick_at: None,
                phase: rng.below(MS),
                snapshot: Snapshot::default(),
                rules: scenario.rules.clone(),
                serves_from: 0,
                comes_back: false,
                asleep_from: 0,
                waiting: VecDeque::new(),
                deferred: Vec::new(),
            })
            .collect();
        let mut world = World {
            scenario,
            design,
            seed,
            mutant: mutant.map(str::to_owned),
            queue: Queue::default(),
            network: Network::new(count, scenario.conditions.clone(), root.fork(2).bits()),
            nodes,
            dialled: BTreeMap::new(),
            dialling: BTreeSet::new(),
            sources: (0..scenario.sources.len())
                .map(|source| root.fork(1_000 + source as u64))
                .collect(),
            rng,
            judge: Judge::new(scenario),
            trace: Trace::default(),
            largest: Sizes::default(),
            past: Books::default(),
        };
        for (number, (at, _)) in scenario.faults.iter().enumerate() {
            world.queue.plan(*at, Event::Fault(number));
        }
        for source in 0..world.sources.len() {
            world.plan_arrival(source, true);
        }
        world.queue.plan(100 * MS, Event::Every100Ms);
        world
    }

    /// Goes on until `end`, or until `stop` says so. Returns whether the end was reached.
    pub fn run(&mut self, end: TrueNs, stop: &dyn Fn() -> bool) -> bool {
        let mut count = 0_u64;
        while let Some((now, event)) = self.queue.take() {
            if now >= end {
                break;
            }
            self.handle(event, now);
            count += 1;
            if count.is_multiple_of(65_536) && stop() {
                return false;
            }
        }
        true
    }

    /// How many events happened or are planned.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.queue.planned()
    }

    /// The network, for its counts.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn handle(&mut self, event: Event, now: TrueNs) {
        match event {
            Event::Arrival(source) => {
                self.plan_arrival(source, false);
                self.arrive(source, now);
            }
            Event::Tick(node) => {
                if self.nodes[node].tick_at == Some(now) {
                    self.nodes[node].tick_at = None;
                    if self.listens(node) {
                        self.trace.note(1, now, node as u64);
                        let local = self.nodes[node].clock.now(now);
                        self.with(node, |subject| subject.tick(local));
                    }
                }
            }
            Event::Deliver { link, to, stream } => {
                if let Some(bytes) = self.network.deliver(link, to, stream, &mut self.queue) {
                    self.hand_over(to, link, stream, &bytes, now);
                }
            }
            Event::Writable { link, node, stream } if self.listens(node) => {
                if let Some(free) = self.network.updated(link, node, stream) {
                    self.with(node, |subject| subject.writable(link, stream, free));
                }
            }
            Event::Idle {
                link,
                node,
                since,
                refused,
            } => {
                if self.network.is_silent(link, node, since) {
                    if self.listens(node) {
                        self.end_of_link(link, node, now);
                    } else {
                        self.nodes[node].deferred.push(Event::Idle {
                            link,
                            node,
                            since,
                            refused,
                        });
                    }
                }
            }
            Event::Closed { link, node } => {
                if self.network.is_up(link, node) {
                    if self.listens(node) {
                        self.end_of_link(link, node, now);
                    } else {
                        self.nodes[node].deferred.push(Event::Closed { link, node });
                    }
                }
            }
            Event::Dial(from, to) => {
                self.dialling.remove(&(from, to));
                self.dial(from, to, now);
            }
            Event::Dialled(from, to) => self.dialled(from, to, now),
            Event::Accepted(link, node) => {
                if self.network.is_up(link, node) {
                    if self.listens(node) {
                        self.greet(link, node, false, now);
                    } else {
                        self.nodes[node].deferred.push(Event::Accepted(link, node));
                    }
                }
            }
            Event::Fault(number) => {
                let scenario = self.scenario;
                self.trace.note(2, now, number as u64);
                self.fault(&scenario.faults[number].1, now);
            }
            Event::Every100Ms => {
                self.queue.plan(now + 100 * MS, Event::Every100Ms);
                self.look(now);
            }
            Event::Exit(node, life) => {
                if self.nodes[node].life == life && self.nodes[node].state == State::Leaving {
                    self.end(node, true, now);
                }
            }
            Event::Restart(node) => self.start(node, now),
            Event::Writable { link, node, stream } => {
                self.nodes[node].deferred.push(Event::Writable { link, node, stream });
            }
        }
    }

    fn listens(&self, node: usize) -> bool {
        matches!(self.nodes[node].state, State::Running | State::Leaving)
    }

    /// Does something to a node, and then what every driver does: sends what it wants sent and sets its timer.
    fn with(&mut self, node: usize, work: impl FnOnce(&mut dyn Subject)) {
        let now = self.queue.now();
        let Some(subject) = self.nodes[node].subject.as_deref_mut() else {
            return;
        };
        work(subject);
        while let Some(transmit) = subject.transmit() {
            self.trace.bytes(3, now, &transmit.bytes);
            self.network
                .send(transmit.link, node, transmit.stream, transmit.bytes, &mut self.queue);
        }
        let closed: Vec<LinkId> = std::iter::from_fn(|| subject.close()).collect();
        for link in closed {
            self.trace.note(9, now, link ^ node as u64);
            self.hang_up(link, node, true, now);
        }
        self.plan_tick(node, now);
        let process = &self.nodes[node];
        if process.state == State::Leaving && process.subject.as_deref().is_some_and(Subject::has_left) {
            self.end(node, true, now);
        }
    }

    fn plan_tick(&mut self, node: usize, now: TrueNs) {
        let process = &mut self.nodes[node];
        if !matches!(process.state, State::Running | State::Leaving) {
            return;
        }
        let Some(subject) = process.subject.as_deref() else {
            return;
        };
        let asked = subject.next_tick().map(|local| process.clock.when(local, now));
        let millisecond = (now + process.phase) / MS * MS + MS - process.phase;
        let urgent = subject.is_urgent().then_some(millisecond);
        let Some(at) = asked.into_iter().chain(urgent).min() else {
            return;
        };
        // A node that wants to be called at once again has just been called: a thread would not spin either.
        let at = if at <= now { now + MS / 10 } else { at };
        if process.tick_at.is_none_or(|planned| at < planned) {
            process.tick_at = Some(at);
            self.queue.plan(at, Event::Tick(node));
        }
    }

    fn plan_arrival(&mut self, source: usize, first: bool) {
        let now = self.queue.now();
        let rng = &mut self.sources[source];
        if let Some(at) = self.scenario.sources[source].next(now, rng) {
            // Sources that begin together are not in step.
            let at = if first && at < SECOND { rng.below(at + 1) } else { at };
            if at < self.scenario.load_ends {
                self.queue.plan(at, Event::Arrival(source));
            }
        }
    }

    fn arrive(&mut self, source: usize, now: TrueNs) {
        let scenario = self.scenario;
        let config = &scenario.sources[source];
        let rng = &mut self.sources[source];
        let key = config.key(rng);
        let cost = rng.between(1, config.most_cost);
        let count = self.nodes.len();
        let serves = |node: &usize| {
            let process = &self.nodes[*node];
            !matches!(process.state, State::Down | State::Leaving) && now >= process.serves_from
        };
        let Some(node) = (0..count).map(|step| (config.node + step) % count).find(serves) else {
            return;
        };
        if self.nodes[node].state == (State::Asleep { decides: false }) {
            let waiting = &mut self.nodes[node].waiting;
            if waiting.len() < WAITING {
                waiting.push_back((key, cost));
            }
        } else {
            self.decide(node, key, cost, now);
        }
    }

    fn decide(&mut self, node: usize, key: u64, cost: u64, now: TrueNs) {
        let process = &mut self.nodes[node];
        let Some(subject) = process.subject.as_deref_mut() else {
            return;
        };
        let fingerprint = mix(self.seed ^ mix(key));
        let admitted = subject.decide(fingerprint, 0, cost, process.clock.now(now));
        self.judge.request(now, node, key, cost, admitted);
        if process.state == (State::Asleep { decides: true }) {
            self.judge.asleep(now - process.asleep_from, key, admitted);
        }
        self.trace
            .note(4, now, (key << 20) | ((node as u64) << 1) | u64::from(admitted));
        self.plan_tick(node, now);
    }

    /// Gives a node the bytes of a stream, now and then in several pieces, since a reader sees no message borders.
    fn hand_over(&mut self, node: usize, link: LinkId, stream: Stream, bytes: &[u8], now: TrueNs) {
        self.trace.bytes(5, now, bytes);
        let local = self.nodes[node].clock.now(now);
        let mut rest = bytes;
        while rest.len() > 1 && self.rng.chance(100) {
            let (first, second) = rest.split_at(1 + self.rng.below(rest.len() as u64 - 1) as usize);
            self.with(node, |subject| subject.bytes(link, stream, first, local));
            rest = second;
        }
        self.with(node, |subject| subject.bytes(link, stream, rest, local));
    }

    fn greet(&mut self, link: LinkId, node: usize, outbound: bool, now: TrueNs) {
        let Some(peer) = self.network.peer(link, node) else {
            return;
        };
        let name = self.nodes[peer].name.clone();
        self.trace.note(6, now, link ^ node as u64);
        let local = self.nodes[node].clock.now(now);
        self.with(node, |subject| {
            subject.link_up(link, &name, outbound, local);
            subject.writable(link, Stream::Control, WINDOW);
            subject.writable(link, Stream::Report, WINDOW);
        });
    }

    fn end_of_link(&mut self, link: LinkId, node: usize, now: TrueNs) {
        self.trace.note(7, now, link ^ node as u64);
        self.hang_up(link, node, false, now);
        let local = self.nodes[node].clock.now(now);
        self.with(node, |subject| subject.link_down(link, local));
    }

    /// The transport of one end is gone; whoever dialled dials again.
    fn hang_up(&mut self, link: LinkId, node: usize, politely: bool, now: TrueNs) {
        let peer = self.network.peer(link, node);
        self.network.close_end(link, node, politely, &mut self.queue);
        if let Some(peer) = peer
            && self.dialled.get(&(node, peer)) == Some(&link)
        {
            self.dialled.remove(&(node, peer));
        }
        // Each side tries, since neither knows why it ended.
        if let Some(peer) = peer
            && !self.is_linked(node, peer)
        {
            self.redial(node, peer, now);
        }
    }

    /// Whether this node has a connection to the other, whoever made it.
    fn is_linked(&self, node: usize, peer: usize) -> bool {
        let made = [self.dialled.get(&(node, peer)), self.dialled.get(&(peer, node))];
        made.into_iter().flatten().any(|link| self.network.is_up(*link, node))
    }

    fn redial(&mut self, from: usize, to: usize, now: TrueNs) {
        let wait = self.rng.between(250 * MS, SECOND);
        self.plan_dial(from, to, now + wait);
    }

    fn plan_dial(&mut self, from: usize, to: usize, at: TrueNs) {
        if self.dialling.insert((from, to)) {
            self.queue.plan(at, Event::Dial(from, to));
        }
    }

    fn is_reachable(&self, from: usize, to: usize) -> bool {
        self.listens(from) && self.listens(to) && !self.network.is_cut(from, to) && !self.network.is_cut(to, from)
    }

    fn dial(&mut self, from: usize, to: usize, now: TrueNs) {
        if !matches!(self.nodes[from].state, State::Running | State::Asleep { .. }) || self.is_linked(from, to) {
            return;
        }
        if self.is_reachable(from, to) {
            let round_trip = 2 * self.network.delay(from, to);
            self.queue.plan(now + round_trip, Event::Dialled(from, to));
        } else {
            self.redial(from, to, now);
        }
    }

    fn dialled(&mut self, from: usize, to: usize, now: TrueNs) {
        if self.nodes[from].state == State::Down || self.is_linked(from, to) {
            return;
        }
        if !self.is_reachable(from, to) {
            self.redial(from, to, now);
            return;
        }
        let link = self.network.connect(from, to, now);
        self.dialled.insert((from, to), link);
        self.queue
            .plan(now + self.network.delay(from, to), Event::Accepted(link, to));
        self.greet(link, from, true, now);
    }

    fn fault(&mut self, fault: &Fault, now: TrueNs) {
        match fault {
            Fault::Start(node) => self.start(*node, now),
            Fault::Crash(node) => self.end(*node, false, now),
            Fault::Leave(node) => {
                if self.nodes[*node].state == State::Running {
                    self.nodes[*node].state = State::Leaving;
                    let local = self.nodes[*node].clock.now(now);
                    self.with(*node, |subject| subject.leave(local));
                    self.queue
                        // Its own limit is three seconds; a supervisor waits a little longer.
                        .plan(now + 4 * SECOND, Event::Exit(*node, self.nodes[*node].life));
                }
            }
            Fault::Pause(node) => self.sleep(*node, false, now),
            Fault::Stop(node) => {
                self.sleep(*node, false, now);
                self.nodes[*node].clock.stop(now);
            }
            Fault::Freeze(node) => self.sleep(*node, true, now),
            Fault::Wake(node) => self.wake(*node, now),
            Fault::Groups(groups) => self.network.set_groups(groups.clone(), &mut self.queue),
            Fault::Cut(from, to) => self.network.set_cut(*from, *to, true, &mut self.queue),
            Fault::Mend(from, to) => self.network.set_cut(*from, *to, false, &mut self.queue),
            Fault::Loss(per_mille) => self.network.conditions.loss_per_mille = *per_mille,
            Fault::StopReading(node) => {
                let nothing = self.network.set_reading(*node, false, &mut self.queue);
                debug_assert!(nothing.is_empty(), "who stops reading has read nothing more");
            }
            Fault::Read(node) => self.read(*node, now),
            Fault::StepWall(node, by_ms) => self.nodes[*node].clock.step_wall(*by_ms),
            Fault::Drift(node, ppm) => self.nodes[*node].clock.set_drift(*ppm, now),
            Fault::SetLimit(node, rule) => {
                self.nodes[*node].rules[0] = *rule;
                self.judge.limit_changed(now, *rule);
                let local = self.nodes[*node].clock.now(now);
                self.with(*node, |subject| subject.set_limit(0, *rule, local));
            }
            Fault::Garbage(node, length) => {
                for link in self.network.links_of(*node) {
                    for stream in [Stream::Control, Stream::Report] {
                        let bytes = (0..*length).map(|_| self.rng.bits() as u8).collect();
                        self.network.send(link, *node, stream, bytes, &mut self.queue);
                    }
                }
            }
            Fault::Upgrade(node) => self.nodes[*node].newer = true,
            Fault::Lie(node, factor) => self.with(*node, |subject| subject.lie(*factor)),
        }
    }

    fn start(&mut self, node: usize, now: TrueNs) {
        if self.nodes[node].state != State::Down {
            self.nodes[node].comes_back = self.nodes[node].state == State::Leaving;
            return;
        }
        let process = &mut self.nodes[node];
        process.life += 1;
        let wall = (process.clock.wall_ms(now) << 16) | self.rng.below(1 << 16);
        // The last one is on disk, so a wall clock that was set back does not matter.
        process.last_incarnation = wall.max(process.last_incarnation + 1);
        let local = process.clock.now(now);
        let settings = Settings {
            name: process.name.clone(),
            members: Rc::clone(&self.scenario.members),
            owners: self.scenario.owners.clone(),
            rules: process.rules.clone(),
            interval_ns: self.scenario.interval_ns,
            urgent: self.scenario.urgent,
            ledger_cap: self.scenario.ledger_cap,
            incarnation: process.last_incarnation,
            seed: self.rng.bits(),
            newer: process.newer,
            first_start: process.life == 1,
            mutant: self.mutant.clone(),
        };
        let mut subject = self.design.node(&settings, local);
        if process.life > 1 {
            subject.restore(&process.snapshot, local);
        }
        process.subject = Some(subject);
        process.state = State::Running;
        process.serves_from = if now == 0 { 0 } else { now + READY };
        process.tick_at = None;
        if process.life > 1 {
            self.judge.restarted(node, now);
        }
        self.network.set_running(node, true, &mut self.queue);
        // A node that starts dials all its peers; two that start together may have two connections for a moment.
        let count = self.nodes.len();
        let reached = self.scenario.reached;
        for peer in (0..count).filter(|peer| *peer != node && (node < reached || *peer < reached)) {
            let soon = self.rng.below(20 * MS);
            self.plan_dial(node, peer, now + soon);
        }
        self.with(node, |_| ());
    }

    /// The process ends. What it knew is gone, but for its snapshot and our own books.
    fn end(&mut self, node: usize, politely: bool, now: TrueNs) {
        if self.nodes[node].state == State::Down {
            return;
        }
        if let Some(subject) = self.nodes[node].subject.take() {
            let name = self.nodes[node].name.clone();
            if politely && self.scenario.snapshots {
                self.nodes[node].snapshot = subject.snapshot(self.nodes[node].clock.now(now));
            }
            for flow in subject.flows() {
                self.past.add(&name, &flow);
            }
        }
        let process = &mut self.nodes[node];
        process.clock.start(now);
        process.state = State::Down;
        process.waiting.clear();
        process.deferred.clear();
        process.tick_at = None;
        for link in self.network.links_of(node) {
            self.network.close_end(link, node, politely, &mut self.queue);
        }
        self.dialled.retain(|(from, _), _| *from != node);
        if std::mem::take(&mut self.nodes[node].comes_back) {
            self.queue.plan(now + 100 * MS, Event::Restart(node));
        }
        self.network.set_running(node, false, &mut self.queue);
        // A new process reads, whatever the old one did.
        let _ = self.network.set_reading(node, true, &mut self.queue);
    }

    fn sleep(&mut self, node: usize, decides: bool, now: TrueNs) {
        if self.nodes[node].state == State::Running {
            self.trace.note(8, now, node as u64);
            self.nodes[node].state = State::Asleep { decides };
            self.nodes[node].asleep_from = now;
            self.nodes[node].tick_at = None;
            let _ = self.network.set_reading(node, false, &mut self.queue);
            self.network.set_running(node, false, &mut self.queue);
        }
    }

    fn wake(&mut self, node: usize, now: TrueNs) {
        if !matches!(self.nodes[node].state, State::Asleep { .. }) {
            return;
        }
        self.nodes[node].clock.start(now);
        self.nodes[node].state = State::Running;
        self.network.set_running(node, true, &mut self.queue);
        // Threads that decide wake no later than the one that syncs: requests first, with the new time and the old leases.
        for (key, cost) in std::mem::take(&mut self.nodes[node].waiting) {
            self.decide(node, key, cost, now);
        }
        // Who connected is greeted before it is heard.
        for event in std::mem::take(&mut self.nodes[node].deferred) {
            self.handle(event, now);
        }
        self.read(node, now);
        let local = self.nodes[node].clock.now(now);
        self.with(node, |subject| subject.tick(local));
    }

    fn read(&mut self, node: usize, now: TrueNs) {
        for (link, stream, bytes) in self.network.set_reading(node, true, &mut self.queue) {
            self.hand_over(node, link, stream, &bytes, now);
        }
    }

    fn look(&mut self, now: TrueNs) {
        // A thousand nodes are not asked for all their sizes ten times a second.
        if self.nodes.len() > 20 && !now.is_multiple_of(SECOND) {
            return;
        }
        let writes = self.scenario.snapshots && now.is_multiple_of(SECOND);
        for process in &mut self.nodes {
            let Some(subject) = process.subject.as_deref() else {
                continue;
            };
            let sizes = subject.sizes();
            let largest = &mut self.largest;
            largest.cells = largest.cells.max(sizes.cells);
            largest.ledger = largest.ledger.max(sizes.ledger);
            largest.leases = largest.leases.max(sizes.leases);
            largest.in_flight = largest.in_flight.max(sizes.in_flight);
            largest.queued_bytes = largest.queued_bytes.max(sizes.queued_bytes);
            if writes && process.state == State::Running {
                process.snapshot = subject.snapshot(process.clock.now(now));
            }
        }
    }

    /// What went from whom to whom, over all lives of both.
    #[must_use]
    pub fn books(&self) -> Books {
        let mut books = self.past.clone();
        for process in &self.nodes {
            if let Some(subject) = process.subject.as_deref() {
                for flow in subject.flows() {
                    books.add(&process.name, &flow);
                }
            }
        }
        books
    }

    /// Whether no running node has anything left to say.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.nodes
            .iter()
            .filter_map(|process| process.subject.as_deref())
            .all(Subject::is_quiet)
    }
}

/// The simulator's own books of all units: (from whom, to whom) to what the two said of it.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// As the sender says, and `applied` as the receiver says.
    pub flows: BTreeMap<(String, String), Flow>,
}

impl Books {
    fn add(&mut self, name: &str, flow: &Flow) {
        let sent = self.flows.entry((name.to_owned(), flow.peer.clone())).or_default();
        sent.drained += flow.drained;
        sent.acknowledged += flow.acknowledged;
        sent.in_flight += flow.in_flight;
        sent.withdrawn += flow.withdrawn;
        sent.doubled += flow.doubled;
        self.flows
            .entry((flow.peer.clone(), name.to_owned()))
            .or_default()
            .applied += flow.applied;
    }

    /// All flows together.
    #[must_use]
    pub fn total(&self) -> Flow {
        let mut total = Flow::default();
        for flow in self.flows.values() {
            total.drained += flow.drained;
            total.acknowledged += flow.acknowledged;
            total.in_flight += flow.in_flight;
            total.withdrawn += flow.withdrawn;
            total.doubled += flow.doubled;
            total.applied += flow.applied;
        }
        total
    }
}
