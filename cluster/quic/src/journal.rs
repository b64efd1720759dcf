//! Telling: one line of log for each important change, and the event to whoever runs the driver.

use std::mem::{Discriminant, discriminant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use ratelimit_protocol::membership::Standing;

use crate::event::Event;

/// Lines of one kind in one such time; what is beyond is counted and said in the next line of that kind.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// Between two events about strangers.
const STRANGERS: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Kind {
    since: Instant,
    said: u32,
    left_out: u64,
}

/// Tells events.
pub(crate) struct Journal<E> {
    node: String,
    on_event: E,
    /// One for each kind of event that was ever told: no more than there are kinds.
    kinds: Vec<(Discriminant<Event>, Kind)>,
    stranger_at: Option<Instant>,
    /// Panics of the function that is told.
    pub(crate) panics: u64,
}

impl<E: Fn(Event)> Journal<E> {
    pub(crate) fn new(node: &str, on_event: E) -> Self {
        Journal {
            node: node.to_owned(),
            on_event,
            kinds: Vec::new(),
            stranger_at: None,
            panics: 0,
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let now = Instant::now();
        if matches!(event, Event::HandshakeRefused { .. }) {
            // Whoever floods the port must not flood the host with events; all are counted.
            if self
                .stranger_at
                .is_some_and(|at| now.saturating_duration_since(at) < STRANGERS)
            {
                return;
            }
            self.stranger_at = Some(now);
        }
        if let Some(left_out) = self.may_say(&event, now) {
            say(&self.node, &event, left_out);
        }
        let told = catch_unwind(AssertUnwindSafe(|| (self.on_event)(event)));
        if let Err(payload) = told {
            self.panics += 1;
            // Dropping what a panic carries may panic again.
            std::mem::forget(payload);
        }
    }

    /// How many lines of this kind were left out since the last; `None` if this one is, too.
    fn may_say(&mut self, event: &Event, now: Instant) -> Option<u64> {
        let kind = discriminant(event);
        let known = self.kinds.iter().position(|(other, _)| *other == kind);
        let place = known.unwrap_or_else(|| {
            let fresh = Kind {
                since: now,
                said: 0,
                left_out: 0,
            };
            self.kinds.push((kind, fresh));
            self.kinds.len() - 1
        });
        let kind = &mut self.kinds[place].1;
        if now.saturating_duration_since(kind.since) >= WINDOW {
            (kind.since, kind.said) = (now, 0);
        }
        if kind.said >= LINES {
            kind.left_out += 1;
            return None;
        }
        kind.said += 1;
        Some(std::mem::take(&mut kind.left_out))
    }
}

macro_rules! line {
    ($level:ident, $node:expr, $left_out:expr, $($rest:tt)*) => {
        if $left_out > 0 {
            tracing::$level!(node = $node, left_out = $left_out, $($rest)*)
        } else {
            tracing::$level!(node = $node, $($rest)*)
        }
    };
}

fn say(node: &str, event: &Event, left_out: u64) {
    match event {
        Event::PeerJoined { name, .. } => line!(info, node, left_out, peer = name, "a peer is linked"),
        Event::PeerStanding { name, standing } => match standing {
            Standing::Alive => line!(info, node, left_out, peer = name, "a peer is heard again"),
            Standing::Suspect => line!(warn, node, left_out, peer = name, "a peer fell silent"),
            Standing::Dead => line!(warn, node, left_out, peer = name, "a peer is taken for dead"),
            Standing::Left => line!(info, node, left_out, peer = name, "a peer left"),
            Standing::Unheard => {}
        },
        Event::OwnersChanged { owners, nodes } => {
            line!(info, node, left_out, owners, nodes, "the owners of keys changed");
        }
        Event::ModeOfWork(mode) => line!(info, node, left_out, mode = ?mode, "this node works in another way now"),
        Event::LimitChanged { id, version } => {
            line!(info, node, left_out, limit = id.0, version, "a limit changed");
        }
        Event::PeerRefused { name, reason, by_peer } => {
            line!(warn, node, left_out, peer = name, reason = ?reason, by_peer, "a link was refused");
        }
        Event::HandshakeRefused { address, reason } => {
            let reason = reason.label();
            line!(warn, node, left_out, %address, reason, "a handshake came to nothing");
        }
        Event::DuplicateName { name } => {
            line!(
                error,
                node,
                left_out,
                name,
                "two processes use one name: give each its own"
            );
        }
        Event::Clamped { name, units, strikes } => {
            line!(
                warn,
                node,
                left_out,
                peer = name,
                units,
                strikes,
                "a peer reported more than it can have spent"
            );
        }
        Event::Quarantined { name } => {
            line!(
                error,
                node,
                left_out,
                peer = name,
                "a peer's reports are ignored until it is restarted"
            );
        }
        Event::UnitsLost { units } => {
            line!(
                warn,
                node,
                left_out,
                units,
                "units were given up: the table had no room for them"
            );
        }
        Event::CertificatesReloaded { .. } => line!(info, node, left_out, "certificates were read anew"),
        Event::CertificatesFailed { reason } => {
            line!(
                error,
                node,
                left_out,
                reason,
                "certificates changed and are of no use: the ones before stay"
            );
        }
        Event::CertificateExpires { left } => {
            let hours = left.as_secs() / 3600;
            line!(
                warn,
                node,
                left_out,
                hours,
                "this node's certificate expires soon: renew it"
            );
        }
        Event::SeedUnresolved { seed, reason } => {
            line!(warn, node, left_out, seed, reason, "a seed cannot be resolved");
        }
        Event::Restarted { panic } => {
            line!(
                error,
                node,
                left_out,
                panic,
                "the cluster's thread met a bug and starts over; decisions go on"
            );
        }
        Event::Stopped { gracefully } => line!(info, node, left_out, gracefully, "the cluster's thread has ended"),
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
        let mut journal = Journal::new("a", |event| told.borrow_mut().push(event));
        for _ in 0..100 {
            journal.tell(refused());
            journal.tell(Event::UnitsLost { units: 1 });
        }
        let strangers = told.borrow().iter().filter(|event| **event == refused()).count();
        assert!((1..=2).contains(&strangers), "{strangers}");
        assert_eq!(told.borrow().len() - strangers, 100);
    }

    #[test]
    fn lines_of_a_kind_are_bounded_and_the_rest_is_counted() {
        let mut journal = Journal::new("a", |_| {});
        let now = Instant::now();
        let lost = Event::UnitsLost { units: 1 };
        let said = (0..25).filter_map(|_| journal.may_say(&lost, now)).count();
        assert_eq!(said, 10);
        assert_eq!(journal.may_say(&refused(), now), Some(0), "another kind is not held up");
        assert_eq!(journal.may_say(&lost, now + WINDOW), Some(15));
    }

    #[test]
    fn a_panic_of_whoever_is_told_is_caught() {
        let mut journal = Journal::new("a", |_| panic!("injected by a test"));
        journal.tell(refused());
        assert_eq!(journal.panics, 1);
    }
}
