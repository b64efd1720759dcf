//! A cell expires and another key takes it, while a thread still looks at it as its own.

use crate::harness::*;

models! {
    /// The reader's request fits whatever happens: on its cell, or afresh in another. The recycler is charged once.
    stalled_updater: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1, 1], 1, 3);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 1));
        let y = table.is_allowed(Y, 5, 1);
        holds!(join(x), "X is denied");
        holds!(y, "Y is denied");
        settled(&table, Y);
        settled(&table, X);
        holds!(table.live(X) == [20], "X is charged {:?}", table.live(X));
        holds!(table.live(Y) == [20], "Y is charged {:?}", table.live(Y));
    }

    /// The cell goes from Y to X and back to Y.
    there_and_back: quick(3, 200), full(4, 2_000) => {
        let table = table(&[1, 1], 1, 4);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            let x = table.decide(X, 10, 1);
            (x, table.decide(Y, 20, 1))
        });
        let y = table.is_allowed(Y, 5, 1);
        let (x, back) = join(other);
        holds!(x && y && back, "admitted: {x}, {y}, {back}");
        settled(&table, Y);
        settled(&table, X);
        // Charged before the recycling or after it, and then from 20 on.
        let charged = table.live(Y);
        holds!(charged == [30] || charged == [40], "Y is charged {charged:?}");
        holds!(table.live(X).iter().all(|&tat| tat == 20), "X is charged {:?}", table.live(X));
    }

    /// The same with a second thread that brings Y back.
    three: quick(1, 100), full(2, 3_000) => {
        let table = table(&[1, 1], 1, 4);
        let _ = table.decide(Y, 0, 1);
        let x = spawn(&table, |table| table.decide(X, 10, 1));
        let inserter = spawn(&table, |table| table.decide(Y, 10, 1));
        let y = table.is_allowed(Y, 5, 1);
        let (x, inserter) = (join(x), join(inserter));
        holds!(x && y && inserter, "admitted: {x}, {y}, {inserter}");
        settled(&table, Y);
        settled(&table, X);
        holds!(table.live(Y) == [30], "Y is charged {:?}", table.live(Y));
        holds!(table.live(X) == [20], "X is charged {:?}", table.live(X));
    }

    /// The cell that a thread lost is taken again by its own key: LIVE and the right key do not mean that it is its own.
    own_again: quick(3, 200), full(4, 2_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(X, 90, 1);
        let late = spawn(&table, |table| table.decide(Y, 95, 1));
        // Beats the other in the lower cell; that cell goes to Z; then Y takes the higher.
        let first = table.decide(Y, 100, 1);
        let z = table.decide(Z, 110, 1);
        let second = table.decide(Y, 111, 1);
        let late = join(late);
        settled(&table, Y);
        let admitted = usize::from(late) + usize::from(first) + usize::from(second);
        holds!(z && admitted == 2, "{admitted} admissions of 2");
    }

    /// A killed cell goes to another key with the same TAT before its owner looks at it again.
    killed_and_reused: quick(3, 200), full(4, 2_000) => {
        let table = table(&[1], 2, 1);
        let _ = table.decide(X, 0, 1);
        let late = spawn(&table, |table| table.decide(Y, 5, 1));
        let first = table.decide(Y, 10, 1);
        let z = table.decide(Z, 5, 1);
        let late = join(late);
        settled(&table, Y);
        settled(&table, Z);
        holds!(late != first, "admitted: {late} and {first}");
        let charged = table.live(Z);
        // With Y and X or Y in both cells there is none for Z: then a collective cell has its charge.
        holds!(!z || charged.is_empty() || charged == [15] || charged == [20], "Z is charged {charged:?}");
    }
}
