//! Breaks one thing of the protocol at a time: a model must then fail, or it is said here why none does.

use crate::harness::*;
use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::Ordering;

/// All models of all files.
pub fn models() -> impl Iterator<Item = &'static Model> {
    [
        crate::last_token::MODELS,
        crate::help::MODELS,
        crate::insert::MODELS,
        crate::recycle::MODELS,
        crate::tiers::MODELS,
        crate::stopped::MODELS,
        crate::dead::MODELS,
        crate::denial::MODELS,
        crate::backwards::MODELS,
        crate::collective::MODELS,
        crate::refund::MODELS,
        crate::limit_change::MODELS,
        crate::overrides::MODELS,
        crate::counted::MODELS,
        crate::lease::MODELS,
    ]
    .into_iter()
    .flatten()
}

/// Lists every variant of an enum. Without a wildcard in the match: who adds a variant has to add it here.
macro_rules! every {
    ($name:ident: $type:ident [$($variant:ident),* $(,)?]) => {
        pub const $name: &[$type] = &[$($type::$variant),*];
        const _: fn($type) = |variant| match variant {
            $($type::$variant => (),)*
        };
    };
}

every!(RULES: Rule [
    SettleFence, HelperFence, TopAgain, KillBeforeConfirm, VersionOnClaim, OwnerComparesVersion, OwnerAcceptsHelp,
    ExpiredLiveCounts, KeyAgain, Floor, FloorAgain, CollectiveSecondLook, CollectiveBeforeConfirm, DenialAgain, LowerWins,
    LimitAgain, GenerationInWord, RecordAgain, RemovalInSteps, RemovalMovesWord, RecordBeforeConfirm, DeadClaims, ClaimProof,
    AdminProof, RepairOnTakeover, CountUnderTag, WideTag, CountBeforeCharge, ClaimerAsksField, FieldAfterWord, VoidBeforeKey,
    KeyBeforeCount, KeyBeforeDrain, UndoUnderTag, DirtyAfterCount, FlightStaysCounted, LeaseBeforeWord, OtherSlot, SwitchRaises,
    RefundStopsAtStart, LeasedStays, ReturnAfterSwitch, FreeAfterSwitch, LeasedIsTaken, LeaseAgain,
    SplitAfterWord,
]);

every!(SITES: Site [
    KeyScan, WordLoad, KeyAgain, DenialAgain, Charge, ClaimScan, Claim, KeyStore, Publish, SettleFence, Kill, Confirm,
    Outcome, TopLoad, TopOpen, FloorLoad, FloorRaise, CollectiveFlag, CollectiveLoad, CollectiveCharge, CollectiveFence,
    LimitLoad, LimitWords, LimitAgain, LimitStore, LimitPublish, Translate, Refund, RecordsLoad, RecordLoad, RecordStore,
    RemovalFence, ClaimFree, AdminTake, AdminRelease, UseLoad, Reserve, Unreserve, Want, ClaimUse, Void, Mark, MarkTake, DrainKey,
    Drain, PairStore, PairLoad, LeaseStore, LeaseLoad, LeaseAgain, Switch,
]);

/// The order of a site in the code.
pub fn order_of(site: Site) -> Ordering {
    match site {
        Site::KeyScan
        | Site::WordLoad
        | Site::KeyAgain
        | Site::DenialAgain
        | Site::ClaimScan
        | Site::Outcome
        | Site::TopLoad
        | Site::FloorLoad
        | Site::CollectiveLoad
        | Site::LimitLoad
        | Site::LimitWords
        | Site::RecordsLoad
        | Site::RecordLoad
        | Site::AdminTake
        | Site::UseLoad
        | Site::ClaimUse
        | Site::MarkTake
        | Site::DrainKey
        | Site::PairLoad
        | Site::LeaseLoad
        | Site::LeaseAgain => Acquire,
        Site::KeyStore
        | Site::LimitStore
        | Site::LimitPublish
        | Site::RecordStore
        | Site::AdminRelease
        | Site::Mark
        | Site::PairStore
        | Site::LeaseStore => Release,
        Site::Charge
        | Site::Claim
        | Site::Publish
        | Site::Kill
        | Site::ClaimFree
        | Site::Confirm
        | Site::TopOpen
        | Site::FloorRaise
        | Site::CollectiveFlag
        | Site::CollectiveCharge
        | Site::Translate
        | Site::Refund
        | Site::Reserve
        | Site::Unreserve
        | Site::Want
        | Site::Void
        | Site::Drain
        | Site::Switch => AcqRel,
        Site::SettleFence | Site::CollectiveFence | Site::RemovalFence => SeqCst,
        Site::LimitAgain => Relaxed,
    }
}

