//! Table, clock, secret and limits in one: all that deciding needs, for ids that are already hashed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratelimit_model::{Decision, Gcra, Limit, time};

use crate::clock::Clock;
use crate::clustered::{Refunds, Vain};
use crate::counters::Counters;
use crate::error::EngineError;
use crate::hash::{Fingerprint, HashKey};
use crate::keeping::FirstUse;
use crate::raw::{
    Asked, Audit, Axis, Events, Geometry, MAX_LIMITS, NoRoom, Overflow, Place, Record, Ruling, Survey, Table,
};
use crate::sampled::{Heavy, Latency, Sampled};
use crate::sharing::Sharing;
use crate::snapshot::SnapshotStats;

/// Keys that are hashed and brought near before the first of them is decided.
const BATCH: usize = 16;
/// Batches that are decided at one reading of the clock: far less than a millisecond's worth. A time that is too old by
/// the end of a long slice would look like a clock that was set back, and take away what others have charged since.
const BATCHES_PER_READING: usize = 256;
/// 208 days.
const LONGEST_BLOCK_NS: u64 = ratelimit_model::MAX_TOLERANCE_NS;

/// How to make an [`Engine`].
#[derive(Clone, Debug)]
pub struct Config {
    /// One or more limits; a request is allowed only if all allow it.
    pub limits: Vec<Limit>,
    /// The number of clients with debt to have room for; `None` grows on its own, up to about 25 million.
    pub max_keys: Option<u64>,
    /// What keys the fingerprints.
    pub hash_key: HashKey,
    /// The own clock.
    pub clock: Clock,
    /// What happens to clients that find no cell.
    pub overflow: Overflow,
}

/// What a limiter has done and how full it is. Counts are of this process, since the limiter was made.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests allowed.
    pub allowed: u64,
    /// Requests denied.
    pub denied: u64,
    /// Decisions on clients that found no cell (see [`Overflow`]); they are counted above as well.
    pub overflowed: u64,
    /// Clients that got a cell.
    pub inserted: u64,
    /// Of those, how many took over the expired cell of another.
    pub recycled: u64,
    /// Cells brought along after a change of limit, of override or of the kind of time.
    pub translated: u64,
    /// Clients brought back because a clock was set back by more than their window.
    pub stepped: u64,
    /// How full the table is, from a sample.
    pub table: Survey,
    /// What the clock reads: `tsc`, `os`, `coarse` or `manual`.
    pub clock: &'static str,
    /// Whether the processor's counter was found wrong and the operating system's clock is used since.
    pub clock_fell_back: bool,
    /// How the keeping of snapshots goes, if any are kept.
    pub snapshot: Option<SnapshotStats>,
    /// How long sampled decisions took.
    pub latency: Latency,
    /// What was counted for the cluster in vain, on a node of one.
    pub counted_in_vain: Option<Vain>,
    /// With whom the table is shared: `no`, `children` or `name`.
    pub shared_with: &'static str,
    /// How many limiters are attached to the table, this one among them; 1 if it is not shared.
    pub attached: usize,
}

/// Decides for ids that are already hashed.
pub struct Engine {
    pub(crate) table: Table,
    pub(crate) hash_key: HashKey,
    pub(crate) clock: Clock,
    limits: usize,
    pub(crate) counters: Counters,
    /// On lines of its own: what is read at every decision stays where it is.
    pub(crate) sampled: Box<Sampled>,
    /// What changes the table beside admissions.
    pub(crate) changes: AtomicU64,
    pub(crate) first_use: FirstUse,
    sharing: Option<Sharing>,
    pub(crate) refunds: Option<Refunds>,
}

impl Engine {
    /// The largest `max_keys`.
    pub const MOST_KEYS: u64 = 1 << 33;

