//! Every request goes past here: an oracle for each key, the meter of the judged key, and what each mode allows.

use std::collections::BTreeMap;

use crate::clock::TrueNs;
use crate::meter::Meter;
use crate::network::{MS, SECOND};
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::subject::{Mode, Rule};

/// Billionths of a unit.
pub type Nano = i128;
const UNIT: Nano = 1_000_000_000;

struct Key {
    oracle: Oracle,
    /// One bit for each node that was asked.
    asked: Vec<u64>,
    /// How many restarts there had been when its bucket was last full.
    restarts_when_full: u64,
}

/// All that is judged of a run.
pub struct Judge {
    keys: BTreeMap<u64, Key>,
    /// The judged key, number 0.
    pub meter: Meter,
    rule: Rule,
    /// The limit from `settles_at` on; until then the larger numbers of both hold.
    next: Option<(TrueNs, Rule)>,
    settles_at: TrueNs,
    restarts: u64,
    slack: u64,
    interval_ns: TrueNs,
    longest_delay: TrueNs,
    /// By how much a key was over what its mode allows, and when; negative if never.
    worst: Option<(Nano, TrueNs)>,
    /// The worst excess over the burst of any key.
    excess: Option<(Nano, TrueNs)>,
    requests: u64,
    admitted: u64,
    /// Of nodes whose sync thread had slept for longer than a lease holds: requests for the judged key, and those admitted.
    late: (u64, u64),
}

/// What a lease holds, and a hundredth for clocks.
const LEASE: TrueNs = 1_010 * MS;
/// So many late requests are enough to tell that none of them is admitted.
const ENOUGH: u64 = 50;

impl Judge {
    /// A judge that saw nothing yet.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let travel = scenario.conditions.delay.1 + scenario.conditions.jitter;
        // Repeated packets: four in a row are rarer than one in a hundred even at 30 % loss, and a stream waits for the slowest.
        let repeats = if scenario.conditions.loss_per_mille > 0 || scenario.loses {
            15 * (2 * travel + 25 * MS)
        } else {
            0
        };
        Judge {
            keys: BTreeMap::new(),
            meter: Meter::new(scenario.unsteady.clone()),
            rule: scenario.rules[0],
            next: None,
            settles_at: scenario.limit_settles_at,
            restarts: 0,
            slack: scenario.slack_units,
            interval_ns: scenario.interval_ns,
            longest_delay: travel + repeats,
            worst: None,
            excess: None,
            requests: 0,
            admitted: 0,
            late: (0, 0),
        }
    }

    /// A request was decided on a node whose sync thread has slept for so long.
    pub fn asleep(&mut self, for_ns: TrueNs, key: u64, admitted: bool) {
        if key == 0 && for_ns > LEASE {
            self.late.0 += 1;
            self.late.1 += u64::from(admitted);
        }
    }

    /// I8: without the sync thread `Eventual` goes on with what it had, and `Strict` stops when its leases are over.
    #[must_use]
    pub fn sleep_broke(&self) -> Option<String> {
        let (asked, admitted) = self.late;
        match self.rule.mode {
            Mode::Strict if admitted > 0 => Some(format!(
                "I8: {admitted} requests were admitted on leases that were over, while the sync thread slept"
            )),
            Mode::Eventual if asked >= ENOUGH && admitted == 0 => Some(format!(
                "I8: none of {asked} requests was admitted while the sync thread slept"
            )),
            _ => None,
        }
    }

    /// A request was decided.
    pub fn request(&mut self, at: TrueNs, node: usize, key: u64, cost: u64, admitted: bool) {
        if let Some((from, rule)) = self.next
            && at >= from
        {
            self.next = None;
            self.put_in_force(rule, at);
        }
        self.requests += cost;
        let rule = self.rule;
        let restarts = self.restarts;
        let judged = self.keys.entry(key).or_insert_with(|| Key {
            oracle: Oracle::new(rule.rate, rule.burst),
            asked: Vec::new(),
            restarts_when_full: restarts,
        });
        let word = node / 64;
        if judged.asked.len() <= word {
            judged.asked.resize(word + 1, 0);
        }
        judged.asked[word] |= 1 << (node % 64);
        if judged.oracle.is_full(at) {
            judged.restarts_when_full = restarts;
        }
        let ideal = judged.oracle.observe(at, cost, admitted);
        if key == 0 {
            self.meter.note(at, cost, admitted, ideal);
        }
        if !admitted {
            return;
        }
        self.admitted += cost;
        let over = judged.oracle.over_nano(at);
        let nodes = judged.asked.iter().map(|word| u64::from(word.count_ones())).sum();
        let since = restarts - judged.restarts_when_full;
        let allowed =
            allowance(&rule, nodes, since, self.interval_ns, self.longest_delay) + Nano::from(self.slack) * UNIT;
        if self.excess.is_none_or(|(worst, _)| over > worst) {
            self.excess = Some((over, at));
        }
        if self.worst.is_none_or(|(worst, _)| over - allowed > worst) {
            self.worst = Some((over - allowed, at));
        }
    }

    /// A process started again.
    pub fn restarted(&mut self, _node: usize, _at: TrueNs) {
        self.restarts += 1;
    }

    /// An operator changed the limit somewhere. Until all nodes know, both limits may be in force, so the larger numbers are.
    pub fn limit_changed(&mut self, at: TrueNs, rule: Rule) {
        if self.next.is_some_and(|(_, next)| next.version >= rule.version) || self.rule.version >= rule.version {
            return;
        }
        let both = Rule {
            rate: self.rule.rate.max(rule.rate),
            burst: self.rule.burst.max(rule.burst),
            ..self.rule
        };
        self.put_in_force(both, at);
        self.next = Some((self.settles_at.max(at), rule));
    }

    fn put_in_force(&mut self, rule: Rule, at: TrueNs) {
        self.rule = rule;
        for key in self.keys.values_mut() {
            key.oracle.set_limit(rule.rate, rule.burst, at);
        }
    }

    /// The worst excess over the burst in billionths of a unit, and when; `None` if nothing was admitted.
    #[must_use]
    pub fn excess(&self) -> Option<(Nano, TrueNs)> {
        self.excess
    }

    /// By how much the worst moment was over what the mode allows; above 0 is a broken promise.
    #[must_use]
    pub fn over_allowance(&self) -> Option<(Nano, TrueNs)> {
        self.worst
    }

    /// Units asked for and units admitted, of all keys.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.requests, self.admitted)
    }
}

