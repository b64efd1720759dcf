//! A client gets a limit of its own, another one, or none again, while decisions on it run. It keeps the share of its burst
//! that is spent.

use crate::harness::*;

/// The limits here have a burst of 2, and differ in their interval.
fn with_interval(interval: u64) -> ratelimit_model::Limit {
    limit(2, interval)
}

models! {
    /// Half of the burst is spent under the limit for all.
    set: quick(3, 150), full(all, 3_000) => {
        let table = table(&[1], 1, 2);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.set_override(Y, 0, with_interval(100), 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// Half of the burst is spent under a limit of its own.
    clear: quick(3, 150), full(all, 3_000) => {
        let table = table(&[1], 1, 2);
        table.set_override(Y, 0, with_interval(100), 0);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.clear_override(Y, 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// The same where the own limit is the stricter one.
    clear_shorter: quick(3, 150), full(all, 3_000) => {
        let table = std::sync::Arc::new(ModelTable::new(&[1], false, 1, &[with_interval(100)]));
        table.set_override(Y, 0, with_interval(T), 0);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.clear_override(Y, 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// The whole burst is spent, and an own limit comes and goes.
    set_and_clear: quick(2, 150), full(3, 3_000) => {
        let table = std::sync::Arc::new(ModelTable::new(&[1], false, 1, &[with_interval(100)]));
        let _ = table.decide(Y, 0, 2);
        let other = spawn(&table, |table| {
            table.set_override(Y, 0, with_interval(T), 0);
            table.clear_override(Y, 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(!a && !b, "admitted: {a} and {b}, of none that is left");
    }

    /// One own limit takes the place of another.
    replace: quick(2, 150), full(3, 3_000) => {
        let table = table(&[1], 1, 2);
        table.set_override(Y, 0, with_interval(T), 0);
        let _ = table.decide(Y, 0, 1);
        let other = spawn(&table, |table| {
            table.set_override(Y, 1, with_interval(100), 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}, of the 1 that is left");
    }

    /// The same for a cell that was charged under the limit for all.
    set_and_replace: quick(2, 150), full(3, 3_000) => {
        let table = std::sync::Arc::new(ModelTable::new(&[1], false, 1, &[with_interval(100)]));
        let _ = table.decide(Y, 0, 2);
        table.set_override(Y, 0, with_interval(T), 0);
        let other = spawn(&table, |table| {
            table.set_override(Y, 1, with_interval(1_000), 0);
            table.is_allowed(Y, 0, 1)
        });
        let a = table.is_allowed(Y, 0, 1);
        let b = join(other);
        settled(&table, Y);
        holds!(!a && !b, "admitted: {a} and {b}, of none that is left");
    }

    /// A client without a cell is inserted under a limit of its own that goes meanwhile.
    clear_against_insert: quick(2, 150), full(3, 3_000) => {
        let table = std::sync::Arc::new(ModelTable::new(&[1], false, 2, &[with_interval(100)]));
        table.set_override(Y, 0, with_interval(T), 0);
        let other = spawn(&table, |table| {
            table.clear_override(Y, 0);
            table.decide(Y, 0, 1)
        });
        let a = table.decide(Y, 0, 2);
        let b = join(other);
        settled(&table, Y);
        holds!(a != b, "admitted: {a} and {b}");
    }

    /// The place of one client's record goes to another client: neither is ever decided by the other's record.
    reused_place: quick(3, 150), full(all, 3_000) => {
        let table = table(&[1], 2, 1);
        table.set_override(Y, 0, limit(1, 2 * T), 0);
        let other = spawn(&table, |table| {
            table.clear_override(Y, 0);
            table.set_override(X, 1, limit(5, T), 0);
        });
        let admitted = table.is_allowed(Y, 0, 2);
        join(other);
        holds!(!admitted, "admitted under another client's limit");
    }

    /// A record never points to numbers that are not there yet.
    numbers_first: quick(all, 150), full(all, 3_000) => {
        let table = table(&[1], 1, 1);
        let other = spawn(&table, |table| table.set_override(Y, 0, limit(1, 100), 0));
        let a = table.is_allowed(Y, 0, 1);
        let b = table.is_allowed(Y, 0, 1);
        join(other);
        settled(&table, Y);
        holds!(a && !b, "admitted: {a}, {b}");
    }
}