    /// Makes an engine. Reserves addresses for the whole table; memory is used as it is touched.
    ///
    /// Errors: see [`EngineError`]; nothing is left behind.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let given = Self::checked(&config.limits)?;
        let geometry = Self::geometry(config.max_keys, given)?;
        Ok(Engine {
            table: Table::new(geometry, &config.limits, config.overflow).map_err(EngineError::Memory)?,
            hash_key: config.hash_key,
            clock: config.clock,
            limits: given,
            counters: Counters::new(),
            sampled: Box::default(),
            changes: AtomicU64::new(0),
            first_use: FirstUse::default(),
            sharing: None,
            refunds: None,
        })
    }

    /// Makes an engine on a node of a cluster: what it allows is counted beside each cell, to be reported to the key's owner, and
    /// owners' leases are obeyed. Nothing is reported and no lease comes without one who [synchronises](Engine::synchronise).
    ///
    /// `unconfirmed`: for each limit, the units that may be spent on a key before an owner knows of them: `u64::MAX` for no bound,
    /// 0 for a limit that is never exceeded. It holds until a [rule](crate::clustered::Synchroniser::set_rule) is given.
    ///
    /// **What is different** from an engine of its own:
    /// - What a decision says is left is what this node may spend.
    /// - A block holds on this node. A reset lifts the block; it forgets what was spent, on this node, only where no bound on
    ///   unconfirmed units says that the limit must never be exceeded.
    /// - Requests whose time is given are decided on this node alone, by the rule for keys without a lease and apart from those
    ///   by the own clock; they are not counted. Under a limit with a bound they are denied.
    /// - A client cannot have a limit of its own, and limits are changed through the cluster: both are refused.
    /// - At the bound of the table, keys without a cell of their own are not counted, and denied under a limit with a bound.
    ///
    /// Memory: 36 bytes a cell and the leases. Errors: see [`EngineError`]; nothing is left behind.
    pub fn clustered(config: Config, unconfirmed: &[u64]) -> Result<Self, EngineError> {
        let given = Self::checked(&config.limits)?;
        if unconfirmed.len() != given {
            return Err(EngineError::Lengths {
                keys: given,
                others: unconfirmed.len(),
            });
        }
        let geometry = Self::geometry(config.max_keys, given)?.clustered();
        let table = Table::new(geometry, &config.limits, config.overflow).map_err(EngineError::Memory)?;
        for (limit, &unconfirmed) in unconfirmed.iter().enumerate() {
            table.set_cluster_rules(limit, unconfirmed, u64::MAX);
        }
        Ok(Engine {
            table,
            hash_key: config.hash_key,
            clock: config.clock,
            limits: given,
            counters: Counters::new(),
            sampled: Box::default(),
            changes: AtomicU64::new(0),
            first_use: FirstUse::default(),
            sharing: None,
            refunds: Some(Refunds::default()),
        })
    }

    /// Whether this is an engine on a node of a cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.refunds.is_some()
    }

    /// How many limits there are.
    #[must_use]
    pub fn limit_count(&self) -> usize {
        self.limits
    }

    /// For so many live clients under so many limits.
    pub(crate) fn geometry(max_keys: Option<u64>, limits: usize) -> Result<Geometry, EngineError> {
        match max_keys {
            None => Ok(Geometry::growing()),
            // Each limit has a cell of its own for each client.
            Some(keys) => keys
                .checked_mul(limits as u64)
                .filter(|&cells| cells <= Self::MOST_KEYS)
                .and_then(Geometry::presized)
                .ok_or(EngineError::MaxKeys { max_keys: keys }),
        }
    }

    /// Opens an engine on a table that other processes use too, or makes that table. Its hash key, clock and size are those of
    /// the configuration if this process makes it, and else the table's.
    ///
    /// Errors: see [`EngineError`]; nothing is left behind.
    pub fn shared(config: Config, sharing: Sharing) -> Result<Self, EngineError> {
        Self::shared_and_filled(config, sharing, |_| Ok(()))
    }

    /// As [`shared`](Engine::shared). If this process makes the table, `fill` is called with it before any other can see it, for
    /// debts that are to be restored; perhaps more than once, if another process is faster.
    ///
    /// Errors: see [`EngineError`], and those of `fill`; nothing is left behind.
    pub fn shared_and_filled<E: From<EngineError>>(
        config: Config,
        sharing: Sharing,
        mut fill: impl FnMut(&mut Engine) -> Result<(), E>,
    ) -> Result<Self, E> {
        let limits = Self::checked(&config.limits)?;
        #[cfg(target_os = "linux")]
        {
            let over = |opened: crate::share::Opened| Engine {
                table: opened.table,
                hash_key: opened.hash_key,
                clock: opened.clock,
                limits,
                counters: Counters::new(),
                sampled: Box::default(),
                changes: AtomicU64::new(0),
                first_use: FirstUse::default(),
                sharing: Some(sharing.clone()),
                refunds: None,
            };
            crate::share::open(&config, &sharing, &mut |opened| {
                let mut engine = over(opened);
                fill(&mut engine)?;
                Ok(crate::share::Opened {
                    table: engine.table,
                    hash_key: engine.hash_key,
                    clock: engine.clock,
                })
            })
            .map(over)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (limits, sharing, &mut fill);
            Err(E::from(EngineError::ShareUnavailable(
                "tables are shared between processes on Linux only: leave share out".into(),
            )))
        }
    }

    /// Says what is wrong with limits, if anything is, and how many there are.
    pub(crate) fn checked(limits: &[Limit]) -> Result<usize, EngineError> {
        let given = limits.len();
        if given == 0 || given > MAX_LIMITS {
            return Err(EngineError::LimitCount {
                given,
                expected: (1, MAX_LIMITS),
            });
        }
        for limit in limits {
            limit.validate()?;
        }
        Ok(given)
    }

    // --- Several processes ---------------------------------------------------------------------------------------

    /// Removes the shared table of a name in a directory. False if there was none.
    ///
    /// Errors: processes are attached to it, or the file is not the user's own.
    #[cfg(target_os = "linux")]
    pub fn remove_shared(directory: &std::path::Path, name: &str) -> Result<bool, EngineError> {
        crate::share::remove(directory, name)
    }

    /// Looks at the shared table of a name without attaching to it: takes no slot and writes no cell. `None` if there is none.
    ///
    /// Errors: the file is no table, or not the user's own. Cost: work in proportion to the table.
    #[cfg(target_os = "linux")]
    pub fn look_at_shared(directory: &std::path::Path, name: &str) -> Result<Option<crate::Look>, EngineError> {
        crate::share::look(directory, name)
    }

    /// Whether other processes use this table too, or may after a fork.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }

    /// With whom the table is shared: `no`, `children` or `name`.
    #[must_use]
    pub fn shared_with(&self) -> &'static str {
        match self.sharing.as_ref().map(|sharing| &sharing.with) {
            None => "no",
            Some(crate::With::Children) => "children",
            Some(crate::With::Name { .. }) => "name",
        }
    }

    /// Whether this engine is now the one that does what one of all on the table should do, like writing snapshots. It stays so until
    /// it is dropped or its process ends; then the next who asks is. On a private table its engine is, and in a forked child,
    /// which has a table of its own, that child's.
    ///
    /// Cost: a load; and if another one leads, a system call that proves whether it is alive.
    #[must_use]
    pub fn try_lead(&self) -> bool {
        self.table.try_lead()
    }

    /// Whether this engine was elected and still is. Cost: a load.
    #[must_use]
    pub fn lead_is_mine(&self) -> bool {
        self.table.leads()
    }

    /// Gives the lead up, so that another can have it at once.
    pub fn resign(&self) {
        self.table.resign();
    }

    /// Looks at every cell: whether the table is in order. Exact only while nobody decides.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.table.audit_own(self.limits, &self.asked(0, None))
    }

    /// The fingerprint of an id.
    #[inline]
    #[must_use]
    pub fn fingerprint(&self, id: &[u8]) -> Fingerprint {
        self.hash_key.fingerprint(id)
    }

    /// The secret that keys the fingerprints. That of a shared table is the table's.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }

    /// The own clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    // --- Deciding ------------------------------------------------------------------------------------------------

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
        let place = self.table.place(client, line);
        match self.table.decide_counted_at(&place, now, 1, &self.clock) {
            Some(allowed) => allowed,
            None => self.decide_the_long_way(client, now, Axis::Own, 1).allowed,
        }
    }

    #[inline(never)]
    fn decide_otherwise(&self, client: Fingerprint, line: u64, now: u64, axis: Axis, cost: u64) -> Decision {
        let place = self.table.place(client, line);
        let counted = match axis {
            Axis::Own => self.table.decide_counted_at::<Ruling>(&place, now, cost, &self.clock),
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

    /// With several limits, overrides or blocks, and for clients without a cell.
    #[cold]
    #[inline(never)]
    fn decide_the_long_way(&self, client: Fingerprint, now: u64, axis: Axis, cost: u64) -> Decision {
        let asked = &Asked {
            now,
            axis,
            cost,
            clock: &self.clock,
            under: None,
        };
        let decision = self.decide_by_all(client, asked);
        if decision.allowed && asked.axis == Axis::Given && self.table.has_records() {
            // A change of override measures by this time what the client has spent.
            self.table.raise_given_now(asked.now);
        }
        decision
    }

    fn decide_by_all(&self, client: Fingerprint, asked: &Asked<'_>) -> Decision {
        if let Some(blocked) = self.blocked(client, asked).or_else(|| self.refused(asked)) {
            return blocked;
        }
        let limits = self.limits_of(client);
        let client = self.cell_of(client, asked.axis);
        if limits == 1 {
            return self.table.decide(client, 0, asked).decision();
        }
        // All are asked before any is charged, so that a denial writes nothing (but what brings a cell up to date).
        let asked_first = self.binding((0..limits).map(|limit| self.table.ask(client, limit, asked)));
        if !asked_first.allowed {
            if self.is_clustered() && asked.axis == Axis::Own {
                self.want(client, asked);
            }
            return asked_first;
        }
        let mut rulings: [Option<Ruling>; MAX_LIMITS] = [None; MAX_LIMITS];
        for (limit, charged) in rulings.iter_mut().enumerate().take(limits) {
            let ruling = self.table.decide(client, limit, asked);
            if !ruling.allowed {
                // Another thread was faster at this limit. What was charged goes back; whoever saw it charged meanwhile
                // may have been denied one request too many, never allowed one.
                for (earlier, charged) in rulings.iter().flatten().enumerate() {
                    if self.is_clustered() {
                        self.give_back(client, earlier, asked);
                    } else {
                        self.table.take_back(client, earlier, asked, charged.tat);
                    }
                }
                return ruling.decision();
            }
            *charged = Some(ruling);
        }
        self.binding(rulings.into_iter().flatten())
    }

    /// Tells the owners of a request that some of several limits deny: it is decided under those, which says so beside the cell.
    #[cold]
    fn want(&self, client: Fingerprint, asked: &Asked<'_>) {
        for limit in 0..self.limits {
            let is_denied = !self.table.peek(client, limit, asked).allowed;
            // Allowed after all, since a lease came meanwhile: but the request is denied as a whole.
            if is_denied && self.table.decide(client, limit, asked).allowed {
                self.give_back(client, limit, asked);
            }
        }
    }

    fn give_back(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) {
        let sent = self.table.refund(client, limit, asked);
        if sent > 0
            && let Some(refunds) = &self.refunds
        {
            refunds.add(self.table.key(client, limit), limit, sent);
        }
    }

    /// Where a client is kept. By times that are given, a node of a cluster keeps it apart: cells by the own clock may be under
    /// leases, which know no other time.
    fn cell_of(&self, client: Fingerprint, axis: Axis) -> Fingerprint {
        match axis {
            Axis::Given if self.is_clustered() => client.of_given(),
            _ => client,
        }
    }

    /// What is said to a request whose time is given under a limit that only an owner can keep.
    fn refused(&self, asked: &Asked<'_>) -> Option<Decision> {
        if asked.axis == Axis::Own || asked.cost == 0 || !self.is_clustered() {
            return None;
        }
        let limit = (0..self.limits).find(|&limit| self.table.is_hard(limit))?;
        let burst = self.table.rule_without_lease(0, limit).0.burst();
        Some(Decision::new(false, burst, 0, Decision::NEVER, Duration::ZERO))
    }

    /// Of several rulings the one that binds.
    fn binding(&self, rulings: impl Iterator<Item = Ruling>) -> Decision {
        let decisions = rulings.map(|ruling| ruling.decision());
        decisions
            .reduce(|a, b| if b.binds_more_than(&a) { b } else { a })
            .unwrap_or_default()
    }

    /// How many limits hold for a client: one that has its own is under that alone.
    fn limits_of(&self, client: Fingerprint) -> usize {
        if self.limits > 1 && self.table.has_records() && self.table.record(client).override_limit().is_some() {
            return 1;
        }
        self.limits
    }

    fn blocked(&self, client: Fingerprint, asked: &Asked<'_>) -> Option<Decision> {
        if asked.cost == 0 || !self.table.has_records() {
            return None;
        }
        let until = self.table.record(client.of_block()).blocked_until()?;
        let now = if asked.axis == Axis::Own {
            asked.now
        } else {
            self.clock.now()
        };
        let left = time::ahead(until, now);
        // What seems to be longer than any block that is made is long over, and time has come round; unless it is so by no
        // more than a clock may have been set back: 13 days.
        if left == 0 || left > LONGEST_BLOCK_NS + LONGEST_BLOCK_NS / 16 {
            return None;
        }
        let shown = self.binding((0..self.limits_of(client)).map(|limit| self.table.peek(client, limit, asked)));
        let left = Duration::from_nanos(left);
        // Once the block is over the debt still counts, and a cost above the burst never fits.
        let retry_after = left.max(shown.retry_after);
        Some(Decision::new(
            false,
            shown.limit,
            0,
            retry_after,
            left.max(shown.reset_after),
        ))
    }

    // --- Giving back, forgetting, blocking -----------------------------------------------------------------------

    /// Gives `cost` requests back, at a given time or else now. A bucket is never more than full.
    pub fn refund(&self, client: Fingerprint, cost: u64, now: Option<Duration>) {
        let _changed = Changed(&self.changes);
        let asked = self.asked(cost, now);
        let cell = self.cell_of(client, asked.axis);
        for limit in 0..self.limits_of(client) {
            self.give_back(cell, limit, &asked);
        }
    }

    /// Forgets what a client has spent and lifts its block; an override stays.
    pub fn reset(&self, client: Fingerprint, now: Option<Duration>) {
        let _changed = Changed(&self.changes);
        let asked = self.asked(1, now);
        let own = self.asked(1, None);
        for limit in 0..self.limits {
            if self.is_clustered() {
                self.table.reset(client, limit, &own);
                self.table.reset(client.of_given(), limit, &asked);
            } else {
                self.table.reset(client, limit, &asked);
            }
        }
        if self.table.has_records() {
            self.table.administer(&asked).remove_record(client.of_block());
        }
    }

    /// Denies all requests of a client for a while, by the own clock. Zero lifts a block. Longer than the circle of times
    /// allows becomes 208 days.
    ///
    /// Errors: no room for another block.
    pub fn block(&self, client: Fingerprint, duration: Duration) -> Result<(), EngineError> {
        let _changed = Changed(&self.changes);
        let admin = self.table.administer(&self.asked(1, None));
        if duration.is_zero() {
            admin.remove_record(client.of_block());
            return Ok(());
        }
        let ns = u64::try_from(duration.as_nanos())
            .unwrap_or(u64::MAX)
            .min(LONGEST_BLOCK_NS);
        let now = self.clock.now();
        admin
            .store_record(client.of_block(), Record::of_block(time::add(now, ns)), now)
            .map_err(|_| EngineError::TooManyRecords)
    }

    // --- Limits --------------------------------------------------------------------------------------------------

    /// The limits in force, in order.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        self.table.administer(&self.asked(0, None)).limits(self.limits)
    }

    /// Puts other limits in force, one for each, while decisions run. A client keeps the share of its burst that is spent.
    ///
    /// Errors: another number of limits, or one that makes no sense, or this is a node of a cluster, where limits are the
    /// cluster's; nothing is changed then.
    pub fn set_limits(&self, limits: &[Limit]) -> Result<(), EngineError> {
        if self.is_clustered() {
            return Err(EngineError::Clustered(
                "limits of a node of a cluster are those of all its nodes: change them through the cluster",
            ));
        }
        if limits.len() != self.limits {
            return Err(EngineError::LimitCount {
                given: limits.len(),
                expected: (self.limits, self.limits),
            });
        }
        for limit in limits {
            limit.validate()?;
        }
        let _changed = Changed(&self.changes);
        self.table.administer(&self.asked(1, None)).set_limits(limits);
        Ok(())
    }

    /// Gives a client a limit of its own, in place of all others, or takes it away again.
    ///
    /// Errors: a limit that makes no sense, or no room, or this is a node of a cluster; the client stays under the limit it had.
    pub fn set_override(&self, client: Fingerprint, limit: Option<Limit>) -> Result<(), EngineError> {
        let gcra = limit.as_ref().map(Gcra::new).transpose()?;
        if self.is_clustered() {
            return match gcra {
                None => Ok(()),
                // Each node would grant all of it.
                Some(_) => Err(EngineError::Clustered(
                    "a client cannot have a limit of its own in a cluster, since each node would grant it in full: give \
                     such clients a limiter with that limit",
                )),
            };
        }
        let _changed = Changed(&self.changes);
        let asked = self.asked(1, None);
        let admin = self.table.administer(&asked);
        match gcra {
            None => admin
                .take_override(client, &asked)
                .map_err(|_| EngineError::TooManyRecords),
            Some(gcra) => admin
                .give_override(client, &gcra, &asked)
                .map_err(|no_room| match no_room {
                    NoRoom::Limits => EngineError::TooManyOverrideLimits,
                    NoRoom::Records => EngineError::TooManyRecords,
                }),
        }
    }

    /// Puts all clients back under the limits for all. Work in proportion to the overrides.
    pub fn clear_overrides(&self) {
        let asked = self.asked(1, None);
        let admin = self.table.administer(&asked);
        for client in admin.overridden() {
            // The record exists already, so there is room for its last version.
            let _ = admin.take_override(client, &asked);
        }
    }

    // --- Looking -------------------------------------------------------------------------------------------------

    /// What was done and how full the table is. Cost: bounded, whatever the table's size.
    #[must_use]
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::Ordering::Relaxed;
        let (allowed, denied) = self.counters.sum();
        let Events {
            overflowed,
            stepped,
            inserted,
            recycled,
            translated,
            voided,
            undo_failed,
            refunded,
        } = &self.table.events;
        let vain = || Vain {
            voided: voided.load(Relaxed),
            undo_failed: undo_failed.load(Relaxed),
            refunded: refunded.load(Relaxed),
        };
        Stats {
            allowed,
            denied,
            overflowed: overflowed.load(Relaxed),
            inserted: inserted.load(Relaxed),
            recycled: recycled.load(Relaxed),
            translated: translated.load(Relaxed),
            stepped: stepped.load(Relaxed),
            table: self.table.survey(&self.asked(0, None)),
            clock: self.clock.source(),
            clock_fell_back: self.clock.fell_back(),
            snapshot: None,
            latency: self.sampled.latency(),
            counted_in_vain: self.is_clustered().then(vain),
            shared_with: self.shared_with(),
            attached: self.table.attached(),
        }
    }

    /// Makes the table's memory read-only: the proof that a denial writes nothing. Every admission after that is a fault.
    #[cfg(unix)]
    #[doc(hidden)]
    pub fn write_protect(&self) -> std::io::Result<()> {
        self.table.write_protect()
    }
}

impl<'a> Asked<'a> {
    /// The same request under a limit of the caller's.
    pub(crate) fn under<'b>(&self, gcra: &'b Gcra) -> Asked<'b>
    where
        'a: 'b,
    {
        Asked {
            under: Some(gcra),
            ..*self
        }
    }
}

/// Counts a change that is no admission once it is made: counted before, it could be taken for one that a snapshot has.
struct Changed<'a>(&'a AtomicU64);

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        // Relaxed: see `Engine::changes`.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("limits", &self.limits())
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
