//! Keys, limits, rules and leases of the protocol, as the table has them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ratelimit_core::Engine;
use ratelimit_core::clustered::{self, Before, Grant, LimitRule, Listed, Outcome, Switched, Synchroniser};
use ratelimit_model::Gcra;
use ratelimit_model::time::MASK;
use ratelimit_protocol::rules::{self, Lease, Rules, Unleased};
use ratelimit_protocol::{Cell, DrainSink, Drained, GiveOutcome, Key, LimitId, Mode, Pass, Store};

/// The most keys whose units wait here because their cells went to other keys before they could be put back.
pub const MOST_ADRIFT: usize = 1 << 16;

/// The number of each limit of an engine in the cluster: how many limits there are, times 256, plus the limit's place.
///
/// A key of one of several limits is made with the limit's place among them, so nodes name clients alike only if they have as
/// many limits in the same order. One that has another number of limits shares none with the others; and of limits in
/// another order the cluster's latest version holds on all nodes, place by place.
#[must_use]
pub fn limit_ids(limits: usize) -> Vec<LimitId> {
    (0..limits as u32)
        .map(|place| LimitId((limits as u32) << 8 | place))
        .collect()
}

/// What [`Engine::clustered`] is to be told of a limit that is kept so: what may be spent on a key that no owner knows of.
#[must_use]
pub const fn unconfirmed(mode: Mode) -> u64 {
    match mode {
        Mode::Eventual => u64::MAX,
        Mode::Bounded { units } => units,
        Mode::Strict { .. } => 0,
    }
}

/// Sizes and counts of a store. The sizes are bounded by [`MOST_ADRIFT`] and by the leases of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableStats {
    /// Keys whose units wait here.
    pub adrift: usize,
    /// Keys whose lease has ended and whose word has yet to say so.
    pub standing: usize,
    /// Leases that found no cell, or no room.
    pub leases_refused: u64,
    /// Reports of limits that the node has no number for: they stay in their cells.
    pub unknown: u64,
}

/// The table of a node, for the one thread that speaks for it to the cluster. Gives the right to do so back when it is dropped.
pub struct TableStore {
    sync: Synchroniser,
    limits: Vec<LimitId>,
    rules: Vec<Option<Rules>>,
    /// Drained, never applied, and without a cell by now; by cell, and whether under a lease.
    adrift: BTreeMap<(Cell, bool), u64>,
    /// Leases that have ended where the word has to wait.
    standing: BTreeSet<Cell>,
    stats: TableStats,
}

