//! What holds for the keys of a clustered table that are under no lease.
//!
//! A limit's numbers are those of its slot, with generations, as in every table. Keys whose owner is not heard may be under
//! others: those are read beside, and decide on the same word, so that the *time* a key has to wait stays what it is.

use ratelimit_model::{Gcra, Limit};

use super::asked::Asked;
use super::header::{DETOUR_CUT, MAX_LIMITS};
use super::side::{LimitRules, Side};
use super::table::Table;
use super::word::{Axis, Charged};
use crate::sync::Ordering;

/// What may be spent on a key without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unleased {
    /// By these numbers.
    pub gcra: Gcra,
    /// At most so many units that no owner has confirmed: `u64::MAX` for no bound, 0 for nothing at all.
    pub unconfirmed: u64,
}

/// How the keys of one limit are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    /// While their owner is heard.
    pub connected: Unleased,
    /// In partitions whose owner is not.
    pub cut: Unleased,
    /// Units stay counted until they are confirmed.
    pub overdraft: bool,
    /// Units that are not reported from which on a key is reported at once.
    pub urgent: u64,
}

impl Table {
    /// Units of this key that may be spent without being confirmed.
    #[inline]
    pub(super) fn most_unconfirmed(&self, side: &Side<'_>, limit: usize, key: u64) -> u64 {
        let rules = &side.header.limits[limit % MAX_LIMITS];
        let place = if self.is_cut(side, limit, key) {
            &rules.cut_unconfirmed
        } else {
            &rules.unconfirmed
        };
        // Relaxed: a number on its own; who comes late decides by the one before.
        place.load(Ordering::Relaxed)
    }

    /// The same for a key whose owner is heard.
    #[inline(always)]
    pub(super) fn most_connected(&self, side: &Side<'_>, limit: usize) -> u64 {
        // Relaxed: as above.
        side.header.limits[limit].unconfirmed.load(Ordering::Relaxed)
    }

    /// Units from which on a key without a lease is reported at once.
    #[inline(always)]
    pub(super) fn urgent_units(&self, side: &Side<'_>, limit: usize) -> u64 {
        // Relaxed: a threshold of speed.
        side.header.limits[limit].urgent.load(Ordering::Relaxed)
    }

    /// Whether the limit must never be exceeded, which only an owner can see to.
    pub(crate) fn is_hard(&self, limit: usize) -> bool {
        self.side()
            .is_some_and(|side| self.most_connected(&side, limit) != u64::MAX)
    }

    pub(super) fn is_overdraft(&self, side: &Side<'_>, limit: usize) -> bool {
        // Relaxed: as above.
        side.header.limits[limit].overdraft.load(Ordering::Relaxed) != 0
    }

    fn is_cut(&self, side: &Side<'_>, limit: usize, key: u64) -> bool {
        self.detours() & DETOUR_CUT != 0 && {
            let class = usize::from(self.most_connected(side, limit % MAX_LIMITS) != u64::MAX);
            let partition = (key >> 52) as usize;
            // Relaxed: who comes late decides as if it came earlier.
            side.header.cuts[class][partition / 64].load(Ordering::Relaxed) >> (partition % 64) & 1 == 1
        }
    }

    /// The numbers that hold for a key because its owner is not heard, if those are others.
    #[inline]
    pub(super) fn cut_numbers(&self, limit: usize, key: u64) -> Option<Gcra> {
        if self.detours() & DETOUR_CUT == 0 {
            return None;
        }
        let side = self.side()?;
        if !self.is_cut(&side, limit, key) {
            return None;
        }
        let cut = &side.header.limits[limit].cut;
        loop {
            let (generation, gcra) = cut.load();
            // Torn numbers must not get into the arithmetic.
            if cut.is(generation) {
                return (gcra.to_words() != [0; 4]).then_some(gcra);
            }
        }
    }

