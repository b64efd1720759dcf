//! How a key gets its one cell: claim, publish, settle.
//!
//! Two threads may insert one key at the same time, in different cells. Each first publishes its cell as TENTATIVE, then
//! looks for other cells of the key. The fences make sure that of two such threads at least one sees the other; cell
//! numbers decide which of them stays. Whoever meets a TENTATIVE cell may finish the job by the same routine, so nobody
//! waits for a thread that sleeps.

use std::ops::ControlFlow;

use ratelimit_model::{Verdict, time};

use super::asked::{Asked, Events, Ruling};
use super::find::Cell;
#[cfg(not(ratelimit_loom))]
use super::find::Found;
use super::header::{TIME_SET, TOP_OLDER_FIRST, TOP_TIERS};
use super::settle::Settler;
use super::table::Table;
use super::terms::Terms;
use super::word::{Charged, State, Word};
use crate::hash::{Fingerprint, LIMIT_BITS};
use crate::sync::{AtomicU64, Ordering, Rule, Site, order, rule, spin};

/// How often lines are searched again while a claim in them is under way, before they count as full.
const RESCANS: usize = 2;

impl Table {
    /// Gives the client a cell and charges it. `None`: look again.
    pub(super) fn insert(&self, client: Fingerprint, limit: usize, terms: &Terms, asked: &Asked<'_>) -> Option<Ruling> {
        if !self.in_force(terms, client, limit) {
            return None;
        }
        let key = self.key(client, limit);
        let top = self.top();
        if asked.cost == 0 || asked.cost > terms.gcra.burst() {
            return Some(Ruling::new(asked.cost == 0, terms.gcra, asked.now, asked));
        }
        for _ in 0..=RESCANS {
            let (place, claims_seen) = self.free_cell(key, top, asked);
            if let Some((cell, word, tier)) = place {
                // Not the low bits: with several limits those say which.
                if (key >> LIMIT_BITS) & 63 == 0 {
                    self.sample(tier, top);
                }
                return self.occupy(cell, word, client, limit, terms, asked);
            }
            if !claims_seen {
                break;
            }
            spin();
        }
        // Here a claim is in the way: only now is a proof of death worth its price.
        if self.free_claims_of_the_dead(key, top) || self.open_tier(top) {
            return None;
        }
        self.collective(client, limit, terms, asked)
    }

