//! Giving back, forgetting, blocking; and other limits.

use std::time::Duration;

use ratelimit_model::{Gcra, Limit, time};

use super::several::LONGEST_BLOCK_NS;
use super::{Changed, Engine};
use crate::error::EngineError;
use crate::hash::Fingerprint;
use crate::raw::{NoRoom, Record};

impl Engine {
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
}
