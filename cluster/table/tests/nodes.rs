//! Three nodes of the protocol over three tables, while threads decide on all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ratelimit_cluster_table::{TableStore, unconfirmed};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, Overflow};
use ratelimit_model::Limit;
use ratelimit_protocol::{Incarnation, LimitSpec, LinkId, Mode, Node, NodeConfig, NodeId, Stream};

const NAMES: [&str; 3] = ["a", "b", "c"];
const RATE: u64 = 2_000;
const BURST: u64 = 500;

fn limit() -> Limit {
    Limit::new(RATE, Duration::from_secs(1)).expect("a limit").burst(BURST)
}

struct Member {
    node: Node,
    store: TableStore,
}

/// Nodes, links and bytes on their way: what a driver and a network are.
struct Cluster {
    members: Vec<Member>,
    clock: Clock,
    on_the_way: VecDeque<(usize, LinkId, Stream, Vec<u8>)>,
}

impl Cluster {
    fn new(mode: Mode) -> (Self, Vec<Arc<Engine>>) {
        let clock = Clock::precise();
        let member = |name: &&str| {
            let engine_config = Config {
                limits: vec![limit()],
                max_keys: Some(1_000),
                hash_key: HashKey::new([7; 16]),
                // One clock, so that all nodes' times can be compared.
                clock: clock.clone(),
                overflow: Overflow::Share,
            };
            let engine = Arc::new(Engine::clustered(engine_config, &[unconfirmed(mode)]).expect("an engine"));
            let store = TableStore::new(&engine).expect("the first");
            let mut config = NodeConfig::new(name);
            config.owners = NAMES.map(str::to_owned).to_vec();
            config.first_start = true;
            config.limits = vec![LimitSpec {
                id: store.limit_ids()[0],
                version: 1,
                author: NodeId::of(NAMES[0]),
                limit: limit(),
                mode,
            }];
            let node = Node::new(config, Incarnation(1), 1, store.now_ns()).expect("a sensible configuration");
            Member { node, store }
        };
        let members: Vec<Member> = NAMES.iter().map(member).collect();
        let engines = members.iter().map(|member| Arc::clone(member.store.engine())).collect();
        let mut cluster = Cluster {
            members,
            clock,
            on_the_way: VecDeque::new(),
        };
        cluster.connect();
        (cluster, engines)
    }

    /// A link has one number at both ends: that of its two ends.
    fn connect(&mut self) {
        let now = self.clock.now();
        for one in 0..NAMES.len() {
            for other in one + 1..NAMES.len() {
                let link = LinkId((one * NAMES.len() + other) as u64);
                self.members[one].node.handle_link_up(link, NAMES[other], true, now);
                self.members[other].node.handle_link_up(link, NAMES[one], false, now);
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        loop {
            for (index, member) in self.members.iter_mut().enumerate() {
                while let Some(transmit) = member.node.poll_transmit() {
                    let ends = [
                        transmit.link.0 as usize / NAMES.len(),
                        transmit.link.0 as usize % NAMES.len(),
                    ];
                    let to = ends[usize::from(ends[0] == index)];
                    self.on_the_way
                        .push_back((to, transmit.link, transmit.stream, transmit.bytes));
                    member.node.handle_writable(transmit.link, transmit.stream, 1 << 16);
                }
                while member.node.poll_event().is_some() {}
            }
            let Some((to, link, stream, bytes)) = self.on_the_way.pop_front() else {
                return;
            };
            let now = self.clock.now();
            let Member { node, store } = &mut self.members[to];
            node.handle_bytes(link, stream, &bytes, now, store);
        }
    }

    fn turn(&mut self) {
        for Member { node, store } in &mut self.members {
            let now = store.now_ns();
            let is_due = node.poll_timeout().is_some_and(|at| at <= now);
            if is_due || store.is_urgent() {
                node.handle_tick(now, store);
            }
        }
        self.deliver();
    }
}

/// Units admitted on each node while `threads` of each decide on one key for a while; how long that was; and the cluster after it.
fn load(mode: Mode, wanted: u64) -> (u64, Duration, Cluster) {
    let (mut cluster, engines) = Cluster::new(mode);
    // The rules are known before anybody asks, as in a service that is started in order.
    cluster.turn();
    let admitted = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let key = Fingerprint::new(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    thread::scope(|scope| {
        for engine in &engines {
            for thread in 0..2u64 {
                let (admitted, done) = (&admitted, &done);
                scope.spawn(move || {
                    let cost = 1 + thread;
                    while !done.load(Ordering::Relaxed) {
                        if engine.check(key, cost, None).allowed {
                            admitted.fetch_add(cost, Ordering::Relaxed);
                        }
                        thread::yield_now();
                    }
                });
            }
        }
        let deadline = start + Duration::from_secs(20);
        while admitted.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
            cluster.turn();
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
    });
    let took = start.elapsed();
    (admitted.load(Ordering::Relaxed), took, cluster)
}

fn ever(took: Duration) -> u64 {
    BURST + (took.as_secs_f64() * RATE as f64).ceil() as u64
}

#[test]
fn strict_is_never_exceeded_while_threads_decide() {
    let wanted = BURST + RATE / 2;
    let (admitted, took, cluster) = load(Mode::Strict { floor_ppm: 0 }, wanted);
    assert!(admitted <= ever(took), "{admitted} admitted in {took:?}");
    assert!(admitted >= wanted, "only {admitted} of {wanted} admitted in {took:?}");
    let leases: usize = cluster.members.iter().map(|member| member.node.stats().leases).sum();
    assert!(leases > 0, "nobody holds a lease");
}

#[test]
fn bounded_is_exceeded_by_its_overdraft_at_most() {
    let units = 20;
    let (admitted, took, _) = load(Mode::Bounded { units }, BURST + RATE / 2);
    let most = ever(took) + units * NAMES.len() as u64;
    assert!(admitted <= most, "{admitted} admitted in {took:?}, {most} at most");
}

/// After quiet every unit that was admitted is in the owner's books, once.
#[test]
fn every_unit_is_told_once() {
    let (admitted, _, mut cluster) = load(Mode::Eventual, BURST + RATE / 2);
    let deadline = Instant::now() + Duration::from_secs(20);
    let booked = loop {
        cluster.turn();
        let stats: Vec<_> = cluster.members.iter().map(|member| member.node.stats()).collect();
        let waits = stats
            .iter()
            .flat_map(|s| s.peers.values())
            .map(|p| p.in_flight_units)
            .sum::<u64>();
        let unreported: u64 = cluster.members.iter().map(|m| m.store.engine().unreported()).sum();
        let booked: u64 = stats
            .iter()
            .map(|s| s.booked_units + s.clamped_units + s.no_room_units)
            .sum();
        if waits + unreported == 0 || Instant::now() > deadline {
            break booked;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let vain = |member: &Member| {
        let vain = member.store.engine().stats().counted_in_vain.expect("counted");
        (vain.undo_failed, vain.voided)
    };
    let vain = cluster
        .members
        .iter()
        .map(vain)
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert_eq!(booked + vain.1, admitted + vain.0, "{vain:?}");
}
