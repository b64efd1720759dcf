//! The engine as a replay needs it: one limit, over times that can span many years.

use std::time::Duration;

pub use ratelimit::Limit;
use ratelimit::{Error, Limiter};

/// The length of a generation as a power of two, in nanoseconds: 208 days, the longest a client can be in debt.
const GENERATION_BITS: u32 = 54;

/// One limit over all clients.
///
/// The engine keeps times on a circle of 834 days and takes a client that was idle for 417 to 834 days for one from the
/// future. No service idles that long, but an archive of logs does. So clients live in generations of 208 days, each a
/// limiter of its own. In a new generation, whoever still has debt in the one before brings it along with its first
/// request; after one generation nobody has any, and the old limiter is dropped. No cell is then ever read at a time more
/// than two generations after it was written, which is where the half circle ends.
///
/// Cost: as the engine; one more look-up for each request while there is a generation before.
/// Memory: the engine's bound for a table that grows by itself, 341 MiB; up to twice that in a log of years. Only clients
/// in debt take room.
pub struct Decider {
    limit: Limit,
    limiter: Limiter,
    generation: u64,
    before: Option<Before>,
    /// Of the limiters that are gone.
    overflowed: u64,
}

/// The generation before, while it can have debt.
struct Before {
    limiter: Limiter,
    /// Tells how long a charge lasts, in the engine's own arithmetic. It has one key, which is always fresh.
    probe: Limiter,
}

const PROBE: &str = "probe";

impl Decider {
    /// Nobody has spent anything.
    pub fn new(limit: Limit) -> Result<Self, Error> {
        Ok(Decider {
            limit,
            limiter: fresh(limit)?,
            generation: 0,
            before: None,
            overflowed: 0,
        })
    }

    /// Decides one request of `key` at `now`, the time since the UNIX epoch, and charges it if it is allowed.
    ///
    /// Times must not go back from one call to the next. Errors: there is no memory for a new generation.
    pub fn allows(&mut self, key: &[u8], now: Duration) -> Result<bool, Error> {
        let generation = (now.as_nanos() >> GENERATION_BITS) as u64; // 584 years of nanoseconds fit 64 bits.
        if generation != self.generation {
            self.turn_to(generation)?;
        }
        if let Some(before) = &self.before {
            before.carry(&self.limiter, key, now);
        }
        Ok(self.limiter.check_at(key, 1, now).allowed)
    }

    /// Decisions about clients that found the engine's table full and had to share a place: not exact.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed + self.limiter.stats().overflowed
    }

    fn turn_to(&mut self, generation: u64) -> Result<(), Error> {
        let limiter = std::mem::replace(&mut self.limiter, fresh(self.limit)?);
        self.overflowed += limiter.stats().overflowed;
        // Further than one generation on, a whole one has passed without a request: all debt is paid.
        let follows = generation == self.generation + 1;
        self.before = if follows {
            Some(Before {
                limiter,
                probe: fresh(self.limit)?,
            })
        } else {
            None
        };
        self.generation = generation;
        Ok(())
    }
}

impl Before {
    /// Moves what `key` owes into `limiter`, where it owes nothing yet.
    ///
    /// A charge of `cost` that starts at the right time in the last emission interval leaves exactly the debt that the old
    /// cell has. It starts before `now`, never after: the table may give away the places of clients whose debt is paid by
    /// the time it is told.
    fn carry(&self, limiter: &Limiter, key: &[u8], now: Duration) {
        let debt = self.limiter.peek_at(key, 1, now).reset_after;
        if debt.is_zero() {
            return;
        }
        self.limiter.reset_at(key, now);
        let interval = self.lasts(1);
        let mut cost = debt.as_nanos().div_ceil(interval.as_nanos().max(1)) as u64; // At most the burst.
        if self.lasts(cost) < debt {
            cost += 1; // Intervals that are no whole number of nanoseconds add up to more than their rounded sum.
        }
        // The first generation that has one before it begins 208 days after the epoch: this is never below zero.
        limiter.check_at(key, cost, (now + debt).saturating_sub(self.lasts(cost)));
    }

    /// How long a fresh client that spends `cost` at once takes to have its full burst again.
    fn lasts(&self, cost: u64) -> Duration {
        self.probe.reset_at(PROBE, Duration::ZERO);
        self.probe.check_at(PROBE, cost, Duration::ZERO).reset_after
    }
}

fn fresh(limit: Limit) -> Result<Limiter, Error> {
    Limiter::builder().limit(limit).build()
}
