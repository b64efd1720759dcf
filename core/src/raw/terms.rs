//! What a key is decided by: a generation of a limit, or the client's own limit.

use ratelimit_model::Gcra;

use super::asked::Asked;
use super::header::{DETOUR_RECORDS, Header, LimitSlot, Numbers};
use super::table::Table;
use super::word::Charged;
use crate::hash::Fingerprint;
use crate::sync::{Ordering, Rule, Site, order, rule};

/// The terms of one decision. They may be out of date, even torn, as soon as they are read: nothing is decided by them
/// before [`super::Table::in_force`] has said so *after* the cell's word was read.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) gcra: Gcra,
    pub(crate) charged: Charged,
    pub(crate) generation: u64,
    /// The client's record if it has one: an override in force or one that is being removed; 0 if none.
    pub(crate) record: Record,
}

/// The word of a record: what is special about one client.
///
/// ```text
///  63..60   59..16                 15..0                      63..60  55..0
/// +-------+----------------------+------------------+        +-------+----------------------------+
/// | kind  | sequence number      | index of a limit |   or   | BLOCK | until, on the own clock    |
/// +-------+----------------------+------------------+        +-------+----------------------------+
/// ```
///
/// The sequence number, one for each override that was ever set, makes every version of every record a different word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record(pub(crate) u64);

const KIND_SHIFT: u32 = 60;
const OVERRIDE: u64 = 1;
const REMOVING: u64 = 2;
const BLOCK: u64 = 3;
const SEQUENCE_SHIFT: u32 = 16;
const SEQUENCE_MASK: u64 = (1 << (KIND_SHIFT - SEQUENCE_SHIFT)) - 1;

impl Record {
    pub(crate) const NONE: Record = Record(0);

    pub(crate) fn of_override(limit: u16, sequence: u64) -> Self {
        Record((OVERRIDE << KIND_SHIFT) | ((sequence & SEQUENCE_MASK) << SEQUENCE_SHIFT) | u64::from(limit))
    }

    pub(crate) fn of_block(until: u64) -> Self {
        Record((BLOCK << KIND_SHIFT) | (until & ratelimit_model::time::MASK))
    }

    /// The same override on its way out.
    pub(crate) fn removing(self) -> Self {
        Record((REMOVING << KIND_SHIFT) | (self.0 & !(0xf << KIND_SHIFT)))
    }

    /// The limit of an override in force.
    #[inline]
    pub(crate) fn override_limit(self) -> Option<usize> {
        (self.0 >> KIND_SHIFT == OVERRIDE).then_some((self.0 & 0xffff) as usize)
    }

    /// The limit of an override in force or on its way out.
    pub(crate) fn any_limit(self) -> Option<usize> {
        matches!(self.0 >> KIND_SHIFT, OVERRIDE | REMOVING).then_some((self.0 & 0xffff) as usize)
    }

    /// Until when the client is blocked.
    pub(crate) fn blocked_until(self) -> Option<u64> {
        (self.0 >> KIND_SHIFT == BLOCK).then_some(self.0 & ratelimit_model::time::MASK)
    }
}

impl Numbers {
    #[inline(always)]
    fn load(&self) -> Gcra {
        // Acquire: pairs with the Release stores of `publish`. Who sees a number that is being written over it also sees,
        // when he looks again, that the generation has moved on.
        Gcra::from_words(std::array::from_fn(|i| {
            self.words[i].load(order(Site::LimitWords, Ordering::Acquire))
        }))
    }

    fn store(&self, gcra: &Gcra) {
        for (word, number) in self.words.iter().zip(gcra.to_words()) {
            // Release: pairs with the Acquire of `load`. Carries the generation that was stored before.
            word.store(number, order(Site::LimitStore, Ordering::Release));
        }
    }
}

impl LimitSlot {
    /// The generation and numbers in force now; the numbers may be torn (see [`Terms`]).
    #[inline(always)]
    pub(crate) fn load(&self) -> (u64, Gcra) {
        // Acquire: pairs with the Release of `publish`. Who sees a generation sees its numbers.
        let generation = self.generation.load(order(Site::LimitLoad, Ordering::Acquire));
        (generation, self.numbers[(generation & 3) as usize].load())
    }

