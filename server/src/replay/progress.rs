//! A line about how far we are, for whoever waits.

use std::io::Write;
use std::time::{Duration, Instant};

use super::report::thousands;

/// Short replays end before anything is said.
const FIRST_AFTER: Duration = Duration::from_secs(1);
const EVERY_ON_TERMINAL: Duration = Duration::from_millis(250);
const EVERY_IN_FILE: Duration = Duration::from_secs(5);

/// Writes to stderr now and then. On a terminal one line is written over and over; elsewhere each is a line of its own.
pub struct Progress<'a> {
    err: &'a mut dyn Write,
    enabled: bool,
    terminal: bool,
    started: Instant,
    next: Instant,
    shown: bool,
}

impl<'a> Progress<'a> {
    /// Silent unless `enabled`.
    pub fn new(err: &'a mut dyn Write, enabled: bool, terminal: bool) -> Self {
        let started = Instant::now();
        Progress {
            err,
            enabled,
            terminal,
            started,
            next: started + FIRST_AFTER,
            shown: false,
        }
    }

    /// Says how far we are, if it is time to. `doing` names the work, `done` counts lines or requests, and `share` is what
    /// part of the input is behind us, where that is known.
    pub fn tick(&mut self, doing: &str, done: u64, share: Option<f64>) {
        if !self.enabled {
            return;
        }
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now
            + if self.terminal {
                EVERY_ON_TERMINAL
            } else {
                EVERY_IN_FILE
            };
        let share = share.map_or_else(String::new, |share| format!(", {:.0} %", share.clamp(0.0, 1.0) * 100.0));
        let seconds = now.duration_since(self.started).as_secs();
        let text = format!("{doing}: {} lines{share}, {seconds} s", thousands(done));
        // Progress is a courtesy: a stderr that is closed must not end the replay.
        let _ = if self.terminal {
            write!(self.err, "\r\x1b[K{text}")
        } else {
            writeln!(self.err, "{text}")
        };
        let _ = self.err.flush();
        self.shown = true;
    }

    /// Removes the line, so that what follows begins on a clean one.
    pub fn clear(&mut self) {
        if self.shown && self.terminal {
            let _ = write!(self.err, "\r\x1b[K");
            let _ = self.err.flush();
        }
        self.shown = false;
    }

    /// Writes a note of its own line.
    pub fn note(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.err, "note: {text}");
    }
}
