//! One rate limit over every thread of a service, decided in tens of nanoseconds inside the process.
//!
//! ```
//! use ratelimit::Limiter;
//!
//! let limiter = Limiter::builder().limit("100/minute".parse()?).build()?;
//! if limiter.is_allowed("client-7") {
//!     // serve the request
//! }
//! # Ok::<(), ratelimit::Error>(())
//! ```
//!
//! # Limits
//!
//! A limit of `N` requests per window holds **on average**: a client that was idle may spend its whole burst at once and
//! the refill after it, so up to `2 N` requests can be allowed within one window (users of other limiters report that as a
//! bug). If at most `N` are to pass in *any* window, say so: `"100/minute strict"`. A smaller burst, as in
//! `"100/minute burst 20"`, lies in between.
//!
//! The rule is GCRA, a leaky bucket kept as one time per client: exact, with no edge between windows, and without timers.
//! See [`Limit`] for the text form and [`Decision`] for the answer.
//!
//! # What is guaranteed
//!
//! - A decision takes no lock and allocates nothing. A denial writes nothing; an admission is one compare-and-swap.
//! - Under any number of threads a key is admitted exactly as often as one thread would admit it, never more.
//! - A client with debt is never evicted to make room for another. If the table is full (see [`Builder::max_keys`]),
//!   clients that find no place are denied too often rather than allowed too often, and [`Stats::overflowed`] counts them.
//! - A denial is a value. Misuse is an error with a sentence that says what to do, and a stable [code](Error::code).
//!
//! # Several processes
//!
//! [`Builder::share`] gives all processes of a user on a host one table, [`Builder::share_with_children`] those that are forked from
//! one. Otherwise each process admits the whole limit. A limiter may be used in a forked child at once.
//!
//! # Several nodes
//!
//! [`Builder::cluster`] makes a limiter one node of several that keep one limit, over QUIC with mutual TLS; see [`ClusterConfig`].
//!
//! # Features
//!
//! - `cluster` (on if nothing is said): several nodes. Without it nothing of QUIC, TLS or tokio is built.
//! - `tower`: the module `tower`, a layer for tower services (axum, tonic, hyper).
//!
//! In every build: [`headers`], decisions as the texts of HTTP header fields; [`options`], a limiter's options by name;
//! [`address`], a client's network address as its key; [`client_ip`], that address behind proxies; [`events`], what is told through
//! `tracing`.

#![forbid(unsafe_code)]

pub mod address;
mod builder;
pub mod client_ip;
#[cfg(feature = "cluster")]
mod cluster;
mod error;
pub mod events;
pub mod headers;
mod keeper;
mod key;
mod limiter;
#[doc(hidden)]
pub mod metrics;
pub mod options;
mod prometheus;
pub mod rules;
pub mod snapshot;
#[cfg(feature = "tower")]
pub mod tower;
mod wait;

pub use builder::Builder;
#[cfg(feature = "cluster")]
pub use cluster::{ClusterConfig, Mode, OnPartition, Peer, PeerState};
pub use error::{ERROR_CODES, Error, ErrorCode};
pub use key::{ClientKey, Key};
pub use limiter::{HeavyClient, Limiter, Top};
#[cfg(target_os = "linux")]
pub use ratelimit_core::Look;
pub use ratelimit_core::snapshot::{Outcome, Restore, Restored, SnapshotStats};
pub use ratelimit_core::{Audit, Clock, ManualClock, Overflow, Stats, Survey};
pub use ratelimit_core::{LATENCY_ENDS_NS, Latency};
pub use ratelimit_model::{Decision, Limit, LimitError};
pub use rules::{RuleDecision, RuleSet, RuleStats, Rules};
pub use wait::Wait;

/// The README's examples run as tests.
#[cfg(all(doctest, feature = "cluster"))]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So do those on rules.
#[cfg(doctest)]
#[doc = include_str!("../../docs/rules.md")]
struct AboutRules;

/// So do those about clusters.
#[cfg(all(doctest, feature = "cluster"))]
#[doc = include_str!("../../docs/cluster.md")]
struct Clusters;

/// So do those for users of governor.
#[cfg(doctest)]
#[doc = include_str!("../../docs/migration/rust.md")]
struct FromGovernor;
