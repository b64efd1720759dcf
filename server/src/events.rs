//! The events of a node: one table, from which they are told and `docs/events.md` is made.
//!
//! Each carries its name in the field `event`. Those that clients can cause are paced: one of a kind in ten seconds, with the number of
//! those left out in the field `left_out`. Ids of clients are told as eight digits of a hash with a key that this process made up, so that
//! events of one client can be told from those of another and nothing else.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use ratelimit::events::Event;
use tracing::Level;

macro_rules! events {
    ($($id:ident: $level:ident, $name:literal, $text:literal, $fields:literal, $meaning:literal;)*) => {
        $(pub(crate) const $id: Event = Event {
            name: $name,
            level: Level::$level,
            text: $text,
            fields: $fields,
            meaning: $meaning,
        };)*

        /// All events of the node itself.
        pub const EVENTS: &[Event] = &[$($id),*];
    };
}

events! {
    STARTED: INFO, "started", "started", "version",
        "Snapshots are restored and the addresses are served.";
    STOPPING: INFO, "stopping", "stopping", "",
        "A signal came. Requests under way are answered, connections end, the last snapshots are written.";
    STOPPED: INFO, "stopped", "stopped", "",
        "All is saved. If this line is missing, the last second before the stop may be too.";
    OPEN_TO_ALL: WARN, "open_to_all", "other machines can reach this node and no token is set: RESP is open to all of them", "",
        "Set `token`, or let only services reach the port.";
    CONNECTIONS_CUT: WARN, "connections_cut", "connections that did not end in time are cut", "timeout",
        "Clients held a request open for longer than a stop waits. Nothing is lost but their answers.";
    LISTENER_FAILED: ERROR, "listener_failed", "a listener failed", "error",
        "A fault of this program: please report it. Restart the node.";
    FEW_FILES: WARN, "few_files", "the system allows fewer open files than connections may need", "allowed, needed",
        "Connections beyond it are not accepted. Raise the hard limit (LimitNOFILE in a unit, ulimit -Hn in a shell), or lower max_connections.";
    NOT_ACCEPTED: WARN, "not_accepted", "cannot accept a connection", "error, left_out",
        "Mostly: no more open files. Raise LimitNOFILE, or lower max_connections.";
    CONNECTION_REFUSED: WARN, "connection_refused", "a connection was turned away: max_connections are open", "listener, left_out",
        "Clients open more connections than they may. Let them share some, or raise max_connections.";
    CONNECTION_DROPPED: DEBUG, "connection_dropped", "connection dropped", "listener, reason",
        "The client broke the protocol, sent half a request, or did not take its replies.";
    ADMIN_REFUSED: WARN, "admin_refused", "a call that administers was refused", "reason, left_out",
        "Somebody without the token, or from another machine, tried to change something. Find out who.";
    TERMS_REFUSED: WARN, "terms_refused", "CL.THROTTLE refused", "reason, left_out",
        "The terms make no limit, or more different terms are in use than [throttle] max_limits.";
    RELOADED: INFO, "reloaded", "configuration reloaded", "",
        "The whole file is in force, but for what the events before it say.";
    TAKES_RESTART: WARN, "takes_restart", "a part of the configuration takes a restart", "part",
        "The rest is in force. Restart when it suits.";
    RELOAD_REFUSED: ERROR, "reload_refused", "configuration refused, the one before stays in force", "error",
        "Nothing was changed. The error names the line.";
    LIMIT_CHANGED: INFO, "limit_changed", "limits changed", "limit, limits",
        "By a reload or an administrator. Clients keep the share of their burst that they have spent.";
    LIMIT_REMOVED: INFO, "limit_removed", "limit removed", "limit",
        "It is not in the new configuration. Its snapshot stays in the state directory.";
    OVERRIDE_CHANGED: INFO, "override_changed", "a client's own limit changed", "limit, client, own",
        "By an administrator, until the next restart. own is empty if it was taken away.";
    OVERRIDE_LOST: ERROR, "override_lost", "a client's own limit could not be put back after a reload that was refused", "limit, client, error",
        "An administrator took the room meanwhile. Set it again, or reload.";
    CAPACITY_NEAR: WARN, "capacity_near", "the table of a limit is nearly full", "limit, live, cells",
        "More than four fifths of the cells are in debt. At the end unknown clients share cells and are denied too often. Raise max_keys.";
    CAPACITY_FREE: INFO, "capacity_free", "the table of a limit has room again", "limit, live, cells",
        "Less than seven tenths are in debt.";
    OVERFLOWED: WARN, "overflowed", "clients found the table of a limit full and share cells", "limit, decisions, left_out",
        "Too many clients, or a flood of made-up ids. Clients with debt keep theirs. Raise max_keys if the clients are real.";
    CLOCK_FELL_BACK: WARN, "clock_fell_back", "the processor's counter was found wrong: the system's clock decides", "limit",
        "Mostly a virtual machine that was moved. Decisions stay right and take longer; a restart tries the counter again.";
    FILE_NOT_REMOVED: WARN, "file_not_removed", "cannot remove an expired snapshot", "path, error",
        "It only takes room. It is tried again at the next start.";
}

