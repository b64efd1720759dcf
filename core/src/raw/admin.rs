//! Administering: changes of limits, overrides and blocks, by one thread of all processes at a time.
//!
//! A word in the header carries the mark of the process that administers. No decision looks at it. If its holder is proven to be
//! dead another takes the word over and first finishes or undoes what was left half done, so a word that is 0 says
//! that nothing is. What can be left, and what becomes of it:
//!
//! | step | left | becomes |
//! |---|---|---|
//! | numbers of the next generation written, generation not | nothing that anyone reads | is written over |
//! | some of several limits in force | `changing` is 1 | the rest is put in force |
//! | an override on its way out | a record that says so | the override is in force again |
//! | a record written, its client not counted, or the other way round | a count that is wrong | counted again |
//! | a record written, `detours` not | decisions that do not look | set |

use std::ops::Deref;
use std::sync::atomic::AtomicU64 as Plain;

use ratelimit_model::{Gcra, Limit};

use super::asked::Asked;
use super::header::{DETOUR_RECORDS, OVERRIDE_LIMITS};
use super::table::Table;
use super::terms::Record;
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, order, pause, rule};

/// What there is no more room for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// For another limit among those of overrides.
    Limits,
    /// For another record.
    Records,
}

/// The right to administer a table.
pub(crate) struct Admin<'a> {
    table: &'a Table,
    mark: u64,
}

impl Deref for Admin<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.table
    }
}

impl Drop for Admin<'_> {
    fn drop(&mut self) {
        let word = &self.table.header().cold.admin;
        if self.mark == 0 {
            return;
        }
        // Release: pairs with `AdminTake`. Who administers next sees all that was done here. Only if it is still ours: in a
        // process that was forked meanwhile it is not.
        let _ = word.compare_exchange(
            self.mark,
            0,
            order(Site::AdminRelease, Ordering::Release),
            Ordering::Relaxed,
        );
    }
}

