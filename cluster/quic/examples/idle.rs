//! What a cluster costs while nobody asks anything: `cargo run --release -p ratelimit-quic --example idle [NODES [SECONDS]]`.
//!
//! All nodes are in this process, on loopback, each linked to each. Linux only, since memory is read from /proc.
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ratelimit_certs::{Options, make, paths};
use ratelimit_protocol::{
    Cell, DrainSink, Drained, GiveOutcome, Lease, LimitId, MapStore, NodeConfig, Pass, Rules, Store,
};
use ratelimit_quic::{Config, Driver, Identity, Pem, Table};

struct Idle(MapStore);

impl Store for Idle {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        self.0.drain(pass, sink);
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        self.0.restore(cell, drained)
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.0.rearm(cell, units);
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        self.0.give_lease(cell, lease, now_ns)
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        self.0.end_lease(cell, now_ns)
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, now_ns: u64) {
        self.0.set_rules(limit, rules, now_ns);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.0.set_cut(partition, hard, cut);
    }
}

impl Table for Idle {
    fn is_urgent(&self) -> bool {
        self.0.is_urgent()
    }
}

fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds of processor time that this process has used.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn resident_kib() -> Result<f64, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = statm.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(pages * 4.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let nodes: usize = args.next().as_deref().unwrap_or("3").parse()?;
    let seconds: u64 = args.next().as_deref().unwrap_or("20").parse()?;
    let names: Vec<String> = (0..nodes).map(|n| format!("node-{n}")).collect();
    let folder = tempfile::tempdir()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    make(&Options::new(folder.path(), &names))?;

    let before_kib = resident_kib()?;
    let mut drivers = Vec::<Driver>::new();
    for name in &names {
        let [ca, cert, key, _] = paths(folder.path(), name).map(Pem::File);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::new(NodeConfig::new(name), listen, Identity { ca, cert, key });
        config.seeds = drivers
            .iter()
            .take(1)
            .map(|driver| driver.local_addr().to_string())
            .collect();
        drivers.push(Driver::start(config, Idle(MapStore::new(1000)), now_ns, |_| {})?);
        if drivers.len() == 1 {
            std::thread::sleep(Duration::from_millis(500));
            println!("one node alone      {:>8.0} KiB", resident_kib()? - before_kib);
        }
    }
    let linked = |driver: &Driver| driver.peers().iter().filter(|peer| peer.linked).count() == nodes - 1;
    let until = Instant::now() + Duration::from_secs(60);
    while !drivers.iter().all(linked) {
        if Instant::now() > until {
            return Err("the nodes did not find each other in a minute".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Links of the beginning, which were one too many, go.
    std::thread::sleep(Duration::from_secs(2));

    let sums = |driver: &Driver| {
        let bytes: u64 = driver.peers().iter().map(|peer| peer.sent_bytes).sum();
        (driver.stats().wakes, bytes)
    };
    let first: Vec<(u64, u64)> = drivers.iter().map(sums).collect();
    let processor = processor_seconds()?;
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    let passed = began.elapsed().as_secs_f64();
    let processor = processor_seconds()? - processor;
    let last: Vec<(u64, u64)> = drivers.iter().map(sums).collect();
    let all = nodes as f64;
    let ends = all * (all - 1.0);
    let wakes: u64 = first.iter().zip(&last).map(|(first, last)| last.0 - first.0).sum();
    let bytes: u64 = first.iter().zip(&last).map(|(first, last)| last.1 - first.1).sum();
    println!("nodes               {nodes:>8}, each linked to each, idle for {passed:.0} s");
    println!(
        "processor           {:>8.2} % of one core for each node",
        100.0 * processor / passed / all
    );
    println!(
        "wakes               {:>8.0} a second for each node",
        wakes as f64 / passed / all
    );
    println!(
        "bytes sent          {:>8.0} a second for each end of a link",
        bytes as f64 / passed / ends.max(1.0)
    );
    println!(
        "memory              {:>8.0} KiB for each node, its links included",
        (resident_kib()? - before_kib) / all
    );
    let rtt = drivers
        .iter()
        .flat_map(|driver| driver.peers().iter().filter_map(|peer| peer.rtt).collect::<Vec<_>>())
        .max();
    println!(
        "round trip          {:>8.0} us at most",
        rtt.unwrap_or_default().as_secs_f64() * 1e6
    );

    let kicker = drivers[0].kicker();
    let rounds = 1000u32;
    let mut slowest = Duration::ZERO;
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let began = Instant::now();
        kicker.kick();
        let took = began.elapsed();
        slowest = slowest.max(took);
        total += took;
    }
    println!(
        "a kick              {:>8.0} ns, {:.0} ns at most of {rounds}",
        total.as_nanos() as f64 / f64::from(rounds),
        slowest.as_nanos() as f64
    );
    Ok(())
}