/// Tells an event of the table, with these fields.
macro_rules! tell {
    ($id:ident $(, $($fields:tt)*)?) => {
        tracing::event!(
            name: $crate::events::$id.name,
            $crate::events::$id.level,
            event = $crate::events::$id.name,
            $($($fields)*,)?
            "{}",
            $crate::events::$id.text
        )
    };
}

/// Tells an event unless one of this place was told a short while ago.
macro_rules! tell_paced {
    ($id:ident, $($fields:tt)*) => {{
        static PACE: $crate::events::Pace = $crate::events::Pace::new();
        if let Some(left_out) = PACE.take() {
            $crate::events::tell!($id, $($fields)*, left_out);
        }
    }};
}

pub(crate) use {tell, tell_paced};

/// How long a paced event stays untold after it was told.
const APART: Duration = Duration::from_secs(10);

/// Paces the events of one place.
#[derive(Debug)]
pub(crate) struct Pace {
    /// In nanoseconds since the first use of any; 0 at first.
    next_ns: AtomicU64,
    left_out: AtomicU64,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Pace {
            next_ns: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether to tell it now: with how many were left out since the last time.
    pub(crate) fn take(&self) -> Option<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        self.take_at(START.get_or_init(Instant::now).elapsed())
    }

    fn take_at(&self, now: Duration) -> Option<u64> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next_ns = self.next_ns.load(Ordering::Relaxed);
        let later_ns = now_ns + APART.as_nanos() as u64;
        // Relaxed, all of it: the exchange alone decides who tells, and the count guards nothing.
        let is_ours = now_ns >= next_ns
            && (self.next_ns)
                .compare_exchange(next_ns, later_ns, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_ours {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

/// What a client is called in events.
pub(crate) fn hashed(client: &str) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(client);
    format!("{:08x}", hash as u32)
}

/// The document that lists all events: `docs/events.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Events\n\n\
         Made from the tables in `limiter/src/events.rs` and `server/src/events.rs` by `cargo run -p ratelimit-server --example events`;\n\
         `cargo xtask documents` compares.\n\n\
         A node tells them on standard error, as text or with `--log json` as one JSON object a line; a program that links the crate gets those\n\
         of the limiter through `tracing`. The field `event` has the name, which stays the same when the text is reworded. Ids of clients are told\n\
         as eight digits of a hash whose key is made up at each start. Events with a field `left_out` are told once in ten seconds at\n\
         most; it has the number of those that were not told since.\n",
    );
    for (title, events) in [("A node", EVENTS), ("A limiter", ratelimit::events::EVENTS)] {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {title}\n\n| event | level | text | fields | what it means, and what to do |\n|---|---|---|---|---|\n"
        );
        for event in events {
            let Event {
                name,
                level,
                text: told,
                fields,
                meaning,
            } = event;
            let _ = writeln!(text, "| `{name}` | {level} | {told} | {fields} | {meaning} |");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_place_are_paced_and_none_is_forgotten() {
        let pace = Pace::new();
        let at = |ms: u64| pace.take_at(Duration::from_millis(ms));
        assert_eq!(at(5), Some(0));
        assert_eq!((at(6), at(9_000), at(10_004)), (None, None, None));
        assert_eq!(at(10_005), Some(3));
        assert_eq!((at(10_006), at(60_000)), (None, Some(1)));
    }

    #[test]
    fn names_are_words_and_none_is_there_twice() {
        let all: Vec<&Event> = EVENTS.iter().chain(ratelimit::events::EVENTS).collect();
        for (index, event) in all.iter().enumerate() {
            assert!(
                event.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{}",
                event.name
            );
            assert!(
                !all[..index].iter().any(|other| other.name == event.name),
                "{}",
                event.name
            );
            assert!(event.meaning.ends_with('.') && !event.text.is_empty(), "{}", event.name);
            assert!(!format!("{event:?}").contains('|'), "{} breaks the table", event.name);
        }
    }

    #[test]
    fn clients_are_told_as_hashes() {
        assert_eq!(hashed("client-7"), hashed("client-7"));
        assert_ne!(hashed("client-7"), hashed("client-8"));
        assert_eq!(hashed("client-7").len(), 8);
    }
}
