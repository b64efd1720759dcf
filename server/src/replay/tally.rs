//! Decides each request under every limit, and counts what came out.

use std::time::Duration;

use super::engine::{Decider, Limit};
use super::frequent::{Clients, Counted, Frequent, KeyHasher};
use super::timeline::{Axis, Bin};
use crate::failure::Failure;

/// Clients that are counted exactly: at most 71 MB, since 3.6 million just fit a table of four million places.
const ROOM_FOR_CLIENTS: usize = 3_600_000;
/// Denied clients that are counted exactly, for each limit: at most 21 MB.
const ROOM_FOR_DENIED: usize = 65_536;

/// One limit with what it did.
pub struct LimitTally {
    /// The limit.
    pub limit: Limit,
    /// Requests it allowed.
    pub allowed: u64,
    /// Requests it denied.
    pub denied: u64,
    /// Whom it denied most.
    pub most_denied: Frequent,
    /// What it did over time; empty unless asked for.
    pub bins: Vec<Bin>,
    decider: Decider,
}

/// All limits over all requests.
pub struct Tally {
    /// The limits, in the order they were given.
    pub limits: Vec<LimitTally>,
    /// Requests decided.
    pub requests: u64,
    /// The clients they came from.
    pub clients: Clients,
    /// Where the bins lie, if asked for.
    pub axis: Option<Axis>,
    hasher: KeyHasher,
}

impl LimitTally {
    /// Decisions that are not exact, because more clients were in debt at a time than the engine's table holds.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.decider.overflowed()
    }
}

impl Tally {
    /// Nothing counted yet. Fails on a limit that the engine refuses, or if there is no memory for it.
    pub fn new(limits: &[Limit], axis: Option<Axis>) -> Result<Self, Failure> {
        let tally = |&limit: &Limit| {
            Ok(LimitTally {
                limit,
                allowed: 0,
                denied: 0,
                most_denied: Frequent::new(ROOM_FOR_DENIED),
                bins: vec![Bin::default(); axis.map_or(0, |axis| axis.bins)],
                decider: Decider::new(limit).map_err(|error| refused(limit, &error))?,
            })
        };
        Ok(Tally {
            limits: limits.iter().map(tally).collect::<Result<_, Failure>>()?,
            requests: 0,
            clients: Clients::new(ROOM_FOR_CLIENTS),
            axis,
            hasher: KeyHasher::default(),
        })
    }

    /// Decides one request under every limit. Requests must come by time.
    pub fn decide(&mut self, time_ns: u64, key: &[u8]) -> Result<(), Failure> {
        self.requests += 1;
        let hash = self.hasher.hash(key);
        self.clients.add(hash);
        let now = Duration::from_nanos(time_ns);
        let bin = self.axis.map(|axis| axis.bin(time_ns));
        for tally in &mut self.limits {
            let allowed = tally
                .decider
                .allows(key, now)
                .map_err(|error| refused(tally.limit, &error))?;
            if allowed {
                tally.allowed += 1;
            } else {
                tally.denied += 1;
                tally.most_denied.add(hash, key);
            }
            if let Some(bin) = bin.and_then(|bin| tally.bins.get_mut(bin)) {
                *(if allowed { &mut bin.allowed } else { &mut bin.denied }) += 1;
            }
        }
        Ok(())
    }

    /// The clients that a limit denied most, each with all of its requests where they are known.
    #[must_use]
    pub fn top(&self, limit: &LimitTally, n: usize) -> Vec<(Counted, Option<u64>)> {
        let top = limit.most_denied.top(n).into_iter();
        top.map(|client| (self.clients.requests_of(client.hash), client))
            .map(|(all, client)| (client, all))
            .collect()
    }
}

fn refused(limit: Limit, error: &ratelimit::Error) -> Failure {
    Failure::Io(format!("cannot decide by {limit}: {error}"))
}
