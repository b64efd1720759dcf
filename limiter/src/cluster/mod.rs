//! One limit over several nodes: what a limiter's user says about it, and the node that runs beside its table.

mod config;
mod events;
mod member;
mod metrics;
mod peer;
mod table;

pub use config::{ClusterConfig, Mode, OnPartition};
pub use events::EVENTS;
pub(crate) use member::{Member, modes, start_error, unconfirmed};
pub use peer::{Peer, PeerState};
