//! The word of a cell: one `u64` that says all about its state.
//!
//! ```text
//!  63    62     61..59   58..56    55..0
//! +----+------+--------+---------+-----------------------------------+
//! |LIVE| axis |  rule  | version | TAT, nanoseconds modulo 2^56      |
//! +----+------+--------+---------+-----------------------------------+
//! ```
//!
//! | LIVE | rule | state |
//! |---|---|---|
//! | 0 | 0 | FREE: no key. All-zero memory is FREE. A killed cell keeps its version. |
//! | 0 | 1..=5 | TENTATIVE: inserted, not yet known to be the key's only cell |
//! | 0 | 7 | CLAIM: one thread may write `k`; the TAT bits carry the mark of the claimer's process (see [`super::lives`]) |
//! | 1 | 1..=4 | LIVE, charged under generation `rule - 1` (modulo 4) of its limit |
//! | 1 | 5 | LIVE, charged under the client's own limit (an override) |
//! | 1 | 6, 7 | LIVE under the lease in slot 0 or 1 of the cell's pair, in clustered tables (see [`super::lease`]) |
//!
//! *axis* says whose time the TAT is: 0 the limiter's own clock, 1 times given by the caller.
//!
//! **Widths.** A TAT in nanoseconds is exact for every time a caller can give, and 56 bits put a cell's horizon at 1.14 years
//! to either side. Three bits of version suffice because the owner of a claim compares the key as well: to take another
//! cell for his own he would have to sleep through eight claims of one cell of which the last was by his own key. Words of
//! LIVE cells do not recur otherwise: a cell's TAT rises over its incarnations (see `Floor`), and a refund or a change of
//! limit leaves key, version and meaning as they were.

use ratelimit_model::time;

const LIVE: u64 = 1 << 63;
const AXIS_SHIFT: u32 = 62;
const RULE_SHIFT: u32 = 59;
const VERSION_SHIFT: u32 = 56;
const VERSION_MASK: u64 = 0b111 << VERSION_SHIFT;
const RULE_MASK: u64 = 0b111;

/// Under which limit a cell was charged: the rule bits of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charged(u64);

impl Charged {
    /// Under the client's own limit.
    pub(crate) const OVERRIDE: Charged = Charged(5);

    /// Under this generation of the limit.
    #[inline]
    pub(crate) const fn generation(generation: u64) -> Self {
        Charged((generation & 3) + 1)
    }

    /// Under the lease in a slot.
    #[inline]
    pub(crate) const fn lease(slot: usize) -> Self {
        Charged(FIRST_LEASE + (slot & 1) as u64)
    }

    /// The generation modulo 4, or `None` for an override or a lease.
    #[inline]
    pub(crate) const fn as_generation(self) -> Option<u64> {
        if self.0 <= 4 { Some(self.0 - 1) } else { None }
    }
}

const CLAIM_RULE: u64 = 7;
/// The two rules of leases begin here.
const FIRST_LEASE: u64 = 6;

/// Whose time a TAT is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Axis {
    /// The limiter's own clock.
    Own = 0,
    /// Times given by the caller.
    Given = 1,
}

