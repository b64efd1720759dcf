//! One request under limits of several keys: all of them allow it, or none is charged.
//!
//! The keys are the caller's, and so is the limit of each: the table's own limit only bounds what a snapshot may hold.

use std::time::Duration;

use ratelimit_model::{Decision, Gcra};

use crate::engine::Engine;
use crate::hash::Fingerprint;
use crate::raw::{Asked, Ruling};

/// Parts that are charged without an allocation.
const ON_STACK: usize = 16;

/// A key, and the limit that it is under. The caller sees to it that a key is under one limit at a time.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The key.
    pub key: Fingerprint,
    /// Its limit.
    pub gcra: &'a Gcra,
}

impl Engine {
    /// Decides a request of `cost` under all parts: all allow it and are charged, or none is. The number of the part that binds, and
    /// what it says; `None` without parts.
    ///
    /// All are asked before the first is charged, and the tightest is charged first. If another thread is faster at one of the
    /// others, what was charged goes back, so that at no limit more is admitted than if this request had never come; until then,
    /// for less than a microsecond if the thread is not put to sleep, others see it charged and may be denied.
    ///
    /// Cost: a lookup for each part, and a second one with a compare-and-swap if all allow it; no lock; no allocation up to 16
    /// parts.
    #[must_use]
    pub fn check_parts(&self, parts: &[Part<'_>], cost: u64, now: Option<Duration>) -> Option<(usize, Decision)> {
        let told = self.check_parts_aside(parts, cost, now)?;
        let weight = self.counters.count(told.1.allowed);
        if weight != 0 {
            self.sample(parts[told.0].key, told.1.allowed, weight, None);
        }
        self.used();
        Some(told)
    }

    /// As [`check_parts`](Engine::check_parts), for what is no request of its own: it is not among those that were counted as allowed
    /// or denied, and the caller says that something [changed](Engine::changed).
    #[must_use]
    pub fn check_parts_aside(&self, parts: &[Part<'_>], cost: u64, now: Option<Duration>) -> Option<(usize, Decision)> {
        let asked = self.asked(cost, now);
        let (first, decision) = self.ask_parts(parts, &asked, |key, asked| match parts.len() {
            1 => self.table.decide(key, 0, asked),
            _ => self.table.ask(key, 0, asked),
        })?;
        if parts.len() == 1 || !decision.allowed || cost == 0 {
            return Some((first, decision));
        }
        Some(self.charge_parts(parts, first, &asked))
    }

    fn charge_parts(&self, parts: &[Part<'_>], first: usize, asked: &Asked<'_>) -> (usize, Decision) {
        let (mut small, mut large) = ([0; ON_STACK], Vec::new());
        let states: &mut [u64] = if parts.len() <= ON_STACK {
            &mut small
        } else {
            large.resize(parts.len(), 0);
            &mut large
        };
        // The tightest, then the others in their order.
        let order = || std::iter::once(first).chain((0..parts.len()).filter(move |&part| part != first));
        let mut binding: Option<(usize, Decision)> = None;
        for (done, part) in order().enumerate() {
            let asked = asked.under(parts[part].gcra);
            let ruling = self.table.decide(parts[part].key, 0, &asked);
            if !ruling.allowed {
                for earlier in order().take(done) {
                    let asked = asked.under(parts[earlier].gcra);
                    self.table.take_back(parts[earlier].key, 0, &asked, states[earlier]);
                }
                return (part, ruling.decision());
            }
            states[part] = ruling.tat;
            let decision = ruling.decision();
            if binding.is_none_or(|(_, most)| decision.binds_more_than(&most)) {
                binding = Some((part, decision));
            }
        }
        binding.unwrap_or((first, Decision::default()))
    }

    /// What [`check_parts`](Engine::check_parts) would say. Writes nothing.
    #[must_use]
    pub fn peek_parts(&self, parts: &[Part<'_>], cost: u64, now: Option<Duration>) -> Option<(usize, Decision)> {
        self.ask_parts(parts, &self.asked(cost, now), |key, asked| {
            self.table.peek(key, 0, asked)
        })
    }

    fn ask_parts(
        &self,
        parts: &[Part<'_>],
        asked: &Asked<'_>,
        ask: impl Fn(Fingerprint, &Asked<'_>) -> Ruling,
    ) -> Option<(usize, Decision)> {
        let decisions = parts
            .iter()
            .map(|part| ask(part.key, &asked.under(part.gcra)).decision())
            .enumerate();
        decisions.reduce(|a, b| if b.1.binds_more_than(&a.1) { b } else { a })
    }

    /// Gives `cost` requests back to each part.
    pub fn refund_parts(&self, parts: &[Part<'_>], cost: u64, now: Option<Duration>) {
        let asked = self.asked(cost, now);
        for part in parts {
            self.table.refund(part.key, 0, &asked.under(part.gcra));
        }
        self.changed();
    }

    /// Forgets what was spent under each part.
    pub fn reset_parts(&self, parts: &[Part<'_>], now: Option<Duration>) {
        let asked = self.asked(1, now);
        for part in parts {
            self.table.reset(part.key, 0, &asked.under(part.gcra));
        }
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratelimit_model::{Gcra, Limit};

    use super::Part;
    use crate::clock::Clock;
    use crate::engine::{Config, Engine};
    use crate::hash::{Fingerprint, HashKey};
    use crate::raw::Overflow;

    fn engine(clock: Clock) -> Engine {
        Engine::new(Config {
            limits: vec![
                Limit::new(1, Duration::from_secs(30 * 86_400))
                    .expect("a limit")
                    .burst(6),
            ],
            max_keys: None,
            hash_key: HashKey::new([7; 16]),
            clock,
            overflow: Overflow::Deny,
        })
        .expect("an engine")
    }

    fn gcra(text: &str) -> Gcra {
        Gcra::new(&text.parse().expect("a limit")).expect("a limit")
    }

    /// A charge that is taken back after others were admitted must not have given them anything: here the bucket would have been
    /// full for three seconds, in which the charge that is taken back drained.
    #[test]
    fn what_drained_meanwhile_is_not_given_back() {
        let (clock, hand) = Clock::manual();
        let engine = engine(clock);
        let (key, gcra) = (Fingerprint::new(1), gcra("1/s burst 10"));
        let part = [Part { key, gcra: &gcra }];
        let early = engine.asked(5, None).under(&gcra);
        let charged = engine.table.decide(key, 0, &early);
        assert!(charged.allowed);
        hand.advance(Duration::from_secs(3));
        assert!(
            engine
                .check_parts(&part, 1, None)
                .is_some_and(|(_, decision)| decision.allowed)
        );
        engine.table.take_back(key, 0, &early, charged.tat);
        let (_, left) = engine.peek_parts(&part, 1, None).expect("a part");
        assert_eq!((left.remaining, left.reset_after), (9, Duration::from_secs(1)));
    }

    #[test]
    fn what_nobody_saw_is_taken_back_whole() {
        let (clock, hand) = Clock::manual();
        let engine = engine(clock);
        let (key, gcra) = (Fingerprint::new(1), gcra("1/s burst 10"));
        let part = [Part { key, gcra: &gcra }];
        for given in [None, Some(Duration::from_secs(100))] {
            let asked = engine.asked(5, given);
            let charged = engine.table.decide(key, 0, &asked.under(&gcra));
            hand.advance(Duration::from_secs(2));
            engine.table.take_back(key, 0, &asked.under(&gcra), charged.tat);
            let (_, left) = engine.peek_parts(&part, 1, given).expect("a part");
            assert_eq!(left.remaining, 10, "{given:?}");
        }
    }

    /// Of given times nobody knows how far they have come: nothing is given back that another may have been charged for.
    #[test]
    fn given_times_err_on_the_side_of_denial() {
        let engine = engine(Clock::manual().0);
        let (key, gcra) = (Fingerprint::new(1), gcra("1/s burst 10"));
        let part = [Part { key, gcra: &gcra }];
        let early = Duration::from_secs(1_000);
        let asked = engine.asked(5, Some(early));
        let charged = engine.table.decide(key, 0, &asked.under(&gcra));
        let late = early + Duration::from_secs(3);
        assert!(
            engine
                .check_parts(&part, 1, Some(late))
                .is_some_and(|(_, decision)| decision.allowed)
        );
        engine.table.take_back(key, 0, &asked.under(&gcra), charged.tat);
        let (_, left) = engine.peek_parts(&part, 1, Some(late)).expect("a part");
        assert_eq!(left.remaining, 7);
    }

    /// The first part stays as it is whenever the second denies, and a denial names the part that it comes from.
    #[test]
    fn all_or_none_is_charged() {
        let engine = engine(Clock::manual().0);
        let (wide, narrow) = (gcra("10/minute"), gcra("2/minute"));
        let parts = [
            Part {
                key: Fingerprint::new(1),
                gcra: &wide,
            },
            Part {
                key: Fingerprint::new(2),
                gcra: &narrow,
            },
        ];
        let told: Vec<_> = (0..4).filter_map(|_| engine.check_parts(&parts, 1, None)).collect();
        assert_eq!(
            told.iter()
                .map(|(part, told)| (*part, told.allowed))
                .collect::<Vec<_>>(),
            [(1, true), (1, true), (1, false), (1, false)]
        );
        let (_, left) = engine.peek_parts(&parts[..1], 1, None).expect("a part");
        assert_eq!(left.remaining, 8);
        engine.refund_parts(&parts, 1, None);
        assert!(
            engine
                .check_parts(&parts, 1, None)
                .is_some_and(|(_, told)| told.allowed)
        );
        engine.reset_parts(&parts, None);
        assert_eq!(
            engine
                .peek_parts(&parts, 1, None)
                .map(|(part, told)| (part, told.remaining)),
            Some((1, 2))
        );
        assert!(engine.check_parts(&[], 1, None).is_none());
    }

    /// Many threads, each under a limit of all and one of its own: never more than either allows, and nothing is left charged.
    #[test]
    fn threads_never_get_more_than_any_limit() {
        let engine = engine(Clock::manual().0);
        let (all, own) = (gcra("1000/day"), gcra("400/day"));
        let admitted: Vec<u64> = std::thread::scope(|scope| {
            let work = |thread: u64| {
                let parts = [
                    Part {
                        key: Fingerprint::new(1_000 + thread),
                        gcra: &own,
                    },
                    Part {
                        key: Fingerprint::new(1),
                        gcra: &all,
                    },
                ];
                (0..600)
                    .filter_map(|_| engine.check_parts(&parts, 1, None))
                    .filter(|(_, told)| told.allowed)
                    .count() as u64
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || work(thread))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a thread"))
                .collect()
        });
        let total: u64 = admitted.iter().sum();
        assert!(
            total <= 1_000 && admitted.iter().all(|&each| each <= 400),
            "{admitted:?}"
        );
        let spent = |key, gcra: &Gcra| {
            let part = [Part {
                key: Fingerprint::new(key),
                gcra,
            }];
            gcra.burst() - engine.peek_parts(&part, 1, None).map_or(0, |(_, told)| told.remaining)
        };
        assert_eq!(spent(1, &all), total);
        for (thread, each) in admitted.iter().enumerate() {
            assert_eq!(
                spent(1_000 + thread as u64, &own),
                *each,
                "what was denied is still charged"
            );
        }
    }
}
