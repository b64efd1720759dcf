//! A look at every cell: whether the table is in order. Work in proportion to its size, for tests and for people who look.

use std::collections::HashSet;

use ratelimit_model::time;

use super::asked::Asked;
use super::header::TOP_TIERS;
use super::line::CELLS;
use super::table::Table;
use super::word::{Charged, State, Word};
use crate::sync::Ordering;

/// The most faults that are written out.
const SHOWN: usize = 20;

/// What a look at every cell says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Cells looked at.
    pub cells: u64,
    /// Cells with debt.
    pub live: u64,
    /// Cells whose debt is over: as good as free.
    pub expired: u64,
    /// Cells of inserts that are under way, or whose inserter died: the next request of the key finishes them.
    pub tentative: u64,
    /// Cells that living processes claim: inserts under way.
    pub claimed: u64,
    /// Cells that dead processes claimed: freed when a key needs them.
    pub claimed_by_the_dead: u64,
    /// How much debt there is: cells by the number of binary digits of their backlog in microseconds.
    pub backlog_log2_us: Vec<u64>,
    /// What must not be. While others decide, a fault may be a change seen half way; in a table at rest it is an error.
    pub faults: u64,
    /// The first of them, in words.
    pub shown: Vec<String>,
}

impl Audit {
    fn fault(&mut self, text: impl FnOnce() -> String) {
        self.faults += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(text());
        }
    }
}

impl Table {
    /// Looks at every cell of every open tier. `is_dead` says whether the process behind a mark is gone.
    pub(crate) fn audit(&self, limits: usize, asked: &Asked<'_>, is_dead: impl Fn(u64) -> bool) -> Audit {
        let mut audit = Audit {
            backlog_log2_us: vec![0; 56],
            ..Audit::default()
        };
        let mut keys = HashSet::new();
        let open = (self.top() & TOP_TIERS) as usize;
        if open > self.cells.count {
            audit.fault(|| format!("{open} tiers are open of {}", self.cells.count));
        }
        for tier in &self.cells.tiers[..open.min(self.cells.count)] {
            for index in tier.first..tier.first + tier.lines {
                let line = self.memory.line(index);
                for i in 0..CELLS {
                    audit.cells += 1;
                    let word = Word(line.w[i].load(Ordering::Acquire));
                    let key = line.k[i].load(Ordering::Acquire);
                    let here = || format!("cell {i} of line {index} (key {key:016x}, word {:016x})", word.0);
                    match word.state() {
                        State::Free => {}
                        State::Claim if is_dead(word.tat()) => audit.claimed_by_the_dead += 1,
                        State::Claim => audit.claimed += 1,
                        State::Tentative | State::Live => {
                            if key == 0 || !tier.candidates(key).contains(&index) {
                                audit.fault(|| format!("{} is not where its key belongs", here()));
                            }
                            let leased = word.lease_slot().is_some() && self.side().is_some();
                            let known = word.charged() == Charged::OVERRIDE || word.charged().as_generation().is_some();
                            let known = known || leased;
                            if !known {
                                audit.fault(|| format!("{} was charged under no known rule", here()));
                            }
                            if word.state() == State::Tentative {
                                audit.tentative += 1;
                                continue;
                            }
                            // Also of expired cells a key has but one: who finds one charges it.
                            if !keys.insert(key) {
                                audit.fault(|| format!("{} is the second of its key", here()));
                            }
                            match time::ahead(word.tat(), self.now_on(word.axis(), asked, word.tat())) {
                                0 => audit.expired += 1,
                                backlog => {
                                    audit.live += 1;
                                    let digits = 64 - (backlog / 1_000).leading_zeros();
                                    audit.backlog_log2_us[digits.min(55) as usize] += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
        for (index, limit) in self.header().limits.iter().enumerate().take(limits) {
            let (generation, gcra) = limit.load();
            if generation == 0 || gcra.burst() == 0 {
                audit.fault(|| format!("limit {index} has no numbers"));
            }
        }
        audit
    }

    /// The same, for one who is on the table.
    pub(crate) fn audit_own(&self, limits: usize, asked: &Asked<'_>) -> Audit {
        self.audit(limits, asked, |mark| self.lives.is_dead(mark))
    }
}
