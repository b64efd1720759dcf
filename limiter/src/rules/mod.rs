//! Limits by other criteria than one key: place, kind of request, path, tier, API key.
//!
//! A rule says *when* it applies, *by* which attributes it counts, and its limits. A request names its attributes; every rule that
//! applies must allow it, and then all are charged; if one denies, none is. The guide is `docs/rules.md`.
//!
//! All rules share one table. A key is the hash of the rule and of the values it counts by, so a rule costs memory only where it
//! counts, and the snapshot is one.

mod set;
mod spec;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ratelimit_core::{Engine, Overflow};
use ratelimit_model::{Decision, Limit};
use smallvec::SmallVec;

use self::set::{Outcome, Parts, Set, Values};
pub use self::spec::{
    MAX_ATTRIBUTES, MAX_BY, MAX_NAME_BYTES, MAX_OVERRIDES, MAX_RULES, MAX_TEXT_BYTES, MAX_VALUE_BYTES, MAX_VALUES,
    RuleSet,
};
use crate::{Builder, Error, Limiter, metrics};

/// The table's own limit, which decides nothing: the longest that a debt can be, so that a snapshot holds all of them.
const LONGEST: Duration = Duration::from_secs(208 * 86_400);

/// Decides requests by rules. A handle: clones share the rules and the counts, and any number of threads may use it.
///
/// ```
/// use ratelimit::Rules;
///
/// let rules = Rules::from_toml(
///     r#"
///     [[rule]]
///     name = "login"
///     when = { path = { prefix = "/login" }, method = "POST" }
///     by = ["ip"]
///     limits = "2/minute"
///     "#,
/// )?;
/// let login = [("ip", "192.0.2.7"), ("path", "/login"), ("method", "POST")];
/// assert!(rules.check(&login, 1).decision.allowed);
/// assert!(rules.check(&login, 1).decision.allowed);
/// let denied = rules.check(&login, 1);
/// assert!(!denied.decision.allowed);
/// assert_eq!(denied.rule.as_deref(), Some("login"));
/// # Ok::<(), ratelimit::Error>(())
/// ```
#[derive(Clone)]
pub struct Rules {
    shared: Arc<Shared>,
}

struct Shared {
    limiter: Limiter,
    set: ArcSwap<Set>,
    /// One change at a time.
    changing: Mutex<()>,
    unmatched: set::Counts,
    replaced: AtomicU64,
}

/// What rules say of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RuleDecision {
    /// The decision of the limit that binds. If no rule applies the request is allowed, `limit` and `remaining` are `u64::MAX`.
    pub decision: Decision,
    /// The rule that binds: of those that deny the one with the longest wait, else the one with the fewest requests left. `None` if no
    /// rule applies.
    pub rule: Option<Arc<str>>,
    /// The first rule with `shadow = true` that would have denied the request.
    pub shadow: Option<Arc<str>>,
}

/// What one rule has done since it was first in force.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStats {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it only watches.
    pub shadow: bool,
    /// Requests that it applied to and that were allowed.
    pub allowed: u64,
    /// Requests that were denied, and it was the rule that bound.
    pub denied: u64,
    /// Requests that were allowed, and that it would have denied if it did more than watch.
    pub would_deny: u64,
}

impl Builder {
    /// Makes [`Rules`] in place of a limiter, with everything else as it was said: `max_keys`, `persist`, `share`, `clock`,
    /// `hash_key`. A client that finds the table full is denied, unless [`overflow`](Builder::overflow) says that it is
    /// allowed: under different limits clients cannot share a cell.
    ///
    /// Errors: as for [`build`](Builder::build), or limits were given here, which are the rules' part.
    pub fn build_rules(self, rules: RuleSet) -> Result<Rules, Error> {
        if !self.has_no_limits() {
            return Err(Error::Option(
                "rules have limits of their own: leave limits out here".to_owned(),
            ));
        }
        if self.has_cluster() {
            return Err(Error::Unsupported(
                "rules are kept by the processes of one host and not by a cluster: leave cluster out, or give each limit a limiter of \
                 its own"
                    .to_owned(),
            ));
        }
        let own = Limit::new(1, LONGEST)?;
        let overflow = match self.overflow_given() {
            Overflow::Allow => Overflow::Allow,
            Overflow::Share | Overflow::Deny => Overflow::Deny,
        };
        let limiter = self.limit(own).overflow(overflow).build()?;
        let set = Set::new(rules, &limiter.engine, None)?;
        Ok(Rules {
            shared: Arc::new(Shared {
                set: ArcSwap::from_pointee(set),
                limiter,
                changing: Mutex::new(()),
                unmatched: set::Counts::default(),
                replaced: AtomicU64::new(0),
            }),
        })
    }
}

