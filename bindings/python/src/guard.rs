//! Where panics end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use crate::error::raise;

/// Runs the body of an entry. A panic becomes an `InternalError`, which is a `RuntimeError`: pyo3 by itself would raise its `PanicException`, which
/// is a `BaseException` and ends a worker that catches `Exception`.
///
/// Nothing is left half done by a panic: the engine changes one word at a time, and what is ours here is set before or
/// after it and never in two steps.
#[inline]
pub(crate) fn guard<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "test-hooks")]
        hooks::panic_if_armed();
        body()
    }));
    caught.unwrap_or_else(|payload| Err(failed(payload)))
}

#[cold]
fn failed(payload: Box<dyn Any + Send>) -> PyErr {
    let error = ratelimit::Error::of_panic(&*payload);
    // Dropping what was thrown may panic again.
    std::mem::forget(payload);
    // This thread is attached already, since an entry was called; `attach` then only says so.
    Python::attach(|py| raise(py, error))
}

/// What only tests and benchmarks need.
#[cfg(feature = "test-hooks")]
pub(crate) mod hooks {
    use std::cell::Cell;

    use pyo3::prelude::*;

    thread_local! {
        static ARMED: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn panic_if_armed() {
        if ARMED.get() {
            ARMED.set(false);
            panic!("injected");
        }
    }

    /// The next entry of this thread panics. Answers whether one was still to come from the call before.
    #[pyfunction]
    #[pyo3(name = "_panic_next", signature = (armed = true))]
    pub(crate) fn panic_next(armed: bool) -> bool {
        ARMED.replace(armed)
    }

    /// What the engine alone takes for `calls` decisions on one key, in nanoseconds a call: what is left of a call is Python's.
    #[pyfunction]
    #[pyo3(name = "_engine_ns", signature = (limiter, key, calls))]
    pub(crate) fn engine_ns(py: Python<'_>, limiter: &crate::limiter::Limiter, key: &str, calls: u32) -> PyResult<f64> {
        let limiter = limiter.open(py)?;
        let start = std::time::Instant::now();
        for _ in 0..calls {
            std::hint::black_box(limiter.is_allowed(std::hint::black_box(key)));
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(calls))
    }

    /// `call(text)` does nothing: what a call of a built-in method costs by itself.
    #[pyclass(frozen, module = "ratelimit._native", name = "_Noop")]
    pub(crate) struct Noop;

    #[pymethods]
    impl Noop {
        #[new]
        fn new() -> Self {
            Noop
        }

        /// As pyo3 makes a method by itself.
        fn pyo3_call(&self, text: &str) -> bool {
            !text.is_empty()
        }
    }
}
