//! The tables of `docs/memory-ordering.md`: written from the verdicts in `mutants`, and compared with them.
//!
//! Numbers of executions change with every access that is added to the table, and are left out of the comparison, but for
//! their bound.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::harness::*;
use crate::mutants::{RULES, SITES, Verdict, catch, models, order_of, verdict, weaker};
use Verdict::{Fails, Holds};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/memory-ordering.md");
const HOW: &str = "RATELIMIT_LOOM=full RUSTFLAGS=\"--cfg ratelimit_loom\" CARGO_TARGET_DIR=target/loom cargo test --release \
                   -p ratelimit-loom-tests -- --ignored write_the_document";

/// What a rule says. No wildcard: who adds a rule has to say it in words.
fn says(rule: Rule) -> &'static str {
    match rule {
        Rule::SettleFence => "owner and helper fence before they look for other cells of the key",
        Rule::HelperFence => "a helper fences for himself",
        Rule::TopAgain => "`top` is read again after the fence",
        Rule::KillBeforeConfirm => "the lower TENTATIVE kills the higher before it is confirmed",
        Rule::VersionOnClaim => "a claim adds 1 to the version",
        Rule::OwnerComparesVersion => "the owner compares version and key, not only LIVE",
        Rule::OwnerAcceptsHelp => "the owner accepts a confirmation by a helper",
        Rule::ExpiredLiveCounts => "an expired LIVE cell of the own key counts in the second scan",
        Rule::KeyAgain => "`k` is read again after `w`",
        Rule::Floor => "time is held up by the floor where cells are recycled",
        Rule::FloorAgain => "who settles looks at the floor again, after his fence",
        Rule::CollectiveSecondLook => "who charged a collective cell looks again for an own cell",
        Rule::CollectiveBeforeConfirm => "who settles looks at the collective cell after his fence",
        Rule::DenialAgain => "a denial reads `w` again",
        Rule::LowerWins => "of two TENTATIVE the lower cell number stays, and not both give way",
        Rule::LimitAgain => "the generation is read again after the cell's word",
        Rule::GenerationInWord => "a word carries the generation of its limit",
        Rule::RecordAgain => "the record of an override is read again after the cell's word",
        Rule::RemovalInSteps => "removing an override brings the cell under the limit for all before the record goes",
        Rule::RemovalMovesWord => "removing an override also changes a word that was not charged under it",
        Rule::RecordBeforeConfirm => "who settles a cell under an override looks at the record after his fence",
        Rule::DeadClaims => "a claim that is in the way is freed when its process is proven dead",
        Rule::ClaimProof => "and not before: a claim of one who lives is never freed",
        Rule::AdminProof => "the right to administer is taken only from one who is proven dead",
        Rule::RepairOnTakeover => "who takes it over finishes or undoes what was left half done",
        Rule::CountUnderTag => "use is counted only under the tag of the incarnation that it is charged to",
        Rule::WideTag => "a tag is wider than a version",
        Rule::CountBeforeCharge => "use is counted before it is charged",
        Rule::ClaimerAsksField => "a cell with use that was not reported is not claimed",
        Rule::FieldAfterWord => "who would claim a cell asks for its use after he has read its word",
        Rule::VoidBeforeKey => "a claimer begins the next tag before he writes his key",
        Rule::KeyBeforeCount => "and counts his own request after he has written it",
        Rule::KeyBeforeDrain => "who drains reads the key before he takes the use out",
        Rule::UndoUnderTag => "what was counted in vain is taken back only under its tag",
        Rule::DirtyAfterCount => "the bit that says where to look is set after the counting",
        Rule::FlightStaysCounted => "units of an overdraft stay counted until they are confirmed",
        Rule::LeaseBeforeWord => "a lease is written before the word that puts it in force",
        Rule::OtherSlot => "and to the slot that is out of force",
        Rule::SwitchRaises => "a switch raises the TAT",
        Rule::RefundStopsAtStart => "a refund under a lease stops at the TAT that the lease began with",
        Rule::LeasedStays => "the word of a key that was under a lease is not lowered afterwards",
        Rule::ReturnAfterSwitch => "a switch gives back what was left when it came into force",
        Rule::FreeAfterSwitch => "a pair is free only when the word no longer names it",
        Rule::LeasedIsTaken => "a cell under a lease is not claimable",
        Rule::LeaseAgain => "a decision under a lease reads the word again after the lease",
        Rule::SplitAfterWord => "who switches reads how much is counted after he has read the word that he swaps",
    }
}