/// The orders below one; a fence cannot be relaxed.
pub fn weaker(order: Ordering) -> &'static [Ordering] {
    match order {
        SeqCst => &[AcqRel, Acquire, Release],
        AcqRel => &[Acquire, Release, Relaxed],
        Acquire | Release => &[Relaxed],
        _ => &[],
    }
}

/// Every mutant.
fn mutants() -> Vec<Mutant> {
    let rules = RULES.iter().map(|&rule| Mutant::Without(rule));
    let sites = SITES.iter().flat_map(|&site| {
        weaker(order_of(site))
            .iter()
            .map(move |&weak| Mutant::Weaken(site, weak))
    });
    rules.chain(sites).collect()
}

/// What is known of a mutant.
#[derive(PartialEq, Eq)]
pub enum Verdict {
    /// This model fails within so many thousand executions of its quick run.
    Fails(&'static str, usize),
    /// No model fails.
    Holds(&'static str),
}
use Verdict::{Fails, Holds};

const BY_CAS: &str = "the compare-and-swap succeeds only on the word that an Acquire load has just read";
const BY_SEQUENCE: &str =
    "a compare-and-swap of any order carries on the release sequence of the cell's Publish or Translate";
const BY_FENCE: &str = "only its value matters, and the SeqCst fences on both sides see to that";
const BY_USE: &str = "a compare-and-swap of any order carries on the release sequence of Reserve or Void";
const LEASE_AGAIN: &str =
    "a charge fails on the word and a denial reads it again; but numbers of two leases do not get into the arithmetic";
const BY_CLAIM: &str = "whoever has to see the floor sees the claim that followed it, and Claim releases";

/// No wildcard: who adds a rule has to say which model it needs.
fn without(rule: Rule) -> Verdict {
    match rule {
        Rule::SettleFence => Fails("insert::free_cells", 5),
        Rule::HelperFence => Fails("stopped::beside_after_publish", 5),
        Rule::TopAgain => Fails("tiers::old_top", 10),
        Rule::KillBeforeConfirm => Fails("insert::free_cells", 5),
        Rule::VersionOnClaim => Fails("recycle::own_again", 20),
        Rule::OwnerComparesVersion => Fails("recycle::own_again", 20),
        Rule::OwnerAcceptsHelp => Fails("help::one_cell", 5),
        Rule::ExpiredLiveCounts => Fails("insert::free_cells", 5),
        Rule::KeyAgain => Fails("recycle::stalled_updater", 5),
        Rule::Floor => Fails("backwards::over_a_recycle", 10),
        Rule::FloorAgain => Fails("backwards::sleeping_inserter", 5),
        Rule::CollectiveSecondLook => Fails("collective::against_own_cell", 10),
        Rule::CollectiveBeforeConfirm => Fails("collective::late_helper", 5),
        Rule::DenialAgain => Holds("a denial is right at the time of the first reading, which lies within the request"),
        Rule::LowerWins => Holds("safe without it; but two threads may then give way to each other for ever"),
        Rule::LimitAgain => Fails("limit_change::share_is_kept", 5),
        Rule::GenerationInWord => Fails("limit_change::share_is_kept", 5),
        Rule::RecordAgain => Fails("overrides::clear", 5),
        Rule::RemovalInSteps => Fails("overrides::clear", 5),
        Rule::RemovalMovesWord => Fails("overrides::set_and_clear", 5),
        Rule::RecordBeforeConfirm => Fails("overrides::clear_against_insert", 5),
        Rule::DeadClaims => Fails("dead::claim", 5),
        Rule::ClaimProof => Fails("dead::claim_of_the_living", 20),
        Rule::AdminProof => Fails("dead::administrator_lives", 5),
        Rule::RepairOnTakeover => Fails("dead::administrator", 5),
        Rule::CountUnderTag => Fails("counted::stalled_updater", 20),
        Rule::WideTag => Fails("counted::twice_recycled", 50),
        Rule::CountBeforeCharge => Fails("counted::stalled_updater", 20),
        Rule::ClaimerAsksField => Fails("counted::drain_against_claim", 5),
        Rule::FieldAfterWord => Fails("counted::stalled_updater", 20),
        Rule::VoidBeforeKey => Fails("counted::three", 100),
        Rule::KeyBeforeCount => Fails("counted::claim_against_drain", 20),
        Rule::KeyBeforeDrain => Fails("counted::drain_against_claim", 20),
        Rule::UndoUnderTag => Fails("counted::stalled_updater", 20),
        Rule::DirtyAfterCount => Fails("counted::updater_against_drain", 5),
        Rule::FlightStaysCounted => Fails("counted::overdraft", 5),
        Rule::LeaseBeforeWord => Fails("lease::switch", 20),
        Rule::OtherSlot => Fails("lease::switch", 20),
        Rule::SwitchRaises => Fails("lease::there_and_back", 20),
        Rule::RefundStopsAtStart => Fails("lease::refund", 20),
        Rule::LeasedStays => Fails("lease::refund_after", 20),
        Rule::ReturnAfterSwitch => Fails("lease::switch", 20),
        Rule::FreeAfterSwitch => Fails("lease::end", 20),
        Rule::LeasedIsTaken => Fails("lease::against_claim", 5),
        Rule::LeaseAgain => Holds(LEASE_AGAIN),
        Rule::SplitAfterWord => Fails("lease::told_apart", 20),
    }
}

/// No wildcard over sites: who adds one has to say which model needs its order.
fn weakened(site: Site, weak: Ordering) -> Verdict {
    match site {
        Site::KeyScan => Fails("backwards::unseen_cell", 20),
        Site::WordLoad => Fails("recycle::stalled_updater", 5),
        Site::KeyAgain => Holds("a changed key is read again, with Acquire, by whoever then settles"),
        Site::DenialAgain => Holds("as the rule of the same name"),
        Site::Charge if weak == Release => Holds(BY_CAS),
        Site::Charge => Holds(BY_SEQUENCE),
        Site::ClaimScan => Holds("KeyScan and WordLoad of the same cell come before or after it"),
        Site::Claim if weak == Release => Holds(BY_CAS),
        Site::Claim => Fails("backwards::over_a_recycle", 10),
        Site::KeyStore => Fails("stopped::expired", 5),
        Site::Publish if weak == Release => Holds(BY_CAS),
        Site::Publish => Fails("stopped::expired", 5),
        Site::SettleFence => Fails("insert::free_cells", 5),
        Site::Kill if weak == Release => Holds(BY_CAS),
        Site::Kill => Holds("nobody decides by a cell that is FREE"),
        Site::Confirm if weak == Release => Holds(BY_CAS),
        Site::Confirm => Holds(BY_SEQUENCE),
        Site::Outcome => Holds("matters only after eight claims of the cell between two steps of its owner"),
        Site::TopLoad => Holds(BY_FENCE),
        Site::TopOpen => Holds(BY_FENCE),
        Site::FloorLoad => Holds(BY_CLAIM),
        Site::FloorRaise => Holds(BY_CLAIM),
        Site::CollectiveFlag => Holds(BY_FENCE),
        Site::CollectiveLoad => Holds(BY_FENCE),
        Site::CollectiveCharge => Holds(BY_FENCE),
        Site::CollectiveFence => Fails("collective::against_own_cell", 10),
        Site::LimitLoad => Fails("limit_change::share_is_kept", 5),
        Site::LimitWords => Fails("limit_change::torn_at_insert", 60),
        Site::LimitAgain => Holds("it is Relaxed"),
        Site::LimitStore => Fails("limit_change::torn_at_insert", 60),
        Site::LimitPublish => Fails("limit_change::share_is_kept", 5),
        Site::Translate if weak == Release => Holds(BY_CAS),
        Site::Translate => Fails("limit_change::share_is_kept", 5),
        Site::Refund if weak == Release => Holds(BY_CAS),
        Site::Refund => Holds(BY_SEQUENCE),
        Site::RecordsLoad => Holds("the record itself is read with Acquire; a thread that misses it comes before it"),
        Site::RecordLoad => Fails("overrides::replace", 5),
        Site::RecordStore => Fails("overrides::set", 5),
        Site::RemovalFence => Fails("overrides::clear_against_insert", 5),
        Site::ClaimFree if weak == Release => Holds(BY_CAS),
        Site::ClaimFree => Holds("nobody decides by a cell that is FREE"),
        Site::AdminTake => Fails("dead::administrators", 5),
        Site::AdminRelease => Fails("dead::administrators", 5),
        Site::UseLoad => Fails("counted::three", 10),
        Site::Reserve if weak == Release => Holds(BY_CAS),
        Site::Reserve => Fails("counted::three", 10),
        Site::Unreserve if weak == Release => Holds(BY_CAS),
        Site::Unreserve => Holds(BY_USE),
        Site::Want if weak == Release => Holds(BY_CAS),
        Site::Want => Holds(BY_USE),
        Site::ClaimUse => Holds(
            "the word that is read before carries all that was counted for it, and the claim fails on a later one",
        ),
        Site::Void if weak == Release => Holds("only its value matters: what comes back can never be charged"),
        Site::Void => Holds("KeyStore, which follows it, releases it: who reads the new key sees the new tag"),
        Site::Mark => Fails("counted::stalled_updater", 5),
        Site::MarkTake => Fails("counted::stalled_updater", 5),
        Site::DrainKey => Holds(
            "a key that is read before the swap is not one whose claimer came after it: Drain releases, and Void acquires",
        ),
        Site::Drain if weak == Release => Holds(BY_CAS),
        Site::Drain => Holds("DrainKey is Acquire: who has read a new key fails on the old tag"),
        Site::PairStore => Holds("Switch releases it with the lease"),
        Site::PairLoad => {
            Holds("the word that named the slot was read with Acquire, and no pair is named by two cells at once")
        }
        Site::LeaseStore => Fails("lease::against_denial", 10),
        Site::LeaseLoad => Fails("lease::against_denial", 10),
        Site::LeaseAgain => Holds(LEASE_AGAIN),
        Site::Switch if weak == Release => Holds(BY_CAS),
        Site::Switch => Fails("lease::switch", 5),
    }
}

pub fn verdict(mutant: Mutant) -> Verdict {
    match mutant {
        Mutant::Without(rule) => without(rule),
        Mutant::Weaken(site, weak) => weakened(site, weak),
    }
}

/// Explores the model of this name, with a mutant, as far as its verdict says.
pub fn catch(mutant: Mutant, name: &str, thousands: usize) -> Outcome {
    let model = models()
        .find(|model| model.name.ends_with(name))
        .unwrap_or_else(|| panic!("no model is called {name}"));
    let bound = Bound {
        thousands,
        ..model.quick
    };
    with_mutant(Some(mutant), || explore(model.run, bound))
}

/// Every mutant that a model is said to catch is caught by it. `MUTANT` chooses by a part of the name.
#[test]
fn what_is_needed_is_needed() {
    let mut missed = Vec::new();
    let wanted = std::env::var("MUTANT").unwrap_or_default();
    let chosen = |mutant: &Mutant| wanted.split(',').any(|part| format!("{mutant:?}").contains(part));
    for mutant in mutants().into_iter().filter(chosen) {
        let Fails(name, thousands) = verdict(mutant) else {
            continue;
        };
        let outcome = catch(mutant, name, thousands);
        println!(
            "| {mutant:?} | {name} | {} | {:.2} | {:?} |",
            outcome.executions,
            outcome.time.as_secs_f64(),
            outcome.end
        );
        if !matches!(outcome.end, End::Violated(_)) {
            missed.push(format!("{mutant:?} by {name}: {:?}", outcome.end));
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

/// Every mutant that no model is said to catch is caught by none, as far as the quick runs go. Only in full runs.
#[test]
fn what_is_not_needed_is_not_needed() {
    if !is_full() {
        println!("only with RATELIMIT_LOOM=full");
        return;
    }
    let mut caught = Vec::new();
    for mutant in mutants() {
        let Holds(why) = verdict(mutant) else {
            continue;
        };
        let mut executions = 0;
        for model in models() {
            let outcome = with_mutant(Some(mutant), || explore(model.run, model.quick));
            executions += outcome.executions;
            if matches!(outcome.end, End::Violated(_) | End::Broken(_)) {
                caught.push(format!("{mutant:?} by {}: {:?}", model.name, outcome.end));
            }
        }
        println!("| {mutant:?} | none | {executions} | {why} |");
    }
    assert!(caught.is_empty(), "caught after all: {caught:#?}");
}

/// Says which model fails first for each mutant, and when: to fill in the table. `MUTANT` and `MODEL` choose by a part of the
/// name, `THOUSANDS` bounds the executions of a model.
#[test]
#[ignore = "takes hours"]
fn search() {
    let wanted = |name: &str, value: &str| std::env::var(name).map_or(true, |part| value.contains(&part));
    let thousands = std::env::var("THOUSANDS").map_or(20, |value| value.parse().expect("a number"));
    for mutant in mutants() {
        let name = format!("{mutant:?}");
        if !wanted("MUTANT", &name) {
            continue;
        }
        let mut found = Vec::new();
        for model in models().filter(|model| wanted("MODEL", model.name)) {
            let bound = Bound {
                thousands,
                ..model.quick
            };
            let outcome = with_mutant(Some(mutant), || explore(model.run, bound));
            if let End::Violated(text) | End::Broken(text) = &outcome.end {
                found.push(format!(
                    "{} {} {:.1}s {text}",
                    model.name,
                    outcome.executions,
                    outcome.time.as_secs_f64()
                ));
                if found.len() == 3 {
                    break;
                }
            }
        }
        println!("@ {name}: {found:#?}");
    }
}
