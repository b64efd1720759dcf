//! Reports over one peer: numbered batches, applied exactly once, and bytes waiting for their stream.
//!
//! The sender numbers its batches per life, keeps at most [`WINDOW`] of them until they are acknowledged, and stops
//! draining beyond: what is used meanwhile stays in the cells. The receiver applies batch `k` if and only if `k` is one more
//! than the last of that life, and says in every hello how far it is. After a reconnect to the same life the sender sends
//! what is not applied again, bytes unchanged, so a straggler of the old link does no harm either. If the receiver was
//! restarted or is no longer the owner, the units go back to the cells and from there, under new numbers, to whoever owns
//! them now.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::id::{Cell, Incarnation, LimitId, NodeId};
use crate::membership::HEARTBEAT_NS;
use crate::message::{Entry, Message, Report, SECTION_LEN, entry_len};
use crate::mutants::Switches;
use crate::wire::{FrameReader, MAX_FRAME, Reader};

/// Unacknowledged batches at most.
pub const WINDOW: usize = 4;
/// A batch takes at most this many bytes.
pub const MAX_BATCH: usize = 32 * 1024;
/// What is on its way to a peer without a link goes back to the cells after this long: the hold-down, since before nobody
/// else owns its keys.
pub(crate) const HOLD_BATCHES_NS: u64 = crate::membership::HOLD_DOWN_NS;
/// As much as a peer may have in flight.
pub(crate) const MAX_EARLY: usize = WINDOW * MAX_BATCH + MAX_FRAME;
/// Batches whose time of sending is remembered, for leases that answer them.
const REMEMBERED: usize = 64;

#[derive(Debug)]
struct Sent {
    seq: u64,
    /// The frame as it went out: smaller than its entries, and sent again as it is.
    frame: Vec<u8>,
    units: u64,
    sent_ns: u64,
    /// Units of each limit in it.
    of: Vec<(LimitId, Spent)>,
}

/// Units that wait for their owner's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) leased: u64,
    pub(crate) unleased: u64,
}

impl Spent {
    fn add(&mut self, entry: &Entry) {
        let place = if entry.leased {
            &mut self.leased
        } else {
            &mut self.unleased
        };
        // What was given back is not spent.
        let used = if entry.refund { 0 } else { entry.used };
        *place = place.saturating_add(used);
    }

    pub(crate) fn units(self) -> u64 {
        self.leased.saturating_add(self.unleased)
    }
}

/// Sums of entries that are sorted by cell, and so by limit.
fn by_limit(entries: &[Entry]) -> Vec<(LimitId, Spent)> {
    let mut of: Vec<(LimitId, Spent)> = Vec::new();
    for entry in entries {
        let limit = entry.cell.limit;
        if of.last().is_none_or(|(last, _)| *last != limit) {
            of.push((limit, Spent::default()));
        }
        if let Some((_, spent)) = of.last_mut() {
            spent.add(entry);
        }
    }
    of
}

/// Batches to one peer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    open: Vec<Entry>,
    open_bytes: usize,
    last_seq: u64,
    unacked: VecDeque<Sent>,
    sent_at: VecDeque<(u64, u64)>,
    /// When a batch was last acknowledged, or the first of those in flight was sent.
    progress_ns: u64,
    /// Numbers and units of batches that were taken back although the peer may have applied them.
    withdrawn: VecDeque<(u64, u64)>,
    pub(crate) drained_units: u64,
    pub(crate) acked_units: u64,
    pub(crate) withdrawn_units: u64,
    /// Of those withdrawn, units that the peer turned out to have applied: they were counted twice.
    pub(crate) doubled_units: u64,
}

/// The peer says that it applied a batch that was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Impossible;

