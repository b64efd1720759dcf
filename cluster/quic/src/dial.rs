//! Whom to call: seeds, addresses behind names, peers that others told of; and when.
//!
//! A *place* is something that is written down, an address or a name; a *target* is one address. Places are resolved again
//! and again and name targets; targets are called until somebody answers whom there is a link with already.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ratelimit_protocol::LinkId;

use crate::config::{Tuning, check_address};

/// Calls under way at the same time.
const MAX_CALLS: usize = 32;
/// Addresses believed of one name.
const MAX_ADDRESSES: usize = 1024;
/// A place that a peer told of, and that nobody answers at, is forgotten after this long.
const FORGET: Duration = Duration::from_secs(3600);
/// A link that was up for so long was a good one: its target is called again without a long pause.
const GOOD: Duration = Duration::from_secs(5);
/// An address that turned out to be this node's own is tried again after this long: it may have another owner by then.
const OWN_AGAIN: Duration = Duration::from_secs(60);
/// After so many calls in vain an address of a seed is no longer waited for.
const ENOUGH_CALLS: u32 = 2;

#[derive(Debug)]
struct Place {
    text: String,
    /// The peer that is said to be there; `None` for a seed.
    told: Option<String>,
    addresses: Vec<SocketAddr>,
    resolving: bool,
    resolved: bool,
    failures: u32,
    due: Instant,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Calling,
    Linked(LinkId, Instant),
    Own,
}

#[derive(Debug)]
struct Target {
    state: State,
    /// Who answered last, or is said to be there.
    name: Option<String>,
    failures: u32,
    due: Instant,
}

/// What came of resolving a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Nothing to say.
    Quiet,
    /// A seed cannot be resolved, for the first time since it could.
    SeedFailed { seed: String, reason: String },
}

/// Places and targets. At most `cap` of each beside the seeds.
#[derive(Debug)]
pub(crate) struct Book {
    places: BTreeMap<u64, Place>,
    targets: BTreeMap<SocketAddr, Target>,
    own: SocketAddr,
    cap: usize,
    next_place: u64,
    resolve_every: Duration,
    pause: Pause,
}

/// Pauses between attempts: doubled each time, and at random up to half shorter, so that nodes do not call in step.
#[derive(Debug)]
struct Pause {
    min: Duration,
    max: Duration,
    random: u64,
}

impl Pause {
    fn after(&mut self, failures: u32) -> Duration {
        let whole = self.min.saturating_mul(1 << failures.min(20)).min(self.max);
        // xorshift64: any spread will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        whole.mul_f64(0.5 + (self.random >> 11) as f64 / (1u64 << 54) as f64)
    }
}

impl Book {
    pub(crate) fn new(
        seeds: &[String],
        own: SocketAddr,
        max_nodes: u64,
        tuning: &Tuning,
        random: u64,
        now: Instant,
    ) -> Self {
        let mut book = Book {
            places: BTreeMap::new(),
            targets: BTreeMap::new(),
            own,
            cap: usize::try_from(max_nodes).unwrap_or(usize::MAX).saturating_mul(4),
            next_place: 0,
            resolve_every: tuning.resolve_every,
            pause: Pause {
                min: tuning.backoff_min,
                max: tuning.backoff_max,
                random: random | 1,
            },
        };
        for seed in seeds {
            book.add(seed.clone(), None, now);
        }
        book
    }

    fn add(&mut self, text: String, told: Option<String>, now: Instant) {
        self.next_place += 1;
        let place = Place {
            text,
            told,
            addresses: Vec::new(),
            resolving: false,
            resolved: false,
            failures: 0,
            due: now,
            since: now,
        };
        self.places.insert(self.next_place, place);
    }

    /// `name` linked to this node from `address`: without a better word it is to be found there.
    pub(crate) fn meet(&mut self, name: &str, address: SocketAddr, now: Instant) {
        if let Some(place) = self
            .places
            .values_mut()
            .find(|place| place.told.as_deref() == Some(name))
        {
            place.since = now;
        } else {
            self.tell(name, &address.to_string(), now);
        }
    }

    /// A peer says that `name` is at `address`.
    pub(crate) fn tell(&mut self, name: &str, address: &str, now: Instant) {
        if check_address(address).is_err() {
            return;
        }
        let told = |place: &&mut Place| place.told.as_deref() == Some(name);
        if let Some(place) = self.places.values_mut().find(told) {
            place.since = now;
            if place.text != address {
                place.text = address.to_owned();
                (place.resolved, place.failures, place.due) = (false, 0, now);
            }
        } else if self.places.len() < self.cap {
            self.add(address.to_owned(), Some(name.to_owned()), now);
        }
    }

    /// `name` said goodbye: only a seed is still called.
    pub(crate) fn forget(&mut self, name: &str) {
        self.places.retain(|_, place| place.told.as_deref() != Some(name));
        self.prune();
    }

    /// Drops targets that no place names and nobody is linked at.
    fn prune(&mut self) {
        let named: std::collections::BTreeSet<SocketAddr> = self
            .places
            .values()
            .flat_map(|place| place.addresses.iter().copied())
            .collect();
        self.targets.retain(|address, target| {
            named.contains(address) || matches!(target.state, State::Linked(..) | State::Calling)
        });
    }

    /// Places to resolve now, by number and text. Each is asked for once, until [`resolved`](Book::resolved).
    pub(crate) fn due_places(&mut self, now: Instant) -> Vec<(u64, String)> {
        let count = self.places.len();
        self.places
            .retain(|_, place| place.told.is_none() || now.saturating_duration_since(place.since) < FORGET);
        if self.places.len() < count {
            self.prune();
        }
        let due = self
            .places
            .iter_mut()
            .filter(|(_, place)| !place.resolving && place.due <= now);
        due.map(|(number, place)| {
            place.resolving = true;
            (*number, place.text.clone())
        })
        .collect()
    }

