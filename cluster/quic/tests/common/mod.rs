//! What the tests share: a private authority, and nodes over a store of maps.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses its own part"
)]

pub mod ca;
#[cfg(target_os = "linux")]
pub mod net;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ratelimit_model::Limit;
use ratelimit_protocol::{
    Cell, DrainSink, Drained, GiveOutcome, Key, Lease, LimitId, LimitSpec, MapStore, Mode, NodeConfig, NodeId, Pass,
    Rules, Store,
};
use ratelimit_quic::{Config, Driver, Error, Event, Identity, Kicker, PeerState, Table, Tuning};

pub use ca::Ca;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done`, which is asked again and again.
#[track_caller]
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    assert!(comes_true(PATIENCE, done), "waited in vain until {what}");
}

pub fn comes_true(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    // Far from zero, as a real clock is.
    u64::try_from(since.as_nanos()).expect("a short test") + 3_600_000_000_000
}

/// A store that the test decides in while the driver works on it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    store: Mutex<MapStore>,
    urgent: AtomicBool,
    kicker: OnceLock<Kicker>,
    /// Calls of `drain` panic while this is set, and sleep while that is not zero.
    pub broken: AtomicBool,
    pub frozen_ms: AtomicU64,
    drains: AtomicU64,
}

impl Shared {
    pub fn new() -> Self {
        Shared(Arc::new(Inner {
            store: Mutex::new(MapStore::new(100_000)),
            urgent: AtomicBool::new(false),
            kicker: OnceLock::new(),
            broken: AtomicBool::new(false),
            frozen_ms: AtomicU64::new(0),
            drains: AtomicU64::new(0),
        }))
    }

    pub fn store(&self) -> MutexGuard<'_, MapStore> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn decide(&self, limit: u32, key: u64, cost: u64) -> bool {
        let mut store = self.store();
        let allowed = store.decide(LimitId(limit), Key(key), cost, now_ns()).allowed;
        let urgent = store.is_urgent();
        self.0.urgent.store(urgent, Ordering::Relaxed);
        drop(store);
        if urgent && let Some(kicker) = self.0.kicker.get() {
            kicker.kick();
        }
        allowed
    }

    pub fn set_broken(&self, broken: bool) {
        self.0.broken.store(broken, Ordering::Relaxed);
    }

    pub fn freeze(&self, ms: u64) {
        self.0.frozen_ms.store(ms, Ordering::Relaxed);
    }

    pub fn drains(&self) -> u64 {
        self.0.drains.load(Ordering::Relaxed)
    }

    fn with<R>(&self, work: impl FnOnce(&mut MapStore) -> R) -> R {
        let mut store = self.store();
        let result = work(&mut store);
        self.0.urgent.store(store.is_urgent(), Ordering::Relaxed);
        result
    }
}

impl Store for Shared {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        self.0.drains.fetch_add(1, Ordering::Relaxed);
        assert!(!self.0.broken.load(Ordering::Relaxed), "broken by a test");
        std::thread::sleep(Duration::from_millis(self.0.frozen_ms.load(Ordering::Relaxed)));
        self.with(|store| store.drain(pass, sink));
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        self.with(|store| store.restore(cell, drained))
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.with(|store| store.rearm(cell, units));
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        self.with(|store| store.give_lease(cell, lease, now_ns))
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        self.with(|store| store.end_lease(cell, now_ns))
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, now_ns: u64) {
        self.with(|store| store.set_rules(limit, rules, now_ns));
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.with(|store| store.set_cut(partition, hard, cut));
    }
}

impl Table for Shared {
    fn is_urgent(&self) -> bool {
        self.0.urgent.load(Ordering::Relaxed)
    }

    fn tidy(&mut self, now_ns: u64) {
        self.with(|store| store.sweep(256, now_ns));
    }
}

/// How a node of a test is made.
pub struct Making<'a> {
    pub name: &'a str,
    pub identity: Identity,
    pub seeds: Vec<String>,
    pub owners: Vec<&'a str>,
    pub limits: Vec<LimitSpec>,
    pub listen: SocketAddr,
    pub first_start: bool,
    pub change: Box<dyn Fn(&mut Config) + 'a>,
}

impl<'a> Making<'a> {
    pub fn new(name: &'a str, ca: &Ca, seeds: &[&Node]) -> Self {
        Making {
            name,
            identity: ca.identity(name),
            seeds: seeds
                .iter()
                .map(|node| node.driver().local_addr().to_string())
                .collect(),
            owners: Vec::new(),
            limits: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            first_start: true,
            change: Box::new(|_| {}),
        }
    }

    pub fn try_start(&self) -> Result<Node, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut node = NodeConfig::new(self.name);
        node.owners = self.owners.iter().map(|owner| (*owner).to_owned()).collect();
        node.limits.clone_from(&self.limits);
        let mut config = Config::new(node, self.listen, self.identity.clone());
        config.seeds.clone_from(&self.seeds);
        let life = folder.path().join("life");
        if !self.first_start {
            std::fs::write(&life, "1\n").expect("a file");
        }
        config.incarnation_file = Some(life);
        (self.change)(&mut config);
        let table = Shared::new();
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let driver = Driver::start(config, table.clone(), now_ns, move |event| {
            heard.lock().expect("events").push(event);
        })?;
        table.0.kicker.set(driver.kicker()).expect("one driver");
        Ok(Node {
            name: self.name.to_owned(),
            driver: Some(driver),
            table,
            events,
            _folder: folder,
        })
    }

    #[track_caller]
    pub fn start(&self) -> Node {
        self.try_start().expect("a node")
    }
}

pub struct Node {
    pub name: String,
    driver: Option<Driver>,
    pub table: Shared,
    events: Arc<Mutex<Vec<Event>>>,
    _folder: tempfile::TempDir,
}

impl Node {
    pub fn driver(&self) -> &Driver {
        self.driver.as_ref().expect("a running driver")
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("events").clone()
    }

    pub fn saw(&self, like: impl Fn(&Event) -> bool) -> bool {
        self.events().iter().any(like)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.driver = None;
    }

    pub fn leave(&mut self) -> bool {
        self.driver
            .take()
            .expect("a running driver")
            .leave(Duration::from_secs(10))
    }

    pub fn peer(&self, name: &str) -> Option<PeerState> {
        self.driver().peers().iter().find(|peer| peer.name == name).cloned()
    }

    pub fn is_linked(&self, name: &str) -> bool {
        self.peer(name).is_some_and(|peer| peer.linked)
    }

    /// Nothing waits to be reported or acknowledged.
    pub fn is_quiet(&self) -> bool {
        let stats = self.driver().stats();
        let waits = stats.node.peers.values().any(|peer| peer.in_flight_units > 0);
        self.table.store().unreported() == 0 && !waits
    }
}

/// Waits until all nodes are linked to each other.
#[track_caller]
pub fn wait_linked(nodes: &[&Node]) {
    for a in nodes {
        for b in nodes.iter().filter(|b| b.name != a.name) {
            wait_until(&format!("{} is linked to {}", a.name, b.name), || a.is_linked(&b.name));
        }
    }
}

/// Waits until nothing is on its way, and compares what was drained with what was applied, link by link.
#[track_caller]
pub fn compare_ledgers(nodes: &[&Node]) {
    let flow = |from: &Node, to: &Node| {
        let sent = from
            .driver()
            .stats()
            .node
            .peers
            .get(&NodeId::of(&to.name))
            .copied()
            .unwrap_or_default();
        let received = to
            .driver()
            .stats()
            .node
            .peers
            .get(&NodeId::of(&from.name))
            .copied()
            .unwrap_or_default();
        (sent, received)
    };
    wait_until("the ledgers agree", || {
        nodes.iter().all(|node| node.is_quiet())
            && nodes.iter().all(|from| {
                nodes.iter().filter(|to| to.name != from.name).all(|to| {
                    let (sent, received) = flow(from, to);
                    sent.drained_units - sent.withdrawn_units == received.applied_units && sent.doubled_units == 0
                })
            })
    });
}

pub fn spec(id: u32, limit: Limit, mode: Mode) -> LimitSpec {
    LimitSpec {
        id: LimitId(id),
        version: 1,
        // All nodes are configured alike.
        author: NodeId::of("configuration"),
        limit,
        mode,
    }
}

pub fn per_second(rate: u64, burst: u64) -> Limit {
    Limit::new(rate, Duration::from_secs(1)).expect("a limit").burst(burst)
}

/// Times in which a test need not wait long.
pub fn quick(tuning: &mut Tuning) {
    tuning.backoff_max = Duration::from_millis(200);
    tuning.reload_every = Duration::from_millis(50);
    tuning.handshake = Duration::from_millis(500);
}

/// Asks on all nodes as fast as a turn allows, for so long; returns what each was allowed.
pub fn hammer(nodes: &[&Node], limit: u32, key: u64, time: Duration) -> Vec<u64> {
    let until = Instant::now() + time;
    let mut allowed = vec![0; nodes.len()];
    while Instant::now() < until {
        for (node, allowed) in nodes.iter().zip(&mut allowed) {
            for _ in 0..4 {
                *allowed += u64::from(node.table.decide(limit, key, 1));
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    allowed
}
