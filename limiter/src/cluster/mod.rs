//! One limit over several nodes: what a limiter's user says about it, and the node that runs beside its table.

mod config;

pub use config::{ClusterConfig, Mode, OnPartition};
