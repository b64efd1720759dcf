//! N nodes of a cluster in one process and in virtual time.
//!
//! One seed is one run, on every machine: all that happens comes from one queue of events ordered by time
//! ([`queue`], [`world`]), every draw from one seed ([`rng`]), and the hash of everything ([`trace`]) says whether two runs
//! were the same.
//!
//! - [`network`], [`clock`], [`fault`] misbehave; [`workload`] asks; [`scenario`] puts them together.
//! - [`subject`] is what is put to the test: the protocol, and two baselines.
//! - [`oracle`], [`meter`] and [`judge`] see every request and say what was wrong with it; [`run`](mod@run) sums up.
//! - [`cli`] prints tables, [`report`] writes `docs/accuracy.md`.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod cli;
pub mod clock;
pub mod fault;
pub mod judge;
pub mod meter;
pub mod network;
pub mod oracle;
pub mod plot;
pub mod queue;
pub mod report;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod stop;
pub mod subject;
pub mod table;
pub mod trace;
pub mod workload;
pub mod world;
