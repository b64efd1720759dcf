//! A node of this project's limiter in each process, over QUIC with certificates both ways, as `ratelimit certs` makes
//! them. Everyone else's nodes trust each other unasked and speak in the clear, which is their default.

use std::path::Path;
use std::time::{Duration, Instant};

use ratelimit::{ClusterConfig, Limit, Limiter, Mode};

use super::{Embedded, Node, READY_WITHIN};
use crate::plan::NODES;

fn name(number: usize) -> String {
    format!("node-{number}")
}

/// Makes the certificates of all nodes, once for a run.
pub(crate) fn certificates(directory: &Path) -> Result<(), String> {
    let names: Vec<String> = (0..NODES).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    ratelimit_certs::make(&ratelimit_certs::Options::new(directory, &names))
        .map(drop)
        .map_err(|error| format!("no certificates: {error}"))
}

struct Ours(Limiter);

impl Embedded for Ours {
    fn ask(&self, id: &str) -> bool {
        self.0.is_allowed(id)
    }
}

/// Starts the node and waits until it is linked to all the others.
pub(crate) fn start(node: &Node, strict: bool) -> Result<Box<dyn Embedded>, String> {
    let limit = Limit::new(node.quota.rate.into(), Duration::from_secs(1))
        .map_err(|error| error.to_string())?
        .burst(node.quota.burst.into());
    let limiter = Limiter::builder()
        .limit(limit)
        .cluster(ClusterConfig {
            node: name(node.number),
            listen: node.address().to_owned(),
            seeds: node.others(),
            certs: Some(node.certs.clone().into()),
            mode: if strict {
                Mode::Strict { floor_ppm: 0 }
            } else {
                Mode::Eventual
            },
            // The same owners for both modes, so that they differ in nothing else.
            owners: (0..NODES).map(name).collect(),
            ..ClusterConfig::default()
        })
        .build()
        .map_err(|error| format!("ratelimit's node did not start: {error}"))?;
    let until = Instant::now() + READY_WITHIN;
    if !limiter.ready(until.saturating_duration_since(Instant::now())) {
        return Err(format!(
            "ratelimit's node is not ready after {READY_WITHIN:?}: {:?}",
            limiter.peers()
        ));
    }
    Ok(Box::new(Ours(limiter)))
}
