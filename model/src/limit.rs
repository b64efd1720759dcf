use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::Gcra;

/// The highest rate a limit can have, in requests per second: the emission interval is then 10 ns.
///
/// Rates up to 10 million per second are the product's promise (kept within 0.1 %); above this bound a limit could not be
/// told from none, since a request takes longer to decide than the time until the next.
pub const MAX_RATE_PER_SECOND: u64 = 100_000_000;

/// The longest time an empty bucket may take to fill, in nanoseconds: a quarter of the circle of [`crate::time`], 208 days.
pub const MAX_TOLERANCE_NS: u64 = (1 << 54) - 1;

/// `rate_limit` requests per `time_window`, with an optional burst.
///
/// Read the first paragraph before choosing: without [`strict`](Limit::strict) a limit of `N` per window holds *on
/// average*. A client that was idle may spend the whole burst at once and the refill after it, so in one window of that
/// length up to `burst + N` requests (with the default burst `2 N`) can be allowed. With `strict` at most `N` are allowed
/// in **any** window of that length.
///
/// ```
/// use ratelimit_model::Limit;
/// use std::time::Duration;
///
/// let limit: Limit = "100/minute burst 20".parse()?;
/// assert_eq!(limit, Limit::new(100, Duration::from_secs(60))?.burst(20));
/// assert_eq!(limit.to_string(), "100/minute burst 20");
/// # Ok::<(), ratelimit_model::LimitError>(())
/// ```
///
/// Text form: `RATE/WINDOW [burst N] [strict]`, for instance `10/s`, `5/10s`, `1000/day strict`. Units: `s`, `sec`,
/// `second`, `m`, `min`, `minute`, `h`, `hour`, `d`, `day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub(crate) rate_limit: u64,
    pub(crate) window: Duration,
    pub(crate) burst: Option<u64>,
    pub(crate) strict: bool,
}

impl Limit {
    /// At most `rate_limit` requests per `time_window`, with a burst of `rate_limit`.
    ///
    /// Errors: a rate or window of zero, a rate above [`MAX_RATE_PER_SECOND`], or a window so long that the bucket would
    /// take more than 208 days to fill.
    pub fn new(rate_limit: u64, time_window: Duration) -> Result<Self, LimitError> {
        let limit = Limit {
            rate_limit,
            window: time_window,
            burst: None,
            strict: false,
        };
        Gcra::new(&limit)?;
        Ok(limit)
    }

    /// The same limit with room for `burst` requests at one instant.
    ///
    /// A burst that makes no sense (zero; longer than 208 days to refill; not below `rate_limit` on a strict limit) is
    /// reported by [`validate`](Limit::validate), which everything that takes a limit calls first.
    #[must_use]
    pub const fn burst(mut self, burst: u64) -> Self {
        self.burst = Some(burst);
        self
    }

    /// The same limit, kept in *any* window of its length and not only on average.
    ///
    /// The burst is then a tenth of the rate (at least 1) unless given, and the rest is spread over the window: with burst
    /// `b` of `N` requests the emission interval is `window / (N - b)`. `N = 1` is one request, then a whole window of
    /// silence.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Says what is wrong with this limit, if anything is.
    pub fn validate(&self) -> Result<(), LimitError> {
        Gcra::new(self).map(drop)
    }

    /// Requests per window.
    #[must_use]
    pub const fn rate_limit(&self) -> u64 {
        self.rate_limit
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// Whether the limit holds in any window.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        self.strict
    }