impl Outbox {
    /// Whether one more entry of any size finds room in a batch that may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.unacked.len() < WINDOW && self.open_bytes + 80 < MAX_BATCH
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.drained_units = self.drained_units.saturating_add(entry.used);
        self.open_bytes += entry_len(&entry) + if self.open.is_empty() { SECTION_LEN } else { 0 };
        // A new section costs a head; entries are sorted before they are sent, so this is at most what is needed.
        if self.open.last().is_some_and(|last| last.cell.limit != entry.cell.limit) {
            self.open_bytes += SECTION_LEN;
        }
        self.open.push(entry);
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Numbers what was added as one batch; the frame is to be sent.
    pub(crate) fn close(&mut self, now_ns: u64) -> Option<&[u8]> {
        if self.open.is_empty() || self.unacked.len() >= WINDOW {
            return None;
        }
        let mut entries = core::mem::take(&mut self.open);
        self.open_bytes = 0;
        entries.sort_by_key(|entry| entry.cell);
        self.last_seq += 1;
        let units = entries.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.used));
        let of = by_limit(&entries);
        let mut frame = Vec::new();
        Message::Report(Report {
            seq: self.last_seq,
            sent_ms: now_ns / 1_000_000,
            entries,
        })
        .encode(&mut frame);
        frame.shrink_to_fit();
        if self.sent_at.len() >= REMEMBERED {
            self.sent_at.pop_front();
        }
        self.sent_at.push_back((self.last_seq, now_ns));
        if self.unacked.is_empty() {
            self.progress_ns = now_ns;
        }
        self.unacked.push_back(Sent {
            seq: self.last_seq,
            frame,
            units,
            sent_ns: now_ns,
            of,
        });
        self.unacked.back().map(|sent| &sent.frame[..])
    }

    /// When batch `seq` was sent, if that is remembered.
    pub(crate) fn sent_at(&self, seq: u64) -> Option<u64> {
        self.sent_at.iter().rev().find(|(s, _)| *s == seq).map(|(_, at)| *at)
    }

    /// Since when the peer has acknowledged nothing that is in flight.
    pub(crate) fn waits_since(&self) -> Option<u64> {
        (!self.unacked.is_empty()).then_some(self.progress_ns)
    }

    /// The peer acknowledged something, or there is a new link.
    pub(crate) fn progressed(&mut self, now_ns: u64) {
        self.progress_ns = now_ns;
    }

    /// Units by cell in batches after `seq`: what the peer did not know of when it answered that.
    pub(crate) fn used_after(&self, seq: u64) -> BTreeMap<Cell, u64> {
        let mut used = BTreeMap::new();
        for sent in self.unacked.iter().filter(|sent| sent.seq > seq) {
            for entry in decode(&sent.frame).into_iter().filter(|entry| !entry.refund) {
                let units: &mut u64 = used.entry(entry.cell).or_default();
                *units = units.saturating_add(entry.used);
            }
        }
        used
    }

    /// What is not acknowledged, by limit, with when it was sent. What is not sent yet was taken a moment ago, and is the next batch's.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (LimitId, Spent, u64)> + '_ {
        self.unacked
            .iter()
            .flat_map(|sent| sent.of.iter().map(move |(limit, spent)| (*limit, *spent, sent.sent_ns)))
    }

    pub(crate) fn unacked(&self) -> usize {
        self.unacked.len()
    }

    pub(crate) fn unacked_units(&self) -> u64 {
        let open = self.open.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.used));
        self.unacked
            .iter()
            .fold(open, |sum, sent| sum.saturating_add(sent.units))
    }

    /// All batches up to `seq` are applied; returns their entries.
    pub(crate) fn acked(&mut self, seq: u64) -> Result<Vec<(u64, Entry)>, Impossible> {
        if seq > self.last_seq {
            return Err(Impossible);
        }
        // A peer whose goodbye was no goodbye goes on acknowledging what was taken back from it.
        while let Some((_, units)) = self.withdrawn.pop_front_if(|(withdrawn, _)| *withdrawn <= seq) {
            self.doubled_units = self.doubled_units.saturating_add(units);
        }
        let mut entries = Vec::new();
        while let Some(sent) = self.unacked.front().filter(|sent| sent.seq <= seq) {
            self.acked_units = self.acked_units.saturating_add(sent.units);
            entries.extend(decode(&sent.frame).into_iter().map(|entry| (sent.seq, entry)));
            self.unacked.pop_front();
        }
        Ok(entries)
    }

    /// A link to the same life is up again, and it has applied everything up to `seq`: what is left is to be sent again, in
    /// this order. The entries of what was applied come as from [`acked`](Outbox::acked).
    pub(crate) fn resume(&mut self, seq: u64) -> Result<Vec<(u64, Entry)>, Impossible> {
        let entries = self.acked(seq)?;
        while let Some((withdrawn, _)) = self.withdrawn.pop_front() {
            // Its number must not name other units: a straggler of the old link may still be applied. Empty, it is applied
            // or skipped, and both are right.
            let mut frame = Vec::new();
            Message::Report(Report {
                seq: withdrawn,
                sent_ms: 0,
                entries: Vec::new(),
            })
            .encode(&mut frame);
            self.unacked.push_back(Sent {
                seq: withdrawn,
                frame,
                units: 0,
                sent_ns: 0,
                of: Vec::new(),
            });
        }
        Ok(entries)
    }

    /// Frames that are not acknowledged, oldest first.
    pub(crate) fn again(&self) -> impl Iterator<Item = &[u8]> {
        self.unacked.iter().map(|sent| &sent.frame[..])
    }

    /// Takes everything back that is not acknowledged: it goes to another owner, or to another life of this one.
    pub(crate) fn withdraw(&mut self) -> Vec<Entry> {
        let mut entries = core::mem::take(&mut self.open);
        self.open_bytes = 0;
        for sent in self.unacked.drain(..) {
            entries.extend(decode(&sent.frame));
            self.withdrawn.push_back((sent.seq, sent.units));
        }
        while self.withdrawn.len() > WINDOW {
            self.withdrawn.pop_front();
        }
        let units = entries.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.used));
        self.withdrawn_units = self.withdrawn_units.saturating_add(units);
        entries
    }

    /// The peer is in another life: it knows no number.
    pub(crate) fn restart(&mut self) {
        self.last_seq = 0;
        self.withdrawn.clear();
        self.sent_at.clear();
    }
}