/// What an access pairs with. No wildcard, as above.
fn partner(site: Site) -> &'static str {
    match site {
        Site::KeyScan => "`KeyStore`: who sees the key sees the claim, and the floor raised before it",
        Site::WordLoad => "`Publish`: who sees a cell in use sees its key",
        Site::KeyAgain => "`KeyStore`",
        Site::DenialAgain => "`Refund`",
        Site::Charge => "every other transition of the cell",
        Site::ClaimScan => "`Charge`: the word carries all charges made on it",
        Site::Claim => "`KeyScan`, through the store of the key",
        Site::KeyStore => "`KeyScan`, `KeyAgain`",
        Site::Publish => "`WordLoad`",
        Site::SettleFence => "itself in every other settler of the key; `CollectiveFence`; `RemovalFence`",
        Site::Kill => "every other transition of the cell",
        Site::Confirm => "every later transition of the cell",
        Site::Outcome => "`Confirm` by a helper",
        Site::TopLoad => "`TopOpen`, through the fence",
        Site::TopOpen => "`TopLoad`",
        Site::FloorLoad => "`FloorRaise`",
        Site::FloorRaise => "`FloorLoad`",
        Site::CollectiveFlag => "`TopLoad` after the fence",
        Site::CollectiveLoad => "`CollectiveCharge`",
        Site::CollectiveCharge => "`CollectiveLoad`",
        Site::CollectiveFence => "`SettleFence`",
        Site::LimitLoad => "`LimitPublish`",
        Site::LimitWords => "`LimitStore`",
        Site::LimitAgain => "rides on the Acquire loads before it",
        Site::LimitStore => "`LimitWords`",
        Site::LimitPublish => "`LimitLoad`",
        Site::Translate => "every other transition of the cell; who sees the word sees the limit",
        Site::Refund => "`DenialAgain`",
        Site::RecordsLoad => "`RecordStore`",
        Site::RecordLoad => "`RecordStore`",
        Site::RecordStore => "`RecordLoad`",
        Site::RemovalFence => "`SettleFence`",
        Site::ClaimFree => "`Claim`, whose maker is dead; every other transition of the cell",
        Site::AdminTake => "`AdminRelease`: who administers sees all that was done before",
        Site::AdminRelease => "`AdminTake`",
        Site::UseLoad => "`Reserve`, `Void`: who sees use counted sees the key that it was counted for",
        Site::Reserve => "`UseLoad`, `Drain`",
        Site::Unreserve => "every other change of the use",
        Site::Want => "every other change of the use",
        Site::ClaimUse => "`Reserve`, through the charge in the word that was read before",
        Site::Void => "`Drain`, which fails on the old tag once the new key is seen",
        Site::Mark => "`MarkTake`",
        Site::MarkTake => "`Mark`: who takes a bit sees the use that it was set for",
        Site::DrainKey => "`KeyStore`",
        Site::Drain => "`Reserve`, `Void`",
        Site::PairStore => "`PairLoad`, through `Switch`",
        Site::PairLoad => "`PairStore`",
        Site::LeaseStore => "`LeaseLoad`: carries the switch that took the slot out of force",
        Site::LeaseLoad => "`LeaseStore`",
        Site::LeaseAgain => "`Switch`",
        Site::Switch => "`WordLoad`: who sees the word sees the lease; `Charge`",
    }
}

