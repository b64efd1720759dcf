//! The C interface of ratelimit. Its documentation is `include/ratelimit.h`, which is made from the comments here, and
//! `docs/c.md`.
//!
//! All logic is in the crate `ratelimit`; here numbers, pointers and texts are converted. `boundary` is the one place that
//! catches panics and checks what comes in; `registry` makes handles of numbers.

// Names are those of C, and its types are documented for a caller in C.
#![allow(non_camel_case_types)]
// What is exported to C is `pub` for cbindgen, which reads the sources; no Rust crate can reach it.
#![allow(unreachable_pub)]

mod boundary;
mod client_ip;
mod cluster;
mod config;
mod decide;
mod decision;
#[cfg(feature = "test-hooks")]
mod hooks;
mod limiter;
mod registry;
mod result;
mod rules;
mod statistics;
mod threads;

/// What threads of the parent were doing in calls is of no concern to a forked child.
fn forget_shared_calls() {
    config::CONFIGS.forget_shared_calls();
    limiter::LIMITERS.forget_shared_calls();
    rules::RULES.forget_shared_calls();
}
