//! Errors as Python's classes.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Makes the exception for an error: the class that `ratelimit._errors` has for its code.
#[cold]
pub(crate) fn raise(py: Python<'_>, error: impl Into<ratelimit::Error>) -> PyErr {
    let error = error.into();
    named(py, error.name(), &error.to_string())
}

/// An argument of the wrong kind or out of its range: in Python both a `TypeError` and a `ValueError`, since one code is
/// both in every language.
#[cold]
pub(crate) fn argument(py: Python<'_>, text: String) -> PyErr {
    raise(py, ratelimit::Error::Argument(text))
}

fn named(py: Python<'_>, name: &str, text: &str) -> PyErr {
    let made = py
        .import("ratelimit._errors")
        .and_then(|errors| errors.call_method1("make", (name, text)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        // The interpreter is shutting down, or its modules were torn apart: say at least what is wrong.
        Err(_) => PyRuntimeError::new_err(text.to_owned()),
    }
}
