//! Carries the cluster protocol between nodes: QUIC with mutual TLS, on one thread of its own.
//!
//! [`Driver::start`] binds a UDP port and starts a thread with a private runtime; on it lives one
//! [`ratelimit_protocol::Node`], which says what to send, and the node's table, as the protocol sees it ([`Table`]).
//! Requests are decided elsewhere and wait for nothing here: with this thread frozen, decisions go on.
//!
//! **Who is believed.** A node proves its name by a certificate of a private authority, in both directions of every link;
//! there is no other way to link. Nothing is kept for anybody who has not proved it, but a bounded number of handshakes.
//!
//! | module | its one subject |
//! |---|---|
//! | `config` | what a driver is told |
//! | `driver` | the handle that the rest of the process holds |
//! | `wake` | waking the thread from the path that decides, without a lock |
//! | `thread` | one life after another: a panic ends a life, not the driver |
//! | `engine` | one life: the node, its links, its table, in turns |
//! | `accept` | handshakes of others: how many, from where |
//! | `dial` | seeds, addresses, pauses |
//! | `link` | one connection: its streams as tasks |
//! | `tls`, `transport` | certificates, and all there is of TLS; the settings of QUIC |
//! | `journal` | telling events to whoever runs the driver |
//! | `fork` | the sockets that a forked child does not keep |
//! | `incarnation` | the file that remembers the node's life |
#![deny(unsafe_code)]

mod accept;
mod config;
mod dial;
mod driver;
mod engine;
mod error;
mod event;
mod fork;
mod incarnation;
mod journal;
mod link;
mod stats;
mod thread;
mod tls;
mod transport;
mod wake;

pub use config::{Config, Identity, Pem, Tuning};
pub use driver::{Driver, Prepared, SetLimitError, Table};
pub use error::{CertificateError, Error};
pub use event::{Event, HandshakeRefusal, ModeOfWork};
pub use stats::{DriverStats, PeerState};
pub use wake::Kicker;
