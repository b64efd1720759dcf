//! Deciding one request, and many.

use std::time::Duration;

use ratelimit_model::{Decision, time};

use super::{Changed, Engine};
use crate::error::EngineError;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Axis, Place, Ruling};
use crate::sampled::Heavy;

/// Keys that are hashed and brought near before the first of them is decided.
const BATCH: usize = 16;
/// Batches that are decided at one reading of the clock: far less than a millisecond's worth. A time that is too old by
/// the end of a long slice would look like a clock that was set back, and take away what others have charged since.
const BATCHES_PER_READING: usize = 256;

impl Engine {
    /// Whether a request of cost 1 is allowed now; if so it is charged.
    #[inline]
    #[must_use]
    pub fn is_allowed(&self, client: Fingerprint) -> bool {
        // The lines travel while the clock is read.
        let place = self.table.approach(client);
        self.allow(client, &place, self.clock.now(), true)
    }

    #[inline(always)]
    fn allow(&self, client: Fingerprint, place: &Place, now: u64, alone: bool) -> bool {
        let allowed = match self.table.decide_at(place, now, Axis::Own, 1) {
            Some(ruling) => ruling.allowed,
            None => {
                std::hint::cold_path();
                self.allow_otherwise(client, place.first_line(), now)
            }
        };
        self.counted(client, allowed, alone.then_some(now));
        allowed
    }

    /// On a node of a cluster, and in all cases that are not the common one.
    #[inline(never)]
    fn allow_otherwise(&self, client: Fingerprint, line: u64, now: u64) -> bool {
        match self.table.decide_counted_at(client, line, now, 1, &self.clock) {
            Some(allowed) => allowed,
            None => self.decide_the_long_way(client, now, Axis::Own, 1).allowed,
        }
    }

    #[inline(never)]
    fn decide_otherwise(&self, client: Fingerprint, line: u64, now: u64, axis: Axis, cost: u64) -> Decision {
        let counted = match axis {
            Axis::Own => self
                .table
                .decide_counted_at::<Ruling>(client, line, now, cost, &self.clock),
            Axis::Given => None,
        };
        match counted {
            Some(ruling) => ruling.decision(),
            None => self.decide_the_long_way(client, now, axis, cost),
        }
    }

    #[inline(always)]
    fn counted(&self, client: Fingerprint, allowed: bool, started: Option<u64>) {
        let weight = self.counters.count(allowed);
        if weight != 0 {
            self.sample(client, allowed, weight, started);
        }
        self.used();
    }

    /// Looks closely at one decision. `started` is the own time that was read for it alone.
    #[cold]
    #[inline(never)]
    pub(crate) fn sample(&self, client: Fingerprint, allowed: bool, weight: u64, started: Option<u64>) {
        let took = started.map(|started| time::ahead(self.clock.now(), started));
        self.sampled.add(client, allowed, weight, took);
    }

    /// Whether the clients that ask most and are denied most are listed, from a sample. Off at first. Cost: none for a decision; for one
    /// in some hundred a lock that nobody waits for.
    pub fn list_clients(&self, lists: bool) {
        self.sampled.list_clients(lists);
    }

    /// Up to `n` of the clients that were denied most, and of those that asked most, since they are
    /// [listed](Engine::list_clients).
    #[must_use]
    pub fn top(&self, n: usize) -> [Vec<Heavy>; 2] {
        self.sampled.top(n)
    }

    /// What follows every decision.
    #[inline]
    pub(crate) fn used(&self) {
        if self.first_use.is_due() {
            self.first_use.take();
        }
    }

    /// Counts a change that is no admission, once it is made.
    pub fn changed(&self) {
        drop(Changed(&self.changes));
    }

    /// Decides a request of `cost`, at a given time or else now, and charges it if it is allowed.
    #[inline]
    #[must_use]
    pub fn check(&self, client: Fingerprint, cost: u64, now: Option<Duration>) -> Decision {
        let place = self.table.approach(client);
        match now {
            None => self.decide(client, &place, self.clock.now(), Axis::Own, cost, true),
            Some(given) => self.decide(client, &place, time::wrap(given), Axis::Given, cost, false),
        }
    }

