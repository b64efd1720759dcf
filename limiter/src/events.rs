//! The events that this crate tells through `tracing`: one table, from which they are told and `docs/events.md` is made.
//!
//! Each carries its name in the field `event`, which stays the same when its text is reworded. Ids of clients are in none of them.

use tracing::Level;

/// An event: what is told, and what it means to whoever reads it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its name, in the field `event`.
    pub name: &'static str,
    /// How loud it is.
    pub level: Level,
    /// Its text.
    pub text: &'static str,
    /// Its fields beside `event`, separated by commas.
    pub fields: &'static str,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

macro_rules! events {
    ($($id:ident: $level:ident, $name:literal, $text:literal, $fields:literal, $meaning:literal;)*) => {
        $(pub(crate) const $id: Event = Event {
            name: $name,
            level: Level::$level,
            text: $text,
            fields: $fields,
            meaning: $meaning,
        };)*

        /// All events of this crate.
        pub const EVENTS: &[Event] = &[$($id),*];
    };
}

events! {
    RESTORED: INFO, "restored", "snapshot restored", "path, outcome, result, generation, cells, expired, unmapped, no_room, age",
        "The limiter was made. outcome is exact, cold_none (no snapshot yet) or attached (another process has it already). Nothing to do.";
    RESTORED_PARTLY: WARN, "restored_partly", "snapshot not restored exactly",
        "path, outcome, result, generation, cells, expired, unmapped, no_room, age, damage, damaged_chunks",
        "Some debts or all were not believed: those clients have their burst again, once. Look at the file with `ratelimit inspect`, and at the disk.";
    SNAPSHOT_WRITTEN: DEBUG, "snapshot_written", "snapshot written", "generation, bytes, duration",
        "Every period in which anything changed. Nothing to do.";
    SNAPSHOT_FAILED: ERROR, "snapshot_failed", "snapshot not written", "error, failures_in_a_row",
        "Decisions go on, and the last good snapshot stays. A crash now costs more than a period. Make room or mend the disk; told at the \
         1st, 2nd, 4th, 8th failure in a row.";
    NO_KEEPER: ERROR, "no_keeper", "no thread could be started: snapshots are written only by snapshot() and close()", "error",
        "The system has no thread left for snapshots. Raise the limit of threads and restart.";
}

/// Tells an event of the table, with these fields.
macro_rules! tell {
    ($id:ident, $($fields:tt)*) => {
        tracing::event!(
            name: $crate::events::$id.name,
            $crate::events::$id.level,
            event = $crate::events::$id.name,
            $($fields)*,
            "{}",
            $crate::events::$id.text
        )
    };
}
pub(crate) use tell;
