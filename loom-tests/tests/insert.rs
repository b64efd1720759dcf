//! Two or three threads insert one key at the same time.

use crate::harness::*;

models! {
    /// Both take the first free cell they see: the same one, or the next if the other's claim is seen.
    free_cells: quick(3, 400), full(all, 2_000) => {
        let table = table(&[1], 2, 1);
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of 1");
        holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
    }

    /// The first cell has expired for one thread and not for the other, so they aim at different cells from the start.
    different_cells: quick(3, 400), full(all, 2_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(X, 0, 1);
        let a = spawn(&table, |table| table.decide(Y, 5, 1));
        let b = table.decide(Y, 10, 1);
        let a = join(a);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}");
        // The one who comes at 10 may raise the floor before he loses, and the other then starts there.
        let charged = table.live(Y);
        holds!(charged == [20] || a && charged == [15], "charged {charged:?}");
    }

    /// There is but one cell for both, and a spare tier.
    one_cell: quick(all, 400), full(all, 2_000) => {
        let table = table(&[1, 1], 1, 1);
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of 1");
        holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
    }

    /// Three inserters and three cells: one or two of them withdraw.
    three: quick(1, 100), full(2, 3_000) => {
        let table = table(&[1], 3, 1);
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = spawn(&table, |table| table.decide(Y, 0, 1));
        let c = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(join(b)) + usize::from(c);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of 1");
        holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
    }

    /// The lines that two keys prefer may differ in order; here one key's first line is the other cell's second.
    two_lines: quick(3, 200), full(all, 2_000) => {
        let table = table(&[2], 1, 1);
        let _ = table.decide(X, 0, 1);
        let a = spawn(&table, |table| table.decide(Y, 5, 1));
        let b = table.decide(Y, 10, 1);
        let a = join(a);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}");
    }
}
