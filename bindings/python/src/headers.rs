//! Decisions as HTTP header fields and as the body of a denial.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use ratelimit::Limit;
use ratelimit::headers::{HeaderStyle, Headers as Texts, Reset};

use crate::decision::Decision;
use crate::error::{argument, raise};
use crate::guard::guard;
use crate::limiter::Limiter;

/// Turns the decisions of one limiter into HTTP header fields and into the body of a 429.
///
/// names: one for each limit, as clients are to know them; without it a single limit is "default" and several are called
/// by their text. ratelimit: whether RateLimit and RateLimit-Policy are sent. x_ratelimit: "delta" or "epoch" also sends
/// X-RateLimit-Limit, -Remaining and -Reset, the last as seconds from now or since 1970. draft_6 also sends
/// RateLimit-Limit, -Remaining and -Reset. cap_remaining: never tells a client that more than so many remain.
///
/// Follows changes of the limits.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct Headers {
    limiter: ratelimit::Limiter,
    names: Option<Vec<String>>,
    style: HeaderStyle,
    /// As of the limits beside them.
    texts: Mutex<(Vec<Limit>, Arc<Texts>)>,
}

#[pymethods]
impl Headers {
    #[new]
    #[pyo3(signature = (limiter, *, names = None, ratelimit = true, x_ratelimit = None, draft_6 = false, cap_remaining = None))]
    fn new(
        py: Python<'_>,
        limiter: &Limiter,
        names: Option<Vec<String>>,
        ratelimit: bool,
        x_ratelimit: Option<&str>,
        draft_6: bool,
        cap_remaining: Option<u64>,
    ) -> PyResult<Self> {
        guard(|| {
            let mut style = HeaderStyle::new().ratelimit(ratelimit);
            match x_ratelimit {
                None => {}
                Some("delta") => style = style.x_ratelimit(Reset::Delta),
                Some("epoch") => style = style.x_ratelimit(Reset::Epoch),
                Some(other) => {
                    let shown: String = other.escape_debug().take(80).collect();
                    return Err(argument(
                        py,
                        format!("x_ratelimit is \"{shown}\": it takes \"delta\", \"epoch\" or None"),
                    ));
                }
            }
            if draft_6 {
                style = style.draft_6();
            }
            if let Some(most) = cap_remaining {
                style = style.cap_remaining(most);
            }
            let limiter = limiter.open(py)?.clone();
            let limits = limiter.limits();
            let texts = make(py, names.as_deref(), &limits, style)?;
            Ok(Headers {
                limiter,
                names,
                style,
                texts: Mutex::new((limits, Arc::new(texts))),
            })
        })
    }

    /// The header fields of a decision: pairs of name, in lower case, and value.
    fn fields(&self, py: Python<'_>, decision: &Decision) -> PyResult<Vec<(&'static str, String)>> {
        guard(|| Ok(self.texts(py)?.headers(&decision.inner).collect()))
    }

    /// The body of a 429, of the media type application/problem+json.
    fn problem(&self, py: Python<'_>, decision: &Decision) -> PyResult<String> {
        guard(|| Ok(self.texts(py)?.problem(&decision.inner)))
    }
}

impl Headers {
    /// For the limits that are in force now: they may have been changed, and not only through this process.
    fn texts(&self, py: Python<'_>) -> PyResult<Arc<Texts>> {
        let limits = self.limiter.limits();
        let mut known = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != limits {
            let texts = make(py, self.names.as_deref(), &limits, self.style)?;
            *known = (limits, Arc::new(texts));
        }
        Ok(Arc::clone(&known.1))
    }
}

fn make(py: Python<'_>, names: Option<&[String]>, limits: &[Limit], style: HeaderStyle) -> PyResult<Texts> {
    let texts = match names {
        Some(names) => Texts::named(names.iter().cloned(), limits),
        None => Texts::unnamed(limits),
    };
    Ok(texts.map_err(|error| raise(py, error))?.with_style(style))
}
