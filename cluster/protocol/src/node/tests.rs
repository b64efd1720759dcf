//! Whole nodes in memory: each test reads like a story, and nothing sleeps.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use ratelimit_model::{Gcra, LEVEL_BITS, Limit};

use super::*;
use crate::limits::Mode;
use crate::map_store::MapStore;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const LIMIT: LimitId = LimitId(0);
const KEY: Key = Key(0x1234_5678_9abc_def0);

use crate::id::Key;

/// The single bucket that the cluster should be: its worst debt beyond the burst is the over-admission of all windows.
struct Oracle {
    gcra: Gcra,
    tat_ns: u64,
    worst: i128,
    admitted: u64,
}

impl Oracle {
    fn new(gcra: Gcra) -> Self {
        Oracle {
            gcra,
            tat_ns: 0,
            worst: i128::MIN,
            admitted: 0,
        }
    }

    fn admit(&mut self, cost: u64, now_ns: u64) {
        self.admitted += cost;
        self.tat_ns = self.tat_ns.max(now_ns) + self.gcra.time_of(u128::from(cost) << LEVEL_BITS);
        let beyond = i128::from(self.tat_ns - now_ns) - i128::from(self.gcra.tolerance_ns());
        self.worst = self.worst.max(beyond);
    }

    /// Units above the burst, rounded to the nearest: a state is whole nanoseconds.
    fn excess(&self) -> i128 {
        let interval = i128::from(self.gcra.time_of(1 << LEVEL_BITS));
        (self.worst + interval / 2).div_euclid(interval)
    }
}

struct Place {
    node: Node,
    store: MapStore,
    name: String,
    alive: bool,
}

type Bytes = (LinkId, Stream, Vec<u8>);

/// Nodes, and links of one delay between all of them.
struct Net {
    now_ns: u64,
    places: Vec<Place>,
    /// (from, to) is cut: what goes that way waits, as it does in an ordered stream, until it is mended or the link dies.
    cut: BTreeMap<(usize, usize), Vec<Bytes>>,
    /// Link to its two ends.
    links: BTreeMap<LinkId, (usize, usize)>,
    next_link: u64,
    /// By arrival: where to, and what.
    flying: BTreeMap<(u64, u64), (usize, Bytes)>,
    sent: u64,
    delay_ns: u64,
    events: Vec<(usize, Event)>,
    oracle: Oracle,
    denied: u64,
}

fn limit(rate: u64, burst: u64) -> Limit {
    Limit::new(rate, Duration::from_secs(1)).expect("a limit").burst(burst)
}

fn spec(limit: Limit, mode: Mode) -> LimitSpec {
    LimitSpec {
        id: LIMIT,
        version: 1,
        author: NodeId(0),
        limit,
        mode,
    }
}

impl Net {
    fn new(count: usize, spec: LimitSpec, change: impl Fn(&mut NodeConfig)) -> Net {
        let names: Vec<String> = (0..count).map(|i| format!("node-{i}")).collect();
        let mut net = Net {
            now_ns: 0,
            places: vec![],
            cut: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            flying: BTreeMap::new(),
            sent: 0,
            delay_ns: MS,
            events: vec![],
            oracle: Oracle::new(Gcra::new(&spec.limit).expect("numbers")),
            denied: 0,
        };
        for (i, name) in names.iter().enumerate() {
            let mut config = NodeConfig::new(name);
            config.limits = vec![spec];
            config.first_start = true;
            if spec.mode.is_hard() {
                config.owners = names.clone();
            }
            change(&mut config);
            let node = Node::new(config, Incarnation(1), i as u64 + 1, 0).expect("a configuration");
            net.places.push(Place {
                node,
                store: MapStore::new(1 << 16),
                name: name.clone(),
                alive: true,
            });
        }
        for a in 0..count {
            for b in a + 1..count {
                net.link(a, b);
            }
        }
        net.run(20 * MS, |_, _| {});
        net
    }

