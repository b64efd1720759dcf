//! A lease is put in force, renewed or ended on a cell that others decide on: no request is decided by a lease that is not in
//! force, and no token is lost or made.

use crate::harness::*;

/// A lease of `burst` requests, one every `interval` nanoseconds, with `tokens` of them given.
fn lease(burst: u64, interval: u64, tokens: u64) -> ModelLease {
    ModelLease {
        limit: limit(burst, interval),
        tokens,
    }
}

/// A table in which nothing may be spent without a lease, and Y has asked for one.
fn asked() -> std::sync::Arc<ModelTable> {
    let table = clustered(&[1], 1, 3, 0);
    let denied = !table.decide(Y, 0, 1);
    let mut syncer = table.syncer();
    syncer.drain();
    holds!(
        denied && syncer.reports.len() == 1,
        "Y has not asked: {:?}",
        syncer.reports
    );
    holds!(
        syncer.reports[0].wanted && syncer.reports[0].units == 0,
        "{:?}",
        syncer.reports
    );
    drop(syncer);
    table
}

/// What the lease of Y has left.
fn all_back(table: &ModelTable, now: u64) -> u64 {
    table.syncer().end(Y, now).0
}

models! {
    /// Two decide while a lease is replaced by another of other size and slope. Nothing is refilled meanwhile: what was given is
    /// what was admitted and what came back.
    switch: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(2, T, 2), 0);
        let other = spawn(&table, |table| table.decide(Y, 0, 1));
        let syncer = spawn(&table, |table| table.syncer().give(Y, &lease(2, 10 * T, 1), 0));
        let a = table.decide(Y, 0, 1);
        let admitted = u64::from(a) + u64::from(join(other));
        let returned = join(syncer).unwrap_or(99) + all_back(&table, 0);
        holds!(admitted + returned == 3, "{admitted} admitted and {returned} returned of 3");
    }

    /// One decides, twice, while a lease is replaced two times: the slot that it read of is written again.
    switches: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(3, T, 2), 0);
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let first = syncer.give(Y, &lease(3, 10 * T, 1), 0);
            first.unwrap_or(99) + syncer.give(Y, &lease(2, 3 * T, 0), 0).unwrap_or(99)
        });
        let admitted = u64::from(table.decide(Y, 0, 1)) + u64::from(table.decide(Y, 0, 1));
        let returned = join(syncer) + all_back(&table, 0);
        holds!(admitted == 2, "{admitted} admissions of 2 of 3");
        holds!(admitted + returned == 3, "{admitted} admitted and {returned} returned of 3");
    }

    /// The first lease of a key, while it is decided on: before it is denied, and after it by the lease.
    first: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let syncer = spawn(&table, |table| table.syncer().give(Y, &lease(2, 10 * T, 2), 0));
        let admitted = u64::from(table.decide(Y, 0, 1)) + u64::from(table.decide(Y, 0, 1));
        let returned = join(syncer).unwrap_or(99) + all_back(&table, 0);
        holds!(admitted + returned == 2, "{admitted} admitted and {returned} returned of 2");
    }

    /// A first lease without tokens, while one spends what need not be confirmed: all that is admitted is told as spent without
    /// the lease.
    told_apart: quick(3, 60), full(all, 3_000) => {
        let table = clustered(&[1], 1, 3, 2);
        let first = table.decide(Y, 0, 1);
        let syncer = spawn(&table, |table| table.syncer().give(Y, &lease(1, 10 * T, 0), 0));
        let a = table.decide(Y, 0, 1);
        let given = join(syncer);
        let mut syncer = table.syncer();
        syncer.drain();
        let without: u64 = syncer.reports.iter().filter(|report| !report.leased).map(|report| report.units).sum();
        holds!(first && given.is_some(), "denied, or not given");
        holds!(without > u64::from(a), "{without} told as spent without the lease of {}", 1 + u64::from(a));
    }

    /// The one who switches stops for ever with the lease written and not in force: it never is, and the next one goes on.
    stopped: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(3, T, 2), 0);
        let stopped = spawn(&table, |table| table.syncer().give_and_stop(Y, &lease(3, 10 * T, 1), 0));
        let a = u64::from(table.decide(Y, 0, 1));
        join(stopped);
        let b = u64::from(table.decide(Y, 0, 1));
        let returned = all_back(&table, 0);
        holds!(a + b + returned == 2, "{} admitted and {returned} returned of 2", a + b);
        holds!(a + b == 2, "{} admissions of 2", a + b);
    }

    /// A lease ends while two decide: what they spent does not come back.
    end: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(2, 10 * T, 2), 0);
        let ender = spawn(&table, |table| table.syncer().end(Y, 0));
        let other = spawn(&table, |table| table.decide(Y, 0, 1));
        let a = table.decide(Y, 0, 1);
        let admitted = u64::from(a) + u64::from(join(other));
        let (returned, _) = join(ender);
        holds!(admitted + returned == 2, "{admitted} admitted and {returned} returned of 2");
    }

    /// Two leases later a word must not be the one that a thread has read under the first.
    there_and_back: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(3, 4 * T, 2), 0);
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let first = syncer.give(Y, &lease(3, 10 * T, 0), 0);
            // The state of the first again, at half its price.
            first.unwrap_or(99) + syncer.give(Y, &lease(4, 2 * T, 0), 0).unwrap_or(99)
        });
        let a = u64::from(table.decide(Y, 0, 1));
        let returned = join(syncer) + all_back(&table, 0);
        holds!(a + returned == 2, "{a} admitted and {returned} returned of 2");
    }

    /// Nor with a refund between them. It gives back no more than was spent under the lease in force.
    refund: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(4, 4 * T, 2), 0);
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let returned = syncer.give(Y, &lease(4, T, 0), 0).unwrap_or(99);
            table.refund(Y, 0, 2);
            // With a refund of 2 the state of the first again, at a quarter of its price.
            returned + syncer.give(Y, &lease(12, T, 0), 0).unwrap_or(99)
        });
        let a = u64::from(table.decide(Y, 0, 1));
        let sum = a + join(syncer) + all_back(&table, 0);
        holds!(a == 1, "denied");
        holds!(sum == 2 || sum == 3, "{sum} admitted and returned of 2, and at most 1 refunded");
    }

    /// Nor with the end of the first lease and a refund between them.
    refund_after: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(4, 4 * T, 2), 0);
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let (returned, ended) = syncer.end(Y, 60);
            table.refund(Y, 60, 2);
            (returned + syncer.give(Y, &lease(4, T, 2), 60).unwrap_or(99), ended)
        });
        let a = u64::from(table.decide(Y, 60, 1));
        let (returned, ended) = join(syncer);
        let sum = a + returned + all_back(&table, 60);
        // Of the first 3 are left at 60.
        holds!(!ended || sum == 5, "{sum} admitted and returned of 5");
    }

    /// A cell under a lease goes to no other key, however long ago it was charged.
    against_claim: quick(3, 60), full(all, 3_000) => {
        let table = clustered(&[1, 1], 1, 3, u64::MAX);
        let _ = table.decide(Y, 0, 1);
        table.syncer().drain();
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let given = syncer.give(Y, &lease(2, T, 1), 30);
            let stays = !table.live(Y).is_empty();
            (given, stays)
        });
        let x = table.decide(X, 1_000, 1);
        let (given, stays) = join(syncer);
        holds!(x, "X is denied");
        holds!(given.is_none() || stays, "the cell of a lease in force is taken");
        holds!(given.is_none() == table.live(Y).is_empty(), "given {given:?}, Y in {:?}", table.live(Y));
    }

    /// A request that fits under each of the leases is not denied by a mixture of them.
    against_denial: quick(3, 60), full(all, 3_000) => {
        let table = asked();
        let _ = table.syncer().give(Y, &lease(1, 10 * T, 1), 0);
        let syncer = spawn(&table, |table| {
            let mut syncer = table.syncer();
            let _ = syncer.give(Y, &lease(4, T, 0), 0);
            let _ = syncer.give(Y, &lease(1, 20 * T, 0), 0);
            let _ = syncer.give(Y, &lease(2, T, 0), 0);
        });
        let a = table.decide(Y, 0, 1);
        join(syncer);
        holds!(a, "denied");
    }

    /// A first lease meets a key that two threads insert: it finds the LIVE cell, or none.
    insert: quick(2, 60), full(3, 3_000) => {
        let table = clustered(&[1], 2, 3, u64::MAX);
        let syncer = spawn(&table, |table| table.syncer().give(Y, &lease(3, T, 1), 0));
        let other = spawn(&table, |table| table.decide(Y, 0, 1));
        let a = table.decide(Y, 0, 1);
        let b = join(other);
        let given = join(syncer);
        settled(&table, Y);
        // Before the lease the whole burst may be spent, and under it its token.
        holds!(a || b, "admitted: {a}, {b}");
        holds!(given.is_some() || a && b, "admitted: {a}, {b}, without a lease");
    }
}
