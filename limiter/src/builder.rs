use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ratelimit_core::snapshot::Restore;
use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow};
use ratelimit_model::Limit;

use crate::keeper::Persist;
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
    persist: Option<Persist>,
    restore: Restore,
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

    /// Keeps what clients owe in a file, so that a limit outlives the process: written `every` so often in the background, and once
    /// more when the limiter is closed or its last handle dropped; read by [`build`](Builder::build).
    ///
    /// After a crash a client has at most one burst more than it should, and never waits longer than its own window. Nothing that
    /// happens to the file or the disk changes a decision: failures are events (of the crate `tracing`), figures of
    /// [`Stats::snapshot`](crate::Stats) and metrics. What is kept is 16 bytes for each client with debt, without its id, for this
    /// user alone. Beside `path` lie `path.1` (the snapshot before), `path.key` (the secret, unless
    /// [`hash_key`](Builder::hash_key) gives one) and `path.lock`. A directory that does not exist is made.
    ///
    /// Overrides are configuration and are not kept: set them again after `build`. The thread starts with the first
    /// decision; a forked child keeps deciding, and does not write.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("api.snapshot");
    /// use ratelimit::Limiter;
    /// use std::time::Duration;
    ///
    /// let limiter = Limiter::builder()
    ///     .limit("100/minute".parse()?)
    ///     .persist(path, Duration::from_secs(1))
    ///     .build()?;
    /// assert!(limiter.is_allowed("client-7"));
    /// limiter.snapshot()?; // now, beside those written every second
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    pub fn persist(mut self, path: impl Into<PathBuf>, every: Duration) -> Self {
        self.persist = Some(Persist {
            path: path.into(),
            every,
        });
        self
    }

    /// What to do about a snapshot that is damaged; [`Restore::Auto`] if nothing is said. Without
    /// [`persist`](Builder::persist) there is none, and nothing to do.
    pub fn restore(mut self, restore: Restore) -> Self {
        self.restore = restore;
        self
    }

    /// Makes the limiter. Starts no thread, and opens no file unless snapshots are [kept](Builder::persist).
    ///
    /// Errors: no limit or too many, a limit that makes no sense, a `max_keys` beyond what can be addressed, or no memory; a
    /// snapshot path that cannot be used or that another limiter uses, or no whole snapshot where one is required.
    pub fn build(self) -> Result<Limiter, Error> {
        // Before the key: whoever holds the place may make it.
        let disk = self.persist.as_ref().map(Persist::open).transpose()?;
        let hash_key = match (self.hash_key, &self.persist) {
            (Some(hash_key), _) => hash_key,
            (None, Some(persist)) => persist.hash_key()?,
            (None, None) => HashKey::random()
                .map_err(|error| Error::System(format!("the system gave no randomness for the secret: {error}")))?,
        };
        let engine = Engine::new(Config {
            limits: self.limits,
            max_keys: self.max_keys,
            hash_key,
            clock: self.clock.unwrap_or_else(Clock::precise),
            overflow: self.overflow,
        })?;
        let (engine, keeper) = match (self.persist, disk) {
            (Some(persist), Some(disk)) => {
                let (engine, keeper) = persist.begin(disk, engine, self.restore)?;
                (engine, Some(Arc::new(keeper)))
            }
            _ => (Arc::new(engine), None),
        };
        Ok(Limiter { engine, keeper })
    }
}
