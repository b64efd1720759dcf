//! Two threads want the last request of a burst.

use crate::harness::*;

models! {
    /// Exactly one gets it, and the cell holds exactly both charges.
    two: quick(all, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
        holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
    }

    /// Three threads, two requests left.
    three: quick(2, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 3);
        let _ = table.decide(Y, 0, 1);
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let c = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(join(b)) + usize::from(c);
        holds!(admitted == 2, "{admitted} admissions of the 2 that are left");
        holds!(table.live(Y) == [3 * T], "charged {:?}", table.live(Y));
    }
}
