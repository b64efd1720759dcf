//! The events that are told through `tracing`: the form of their tables, and the table of this crate's own.
//!
//! From a table they are told and `docs/events.md` is made. Each event carries its name in the field `event`, which stays the same when its
//! text is reworded. Ids of clients are in none of them, or as eight digits of a hash with a key that this process made up
//! ([`hashed`]), so that events of one client can be told from those of another and nothing else. Those that others can cause are
//! paced ([`Pace`]), with the number of those left out in the field `left_out`.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[doc(hidden)]
pub use tracing;

#[cfg(feature = "cluster")]
pub use crate::cluster::EVENTS as CLUSTER_EVENTS;

/// An event: what is told, and what it means to whoever reads it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its name, in the field `event`.
    pub name: &'static str,
    /// How loud it is.
    pub level: tracing::Level,
    /// Its text.
    pub text: &'static str,
    /// Its fields beside `event`, separated by commas.
    pub fields: &'static str,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

/// Makes a table of events: a constant for each, and all of them under a name. For the crates of this project.
#[doc(hidden)]
#[macro_export]
macro_rules! event_table {
    (
        $(#[$about:meta])* $table:ident:
        $($id:ident: $level:ident, $name:literal, $text:literal, $fields:literal, $meaning:literal;)*
    ) => {
        $(pub(crate) const $id: $crate::events::Event = $crate::events::Event {
            name: $name,
            level: $crate::events::tracing::Level::$level,
            text: $text,
            fields: $fields,
            meaning: $meaning,
        };)*

        $(#[$about])*
        pub const $table: &[$crate::events::Event] = &[$($id),*];
    };
}

/// Tells an event of a table, with these fields. For the crates of this project.
#[doc(hidden)]
#[macro_export]
macro_rules! tell_event {
    ($event:path $(, $($fields:tt)*)?) => {
        $crate::events::tracing::event!(
            name: $event.name,
            $event.level,
            event = $event.name,
            $($($fields)*,)?
            "{}",
            $event.text
        )
    };
}

/// Tells an event of a table unless one of this place was told a short while ago. For the crates of this project.
#[doc(hidden)]
#[macro_export]
macro_rules! tell_event_paced {
    ($event:path, $($fields:tt)*) => {{
        static PACE: $crate::events::Pace = $crate::events::Pace::new(1);
        if let Some(left_out) = PACE.take() {
            $crate::tell_event!($event, $($fields)*, left_out);
        }
    }};
}

event_table! {
    /// What a limiter tells, whatever it is part of.
    EVENTS:
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

/// Tells an event of this crate's table.
macro_rules! tell {
    ($id:ident $($rest:tt)*) => { $crate::tell_event!($crate::events::$id $($rest)*) };
}
pub(crate) use tell;

/// In this time as many events of a kind are told as its [`Pace`] allows.
const WINDOW: Duration = Duration::from_secs(10);

/// Paces the events of one kind: so many at once, and as many in ten seconds from then on.
#[derive(Debug)]
pub struct Pace {
    apart_ns: u64,
    ahead_ns: u64,
    /// When all that was told is paid for, in nanoseconds since the first use of any pace.
    paid_ns: AtomicU64,
    left_out: AtomicU64,
}

impl Pace {
    /// A pace of `lines` in ten seconds, at least one.
    #[must_use]
    pub const fn new(lines: u64) -> Self {
        let lines = if lines == 0 { 1 } else { lines };
        let apart_ns = WINDOW.as_nanos() as u64 / lines;
        Pace {
            apart_ns,
            ahead_ns: apart_ns * (lines - 1),
            paid_ns: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether to tell one now: with how many were left out since the last.
    pub fn take(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.take_at(START.get_or_init(Instant::now).elapsed())
    }

    fn take_at(&self, now: Duration) -> Option<u64> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let pay = |paid_ns: u64| {
            let is_ours = paid_ns <= now_ns.saturating_add(self.ahead_ns);
            is_ours.then(|| paid_ns.max(now_ns).saturating_add(self.apart_ns))
        };
        // Relaxed, all of it: the exchange alone decides who tells, and the count guards nothing.
        let paid = self.paid_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        if paid.is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

/// What a client is called in events.
#[must_use]
pub fn hashed(client: &str) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(client);
    format!("{:08x}", hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_place_are_paced_and_none_is_forgotten() {
        let pace = Pace::new(1);
        let at = |ms: u64| pace.take_at(Duration::from_millis(ms));
        assert_eq!(at(5), Some(0));
        assert_eq!((at(6), at(9_000), at(10_004)), (None, None, None));
        assert_eq!(at(10_005), Some(3));
        assert_eq!((at(10_006), at(60_000)), (None, Some(1)));
    }

    #[test]
    fn ten_lines_come_at_once_and_then_one_a_second() {
        let pace = Pace::new(10);
        let at = |ms: u64| pace.take_at(Duration::from_millis(ms));
        let told = (0..25).filter_map(|_| at(50)).count();
        assert_eq!(told, 10);
        assert_eq!((at(1_049), at(1_050), at(1_051)), (None, Some(16), None));
    }

    #[test]
    fn clients_are_told_as_hashes() {
        assert_eq!(hashed("client-7"), hashed("client-7"));
        assert_ne!(hashed("client-7"), hashed("client-8"));
        assert_eq!(hashed("client-7").len(), 8);
    }
}
