//! At the bound: one thread charges the collective cell of a key while another gives the key a cell of its own.

use crate::harness::*;

models! {
    /// One finds the table full and charges the collective cell at 5; the other finds X expired at 10. Together they get
    /// what one cell would admit, or less.
    against_own_cell: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let shared = spawn(&table, |table| table.decide(Y, 5, 1));
        let own = table.decide(Y, 10, 1);
        let shared = join(shared);
        settled(&table, Y);
        holds!(!(shared && own), "2 admissions of 1");
    }

    /// A helper comes after the debt of the collective cell is over, and the owner of the cell before: he is not admitted
    /// because of that help.
    late_helper: quick(3, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let own = spawn(&table, |table| table.decide(Y, 10, 1));
        let shared = table.decide(Y, 5, 1);
        let late = table.decide(Y, 30, 1);
        let admitted = usize::from(shared) + usize::from(join(own)) + usize::from(late);
        settled(&table, Y);
        holds!(admitted <= 2, "{admitted} admissions of 2");
    }

    /// Here the helper cannot tell when the cell was started, because its cost is 2: he confirms it, and its owner is still
    /// not admitted. The helper is one who gives nothing back, so that he raises no floor.
    helper_and_cost: quick(2, 60), full(4, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(X, 0, 1);
        let own = spawn(&table, |table| table.decide(Y, 10, 2));
        let shared = table.decide(Y, 9, 1);
        table.refund(Y, 30, 0);
        let own = join(own);
        settled(&table, Y);
        holds!(!(shared && own), "3 admissions of 2");
    }

    /// Two share, one gets an own cell.
    three: quick(2, 150), full(3, 3_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let shared = spawn(&table, |table| table.decide(Y, 5, 1));
        let other = spawn(&table, |table| table.decide(Y, 9, 1));
        let own = table.decide(Y, 10, 1);
        let admitted = usize::from(join(shared)) + usize::from(join(other)) + usize::from(own);
        settled(&table, Y);
        holds!(admitted <= 1, "{admitted} admissions of 1");
    }

    /// Burst 2, and two inserters of an own cell, one of whom helps the other.
    with_help: quick(2, 150), full(3, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(X, 0, 1);
        let shared = spawn(&table, |table| table.decide(Y, 9, 2));
        let a = spawn(&table, |table| table.decide(Y, 10, 2));
        let b = table.decide(Y, 10, 2);
        let admitted = usize::from(join(shared)) + usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted <= 1, "{admitted} admissions of 1");
    }

    /// Someone asks for the key long after the debt is over, while another charges the collective cell and gives up what the
    /// first one has published: both come to an end, and one is admitted.
    comes_to_an_end: quick(3, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let shared = spawn(&table, |table| table.decide(Y, 5, 1));
        let late = table.decide(Y, 40, 1);
        let shared = join(shared);
        settled(&table, Y);
        // The floor may hold the shared one up to 40; then it is that one that is admitted.
        holds!(late || shared, "none is admitted");
    }
}
