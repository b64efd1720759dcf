//! One thread opens a tier and inserts there, another still goes by the old `top`.

use crate::harness::*;

models! {
    /// X's cell has expired for one thread; the other finds no cell and opens the second tier.
    /// A third one is there to spare: while each holds a cell that the other wants, neither counts the table as full.
    old_top: quick(3, 200), full(all, 4_000) => {
        let table = table(&[1, 1, 1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let opener = spawn(&table, |table| table.decide(Y, 5, 1));
        let b = table.decide(Y, 10, 1);
        let a = join(opener);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}");
        let charged = table.live(Y);
        holds!(charged == [20] || a && charged == [15], "charged {charged:?}");
    }

    /// A third inserter, and a tier to spare.
    three: quick(1, 100), full(2, 3_000) => {
        let table = table(&[1, 1, 1], 1, 1);
        let _ = table.decide(X, 0, 1);
        let opener = spawn(&table, |table| table.decide(Y, 5, 1));
        let b = spawn(&table, |table| table.decide(Y, 10, 1));
        let c = table.decide(Y, 10, 1);
        let admitted = usize::from(join(opener)) + usize::from(join(b)) + usize::from(c);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of 1");
    }
}