/// What the word of a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Claim,
    Tentative,
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    #[inline]
    pub(crate) fn live(axis: Axis, charged: Charged, version: Word, tat: u64) -> Self {
        Word(LIVE | Self::body(axis, charged, version, tat))
    }

    #[inline]
    pub(crate) fn tentative(axis: Axis, charged: Charged, version: Word, tat: u64) -> Self {
        Word(Self::body(axis, charged, version, tat))
    }

    #[inline]
    fn body(axis: Axis, charged: Charged, version: Word, tat: u64) -> u64 {
        ((axis as u64) << AXIS_SHIFT) | (charged.0 << RULE_SHIFT) | (version.0 & VERSION_MASK) | (tat & time::MASK)
    }

    /// The claim of the cell whose word is `self`; the only transition that changes the version.
    pub(crate) fn claim(self, mark: u64, next_version: bool) -> Self {
        let step = if next_version { 1 << VERSION_SHIFT } else { 0 };
        Word((CLAIM_RULE << RULE_SHIFT) | ((self.0 + step) & VERSION_MASK) | (mark & time::MASK))
    }

    /// The TENTATIVE cell `self`, confirmed.
    pub(crate) fn confirmed(self) -> Self {
        Word(self.0 | LIVE)
    }

    /// The cell `self`, given up.
    pub(crate) fn killed(self) -> Self {
        Word(self.0 & VERSION_MASK)
    }

    #[inline]
    pub(crate) fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    #[inline]
    pub(crate) fn state(self) -> State {
        match (self.is_live(), (self.0 >> RULE_SHIFT) & RULE_MASK) {
            (true, _) => State::Live,
            (false, 0) => State::Free,
            (false, CLAIM_RULE) => State::Claim,
            (false, _) => State::Tentative,
        }
    }

    #[inline]
    pub(crate) fn tat(self) -> u64 {
        self.0 & time::MASK
    }

    #[inline]
    pub(crate) fn axis(self) -> Axis {
        if self.0 & (1 << AXIS_SHIFT) == 0 {
            Axis::Own
        } else {
            Axis::Given
        }
    }

    #[inline]
    pub(crate) fn charged(self) -> Charged {
        Charged((self.0 >> RULE_SHIFT) & RULE_MASK)
    }

    #[inline]
    pub(crate) fn same_version(self, other: Word) -> bool {
        (self.0 ^ other.0) & VERSION_MASK == 0
    }

    /// The low bits of the cell's tag.
    #[inline]
    pub(crate) fn version(self) -> u64 {
        (self.0 & VERSION_MASK) >> VERSION_SHIFT
    }

    /// The slot of the lease that is in force, if one is.
    #[inline]
    pub(crate) fn lease_slot(self) -> Option<usize> {
        let rule = (self.0 >> RULE_SHIFT) & RULE_MASK;
        (self.is_live() && rule >= FIRST_LEASE).then(|| (rule - FIRST_LEASE) as usize)
    }

    /// The LIVE cell `self` with another TAT, under the terms and on the axis that it is under: after a charge or a refund.
    #[inline]
    pub(crate) fn with_tat(self, tat: u64) -> Self {
        Word((self.0 & !time::MASK) | (tat & time::MASK))
    }

    /// Whether this word is LIVE, and was charged on this axis and under this limit, so that its TAT can be decided on as it
    /// stands.
    #[inline]
    pub(crate) fn is_under(self, axis: Axis, charged: Charged) -> bool {
        // Shifted down before `charged` is added: with a constant axis that is one addition to the generation.
        let head = (LIVE | (axis as u64) << AXIS_SHIFT) >> RULE_SHIFT;
        self.0 >> RULE_SHIFT == head | charged.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_zero_memory_is_free() {
        assert_eq!(Word(0).state(), State::Free);
    }

    #[test]
    fn a_word_gives_back_what_was_put_in() {
        let claimed = Word(0).claim(77, true);
        assert_eq!(claimed.state(), State::Claim);
        assert_eq!(claimed.tat(), 77);
        assert!(!claimed.same_version(Word(0)));
        for axis in [Axis::Own, Axis::Given] {
            for generation in 0..8 {
                let charged = Charged::generation(generation);
                let word = Word::tentative(axis, charged, claimed, time::MASK);
                assert_eq!(word.state(), State::Tentative);
                assert_eq!(word.tat(), time::MASK);
                let live = word.confirmed();
                assert_eq!(live, Word::live(axis, charged, claimed, time::MASK));
                assert_eq!(
                    (live.state(), live.axis(), live.charged()),
                    (State::Live, axis, charged)
                );
                assert_eq!(live.charged().as_generation(), Some(generation % 4));
                assert!(live.same_version(claimed) && live.is_under(axis, charged));
                assert!(!live.is_under(axis, Charged::OVERRIDE) && !word.is_under(axis, charged));
                assert!(!live.is_under(axis, Charged::generation(generation + 1)));
                assert_eq!(live.with_tat(7), Word::live(axis, charged, claimed, 7));
                assert_eq!(live.with_tat(u64::MAX), live, "only the TAT changes");
            }
        }
        assert_eq!(Charged::OVERRIDE.as_generation(), None);
        let killed = Word::tentative(Axis::Own, Charged::OVERRIDE, claimed, 5).killed();
        assert_eq!(killed.state(), State::Free);
        assert!(killed.same_version(claimed));
    }

    #[test]
    fn eight_claims_come_round() {
        let mut word = Word(0);
        for _ in 0..8 {
            word = word.claim(0, true);
        }
        assert!(word.same_version(Word(0)));
        assert_eq!(word.state(), State::Claim, "the version does not run into the rule");
    }
}
