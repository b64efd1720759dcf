//! The only place that chooses between the atomics of the standard library and loom's, and the switchboard for breaking
//! the protocol on purpose.
//!
//! Everything in `raw` names each atomic access by a [`Site`] and each rule of the protocol by a [`Rule`]. In a normal
//! build both are constants and cost nothing. Under `--cfg ratelimit_loom` a model may weaken one site or leave out one
//! rule, and must then fail: `docs/memory-ordering.md` has the table.

// What models name is public to them only, and to them by way of `face`.
#![allow(unreachable_pub)]

#[cfg(ratelimit_loom)]
pub use loom::sync::atomic::{AtomicU64, fence};
#[cfg(not(ratelimit_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, fence};

pub(crate) use std::sync::atomic::Ordering;

/// Tells the processor, or loom, that this thread waits for another.
pub(crate) fn spin() {
    #[cfg(ratelimit_loom)]
    loom::thread::yield_now();
    #[cfg(not(ratelimit_loom))]
    std::hint::spin_loop();
}

/// Waits for another thread or process, longer from turn to turn: up to a millisecond.
pub(crate) fn pause(turns: u32) {
    #[cfg(ratelimit_loom)]
    {
        let _ = turns;
        loom::thread::yield_now();
    }
    #[cfg(not(ratelimit_loom))]
    match turns {
        0..64 => std::hint::spin_loop(),
        64..128 => std::thread::yield_now(),
        _ => std::thread::sleep(std::time::Duration::from_micros(u64::from(turns).min(1_000))),
    }
}

/// An atomic access of the protocol. `docs/memory-ordering.md` gives each its order and its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// `k` of every candidate cell, when looking for a key.
    KeyScan,
    /// `w` of a cell whose `k` matched.
    WordLoad,
    /// `k` once more, after `w`.
    KeyAgain,
    /// `w` once more, after a denial.
    DenialAgain,
    /// The admission: LIVE to LIVE.
    Charge,
    /// `w` of a cell that might be claimed.
    ClaimScan,
    /// FREE or expired to CLAIM.
    Claim,
    /// The claimer's store of `k`.
    KeyStore,
    /// CLAIM to TENTATIVE.
    Publish,
    /// The fence of owner and helper before they look for the key's other cells.
    SettleFence,
    /// TENTATIVE to FREE.
    Kill,
    /// TENTATIVE to LIVE.
    Confirm,
    /// The owner's last look at his cell.
    Outcome,
    /// The word `top`.
    TopLoad,
    /// One more tier in `top`.
    TopOpen,
    /// The floor, by an insert.
    FloorLoad,
    /// The floor, by a recycler.
    FloorRaise,
    /// The flag in `top` that says that collective cells are in use.
    CollectiveFlag,
    /// A collective cell, by the one who settles.
    CollectiveLoad,
    /// The charge of a collective cell.
    CollectiveCharge,
    /// The fence between that charge and the second look.
    CollectiveFence,
    /// The generation of a limit.
    LimitLoad,
    /// The numbers of a limit.
    LimitWords,
    /// The generation once more, after the cell's word.
    LimitAgain,
    /// The numbers of a limit's next generation.
    LimitStore,
    /// The next generation itself.
    LimitPublish,
    /// A cell's word brought under another limit.
    Translate,
    /// A refund, a reset, an undone charge.
    Refund,
    /// The count of overrides.
    RecordsLoad,
    /// `k` and `w` of an override.
    RecordLoad,
    /// `k` and `w` of an override, by the one writer.
    RecordStore,
    /// The fence between the word that ends an override and the search for a cell that was charged under it.
    RemovalFence,
    /// The claim of a dead process to FREE.
    ClaimFree,
    /// The word that gives the right to administer, taken.
    AdminTake,
    /// The same, given back.
    AdminRelease,
    /// `u` of a clustered cell, by deciders and by the one who drains.
    UseLoad,
    /// Use counted before it is charged.
    Reserve,
    /// The same taken back.
    Unreserve,
    /// The flag that says that a request was denied.
    Want,
    /// `u` of a cell that might be claimed.
    ClaimUse,
    /// The claimer's swap of `u`.
    Void,
    /// A bit that says where something is to be reported.
    Mark,
    /// All bits of a word taken.
    MarkTake,
    /// `k` of a cell that is drained.
    DrainKey,
    /// Use taken out to be reported, or confirmed.
    Drain,
    /// The index of a cell's pair, before a first lease.
    PairStore,
    /// The index of a cell's pair.
    PairLoad,
    /// A lease that is not in force yet.
    LeaseStore,
    /// The lease that a word names.
    LeaseLoad,
    /// `w` once more, after the lease that it names.
    LeaseAgain,
    /// A lease put in force, or ended.
    Switch,
}

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Owner and helper fence before they look for the key's other cells.
    SettleFence,
    /// A helper fences for himself and does not settle on what he read before.
    HelperFence,
    /// `top` is read again after the fence.
    TopAgain,
    /// The lower TENTATIVE kills the higher before it is confirmed.
    KillBeforeConfirm,
    /// A claim adds 1 to the version.
    VersionOnClaim,
    /// The owner compares version and key, not only LIVE.
    OwnerComparesVersion,
    /// The owner accepts a helper's confirmation.
    OwnerAcceptsHelp,
    /// An expired LIVE cell of the own key counts in the second scan.
    ExpiredLiveCounts,
    /// `k` is read again after `w`.
    KeyAgain,
    /// Time is held up by the floor where cells are recycled.
    Floor,
    /// Who settles looks at the floor again, after the cells that his key may have lost.
    FloorAgain,
    /// After the charge of a collective cell one looks again for an own cell.
    CollectiveSecondLook,
    /// Who settles looks at the collective cell after his fence.
    CollectiveBeforeConfirm,
    /// A denial reads `w` again.
    DenialAgain,
    /// Of two TENTATIVE the lower cell number wins, and not both withdraw.
    LowerWins,
    /// The generation of the limit is read again after the cell's word.
    LimitAgain,
    /// A cell's word says under which generation of the limit it was charged.
    GenerationInWord,
    /// The record of an override is read again after the cell's word.
    RecordAgain,
    /// Removing an override brings the cell under the base limit before the record goes.
    RemovalInSteps,
    /// Removing an override also changes the word of a cell that was not charged under it.
    RemovalMovesWord,
    /// Who settles a cell that was charged under an override looks at the record after his fence.
    RecordBeforeConfirm,
    /// A claim that is in the way is freed once its process is dead.
    DeadClaims,
    /// But not before: the process has to be proven dead.
    ClaimProof,
    /// The right to administer is taken from a process only when that is proven dead.
    AdminProof,
    /// Who takes it over finishes or undoes what was left half done.
    RepairOnTakeover,
    /// Use is counted only under the tag of the incarnation that it is charged to.
    CountUnderTag,
    /// A tag is wider than a version.
    WideTag,
    /// Use is counted before it is charged.
    CountBeforeCharge,
    /// Who finds a cell to claim asks whether all its use is reported.
    ClaimerAsksField,
    /// And asks that after he has read the word that he claims.
    FieldAfterWord,
    /// The claimer begins the next tag before he writes his key.
    VoidBeforeKey,
    /// He counts his own request after he has written his key.
    KeyBeforeCount,
    /// Who drains reads the key before he takes the use out.
    KeyBeforeDrain,
    /// What was counted in vain is taken back only under its tag.
    UndoUnderTag,
    /// The bit that says where to look is set after the counting.
    DirtyAfterCount,
    /// Units of an overdraft stay in the field until they are confirmed.
    FlightStaysCounted,
    /// A lease is written before the word that puts it in force.
    LeaseBeforeWord,
    /// A lease is written to the slot that is out of force.
    OtherSlot,
    /// A switch raises the TAT.
    SwitchRaises,
    /// A refund under a lease stops at the TAT that the lease began with.
    RefundStopsAtStart,
    /// A key that was under a lease has its word not lowered afterwards.
    LeasedStays,
    /// What a switch gives back it gives back once it is in force.
    ReturnAfterSwitch,
    /// A pair is free only when the word no longer names it.
    FreeAfterSwitch,
    /// A cell under a lease is not claimable.
    LeasedIsTaken,
    /// A decision under a lease reads the word again after the lease.
    LeaseAgain,
    /// Who switches reads how much is counted after he has read the word that he swaps.
    SplitAfterWord,
}