impl Rules {
    /// Makes rules in memory alone. With a snapshot or other options: [`Builder::build_rules`].
    ///
    /// Errors: what is wrong with the text, with its line; or no memory.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Limiter::builder().build_rules(RuleSet::from_toml(text)?)
    }

    // --- Deciding ------------------------------------------------------------------------------------------------

    /// Decides a request with these attributes that costs as much as `cost` ordinary ones. All rules that apply allow it and are
    /// charged, or none is. Attributes that no rule looks at are left aside; of one that is named twice the first counts.
    ///
    /// Cost: a hash for each rule that applies and each of its values, and two lookups for each limit. No lock; no allocation up to 8
    /// limits.
    pub fn check<N: AsRef<str>, V: AsRef<[u8]>>(&self, attributes: &[(N, V)], cost: u64) -> RuleDecision {
        self.decide(attributes, cost, None)
    }

    /// As [`check`](Rules::check), at a given time: see [Time](Limiter).
    pub fn check_at<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        attributes: &[(N, V)],
        cost: u64,
        now: Duration,
    ) -> RuleDecision {
        self.decide(attributes, cost, Some(now))
    }

    fn decide<N: AsRef<str>, V: AsRef<[u8]>>(
        &self,
        attributes: &[(N, V)],
        cost: u64,
        now: Option<Duration>,
    ) -> RuleDecision {
        let set = self.shared.set.load();
        let values = set.values(attributes);
        let asked = self.asked(&set, &values);
        let told = self.engine().check_parts(&asked.parts, cost, now);
        let mut decision = asked.told(&set, told);
        if !decision.decision.allowed {
            if let Some(rule) = asked.rule_of(told) {
                set.rules[rule].counts.count(Outcome::Denied);
            }
            return decision;
        }
        for &(rule, _) in &asked.ends {
            set.rules[rule].counts.count(Outcome::Allowed);
        }
        // Those that only watch charge what is allowed by them too, each for itself.
        let mut parts = Parts::new();
        for &rule in &asked.shadows {
            let rule = &set.rules[rule];
            parts.clear();
            rule.add_parts(&values, self.engine(), &mut parts);
            let told = self.engine().check_parts_aside(&parts, cost, now);
            self.engine().changed();
            if told.is_none_or(|(_, decision)| decision.allowed) {
                rule.counts.count(Outcome::Allowed);
            } else {
                rule.counts.count(Outcome::WouldDeny);
                decision.shadow.get_or_insert_with(|| rule.name.clone());
            }
        }
        if asked.ends.is_empty() && asked.shadows.is_empty() {
            self.shared.unmatched.count(Outcome::Allowed);
        }
        decision
    }

    /// What [`check`](Rules::check) would say now. Charges and counts nothing.
    #[must_use]
    pub fn peek<N: AsRef<str>, V: AsRef<[u8]>>(&self, attributes: &[(N, V)], cost: u64) -> RuleDecision {
        let set = self.shared.set.load();
        let values = set.values(attributes);
        let asked = self.asked(&set, &values);
        let mut decision = asked.told(&set, self.engine().peek_parts(&asked.parts, cost, None));
        let would_deny = |rule: &&usize| {
            let mut parts = Parts::new();
            set.rules[**rule].add_parts(&values, self.engine(), &mut parts);
            (self.engine().peek_parts(&parts, cost, None)).is_some_and(|(_, decision)| !decision.allowed)
        };
        if decision.decision.allowed {
            let shadow = asked.shadows.iter().find(would_deny);
            decision.shadow = shadow.map(|rule| set.rules[*rule].name.clone());
        }
        decision
    }

    /// Gives `cost` requests back to every rule that applies, for instance because what they asked for failed.
    pub fn refund<N: AsRef<str>, V: AsRef<[u8]>>(&self, attributes: &[(N, V)], cost: u64) {
        let set = self.shared.set.load();
        self.engine()
            .refund_parts(&self.all_parts(&set, &set.values(attributes)), cost, None);
    }

    /// Forgets what was spent under every rule that applies.
    pub fn reset<N: AsRef<str>, V: AsRef<[u8]>>(&self, attributes: &[(N, V)]) {
        let set = self.shared.set.load();
        self.engine()
            .reset_parts(&self.all_parts(&set, &set.values(attributes)), None);
    }

    fn engine(&self) -> &Engine {
        &self.shared.limiter.engine
    }

    fn asked<'a>(&self, set: &'a Set, values: &Values<'_>) -> AskedOf<'a> {
        let mut asked = AskedOf::default();
        for (number, rule) in set.rules.iter().enumerate().filter(|(_, rule)| rule.applies(values)) {
            if rule.shadow {
                asked.shadows.push(number);
            } else {
                rule.add_parts(values, self.engine(), &mut asked.parts);
                asked.ends.push((number, asked.parts.len()));
            }
        }
        asked
    }

    fn all_parts<'a>(&self, set: &'a Set, values: &Values<'_>) -> Parts<'a> {
        let mut parts = Parts::new();
        for rule in set.rules.iter().filter(|rule| rule.applies(values)) {
            rule.add_parts(values, self.engine(), &mut parts);
        }
        parts
    }

    // --- Changing ------------------------------------------------------------------------------------------------

    /// Puts other rules in force, all at once, while decisions run: each is made by the rules before or by those after, never by some of
    /// both. A rule whose name and `by` stay goes on from the counts it has, also under other limits: what a client has left to wait
    /// is kept, up to the whole burst. Overrides that were [set by call](Rules::set_override) go.
    ///
    /// Errors: a limit that makes no sense; nothing is changed then.
    pub fn replace(&self, rules: RuleSet) -> Result<(), Error> {
        self.change(|_| Ok(rules))?;
        // Relaxed: a counter orders nothing.
        self.shared.replaced.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// As [`replace`](Rules::replace), from TOML.
    ///
    /// Errors: what is wrong with the text, with its line; nothing is changed then.
    pub fn replace_from_toml(&self, text: &str) -> Result<(), Error> {
        self.replace(RuleSet::from_toml(text)?)
    }

    /// Gives a client of a rule limits of its own, by the value of the attribute that the rule counts by; none takes them away.
    ///
    /// Errors: no such rule, a rule that counts by several attributes or none, limits that make no sense, or more than 10,000. Cost:
    /// work in proportion to all rules and overrides.
    pub fn set_override(&self, rule: &str, value: &str, limits: &[Limit]) -> Result<(), Error> {
        spec::check_value(value).map_err(Error::Argument)?;
        if !limits.is_empty() {
            spec::check_limits(limits)?;
        }
        self.change(|before| {
            let mut rules = before.clone();
            let spec = rules.rules.iter_mut().find(|spec| spec.name == rule).ok_or_else(|| {
                let shown: String = rule.chars().take(MAX_NAME_BYTES).collect();
                Error::Argument(format!("there is no rule \"{}\"", shown.escape_debug()))
            })?;
            if spec.by.len() != 1 {
                return Err(Error::Argument(format!(
                    "rule \"{rule}\" counts by {} attributes: overrides are for rules that count by one",
                    spec.by.len()
                )));
            }
            if limits.is_empty() {
                spec.overrides.remove(value);
            } else {
                spec.overrides.insert(value.to_owned(), limits.to_vec());
            }
            if spec.overrides.len() > MAX_OVERRIDES {
                return Err(Error::Full(format!(
                    "rule \"{rule}\" has {MAX_OVERRIDES} overrides, which is the most"
                )));
            }
            Ok(rules)
        })
    }

    fn change(&self, to: impl FnOnce(&RuleSet) -> Result<RuleSet, Error>) -> Result<(), Error> {
        // Nothing is left half done by a panic in it.
        let _one_at_a_time = self.shared.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.set.load_full();
        let set = Set::new(to(&before.specs)?, self.engine(), Some(&before))?;
        self.shared.set.store(Arc::new(set));
        Ok(())
    }

    /// The names of the rules in force, in their order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.shared
            .set
            .load()
            .rules
            .iter()
            .map(|rule| rule.name.clone())
            .collect()
    }

    // --- Looking -------------------------------------------------------------------------------------------------

    /// What each rule in force has done.
    #[must_use]
    pub fn stats(&self) -> Vec<RuleStats> {
        let set = self.shared.set.load();
        let stats = set.rules.iter().map(|rule| RuleStats {
            name: rule.name.clone(),
            shadow: rule.shadow,
            allowed: rule.counts.sum(Outcome::Allowed),
            denied: rule.counts.sum(Outcome::Denied),
            would_deny: rule.counts.sum(Outcome::WouldDeny),
        });
        stats.collect()
    }

    /// Requests that no rule applied to, all of them allowed.
    #[must_use]
    pub fn unmatched(&self) -> u64 {
        self.shared.unmatched.sum(Outcome::Allowed)
    }

    /// Table and snapshot, and each rule by outcome, as text for Prometheus. Labels come from the rules alone, never from a request.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut text = self.shared.limiter.prometheus();
        let stats = self.stats();
        for (name, kind, help, value) in [
            ("ratelimit_rules", "gauge", "Rules in force.", stats.len() as u64),
            (
                "ratelimit_rules_replaced_total",
                "counter",
                "Rules put in force after the first.",
                self.shared.replaced.load(Ordering::Relaxed),
            ),
            (
                "ratelimit_rules_unmatched_total",
                "counter",
                "Requests that no rule applied to.",
                self.unmatched(),
            ),
        ] {
            metrics::head(&mut text, name, kind, help);
            metrics::sample(&mut text, name, &[], value);
        }
        let name = "ratelimit_rule_decisions_total";
        metrics::head(&mut text, name, "counter", "Decisions by rule and outcome.");
        for rule in &stats {
            for (outcome, count) in [
                ("allowed", rule.allowed),
                ("denied", rule.denied),
                ("would_deny", rule.would_deny),
            ] {
                let labels = [("rule", &*rule.name), ("outcome", outcome)];
                metrics::sample(&mut text, name, &labels, count);
            }
        }
        text
    }

    /// Writes a snapshot now: see [`Limiter::snapshot`].
    ///
    /// Errors: as there.
    pub fn snapshot(&self) -> Result<(), Error> {
        self.shared.limiter.snapshot()
    }

    /// Writes a last snapshot: see [`Limiter::close`].
    ///
    /// Errors: as there.
    pub fn close(&self) -> Result<(), Error> {
        self.shared.limiter.close()
    }
}

/// The parts of a request, and which rules they are of.
#[derive(Default)]
struct AskedOf<'a> {
    parts: Parts<'a>,
    /// Each rule that applies, and where its parts end.
    ends: SmallVec<[(usize, usize); 8]>,
    /// Those that apply and only watch.
    shadows: SmallVec<[usize; 4]>,
}

impl AskedOf<'_> {
    fn rule_of(&self, told: Option<(usize, Decision)>) -> Option<usize> {
        let (part, _) = told?;
        self.ends.iter().find(|(_, end)| part < *end).map(|(rule, _)| *rule)
    }

    fn told(&self, set: &Set, told: Option<(usize, Decision)>) -> RuleDecision {
        let unlimited = || Decision::new(true, u64::MAX, u64::MAX, Duration::ZERO, Duration::ZERO);
        RuleDecision {
            decision: told.map_or_else(unlimited, |(_, decision)| decision),
            rule: self.rule_of(told).map(|rule| set.rules[rule].name.clone()),
            shadow: None,
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("rules", &self.names())
            .finish_non_exhaustive()
    }
}
