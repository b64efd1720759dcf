//! A thread stops for ever in the middle of an insert. Nobody waits for it and nothing is doubled; it costs a cell at most.

use crate::harness::*;

/// Two threads insert Y while a third one that does the same stops.
fn beside(stop: Stop) {
    let table = table(&[1], 3, 1);
    let stopped = spawn(&table, move |table| table.decide_and_stop(Y, 0, 1, stop));
    let a = spawn(&table, |table| table.decide(Y, 0, 1));
    let b = table.decide(Y, 0, 1);
    let admitted = usize::from(join(a)) + usize::from(b);
    join(stopped);
    settled(&table, Y);
    holds!(admitted == 1, "{admitted} admissions of 1");
    holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
}

models! {
    /// It holds a cell and has not written the key.
    after_claim: quick(1, 40), full(2, 2_000) => {
        beside(Stop::AfterClaim);
    }

    /// It holds a cell that has the key already.
    after_key: quick(1, 40), full(2, 2_000) => {
        beside(Stop::AfterKey);
    }

    /// Its cell is TENTATIVE when the others come: whoever meets it finishes the job, and the charge counts once.
    after_publish: quick(all, 100), full(all, 2_000) => {
        let table = table(&[1], 2, 2);
        table.decide_and_stop(Y, 0, 1, Stop::AfterPublish);
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
        holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
    }

    /// The same while the others insert too. Its charge counts once or, if its cell was given up, not at all.
    beside_after_publish: quick(1, 40), full(2, 2_000) => {
        let table = table(&[1], 3, 2);
        let stopped = spawn(&table, |table| table.decide_and_stop(Y, 0, 1, Stop::AfterPublish));
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(stopped);
        holds!(admitted == 1 || admitted == 2, "{admitted} admissions of 2");
        holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
    }

    /// Its TENTATIVE cell expires: any key may have it, also while its own key is helped in it.
    expired: quick(3, 100), full(all, 2_000) => {
        let table = table(&[1, 1], 1, 2);
        table.decide_and_stop(Y, 0, 1, Stop::AfterPublish);
        let x = spawn(&table, |table| table.decide(X, 10, 1));
        let y = table.decide(Y, 5, 1);
        holds!(join(x) && y, "denied");
        settled(&table, Y);
        settled(&table, X);
        holds!(table.live(X) == [20], "X is charged {:?}", table.live(X));
        holds!(table.live(Y) == [20], "Y is charged {:?}", table.live(Y));
    }

    /// The only cell of the table is claimed for ever: the others are held to one limit by a collective cell.
    last_cell: quick(all, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        table.decide_and_stop(Y, 0, 1, Stop::AfterKey);
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        holds!(admitted == 1, "{admitted} admissions of 1");
        holds!(table.is_collective(), "there is no other cell");
    }
}
