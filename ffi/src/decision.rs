//! `ratelimit_decision`.

use std::time::Duration;

use ratelimit::Decision;

/// A `retry_after_ns` that says never, and a `timeout_ns` without end.
pub const RATELIMIT_NEVER: u64 = u64::MAX;

/// The answer to one request. With several limits it speaks of the one that binds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ratelimit_decision {
    /// Whether the request may go on. If so it has been charged (unless it was only a peek).
    pub allowed: bool,
    /// The burst: the most requests that can be allowed at one instant. What clients are shown as their limit.
    pub limit: u64,
    /// How many requests of cost 1 would be allowed now, after this one.
    pub remaining: u64,
    /// 0 if allowed; otherwise the nanoseconds until this cost fits. `RATELIMIT_NEVER` if it never will.
    pub retry_after_ns: u64,
    /// The nanoseconds until the full burst is available again, if nothing more is asked for.
    pub reset_after_ns: u64,
}

impl From<Decision> for ratelimit_decision {
    #[inline(always)]
    fn from(decision: Decision) -> Self {
        ratelimit_decision {
            allowed: decision.allowed,
            limit: decision.limit,
            remaining: decision.remaining,
            retry_after_ns: nanoseconds(decision.retry_after),
            reset_after_ns: nanoseconds(decision.reset_after),
        }
    }
}

/// `Decision::NEVER`, and what else does not fit (584 years), becomes `RATELIMIT_NEVER`.
#[inline(always)]
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(u64::from(duration.subsec_nanos())))
        .unwrap_or(RATELIMIT_NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_the_largest_number() {
        assert_eq!(nanoseconds(Decision::NEVER), RATELIMIT_NEVER);
        assert_eq!(nanoseconds(Duration::from_nanos(u64::MAX - 1)), u64::MAX - 1);
        assert_eq!(nanoseconds(Duration::from_secs(1 << 40)), RATELIMIT_NEVER);
        assert_eq!(nanoseconds(Duration::ZERO), 0);
    }
}