impl TableStore {
    /// The store of an engine's table, with limits numbered by [`limit_ids`]. `None` if the engine is not
    /// [clustered](Engine::clustered), or if another speaks for it already.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn new(engine: &Arc<Engine>) -> Option<Self> {
        Self::with_ids(engine, limit_ids(engine.limit_count()))
    }

    /// As [`new`](TableStore::new), with numbers of the caller's, one for each limit in order. They must be the same on all nodes.
    #[must_use]
    pub fn with_ids(engine: &Arc<Engine>, limits: Vec<LimitId>) -> Option<Self> {
        if limits.len() != engine.limit_count() {
            return None;
        }
        Some(TableStore {
            sync: engine.synchronise()?,
            rules: vec![None; limits.len()],
            limits,
            adrift: BTreeMap::new(),
            standing: BTreeSet::new(),
            stats: TableStats::default(),
        })
    }

    /// The engine that decides.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        self.sync.engine()
    }

    /// The number of each limit in the cluster.
    #[must_use]
    pub fn limit_ids(&self) -> &[LimitId] {
        &self.limits
    }

    /// The time that decisions are made by, which the node has to be driven by: nanoseconds since the engine's clock was made.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        // On a circle of 2.28 years, which a clock of this process does not get round.
        self.engine().clock().now()
    }

    /// Whether a cell waits to be drained at once: then [`Node::handle_tick`](ratelimit_protocol::Node::handle_tick) is due
    /// within a millisecond. Cost: a load.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.sync.is_urgent()
    }

    /// Finds use that a killed thread counted and did not list. Once a minute is often enough.
    ///
    /// Cost: work in proportion to the table.
    pub fn look_everywhere(&mut self) {
        self.sync.list_all();
    }

    /// Sizes and counts.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        TableStats {
            adrift: self.adrift.len(),
            standing: self.standing.len(),
            ..self.stats
        }
    }

    fn place(&self, limit: LimitId) -> Option<usize> {
        self.limits.iter().position(|id| *id == limit)
    }

    /// The rule that holds once the lease of a key is over.
    ///
    /// What is left of a hard lease goes by the rule of a cut key, if that has a floor: see [`rules::end`].
    fn without(rules: &Rules, gcra: &Gcra) -> Unleased {
        match (rules.connected, rules.cut) {
            (Unleased::Deny, floor @ Unleased::Part(_)) => floor,
            // The table says whether the key is cut.
            (Unleased::Part(_), _) => Unleased::Part(*gcra),
            (other, _) => other,
        }
    }

    /// Ends what stands where a lease was, where the word has come to say the same; and where the rule without a lease is
    /// another by now, puts that in its place.
    fn end_standing(&mut self, which: impl Fn(&Cell) -> bool) {
        let now = self.now_ns();
        let standing = std::mem::take(&mut self.standing);
        self.standing = standing
            .into_iter()
            .filter(|cell| {
                if !which(cell) {
                    return true;
                }
                let Some(place) = self.place(cell.limit) else {
                    return false;
                };
                // It has no state to give: what stands is the rule without a lease already. Under a lease that came since,
                // this is not called: `give_lease` takes the cell off the list.
                let to = |_: &Gcra, _: Gcra, tat: u64| Switched { tat, returned: 0 };
                let outcome = self.sync.end(cell.key.0, place, now, to, &mut |_| ());
                matches!(outcome, Outcome::Standing(_))
            })
            .collect();
    }

    fn drain_adrift(&mut self, sink: &mut dyn DrainSink) {
        self.adrift.retain(|(cell, leased), used| {
            let takes = sink.accepts(*cell);
            if takes {
                let drained = Drained {
                    used: *used,
                    leased: *leased,
                    ..Drained::default()
                };
                sink.take(*cell, drained);
            } else {
                sink.leaves(*cell, *used);
            }
            !takes
        });
        let limits = &self.limits;
        self.sync.drain_refunds(&mut |key, place, units| {
            let Some(limit) = limits.get(place).copied() else {
                return false;
            };
            let cell = Cell { limit, key: Key(key) };
            let takes = sink.accepts(cell);
            if takes {
                let drained = Drained {
                    refunded: units,
                    ..Drained::default()
                };
                sink.take(cell, drained);
            }
            takes
        });
    }

    fn keep_adrift(&mut self, cell: Cell, drained: &Drained) -> bool {
        let has_room = self.adrift.len() < MOST_ADRIFT;
        match self.adrift.entry((cell, drained.leased)) {
            std::collections::btree_map::Entry::Occupied(mut there) => {
                *there.get_mut() = there.get().saturating_add(drained.used);
                true
            }
            std::collections::btree_map::Entry::Vacant(free) if has_room => {
                free.insert(drained.used);
                true
            }
            std::collections::btree_map::Entry::Vacant(_) => false,
        }
    }
}

/// A rule as the table keeps it. `other`: the numbers where there is no state to keep.
fn unleased(rule: &Unleased, other: &Gcra) -> clustered::Unleased {
    let (gcra, unconfirmed) = match rule {
        Unleased::Part(gcra) => (*gcra, u64::MAX),
        // The largest number says that there is no bound.
        Unleased::Overdraft { gcra, units } => (*gcra, (*units).min(u64::MAX - 1)),
        Unleased::Deny => (*other, 0),
    };
    clustered::Unleased { gcra, unconfirmed }
}

impl Store for TableStore {
    fn drain(&mut self, pass: Pass, sink: &mut dyn DrainSink) {
        let listed = match pass {
            Pass::Urgent => Listed::Urgent,
            Pass::All => {
                self.end_standing(|_| true);
                self.drain_adrift(sink);
                Listed::All
            }
        };
        let (limits, unknown) = (&self.limits, &mut self.stats.unknown);
        let cell = |key: u64, place: usize| {
            let limit = limits.get(place).copied()?;
            Some(Cell { limit, key: Key(key) })
        };
        // Of the two only one is called at a time.
        let sink = RefCell::new(sink);
        let mut accepts = |key: u64, place: usize, units: u64| match cell(key, place) {
            Some(cell) => {
                let mut sink = sink.borrow_mut();
                let takes = sink.accepts(cell);
                if !takes {
                    sink.leaves(cell, units);
                }
                takes
            }
            None => {
                *unknown += 1;
                false
            }
        };
        let mut take = |report: clustered::Report| {
            if let Some(cell) = cell(report.key, report.limit) {
                let drained = Drained {
                    used: report.units,
                    denied: report.denied,
                    largest: report.largest,
                    refunded: 0,
                    leased: report.leased,
                };
                sink.borrow_mut().take(cell, drained);
            }
        };
        self.sync.drain(listed, &mut accepts, &mut take);
    }