impl Table {
    /// Waits for the right to administer. Its holder is done in microseconds; if it is stopped, this waits, and decisions go on.
    pub(crate) fn administer(&self, asked: &Asked<'_>) -> Admin<'_> {
        self.administer_as(self.lives.mark(), asked)
    }

    pub(super) fn administer_as(&self, mark: u64, asked: &Asked<'_>) -> Admin<'_> {
        let word = &self.header().cold.admin;
        let mut turns = 0;
        loop {
            // Acquire: pairs with `AdminRelease`, and with whatever a dead holder did last.
            let taken = |from: u64| {
                word.compare_exchange(from, mark, order(Site::AdminTake, Ordering::Acquire), Ordering::Relaxed)
                    .map(drop)
            };
            match taken(0) {
                Ok(()) => return Admin { table: self, mark },
                Err(holder) if holder != 0 && self.may_take_over(holder) => {
                    if taken(holder).is_ok() {
                        let admin = Admin { table: self, mark };
                        if rule(Rule::RepairOnTakeover) {
                            admin.repair(asked);
                        }
                        return admin;
                    }
                }
                Err(_) => {}
            }
            pause(turns);
            turns = turns.saturating_add(1);
        }
    }

    fn may_take_over(&self, holder: u64) -> bool {
        !rule(Rule::AdminProof) || self.lives.is_dead(holder)
    }
}

impl Table {
    /// The limits in force, for one who may not write. They may be those of a change that is under way.
    #[cfg(not(ratelimit_loom))]
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn shown_limits(&self, count: usize) -> Vec<Limit> {
        Admin { table: self, mark: 0 }.limits(count)
    }

    /// The first limits of a table that nobody else sees yet.
    pub(super) fn first_limits(&self, limits: &[Limit]) {
        Admin { table: self, mark: 0 }.set_limits(limits);
    }
}

impl Admin<'_> {
    /// The limits in force.
    pub(crate) fn limits(&self, count: usize) -> Vec<Limit> {
        let words = &self.header().cold.in_force[..count];
        words
            .iter()
            .filter_map(|words| Limit::from_words(load(words)).ok())
            .collect()
    }

    /// Puts limits in force that were found to make sense. Those that stay as they are get no new generation.
    pub(crate) fn set_limits(&self, limits: &[Limit]) {
        self.want(limits);
        self.finish_change();
    }

    /// Only says which limit people are shown: what decides is not changed.
    pub(super) fn show_limit(&self, index: usize, limit: &Limit) {
        store(&self.header().cold.in_force[index], limit.to_words());
    }

    /// Says which limits are to be put in force.
    pub(super) fn want(&self, limits: &[Limit]) {
        let cold = &self.header().cold;
        for (words, limit) in cold.wanted.iter().zip(limits) {
            store(words, limit.to_words());
        }
        // Release: whoever takes over sees what is wanted.
        cold.changing.store(limits.len() as u64, Ordering::Release);
    }

    /// From here on a change is finished, by this process or by another.
    fn finish_change(&self) {
        let cold = &self.header().cold;
        let count = cold.changing.load(Ordering::Acquire) as usize;
        for (index, slot) in self.header().limits.iter().enumerate().take(count) {
            let wanted = load(&cold.wanted[index]);
            let gcra = Limit::from_words(wanted).and_then(|limit| Gcra::new(&limit));
            if let Ok(gcra) = gcra
                && (slot.generation.load(Ordering::Relaxed) == 0 || slot.load().1 != gcra)
            {
                slot.publish(&gcra);
            }
            store(&cold.in_force[index], wanted);
        }
        cold.changing.store(0, Ordering::Release);
    }

    /// Finishes or undoes what a dead process left half done.
    fn repair(&self, asked: &Asked<'_>) {
        self.finish_change();
        let records = self.overridden();
        for uses in &self.header().override_uses {
            uses.store(0, Ordering::Relaxed);
        }
        for &client in &records {
            let record = self.record(client);
            let Some(place) = record.any_limit() else {
                continue;
            };
            if record.override_limit().is_none() {
                let sequence = self.next_sequence();
                // The record exists already, so there is room for it.
                let _ = self.store_record(client, Record::of_override(place as u16, sequence), asked.now);
            }
            self.header().override_uses[place % OVERRIDE_LIMITS].fetch_add(1, Ordering::Relaxed);
        }
        if self.has_any_record() {
            self.header().hot.detours.fetch_or(DETOUR_RECORDS, Ordering::Release);
        }
    }

    // --- The limits of overrides ---------------------------------------------------------------------------------

    /// The place of a limit for one more client: clients with equal limits share one, and one that nobody uses any more is
    /// given out again. `None`: all are taken.
    ///
    /// Cost: a look at one place, as a rule; at all of them if the places are nearly all taken.
    pub(crate) fn take_place(&self, gcra: &Gcra) -> Option<u16> {
        let header = self.header();
        let numbers = gcra.to_words();
        let first = numbers.iter().fold(0u64, |hash, &n| {
            (hash ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        let mut unused = None;
        for step in 0..OVERRIDE_LIMITS {
            let place = (first as usize).wrapping_add(step) % OVERRIDE_LIMITS;
            let there = header.override_numbers(place).to_words();
            let uses = &header.override_uses[place];
            if uses.load(Ordering::Relaxed) > 0 {
                if there == numbers {
                    uses.fetch_add(1, Ordering::Relaxed);
                    return u16::try_from(place).ok();
                }
                continue;
            }
            unused = unused.or(Some(place));
            if there == [0; 4] {
                // Never used: no limit was ever put behind it.
                break;
            }
        }
        let place = unused?;
        // Numbers first: a record that points here is written only after.
        header.store_override_numbers(place, gcra);
        header.override_uses[place].store(1, Ordering::Relaxed);
        u16::try_from(place).ok()
    }

    /// One client less has the limit at this place.
    pub(crate) fn give_back_place(&self, place: usize) {
        if let Some(uses) = self.header().override_uses.get(place) {
            let left = uses.load(Ordering::Relaxed).saturating_sub(1);
            uses.store(left, Ordering::Relaxed);
        }
    }

    /// Gives `client` a limit of its own.
    pub(crate) fn give_override(&self, client: Fingerprint, gcra: &Gcra, asked: &Asked<'_>) -> Result<(), NoRoom> {
        let before = self.record(client).any_limit();
        let place = self.take_place(gcra).ok_or(NoRoom::Limits)?;
        if self.set_override(client, place, asked).is_err() {
            self.give_back_place(usize::from(place));
            return Err(NoRoom::Records);
        }
        before.into_iter().for_each(|place| self.give_back_place(place));
        Ok(())
    }

    /// Puts `client` back under the limits for all. It fails only if there is no room for the record of a client without one.
    pub(crate) fn take_override(&self, client: Fingerprint, asked: &Asked<'_>) -> Result<(), NoRoom> {
        let before = self.record(client).any_limit();
        self.clear_override(client, asked).map_err(|_| NoRoom::Records)?;
        before.into_iter().for_each(|place| self.give_back_place(place));
        Ok(())
    }
}

fn load(words: &[Plain; 4]) -> [u64; 4] {
    // Relaxed, as in `store`: the word that gives the right to administer orders them.
    std::array::from_fn(|i| words[i].load(Ordering::Relaxed))
}

fn store(words: &[Plain; 4], values: [u64; 4]) {
    for (word, value) in words.iter().zip(values) {
        word.store(value, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(ratelimit_loom)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::raw::{Axis, Geometry, Overflow};

    fn gcra(rate: u64) -> Gcra {
        Gcra::new(&Limit::new(rate, std::time::Duration::from_secs(60)).unwrap()).unwrap()
    }

    /// A table, administered.
    fn with_admin(body: impl FnOnce(&Admin<'_>, &Asked<'_>)) {
        let limit = Limit::new(5, std::time::Duration::from_secs(60)).unwrap();
        let table = Table::new(Geometry::growing(), &[limit], Overflow::Share).unwrap();
        let clock = Clock::os();
        let asked = Asked {
            now: clock.now(),
            axis: Axis::Own,
            cost: 1,
            clock: &clock,
            under: None,
        };
        body(&table.administer(&asked), &asked);
    }

    #[test]
    fn equal_limits_share_a_place_and_unused_places_return() {
        with_admin(|admin, _| {
            let one = admin.take_place(&gcra(1)).unwrap();
            assert_eq!(admin.take_place(&gcra(1)), Some(one));
            let two = admin.take_place(&gcra(2)).unwrap();
            assert_ne!(one, two);
            admin.give_back_place(usize::from(one));
            assert_eq!(admin.take_place(&gcra(1)), Some(one), "one client still has it");
            admin.give_back_place(usize::from(two));
            let uses: u64 = admin
                .header()
                .override_uses
                .iter()
                .map(|uses| uses.load(Ordering::Relaxed))
                .sum();
            assert_eq!(uses, 2);
            admin.give_back_place(99_999);
        });
    }

    #[test]
    fn there_is_a_bound() {
        with_admin(|admin, _| {
            let places: std::collections::HashSet<_> = (1..=OVERRIDE_LIMITS as u64)
                .map(|i| admin.take_place(&gcra(i)).unwrap())
                .collect();
            assert_eq!(places.len(), OVERRIDE_LIMITS);
            assert_eq!(admin.take_place(&gcra(9_999)), None);
            let again = admin.take_place(&gcra(7)).unwrap();
            for _ in 0..2 {
                admin.give_back_place(usize::from(again));
            }
            assert_eq!(admin.take_place(&gcra(9_999)), Some(again));
        });
    }

    #[test]
    fn what_a_dead_process_left_is_repaired() {
        with_admin(|admin, asked| {
            let [own, other] = [3, 4].map(Fingerprint::new);
            admin.give_override(own, &gcra(7), asked).unwrap();
            admin.give_override(other, &gcra(8), asked).unwrap();
            // One override is on its way out, the counts are wrong, nobody looks at records, and of a change of limits only the
            // wish is there.
            admin
                .store_record(own, admin.record(own).removing(), asked.now)
                .unwrap();
            admin.take_place(&gcra(7)).unwrap();
            admin.header().hot.detours.store(0, Ordering::Relaxed);
            let wanted: Limit = "9/s".parse().unwrap();
            store(&admin.header().cold.wanted[0], wanted.to_words());
            admin.header().cold.changing.store(1, Ordering::Relaxed);

            admin.repair(asked);
            assert!(
                admin.record(own).override_limit().is_some(),
                "the override is in force again"
            );
            let uses: Vec<_> = (0..OVERRIDE_LIMITS)
                .map(|i| admin.header().override_uses[i].load(Ordering::Relaxed))
                .collect();
            assert_eq!(uses.iter().sum::<u64>(), 2);
            assert!(admin.has_records());
            assert_eq!(admin.limits(1), [wanted]);
            assert_eq!(admin.header().limits[0].load().1, Gcra::new(&wanted).unwrap());
        });
    }
}