/// A row: what follows from the code, and what takes a run to know.
struct Row {
    fixed: Vec<String>,
    measured: Measured,
}

enum Measured {
    /// Nothing: the row is complete without.
    Nothing,
    /// When this model fails with that mutant, and what it then sees.
    Failure(Mutant, &'static str, usize),
    /// How far this model gets.
    Exploration(&'static Model),
}

impl Row {
    fn of_verdict(mut fixed: Vec<String>, mutant: Mutant) -> Self {
        let measured = match verdict(mutant) {
            Fails(name, thousands) => {
                fixed.push(format!("`{name}`"));
                Measured::Failure(mutant, name, thousands)
            }
            Holds(why) => {
                fixed.extend(["none".to_owned(), format!("stays: {why}")]);
                Measured::Nothing
            }
        };
        Row { fixed, measured }
    }

    fn write(&self) -> String {
        let mut cells = self.fixed.clone();
        match self.measured {
            Measured::Nothing => {}
            Measured::Failure(mutant, name, thousands) => {
                let outcome = catch(mutant, name, thousands);
                let End::Violated(saw) = outcome.end else {
                    panic!("{mutant:?} is not caught by {name}: {:?}", outcome.end);
                };
                cells.push(format!("execution {}: {saw}", outcome.executions));
            }
            Measured::Exploration(model) => {
                let outcome = explore(model.run, model.quick);
                let end = match outcome.end {
                    End::Complete => "all there are",
                    End::NotExhausted => "not all",
                    end => panic!("{} fails: {end:?}", model.name),
                };
                cells.extend([outcome.executions.to_string(), end.to_owned()]);
            }
        }
        format!("| {} |", cells.join(" | "))
    }

    /// What is wrong with a line that ought to be this row.
    fn compare(&self, line: &str) -> Option<String> {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let measured = match cells.strip_prefix(self.fixed.iter().map(String::as_str).collect::<Vec<_>>().as_slice()) {
            Some(measured) => measured,
            None => return Some(format!("{line}\n    should begin: {}", self.fixed.join(" | "))),
        };
        let bound = match self.measured {
            Measured::Nothing => return (!measured.is_empty()).then(|| format!("{line}\n    says too much")),
            Measured::Failure(.., thousands) => thousands * 1_000,
            Measured::Exploration(model) => model.quick.thousands * 1_000,
        };
        let number = measured.first().and_then(|cell| {
            let cell = cell.strip_prefix("execution ").unwrap_or(cell);
            cell.split(':').next()?.parse::<usize>().ok()
        });
        match number {
            Some(number) if number <= bound => None,
            _ => Some(format!("{line}\n    should name an execution up to {bound}")),
        }
    }
}

fn rules() -> Vec<Row> {
    let row = |&rule: &Rule| Row::of_verdict(vec![says(rule).to_owned()], Mutant::Without(rule));
    RULES.iter().map(row).collect()
}

fn orderings() -> Vec<Row> {
    let mut rows = Vec::new();
    for &site in SITES {
        let order = order_of(site);
        let cells = |weak: &str| {
            vec![
                format!("`{site:?}`"),
                format!("{order:?}"),
                partner(site).to_owned(),
                weak.to_owned(),
            ]
        };
        let weaker = weaker(order);
        if weaker.is_empty() {
            let mut fixed = cells("nothing is weaker");
            fixed.extend(["none".to_owned(), "stays: it costs nothing".to_owned()]);
            rows.push(Row {
                fixed,
                measured: Measured::Nothing,
            });
        }
        // Orders with one verdict share a row, at the place of the first.
        let verdict_of = |weak| verdict(Mutant::Weaken(site, weak));
        for (i, &first) in weaker.iter().enumerate() {
            let shares = |weak: &Ordering| verdict_of(*weak) == verdict_of(first);
            if weaker[..i].iter().any(shares) {
                continue;
            }
            let names: Vec<String> = weaker
                .iter()
                .copied()
                .filter(shares)
                .map(|weak| format!("{weak:?}"))
                .collect();
            rows.push(Row::of_verdict(cells(&names.join(", ")), Mutant::Weaken(site, first)));
        }
    }
    rows
}

fn explorations() -> Vec<Row> {
    let row = |model: &'static Model| Row {
        fixed: vec![
            format!("`{}`", model.name.trim_start_matches("models::")),
            model
                .quick
                .preemptions
                .map_or("all".to_owned(), |bound| bound.to_string()),
        ],
        measured: Measured::Exploration(model),
    };
    models().map(row).collect()
}

/// A table's name in the document, its head, its rows.
fn tables() -> [(&'static str, &'static str, Vec<Row>); 3] {
    [
        (
            "rules",
            "| rule | model that fails without it | when, and what it saw; or why none does |",
            rules(),
        ),
        (
            "orderings",
            "| site | order | partner | weakened to | model that fails | when, and what it saw; or why none does |",
            orderings(),
        ),
        (
            "models",
            "| model | preemptions | executions | of those that the bound allows |",
            explorations(),
        ),
    ]
}

/// The text between a table's marks, with what stands before and after.
fn split<'a>(document: &'a str, name: &str) -> [&'a str; 3] {
    let mark = format!("<!-- table: {name} -->\n");
    let (before, rest) = document
        .split_once(&mark)
        .unwrap_or_else(|| panic!("{DOCUMENT} has no mark {mark}"));
    let end = rest
        .find("<!-- end of table -->")
        .unwrap_or_else(|| panic!("the table {name} has no end in {DOCUMENT}"));
    [&document[..before.len() + mark.len()], &rest[..end], &rest[end..]]
}

