//! A denial is decided on a word that was the key's own, while the cell is recycled or its charge given back.

use crate::harness::*;

models! {
    /// A request that always fits is not denied because of what another key left in the cell.
    against_recycle: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1, 1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 2));
        let y = table.is_allowed(Y, 5, 1);
        holds!(join(x), "X is denied");
        holds!(y, "Y is denied on what X spent");
        settled(&table, Y);
    }

    /// The same with a refund of what the other key spent, so that its TAT is no longer above what Y left.
    against_recycle_and_refund: quick(3, 200), full(4, 2_000) => {
        let table = table(&[1, 1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| {
            let x = table.decide(X, 10, 2);
            table.refund(X, 10, 1);
            x
        });
        let y = table.is_allowed(Y, 5, 1);
        holds!(join(x), "X is denied");
        holds!(y, "Y is denied on what X spent");
        holds!(table.live(X) == [20], "X is charged {:?}", table.live(X));
        settled(&table, Y);
    }

    /// Of a refund's thread that asks again and another that asks once, one gets what was given back.
    against_refund: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(Y, 0, 1);
        let a = spawn(&table, |table| {
            table.refund(Y, 0, 1);
            table.is_allowed(Y, 0, 1)
        });
        let b = table.is_allowed(Y, 0, 1);
        let a = join(a);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that was given back");
        holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
    }

    /// Y is refunded in a cell that it got back from X. Burst 3, so that it has room all the time.
    against_return_and_refund: quick(3, 200), full(4, 2_000) => {
        let table = table(&[1, 1], 1, 3);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            let x = table.decide(X, 10, 1);
            let y = table.decide(Y, 20, 1);
            table.refund(Y, 20, 1);
            x && y
        });
        let y = table.is_allowed(Y, 15, 1);
        holds!(join(other), "denied");
        holds!(y, "Y is denied and had room all the time");
        settled(&table, Y);
    }
}
