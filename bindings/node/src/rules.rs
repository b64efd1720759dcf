//! Limits by other criteria than one key.

use std::cell::RefCell;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use ratelimit::options::{Dialect, Options};
use ratelimit::{Error, Limit, RuleDecision, RuleSet, Rules};

use crate::boundary::guard;
use crate::values::{Js, elements, milliseconds};

/// Rules, for `lib/rules.js`.
#[napi]
pub struct RulesHandle {
    /// None once they are closed.
    rules: RefCell<Option<Rules>>,
}

/// A decision: the five numbers of one, and names.
#[napi(object)]
pub struct ToldByRules {
    pub allowed: bool,
    pub limit: f64,
    pub remaining: f64,
    pub retry_after_ms: f64,
    pub reset_after_ms: f64,
    pub rule: Option<String>,
    pub shadow: Option<String>,
}

impl From<RuleDecision> for ToldByRules {
    fn from(told: RuleDecision) -> Self {
        let count = |count: u64| if count == u64::MAX { f64::INFINITY } else { count as f64 };
        ToldByRules {
            allowed: told.decision.allowed,
            limit: count(told.decision.limit),
            remaining: count(told.decision.remaining),
            retry_after_ms: milliseconds(told.decision.retry_after),
            reset_after_ms: milliseconds(told.decision.reset_after),
            rule: told.rule.map(|name| name.to_string()),
            shadow: told.shadow.map(|name| name.to_string()),
        }
    }
}

/// What a rule has done.
#[napi(object)]
pub struct RuleCounts {
    pub name: String,
    pub shadow: bool,
    pub allowed: f64,
    pub denied: f64,
    pub would_deny: f64,
}

fn list(given: Js) -> Result<impl Iterator<Item = Js>, Error> {
    let env = given.env;
    let elements = elements(env, given.value)
        .ok_or_else(|| Error::Internal("an array was expected of the other side".to_owned()))?;
    Ok(elements.into_iter().map(move |value| Js { env, value }))
}

/// From as many names as values.
fn attributes(names: Js, values: Js) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let pairs = list(names)?.zip(list(values)?);
    let pairs = pairs.map(|(name, value)| Ok((name.text("the name of an attribute")?, value.key(<[u8]>::to_vec)?)));
    pairs.collect()
}

impl RulesHandle {
    fn with<R>(&self, work: impl FnOnce(&Rules) -> R) -> Result<R, Error> {
        // A clone of the handle: what work runs of the caller's may close these rules.
        let rules = self.rules.borrow().clone().ok_or(Error::Closed)?;
        Ok(work(&rules))
    }
}

#[napi]
impl RulesHandle {
    /// From TOML, the names of options and as many values.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, text: Js, names: Js, values: Js) -> napi::Result<Self> {
        guard(env.raw(), || {
            let mut options = Options::new(Dialect::CamelMillis);
            for (name, value) in list(names)?.zip(list(values)?) {
                options.set(&name.text("the name of an option")?, value.option())?;
            }
            let rules = options.build_rules(RuleSet::from_toml(&text.text("the rules")?)?)?;
            Ok(RulesHandle {
                rules: RefCell::new(Some(rules)),
            })
        })
    }

    /// Decides; with `charge` false it only says what it would decide.
    #[napi(catch_unwind)]
    pub fn check(
        &self,
        env: Env,
        names: Js,
        values: Js,
        cost: Js,
        now_ms: Js,
        charge: bool,
    ) -> napi::Result<ToldByRules> {
        guard(env.raw(), || {
            let attributes = attributes(names, values)?;
            let cost = cost.count("cost")?;
            let now = now_ms.optional().map(|now| now.milliseconds("nowMs")).transpose()?;
            self.with(|rules| match now {
                _ if !charge => rules.peek(&attributes, cost),
                None => rules.check(&attributes, cost),
                Some(now) => rules.check_at(&attributes, cost, now),
            })
            .map(ToldByRules::from)
        })
    }

    /// Gives requests back.
    #[napi(catch_unwind)]
    pub fn refund(&self, env: Env, names: Js, values: Js, cost: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let (attributes, cost) = (attributes(names, values)?, cost.count("cost")?);
            self.with(|rules| rules.refund(&attributes, cost))
        })
    }

    /// Forgets what was spent.
    #[napi(catch_unwind)]
    pub fn reset(&self, env: Env, names: Js, values: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let attributes = attributes(names, values)?;
            self.with(|rules| rules.reset(&attributes))
        })
    }

    /// Puts other rules in force.
    #[napi(catch_unwind)]
    pub fn replace(&self, env: Env, text: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let text = text.text("the rules")?;
            self.with(|rules| rules.replace_from_toml(&text))?
        })
    }

    /// Gives a client limits of its own, or none.
    #[napi(catch_unwind)]
    pub fn set_override(&self, env: Env, rule: Js, value: Js, limits: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let (rule, value) = (rule.text("the rule")?, value.text("the value")?);
            let limits = list(limits)?.map(Js::limit).collect::<Result<Vec<Limit>, _>>()?;
            self.with(|rules| rules.set_override(&rule, &value, &limits))?
        })
    }

    /// What each rule has done.
    #[napi(catch_unwind)]
    pub fn stats(&self, env: Env) -> napi::Result<Vec<RuleCounts>> {
        guard(env.raw(), || {
            let stats = self.with(Rules::stats)?.into_iter();
            let counts = stats.map(|rule| RuleCounts {
                name: rule.name.to_string(),
                shadow: rule.shadow,
                allowed: rule.allowed as f64,
                denied: rule.denied as f64,
                would_deny: rule.would_deny as f64,
            });
            Ok(counts.collect())
        })
    }

    /// Text for Prometheus.
    #[napi(catch_unwind)]
    pub fn prometheus(&self, env: Env) -> napi::Result<String> {
        guard(env.raw(), || self.with(Rules::prometheus))
    }

    /// Writes a snapshot now.
    #[napi(catch_unwind)]
    pub fn snapshot(&self, env: Env) -> napi::Result<()> {
        guard(env.raw(), || self.with(Rules::snapshot)?)
    }

    /// Writes a last snapshot. Closed already: nothing.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        guard(env.raw(), || match self.rules.take() {
            Some(rules) => rules.close(),
            None => Ok(()),
        })
    }
}