/// The entries of a frame that this node made.
fn decode(frame: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(frame);
    if reader.number().is_err() {
        return Vec::new();
    }
    match reader.bytes(reader.left()).map(Message::decode) {
        Ok(Ok(Some((Message::Report(report), _)))) => report.entries,
        _ => Vec::new(),
    }
}

/// What of one peer's batches is applied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) of: Incarnation,
    pub(crate) applied: u64,
    pub(crate) applied_units: u64,
    pub(crate) applied_ns: u64,
    pub(crate) repeated: u64,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is the next.
    Apply,
    /// It was applied before; acknowledge it again.
    Again,
    /// One before it is missing, which an ordered stream cannot do.
    Gap,
}

impl Inbox {
    /// A hello from life `of` came.
    pub(crate) fn meet(&mut self, of: Incarnation, switches: Switches) {
        if of != self.of && !switches.get().skip_incarnation {
            self.applied = 0;
        }
        self.of = of;
    }

    pub(crate) fn arrive(&mut self, seq: u64) -> Arrival {
        match seq {
            seq if seq == self.applied + 1 => {
                self.applied = seq;
                Arrival::Apply
            }
            seq if seq <= self.applied => {
                self.repeated += 1;
                Arrival::Again
            }
            _ => Arrival::Gap,
        }
    }
}

/// Bytes on their way out of one stream.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    at: usize,
    free: usize,
}

/// Bytes that a stream takes before the driver first says how many.
pub const INITIAL_FREE: usize = 64 * 1024;

impl Outgoing {
    fn new() -> Self {
        Outgoing {
            bytes: Vec::new(),
            at: 0,
            free: INITIAL_FREE,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.free > 0
    }

    pub(crate) fn set_free(&mut self, free: usize) {
        self.free = free;
    }

    pub(crate) fn held(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// As many bytes as the stream takes now.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let count = self.held().min(self.free);
        if count == 0 {
            return None;
        }
        self.free -= count;
        if self.at == 0 && count == self.bytes.len() {
            return Some(core::mem::take(&mut self.bytes));
        }
        let taken = self.bytes[self.at..self.at + count].to_vec();
        self.at += count;
        if self.is_empty() {
            self.bytes.clear();
            self.at = 0;
        }
        Some(taken)
    }
}

/// One link and its two streams.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    pub(crate) outbound: bool,
    /// When its hello was made.
    pub(crate) up_ns: u64,
    pub(crate) frames: [FrameReader; 2],
    pub(crate) out: [Outgoing; 2],
    pub(crate) hello_received: bool,
    /// Changes of limits that the peer was told.
    pub(crate) limits_told: u64,
    /// The version of whom this node hears that the peer was told.
    pub(crate) heard_told: Option<u64>,
    pub(crate) heartbeat_due_ns: u64,
    /// How long the peer may be silent before its next heartbeat: what it said last.
    pub(crate) beat_ns: u64,
    /// When a message was last understood on the control stream.
    pub(crate) understood_ns: u64,
    /// Bytes arrive in pieces, and control messages of a peer that was refused mean nothing.
    pub(crate) refused: bool,
    /// Bytes of the report stream that came before the hello; at most [`MAX_EARLY`].
    pub(crate) early: Vec<u8>,
}

impl Link {
    pub(crate) fn new(peer: NodeId, outbound: bool, now_ns: u64) -> Self {
        Link {
            peer,
            outbound,
            up_ns: now_ns,
            frames: Default::default(),
            out: [Outgoing::new(), Outgoing::new()],
            hello_received: false,
            limits_told: 0,
            heard_told: None,
            heartbeat_due_ns: now_ns,
            beat_ns: HEARTBEAT_NS,
            understood_ns: now_ns,
            refused: false,
            early: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
