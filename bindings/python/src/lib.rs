//! The native module `ratelimit._native`: conversions between Python and the crate `ratelimit`, and nothing else.
//!
//! What a limiter means, its options, defaults, errors and texts live in the crate. What only Python needs (decorators,
//! asyncio, middleware) is Python, in `python/ratelimit/`.
//!
//! Every entry goes through [`guard::guard`], so that a panic becomes a `RuntimeError` and never reaches a worker's main loop.

mod client_ip;
mod clock;
mod convert;
mod decision;
mod error;
mod fast;
mod guard;
mod headers;
mod key;
mod limit;
mod limiter;
mod rules;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::client_ip::TrustedProxies;
    #[pymodule_export]
    use crate::clock::ManualClock;
    #[pymodule_export]
    use crate::decision::{Decision, decision_from_parts};
    #[pymodule_export]
    use crate::headers::Headers;
    #[pymodule_export]
    use crate::key::{ClientKey, address_key};
    #[pymodule_export]
    use crate::limit::Limit;
    #[pymodule_export]
    use crate::limiter::{Limiter, unshare};
    #[pymodule_export]
    use crate::rules::{RuleDecision, Rules};

    #[cfg(feature = "test-hooks")]
    #[pymodule_export]
    use crate::guard::hooks::{Noop, engine_ns, panic_next};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::init(module)
    }
}

fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    fast::install(py)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    // What each language compares its own list with.
    let codes: Vec<(u32, &str, &str)> = ratelimit::ERROR_CODES
        .iter()
        .map(|error| (error.code, error.name, error.meaning))
        .collect();
    module.add("ERROR_CODES", codes)?;
    module.add("PROBLEM_JSON", ratelimit::headers::PROBLEM_JSON)?;
    // Its tests ask whether they run against a build that can be made to panic.
    module.add("TEST_HOOKS", cfg!(feature = "test-hooks"))?;
    Ok(())
}
