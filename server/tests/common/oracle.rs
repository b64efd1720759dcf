//! GCRA in exact rational numbers: the truth that the engine is compared with.
//!
//! It shares no line with the engine. Times are counted in units of `1 / denominator` nanoseconds, where the emission
//! interval is a whole number, so that nothing is ever rounded; a `HashMap` holds each client's theoretical arrival time.

use std::collections::HashMap;

/// One exact limit over all clients.
#[derive(Debug)]
pub struct Oracle {
    /// Units per nanosecond.
    denominator: u128,
    /// Units per request: the emission interval.
    interval: u128,
    /// Units a client may be ahead of the clock.
    tolerance: u128,
    arrival: HashMap<Vec<u8>, u128>,
}

impl Oracle {
    /// `rate` requests per `window_ns`, on average, with room for `burst` at once.
    pub fn new(rate: u64, window_ns: u128, burst: u64) -> Self {
        // interval = window / rate nanoseconds = window units, if a nanosecond has `rate` units.
        let interval = window_ns;
        Oracle {
            denominator: rate.into(),
            interval,
            tolerance: interval * u128::from(burst),
            arrival: HashMap::new(),
        }
    }

    /// At most `rate` requests in any `window_ns`: what the burst does not use is spread over the window.
    ///
    /// The one rounding the engine promises: the interval of a strict limit is a whole number of nanoseconds, rounded up,
    /// so that not even a nanosecond of any window sees more than the rate.
    pub fn strict(rate: u64, window_ns: u128, burst: Option<u64>) -> Self {
        if rate == 1 {
            return Oracle::new(1, window_ns, 1);
        }
        let burst = burst.unwrap_or((rate / 10).max(1));
        let interval_ns = window_ns.div_ceil(u128::from(rate - burst));
        assert!(interval_ns > 2_000_000, "shorter intervals are not rounded");
        Oracle::new(1, interval_ns, burst)
    }

    /// Decides one request, and charges it if it is allowed.
    pub fn allows(&mut self, key: &[u8], now_ns: u128) -> bool {
        let now = now_ns * self.denominator;
        let arrival = self.arrival.get(key).copied().unwrap_or(0).max(now) + self.interval;
        let allowed = arrival - now <= self.tolerance;
        if allowed {
            self.arrival.insert(key.to_vec(), arrival);
        }
        allowed
    }
}
