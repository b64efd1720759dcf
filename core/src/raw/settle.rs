//! Of several cells of one key exactly one stays.
//!
//! Owner of a TENTATIVE cell and whoever meets it run the same routine, so nobody waits for a thread that sleeps.

use std::ops::ControlFlow;

use ratelimit_model::time;

use super::asked::Asked;
use super::find::Cell;
use super::header::TIME_SET;
use super::table::Table;
use super::terms::Terms;
use super::word::{Charged, State, Word};
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, fence, order, rule};

/// Who settles a TENTATIVE cell.
pub(super) struct Settler<'a> {
    pub(super) terms: &'a Terms,
    /// The time that the charge in the cell starts at: its owner knows it.
    pub(super) start: Option<u64>,
}

enum Rival {
    /// The other cell is the key's.
    Wins,
    /// The other cell changed between two looks.
    Moved,
}

impl Table {
    /// Finishes the insert of another thread.
    pub(super) fn help(
        &self,
        cell: Cell<'_>,
        word: Word,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) {
        let settler = Settler { terms, start: None };
        self.settle(cell, word, client, limit, asked, &settler);
    }

    /// Decides whether a TENTATIVE cell becomes the key's LIVE one. Owner and helper run this same routine, each with his
    /// own fence *after* he saw the cell published: a fence made before that does not count.
    ///
    /// False if the cell may not stand: then its owner has to start over, whatever became of it.
    pub(super) fn settle(
        &self,
        cell: Cell<'_>,
        word: Word,
        client: Fingerprint,
        limit: usize,
        asked: &Asked<'_>,
        settler: &Settler<'_>,
    ) -> bool {
        let key = self.key(client, limit);
        let top_before = self.top();
        if rule(Rule::SettleFence) && (settler.start.is_some() || rule(Rule::HelperFence)) {
            // SeqCst: pairs with the same fence of every other owner or helper of this key, and with the one in
            // `collective`. Of two fences one comes first; who comes later sees what the other published before his.
            fence(order(Site::SettleFence, Ordering::SeqCst));
        }
        let top = if rule(Rule::TopAgain) { self.top() } else { top_before };
        loop {
            let look = self.candidates(key, top, |other| self.compare(cell, word, other, key));
            match look {
                Some(Rival::Wins) => {
                    // AcqRel: as every transition. If it fails another has settled the matter.
                    self.swap(Site::Kill, cell.w, word, word.killed());
                    return true;
                }
                // The rival moved while we looked: it may have become LIVE.
                Some(Rival::Moved) => continue,
                None => break,
            }
        }
        if !self.may_stand(word, client, limit, asked, settler) {
            // The insert starts over, later or under other terms.
            self.swap(Site::Kill, cell.w, word, word.killed());
            return false;
        }
        // AcqRel: pairs with every later transition of the cell.
        self.swap(Site::Confirm, cell.w, word, word.confirmed());
        true
    }

    /// Whether a TENTATIVE cell was charged from a time and under a limit that still hold, for one who has looked at all cells
    /// of its key since his fence.
    ///
    /// The key may have had another cell and lost it while the inserter slept: whoever just looked at that cell, and saw the
    /// claim of him who took it, sees the floor that he raised. Or it may have been decided in its collective cell: the fence
    /// pairs with the one after that charge, so that either the charge is seen here or this cell is seen there.
    fn may_stand(
        &self,
        word: Word,
        client: Fingerprint,
        limit: usize,
        asked: &Asked<'_>,
        settler: &Settler<'_>,
    ) -> bool {
        let terms = settler.terms;
        let key = self.key(client, limit);
        let (floor_holds, collective_holds) = match settler.start {
            Some(start) => {
                let from = if rule(Rule::FloorAgain) {
                    self.not_before_floor(terms, asked)
                } else {
                    start
                };
                let with_collective = self.not_before_collective(key, limit, terms, asked, from);
                (time::ahead(from, start) == 0, time::ahead(with_collective, start) == 0)
            }
            None => {
                // Of another's insert only this is known: it started at least one interval before its TAT. With a cost above
                // 1 it may have started earlier than this can tell, and then gains the difference, once.
                let least = if word.charged() == terms.charged {
                    terms.gcra.whole_interval()
                } else {
                    0
                };
                let now = self.now_on(word.axis(), asked, word.tat());
                let holds = |time: Option<u64>| {
                    time.is_none_or(|time| {
                        // A time that no late thread explains belongs to a clock that was set back since.
                        terms.gcra.is_stepped(time, now) || time::ahead(time::add(time, least), word.tat()) == 0
                    })
                };
                let floor =
                    self.header().cold.floor[word.axis() as usize].load(order(Site::FloorLoad, Ordering::Acquire));
                let floor = (floor & TIME_SET != 0).then_some(floor & time::MASK);
                let on_axis = Asked {
                    now,
                    axis: word.axis(),
                    ..*asked
                };
                let collective = match word.charged() {
                    Charged::OVERRIDE => None,
                    _ => self.last_collective_tat(key, limit, &on_axis),
                };
                (holds(floor), holds(collective) || !rule(Rule::CollectiveBeforeConfirm))
            }
        };
        if !floor_holds && rule(Rule::FloorAgain) || !collective_holds {
            return false;
        }
        if word.charged() != Charged::OVERRIDE || !rule(Rule::RecordBeforeConfirm) {
            return true;
        }
        // The fence pairs with the one in `end_override`: either he who ends the override finds this cell, or this is seen.
        let record = self.record(client);
        match settler.start {
            Some(_) => record == terms.record,
            None => record.override_limit().is_some(),
        }
    }

    /// Compares a TENTATIVE cell with another that its key may be in.
    fn compare(&self, cell: Cell<'_>, word: Word, other: Cell<'_>, key: u64) -> ControlFlow<Rival> {
        if other.number == cell.number || other.k.load(order(Site::KeyScan, Ordering::Acquire)) != key {
            return ControlFlow::Continue(());
        }
        let rival = Word(other.w.load(order(Site::WordLoad, Ordering::Acquire)));
        match rival.state() {
            State::Free | State::Claim => ControlFlow::Continue(()),
            _ if !self.still(other, key) => ControlFlow::Continue(()),
            // Also an expired one: its owner may be about to charge it.
            State::Live if rule(Rule::ExpiredLiveCounts) || rival.tat() > word.tat() => ControlFlow::Break(Rival::Wins),
            State::Live => ControlFlow::Continue(()),
            State::Tentative if !rule(Rule::LowerWins) => ControlFlow::Break(Rival::Wins),
            State::Tentative if other.number < cell.number => ControlFlow::Break(Rival::Wins),
            State::Tentative if !rule(Rule::KillBeforeConfirm) => ControlFlow::Continue(()),
            State::Tentative if self.swap(Site::Kill, other.w, rival, rival.killed()) => ControlFlow::Continue(()),
            State::Tentative => ControlFlow::Break(Rival::Moved),
        }
    }
}
