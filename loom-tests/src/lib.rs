//! Models of the table of `ratelimit-core`, explored by [loom](https://docs.rs/loom).
//!
//! The models are in `tests`, one file for each hazard. They exist only under `--cfg ratelimit_loom`, which builds the
//! table with loom's atomics; without it this crate compiles to nothing. `docs/memory-ordering.md` says what is explored,
//! how far, and what is only argued.
//!
//! ```text
//! RUSTFLAGS="--cfg ratelimit_loom" CARGO_TARGET_DIR=target/loom \
//!     cargo test --release -p ratelimit-loom-tests -- --nocapture --test-threads=2
//! ```
//!
//! `RATELIMIT_LOOM=full` lifts the bounds as far as each model says.