    fn link(&mut self, a: usize, b: usize) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (a, b));
        let now_ns = self.now_ns;
        let (name_a, name_b) = (self.places[a].name.clone(), self.places[b].name.clone());
        self.places[a].node.handle_link_up(link, &name_b, true, now_ns);
        self.places[b].node.handle_link_up(link, &name_a, false, now_ns);
    }

    fn drop_link(&mut self, link: LinkId) {
        if let Some((a, b)) = self.links.remove(&link) {
            for place in [a, b] {
                self.places[place].node.handle_link_down(link, self.now_ns);
            }
            self.flying.retain(|_, (_, (of, ..))| *of != link);
        }
    }

    fn cut_between(&mut self, a: usize, b: usize) {
        let links: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, ends)| **ends == (a, b) || **ends == (b, a))
            .map(|(id, _)| *id)
            .collect();
        links.into_iter().for_each(|link| self.drop_link(link));
    }

    fn cut_way(&mut self, from: usize, to: usize) {
        self.cut.entry((from, to)).or_default();
    }

    fn mend(&mut self) {
        for ((_, to), waiting) in core::mem::take(&mut self.cut) {
            for (link, stream, bytes) in waiting.into_iter().filter(|(link, ..)| self.links.contains_key(link)) {
                self.sent += 1;
                let at = (self.now_ns + self.delay_ns).max(self.flying.last_key_value().map_or(0, |(at, _)| at.0));
                self.flying.insert((at, self.sent), (to, (link, stream, bytes)));
            }
        }
    }

    /// Asks node `i` for one unit.
    fn ask(&mut self, i: usize, key: Key, cost: u64) -> bool {
        let now_ns = self.now_ns;
        let allowed = self.places[i].store.decide(LIMIT, key, cost, now_ns).allowed;
        if allowed && key == KEY {
            self.oracle.admit(cost, now_ns);
        } else if !allowed {
            self.denied += 1;
        }
        allowed
    }

    fn owner(&mut self) -> usize {
        let cell = Cell { limit: LIMIT, key: KEY };
        let owner = self.places[0].node.owner(cell).expect("an owner");
        self.places
            .iter()
            .position(|p| NodeId::of(&p.name) == owner)
            .expect("one of them")
    }

    /// One tenth of a millisecond at a time.
    fn run(&mut self, for_ns: u64, mut work: impl FnMut(&mut Net, u64)) {
        let end_ns = self.now_ns + for_ns;
        while self.now_ns < end_ns {
            self.now_ns += MS / 10;
            work(self, self.now_ns);
            self.step();
        }
    }

    fn step(&mut self) {
        let now_ns = self.now_ns;
        while let Some(((at, seq), _)) = self.flying.first_key_value()
            && *at <= now_ns
        {
            let place = (*at, *seq);
            let (to, (link, stream, bytes)) = self.flying.remove(&place).expect("the first");
            let Place { node, store, alive, .. } = &mut self.places[to];
            if *alive {
                // Cut in the middle, as a network may.
                let (head, tail) = bytes.split_at(bytes.len() / 2);
                node.handle_bytes(link, stream, head, now_ns, store);
                node.handle_bytes(link, stream, tail, now_ns, store);
            }
        }
        for i in 0..self.places.len() {
            let Place { node, store, alive, .. } = &mut self.places[i];
            if !*alive {
                continue;
            }
            let due = node.poll_timeout().is_some_and(|at| at <= now_ns);
            if due || store.is_urgent() && now_ns.is_multiple_of(MS) {
                node.handle_tick(now_ns, store);
            }
            while let Some(Transmit { link, stream, bytes }) = node.poll_transmit() {
                node.handle_writable(link, stream, 1 << 16);
                let Some((a, b)) = self.links.get(&link) else {
                    continue;
                };
                let to = if *a == i { *b } else { *a };
                self.sent += 1;
                if let Some(waiting) = self.cut.get_mut(&(i, to)) {
                    waiting.push((link, stream, bytes));
                } else {
                    // A delay that shrinks must not let bytes overtake.
                    let at = (now_ns + self.delay_ns).max(self.flying.last_key_value().map_or(0, |(at, _)| at.0));
                    self.flying.insert((at, self.sent), (to, (link, stream, bytes)));
                }
            }
            while let Some(event) = node.poll_event() {
                if let Event::CloseLink { link, .. } = event
                    && let Some((a, b)) = self.links.get(&link).copied()
                {
                    let other = if a == i { b } else { a };
                    self.places[other].node.handle_link_down(link, now_ns);
                    self.links.remove(&link);
                    self.events.push((i, event));
                    break;
                }
                self.events.push((i, event));
            }
        }
        self.check();
    }

    /// What must hold after every step, whatever the story.
    fn check(&self) {
        for place in self.places.iter().filter(|place| place.alive) {
            for peer in place.node.peers.values() {
                assert!(peer.outbox.unacked() <= crate::link::WINDOW);
                let box_ = &peer.outbox;
                assert_eq!(
                    box_.drained_units,
                    box_.acked_units + box_.unacked_units() + box_.withdrawn_units,
                    "units of {} went nowhere",
                    place.name
                );
            }
        }
    }

    fn restart(&mut self, i: usize, incarnation: u64) {
        let links: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, (a, b))| *a == i || *b == i)
            .map(|(id, _)| *id)
            .collect();
        for link in links {
            self.drop_link(link);
        }
        let mut config = self.places[i].node.config.clone();
        config.first_start = false;
        let place = &mut self.places[i];
        place.node = Node::new(config, Incarnation(incarnation), 77, self.now_ns).expect("a configuration");
        place.store = MapStore::new(1 << 16);
        place.alive = true;
    }
}

