//! The events of the service: one table, from which they are told, and the document of all tables, `docs/events.md`.
//!
//! The form of a table, its names, paces and hashes are those of [`ratelimit::events`].

use std::fmt::Write;

pub use ratelimit::events::Event;
pub(crate) use ratelimit::events::hashed;

ratelimit::event_table! {
    /// All events of the service itself.
    EVENTS:
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
    CLIENT_BLOCKED: INFO, "client_blocked", "a client was blocked, or its block lifted", "limit, client, seconds",
        "By an administrator. seconds is 0 if it was lifted. A block is kept over restarts.";
    CLIENT_RESET: INFO, "client_reset", "what a client had spent was forgotten", "limit, client",
        "By an administrator.";
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
    ($id:ident $($rest:tt)*) => { ratelimit::tell_event!($crate::events::$id $($rest)*) };
}

/// Tells an event unless one of this place was told a short while ago.
macro_rules! tell_paced {
    ($id:ident $($rest:tt)*) => { ratelimit::tell_event_paced!($crate::events::$id $($rest)*) };
}

pub(crate) use {tell, tell_paced};

/// All tables, with what tells them.
const TABLES: [(&str, &[Event]); 3] = [
    ("The service", EVENTS),
    ("A limiter", ratelimit::events::EVENTS),
    ("A node of a cluster", ratelimit::events::CLUSTER_EVENTS),
];

/// The document that lists all events: `docs/events.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Events\n\n\
         Made from the tables in `server/src/events.rs`, `limiter/src/events.rs` and `limiter/src/cluster/events.rs` by\n\
         `cargo run -p ratelimit-server --example events`; `cargo xtask documents` compares.\n\n\
         The service tells them on standard error, as text or with `--log json` as one JSON object a line; a program that links the crate gets\n\
         those of limiters and clusters through `tracing`. The field `event` has the name, which stays the same when the text is reworded. Ids\n\
         of clients are told as eight digits of a hash whose key is made up at each start. Events with a field `left_out` are told once in ten\n\
         seconds at most, those of a node of a cluster ten times; it has the number of those that were not told since.\n",
    );
    for (title, events) in TABLES {
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
    fn names_are_words_and_none_is_there_twice() {
        let all: Vec<&Event> = TABLES.iter().flat_map(|(_, table)| *table).collect();
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
}
