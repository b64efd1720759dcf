//! The answer to one request.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use ratelimit::Limit;
use ratelimit::headers::Headers;

use crate::convert::as_seconds;
use crate::error::raise;
use crate::guard::guard;

/// The limits that clients are shown. Decisions hold this and not the limiter, so that one that is kept for long keeps no
/// table alive.
pub(crate) struct Shown(RwLock<Arc<(Vec<Limit>, Headers)>>);

impl Shown {
    pub(crate) fn new(py: Python<'_>, limits: Vec<Limit>) -> PyResult<Arc<Self>> {
        let headers = Headers::unnamed(&limits).map_err(|error| raise(py, error))?;
        Ok(Arc::new(Shown(RwLock::new(Arc::new((limits, headers))))))
    }

    /// After a change of limits.
    pub(crate) fn replace(&self, py: Python<'_>, limits: Vec<Limit>) -> PyResult<()> {
        let headers = Headers::unnamed(&limits).map_err(|error| raise(py, error))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new((limits, headers));
        Ok(())
    }

    fn read(&self) -> Arc<(Vec<Limit>, Headers)> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The answer to one request. True if it was allowed.
///
/// With several limits at once it speaks of the limit that binds.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct Decision {
    pub(crate) inner: ratelimit::Decision,
    pub(crate) shown: Arc<Shown>,
}

#[pymethods]
impl Decision {
    /// Whether the request may go on. If so it was charged, unless it was only a peek.
    #[getter]
    fn allowed(&self) -> PyResult<bool> {
        guard(|| Ok(self.inner.allowed))
    }

    /// The burst capacity: the most requests that can be allowed at one instant.
    #[getter]
    fn limit(&self) -> PyResult<u64> {
        guard(|| Ok(self.inner.limit))
    }

    /// How many requests of cost 1 would be allowed now, after this one.
    #[getter]
    fn remaining(&self) -> PyResult<u64> {
        guard(|| Ok(self.inner.remaining))
    }

    /// 0.0 if allowed; otherwise seconds until this cost fits; math.inf if it never will.
    #[getter]
    fn retry_after(&self) -> PyResult<f64> {
        guard(|| Ok(as_seconds(self.inner.retry_after)))
    }

    /// Seconds until the full burst is available again, if nothing more is asked for.
    #[getter]
    fn reset_after(&self) -> PyResult<f64> {
        guard(|| Ok(as_seconds(self.inner.reset_after)))
    }

    /// The HTTP header fields: RateLimit-Policy, RateLimit and, if denied, Retry-After; names in lower case.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard(|| {
            let fields = PyDict::new(py);
            for (name, value) in self.shown.read().1.headers(&self.inner) {
                fields.set_item(name, value)?;
            }
            Ok(fields)
        })
    }

    fn __bool__(&self) -> PyResult<bool> {
        guard(|| Ok(self.inner.allowed))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(|| {
            Ok(other
                .cast::<Decision>()
                .is_ok_and(|other| other.get().inner == self.inner))
        })
    }

    fn __hash__(&self) -> PyResult<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        guard(|| {
            let mut hasher = DefaultHasher::new();
            let told = &self.inner;
            (
                told.allowed,
                told.limit,
                told.remaining,
                told.retry_after,
                told.reset_after,
            )
                .hash(&mut hasher);
            Ok(hasher.finish())
        })
    }

    fn __repr__(&self) -> PyResult<String> {
        guard(|| {
            // As Python writes them.
            let truth = if self.inner.allowed { "True" } else { "False" };
            Ok(format!(
                "Decision(allowed={truth}, limit={}, remaining={}, retry_after={:?}, reset_after={:?})",
                self.inner.limit,
                self.inner.remaining,
                as_seconds(self.inner.retry_after),
                as_seconds(self.inner.reset_after),
            ))
        })
    }

    /// For pickles and copies: with the limits as they are shown now.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Parts)> {
        guard(|| {
            let make = py.import("ratelimit._native")?.getattr("_decision")?;
            let told = &self.inner;
            let limits = self.shown.read().0.iter().map(Limit::to_string).collect();
            let never = told.retry_after == ratelimit::Decision::NEVER;
            let retry_ns = if never { None } else { Some(told.retry_after.as_nanos()) };
            let parts = (
                told.allowed,
                told.limit,
                told.remaining,
                retry_ns,
                told.reset_after.as_nanos(),
                limits,
            );
            Ok((make, parts))
        })
    }
}

/// What a pickle holds: allowed, limit, remaining, both durations in nanoseconds (none is never), the limits.
type Parts = (bool, u64, u64, Option<u128>, u128, Vec<String>);

/// A decision from its pickle.
#[pyfunction]
#[pyo3(name = "_decision", signature = (allowed, limit, remaining, retry_after_ns, reset_after_ns, limits, /))]
pub(crate) fn decision_from_parts(
    py: Python<'_>,
    allowed: bool,
    limit: u64,
    remaining: u64,
    retry_after_ns: Option<u64>,
    reset_after_ns: u64,
    limits: Vec<String>,
) -> PyResult<Decision> {
    guard(|| {
        let limits = limits
            .iter()
            .map(|text| text.parse().map_err(|error: ratelimit::LimitError| raise(py, error)))
            .collect::<PyResult<Vec<Limit>>>()?;
        let retry_after = retry_after_ns.map_or(ratelimit::Decision::NEVER, Duration::from_nanos);
        let reset_after = Duration::from_nanos(reset_after_ns);
        Ok(Decision {
            inner: ratelimit::Decision::new(allowed, limit, remaining, retry_after, reset_after),
            shown: Shown::new(py, limits)?,
        })
    })
}
