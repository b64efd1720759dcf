//! A few decisions, looked at closely: how long they took, and whose they were.
//!
//! Every decision only compares its count with the number of the next one that is due (see `counters`). What is due is drawn at
//! random, so that no rhythm of clients hides from it, and is worked on by the thread that decided, after it has decided.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use crate::hash::Fingerprint;

/// Of so many allowed requests of a thread about one is looked at.
pub(crate) const ALLOWED_PERIOD: u64 = 1_024;
/// Of denied ones more: there are fewer, and they are asked about.
pub(crate) const DENIED_PERIOD: u64 = 256;

/// The upper ends of the buckets, in nanoseconds. Longer ones have a bucket without an end.
pub const LATENCY_ENDS_NS: [u64; 12] = [
    32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 16_384, 65_536, 262_144, 1_048_576,
];

/// How long sampled decisions took, from the reading of the clock to the answer: without the hash of the id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many took up to each of [`LATENCY_ENDS_NS`], and longer than the bucket before; then those beyond.
    pub buckets: [u64; LATENCY_ENDS_NS.len() + 1],
    /// All of them together.
    pub sum_ns: u64,
}

/// A client that is seen often. Its id is not known here, only its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heavy {
    /// The client.
    pub client: Fingerprint,
    /// How many requests, estimated from a sample.
    pub count: u64,
    /// By how much that may be too high for lack of room, beside what a sample may miss.
    pub overcount: u64,
}

/// Counts the clients that are seen most, in fixed room. A client that finds no room takes that of the least, with its count: so no
/// count is too low, and each client seen more often than one in `ROOM` is here.
///
/// Source: Metwally et al., "Efficient computation of frequent and top-k elements in data streams", ICDT 2005.
#[derive(Debug, Default)]
struct SpaceSaving {
    places: HashMap<u64, (u64, u64), BuildHasherDefault<Hashed>>,
}

/// Clients that each list has room for.
pub const HEAVY_ROOM: usize = 512;

/// What is hashed already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl SpaceSaving {
    fn add(&mut self, client: u64, weight: u64) {
        if let Some((count, _)) = self.places.get_mut(&client) {
            *count = count.saturating_add(weight);
            return;
        }
        let mut before = 0;
        if self.places.len() >= HEAVY_ROOM {
            // 512 counts are looked through once in some hundred requests of clients that are not among them.
            let least = self.places.iter().min_by_key(|(_, (count, _))| *count);
            if let Some((&least, &(count, _))) = least {
                self.places.remove(&least);
                before = count;
            }
        }
        self.places.insert(client, (before.saturating_add(weight), before));
    }

    fn top(&self, n: usize) -> Vec<Heavy> {
        let heavy = |(&client, &(count, overcount)): (&u64, &(u64, u64))| Heavy {
            client: Fingerprint::new(client),
            count,
            overcount,
        };
        let mut all: Vec<Heavy> = self.places.iter().map(heavy).collect();
        all.sort_by_key(|heavy| (std::cmp::Reverse(heavy.count), heavy.client.bits()));
        all.truncate(n);
        all
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sampled {
    buckets: [AtomicU64; LATENCY_ENDS_NS.len() + 1],
    sum_ns: AtomicU64,
    /// Whether clients are listed.
    lists: AtomicBool,
    /// Denied and used, in this order. Who finds the lock taken goes on without: nobody waits, and a fork that finds it
    /// taken by another thread only loses the lists.
    heavy: [Mutex<SpaceSaving>; 2],
}

impl Sampled {
    /// One decision that was due. It stands for `weight` requests. `took_ns` is none where it cannot be told.
    #[cold]
    #[inline(never)]
    pub(crate) fn add(&self, client: Fingerprint, allowed: bool, weight: u64, took_ns: Option<u64>) {
        if let Some(took_ns) = took_ns {
            let bucket = LATENCY_ENDS_NS.partition_point(|&end| end < took_ns);
            // Relaxed, here and below: counts order nothing.
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.sum_ns.fetch_add(took_ns, Ordering::Relaxed);
        }
        if !self.lists.load(Ordering::Relaxed) {
            return;
        }
        let lists = if allowed { &self.heavy[1..] } else { &self.heavy[..] };
        for list in lists {
            match list.try_lock() {
                Ok(mut list) => list.add(client.bits(), weight),
                Err(TryLockError::Poisoned(list)) => list.into_inner().add(client.bits(), weight),
                Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn list_clients(&self, lists: bool) {
        self.lists.store(lists, Ordering::Relaxed);
    }

    /// The clients that were denied most, and those that asked most.
    pub(crate) fn top(&self, n: usize) -> [Vec<Heavy>; 2] {
        const TRIES: usize = 1_000;
        self.heavy.each_ref().map(|list| {
            for _ in 0..TRIES {
                match list.try_lock() {
                    Ok(list) => return list.top(n),
                    Err(TryLockError::Poisoned(list)) => return list.into_inner().top(n),
                    Err(TryLockError::WouldBlock) => std::thread::yield_now(),
                }
            }
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavy_are_found_among_many() {
        let mut list = SpaceSaving::default();
        for i in 0..100_000_u64 {
            // One in five is client 7, one in ten client 9, all others come once.
            let client = if i % 5 == 0 {
                7
            } else if i % 10 == 1 {
                9
            } else {
                1_000 + i
            };
            list.add(client, 1);
        }
        let top = list.top(2);
        assert_eq!([top[0].client.bits(), top[1].client.bits()], [7, 9]);
        for (heavy, real) in top.iter().zip([20_000, 10_000]) {
            assert!((real..=real + heavy.overcount).contains(&heavy.count), "{heavy:?}");
        }
        assert_eq!(list.places.len(), HEAVY_ROOM);
    }

    #[test]
    fn each_time_has_its_bucket() {
        let sampled = Sampled::default();
        for took in [0, 32, 33, 1_048_576, 1_048_577, u64::MAX >> 8] {
            sampled.add(Fingerprint::new(1), true, 1, Some(took));
        }
        let buckets = sampled.latency().buckets;
        assert_eq!((buckets[0], buckets[1], buckets[11], buckets[12]), (2, 1, 1, 2));
        assert!(sampled.top(1).iter().all(Vec::is_empty), "not switched on");
    }
}
