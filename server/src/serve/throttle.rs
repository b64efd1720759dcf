//! The budgets of `CL.THROTTLE`, whose callers bring their limits with them.
//!
//! Each set of terms (burst, count, period) is a limiter of its own, with a snapshot of its own that the first call with these
//! terms restores. So a key has one budget for each set of terms that it is asked about, and clients that agree on terms share one
//! as they would in Redis. The number of sets is bounded. When there is no room for another, one makes room that has not been used
//! for as long as its budgets take to fill: nobody owes it anything any more, so nothing is lost with it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ratelimit::{Decision, Limit, Limiter};

use crate::events::{tell, tell_paced};

/// How often the snapshot of each set is written.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// How long a set is kept beyond the time that its budgets take to fill.
const MARGIN: Duration = Duration::from_secs(2);

/// What a caller asks a key to be limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Terms {
    /// Requests at one instant beyond the first.
    pub(crate) max_burst: u64,
    /// Requests per period.
    pub(crate) count: u64,
    /// The period in seconds.
    pub(crate) period_s: u64,
}

impl Terms {
    fn limit(self) -> Result<Limit, String> {
        let capacity = self.max_burst.saturating_add(1);
        let limit = Limit::new(self.count, Duration::from_secs(self.period_s)).map(|limit| limit.burst(capacity));
        let checked = limit.and_then(|limit| limit.validate().map(|()| limit));
        checked.map_err(|error| error.to_string())
    }