    fn restore(&mut self, cell: Cell, drained: Drained) -> bool {
        let Some(place) = self.place(cell.limit) else {
            return false;
        };
        if drained.refunded > 0 {
            self.sync.refund_again(cell.key.0, place, drained.refunded);
        }
        if drained.used == 0 {
            return true;
        }
        let overdraft = self.rules[place].is_some_and(|rules| rules.overdraft);
        let (in_flight, fits) = match (overdraft, drained.leased) {
            // Still counted in its cell, as not confirmed.
            (true, false) => (true, true),
            // In a cell it would pass for overdraft, which is charged twice.
            (true, true) => (false, false),
            (false, _) => (false, true),
        };
        fits && self.sync.restore_key(cell.key.0, place, drained.used, in_flight) || self.keep_adrift(cell, &drained)
    }

    fn rearm(&mut self, cell: Cell, units: u64) {
        self.sync.confirm_key(cell.key.0, units);
    }

    fn give_lease(&mut self, cell: Cell, lease: &Lease, now_ns: u64) -> GiveOutcome {
        let refused = GiveOutcome {
            given: false,
            returned: lease.tokens,
        };
        let key = cell.key.0;
        let Some(place) = self.place(cell.limit).filter(|place| self.rules[*place].is_some()) else {
            self.stats.leases_refused += 1;
            return refused;
        };
        let now = now_ns & MASK;
        if !lease.hard {
            // A node that joins is told of contended keys before it meets them. Without room this is refused below.
            self.sync.open(key, place, now);
        }
        let grant = Grant {
            gcra: lease.gcra,
            until: lease.hard.then_some(lease.until_ns & MASK),
            urgent: lease.urgent_units,
        };
        let outcome = self.sync.give(key, &grant, |before: &Before| {
            let level = before.lease.map(|(gcra, tat)| rules::level(&gcra, tat, now));
            let mut lease = *lease;
            if !lease.hard {
                // The owner's tokens are what was left without the units that it has not heard of yet.
                lease.tokens = lease.tokens.saturating_sub(before.unreported);
            }
            let switched = rules::switch(level, &lease, now);
            Switched {
                tat: switched.tat,
                returned: switched.returned,
            }
        });
        match outcome {
            Outcome::Done(returned) | Outcome::Standing(returned) => {
                self.standing.remove(&cell);
                GiveOutcome { given: true, returned }
            }
            Outcome::Gone => {
                self.stats.leases_refused += 1;
                // Whoever is told that there is no lease must be right, also where one was in force before.
                let left = self.end_lease(cell, now_ns);
                GiveOutcome {
                    returned: lease.tokens.saturating_add(left),
                    ..refused
                }
            }
        }
    }

    fn end_lease(&mut self, cell: Cell, now_ns: u64) -> u64 {
        let Some(place) = self.place(cell.limit) else {
            return 0;
        };
        let Some(rules) = self.rules[place] else {
            return 0;
        };
        let now = now_ns & MASK;
        let hard = !matches!(rules.connected, Unleased::Part(_));
        let to = |without: &Gcra, gcra, tat| {
            let lease = Lease {
                seq: 0,
                gcra,
                tokens: 0,
                hard,
                until_ns: 0,
                urgent_units: 0,
            };
            let ended = rules::end(&lease, &Self::without(&rules, without), tat, now);
            Switched {
                tat: ended.tat,
                returned: ended.returned,
            }
        };
        let mut used = 0;
        let outcome = self.sync.end(cell.key.0, place, now, to, &mut |units| used += units);
        if used > 0 {
            let leased = Drained {
                used,
                leased: true,
                ..Drained::default()
            };
            // Without room it is only less of what owners hear: a hard lease's tokens were charged when they were given.
            self.keep_adrift(cell, &leased);
        }
        match outcome {
            Outcome::Standing(returned) => {
                self.standing.insert(cell);
                returned
            }
            Outcome::Done(returned) => returned,
            Outcome::Gone => 0,
        }
    }

    fn set_rules(&mut self, limit: LimitId, rules: &Rules, _now_ns: u64) {
        let Some(place) = self.place(limit) else {
            return;
        };
        // Where nothing may be spent, cells keep their state in the numbers of the floor, if there is one.
        let other = rules.cut.gcra().unwrap_or(&rules.limit);
        let rule = LimitRule {
            connected: unleased(&rules.connected, other),
            cut: unleased(&rules.cut, other),
            overdraft: rules.overdraft,
            urgent: rules.urgent_units,
        };
        self.sync.set_rule(place, &rule, Some(&rules.shown));
        self.rules[place] = Some(*rules);
        self.end_standing(|cell| cell.limit == limit);
    }

    fn set_cut(&mut self, partition: u16, hard: bool, cut: bool) {
        self.sync.set_cut(usize::from(partition), hard, cut);
        self.end_standing(|cell| ratelimit_protocol::ownership::partition(cell.key) == partition);
    }
}

const _: () = assert!(clustered::PARTITIONS == ratelimit_protocol::ownership::PARTITIONS);
