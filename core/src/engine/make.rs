//! How an engine is made.

use std::sync::atomic::AtomicU64;

use ratelimit_model::Limit;

use super::Engine;
use crate::clock::Clock;
use crate::clustered::Refunds;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::hash::HashKey;
use crate::keeping::FirstUse;
use crate::raw::{Geometry, MAX_LIMITS, Overflow, Table};
use crate::sharing::Sharing;

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

impl Engine {
    /// The largest `max_keys`.
    pub const MOST_KEYS: u64 = 1 << 33;

    /// Makes an engine. Reserves addresses for the whole table; memory is used as it is touched.
    ///
    /// Errors: see [`EngineError`]; nothing is left behind.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let given = Self::checked(&config.limits)?;
        let geometry = Self::geometry(config.max_keys, given)?;
        let table = Table::new(geometry, &config.limits, config.overflow).map_err(EngineError::Memory)?;
        Ok(Engine::over(table, config.hash_key, config.clock, given))
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
            refunds: Some(Refunds::default()),
            ..Engine::over(table, config.hash_key, config.clock, given)
        })
    }

    fn over(table: Table, hash_key: HashKey, clock: Clock, limits: usize) -> Self {
        Engine {
            table,
            hash_key,
            clock,
            limits,
            counters: Counters::new(),
            sampled: Box::default(),
            changes: AtomicU64::new(0),
            first_use: FirstUse::default(),
            sharing: None,
            refunds: None,
        }
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
                sharing: Some(sharing.clone()),
                ..Engine::over(opened.table, opened.hash_key, opened.clock, limits)
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
}
