//! A limit.

use pyo3::prelude::*;

use crate::convert::as_seconds;
use crate::error::{argument, raise};
use crate::guard::guard;

/// A limit, from its text: `Limit("100/minute burst 20")`. Wherever a limit is taken as text, this is taken too.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct Limit(pub(crate) ratelimit::Limit);

#[pymethods]
impl Limit {
    #[new]
    #[pyo3(signature = (text, /))]
    fn new(py: Python<'_>, text: &Bound<'_, PyAny>) -> PyResult<Self> {
        guard(|| parse(py, text).map(Limit))
    }

    /// The most requests per time_window.
    #[getter]
    fn rate_limit(&self) -> PyResult<u64> {
        guard(|| Ok(self.0.rate_limit()))
    }

    /// The window, in seconds.
    #[getter]
    fn time_window(&self) -> PyResult<f64> {
        guard(|| Ok(as_seconds(self.0.window())))
    }

    /// The burst in force: the most requests at one instant.
    #[getter]
    fn burst(&self) -> PyResult<u64> {
        guard(|| Ok(self.0.capacity()))
    }

    /// Whether at most rate_limit requests are allowed in any window, not only on average.
    #[getter]
    fn strict(&self) -> PyResult<bool> {
        guard(|| Ok(self.0.is_strict()))
    }

    /// The text that means this limit.
    fn __str__(&self) -> PyResult<String> {
        guard(|| Ok(self.0.to_string()))
    }

    fn __repr__(&self) -> PyResult<String> {
        guard(|| Ok(format!("Limit('{}')", self.0)))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(|| Ok(other.cast::<Limit>().is_ok_and(|other| other.get().0 == self.0)))
    }

    fn __hash__(&self) -> PyResult<u64> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        guard(|| {
            let mut hasher = DefaultHasher::new();
            // The text is canonical: equal limits have equal texts.
            self.0.to_string().hash(&mut hasher);
            Ok(hasher.finish())
        })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        guard(|| Ok((slf.get_type().into_any(), (slf.get().0.to_string(),))))
    }
}

/// A limit that was given as a text or as a [`Limit`].
pub(crate) fn parse(py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<ratelimit::Limit> {
    if let Ok(limit) = given.cast::<Limit>() {
        return Ok(limit.get().0);
    }
    let Ok(text) = given.cast::<pyo3::types::PyString>() else {
        return Err(argument(
            py,
            format!(
                "a limit is {}: it takes a text like \"100/minute burst 20\"",
                given.get_type().name()?
            ),
        ));
    };
    text.to_string_lossy()
        .parse()
        .map_err(|error: ratelimit::LimitError| raise(py, error))
}
