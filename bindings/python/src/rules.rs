//! Limits by other criteria than one key.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyString};
use ratelimit::options::{Dialect, Options};
use ratelimit::{Error, Limit, RuleSet};

use crate::clock::ManualClock;
use crate::convert;
use crate::error::{argument, raise};
use crate::guard::guard;

/// Decides requests by rules, from TOML: when each applies, by which attributes it counts, and its limits.
///
/// Options are those of Limiter that say no limit: path, snapshot_every, restore, max_keys, share, clock, hash_key, overflow.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct Rules {
    rules: ratelimit::Rules,
    closed: AtomicBool,
}

type Attributes<'py> = Vec<(String, Cow<'py, [u8]>)>;

/// Names and values of a mapping. Values are str, bytes or int, as keys are.
fn attributes<'py>(given: &Bound<'py, PyDict>) -> PyResult<Attributes<'py>> {
    let mut attributes = Vec::with_capacity(given.len());
    for (name, value) in given {
        // Like a field that was not sent.
        if value.is_none() {
            continue;
        }
        let Ok(name) = name.extract::<String>() else {
            return Err(argument(given.py(), "the names of attributes are texts".to_owned()));
        };
        let value = if let Ok(text) = value.cast::<PyString>() {
            Cow::Owned(text.to_cow()?.as_bytes().to_vec())
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            Cow::Owned(bytes.as_bytes().to_vec())
        } else if value.is_instance_of::<PyInt>() {
            Cow::Owned(value.str()?.to_cow()?.as_bytes().to_vec())
        } else {
            let kind = value.get_type().name()?;
            let text = format!("attribute \"{name}\" is {kind}: it takes str, bytes or int, or None for none");
            return Err(argument(given.py(), text));
        };
        attributes.push((name, value));
    }
    Ok(attributes)
}

impl Rules {
    fn open(&self, py: Python<'_>) -> PyResult<&ratelimit::Rules> {
        // Relaxed: as for a limiter.
        if self.closed.load(Ordering::Relaxed) {
            return Err(raise(py, Error::Closed));
        }
        Ok(&self.rules)
    }
}

#[pymethods]
impl Rules {
    #[new]
    #[pyo3(signature = (text, **options))]
    fn new(py: Python<'_>, text: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        guard(|| {
            let mut given = Options::new(Dialect::SnakeSeconds);
            for (name, value) in options.into_iter().flatten() {
                if let Ok(clock) = value.cast::<ManualClock>() {
                    given.use_clock(clock.get().clock.clone());
                    continue;
                }
                let name = name.cast::<PyString>()?.to_string_lossy().into_owned();
                given
                    .set(&name, convert::option(&value)?)
                    .map_err(|error| raise(py, error))?;
            }
            let rules = RuleSet::from_toml(text).and_then(|rules| given.build_rules(rules));
            Ok(Rules {
                rules: rules.map_err(|error| raise(py, error))?,
                closed: AtomicBool::new(false),
            })
        })
    }

    /// Decides a request with these attributes, and charges every rule that applies, or none.
    #[pyo3(signature = (attributes, cost = None, *, now = None), text_signature = "($self, attributes, cost=1, *, now=None)")]
    fn check(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
        cost: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<RuleDecision> {
        guard(|| {
            let rules = self.open(py)?;
            let (attributes, cost) = (self::attributes(attributes)?, convert::cost(cost)?);
            Ok(RuleDecision(match convert::now(now)? {
                None => rules.check(&attributes, cost),
                Some(now) => rules.check_at(&attributes, cost, now),
            }))
        })
    }

    /// Whether a request with these attributes is allowed. If so it is charged.
    fn is_allowed(&self, py: Python<'_>, attributes: &Bound<'_, PyDict>) -> PyResult<bool> {
        guard(|| Ok(self.open(py)?.check(&self::attributes(attributes)?, 1).decision.allowed))
    }

    /// What check would say. Charges and counts nothing.
    #[pyo3(signature = (attributes, cost = None), text_signature = "($self, attributes, cost=1)")]
    fn peek(
        &self,
        py: Python<'_>,
        attributes: &Bound<'_, PyDict>,
        cost: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<RuleDecision> {
        guard(|| {
            let cost = convert::cost(cost)?;
            Ok(RuleDecision(self.open(py)?.peek(&self::attributes(attributes)?, cost)))
        })
    }

    /// Gives requests back to every rule that applies.
    #[pyo3(signature = (attributes, cost = None), text_signature = "($self, attributes, cost=1)")]
    fn refund(&self, py: Python<'_>, attributes: &Bound<'_, PyDict>, cost: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(|| {
            let cost = convert::cost(cost)?;
            self.open(py)?.refund(&self::attributes(attributes)?, cost);
            Ok(())
        })
    }

    /// Forgets what was spent under every rule that applies.
    fn reset(&self, py: Python<'_>, attributes: &Bound<'_, PyDict>) -> PyResult<()> {
        guard(|| {
            self.open(py)?.reset(&self::attributes(attributes)?);
            Ok(())
        })
    }

    /// Puts other rules in force, all at once. Rules whose name and `by` stay keep their counts.
    fn replace(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        guard(|| self.open(py)?.replace_from_toml(text).map_err(|error| raise(py, error)))
    }

    /// Gives a client of a rule limits of its own, by the value that the rule counts by; None takes them away.
    #[pyo3(signature = (rule, value, limits))]
    fn set_override(&self, py: Python<'_>, rule: &str, value: &str, limits: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(|| {
            let texts = match limits {
                None => Vec::new(),
                Some(one) if one.is_instance_of::<PyString>() => vec![one.extract::<String>()?],
                Some(several) => several.extract::<Vec<String>>()?,
            };
            let limits = texts.iter().map(|text| text.parse::<Limit>());
            let limits = limits
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| raise(py, error))?;
            let set = self.open(py)?.set_override(rule, value, &limits);
            set.map_err(|error| raise(py, error))
        })
    }

    /// What each rule has done: a dict of name to allowed, denied, would_deny and shadow.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard(|| {
            let all = PyDict::new(py);
            for rule in self.open(py)?.stats() {
                let one = PyDict::new(py);
                one.set_item("allowed", rule.allowed)?;
                one.set_item("denied", rule.denied)?;
                one.set_item("would_deny", rule.would_deny)?;
                one.set_item("shadow", rule.shadow)?;
                all.set_item(&*rule.name, one)?;
            }
            Ok(all)
        })
    }

    /// Table, snapshot and rules as text for Prometheus.
    fn prometheus(&self, py: Python<'_>) -> PyResult<String> {
        guard(|| Ok(self.open(py)?.prometheus()))
    }

    /// Writes a snapshot now.
    fn snapshot(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            let rules = self.open(py)?;
            py.detach(|| rules.snapshot()).map_err(|error| raise(py, error))
        })
    }

    /// Writes a last snapshot. Every later call raises ClosedError; to close again does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            if self.closed.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
            py.detach(|| self.rules.close()).map_err(|error| raise(py, error))
        })
    }

    fn __enter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        guard(|| Ok(slf))
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}