    #[inline(always)]
    fn decide(&self, client: Fingerprint, place: &Place, now: u64, axis: Axis, cost: u64, alone: bool) -> Decision {
        let decision = match self.table.decide_at(place, now, axis, cost) {
            Some(ruling) => ruling.decision(),
            None => {
                std::hint::cold_path();
                self.decide_otherwise(client, place.first_line(), now, axis, cost)
            }
        };
        self.counted(client, decision.allowed, alone.then_some(now));
        decision
    }

    /// What [`check`](Engine::check) would say, without charging anything.
    #[must_use]
    pub fn peek(&self, client: Fingerprint, cost: u64, now: Option<Duration>) -> Decision {
        let asked = self.asked(cost, now);
        if let Some(blocked) = self.blocked(client, &asked).or_else(|| self.refused(&asked)) {
            return blocked;
        }
        let cell = self.cell_of(client, asked.axis);
        self.binding((0..self.limits_of(client)).map(|limit| self.table.peek(cell, limit, &asked)))
    }

    /// Decides many requests. `answer` decides one of them.
    #[inline(always)]
    fn many<K, R>(
        &self,
        keys: &[K],
        costs: Option<&[u64]>,
        given: Option<Duration>,
        answers: &mut [R],
        fingerprint: impl Fn(&K) -> Fingerprint,
        answer: impl Fn(Fingerprint, &Place, u64, Axis, u64) -> R,
    ) -> Result<(), EngineError> {
        let mismatch = |others: usize| {
            Err(EngineError::Lengths {
                keys: keys.len(),
                others,
            })
        };
        if keys.len() != answers.len() {
            return mismatch(answers.len());
        }
        if let Some(costs) = costs
            && costs.len() != keys.len()
        {
            return mismatch(costs.len());
        }
        if keys.is_empty() {
            return Ok(());
        }
        let axis = if given.is_some() { Axis::Given } else { Axis::Own };
        let time = || given.map_or_else(|| self.clock.now(), time::wrap);
        let mut now = time();
        let mut waiting = [(Fingerprint::new(0), Place::default()); BATCH];
        for (chunk, (keys, answers)) in keys.chunks(BATCH).zip(answers.chunks_mut(BATCH)).enumerate() {
            if chunk > 0 && chunk % BATCHES_PER_READING == 0 {
                now = time();
            }
            for (waiting, key) in waiting.iter_mut().zip(keys) {
                let client = fingerprint(key);
                *waiting = (client, self.table.approach(client));
            }
            for (i, ((client, place), slot)) in waiting.iter().zip(answers.iter_mut()).enumerate() {
                let cost = costs.map_or(1, |costs| costs[chunk * BATCH + i]);
                *slot = answer(*client, place, now, axis, cost);
            }
        }
        Ok(())
    }

    /// Decides one request of each key, with one reading of the clock for up to 4,096 keys; keys are hashed and brought near
    /// 16 at a time.
    ///
    /// Errors: slices of different lengths; nothing is decided then.
    pub fn check_many<K>(
        &self,
        keys: &[K],
        costs: Option<&[u64]>,
        now: Option<Duration>,
        decisions: &mut [Decision],
        fingerprint: impl Fn(&K) -> Fingerprint,
    ) -> Result<(), EngineError> {
        self.many(
            keys,
            costs,
            now,
            decisions,
            fingerprint,
            |client, place, now, axis, cost| self.decide(client, place, now, axis, cost, false),
        )
    }

    /// As [`check_many`](Engine::check_many), for those who only want to know whether.
    pub fn allowed_many<K>(
        &self,
        keys: &[K],
        allowed: &mut [bool],
        fingerprint: impl Fn(&K) -> Fingerprint,
    ) -> Result<(), EngineError> {
        self.many(keys, None, None, allowed, fingerprint, |client, place, now, _, _| {
            self.allow(client, place, now, false)
        })
    }

    pub(crate) fn asked(&self, cost: u64, now: Option<Duration>) -> Asked<'_> {
        match now {
            None => Asked {
                now: self.clock.now(),
                axis: Axis::Own,
                cost,
                clock: &self.clock,
                under: None,
            },
            Some(given) => Asked {
                now: time::wrap(given),
                axis: Axis::Given,
                cost,
                clock: &self.clock,
                under: None,
            },
        }
    }
}
