//! A clock that is set by hand.

use pyo3::prelude::*;

use crate::convert::{as_seconds, seconds};
use crate::guard::guard;

/// A clock that is set by hand, for tests: `Limiter("1/s", clock=clock)`. Several limiters may obey one.
///
/// Starts at 0. Calling it reads it, so that it also serves where a function like `time.monotonic` is wanted.
/// It decides; it does not wake: `acquire` and `aacquire` sleep by real time and then ask again.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct ManualClock {
    pub(crate) clock: ratelimit::Clock,
    hand: ratelimit::ManualClock,
}

#[pymethods]
impl ManualClock {
    #[new]
    fn new() -> PyResult<Self> {
        guard(|| {
            let (clock, hand) = ratelimit::Clock::manual();
            Ok(ManualClock { clock, hand })
        })
    }

    /// Moves the clock forward by so many seconds.
    #[pyo3(signature = (seconds, /))]
    #[pyo3(text_signature = "($self, seconds, /)")]
    fn advance(&self, #[pyo3(from_py_with = by)] seconds: std::time::Duration) -> PyResult<()> {
        guard(|| {
            self.hand.advance(seconds);
            Ok(())
        })
    }

    /// Sets the clock to any time, in seconds from 0; also to an earlier one.
    #[pyo3(signature = (seconds, /))]
    fn set(&self, #[pyo3(from_py_with = by)] seconds: std::time::Duration) -> PyResult<()> {
        guard(|| {
            self.hand.set(seconds);
            Ok(())
        })
    }

    /// What the clock shows, in seconds, modulo 834 days.
    fn now(&self) -> PyResult<f64> {
        guard(|| Ok(as_seconds(std::time::Duration::from_nanos(self.clock.now()))))
    }

    fn __call__(&self) -> PyResult<f64> {
        self.now()
    }

    fn __repr__(&self) -> PyResult<String> {
        guard(|| {
            Ok(format!(
                "ManualClock(now={})",
                as_seconds(std::time::Duration::from_nanos(self.clock.now()))
            ))
        })
    }
}

fn by(given: &Bound<'_, PyAny>) -> PyResult<std::time::Duration> {
    seconds("seconds", given)
}
