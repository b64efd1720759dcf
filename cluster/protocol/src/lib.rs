//! One limit over many nodes: owner leases as a state machine.
//!
//! Every key has one *owner*. Nodes decide locally and report counts of units to the owner alone; while a key is quiet the
//! owner says nothing, and when it is contended it answers with *leases*: a part of the rate, a part of the burst, a time.
//! What a node may spend without a lease is the one choice per limit: all ([`Mode::Eventual`]), some
//! ([`Mode::Bounded`]), nothing ([`Mode::Strict`]).
//!
//! [`Node`] is the whole protocol: bytes and time go in, bytes and events come out. It opens no socket, reads no clock and
//! starts no thread; the same calls give the same bytes. The table of cells is behind [`Store`], and how a key is decided
//! is in [`rules`].
//!
//! | module | its one subject |
//! |---|---|
//! | [`wire`] | numbers, texts, frames |
//! | [`message`] | what nodes say: start reading here |
//! | `link` | batches, applied exactly once |
//! | [`ownership`] | which node owns a key |
//! | [`membership`] | who lives |
//! | `ledger` | the owner's books: debts, demand, shares, grants |
//! | `leases` | what a holder holds |
//! | [`rules`] | how a key is decided with a lease and without |
//! | `limits` | versions of limits |
//! | `node` | joins them |
#![forbid(unsafe_code)]
// Without the standard library no clock, thread or socket can be named. CI builds for a target that has none.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
mod event;
mod id;
mod leases;
mod ledger;
mod limits;
mod link;
#[cfg(feature = "map-store")]
mod map_store;
pub mod membership;
pub mod message;
mod mutants;
mod node;
pub mod ownership;
pub mod rules;
mod stats;
mod store;
pub mod wire;

pub use config::{Caps, ConfigError, NodeConfig, OnPartition};
pub use event::Event;
pub use id::{Cell, Incarnation, Key, LimitId, LinkId, MAX_NAME, NodeId, Stream};
pub use limits::{LimitSpec, MAX_FLOOR_PPM, MAX_LIMITS, Mode, ModeError};
pub use link::{INITIAL_FREE, MAX_BATCH, WINDOW};
#[cfg(feature = "map-store")]
pub use map_store::{Answer, MapStore};
#[cfg(feature = "mutants")]
pub use mutants::Mutants;
pub use node::{Node, Transmit};
pub use rules::{Lease, Rules, Unleased};
pub use stats::{LimitStats, NodeStats, PeerStats};
pub use store::{DrainSink, Drained, GiveOutcome, Pass, Store};
