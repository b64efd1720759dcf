//! Who was counted most, and how many there were, in bounded memory.
//!
//! Clients are told apart by 64-bit hashes under a key drawn anew for each run. Among ten million clients the chance that
//! any two share a hash is below one in 300,000, and nobody who writes log lines can aim for it.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// The longest name that is kept, in bytes. Longer ones are still counted apart; only their end is not shown.
const LONGEST_NAME: usize = 256;

/// Hashes keys under a random key.
#[derive(Debug, Default)]
pub struct KeyHasher(RandomState);

impl KeyHasher {
    /// The hash of a key.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash_one(key)
    }
}

/// Passes a hash through: what we store is hashed already.
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

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// Requests of each client, exactly, for as many clients as there is room for.
///
/// Memory: 20 to 39 bytes for each client, until `room` clients are known. From then on new clients are only noticed.
#[derive(Debug)]
pub struct Clients {
    requests: ByHash<u64>,
    room: usize,
    overflowed: bool,
}

impl Clients {
    /// Room for this many clients.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Clients {
            requests: ByHash::default(),
            room,
            overflowed: false,
        }
    }

    /// Counts one request.
    pub fn add(&mut self, hash: u64) {
        if let Some(count) = self.requests.get_mut(&hash) {
            *count += 1;
        } else if self.requests.len() < self.room {
            self.requests.insert(hash, 1);
        } else {
            self.overflowed = true;
        }
    }

    /// How many clients there were, at least.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.requests.len() as u64
    }

    /// Whether [`count`](Clients::count) is the exact number.
    #[must_use]
    pub fn exact(&self) -> bool {
        !self.overflowed
    }

    /// All requests of a client, unless it came when there was no room left.
    #[must_use]
    pub fn requests_of(&self, hash: u64) -> Option<u64> {
        self.requests.get(&hash).copied()
    }
}

/// A client and its count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The hash of the client's key.
    pub hash: u64,
    /// The key, or its beginning.
    pub name: Box<[u8]>,
    /// How often it was counted, without what [`Frequent::undercount`] may have taken.
    pub count: u64,
}

/// The clients that are counted most often.
///
/// Exact while no more than `room` clients are counted. When one more comes, the median count is taken from all and whoever
/// is left with nothing goes; every count is then too low by at most the sum of those medians, the *undercount*, and every
/// client counted more often than that is still here. A purge frees half of the room, so that its cost is spread over as
/// many insertions.
///
/// Memory: at most about 320 bytes for each client there is room for.
/// Source: Anderson et al., "A high-performance algorithm for identifying frequent items in data streams", IMC 2017.
#[derive(Debug)]
pub struct Frequent {
    counts: ByHash<(u64, Box<[u8]>)>,
    room: usize,
    undercount: u64,
    most_held: usize,
}

impl Frequent {
    /// Room for this many clients; at least 2.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Frequent {
            counts: ByHash::default(),
            room: room.max(2),
            undercount: 0,
            most_held: 0,
        }
    }

    /// Counts one more for the client `name`, whose hash is `hash`.
    pub fn add(&mut self, hash: u64, name: &[u8]) {
        if let Some((count, _)) = self.counts.get_mut(&hash) {
            *count += 1;
            return;
        }
        if self.counts.len() == self.room {
            self.purge();
        }
        self.counts
            .insert(hash, (1, name[..name.len().min(LONGEST_NAME)].into()));
        self.most_held = self.most_held.max(self.counts.len());
    }

    fn purge(&mut self) {
        let mut counts: Vec<_> = self.counts.values().map(|(count, _)| *count).collect();
        let middle = counts.len() / 2;
        let median = *counts.select_nth_unstable(middle).1;
        self.counts.retain(|_, (count, _)| {
            *count = count.saturating_sub(median);
            *count > 0
        });
        self.undercount += median;
    }

    /// How many clients were counted: exact while [`undercount`](Frequent::undercount) is 0, else at least so many.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.most_held as u64
    }

    /// How much every count may be too low by. 0 as long as all clients fit.
    #[must_use]
    pub fn undercount(&self) -> u64 {
        self.undercount
    }

    /// The `n` clients counted most, most first; equal ones by name, so that every run prints the same.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<Counted> {
        let mut all: Vec<_> = self
            .counts
            .iter()
            .map(|(&hash, (count, name))| (*count, name, hash))
            .collect();
        all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        all.truncate(n);
        all.into_iter()
            .map(|(count, name, hash)| Counted {
                hash,
                name: name.clone(),
                count,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_exact_until_there_is_no_room() {
        let hasher = KeyHasher::default();
        let mut clients = Clients::new(3);
        for name in ["a", "b", "a", "c", "a"] {
            clients.add(hasher.hash(name.as_bytes()));
        }
        assert_eq!((clients.count(), clients.exact()), (3, true));
        assert_eq!(clients.requests_of(hasher.hash(b"a")), Some(3));
        clients.add(hasher.hash(b"d"));
        clients.add(hasher.hash(b"b"));
        assert_eq!((clients.count(), clients.exact()), (3, false));
        assert_eq!(clients.requests_of(hasher.hash(b"b")), Some(2));
        assert_eq!(clients.requests_of(hasher.hash(b"d")), None);
    }

    #[test]
    fn top_is_sorted_by_count_and_then_by_name() {
        let mut most = Frequent::new(100);
        for name in ["z", "b", "z", "a", "z", "b", "a"] {
            most.add(u64::from(name.as_bytes()[0]), name.as_bytes());
        }
        let top = most.top(3);
        let top: Vec<_> = top.iter().map(|client| (&*client.name, client.count)).collect();
        assert_eq!(top, [(&b"z"[..], 3), (b"a", 2), (b"b", 2)]);
        assert_eq!((most.clients(), most.undercount()), (3, 0));
        assert_eq!(most.top(0), []);
    }

    /// A stream of many clients with few requests around a few with many, in far too little room.
    #[test]
    fn the_undercount_bounds_every_error() {
        let hasher = KeyHasher::default();
        let mut most = Frequent::new(64);
        let mut truth: HashMap<String, u64> = HashMap::new();
        for step in 0..50_000_u64 {
            let name = if step % 3 == 0 {
                format!("heavy{}", step % 5)
            } else {
                format!("light{}", step * 7919 % 20_011)
            };
            most.add(hasher.hash(name.as_bytes()), name.as_bytes());
            *truth.entry(name).or_default() += 1;
        }
        assert!(most.undercount() > 0);
        let top = most.top(64);
        for client in &top {
            let real = truth[std::str::from_utf8(&client.name).unwrap()];
            assert!(
                client.count <= real && real <= client.count + most.undercount(),
                "{client:?} of {real}"
            );
        }
        for (name, real) in truth {
            let found = top.iter().any(|client| *client.name == *name.as_bytes());
            assert!(found || real <= most.undercount(), "{name} with {real} was lost");
        }
    }

    #[test]
    fn long_names_are_cut_but_not_mixed_up() {
        let hasher = KeyHasher::default();
        let (a, b) = (
            [vec![b'x'; 1000], vec![b'a']].concat(),
            [vec![b'x'; 1000], vec![b'b']].concat(),
        );
        let mut most = Frequent::new(10);
        most.add(hasher.hash(&a), &a);
        most.add(hasher.hash(&b), &b);
        assert_eq!(most.clients(), 2);
        assert!(most.top(2).iter().all(|client| client.name.len() == LONGEST_NAME));
    }
}
