//! What is given back is given to the right key, and once.

use crate::harness::*;

models! {
    /// A spent burst of 1, one refund, two requests: at most one more is admitted.
    against_charge: quick(2, 150), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(Y, 0, 1);
        let refund = spawn(&table, |table| table.refund(Y, 0, 1));
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(refund);
        holds!(admitted <= 1, "{admitted} admissions of the 1 that was given back");
        let charged = table.live(Y);
        holds!(charged == [T * admitted as u64], "charged {charged:?} for {admitted}");
    }

    /// X takes the cell meanwhile: it keeps all that it is charged.
    against_recycle: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1, 1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 2));
        table.refund(Y, 5, 1);
        holds!(join(x), "X is denied");
        settled(&table, Y);
        holds!(table.live(X) == [30], "X is charged {:?}", table.live(X));
        holds!(table.live(Y).iter().all(|&tat| tat == 5), "Y is charged {:?}", table.live(Y));
    }

    /// Charge, refund and recycle at once.
    three: quick(1, 100), full(2, 3_000) => {
        let table = table(&[1, 1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 2));
        let refund = spawn(&table, |table| table.refund(Y, 5, 1));
        let y = table.is_allowed(Y, 5, 1);
        holds!(join(x), "X is denied");
        join(refund);
        holds!(y, "Y is denied");
        settled(&table, Y);
        holds!(table.live(X) == [30], "X is charged {:?}", table.live(X));
        let charged = table.live(Y);
        // With the charge given back X may take that cell too.
        holds!(matches!(charged[..], [] | [10 | 15 | 20]), "Y is charged {charged:?}");
    }

    /// A refund meets a TENTATIVE cell: it finishes that insert first.
    against_insert: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1], 2, 2);
        let insert = spawn(&table, |table| table.decide(Y, 0, 2));
        table.refund(Y, 0, 1);
        holds!(join(insert), "denied");
        settled(&table, Y);
        let charged = table.live(Y);
        holds!(charged == [20] || charged == [10], "charged {charged:?}");
    }
}