/// Every node asks for one unit every `every_ns`.
fn flood(every_ns: u64) -> impl FnMut(&mut Net, u64) {
    move |net, now_ns| {
        if now_ns.is_multiple_of(every_ns) {
            for i in 0..net.places.len() {
                net.ask(i, KEY, 1);
            }
        }
    }
}

#[test]
fn a_quiet_key_costs_no_answer_and_is_not_limited() {
    let mut net = Net::new(3, spec(limit(1000, 100), Mode::Eventual), |_| {});
    net.run(2 * SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(10 * MS) {
            assert!(net.ask(0, KEY, 1), "100/s of 1,000/s");
        }
    });
    assert_eq!(net.places[0].node.leases.len(), 0);
}

#[test]
fn one_node_gets_the_whole_limit_though_it_starts_cold() {
    let mut net = Net::new(5, spec(limit(1000, 100), Mode::Eventual), |_| {});
    net.run(SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            net.ask(0, KEY, 1);
        }
    });
    let before = net.oracle.admitted;
    net.run(2 * SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            net.ask(0, KEY, 1);
        }
    });
    let used = net.oracle.admitted - before;
    assert!((1900..=2010).contains(&used), "{used} of 2,000");
    assert!(net.oracle.excess() <= 30, "{}", net.oracle.excess());
}

#[test]
fn a_cold_start_on_all_nodes_stays_near_the_burst_and_the_rate_is_kept() {
    let mut net = Net::new(5, spec(limit(1000, 100), Mode::Eventual), |_| {});
    net.run(SECOND, flood(MS));
    std::println!(
        "cold: admitted {} in the first second, excess {}",
        net.oracle.admitted,
        net.oracle.excess()
    );
    assert!(net.oracle.excess() <= 60, "{}", net.oracle.excess());
    for second in 0..3 {
        let before = net.oracle.admitted;
        net.run(SECOND, flood(MS));
        let used = net.oracle.admitted - before;
        std::println!("second {second}: {used}");
        assert!((960..=1010).contains(&used), "{used} in second {second}");
    }
}

mod estimate;
mod faults;
mod hard;
