//! What is measured: three loads, each under its own limit, and how long each lasts.

use std::time::Duration;

use serde_json::{Value, json};

/// How many nodes keep the limit together.
pub(crate) const NODES: usize = 3;

/// The keys of the loads that are not about one key.
pub(crate) const KEYS: usize = 1000;

/// Admissions are counted in slots of this length.
pub(crate) const SLOT: Duration = Duration::from_millis(100);

/// The limit in the words that all subjects have: so many a second for each key, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) rate: u32,
    pub(crate) burst: u32,
}

/// One of the three things that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// One key that nobody asked for before, ten times its limit offered on three nodes from the same moment.
    Cold,
    /// A load that every subject can carry, in time: what one call takes.
    Paced,
    /// As fast as the subject answers.
    Full,
}

/// How the calls of one node are timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Open loop: so many a second, due at fixed times whatever the answers do.
    Open { per_second: f64 },
    /// Closed loop: so many callers, each asking again as soon as it is answered. Embedded limiters have one thread.
    Closed { callers: usize },
}

/// What one node does in one phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) quota: Quota,
    pub(crate) pace: Pace,
    pub(crate) keys: usize,
    pub(crate) lasts: Duration,
}

impl Phase {
    pub(crate) const ALL: [Phase; 3] = [Phase::Cold, Phase::Paced, Phase::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Cold => "cold",
            Phase::Paced => "paced",
            Phase::Full => "full",
        }
    }

    /// What each node does. `cold`: the limit of the cold start.
    pub(crate) fn work(self, quick: bool, cold: Quota) -> Work {
        match self {
            Phase::Cold => Work {
                quota: cold,
                pace: Pace::Open {
                    per_second: cold.offered() / NODES as f64,
                },
                keys: 1,
                lasts: Duration::from_secs(if quick { 2 } else { 10 }),
            },
            Phase::Paced => Work {
                quota: UNREACHED,
                pace: Pace::Open { per_second: PACED },
                keys: KEYS,
                lasts: Duration::from_secs(if quick { 1 } else { 5 }),
            },
            Phase::Full => Work {
                quota: UNREACHED,
                pace: Pace::Closed { callers: CALLERS },
                keys: KEYS,
                lasts: Duration::from_secs(if quick { 1 } else { 4 }),
            },
        }
    }
}

impl Quota {
    /// The limit of the cold start: so many a second, and a tenth of that at once.
    pub(crate) fn cold(rate: u32) -> Quota {
        Quota {
            rate,
            burst: (rate / 10).max(1),
        }
    }

    /// What is offered then a second, over all nodes: ten times the limit.
    pub(crate) fn offered(self) -> f64 {
        10.0 * f64::from(self.rate)
    }

    /// What a limit that is full at first admits in so many seconds.
    pub(crate) fn allows(self, seconds: f64) -> f64 {
        f64::from(self.burst) + f64::from(self.rate) * seconds
    }
}

/// The rate of the cold start, if nothing else is asked for.
pub(crate) const COLD_RATE: u32 = 1000;

/// Calls a second of each node in the paced load.
pub(crate) const PACED: f64 = 1000.0;

/// Callers of each node that wait for an answer at the same time, where asking is a message.
pub(crate) const CALLERS: usize = 32;

/// A limit that is never reached, so that every subject admits every call and works alike.
pub(crate) const UNREACHED: Quota = Quota {
    rate: 10_000_000,
    burst: 1_000_000,
};

impl Work {
    pub(crate) fn to_json(&self) -> Value {
        let (per_second, callers) = match self.pace {
            Pace::Open { per_second } => (per_second, 0),
            Pace::Closed { callers } => (0.0, callers),
        };
        json!({
            "rate": self.quota.rate,
            "burst": self.quota.burst,
            "per_second": per_second,
            "callers": callers,
            "keys": self.keys,
            "lasts_ms": u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX),
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Work> {
        let whole = |name: &str| value.get(name)?.as_u64();
        let small = |name: &str| u32::try_from(whole(name)?).ok();
        let callers = usize::try_from(whole("callers")?).ok()?;
        Some(Work {
            quota: Quota {
                rate: small("rate")?,
                burst: small("burst")?,
            },
            pace: if callers == 0 {
                Pace::Open {
                    per_second: value.get("per_second")?.as_f64()?,
                }
            } else {
                Pace::Closed { callers }
            },
            keys: usize::try_from(whole("keys")?).ok()?,
            lasts: Duration::from_millis(whole("lasts_ms")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_reaches_a_node_as_it_was_said() {
        for phase in Phase::ALL {
            for quick in [false, true] {
                let work = phase.work(quick, Quota::cold(COLD_RATE));
                assert_eq!(Work::from_json(&work.to_json()), Some(work));
            }
        }
    }
}