    /// Whether `generation` is still the one in force, for one who has read a cell's word since.
    #[inline(always)]
    pub(crate) fn is(&self, generation: u64) -> bool {
        // Relaxed would do where the reads before are Acquire loads: a word charged under a later generation, or a number
        // of one, carries that generation to its reader.
        !rule(Rule::LimitAgain) || self.generation.load(order(Site::LimitAgain, Ordering::Relaxed)) == generation
    }

    /// The numbers of an earlier generation, given modulo 4; `None` if it is too long ago to be known.
    pub(crate) fn earlier(&self, generation: u64, modulo_4: u64) -> Option<Gcra> {
        match (generation.wrapping_sub(modulo_4)) & 3 {
            // Three before is also one ahead: the place that the next change writes to.
            3 => None,
            _ => Some(self.numbers[modulo_4 as usize].load()),
        }
    }

    /// Puts the next generation in force. One thread at a time.
    pub(crate) fn publish(&self, gcra: &Gcra) {
        // Relaxed: only changers write it, one at a time.
        let next = self.generation.load(Ordering::Relaxed) + 1;
        self.numbers[(next & 3) as usize].store(gcra);
        // Release: pairs with the Acquire of `load`. A reader that comes first decides under the old numbers.
        self.generation
            .store(next, order(Site::LimitPublish, Ordering::Release));
    }
}

impl Header {
    /// The numbers of an override's limit. They never change once a record points to them.
    #[inline]
    pub(crate) fn override_numbers(&self, index: usize) -> Gcra {
        // A record only carries indices that were taken; the remainder keeps a torn one in bounds.
        self.override_limits[index % self.override_limits.len()].load()
    }

    pub(crate) fn store_override_numbers(&self, index: usize, gcra: &Gcra) {
        self.override_limits[index].store(gcra);
    }
}

impl Table {
    #[inline(always)]
    pub(super) fn terms(&self, client: Fingerprint, limit: usize) -> Terms {
        let (generation, gcra) = self.header().limits[limit].load();
        let terms = Terms {
            gcra: self.cut_numbers(limit, self.key(client, limit)).unwrap_or(gcra),
            charged: Charged::generation(generation),
            generation,
            record: Record::NONE,
        };
        if limit == 0 && self.has_records() {
            self.terms_of_record(client, terms)
        } else {
            terms
        }
    }

    /// The terms of a request: its own, or else those of the table. A cell says that it was charged under the table's either way, so
    /// that what its state means under another limit is time, and nothing is translated.
    #[inline(always)]
    pub(super) fn terms_of(&self, client: Fingerprint, limit: usize, asked: &Asked<'_>) -> Terms {
        let terms = self.terms(client, limit);
        match asked.under {
            None => terms,
            Some(gcra) => Terms { gcra: *gcra, ..terms },
        }
    }

    #[cold]
    #[inline(never)]
    fn terms_of_record(&self, client: Fingerprint, base: Terms) -> Terms {
        let record = self.record(client);
        match record.override_limit() {
            Some(index) => Terms {
                gcra: self.header().override_numbers(index),
                charged: Charged::OVERRIDE,
                record,
                ..base
            },
            None => Terms { record, ..base },
        }
    }

    /// Whether terms still hold, for one who has read the cell's word since.
    #[inline(always)]
    pub(super) fn in_force(&self, terms: &Terms, client: Fingerprint, limit: usize) -> bool {
        if terms.record != Record::NONE && rule(Rule::RecordAgain) && self.record(client) != terms.record {
            return false;
        }
        self.header().limits[limit].is(terms.generation)
    }

    #[inline(always)]
    pub(super) fn detours(&self) -> u64 {
        // Acquire: who sees that there are records sees the record; who comes first decides under the limit for all.
        self.header()
            .hot
            .detours
            .load(order(Site::RecordsLoad, Ordering::Acquire))
    }

    /// Whether any client was ever given a limit of its own or blocked.
    #[inline(always)]
    pub(crate) fn has_records(&self) -> bool {
        self.detours() & DETOUR_RECORDS != 0
    }
}
