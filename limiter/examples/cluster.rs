//! One node of a cluster: asks for one client, or for as many as are said last, at a steady rate and says ten times a second what it got.
//!
//! ```sh
//! cargo run -p ratelimit-server -- certs /tmp/certs a b
//! cargo run -p ratelimit --example cluster -- a 127.0.0.1:7001 127.0.0.1:7002 /tmp/certs /tmp/a.snapshot "100/s" 300
//! cargo run -p ratelimit --example cluster -- b 127.0.0.1:7002 127.0.0.1:7001 /tmp/certs /tmp/b.snapshot "100/s" 300
//! ```
//!
//! A line "limit 200/s" on its input changes the limit on all nodes; the end of the input says goodbye.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratelimit::{ClusterConfig, Limiter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, listen, seeds, certs, snapshot, limit, rate, clients @ ..] = arguments.as_slice() else {
        return Err("usage: cluster NODE LISTEN SEEDS CERTS SNAPSHOT LIMIT RATE [CLIENTS]".into());
    };
    let clients: u64 = clients.first().map_or(Ok(1), |clients| clients.parse())?;
    let limiter = Limiter::builder()
        .limit(limit.parse()?)
        .persist(snapshot, Duration::from_millis(100))
        .cluster(ClusterConfig {
            node: node.clone(),
            listen: listen.clone(),
            seeds: seeds.split(',').map(str::to_owned).collect(),
            certs: Some(certs.into()),
            ..ClusterConfig::default()
        })
        .build()?;
    let _not_yet = limiter.ready(Duration::ZERO);
    let rate: f64 = rate.parse()?;

    static DONE: AtomicBool = AtomicBool::new(false);
    let told = limiter.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let limit = line.trim_start_matches("limit ").parse();
            if let Err(error) = limit.map_err(Into::into).and_then(|limit| told.set_limit(limit)) {
                eprintln!("{line}: {error}");
            }
        }
        DONE.store(true, Ordering::Relaxed);
    });

    let start = Instant::now();
    let mut told = start;
    let (mut offered, mut admitted) = (0_u64, 0_u64);
    let mut out = std::io::stdout();
    while !DONE.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        while offered < due {
            let allowed = match clients {
                0 | 1 => limiter.is_allowed("client-7"),
                // Every client comes again and again, in an order without a pattern.
                many => limiter.is_allowed(&format!(
                    "client-{}",
                    offered.wrapping_mul(0x9e37_79b9_7f4a_7c15) % many
                )),
            };
            admitted += u64::from(allowed);
            offered += 1;
        }
        if told.elapsed() >= Duration::from_millis(100) {
            told = Instant::now();
            writeln!(out, "{admitted} {offered}")?;
            out.flush()?;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    limiter.close()?;
    writeln!(out, "{admitted} {offered}")?;
    Ok(())
}