/// The document says of each rule, ordering and model what the verdicts say.
#[test]
fn the_document_tells_the_verdicts() {
    let document = std::fs::read_to_string(DOCUMENT).expect("the document");
    let mut wrong = Vec::new();
    for (name, head, rows) in tables() {
        let lines: Vec<&str> = split(&document, name)[1]
            .lines()
            .filter(|line| !line.is_empty())
            .collect();
        if lines.first() != Some(&head) || lines.len() != rows.len() + 2 {
            wrong.push(format!("the table {name} has {} lines or another head", lines.len()));
        }
        wrong.extend(
            rows.iter()
                .zip(lines.iter().skip(2))
                .filter_map(|(row, line)| row.compare(line)),
        );
    }
    assert!(
        wrong.is_empty(),
        "{DOCUMENT} and the verdicts differ:\n{}\nTo write it anew: {HOW}",
        wrong.join("\n")
    );
}

/// Rows that the document has already are kept as they are.
fn is_new_only() -> bool {
    std::env::var_os("ROWS").is_some_and(|value| value == "new")
}

/// Writes the tables into the document. Runs every quick model once and every mutant that one is said to catch; with `ROWS=new`
/// only those that the document has no row of.
#[test]
#[ignore = "changes a document; takes minutes"]
fn write_the_document() {
    assert!(
        is_full(),
        "with a bound in time the tables would depend on the machine: {HOW}"
    );
    let mut document = std::fs::read_to_string(DOCUMENT).expect("the document");
    for (name, head, rows) in tables() {
        let [before, old, after] = split(&document, name);
        let old: Vec<&str> = if is_new_only() {
            old.lines().collect()
        } else {
            Vec::new()
        };
        let mut text = format!("{before}{head}\n{}|\n", "|---".repeat(head.matches(" | ").count() + 1));
        for row in &rows {
            let known = old.iter().find(|line| row.compare(line).is_none());
            let row = known.map_or_else(|| row.write(), |line| (*line).to_owned());
            writeln!(text, "{row}").expect("a string");
        }
        document = text + after;
    }
    std::fs::write(DOCUMENT, document).expect("the document");
}
