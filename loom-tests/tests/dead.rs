//! A process dies with work half done. Its death is proven, not guessed: what it left is undone or finished by whoever needs it.

use crate::harness::*;

models! {
    /// It had claimed the last cell: another gets that cell, and needs no collective one.
    claim: quick(all, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        table.decide_and_stop(X, 0, 1, Stop::AfterKey);
        table.mortal_dies();
        let looker = spawn(&table, |table| table.peek(Y, 0, 1));
        let a = table.decide(Y, 0, 1);
        let _ = join(looker);
        settled(&table, Y);
        holds!(a, "denied");
        holds!(!table.is_collective() && table.claims() == 0, "the claim of the dead is still there");
        holds!(table.live(Y) == [T], "charged {:?}", table.live(Y));
    }

    /// Two find it at the same time. Who is second may see the claim of the first, and use the collective cell.
    claim_twice: quick(2, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        table.decide_and_stop(X, 0, 1, Stop::AfterKey);
        table.mortal_dies();
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted == 2 || table.is_collective(), "{admitted} admissions of 2");
        holds!(table.claims() == 0, "the claim of the dead is still there");
    }

    /// It dies while others look for a cell: the proof comes at any instant.
    claim_meanwhile: quick(2, 100), full(3, 2_000) => {
        let table = table(&[1], 2, 2);
        let dying = spawn(&table, |table| {
            table.decide_and_stop(X, 0, 1, Stop::AfterKey);
            table.mortal_dies();
        });
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(dying);
        settled(&table, Y);
        holds!(admitted == 2, "{admitted} admissions of 2");
        holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
    }

    /// Its TENTATIVE cell is finished by whoever comes, dead or not.
    published: quick(all, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        table.decide_and_stop(Y, 0, 1, Stop::AfterPublish);
        table.mortal_dies();
        let a = spawn(&table, |table| table.decide(Y, 0, 1));
        let b = table.decide(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        settled(&table, Y);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
    }

    /// A claim of one who lives is never freed, however long he takes: he would write his key over that of the next, and one key
    /// would pay for the other.
    claim_of_the_living: quick(2, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 1);
        let other = spawn(&table, |table| table.decide(Z, 0, 1));
        let y = table.sleep_in_claim(X, 0, || table.decide(Y, 0, 1));
        let z = join(other);
        holds!(table.live(X).is_empty(), "X is charged {:?}, and was not admitted yet", table.live(X));
        holds!(y || table.live(Y).is_empty(), "Y is charged {:?} and was not admitted", table.live(Y));
        holds!(z || table.live(Z).is_empty(), "Z is charged {:?} and was not admitted", table.live(Z));
    }

    /// It died in a change of limit, between two numbers. Another changer takes over: first that change is finished, then his own
    /// is made, and deciders see one limit or another, never a mixture.
    administrator: quick(2, 100), full(3, 2_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        table.set_limit_and_stop(limit(2, 10 * T), 2);
        table.mortal_dies();
        let shown = spawn(&table, |table| table.limit());
        let a = table.decide(Y, 0, 1);
        let shown = join(shown);
        holds!(shown == limit(2, 10 * T), "shown {shown:?}");
        let b = table.decide(Y, 0, 1);
        holds!(a && !b, "admitted: {a} and {b}, of the 1 that is left");
        holds!(table.live(Y) == [20 * T], "charged {:?}: the change is not in force", table.live(Y));
    }

    /// The same, and it dies while another waits for the right to change the limit.
    administrator_dies: quick(2, 100), full(3, 2_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let dying = spawn(&table, |table| {
            table.set_limit_and_stop(limit(2, 10 * T), 3);
            table.mortal_dies();
        });
        table.set_limit(limit(2, 100 * T));
        join(dying);
        let shown = table.limit();
        holds!(shown == limit(2, 100 * T) || shown == limit(2, 10 * T), "shown {shown:?}");
        let (a, b) = (table.decide(Y, 0, 1), table.decide(Y, 0, 1));
        holds!(a && !b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// Two who live and change the limit do so one after the other: what is shown is what is decided by.
    administrators: quick(3, 100), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        let other = spawn(&table, |table| table.set_limit(limit(2, 10 * T)));
        table.set_limit(limit(2, 100 * T));
        join(other);
        let interval = if table.limit() == limit(2, 10 * T) { 10 * T } else { 100 * T };
        let _ = table.decide(Y, 0, 1);
        holds!(table.live(Y) == [interval], "shown {interval}, charged {:?}", table.live(Y));
    }

    /// The right to administer is not taken from one who lives, however long he takes.
    administrator_lives: quick(2, 20), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        let slow = spawn(&table, |table| {
            table.administer_slowly();
        });
        table.administer_slowly();
        join(slow);
        holds!(table.most_administrators() == 1, "{} administrators at once", table.most_administrators());
    }
}
