//! Times that run backwards over a recycled cell: the floor holds time up.

use crate::harness::*;

models! {
    /// X takes Y's cell at 10; another thread asks for Y at 5 and at 15. One cell admits one of these: Y either finds its cell
    /// and is denied at 5, or starts afresh at the floor, 10, and is denied at 15.
    over_a_recycle: quick(4, 200), full(all, 2_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 1));
        let early = table.is_allowed(Y, 5, 1);
        let late = table.is_allowed(Y, 15, 1);
        holds!(join(x), "X is denied");
        settled(&table, Y);
        holds!(early != late, "admitted at 5: {early}, at 15: {late}");
    }

    /// An inserter of Y has chosen its time when Y gets a cell from another thread and loses it to Z: it must not start before
    /// the floor that Z raised meanwhile.
    sleeping_inserter: quick(2, 900), full(4, 3_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(X, 90, 1);
        let late = spawn(&table, |table| table.decide(Y, 95, 1));
        let first = table.decide(Y, 100, 1);
        let z = table.decide(Z, 110, 1);
        let late = join(late);
        let last = table.decide(Y, 111, 1);
        settled(&table, Y);
        let admitted = usize::from(late) + usize::from(first) + usize::from(last);
        holds!(z && admitted == 2, "{admitted} admissions of 2");
    }

    /// The same with a helper, who does not know when the cell was started.
    helped_sleeper: quick(1, 900), full(3, 3_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(X, 90, 1);
        let late = spawn(&table, |table| table.decide(Y, 95, 1));
        let helper = spawn(&table, |table| table.decide(Y, 101, 1));
        let first = table.decide(Y, 100, 1);
        let z = table.decide(Z, 110, 1);
        let (late, helped) = (join(late), join(helper));
        let last = table.decide(Y, 111, 1);
        settled(&table, Y);
        let admitted = usize::from(late) + usize::from(helped) + usize::from(first) + usize::from(last);
        holds!(z && admitted <= 2, "{admitted} admissions of 2");
    }

    /// One thread gives Y a cell that X takes; another has never seen Y there, and comes with an earlier time.
    unseen_cell: quick(2, 60), full(4, 3_000) => {
        let table = table(&[1], 2, 1);
        let other = spawn(&table, |table| {
            let y = table.decide(Y, 0, 1);
            (y, table.decide(X, 10, 1))
        });
        let early = table.is_allowed(Y, 5, 1);
        let late = table.is_allowed(Y, 15, 1);
        let (first, x) = join(other);
        settled(&table, Y);
        let admitted = usize::from(first) + usize::from(early) + usize::from(late);
        holds!(x && admitted == 2, "{admitted} admissions of 2");
    }

    /// There is no cell left for Y: it shares a collective cell, and time is held up there too.
    at_the_bound: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 1));
        let early = table.is_allowed(Y, 5, 1);
        let late = table.is_allowed(Y, 15, 1);
        let _ = join(x);
        settled(&table, Y);
        holds!(!(early && late), "admitted at 5 and at 15");
    }
}
