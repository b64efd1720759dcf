//! Models of the table: every file has the name of a hazard, every test states one property.
//!
//! See `src/lib.rs` for how to run them.

#[cfg(not(ratelimit_loom))]
#[test]
fn models_need_their_own_build() {
    println!("To explore the models: RUSTFLAGS=\"--cfg ratelimit_loom\" cargo test --release -p ratelimit-loom-tests");
}

#[cfg(ratelimit_loom)]
mod backwards;
#[cfg(ratelimit_loom)]
mod bell;
#[cfg(ratelimit_loom)]
mod collective;
#[cfg(ratelimit_loom)]
mod counted;
#[cfg(ratelimit_loom)]
mod dead;
#[cfg(ratelimit_loom)]
mod denial;
#[cfg(ratelimit_loom)]
mod document;
#[cfg(ratelimit_loom)]
mod explorer;
#[cfg(ratelimit_loom)]
mod handles;
#[cfg(ratelimit_loom)]
mod harness;
#[cfg(ratelimit_loom)]
mod help;
#[cfg(ratelimit_loom)]
mod insert;
#[cfg(ratelimit_loom)]
mod last_token;
#[cfg(ratelimit_loom)]
mod lease;
#[cfg(ratelimit_loom)]
mod limit_change;
#[cfg(ratelimit_loom)]
mod mutants;
#[cfg(ratelimit_loom)]
mod overrides;
#[cfg(ratelimit_loom)]
mod recycle;
#[cfg(ratelimit_loom)]
mod refund;
#[cfg(ratelimit_loom)]
mod stopped;
#[cfg(ratelimit_loom)]
mod tiers;