    /// How long an empty budget takes to fill.
    fn refill(self) -> Duration {
        let ns = u128::from(self.max_burst) + 1;
        let ns = ns * u128::from(self.period_s) * 1_000_000_000 / u128::from(self.count.max(1));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    fn file_name(self) -> String {
        format!("{}-{}-{}.snapshot", self.max_burst, self.count, self.period_s)
    }

    fn of_file_name(name: &str) -> Option<Self> {
        let mut numbers = name
            .strip_suffix(".snapshot")?
            .split('-')
            .map(|number| number.parse().ok());
        let terms = Terms {
            max_burst: numbers.next()??,
            count: numbers.next()??,
            period_s: numbers.next()??,
        };
        (numbers.next().is_none() && terms.file_name() == name).then_some(terms)
    }
}

/// The limiter of one set of terms.
#[derive(Debug)]
pub(crate) struct Budgets {
    limiter: Limiter,
    /// Milliseconds since the throttle was made.
    last_used_ms: AtomicU64,
}

/// All sets of terms.
#[derive(Debug)]
pub(crate) struct Throttle {
    directory: PathBuf,
    most: usize,
    max_keys: usize,
    made: Instant,
    sets: RwLock<HashMap<Terms, Arc<Budgets>>>,
    /// Held by whoever opens or closes a set, so that readers of `sets` never wait for a disk.
    opening: Mutex<()>,
    allowed: AtomicU64,
    denied: AtomicU64,
    refused: AtomicU64,
}

impl Throttle {
    /// With snapshots in a directory, for at most so many sets of terms of so many keys.
    ///
    /// Errors: the directory cannot be made or read.
    pub(crate) fn new(directory: PathBuf, most: usize, max_keys: usize) -> std::io::Result<Self> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let Some(terms) = entry.file_name().to_str().and_then(Terms::of_file_name) else {
                continue;
            };
            let age = entry.metadata()?.modified()?.elapsed();
            // A clock that was set back makes files look new: they stay, which harms nobody.
            if age.is_ok_and(|age| age > terms.refill() + MARGIN) {
                remove(&entry.path());
            }
        }
        Ok(Throttle {
            directory,
            most,
            max_keys,
            made: Instant::now(),
            sets: RwLock::default(),
            opening: Mutex::default(),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Decides one request.
    ///
    /// Errors: the terms make no limit, there is no room for another set, or its snapshot cannot be kept. Texts say what to do.
    pub(crate) fn check(&self, key: &[u8], terms: Terms, cost: u64) -> Result<Decision, String> {
        let found = self.find(terms);
        let budgets = found.map_or_else(|| self.open(terms), Ok).inspect_err(|reason| {
            tell_paced!(TERMS_REFUSED, %reason);
            self.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let decision = budgets.limiter.check_n(key, cost);
        // Relaxed, here and above: counts that guard nothing.
        let count = if decision.allowed { &self.allowed } else { &self.denied };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(decision)
    }

    /// Whether a call with these terms needs no disk.
    pub(crate) fn is_open(&self, terms: Terms) -> bool {
        self.sets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&terms)
    }

    fn find(&self, terms: Terms) -> Option<Arc<Budgets>> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let budgets = sets.get(&terms)?;
        let now_ms = self.now_ms();
        // Relaxed: whoever closes a set holds the lock for writing, which orders this store before it. The comparison saves
        // the line from being written by every request.
        if budgets.last_used_ms.load(Ordering::Relaxed) != now_ms {
            budgets.last_used_ms.store(now_ms, Ordering::Relaxed);
        }
        Some(budgets.clone())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn open(&self, terms: Terms) -> Result<Arc<Budgets>, String> {
        let limit = terms.limit()?;
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budgets) = self.find(terms) {
            return Ok(budgets);
        }
        if self.len() >= self.most {
            self.make_room()?;
        }
        let limiter = Limiter::builder()
            .limit(limit)
            .max_keys(self.max_keys)
            .persist(self.directory.join(terms.file_name()), SNAPSHOT_EVERY)
            .build()
            .map_err(|error| error.to_string())?;
        let budgets = Arc::new(Budgets {
            limiter,
            last_used_ms: AtomicU64::new(self.now_ms()),
        });
        let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        sets.insert(terms, budgets.clone());
        Ok(budgets)
    }

    /// Closes the set that has gone unused the longest of those that nobody owes anything. Called with `opening` held.
    fn make_room(&self) -> Result<(), String> {
        let removed = {
            let mut sets = self.sets.write().unwrap_or_else(PoisonError::into_inner);
            let now_ms = self.now_ms();
            let idle = |terms: &Terms, budgets: &Budgets| {
                let unused_ms = now_ms.saturating_sub(budgets.last_used_ms.load(Ordering::Relaxed));
                let unused = Duration::from_millis(unused_ms);
                (unused > terms.refill() + MARGIN).then_some(unused)
            };
            let oldest = sets
                .iter()
                // With another handle out a decision is under way. None can come to be while the lock is held for writing.
                .filter(|(_, budgets)| Arc::strong_count(budgets) == 1)
                .filter_map(|(terms, budgets)| Some((idle(terms, budgets)?, *terms)))
                .max_by_key(|(unused, _)| *unused);
            oldest.and_then(|(_, terms)| Some((terms, sets.remove(&terms)?)))
        };
        let Some((terms, budgets)) = removed else {
            return Err(format!(
                "{} different limits are in use and no more fit: use fewer, or raise max_limits in the section [throttle]",
                self.most
            ));
        };
        // An error is told as an event, and the file goes anyway.
        let _ = budgets.limiter.close();
        drop(budgets);
        remove(&self.directory.join(terms.file_name()));
        Ok(())
    }

    /// How many sets are open.
    pub(crate) fn len(&self) -> usize {
        self.sets.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Requests allowed, requests denied, and calls refused with an error.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.allowed, &self.denied, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }

    /// Clients with debt in all sets.
    pub(crate) fn live_keys(&self) -> u64 {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.values().map(|budgets| budgets.limiter.stats().table.live).sum()
    }

    /// Writes the last snapshots. Returns how many failed, which events tell about.
    pub(crate) fn close(&self) -> usize {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.values().filter(|budgets| budgets.limiter.close().is_err()).count()
    }
}

/// Removes a snapshot and what lies beside it. What cannot be removed only takes room, and is tried again at the next start.
fn remove(path: &Path) {
    for ending in ["", ".1", ".key", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        if let Err(error) = fs::remove_file(&name)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tell!(FILE_NOT_REMOVED, path = %Path::new(&name).display(), %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn terms(max_burst: u64, count: u64, period_s: u64) -> Terms {
        Terms {
            max_burst,
            count,
            period_s,
        }
    }

    #[test]
    fn names_of_files_are_those_of_terms() {
        let some = terms(0, 1, 2);
        assert_eq!(Terms::of_file_name(&some.file_name()), Some(some));
        for name in [
            "0-1.snapshot",
            "0-1-2",
            "00-1-2.snapshot",
            "0-1-2-3.snapshot",
            "a-1-2.snapshot",
            "+0-1-2.snapshot",
        ] {
            assert_eq!(Terms::of_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn the_fastest_and_the_slowest_terms_are_exact() {
        let directory = tempfile::tempdir().unwrap();
        let throttle = Throttle::new(directory.path().into(), 8, 1000).unwrap();
        let slow = terms(0, 1, 30 * 86_400);
        assert!(throttle.check(b"a", slow, 1).unwrap().allowed);
        let denied = throttle.check(b"a", slow, 1).unwrap();
        assert!(!denied.allowed);
        assert_eq!(denied.retry_after.as_secs().div_ceil(10), 259_200);
        // 100,000 a second: a burst of 1,000 takes 10 ms to fill.
        let fast = terms(999, 100_000, 1);
        let spent = throttle.check(b"a", fast, 1000).unwrap();
        assert!(spent.allowed);
        assert_eq!((spent.limit, spent.reset_after), (1000, Duration::from_millis(10)));
    }

    #[test]
    fn terms_are_bounded_and_only_those_that_nobody_owes_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let throttle = Throttle::new(directory.path().into(), 2, 1000).unwrap();
        let (day, hour, short) = (terms(0, 1, 86_400), terms(0, 1, 3_600), terms(0, 1_000, 1));
        assert!(throttle.check(b"a", day, 1).unwrap().allowed);
        assert!(throttle.check(b"a", short, 1).unwrap().allowed);
        let refused = throttle.check(b"a", hour, 1).unwrap_err();
        assert!(refused.contains("raise max_limits"), "{refused}");
        assert_eq!(throttle.counts(), [2, 0, 1]);
        // As if the short one had not been used since long before its budgets filled.
        let throttle = Throttle {
            made: Instant::now() - Duration::from_secs(60),
            ..throttle
        };
        throttle.find(day).unwrap();
        assert!(throttle.check(b"a", hour, 1).unwrap().allowed);
        assert!(!throttle.is_open(short) && throttle.is_open(day));
        assert!(!directory.path().join(short.file_name()).exists());
        assert!(!throttle.check(b"a", day, 1).unwrap().allowed);
        assert_eq!(throttle.close(), 0);
        drop(throttle);
        let throttle = Throttle::new(directory.path().into(), 2, 1000).unwrap();
        assert!(!throttle.check(b"a", day, 1).unwrap().allowed, "the debt was lost");
    }

    #[test]
    fn expired_snapshots_are_removed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (terms(0, 1, 2), terms(0, 1, 86_400));
        for terms in [old, new] {
            let path = directory.path().join(terms.file_name());
            let file = fs::File::create(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        }
        Throttle::new(directory.path().into(), 2, 1000).unwrap();
        assert!(!directory.path().join(old.file_name()).exists());
        assert!(directory.path().join(new.file_name()).exists());
    }

    #[test]
    fn terms_that_make_no_limit_say_why() {
        let directory = tempfile::tempdir().unwrap();
        let throttle = Throttle::new(directory.path().into(), 2, 1000).unwrap();
        for (wrong, text) in [
            (terms(0, 0, 1), "the rate limit is 0"),
            (terms(0, 1, 0), "the time window is 0"),
            (terms(u64::MAX, 1, 1), "more than 208 days"),
            (terms(0, u64::MAX, 1), "requests per second"),
        ] {
            let error = throttle.check(b"a", wrong, 1).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert_eq!(throttle.len(), 0);
    }
}
