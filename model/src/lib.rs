//! Limits, decisions and GCRA as pure functions of (state, now, limit, cost).
//!
//! This crate knows no clock, no atomics and no I/O: every time is an argument, every answer a value. The table of cells
//! ([`ratelimit-core`](https://docs.rs/ratelimit-core)) joins this arithmetic with memory; users reach both through the
//! crate `ratelimit`.
//!
//! - [`Limit`] is what a user writes: `rate_limit` requests per `time_window`, perhaps a `burst`, perhaps `strict`.
//! - [`Gcra`] is a limit turned into numbers that cannot be wrong any more; it decides.
//! - [`Decision`] is the answer.
//! - [`time`] says how nanoseconds are kept in 56 bits.
#![forbid(unsafe_code)]
// Without the standard library no clock, thread or socket can be named, here or in what is built on this alone.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod decision;
mod gcra;
mod limit;
mod parse;
mod share;
pub mod time;

pub use decision::Decision;
pub use gcra::{Gcra, Verdict};
pub use limit::{Limit, LimitError, MAX_RATE_PER_SECOND, MAX_TOLERANCE_NS};
pub use share::{LEVEL_BITS, WHOLE_SHARE};