/// What a mode lets `nodes` nodes admit above the burst, after so many restarts since the bucket was full: the formulas of
/// `docs/consistency.md`.
#[must_use]
pub fn allowance(rule: &Rule, nodes: u64, restarts: u64, interval_ns: TrueNs, delay_ns: TrueNs) -> Nano {
    match rule.mode {
        Mode::Strict => 0,
        Mode::Bounded(units) => Nano::from(units) * Nano::from(nodes + restarts) * UNIT,
        Mode::Eventual => {
            let late = interval_ns + 2 * delay_ns + 2 * MS;
            let stale = Nano::from(rule.rate) * Nano::from(late) * UNIT / Nano::from(SECOND);
            Nano::from(nodes.saturating_sub(1) + restarts) * Nano::from(rule.burst) * UNIT
                + Nano::from(nodes + restarts) * stale
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::OnPartition;

    #[test]
    fn a_sleeping_sync_thread_is_judged_by_mode() {
        let judge = |mode| {
            let mut setting = crate::scenario::Setting::published(3, 1);
            setting.mode = mode;
            Judge::new(&Scenario::quiet("even", &setting))
        };
        let late = 2 * SECOND;
        let mut strict = judge(Mode::Strict);
        strict.asleep(SECOND, 0, true);
        strict.asleep(late, 0, false);
        assert_eq!(strict.sleep_broke(), None, "a lease holds for a second");
        strict.asleep(late, 0, true);
        assert!(strict.sleep_broke().is_some_and(|text| text.starts_with("I8: 1 ")));
        let mut eventual = judge(Mode::Eventual);
        (0..ENOUGH).for_each(|_| eventual.asleep(late, 0, false));
        assert!(eventual.sleep_broke().is_some());
        eventual.asleep(late, 0, true);
        assert_eq!(eventual.sleep_broke(), None);
    }

    #[test]
    fn the_formulas() {
        let rule = |mode| Rule {
            rate: 1000,
            burst: 100,
            mode,
            on_partition: OnPartition::Share,
            version: 1,
        };
        assert_eq!(allowance(&rule(Mode::Strict), 9, 9, 50 * MS, MS), 0);
        assert_eq!(allowance(&rule(Mode::Bounded(5)), 3, 2, 50 * MS, MS), 25 * UNIT);
        // Two more bursts, and three nodes that each are 54 ms late.
        assert_eq!(
            allowance(&rule(Mode::Eventual), 3, 0, 50 * MS, MS),
            (200 + 3 * 54) * UNIT
        );
    }
}