    /// The numbers that hold for a key without a lease, and how its word says so.
    pub(crate) fn rule_without_lease(&self, key: u64, limit: usize) -> (Gcra, Charged) {
        loop {
            let slot = &self.header().limits[limit];
            let (generation, gcra) = slot.load();
            if slot.is(generation) {
                let gcra = self.cut_numbers(limit, key).unwrap_or(gcra);
                return (gcra, Charged::generation(generation));
            }
        }
    }

    /// Puts a rule in force.
    pub(crate) fn set_rule(&self, limit: usize, rule: &LimitRule, asked: &Asked<'_>) {
        let Some(side) = self.side() else { return };
        let rules: &LimitRules = &side.header.limits[limit];
        let connected = &rule.connected;
        // One at a time: changes of limits go the same way.
        let admin = self.administer(asked);
        let slot = &admin.header().limits[limit];
        if slot.load().1 != connected.gcra {
            slot.publish(&connected.gcra);
        }
        let cut = if rule.cut.gcra == connected.gcra {
            Gcra::from_words([0; 4])
        } else {
            rule.cut.gcra
        };
        if rules.cut.load().1 != cut {
            rules.cut.publish(&cut);
        }
        // Relaxed: as they are read.
        rules.unconfirmed.store(connected.unconfirmed, Ordering::Relaxed);
        rules.cut_unconfirmed.store(rule.cut.unconfirmed, Ordering::Relaxed);
        rules.overdraft.store(u64::from(rule.overdraft), Ordering::Relaxed);
        rules.urgent.store(rule.urgent.max(1), Ordering::Relaxed);
    }

    /// Says which limit people are shown.
    pub(crate) fn show_limit(&self, limit: usize, shown: &Limit, asked: &Asked<'_>) {
        self.administer(asked).show_limit(limit, shown);
    }

    /// Says whether the owner of a partition is heard.
    pub(crate) fn set_cut(&self, partition: usize, hard: bool, cut: bool) {
        let Some(side) = self.side() else { return };
        let Some(word) = side.header.cuts[usize::from(hard)].get(partition / 64) else {
            return;
        };
        let bit = 1 << (partition % 64);
        let detours = &self.header().hot.detours;
        if cut {
            word.fetch_or(bit, Ordering::Relaxed);
            // Release: who takes the detour sees the bit.
            detours.fetch_or(DETOUR_CUT, Ordering::Release);
            return;
        }
        word.fetch_and(!bit, Ordering::Relaxed);
        // Relaxed: only one thread writes the bits.
        if side
            .header
            .cuts
            .iter()
            .flatten()
            .all(|word| word.load(Ordering::Relaxed) == 0)
        {
            detours.fetch_and(!DETOUR_CUT, Ordering::Relaxed);
        }
    }

    /// How a limit is treated, without numbers of its own for keys that are cut off: for tables that nobody else sees yet, and
    /// for models.
    pub(crate) fn set_cluster_rules(&self, limit: usize, unconfirmed: u64, urgent: u64) {
        if let Some(side) = self.side() {
            let rules = &side.header.limits[limit];
            // Relaxed: as they are read.
            rules.unconfirmed.store(unconfirmed, Ordering::Relaxed);
            rules.cut_unconfirmed.store(unconfirmed, Ordering::Relaxed);
            let overdraft = unconfirmed != u64::MAX && unconfirmed > 0;
            rules.overdraft.store(u64::from(overdraft), Ordering::Relaxed);
            rules.urgent.store(urgent.max(1), Ordering::Relaxed);
        }
    }

    /// Has this called when something becomes urgent. False if something is called already.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn at_urgent(&self, call: Box<dyn Fn() + Send + Sync>) -> bool {
        let side = self.side();
        side.and_then(|side| side.wake)
            .is_some_and(|wake| wake.set(call).is_ok())
    }

    /// Whether what is spent is counted: a time that a caller gives is no time of the cluster's.
    #[inline]
    pub(super) fn counts(&self, axis: Axis) -> Option<Side<'_>> {
        match axis {
            Axis::Own => self.side(),
            Axis::Given => None,
        }
    }
}