    /// The burst in force: as given, else `rate_limit`, or a tenth of it (at least 1) for a strict limit.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        match self.burst {
            Some(burst) => burst,
            None if self.strict => {
                let tenth = self.rate_limit / 10;
                if tenth == 0 { 1 } else { tenth }
            }
            None => self.rate_limit,
        }
    }

    /// Four words that [`from_words`](Limit::from_words) turns back: for limits that several processes read.
    #[must_use]
    pub const fn to_words(&self) -> [u64; 4] {
        let mut flags = self.window.subsec_nanos() as u64;
        if self.strict {
            flags |= STRICT_FLAG;
        }
        let burst = match self.burst {
            Some(burst) => {
                flags |= BURST_FLAG;
                burst
            }
            None => 0,
        };
        [self.rate_limit, self.window.as_secs(), flags, burst]
    }

    /// The limit of four words.
    ///
    /// Errors: the words are not those of a limit that makes sense.
    pub fn from_words(words: [u64; 4]) -> Result<Self, LimitError> {
        let [rate_limit, seconds, flags, burst] = words;
        // Nanoseconds fit in 30 bits. More than a second's worth of them would carry into the seconds, and may not overflow
        // there.
        let nanoseconds = Duration::from_nanos(flags & 0x3fff_ffff);
        let limit = Limit {
            rate_limit,
            window: Duration::from_secs(seconds).saturating_add(nanoseconds),
            burst: (flags & BURST_FLAG != 0).then_some(burst),
            strict: flags & STRICT_FLAG != 0,
        };
        limit.validate()?;
        Ok(limit)
    }
}

const STRICT_FLAG: u64 = 1 << 32;
const BURST_FLAG: u64 = 1 << 33;

/// Why a limit cannot be. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitError {
    /// `rate_limit` is 0.
    ZeroRate,
    /// `time_window` is 0.
    ZeroWindow,
    /// `burst` is 0.
    ZeroBurst,
    /// More than [`MAX_RATE_PER_SECOND`].
    RateTooHigh {
        /// The limit as it was asked for.
        limit: Limit,
    },
    /// The bucket would take more than 208 days to fill.
    TooLong {
        /// The limit as it was asked for.
        limit: Limit,
    },
    /// A strict limit whose burst is not below its rate (or above 1 at a rate of 1).
    StrictBurst {
        /// The burst that was asked for.
        burst: u64,
        /// The rate it must stay below.
        rate_limit: u64,
    },
    /// The text is not a limit.
    Text {
        /// The text, shortened if it is long.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitError::ZeroRate => {
                f.write_str("the rate limit is 0: use at least 1 request per window, or block() to stop a client")
            }
            LimitError::ZeroWindow => f.write_str("the time window is 0: use a window of some length, like 1 second"),
            LimitError::ZeroBurst => {
                f.write_str("the burst is 0, so that no request would ever be allowed: use at least 1")
            }
            LimitError::RateTooHigh { limit } => write!(
                f,
                "{limit} is more than {} million requests per second: use a lower rate or no limit",
                MAX_RATE_PER_SECOND / 1_000_000
            ),
            LimitError::TooLong { limit } => {
                write!(
                    f,
                    "{limit} would take more than 208 days to refill: use a shorter window or a smaller burst"
                )
            }
            LimitError::StrictBurst { burst, rate_limit } => write!(
                f,
                "the burst of {burst} leaves nothing to refill in a strict limit of {rate_limit} per window: \
                 use a burst of at most {}",
                rate_limit.saturating_sub(1).max(1)
            ),
            LimitError::Text { text, reason } => write!(
                f,
                "\"{}\" is not a limit: {reason}; write it like \"100/minute\", \"5/10s\" or \"100/minute burst 20\"",
                text.escape_debug()
            ),
        }
    }
}

impl core::error::Error for LimitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_the_limit_back() {
        for text in ["100/minute", "5/10s burst 20", "1000/day strict", "30/m burst 4 strict"] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!(Limit::from_words(limit.to_words()).unwrap(), limit, "{text}");
        }
        let odd = Limit::new(3, Duration::new(1, 999_999_999)).unwrap();
        assert_eq!(Limit::from_words(odd.to_words()).unwrap(), odd);
    }

    #[test]
    fn words_that_make_no_sense_are_refused() {
        assert_eq!(Limit::from_words([0; 4]), Err(LimitError::ZeroRate));
        assert!(Limit::from_words([u64::MAX; 4]).is_err());
    }
}
