use std::sync::Arc;

use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow};
use ratelimit_model::Limit;

use crate::{Error, Limiter};

/// Makes a [`Limiter`]. Only a limit is needed.
///
/// ```
/// use ratelimit::{Clock, Limiter};
///
/// let limiter = Limiter::builder()
///     .limit("10/s".parse()?)
///     .limit("1000/day".parse()?)
///     .max_keys(1_000_000)
///     .clock(Clock::coarse())
///     .build()?;
/// # Ok::<(), ratelimit::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing until build() is called"]
pub struct Builder {
    limits: Vec<Limit>,
    max_keys: Option<u64>,
    hash_key: Option<HashKey>,
    clock: Option<Clock>,
    overflow: Overflow,
}

impl Builder {
    /// Adds a limit. With several (at most 8) a request is allowed only if all allow it, and then all are charged; if one
    /// denies, none is charged.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Makes room for so many clients with debt at the same time, and bounds the memory by it.
    ///
    /// Sizes: about 33 bytes per client and limit, reserved as addresses now and used as they are touched. A client takes
    /// room only while it has debt: after `reset_after` its place is free. Without this call the table starts at 64 KiB and
    /// grows on its own, up to 40 million cells (615 MiB); a table whose size is known is up to twice as fast.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = Some(max_keys as u64);
        self
    }

    /// The clock that decides; [`Clock::precise`] if none is given.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The secret that keys the hash of ids; random if none is given. Attackers who know it can choose ids that share a
    /// budget.
    pub fn hash_key(mut self, secret: [u8; 16]) -> Self {
        self.hash_key = Some(HashKey::new(secret));
        self
    }

    /// What happens to clients that find the table full; [`Overflow::Share`] if nothing is said.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Makes the limiter. Starts no thread and opens no file.
    ///
    /// Errors: no limit or too many, a limit that makes no sense, a `max_keys` beyond what can be addressed, or no memory.
    pub fn build(self) -> Result<Limiter, Error> {
        let hash_key = match self.hash_key {
            Some(hash_key) => hash_key,
            None => HashKey::random()
                .map_err(|error| Error::System(format!("the system gave no randomness for the secret: {error}")))?,
        };
        let engine = Engine::new(Config {
            limits: self.limits,
            max_keys: self.max_keys,
            hash_key,
            clock: self.clock.unwrap_or_else(Clock::precise),
            overflow: self.overflow,
        })?;
        Ok(Limiter {
            engine: Arc::new(engine),
        })
    }
}
