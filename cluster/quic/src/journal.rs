//! Telling whoever runs the driver what happened. What becomes a line of log, and how often, is for the host to say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::event::Event;

/// Between two events about strangers.
const STRANGERS: Duration = Duration::from_secs(1);

/// Tells events.
pub(crate) struct Journal<E> {
    on_event: E,
    stranger_at: Option<Instant>,
    /// Panics of the function that is told.
    pub(crate) panics: u64,
}

impl<E: Fn(Event)> Journal<E> {
    pub(crate) fn new(on_event: E) -> Self {
        Journal {
            on_event,
            stranger_at: None,
            panics: 0,
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if matches!(event, Event::HandshakeRefused { .. }) {
            // Whoever floods the port must not flood the host with events; all are counted.
            let now = Instant::now();
            if self
                .stranger_at
                .is_some_and(|at| now.saturating_duration_since(at) < STRANGERS)
            {
                return;
            }
            self.stranger_at = Some(now);
        }
        let told = catch_unwind(AssertUnwindSafe(|| (self.on_event)(event)));
        if let Err(payload) = told {
            self.panics += 1;
            // Dropping what a panic carries may panic again.
            std::mem::forget(payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::HandshakeRefusal;
    use std::cell::RefCell;

    fn refused() -> Event {
        Event::HandshakeRefused {
            address: "10.0.0.1:1".parse().expect("an address"),
            reason: HandshakeRefusal::Other,
        }
    }

    #[test]
    fn strangers_make_one_event_a_second_and_others_all() {
        let told = RefCell::new(Vec::new());
        let mut journal = Journal::new(|event| told.borrow_mut().push(event));
        for _ in 0..100 {
            journal.tell(refused());
            journal.tell(Event::UnitsLost { units: 1 });
        }
        let strangers = told.borrow().iter().filter(|event| **event == refused()).count();
        assert!((1..=2).contains(&strangers), "{strangers}");
        assert_eq!(told.borrow().len() - strangers, 100);
    }

    #[test]
    fn a_panic_of_whoever_is_told_is_caught() {
        let mut journal = Journal::new(|_| panic!("injected by a test"));
        journal.tell(refused());
        assert_eq!(journal.panics, 1);
    }
}
