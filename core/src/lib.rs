//! The table of GCRA cells behind the crate `ratelimit`: hashing a key, the clock, the cells, limits and overrides.
//!
//! Users want the crate `ratelimit`, which wraps this one. Here are the parts that every language and every backing of the
//! table needs, for ids that are already hashed.
//!
//! - [`Engine`] decides. It joins the lock-free table (`raw`), a [`Clock`] and a [`HashKey`].
//! - `share` puts one table under several processes; deciding is the same code on the same words.
//! - `raw` is the only place with unsafe table code. Its module page says which file has which subject.

// Models drive the table alone, without the engine around it; and tables are shared on Linux only.
#![cfg_attr(any(ratelimit_loom, not(target_os = "linux")), allow(dead_code, unused_imports))]

mod clock;
#[cfg(not(ratelimit_loom))]
pub mod clustered;
#[cfg(not(ratelimit_loom))]
mod counters;
#[cfg(not(ratelimit_loom))]
mod engine;
#[cfg(not(ratelimit_loom))]
mod error;
#[cfg(ratelimit_loom)]
pub mod face;
mod hash;
#[cfg(not(ratelimit_loom))]
mod joint;
#[cfg(not(ratelimit_loom))]
mod keeping;
pub mod process;
mod raw;
#[cfg(not(ratelimit_loom))]
mod sampled;
#[cfg(all(target_os = "linux", not(ratelimit_loom)))]
mod share;
#[cfg(not(ratelimit_loom))]
mod sharing;
#[cfg(not(ratelimit_loom))]
pub mod snapshot;
mod sync;
#[cfg(not(ratelimit_loom))]
pub mod thread;

pub use clock::{Clock, ManualClock};
#[cfg(not(ratelimit_loom))]
pub use engine::{Config, Engine, Stats};
#[cfg(not(ratelimit_loom))]
pub use error::EngineError;
pub use hash::{Fingerprint, HashKey};
#[cfg(not(ratelimit_loom))]
pub use joint::Part;
#[cfg(not(ratelimit_loom))]
pub use raw::{Audit, Events, MAX_LIMITS, Overflow, Survey};
#[cfg(not(ratelimit_loom))]
pub use sampled::{HEAVY_ROOM, Heavy, LATENCY_ENDS_NS, Latency};
#[cfg(all(target_os = "linux", not(ratelimit_loom)))]
pub use share::Look;
#[cfg(not(ratelimit_loom))]
pub use sharing::{SHARE_DIRECTORY, SHARED_MAX_KEYS, Sharing, With};
