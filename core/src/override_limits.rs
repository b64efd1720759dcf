//! Which limits the overrides have, and where in the table's slab they lie: clients with equal limits share one place, and
//! a place that nobody uses any more is given out again.

use std::collections::HashMap;

use crate::raw::OVERRIDE_LIMITS;

/// A limit by its numbers.
type Numbers = [u64; 4];

#[derive(Debug, Default)]
pub(crate) struct OverrideLimits {
    places: HashMap<Numbers, u16>,
    /// By place: what lies there, and how many clients have it.
    used: Vec<(Numbers, usize)>,
    free: Vec<u16>,
}

impl OverrideLimits {
    /// The place of a limit for one more client, and whether its numbers have to be written there. `None`: all are taken.
    pub(crate) fn take(&mut self, numbers: Numbers) -> Option<(u16, bool)> {
        if let Some(&place) = self.places.get(&numbers) {
            self.used[usize::from(place)].1 += 1;
            return Some((place, false));
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.used[usize::from(place)] = (numbers, 1);
                place
            }
            None => {
                let place = u16::try_from(self.used.len())
                    .ok()
                    .filter(|&place| usize::from(place) < OVERRIDE_LIMITS)?;
                self.used.push((numbers, 1));
                place
            }
        };
        self.places.insert(numbers, place);
        Some((place, true))
    }

    /// One client less has the limit at this place.
    pub(crate) fn give_back(&mut self, place: usize) {
        let Some((numbers, clients)) = self.used.get_mut(place) else {
            return;
        };
        *clients = clients.saturating_sub(1);
        if *clients == 0 && self.places.remove(numbers).is_some() {
            // Places fit: they were given out as `u16`.
            self.free.extend(u16::try_from(place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_limits_share_a_place_and_unused_places_return() {
        let mut limits = OverrideLimits::default();
        assert_eq!(limits.take([1; 4]), Some((0, true)));
        assert_eq!(limits.take([1; 4]), Some((0, false)));
        assert_eq!(limits.take([2; 4]), Some((1, true)));
        limits.give_back(0);
        assert_eq!(limits.take([3; 4]), Some((2, true)), "one client still has the first");
        limits.give_back(0);
        assert_eq!(limits.take([4; 4]), Some((0, true)));
        assert_eq!(limits.take([1; 4]), Some((3, true)), "its old place has another limit");
        limits.give_back(99);
    }

    #[test]
    fn there_is_a_bound() {
        let mut limits = OverrideLimits::default();
        for i in 0..OVERRIDE_LIMITS as u64 {
            assert!(limits.take([i; 4]).is_some());
        }
        assert_eq!(limits.take([u64::MAX; 4]), None);
        assert!(
            limits.take([7; 4]).is_some(),
            "one that is there already needs no place"
        );
    }
}
