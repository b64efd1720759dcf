//! Waiting until a request fits.

use std::time::{Duration, Instant};

use ratelimit_model::Decision;

use crate::{Key, Limiter};

/// What one who waits does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The request was allowed and charged.
    Allowed,
    /// Waiting does not help: the cost is above the burst, or the time left is too short.
    GiveUp,
    /// Ask again after this long.
    Sleep(Duration),
}

impl Wait {
    /// After a decision, for one who has `left` to wait; `None` waits for as long as it takes.
    ///
    /// One rule for every language: who could not be allowed in time is told so at once, not when the time is up.
    #[must_use]
    pub fn after(decision: &Decision, left: Option<Duration>) -> Self {
        if decision.allowed {
            Wait::Allowed
        } else if decision.retry_after == Decision::NEVER || left.is_some_and(|left| decision.retry_after > left) {
            Wait::GiveUp
        } else {
            Wait::Sleep(decision.retry_after)
        }
    }
}

impl Limiter {
    /// Waits until a request of `cost` is allowed, and charges it. False if it cannot be within `timeout` (`None`: however
    /// long it takes), or ever: that is said at once, without waiting.
    ///
    /// This thread sleeps meanwhile. Who waits holds no place in a queue: of several that wait for one client whoever asks
    /// first after the time is up is allowed, and the others sleep again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let limiter = ratelimit::Limiter::builder().limit("1/10s".parse()?).build()?;
    /// assert!(limiter.acquire("client-7", 1, None));
    /// assert!(!limiter.acquire("client-7", 1, Some(Duration::from_millis(10))));
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    pub fn acquire<K: Key + ?Sized>(&self, key: &K, cost: u64, timeout: Option<Duration>) -> bool {
        // A time beyond what the system can tell is as good as none.
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let client = self.key(key);
        loop {
            let decision = self.check_n(&client, cost);
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match Wait::after(&decision, left) {
                Wait::Allowed => return true,
                Wait::GiveUp => return false,
                Wait::Sleep(time) => std::thread::sleep(time),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_allowed_in_time_gives_up_at_once() {
        let second = Duration::from_secs(1);
        let denied = Decision::new(false, 1, 0, second, second);
        let never = Decision::new(false, 1, 0, Decision::NEVER, second);
        assert_eq!(Wait::after(&denied, None), Wait::Sleep(second));
        assert_eq!(Wait::after(&denied, Some(second)), Wait::Sleep(second));
        assert_eq!(Wait::after(&denied, Some(second / 2)), Wait::GiveUp);
        assert_eq!(Wait::after(&never, None), Wait::GiveUp);
        let allowed = Decision::new(true, 1, 0, Duration::ZERO, second);
        assert_eq!(Wait::after(&allowed, Some(Duration::ZERO)), Wait::Allowed);
    }

    #[test]
    fn every_waiter_is_allowed_in_the_end_and_none_too_early() {
        let limiter = Limiter::builder()
            .limit("100/s burst 1".parse().expect("a limit"))
            .build()
            .expect("a limiter");
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert!(limiter.acquire("a", 1, None));
                    }
                });
            }
        });
        assert!(start.elapsed() >= Duration::from_millis(140), "{:?}", start.elapsed());
        assert!(!limiter.acquire("a", 2, None), "more than the burst never fits");
    }
}
