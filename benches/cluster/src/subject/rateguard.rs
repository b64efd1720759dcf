//! A node of `rateguard` in each process, with its gossip running. Its key salt is on, as its documentation asks for
//! where clients choose the keys; the gossip is not signed, which is its default. Its burst is for each node.

use std::time::{Duration, Instant};

use ::rateguard::{Guard, Limit};
use tokio::runtime::{Builder, Runtime};

use super::{Embedded, Node, READY_WITHIN};
use crate::plan::NODES;

/// Any 128 bits: the measured hash does the same work whatever its key.
const SALT: [u8; 16] = *b"any sixteen byte";

// The fields are dropped in this order: the guard first, then the runtime its node lives in.
struct Rateguard {
    guard: Guard,
    _runtime: Runtime,
}

impl Embedded for Rateguard {
    fn ask(&self, id: &str) -> bool {
        self.guard.check(id).is_allowed()
    }
}

/// Starts the node and waits until it counts all the others.
pub(crate) fn start(node: &Node) -> Result<Box<dyn Embedded>, String> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| format!("no tokio runtime could be started: {error}"))?;
    let guard = {
        let _inside = runtime.enter();
        Guard::builder()
            .bind(node.address())
            .advertise(node.address())
            .seeds(node.others())
            .default_limit(Limit::per_second(node.quota.rate).burst(node.quota.burst))
            .key_salt(SALT)
            .spawn()
            .map_err(|error| format!("rateguard's node did not start: {error}"))?
    };
    let until = Instant::now() + READY_WITHIN;
    while guard.cluster_size() != NODES {
        if Instant::now() > until {
            return Err(format!(
                "rateguard counts {} of {NODES} nodes after {READY_WITHIN:?}",
                guard.cluster_size()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(Box::new(Rateguard {
        guard,
        _runtime: runtime,
    }))
}
