use core::time::Duration;

/// The answer to one request.
///
/// Units: requests and [`Duration`]s, on the clock that the request was decided by. A denial is a value, not an error.
/// With several limits at once it speaks of the limit that binds: of those that deny the one that denies longest, and if
/// all allow, the one with the fewest requests left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether the request may go on. If so it has been charged (unless it was only a peek).
    pub allowed: bool,
    /// The burst capacity: the most requests that can be allowed at one instant. What clients are shown as their limit.
    pub limit: u64,
    /// How many requests of cost 1 would be allowed now, after this one.
    pub remaining: u64,
    /// Zero if allowed; otherwise the time until this cost fits. [`Decision::NEVER`] if it never will.
    pub retry_after: Duration,
    /// The time until the full burst is available again, if nothing more is asked for.
    pub reset_after: Duration,
}

impl Decision {
    /// The `retry_after` of a cost above the burst: waiting does not help.
    pub const NEVER: Duration = Duration::MAX;

    /// The decision's parts as one value, for the crates that make decisions.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(allowed: bool, limit: u64, remaining: u64, retry_after: Duration, reset_after: Duration) -> Self {
        Decision {
            allowed,
            limit,
            remaining,
            retry_after,
            reset_after,
        }
    }

    /// Whether this decision binds more than `other`: it denies while the other allows, or denies for longer, or leaves
    /// less.
    #[must_use]
    pub fn binds_more_than(&self, other: &Decision) -> bool {
        match (self.allowed, other.allowed) {
            (false, true) => true,
            (true, false) => false,
            (false, false) => (self.retry_after, self.reset_after) > (other.retry_after, other.reset_after),
            (true, true) => {
                self.remaining < other.remaining
                    || (self.remaining == other.remaining && self.reset_after > other.reset_after)
            }
        }
    }
}
