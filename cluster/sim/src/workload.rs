//! Who asks when: streams of requests, each at one node.

use crate::clock::TrueNs;
use crate::network::SECOND;
use crate::rng::Rng;

/// Which key the requests of a source are for.
#[derive(Clone, Debug, PartialEq)]
pub enum Keys {
    /// Always this one.
    One(u64),
    /// A new one each time, out of so many: an attack that sprays ids.
    Spray(u64),
}

/// Requests at one node. They go to another node while that one does not run, as behind a balancer.
#[derive(Clone, Debug)]
pub struct Source {
    /// The node that they reach.
    pub node: usize,
    /// What they are for.
    pub keys: Keys,
    /// From when on how many per second; in order of time, and 0 before the first.
    pub rates: Vec<(TrueNs, f64)>,
    /// Poisson arrivals if true, else evenly spaced.
    pub poisson: bool,
    /// Costs are drawn evenly from 1 to this.
    pub most_cost: u64,
}

impl Source {
    /// Requests of cost 1 for the key 0, evenly spaced, from the first moment.
    #[must_use]
    pub fn steady(node: usize, per_second: f64) -> Self {
        Source {
            node,
            keys: Keys::One(0),
            rates: vec![(0, per_second)],
            poisson: false,
            most_cost: 1,
        }
    }

    /// With other rates.
    #[must_use]
    pub fn with_rates(mut self, rates: Vec<(TrueNs, f64)>) -> Self {
        self.rates = rates;
        self
    }

    /// When the next request comes after one at `at`, if ever.
    #[must_use]
    pub fn next(&self, at: TrueNs, rng: &mut Rng) -> Option<TrueNs> {
        let mut from = at;
        let mut index = self.rates.partition_point(|(start, _)| *start <= from);
        loop {
            let per_second = if index == 0 { 0.0 } else { self.rates[index - 1].1 };
            let until = self.rates.get(index).map(|(start, _)| *start);
            if per_second > 0.0 {
                let mean = SECOND as f64 / per_second;
                let gap = if self.poisson { rng.exponential(mean) } else { mean };
                // At least a nanosecond, so that time moves on whatever the rate.
                let next = from.saturating_add((gap as TrueNs).max(1));
                if until.is_none_or(|until| next < until) {
                    return Some(next);
                }
            }
            // A Poisson process has no memory, so it may be drawn anew where its rate changes.
            from = until?;
            index += 1;
        }
    }

    /// The key of one request.
    pub fn key(&self, rng: &mut Rng) -> u64 {
        match self.keys {
            Keys::One(key) => key,
            // Above all single keys, so that an attack never hits a judged one by chance.
            Keys::Spray(ids) => (1 << 32) + rng.below(ids),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(source: &Source, until: TrueNs) -> usize {
        let mut rng = Rng::new(3);
        let mut at = 0;
        let mut count = 0;
        while let Some(next) = source.next(at, &mut rng).filter(|next| *next < until) {
            at = next;
            count += 1;
        }
        count
    }

    #[test]
    fn rates_are_kept_over_their_changes() {
        let source = Source::steady(0, 100.0).with_rates(vec![(0, 100.0), (SECOND, 0.0), (2 * SECOND, 1000.0)]);
        assert!((1095..=1101).contains(&count(&source, 3 * SECOND)));
        let poisson = Source {
            poisson: true,
            ..source
        };
        assert!((1000..=1200).contains(&count(&poisson, 3 * SECOND)));
    }

    #[test]
    fn a_source_that_ends_has_no_next_request() {
        let source = Source::steady(0, 0.0).with_rates(vec![(0, 10.0), (SECOND, 0.0)]);
        assert_eq!(source.next(SECOND, &mut Rng::new(1)), None);
    }
}
