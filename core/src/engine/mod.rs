//! Table, clock, secret and limits in one: all that deciding needs, for ids that are already hashed.

mod change;
mod decide;
mod make;
mod several;
mod stats;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::clustered::Refunds;
use crate::counters::Counters;
use crate::hash::{Fingerprint, HashKey};
use crate::keeping::FirstUse;
use crate::raw::{Audit, Table};
use crate::sampled::Sampled;
use crate::sharing::Sharing;

pub use self::make::Config;
pub use self::stats::Stats;

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

    /// Makes the table's memory read-only: the proof that a denial writes nothing. Every admission after that is a fault.
    #[cfg(unix)]
    #[doc(hidden)]
    pub fn write_protect(&self) -> std::io::Result<()> {
        self.table.write_protect()
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
