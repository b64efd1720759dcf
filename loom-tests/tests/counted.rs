//! Use is counted beside a cell that expires and goes to another key: it stays with the key that spent it.

use crate::harness::*;
use ratelimit_core::face::Report;

const ANY: u64 = u64::MAX;

/// A table in which Y was charged once, at 0; reported or not.
fn with_y(tiers: &[u64], cells: usize, reported: bool) -> (std::sync::Arc<ModelTable>, Vec<Report>) {
    let table = clustered(tiers, cells, 3, ANY);
    let _ = table.decide(Y, 0, 1);
    let mut syncer = table.syncer();
    if reported {
        syncer.drain();
    }
    let reports = std::mem::take(&mut syncer.reports);
    drop(syncer);
    (table, reports)
}

fn drain(table: &ModelTable) -> Vec<Report> {
    let mut syncer = table.syncer();
    syncer.drain();
    std::mem::take(&mut syncer.reports)
}

/// All that is listed is reported in the end, and nothing is left; what was reported, voided or left is what was admitted or
/// counted in vain.
fn identity(table: &ModelTable, mut reports: Vec<Report>, admitted: u64) -> Counted {
    reports.extend(drain(table));
    let counted = table.counted(&reports);
    holds!(counted.left == 0, "{} units are counted and not listed", counted.left);
    let drained: u64 = counted.drained.iter().map(|(_, units)| units).sum();
    holds!(
        drained + counted.voided == admitted + counted.undo_failed,
        "{admitted} admitted, and {counted:?}"
    );
    counted
}

/// Y's reports are at least what was admitted, and exceed it only by what was counted in vain; X, alone with its key, is exact.
fn attributed(counted: &Counted, y: u64, x: u64) {
    let (of_y, of_x) = (counted.of(Y), counted.of(X));
    holds!(of_y >= y, "Y: {of_y} reported of {y}: {counted:?}");
    holds!(
        of_y + counted.voided <= y + counted.undo_failed,
        "Y: {of_y} reported of {y}: {counted:?}"
    );
    holds!(of_x == x, "X: {of_x} reported of {x}: {counted:?}");
}