    /// What came of resolving.
    pub(crate) fn resolved(&mut self, number: u64, found: Result<Vec<SocketAddr>, String>, now: Instant) -> Resolution {
        let Some(place) = self.places.get_mut(&number) else {
            return Resolution::Quiet;
        };
        place.resolving = false;
        let found = found.and_then(|found| {
            let usable = |address: &SocketAddr| self.own.is_ipv6() || address.is_ipv4();
            let mut found: Vec<SocketAddr> = found.into_iter().map(canonical).filter(usable).collect();
            found.sort_unstable();
            found.dedup();
            found.truncate(MAX_ADDRESSES);
            if found.is_empty() {
                return Err("it has no address that the one listened on can reach".to_owned());
            }
            Ok(found)
        });
        let addresses = match found {
            Ok(found) => found,
            Err(reason) => {
                place.failures += 1;
                place.due = now + self.pause.after(place.failures + 3);
                let seed = place.told.is_none() && place.failures == 1;
                return if seed {
                    Resolution::SeedFailed {
                        seed: place.text.clone(),
                        reason,
                    }
                } else {
                    Resolution::Quiet
                };
            }
        };
        (place.resolved, place.failures) = (true, 0);
        place.due = now + self.resolve_every;
        place.addresses.clone_from(&addresses);
        let told = place.told.clone();
        let room = self.cap.max(self.places.len().saturating_mul(4));
        for address in addresses {
            if self.targets.len() >= room && told.is_some() {
                break;
            }
            let state = if address == self.own {
                State::Own
            } else {
                State::Waiting
            };
            let target = self.targets.entry(address).or_insert(Target {
                state,
                name: None,
                failures: 0,
                due: now,
            });
            if told.is_some() && target.name.is_none() {
                target.name.clone_from(&told);
            }
        }
        self.prune();
        Resolution::Quiet
    }

    /// Targets to call now. Nobody is called who is linked already, as `is_linked` says.
    pub(crate) fn due_calls(&mut self, now: Instant, is_linked: impl Fn(&str) -> bool) -> Vec<SocketAddr> {
        let calling = self
            .targets
            .values()
            .filter(|target| target.state == State::Calling)
            .count();
        let mut calls = Vec::new();
        for (address, target) in &mut self.targets {
            if calling + calls.len() >= MAX_CALLS {
                break;
            }
            if target.state == State::Own && *address != self.own && target.due <= now {
                target.state = State::Waiting;
            }
            if target.state == State::Waiting && target.due <= now {
                if target.name.as_deref().is_some_and(&is_linked) {
                    target.due = now + self.pause.max;
                    continue;
                }
                target.state = State::Calling;
                calls.push(*address);
            }
        }
        calls
    }

    /// Somebody answered.
    pub(crate) fn answered(&mut self, address: SocketAddr, name: &str, link: LinkId, now: Instant) {
        if let Some(target) = self.targets.get_mut(&address) {
            target.state = State::Linked(link, now);
            target.name = Some(name.to_owned());
        }
    }

    /// This node itself answered.
    pub(crate) fn is_own(&mut self, address: SocketAddr, now: Instant) {
        if let Some(target) = self.targets.get_mut(&address) {
            target.state = State::Own;
            target.name = None;
            target.due = now + OWN_AGAIN;
        }
    }

    /// A call came to nothing.
    pub(crate) fn failed(&mut self, address: SocketAddr, now: Instant) {
        if let Some(target) = self.targets.get_mut(&address) {
            target.state = State::Waiting;
            target.failures = target.failures.saturating_add(1);
            target.due = now + self.pause.after(target.failures);
        }
    }

    /// A link is down: whoever was called there is called again, and so is `name` wherever it is said to be.
    pub(crate) fn down(&mut self, link: LinkId, name: &str, now: Instant) {
        let mut gone = false;
        for target in self.targets.values_mut() {
            match target.state {
                State::Linked(of, since) if of == link => {
                    let good = now.saturating_duration_since(since) >= GOOD;
                    target.failures = if good { 0 } else { target.failures.saturating_add(1) };
                    target.state = State::Waiting;
                    target.due = now + self.pause.after(target.failures);
                    gone = true;
                }
                State::Waiting if target.name.as_deref() == Some(name) => {
                    target.due = target.due.min(now + self.pause.after(target.failures));
                }
                _ => {}
            }
        }
        if gone {
            self.prune();
        }
    }

    /// Whether everybody behind every seed is linked, as far as there is anybody: of each, one address at least, and of
    /// those that are not, each was called in vain.
    pub(crate) fn is_ready(&self, is_joined: impl Fn(&str) -> bool) -> bool {
        let seeds = self.places.values().filter(|place| place.told.is_none());
        seeds.into_iter().all(|seed| {
            let mut any = false;
            seed.resolved
                && seed.addresses.iter().all(|address| {
                    let Some(target) = self.targets.get(address) else {
                        return false;
                    };
                    let here = target.state == State::Own || target.name.as_deref().is_some_and(&is_joined);
                    any |= here;
                    here || target.failures >= ENOUGH_CALLS
                })
                && any
        })
    }

    /// When something is due next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let places = self
            .places
            .values()
            .filter(|place| !place.resolving)
            .map(|place| place.due);
        let waiting = |target: &&Target| target.state == State::Waiting;
        places
            .chain(self.targets.values().filter(waiting).map(|target| target.due))
            .min()
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.places.len(), self.targets.len())
    }
}

/// An IPv4 address is one however it is written.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
