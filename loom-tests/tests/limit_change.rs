//! A limit is changed while decisions run. A client keeps the share of its burst that is spent.

use crate::harness::*;

models! {
    /// Half of the burst is spent, and the interval changes tenfold: of two more requests exactly one is admitted, before or
    /// after the change or one on either side.
    share_is_kept: quick(all, 200), full(all, 2_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.set_limit(limit(2, 10 * T));
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
        let charged = table.live(Y);
        holds!(charged == [2 * T] || charged == [20 * T], "charged {charged:?}");
    }

    /// The same the other way: a long interval becomes short.
    share_is_kept_shorter: quick(all, 200), full(all, 2_000) => {
        let table = std::sync::Arc::new(ModelTable::new(&[1], false, 1, &[limit(2, 10 * T)]));
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.set_limit(limit(2, T));
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// The numbers of a limit are those of one limit: with a burst of 1, whatever the interval, exactly one of two requests is
    /// admitted, while four changes go all the way round the places that hold the numbers.
    torn: quick(2, 150), full(3, 3_000) => {
        let table = table(&[1], 1, 1);
        let changer = spawn(&table, |table| {
            for interval in [100, 1_000, 10_000, 100_000] {
                table.set_limit(limit(1, interval));
            }
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = table.is_allowed(Y, 0, 1);
        join(changer);
        holds!(a && !b, "admitted: {a}, {b}");
    }

    /// The same for a single request: it fits under each of the limits, and under no mixture of two of them.
    torn_at_insert: quick(1, 60), full(2, 3_000) => {
        let table = table(&[1], 1, 1);
        let changer = spawn(&table, |table| {
            for interval in [100, 1_000, 10_000, 100_000] {
                table.set_limit(limit(1, interval));
            }
        });
        let a = table.decide(Y, 0, 1);
        join(changer);
        holds!(a, "denied");
    }

    /// Two deciders and a change.
    three: quick(2, 150), full(3, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let changer = spawn(&table, |table| table.set_limit(limit(2, 10 * T)));
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(changer);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
    }

    /// Two deciders and two changes, of which the second undoes the first.
    back_again: quick(1, 150), full(2, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let changer = spawn(&table, |table| {
            table.set_limit(limit(2, 10 * T));
            table.set_limit(limit(2, T));
        });
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(changer);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
    }

    /// A thread that changes the limit stops for ever between two of its numbers: all go on under the old limit.
    stopped: quick(all, 150), full(all, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let stopped = spawn(&table, |table| table.set_limit_and_stop(limit(5, 10 * T), 2));
        let a = spawn(&table, |table| table.is_allowed(Y, 0, 1));
        let b = table.is_allowed(Y, 0, 1);
        let admitted = usize::from(join(a)) + usize::from(b);
        join(stopped);
        holds!(admitted == 1, "{admitted} admissions of the 1 that is left");
        holds!(table.live(Y) == [2 * T], "charged {:?}", table.live(Y));
    }

    /// A limit changes while a key is inserted and settled.
    against_insert: quick(3, 150), full(all, 3_000) => {
        let table = table(&[1], 2, 2);
        let other = spawn(&table, |table| {
            table.set_limit(limit(2, 10 * T));
            table.decide(Y, 0, 2)
        });
        let a = table.decide(Y, 0, 2);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}");
    }

    /// A refund is worth what was charged, under whatever limit.
    against_refund: quick(3, 150), full(all, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 2);
        let other = spawn(&table, |table| {
            table.set_limit(limit(2, 10 * T));
            table.refund(Y, 0, 1);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that was given back");
    }
}
