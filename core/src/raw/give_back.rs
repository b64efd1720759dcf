//! Looking without touching, giving back, forgetting.

use ratelimit_model::{Gcra, Verdict, time};

use super::asked::{Asked, Ruling, was_set_back};
use super::find::Found;
use super::table::Table;
use super::word::Axis;
use crate::hash::Fingerprint;
use crate::sync::Site;

impl Table {
    /// What [`decide`](Table::decide) would say. Writes nothing.
    pub(crate) fn peek(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Ruling {
        self.look(client, limit, asked, false)
    }

    /// As [`peek`](Table::peek), but leaves a cell of other terms, or one whose clock was set back, as a decision leaves it.
    /// Who is denied by several limits would otherwise wait as long as the old terms say, or until the clock is back there.
    pub(crate) fn ask(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Ruling {
        self.look(client, limit, asked, true)
    }

    fn look(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>, update: bool) -> Ruling {
        let key = self.key(client, limit);
        loop {
            let terms = self.terms_of(client, limit, asked);
            let found = self.find(key);
            if let Found::Live(cell, word) = found
                && word.lease_slot().is_some()
            {
                match self.look_leased(cell, word, key, limit, asked) {
                    Some(ruling) => return ruling,
                    None => continue,
                }
            }
            if let Found::Live(cell, word) = found
                && update
                && !word.is_under(asked.axis, terms.charged)
            {
                self.translate(cell, word, client, limit, &terms, asked);
                continue;
            }
            let tat = match found {
                Found::Nothing => Some(self.tat_without_cell(key, limit, &terms, asked)),
                Found::Live(_, word) | Found::Tentative(_, word) => self.translated(word, client, limit, &terms, asked),
            };
            if let Some(tat) = tat
                && self.in_force(&terms, client, limit)
            {
                let stepped = was_set_back(&terms.gcra, tat, asked);
                let tat = if stepped { terms.gcra.full(asked.now) } else { tat };
                let fits = || terms.gcra.decide(tat, asked.now, asked.cost) != Verdict::Deny;
                let allowed = asked.cost == 0 || fits() && self.may_be_unconfirmed(&found, key, limit, asked);
                if let Found::Live(cell, word) = found
                    && update
                    && stepped
                    && !allowed
                {
                    self.bring_back(cell, word, &terms, asked);
                    continue;
                }
                return Ruling::new(allowed, terms.gcra, tat, asked);
            }
        }
    }

    /// Gives `asked.cost` requests back. A client without a cell has nothing to get back. Returns how many of them an owner has
    /// been told of, and is to be told about again.
    pub(crate) fn refund(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> u64 {
        self.lower(client, limit, asked, asked.cost, |gcra, tat| {
            gcra.refund(tat, asked.now, asked.cost)
        })
    }

    /// Takes back what `charged` has charged, for a request that another limit then denied. Nobody can be admitted by this who would
    /// not be if the charge had never been.
    ///
    /// A bucket that was charged takes longer to fill, and only that difference may be given back: it shrinks while a bucket that was
    /// not charged would be full and cannot fill further. So what has passed since the charge stays charged, unless nobody has
    /// charged the cell meanwhile, and then it is as it was before.
    ///
    /// The time is read after the word: whoever charged the word that is replaced has read his own before, and the own clock goes
    /// forwards. Of given times nobody knows the latest: then the charge stays, and what is wrong is a denial.
    pub(crate) fn take_back(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>, charged: u64) {
        self.lower(client, limit, asked, asked.cost, |gcra, tat| {
            let without = gcra.refund(tat, asked.now, asked.cost);
            if tat == charged || self.side().is_some() {
                return without;
            }
            if asked.axis == Axis::Given || gcra.is_stepped(tat, asked.now) {
                return tat;
            }
            let passed = time::ahead(asked.clock.now(), asked.now);
            let kept = time::add(without, passed);
            if time::ahead(tat, without) > passed { kept } else { tat }
        });
    }

    /// Forgets what the client has spent: here, where a limit is kept by an owner.
    pub(crate) fn reset(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) {
        if asked.axis == Axis::Own && self.is_hard(limit) {
            // What was spent was given by an owner once, and would be spent twice.
            return;
        }
        // What was spent was spent: it is reported all the same.
        self.lower(client, limit, asked, 0, |_, _| asked.now);
    }

    fn lower(
        &self,
        client: Fingerprint,
        limit: usize,
        asked: &Asked<'_>,
        units: u64,
        to: impl Fn(&Gcra, u64) -> u64,
    ) -> u64 {
        let key = self.key(client, limit);
        loop {
            let terms = self.terms_of(client, limit, asked);
            match self.find(key) {
                Found::Nothing => return 0,
                Found::Tentative(cell, word) => self.help(cell, word, client, limit, &terms, asked),
                Found::Live(cell, word) => {
                    if !self.in_force(&terms, client, limit) {
                        continue;
                    }
                    if let Some(side) = self.counts(asked.axis) {
                        match self.lower_counted(&side, cell, client, limit, &terms, asked, units, &to) {
                            Some(sent) => return sent,
                            None => continue,
                        }
                    }
                    if !word.is_under(asked.axis, terms.charged) {
                        self.translate(cell, word, client, limit, &terms, asked);
                        continue;
                    }
                    if time::ahead(word.tat(), asked.now) == 0 {
                        return 0;
                    }
                    let lowered = word.with_tat(to(&terms.gcra, word.tat()));
                    // AcqRel: as `Charge`.
                    if self.swap(Site::Refund, cell.w, word, lowered) {
                        return 0;
                    }
                }
            }
        }
    }
}
