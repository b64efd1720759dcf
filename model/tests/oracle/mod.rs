//! What a limit means, told a second time and in another way: as a bucket of tokens in exact fractions.
//!
//! Nothing here is shared with the crate. There is no theoretical arrival time, no circle and no rounding: times are
//! signed nanoseconds on a line, and a level is an integer number of `1 / window` parts of a token, so that a bucket that
//! gains `rate` tokens per window gains exactly `rate` parts per nanosecond.
// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

/// How long a thread may be late, from the documentation of the clock rule.
const LATE_NS: i128 = 1_000_000_000;

/// A limit: `tokens` per `window_ns`, at most `burst` at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) tokens: i128,
    pub(crate) window_ns: i128,
    pub(crate) burst: i128,
}

/// A client's bucket: its level in parts, and the time at which it had it. `None` is a client never seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket(Option<(i128, i128)>);

/// An answer in exact fractions: `retry` and `reset` are in parts of a nanosecond, `Rule::tokens` of them to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) remaining: i128,
    /// `None` is never.
    pub(crate) retry: Option<i128>,
    pub(crate) reset: i128,
}

impl Rule {
    /// The rule of the public documentation: `T = window / rate`, and for strict limits `T = window / (rate - burst)` with
    /// a burst of a tenth, or one request and a whole window of silence.
    pub(crate) fn new(rate: u64, window_ns: u128, burst: Option<u64>, strict: bool) -> Rule {
        let burst = burst.unwrap_or(if strict { (rate / 10).max(1) } else { rate });
        let tokens = if strict && rate > 1 { rate - burst } else { rate };
        Rule {
            tokens: i128::from(tokens),
            window_ns: window_ns as i128,
            burst: i128::from(burst),
        }
    }

    /// The same with `T` rounded to a whole nanosecond where the documentation says so: from 2^20 ns up, for strict limits
    /// to the slower side.
    pub(crate) fn with_documented_rounding(self, strict: bool) -> Rule {
        if self.window_ns / self.tokens < 1 << 20 {
            return self;
        }
        let up = i128::from(strict && self.window_ns % self.tokens != 0);
        Rule {
            tokens: 1,
            window_ns: self.window_ns / self.tokens + up,
            burst: self.burst,
        }
    }

    /// Whether `T` is a whole number of nanoseconds.
    pub(crate) fn is_whole(&self) -> bool {
        self.window_ns % self.tokens == 0
    }

    fn capacity(&self) -> i128 {
        self.burst * self.window_ns
    }

    /// The level at `now`. Backwards from the last change it falls as it would have risen: a late thread sees a bucket
    /// that is emptier than it was ever left, down to the point where only a clock that was set back can explain it.
    pub(crate) fn level(&self, bucket: Bucket, now: i128) -> i128 {
        let Some((level, at)) = bucket.0 else {
            return self.capacity();
        };
        (level + (now - at) * self.tokens).min(self.capacity())
    }

    /// Whether the bucket has been full for `idle_ns`.
    pub(crate) fn is_idle(&self, bucket: Bucket, now: i128, idle_ns: i128) -> bool {
        self.level(bucket, now - idle_ns) == self.capacity()
    }

    fn is_stepped(&self, bucket: Bucket, now: i128) -> bool {
        self.level(bucket, now) < -(LATE_NS * self.tokens)
    }

    fn answer(&self, allowed: bool, level: i128, cost: u64) -> Answer {
        let missing = i128::from(cost) * self.window_ns - level;
        Answer {
            allowed,
            remaining: level.max(0) / self.window_ns,
            retry: match allowed {
                true => Some(0),
                false if i128::from(cost) > self.burst => None,
                false => Some(missing),
            },
            reset: self.capacity() - level,
        }
    }

    /// Whether `cost` fits at `now`, and what a client is told; nothing is charged.
    pub(crate) fn peek(&self, bucket: Bucket, now: i128, cost: u64) -> Answer {
        // A clock that was set back leaves an empty bucket: its client waits no longer than that takes to fill.
        let level = if self.is_stepped(bucket, now) {
            0
        } else {
            self.level(bucket, now)
        };
        self.answer(cost == 0 || level >= i128::from(cost) * self.window_ns, level, cost)
    }

    /// Takes `cost` whatever is left; the level may go below zero.
    pub(crate) fn force(&self, bucket: &mut Bucket, now: i128, cost: u64) {
        *bucket = Bucket(Some((
            self.level(*bucket, now) - i128::from(cost) * self.window_ns,
            now,
        )));
    }

    /// Decides, and charges if it fits.
    pub(crate) fn check(&self, bucket: &mut Bucket, now: i128, cost: u64) -> Answer {
        let asked = self.peek(*bucket, now, cost);
        if !asked.allowed {
            self.settle(bucket, now);
            return asked;
        }
        if cost > 0 {
            self.force(bucket, now, cost);
        }
        Answer {
            allowed: true,
            retry: Some(0),
            ..self.peek(*bucket, now, 0)
        }
    }

    /// What a denial leaves behind when the clock was set back: an empty bucket.
    pub(crate) fn settle(&self, bucket: &mut Bucket, now: i128) {
        if self.is_stepped(*bucket, now) {
            *bucket = Bucket(Some((0, now)));
        }
    }

    /// Puts `cost` tokens back.
    pub(crate) fn refund(&self, bucket: &mut Bucket, now: i128, cost: u64) {
        self.settle(bucket, now);
        let level = self.level(*bucket, now);
        // A full bucket stays as it is, with the time since when it is full: a late thread may still ask about that.
        if level < self.capacity() {
            let level = level + i128::from(cost) * self.window_ns;
            *bucket = Bucket(Some((level.min(self.capacity()), now)));
        }
    }
}
