//! A thread meets another's TENTATIVE cell, confirms it and charges it before its owner looks again.

use crate::harness::*;

/// Two threads, burst 2: both are admitted and both charges are in the cell, whoever confirmed it.
fn two(tiers: &[u64], cells: usize) {
    let table = table(tiers, cells, 2);
    let a = spawn(&table, |table| table.decide(Y, 0, 1));
    let b = table.decide(Y, 0, 1);
    let admitted = usize::from(join(a)) + usize::from(b);
    settled(&table, Y);
    holds!(admitted == 2, "{admitted} admissions of 2");
    holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
}

models! {
    /// In one cell.
    one_cell: quick(3, 200), full(all, 2_000) => {
        two(&[1, 1], 1);
    }

    /// In one of two cells.
    two_cells: quick(3, 200), full(all, 2_000) => {
        two(&[1], 2);
    }

    /// Two owners in different cells, and a helper that has looked at the lower cell before it was taken.
    three: quick(2, 150), full(3, 6_000) => {
        let table = table(&[1], 2, 4);
        let _ = table.decide(X, 0, 1);
        let a = spawn(&table, |table| table.decide(Y, 5, 1));
        let b = spawn(&table, |table| table.decide(Y, 10, 1));
        let c = table.decide(Y, 5, 1);
        let (a, b) = (join(a), join(b));
        settled(&table, Y);
        holds!(a && b && c, "admitted: {a}, {b}, {c}");
        let charged = table.live(Y);
        holds!(charged == [35] || charged == [40], "charged {charged:?}");
    }
}