models! {
    /// A cell expires, is reported and goes to X, who is reported too, while a thread still charges it to Y.
    stalled_updater: quick(3, 150), full(all, 3_000) => {
        let (table, mut reports) = with_y(&[1, 1], 1, true);
        let other = spawn(&table, |table| (table.decide(X, 30, 1), drain(table)));
        let y = table.is_allowed(Y, 5, 1);
        let (x, more) = join(other);
        holds!(x && y, "denied: {x}, {y}");
        reports.extend(more);
        attributed(&identity(&table, reports, 3), 2, 1);
    }

    /// The cell has use that was not reported: it is drained, and then goes to X.
    drain_against_claim: quick(3, 150), full(all, 3_000) => {
        let (table, mut reports) = with_y(&[1, 1], 1, false);
        let drainer = spawn(&table, drain);
        let x = table.decide(X, 30, 1);
        reports.extend(join(drainer));
        holds!(x, "X is denied");
        attributed(&identity(&table, reports, 2), 1, 1);
    }

    /// The cell goes to X while it is drained.
    claim_against_drain: quick(all, 150), full(all, 3_000) => {
        let (table, mut reports) = with_y(&[1], 1, true);
        let drainer = spawn(&table, drain);
        let x = table.decide(X, 30, 1);
        reports.extend(join(drainer));
        holds!(x, "X is denied");
        attributed(&identity(&table, reports, 2), 1, 1);
    }

    /// The cell is charged while it is drained.
    updater_against_drain: quick(all, 150), full(all, 3_000) => {
        let (table, mut reports) = with_y(&[1], 1, true);
        let drainer = spawn(&table, drain);
        let y = table.is_allowed(Y, 0, 1);
        reports.extend(join(drainer));
        holds!(y, "denied");
        attributed(&identity(&table, reports, 2), 2, 0);
    }

    /// Two charge it while it is drained: what one counted in vain he takes back, or it was reported.
    updaters_against_drain: quick(2, 150), full(3, 3_000) => {
        let (table, mut reports) = with_y(&[1], 1, true);
        let drainer = spawn(&table, drain);
        let other = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let y = table.is_allowed(Y, 0, 1);
        let other = join(other);
        reports.extend(join(drainer));
        holds!(y && other, "denied");
        attributed(&identity(&table, reports, 3), 3, 0);
    }

    /// All three at once.
    three: quick(2, 150), full(3, 6_000) => {
        let (table, mut reports) = with_y(&[1, 1], 1, true);
        let drainer = spawn(&table, drain);
        let claimer = spawn(&table, |table| table.decide(X, 30, 1));
        let y = table.is_allowed(Y, 5, 1);
        let x = join(claimer);
        reports.extend(join(drainer));
        holds!(x && y, "denied: {x}, {y}");
        attributed(&identity(&table, reports, 3), 2, 1);
    }

    /// The cell goes to Z and then to X while a thread still charges it to Y.
    twice_recycled: quick(2, 60), full(3, 3_000) => {
        let (table, mut reports) = with_y(&[1, 1], 1, true);
        let other = spawn(&table, |table| {
            let z = table.decide(Z, 30, 1);
            let mut reports = drain(table);
            let x = table.decide(X, 60, 1);
            reports.extend(drain(table));
            (z && x, reports)
        });
        let y = table.is_allowed(Y, 5, 1);
        let (others, more) = join(other);
        holds!(others && y, "denied");
        reports.extend(more);
        let counted = identity(&table, reports, 4);
        holds!(counted.of(Z) == 1, "Z: {counted:?}");
        holds!(counted.of(Y) >= 2 && counted.of(X) == 1, "{counted:?}");
    }

    /// Two insert one key, and one of them withdraws, while what they count is drained.
    withdrawn: quick(2, 150), full(3, 3_000) => {
        let table = clustered(&[1], 2, 3, ANY);
        let drainer = spawn(&table, drain);
        let other = spawn(&table, |table| table.decide(Y, 0, 1));
        let y = table.decide(Y, 0, 1);
        let other = join(other);
        let reports = join(drainer);
        holds!(y && other, "denied");
        attributed(&identity(&table, reports, 2), 2, 0);
    }

    /// Its cell is withdrawn and goes to X while that is drained.
    withdrawn_and_claimed: quick(2, 60), full(3, 3_000) => {
        let table = clustered(&[1], 2, 3, ANY);
        let other = spawn(&table, |table| (table.decide(Y, 0, 1), drain(table)));
        let third = spawn(&table, |table| table.decide(X, 0, 1));
        let y = table.decide(Y, 0, 1);
        let (other, reports) = join(other);
        let x = join(third);
        // With Y in one cell and X or Y in the other one more may have met a full line: then a collective cell was charged.
        if table.is_collective() {
            return;
        }
        holds!(x && y && other, "denied: {x}, {y}, {other}");
        attributed(&identity(&table, reports, 3), 2, 1);
    }

    /// One unit may be unconfirmed. Two spend, and what they spent is sent.
    overdraft: quick(3, 150), full(all, 3_000) => {
        let table = clustered(&[1], 1, 3, 1);
        let other = spawn(&table, |table| {
            let mut syncer = table.syncer();
            syncer.drain();
            table.decide(Y, 0, 1)
        });
        let a = table.decide(Y, 0, 1);
        let b = table.decide(Y, 0, 1);
        let admitted = u64::from(a) + u64::from(b) + u64::from(join(other));
        holds!(admitted <= 1, "{admitted} admissions of 1 that need not be confirmed");
    }

    /// And is confirmed.
    overdraft_confirmed: quick(2, 150), full(3, 3_000) => {
        let table = clustered(&[1], 1, 5, 1);
        let _ = table.decide(Y, 0, 1);
        let owner = spawn(&table, |table| {
            let mut syncer = table.syncer();
            syncer.drain();
            let mut confirmed = syncer.confirm_all();
            syncer.drain();
            confirmed += syncer.confirm_all();
            confirmed
        });
        let other = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = 1 + u64::from(join(other)) + u64::from(b);
        let confirmed = join(owner);
        holds!(admitted <= 1 + confirmed, "{admitted} admissions, {confirmed} confirmed");
    }

    /// What is counted on top of units in flight crosses no zero, and is listed all the same.
    overdraft_listed: quick(2, 150), full(3, 3_000) => {
        let table = clustered(&[1], 1, 5, 2);
        let first = table.decide(Y, 0, 1);
        let owner = spawn(&table, |table| {
            let mut syncer = table.syncer();
            syncer.drain();
            syncer.confirm_all()
        });
        let b = table.decide(Y, 0, 1);
        let confirmed = join(owner);
        let reports = drain(&table);
        let counted = table.counted(&reports);
        holds!(first && counted.left == 0, "{} units are counted and not listed", counted.left);
        let told = confirmed + counted.of(Y);
        holds!(told + counted.voided == 1 + u64::from(b) + counted.undo_failed, "{confirmed} confirmed, {counted:?}");
    }

    /// The one who drains stops for ever with the bits in his hand: the next one, who lists all, finds what they were set for.
    stopped_drainer: quick(2, 150), full(3, 3_000) => {
        let table = clustered(&[1], 1, 3, ANY);
        let stopped = spawn(&table, |table| table.syncer().take_bits_and_stop());
        let a = table.decide(Y, 0, 1);
        let b = table.decide(Y, 0, 1);
        join(stopped);
        table.syncer().list_all();
        holds!(a && b, "denied");
        attributed(&identity(&table, Vec::new(), 2), 2, 0);
    }

    /// A thread that inserts stops for ever: what it counted is reported or left, and nobody waits for it.
    stopped: quick(2, 150), full(3, 3_000) => {
        let table = clustered(&[1, 1], 1, 3, ANY);
        let stopped = spawn(&table, |table| table.decide_and_stop(Y, 0, 1, Stop::AfterPublish));
        let drainer = spawn(&table, drain);
        let x = table.decide(X, 30, 1);
        join(stopped);
        let mut reports = join(drainer);
        reports.extend(drain(&table));
        let counted = table.counted(&reports);
        holds!(x && counted.of(X) == 1, "{counted:?}");
        holds!(counted.of(Y) + counted.voided <= 1, "{counted:?}");
    }
}