/// What rules say of a request. True if it was allowed.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct RuleDecision(ratelimit::RuleDecision);

#[pymethods]
impl RuleDecision {
    /// Whether the request may go on.
    #[getter]
    fn allowed(&self) -> PyResult<bool> {
        guard(|| Ok(self.0.decision.allowed))
    }

    /// The burst of the limit that binds; 2**64 - 1 if no rule applies.
    #[getter]
    fn limit(&self) -> PyResult<u64> {
        guard(|| Ok(self.0.decision.limit))
    }

    /// How many requests of cost 1 would be allowed now, after this one.
    #[getter]
    fn remaining(&self) -> PyResult<u64> {
        guard(|| Ok(self.0.decision.remaining))
    }

    /// 0.0 if allowed; otherwise seconds until this cost fits; math.inf if it never will.
    #[getter]
    fn retry_after(&self) -> PyResult<f64> {
        guard(|| Ok(convert::as_seconds(self.0.decision.retry_after)))
    }

    /// Seconds until the full burst is available again.
    #[getter]
    fn reset_after(&self) -> PyResult<f64> {
        guard(|| Ok(convert::as_seconds(self.0.decision.reset_after)))
    }

    /// The name of the rule that binds; None if no rule applies.
    #[getter]
    fn rule(&self) -> PyResult<Option<&str>> {
        guard(|| Ok(self.0.rule.as_deref()))
    }

    /// The first rule that only watches and would have denied the request.
    #[getter]
    fn shadow(&self) -> PyResult<Option<&str>> {
        guard(|| Ok(self.0.shadow.as_deref()))
    }

    fn __bool__(&self) -> PyResult<bool> {
        guard(|| Ok(self.0.decision.allowed))
    }

    fn __repr__(&self) -> PyResult<String> {
        guard(|| {
            let told = &self.0;
            let truth = if told.decision.allowed { "True" } else { "False" };
            let name = |name: Option<&str>| name.map_or_else(|| "None".to_owned(), |name| format!("{name:?}"));
            Ok(format!(
                "RuleDecision(allowed={truth}, rule={}, remaining={}, retry_after={:?}, shadow={})",
                name(told.rule.as_deref()),
                told.decision.remaining,
                convert::as_seconds(told.decision.retry_after),
                name(told.shadow.as_deref()),
            ))
        })
    }
}
