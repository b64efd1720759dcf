//! One limit over several nodes: what a limiter's user says about it, and the node that runs beside its table.

mod config;
mod peer;

pub use config::{ClusterConfig, Mode, OnPartition};
pub use peer::{Peer, PeerState};