#[cfg(not(ratelimit_loom))]
#[inline(always)]
pub(crate) const fn order(_: Site, order: Ordering) -> Ordering {
    order
}

#[cfg(not(ratelimit_loom))]
#[inline(always)]
pub(crate) const fn rule(_: Rule) -> bool {
    true
}

#[cfg(ratelimit_loom)]
pub use mutant::{Mutant, order, rule, with_mutant};

#[cfg(ratelimit_loom)]
mod mutant {
    use super::{Ordering, Rule, Site};
    use std::cell::Cell;

    /// One thing to break.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mutant {
        /// This access gets this order, if it is weaker than its own.
        Weaken(Site, Ordering),
        /// This rule is left out.
        Without(Rule),
    }

    // loom runs all threads of a model as coroutines of the test's own thread, so this is seen by all of them and by no
    // other test.
    thread_local! {
        static MUTANT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Runs `body` with one thing broken.
    pub fn with_mutant<R>(mutant: Option<Mutant>, body: impl FnOnce() -> R) -> R {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                MUTANT.set(None);
            }
        }
        let _restore = Restore;
        MUTANT.set(mutant);
        body()
    }

    /// The order of an access.
    pub fn order(site: Site, order: Ordering) -> Ordering {
        match MUTANT.get() {
            Some(Mutant::Weaken(broken, weak)) if broken == site => weak,
            _ => order,
        }
    }

    /// Whether a rule is kept.
    pub fn rule(rule: Rule) -> bool {
        MUTANT.get() != Some(Mutant::Without(rule))
    }
}
