//! The cluster protocol over the real table.
//!
//! [`TableStore`] is a [`Store`](ratelimit_protocol::Store) over an [`Engine`](ratelimit_core::Engine): every thread of the process
//! decides on the engine, lock-free, while one thread runs a protocol [`Node`](ratelimit_protocol::Node) with this store. It
//! belongs to that thread and holds the right to synchronise the table.
//!
//! ```
//! use std::sync::Arc;
//! use ratelimit_cluster_table::TableStore;
//! use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow};
//! use ratelimit_protocol::{Incarnation, LimitSpec, Mode, Node, NodeConfig, NodeId};
//!
//! let limit: ratelimit_model::Limit = "100/s".parse().unwrap();
//! let config = Config {
//!     limits: vec![limit],
//!     max_keys: None,
//!     hash_key: HashKey::new([7; 16]), // the cluster's secret
//!     clock: Clock::precise(),
//!     overflow: Overflow::Share,
//! };
//! // What may be spent on a key of each limit before the node says more: see `unconfirmed`.
//! let mode = Mode::Eventual;
//! let engine = Arc::new(Engine::clustered(config, &[ratelimit_cluster_table::unconfirmed(mode)]).unwrap());
//! let mut store = TableStore::new(&engine).expect("nobody else synchronises it");
//!
//! let mut config = NodeConfig::new("a");
//! config.limits = vec![LimitSpec { id: store.limit_ids()[0], version: 1, author: NodeId::of("a"), limit, mode }];
//! config.first_start = true;
//! let now_ns = store.now_ns();
//! let mut node = Node::new(config, Incarnation(1), 1, now_ns).unwrap();
//! node.handle_tick(now_ns, &mut store);
//! // From here on all threads decide, and this one drives the node.
//! assert!(engine.is_allowed(engine.fingerprint(b"client-7")));
//! ```
#![forbid(unsafe_code)]

mod store;

pub use store::{MOST_ADRIFT, TableStats, TableStore, limit_ids, unconfirmed};
