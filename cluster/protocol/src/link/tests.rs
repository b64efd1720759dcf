use super::*;
use crate::id::{Cell, Key};
use alloc::collections::BTreeMap;
use proptest::prelude::*;

fn entry(key: u64, used: u64) -> Entry {
    Entry {
        cell: Cell {
            limit: LimitId(key as u32 % 3),
            key: Key(key),
        },
        used,
        denied: 0,
        largest: 0,
        leased: false,
        refund: false,
        waiting: false,
    }
}

fn report(frame: &[u8]) -> Report {
    let mut frames = FrameReader::default();
    let body = frames.next(&mut &frame[..]).expect("a frame").expect("all of it");
    match Message::decode(body) {
        Ok(Some((Message::Report(report), 0))) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_window_stops_draining_and_acknowledgements_open_it() {
    let mut outbox = Outbox::default();
    for seq in 1..=WINDOW as u64 {
        assert!(outbox.has_room());
        outbox.add(entry(seq, 1));
        assert!(outbox.close(seq).is_some());
    }
    assert!(!outbox.has_room());
    assert_eq!(outbox.acked(2).expect("sent").len(), 2);
    assert!(outbox.has_room());
    assert_eq!((outbox.sent_at(4), outbox.sent_at(99)), (Some(4), None));
    assert_eq!(outbox.acked(99), Err(Impossible), "never sent");
}

#[test]
fn what_was_taken_back_and_is_acknowledged_after_all_is_known_to_be_double() {
    let mut outbox = Outbox::default();
    for units in [3, 5] {
        outbox.add(entry(1, units));
        outbox.close(1);
    }
    assert_eq!(outbox.withdraw().len(), 2);
    assert_eq!(outbox.acked(1).expect("sent"), []);
    assert_eq!((outbox.withdrawn_units, outbox.doubled_units), (8, 3));
    assert_eq!(outbox.resume(2).expect("sent"), []);
    assert_eq!((outbox.doubled_units, outbox.unacked()), (8, 0));
}

#[test]
fn a_batch_never_outgrows_its_bytes() {
    let mut outbox = Outbox::default();
    let mut key = 0;
    while outbox.has_room() {
        // The worst case for sections: every entry is of another limit.
        outbox.add(Entry {
            cell: Cell {
                limit: LimitId(u32::MAX - key as u32),
                key: Key(key),
            },
            denied: u64::MAX,
            largest: u64::MAX,
            ..entry(key, u64::MAX >> 4)
        });
        key += 1;
    }
    let frame = outbox.close(0).expect("a batch");
    assert!(frame.len() <= MAX_BATCH, "{}", frame.len());
}

#[test]
fn bytes_leave_as_the_stream_has_room() {
    let mut out = Outgoing::new();
    out.push(b"abcdef");
    out.set_free(4);
    assert_eq!(out.take().as_deref(), Some(&b"abcd"[..]));
    assert_eq!(out.take(), None);
    out.set_free(100);
    assert_eq!(out.take().as_deref(), Some(&b"ef"[..]));
    assert!(out.is_empty() && out.take().is_none());
}

/// One sender and one receiver, with everything between them that a network can do.
struct Pair {
    outbox: Outbox,
    inbox: Inbox,
    life: u64,
    receiver_life: u64,
    /// What the present link carries each way; a straggler is a batch of an older link.
    there: VecDeque<Vec<u8>>,
    back: VecDeque<u64>,
    stragglers: VecDeque<Vec<u8>>,
    up: bool,
    /// By key: units drained from cells, units in the receiver's books in any of its lives, units put back.
    drained: BTreeMap<u64, u64>,
    applied: BTreeMap<u64, u64>,
    put_back: BTreeMap<u64, u64>,
    restarted: bool,
}

impl Pair {
    fn new() -> Self {
        Pair {
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            life: 1,
            receiver_life: 1,
            there: VecDeque::new(),
            back: VecDeque::new(),
            stragglers: VecDeque::new(),
            up: false,
            drained: BTreeMap::new(),
            applied: BTreeMap::new(),
            put_back: BTreeMap::new(),
            restarted: false,
        }
    }

    fn send(&mut self, key: u64, units: u64) {
        if self.up && self.outbox.has_room() {
            self.outbox.add(entry(key, units));
            *self.drained.entry(key).or_default() += units;
            if let Some(frame) = self.outbox.close(0) {
                self.there.push_back(frame.to_vec());
            }
        }
    }

    fn receive(&mut self, frame: &[u8]) {
        let report = report(frame);
        if self.inbox.arrive(report.seq) == Arrival::Apply {
            for entry in report.entries {
                *self.applied.entry(entry.cell.key.0).or_default() += entry.used;
            }
        }
    }

    fn cut(&mut self) {
        self.up = false;
        // Some of it may still arrive, long after the link is dead for its sender.
        self.stragglers.append(&mut self.there);
        self.back.clear();
    }

    fn connect(&mut self) {
        if self.up {
            self.cut();
        }
        self.up = true;
        if self.restarted {
            self.restarted = false;
            let entries = self.outbox.withdraw();
            self.note_put_back(&entries);
            self.outbox.restart();
            self.stragglers.clear();
        }
        self.inbox.meet(Incarnation(self.life), Switches::default());
        let applied = self.inbox.applied;
        self.outbox.resume(applied).expect("it was sent");
        self.there = self.outbox.again().map(<[u8]>::to_vec).collect();
    }

    fn note_put_back(&mut self, entries: &[Entry]) {
        for entry in entries {
            *self.put_back.entry(entry.cell.key.0).or_default() += entry.used;
        }
    }

    fn restart_receiver(&mut self) {
        self.cut();
        self.receiver_life += 1;
        self.inbox = Inbox::default();
        self.restarted = true;
    }

    fn withdraw(&mut self) {
        if !self.up {
            let entries = self.outbox.withdraw();
            self.note_put_back(&entries);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever is cut, lost, late or repeated: every unit that was drained is applied once, or put back, and only units
    /// that were put back can be applied as well.
    #[test]
    fn every_unit_is_applied_exactly_once(
        steps in prop::collection::vec((0u8..10, 0u64..4, 1u64..100), 1..200),
    ) {
        let mut pair = Pair::new();
        for (step, key, units) in steps {
            match step {
                0..=3 => pair.send(key, units),
                4 | 5 => if let Some(frame) = pair.there.pop_front() {
                    pair.receive(&frame);
                    pair.back.push_back(pair.inbox.applied);
                },
                6 => if let Some(seq) = pair.back.pop_front() {
                    pair.outbox.acked(seq).expect("it was sent");
                },
                7 => pair.connect(),
                8 => pair.cut(),
                _ => match units % 4 {
                    0 => pair.restart_receiver(),
                    1 => pair.withdraw(),
                    // Bytes of a dead link arrive late.
                    _ => if let Some(frame) = pair.stragglers.pop_front()
                        && !pair.restarted
                    {
                        pair.receive(&frame);
                    },
                },
            }
            let outbox = &pair.outbox;
            prop_assert!(outbox.unacked() <= WINDOW);
            prop_assert_eq!(outbox.drained_units, outbox.acked_units + outbox.unacked_units() + outbox.withdrawn_units);
        }
        // Quiet: everything arrives.
        pair.connect();
        while let Some(frame) = pair.there.pop_front() {
            pair.receive(&frame);
        }
        pair.outbox.acked(pair.inbox.applied).expect("it was sent");
        prop_assert_eq!(pair.outbox.unacked(), 0);
        for (key, drained) in &pair.drained {
            let applied = pair.applied.get(key).copied().unwrap_or(0);
            let put_back = pair.put_back.get(key).copied().unwrap_or(0);
            prop_assert!(applied + put_back >= *drained, "units of key {} were lost", key);
            prop_assert!(applied <= *drained, "units of key {} were applied twice", key);
        }
    }
}
