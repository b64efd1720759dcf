//! `governor`, keyed by `String` as `RateLimiter::keyed` makes it: a `DashMap` with the standard library's hasher, and
//! the default clock. It cannot be told how many keys to expect, so it grows while it is filled.

use std::ops::Range;
use std::sync::Arc;

use ::governor::{DefaultKeyedRateLimiter, RateLimiter};

use super::{Engine, Entrant, Quota, Setup, count_admitted};
use crate::work::Workload;

pub(crate) const NAME: &str = "governor";

struct Governor(Arc<DefaultKeyedRateLimiter<String>>);

impl Engine for Governor {
    fn touch(&self, id: &String) -> bool {
        self.0.check_key(id).is_ok()
    }

    fn handle(&self) -> Box<dyn Engine> {
        Box::new(Governor(Arc::clone(&self.0)))
    }

    fn run(&self, work: &Workload, range: Range<usize>) -> Result<u64, String> {
        let limiter = &*self.0;
        Ok(count_admitted(&work.order[range], |place| {
            limiter.check_key(&work.ids[place]).is_ok()
        }))
    }
}

fn quota(quota: Quota) -> Result<::governor::Quota, String> {
    let burst = quota.burst.try_into().ok();
    ::governor::Quota::with_period(quota.period)
        .zip(burst)
        .map(|(built, burst)| built.allow_burst(burst))
        .ok_or_else(|| format!("governor does not take the limit {quota:?}."))
}

pub(crate) fn engine(setup: &Setup) -> Result<Box<dyn Engine>, String> {
    let limiter = RateLimiter::keyed(quota(setup.quota)?);
    Ok(Box::new(Governor(Arc::new(limiter))))
}

pub(crate) fn entrant(setup: &Setup) -> Result<Entrant, String> {
    Ok(Entrant {
        name: NAME,
        engine: engine(setup)?,
        fill: true,
    })
}
