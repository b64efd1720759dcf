//! How full a table is, from a sample: counting all cells would be work in proportion to the table.

use ratelimit_model::time;

use super::asked::Asked;
use super::header::TOP_TIERS;
use super::line::{CELLS, Line};
use super::table::Table;
use super::word::{State, Word};
use crate::sync::Ordering;

/// Lines that are looked at in each tier, at most.
const SAMPLE: u64 = 2_048;

/// What a sample of the table says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survey {
    /// Tiers that are open.
    pub tiers: usize,
    /// Cells in them.
    pub cells: u64,
    /// Cells in all tiers, open or not: the bound on the table.
    pub cells_at_most: u64,
    /// Estimated clients with debt. Exact while a tier has no more than 2,048 lines.
    pub live: u64,
    /// Bytes of the open tiers. Those never touched take no memory.
    pub bytes: u64,
}

impl Table {
    /// Looks at up to 2,048 lines of each tier, evenly spread.
    pub(crate) fn survey(&self, asked: &Asked<'_>) -> Survey {
        let open = (self.top() & TOP_TIERS) as usize;
        let mut survey = Survey {
            tiers: open,
            cells_at_most: self.cells.total_lines() * CELLS as u64,
            ..Survey::default()
        };
        for tier in &self.cells.tiers[..open] {
            let looked_at = tier.lines.min(SAMPLE);
            let live: u64 = (0..looked_at)
                .map(|i| tier.first + (u128::from(i) * u128::from(tier.lines) / u128::from(looked_at)) as u64)
                .map(|line| self.live_in(self.memory.line(line), asked))
                .sum();
            survey.live += (u128::from(live) * u128::from(tier.lines) / u128::from(looked_at)) as u64;
            survey.cells += tier.lines * CELLS as u64;
            survey.bytes += tier.lines * size_of::<Line>() as u64;
        }
        survey
    }

    fn live_in(&self, line: &Line, asked: &Asked<'_>) -> u64 {
        let live = line.w.iter().filter(|w| {
            // Relaxed: an estimate.
            let word = Word(w.load(Ordering::Relaxed));
            word.state() == State::Live && time::ahead(word.tat(), self.now_on(word.axis(), asked, word.tat())) > 0
        });
        live.count() as u64
    }
}
