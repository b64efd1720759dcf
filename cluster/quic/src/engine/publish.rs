//! The copy of the state that others look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratelimit_protocol::NodeId;
use ratelimit_protocol::membership::Standing;

use super::Engine;
use crate::driver::Table;
use crate::event::{Event, ModeOfWork};
use crate::link::Link;
use crate::stats::{DriverStats, PeerState};

/// Regularly, and after something changed.
const EVERY: Duration = Duration::from_millis(250);
const SOON: Duration = Duration::from_millis(20);
/// Counting walks the owner's books: it may take a twentieth of the thread's time and no more.
const APART: u32 = 20;
/// Over so long the longest turn is remembered.
const TURNS: Duration = Duration::from_secs(10);

/// When to publish, and how long turns take.
#[derive(Debug)]
pub(super) struct Schedule {
    due: Instant,
    not_before: Instant,
    working_since: Option<Instant>,
    longest: Duration,
    longest_at: Instant,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Schedule {
            due: now,
            not_before: now,
            working_since: Some(now),
            longest: Duration::ZERO,
            longest_at: now,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Something changed that others wait for.
    pub(super) fn soon(&mut self, now: Instant) {
        self.due = self.due.min((now + SOON).max(self.not_before));
    }

    /// The thread begins to work.
    pub(super) fn work(&mut self, now: Instant) {
        self.working_since = Some(now);
    }

    /// The thread has worked.
    pub(super) fn rest(&mut self, now: Instant) {
        let worked = self
            .working_since
            .take()
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if worked >= self.longest || now.saturating_duration_since(self.longest_at) >= TURNS {
            (self.longest, self.longest_at) = (worked, now);
        }
    }
}

impl<T, C, E> Engine<'_, T, C, E>
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    pub(super) fn publish(&mut self, now: Instant) {
        if now >= self.publish.due {
            self.publish_now();
            let cost = now.elapsed();
            self.publish.not_before = now + cost * APART;
            self.publish.due = (now + EVERY).max(self.publish.not_before);
        }
    }

    pub(super) fn publish_now(&mut self) {
        let node = self.node.stats();
        let peers: Vec<(String, Standing)> = self
            .node
            .peers()
            .map(|(name, standing)| (name.to_owned(), standing))
            .collect();
        let known: BTreeSet<&str> = peers.iter().map(|(name, _)| name.as_str()).collect();
        self.lasting
            .counters
            .peers
            .retain(|name, _| known.contains(name.as_str()));
        let links: BTreeMap<&str, &Link> = self
            .links
            .values()
            .filter(|link| !link.closing && self.joined.contains_key(&link.name))
            .map(|link| (link.name.as_str(), link))
            .collect();
        let mut states: Vec<PeerState> = peers
            .iter()
            .map(|(name, standing)| {
                let link = links.get(name.as_str());
                let protocol = node.peers.get(&NodeId::of(name)).copied().unwrap_or_default();
                let kept = self.lasting.counters.peers.get(name);
                let now_bytes = link.map_or((0, 0), |link| bytes(link));
                PeerState {
                    name: name.clone(),
                    address: link.map(|link| link.address).or(kept.and_then(|kept| kept.address)),
                    standing: *standing,
                    linked: link.is_some(),
                    incarnation: kept.and_then(|kept| kept.incarnation),
                    rtt: link.map(|link| link.connection.rtt()),
                    lag: Duration::from_nanos(protocol.waits_ns),
                    unacked_units: protocol.in_flight_units,
                    sent_bytes: kept.map_or(0, |kept| kept.sent_bytes) + now_bytes.0,
                    received_bytes: kept.map_or(0, |kept| kept.received_bytes) + now_bytes.1,
                    links_up: kept.map_or(0, |kept| kept.links_up),
                    strikes: protocol.strikes,
                }
            })
            .collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        self.judge_mode_of_work(&states);
        let counters = &self.lasting.counters;
        let stats = DriverStats {
            node,
            incarnation: self.incarnation,
            mode_of_work: self.mode_of_work,
            handshakes_refused: counters.refused,
            handshakes_in_progress: self.gate.in_progress(),
            retries_asked: counters.retries_asked,
            links_up: counters.links_up,
            links_down: counters.links_down,
            certificate_not_after: Some(self.lasting.credentials.not_after),
            certificates_reloaded: counters.certificates_reloaded,
            certificates_failed: counters.certificates_failed,
            panics: counters.panics + self.task_panics() + self.lasting.journal.panics,
            wakes: counters.wakes,
            kicks: counters.kicks,
            longest_turn: self.publish.longest,
        };
        let ready = self.book.is_ready(|name| self.joined.contains_key(name));
        let limits = self.node.limits().copied().collect();
        self.lasting.shared.change(|view| {
            view.peers = Arc::new(states);
            view.limits = Arc::new(limits);
            view.stats = Arc::new(stats);
            view.ready = ready;
        });
    }

    fn judge_mode_of_work(&mut self, peers: &[PeerState]) {
        let known = peers
            .iter()
            .filter(|peer| !matches!(peer.standing, Standing::Left | Standing::Unheard));
        let (mut heard, mut unheard) = (0, 0);
        for peer in known {
            match peer.standing {
                Standing::Alive | Standing::Suspect => heard += 1,
                _ => unheard += 1,
            }
        }
        let mode = match (heard, unheard) {
            (0, _) => ModeOfWork::Alone,
            (_, 0) => ModeOfWork::Whole,
            _ => ModeOfWork::Parted,
        };
        if self.mode_of_work.replace(mode) != Some(mode) {
            self.lasting.journal.tell(Event::ModeOfWork(mode));
        }
    }

    /// A link ends, its bytes do not.
    pub(super) fn keep_bytes(&mut self, link: &Link) {
        if let Some(kept) = self.lasting.counters.peers.get_mut(&link.name) {
            let (sent, received) = bytes(link);
            kept.sent_bytes += sent;
            kept.received_bytes += received;
        }
    }
}

fn bytes(link: &Link) -> (u64, u64) {
    let stats = link.connection.stats();
    (stats.udp_tx.bytes, stats.udp_rx.bytes)
}