    /// Gives a key a cell without charging it, if it has none. False if there is no room, or if it was lost at once.
    #[cfg(not(ratelimit_loom))]
    pub(crate) fn open_cell(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> bool {
        let key = self.key(client, limit);
        // Twice: the first may have had to open a tier.
        for _ in 0..2 {
            if let Found::Live(..) = self.find(key) {
                return true;
            }
            let top = self.top();
            let terms = self.terms(client, limit);
            match self.free_cell(key, top, asked).0 {
                Some((cell, word, _)) => {
                    self.occupy(cell, word, client, limit, &terms, asked);
                }
                None if self.open_tier(top) => {}
                None => return false,
            }
        }
        matches!(self.find(key), Found::Live(..))
    }

    /// Frees the cells that the key may have and that a process claimed which is proven to be gone. False if there are none.
    fn free_claims_of_the_dead(&self, key: u64, top: u64) -> bool {
        let mut freed = false;
        self.candidates(key, top, |cell| {
            let word = Word(cell.w.load(order(Site::ClaimScan, Ordering::Acquire)));
            let is_dead = || !rule(Rule::ClaimProof) || self.lives.is_dead(word.tat());
            if word.state() == State::Claim && rule(Rule::DeadClaims) && is_dead() {
                // AcqRel: as every transition. The claimer was dead when the word was read, so it can do nothing any more; if the
                // swap fails another has freed the cell.
                freed |= self.swap(Site::ClaimFree, cell.w, word, word.killed());
            }
            ControlFlow::<()>::Continue(())
        });
        freed
    }

    /// A cell for a new key, and its tier: where inserts go first, else one of the others. Also says whether a claim was seen
    /// under way, which may end as a free cell. Writes nothing.
    pub(super) fn free_cell(&self, key: u64, top: u64, asked: &Asked<'_>) -> (Option<(Cell<'_>, Word, usize)>, bool) {
        let mut claims_seen = false;
        let open = (top & TOP_TIERS) as usize;
        for step in 0..open {
            // Newest first: the newest then soon holds most keys, and is the one that is looked in first.
            let index = if self.cells.presized { step } else { open - 1 - step };
            let [one, two] = self.cells.tiers[index].candidates(key);
            // Of each line the cell that was idle for longest, and how many could be taken.
            let mut best: [Option<(Cell<'_>, Word, u64)>; 2] = [None; 2];
            let mut claimable = [0; 2];
            for (side, line_index) in [one, two].into_iter().enumerate() {
                if side == 1 && one == two {
                    break;
                }
                let line = self.memory.line(line_index);
                for i in 0..self.cells_per_line() {
                    let number = line_index * super::line::CELLS as u64 + i as u64;
                    let cell = Cell {
                        k: &line.k[i],
                        w: &line.w[i],
                        number,
                    };
                    let before = if rule(Rule::FieldAfterWord) {
                        None
                    } else {
                        self.side().map(|side| side.is_reported(number))
                    };
                    // Acquire: the word that a claim replaces carries all charges made on it, so that the floor is raised
                    // above the right TAT.
                    let word = Word(cell.w.load(order(Site::ClaimScan, Ordering::Acquire)));
                    claims_seen |= word.state() == State::Claim;
                    let Some(idle) = self.idle(word, asked) else { continue };
                    if !self.is_reported(number, before) {
                        continue;
                    }
                    claimable[side] += 1;
                    if best[side].is_none_or(|(_, _, most)| idle > most) {
                        best[side] = Some((cell, word, idle));
                    }
                }
            }
            let place = match best {
                // The emptier line; of equals the first, so that most keys are found there.
                [Some(first), Some(second)] if first.2 == second.2 => {
                    Some(if claimable[1] > claimable[0] { second } else { first })
                }
                [Some(first), Some(second)] => Some(if second.2 > first.2 { second } else { first }),
                [first, second] => first.or(second),
            };
            if let Some((cell, word, _)) = place {
                return (Some((cell, word, index)), claims_seen);
            }
        }
        (None, claims_seen)
    }

    /// Whether a new key would get a cell.
    pub(super) fn has_room(&self, key: u64, asked: &Asked<'_>) -> bool {
        let top = self.top();
        ((top & TOP_TIERS) as usize) < self.cells.count || self.free_cell(key, top, asked).0.is_some()
    }

    /// Counts one of 64 inserts, to know when the newest tier holds more than the one before it.
    fn sample(&self, tier: usize, top: u64) {
        let counts = &self.header().cold.sampled_inserts;
        // Relaxed: a hint. A wrong one costs time, never a decision.
        let count = counts[tier].fetch_add(1, Ordering::Relaxed) + 1;
        let newest = (top & TOP_TIERS) as usize - 1;
        if top & TOP_OLDER_FIRST != 0
            && tier == newest
            && newest > 0
            && count > counts[newest - 1].load(Ordering::Relaxed)
        {
            self.change_top(top, newest as u64 + 1, false);
        }
    }

    /// How long a cell could have been taken, in nanoseconds; `None` if it may not be. It may if it was never used or was
    /// given up, which is the longest, or if what it says has expired, which is the same as no cell at all: anybody's, also one
    /// whose inserter died before he confirmed it.
    ///
    /// The cell that was idle for longest is taken, because its key is the least likely to come back. Any other choice lets busy
    /// clients with small debts, whose cells have expired between any two of their requests, take each other's cells for ever.
    /// Which one is taken is no part of the protocol; models take the first, so that two cells are enough to see one recycled.
    fn idle(&self, word: Word, asked: &Asked<'_>) -> Option<u64> {
        match word.state() {
            State::Free => Some(if cfg!(ratelimit_loom) { 0 } else { u64::MAX }),
            State::Claim => None,
            State::Live if word.lease_slot().is_some() && rule(Rule::LeasedIsTaken) => None,
            State::Tentative | State::Live => {
                let now = self.now_on(word.axis(), asked, word.tat());
                let idle = if cfg!(ratelimit_loom) {
                    0
                } else {
                    time::ahead(now, word.tat())
                };
                (time::ahead(word.tat(), now) == 0).then_some(idle)
            }
        }
    }

    /// Whether nothing in the cell is still to be reported, for one who has read its word. `before`: models that ask too early
    /// asked then.
    #[inline]
    fn is_reported(&self, number: u64, before: Option<bool>) -> bool {
        match self.side() {
            Some(side) => before.unwrap_or_else(|| side.is_reported(number)),
            None => true,
        }
    }

    /// Takes a cell that was free or expired, and settles whether the key may keep it.
    fn occupy(
        &self,
        cell: Cell<'_>,
        word: Word,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        let key = self.key(client, limit);
        let cold = &self.header().cold;
        let from = self.not_before_floor(terms, asked);
        let start = self.not_before_collective(key, limit, terms, asked, from);
        let Verdict::Allow(tat) = terms.gcra.decide(start, from, asked.cost) else {
            // The key was decided in a collective cell before, whose debt it takes along.
            return Some(Ruling::new(false, terms.gcra, start, asked));
        };
        // More than may be spent without a lease: the key gets a cell all the same, so that a lease can be asked for. Where
        // nothing may be spent the cell is kept for a second, so that there is one for the answer; no clock seems to be set back
        // by that.
        let most = (self.counts(asked.axis)).map_or(u64::MAX, |side| self.most_unconfirmed(&side, limit, key));
        let wanted = asked.cost > most;
        let tat = match most {
            // Models have no such long times: a lease of theirs could not end.
            0 if !cfg!(ratelimit_loom) => time::later(tat, time::add(from, time::LATE_NS)),
            _ => tat,
        };
        let recycled = word.state() != State::Free;
        if recycled && rule(Rule::Floor) {
            // Whoever lost this cell could come with an earlier time and start afresh: from now on no insert decides before
            // the time at which the cell had expired. Only if it is not so already, which is nearly always.
            let floor = &cold.floor[word.axis() as usize];
            let known = floor.load(order(Site::FloorLoad, Ordering::Acquire));
            if known & TIME_SET == 0 || time::ahead(word.tat(), known & time::MASK) > 0 {
                raise(floor, self.now_on(word.axis(), asked, word.tat()));
            }
        }
        if asked.axis == super::Axis::Given {
            self.raise_given_now(asked.now);
        }
        // AcqRel: pairs with the key scans. Who sees the claim, or the key that follows, sees the floor raised before.
        let claim = word.claim(self.lives.mark(), rule(Rule::VersionOnClaim));
        if !self.swap(Site::Claim, cell.w, word, claim) {
            return None;
        }
        // Release: pairs with `KeyScan` and `KeyAgain`. Who sees this key sees at least the claim.
        let store_key = || cell.k.store(key, order(Site::KeyStore, Ordering::Release));
        let counted = match self.side() {
            None => {
                store_key();
                None
            }
            Some(side) => Some(self.begin_counted(&side, cell, claim, limit, wanted, asked, store_key)),
        };

        // AcqRel: pairs with `WordLoad` and `KeyAgain`. Who sees the cell in use sees its key.
        let tentative = Word::tentative(asked.axis, terms.charged, claim, tat);
        if !self.swap(Site::Publish, cell.w, claim, tentative) {
            return None;
        }
        let ruling = self.finish(cell, tentative, tat, start, client, limit, terms, asked);
        if ruling.is_some() {
            Events::count(&self.events.inserted);
            if recycled {
                Events::count(&self.events.recycled);
            }
            if wanted {
                return Some(Ruling::new(false, terms.gcra, start, asked));
            }
        } else if let (Some(side), Some(tag)) = (self.counts(asked.axis), counted)
            && !wanted
        {
            self.unreserve(&side, cell, tag, asked.cost);
        }
        ruling
    }

    /// Settles a cell that its owner has published. `None`: his request is not in it.
    #[allow(clippy::too_many_arguments)]
    fn finish(
        &self,
        cell: Cell<'_>,
        tentative: Word,
        tat: u64,
        start: u64,
        client: Fingerprint,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
    ) -> Option<Ruling> {
        let key = self.key(client, limit);
        let settler = Settler {
            terms,
            start: Some(start),
        };
        let stands = self.settle(cell, tentative, client, limit, asked, &settler);
        if !stands && asked.cost > 1 {
            // A helper may have confirmed it all the same, since he does not know the cost and so not the start. Then the charge
            // stays and is nobody's. With a cost of 1 he knows both, and is right.
            return None;
        }
        // Whoever confirmed the cell, and whatever was charged since: while it is ours and LIVE, our request is in it.
        // Acquire: what a helper did before he confirmed comes before what we do next.
        let outcome = Word(cell.w.load(order(Site::Outcome, Ordering::Acquire)));
        let ours = !rule(Rule::OwnerComparesVersion)
            || outcome.same_version(tentative) && cell.k.load(order(Site::KeyAgain, Ordering::Acquire)) == key;
        if !outcome.is_live() || !ours {
            return None;
        }
        if !rule(Rule::OwnerAcceptsHelp) && outcome.tat() != tentative.tat() {
            return None;
        }
        Some(Ruling::new(true, terms.gcra, tat, asked))
    }

    /// The time to start a new cell at: not before the floor, where cells were recycled at a later time. A floor so far
    /// ahead that no late thread explains it belongs to a clock that was set back since.
    pub(super) fn not_before_floor(&self, terms: &Terms, asked: &Asked<'_>) -> u64 {
        // Acquire: pairs with `FloorRaise`.
        let floor = self.header().cold.floor[asked.axis as usize].load(order(Site::FloorLoad, Ordering::Acquire));
        let ahead = time::ahead(floor & time::MASK, asked.now);
        let usable = floor & TIME_SET != 0 && ahead > 0 && !terms.gcra.is_stepped(floor & time::MASK, asked.now);
        if usable && rule(Rule::Floor) {
            floor & time::MASK
        } else {
            asked.now
        }
    }

    /// That time, or the TAT of the collective cell that the key was decided in, if that is later: a client takes along what it
    /// owes there, together with what others do.
    pub(super) fn not_before_collective(
        &self,
        key: u64,
        limit: usize,
        terms: &Terms,
        asked: &Asked<'_>,
        from: u64,
    ) -> u64 {
        if terms.charged == Charged::OVERRIDE || !rule(Rule::CollectiveBeforeConfirm) {
            // A client with its own limit is never decided there.
            return from;
        }
        match self.collective_tat(key, limit, asked) {
            Some(tat) if !terms.gcra.is_stepped(tat, from) => time::later(tat, from),
            _ => from,
        }
    }
}

/// Raises a time word to `now`, if that is later or nothing was set.
pub(super) fn raise(word: &AtomicU64, now: u64) {
    let mut known = word.load(order(Site::FloorLoad, Ordering::Acquire));
    while known & TIME_SET == 0 || time::ahead(now, known & time::MASK) > 0 {
        // AcqRel: pairs with `FloorLoad`.
        match word.compare_exchange(
            known,
            now | TIME_SET,
            order(Site::FloorRaise, Ordering::AcqRel),
            order(Site::FloorLoad, Ordering::Acquire),
        ) {
            Ok(_) => return,
            Err(other) => known = other,
        }
    }
}
