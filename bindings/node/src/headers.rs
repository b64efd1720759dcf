//! Header fields and problem details of decisions, for the middleware.

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use ratelimit::headers::{HeaderStyle, Headers, Reset};
use ratelimit::{Decision, Error, Limit, Limiter};

use crate::boundary::guard;
use crate::limiter::Handle;
use crate::limiters::Limiters;
use crate::values::{Js, duration, elements, number};

/// Turns decisions of one limiter into texts.
#[napi]
pub struct HeaderFields {
    limiters: Rc<Limiters>,
    number: u32,
    names: Option<Vec<String>>,
    style: HeaderStyle,
    /// The limits that the texts speak of, and what was made from them: made anew when other limits are in force.
    made: RefCell<(Vec<Limit>, Headers)>,
}

#[napi]
impl HeaderFields {
    /// `names` for the limits, or nothing; whether the standard fields are sent; which older ones: "epoch" or "delta" for
    /// those that begin with `X-RateLimit-`; whether those of draft 6; the most that is told to remain.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        handle: &Handle,
        names: Js,
        standard: bool,
        legacy: Option<String>,
        draft_6: bool,
        cap: Js,
    ) -> napi::Result<Self> {
        guard(env.raw(), || {
            let names = match names.optional() {
                None => None,
                Some(names) => Some(
                    elements(names.env, names.value)
                        .ok_or_else(|| Error::Argument("names takes an array of texts".to_owned()))?
                        .into_iter()
                        .map(|value| Js { env: env.raw(), value }.text("a name"))
                        .collect::<Result<Vec<_>, _>>()?,
                ),
            };
            let mut style = HeaderStyle::new().ratelimit(standard);
            match legacy.as_deref() {
                Some("epoch") => style = style.x_ratelimit(Reset::Epoch),
                Some("delta") => style = style.x_ratelimit(Reset::Delta),
                _ => {}
            }
            if draft_6 {
                style = style.draft_6();
            }
            if let Some(cap) = cap.optional() {
                style = style.cap_remaining(cap.count("capRemaining")?);
            }
            let (limiters, number) = (Rc::clone(&handle.limiters), handle.number);
            let limits = limiters.with(number, Limiter::limits)?;
            let headers = make(names.as_deref(), &limits, style)?;
            Ok(HeaderFields {
                limiters,
                number,
                names,
                style,
                made: RefCell::new((limits, headers)),
            })
        })
    }

    fn with<R>(&self, numbers: Js, work: impl FnOnce(&Headers, &Decision) -> R) -> Result<R, Error> {
        let decision = decision(numbers)?;
        let limits = self.limiters.with(self.number, Limiter::limits)?;
        let mut made = self.made.borrow_mut();
        if made.0 != limits {
            let headers = make(self.names.as_deref(), &limits, self.style)?;
            *made = (limits, headers);
        }
        Ok(work(&made.1, &decision))
    }

    /// Names and values of the header fields, alternating, of a decision as five numbers.
    #[napi(catch_unwind)]
    pub fn fields(&self, env: Env, numbers: Js) -> napi::Result<Vec<String>> {
        guard(env.raw(), || {
            self.with(numbers, |headers, decision| {
                let fields = headers.headers(decision);
                fields.flat_map(|(name, value)| [name.to_owned(), value]).collect()
            })
        })
    }

    /// The body of a denial.
    #[napi(catch_unwind)]
    pub fn problem(&self, env: Env, numbers: Js) -> napi::Result<String> {
        guard(env.raw(), || self.with(numbers, Headers::problem))
    }
}

fn make(names: Option<&[String]>, limits: &[Limit], style: HeaderStyle) -> Result<Headers, Error> {
    let headers = match names {
        None => Headers::unnamed(limits)?,
        Some(names) => Headers::named(names.iter().cloned(), limits)?,
    };
    Ok(headers.with_style(style))
}

fn decision(numbers: Js) -> Result<Decision, Error> {
    let wrong = || Error::Internal("a decision is not five numbers".to_owned());
    let all: Vec<f64> = elements(numbers.env, numbers.value)
        .ok_or_else(wrong)?
        .into_iter()
        .map(|value| number(numbers.env, value).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let [allowed, limit, remaining, retry_after, reset_after] = all[..] else {
        return Err(wrong());
    };
    let time = |ms: f64| {
        if ms == f64::INFINITY {
            Ok(Decision::NEVER)
        } else {
            duration(ms).ok_or_else(wrong)
        }
    };
    // Casts: counts that were counts before.
    Ok(Decision::new(
        allowed != 0.0,
        limit as u64,
        remaining as u64,
        time(retry_after)?,
        time(reset_after)?,
    ))
}
