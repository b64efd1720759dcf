//! Messages into bytes.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Entry, Message, flag, kind};
use crate::id::{Cell, LimitId};
use crate::limits::{LimitSpec, Mode};
use crate::wire::{MAX_BODY, number_len, put_number, put_text};

/// Bytes of one report entry.
pub(crate) fn entry_len(entry: &Entry) -> usize {
    let denied = if entry.denied > 0 {
        number_len(entry.denied) + number_len(entry.largest)
    } else {
        0
    };
    8 + number_len(entry.used.min(MAX_USED) << flag::BITS) + denied
}

/// The most bytes that a section's head takes: limit and count.
pub(crate) const SECTION_LEN: usize = 5 + 3;
/// Units above this are reported as this: the wire keeps four bits beside them. No table counts as many.
pub(crate) const MAX_USED: u64 = u64::MAX >> flag::BITS;

impl Message {
    /// Appends this message as one frame.
    ///
    /// Sizes: who makes a message sees to it that it fits a frame; one that does not is left out (and debug builds stop),
    /// since a frame that the other side must refuse would end the link.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        self.encode_body(&mut body);
        debug_assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
        if body.len() <= MAX_BODY {
            put_number(out, body.len() as u64);
            out.append(&mut body);
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Message::Hello(hello) => {
                put_number(out, kind::HELLO);
                for number in [hello.version, hello.oldest, hello.features] {
                    put_number(out, number);
                }
                put_text(out, &hello.name);
                for number in [hello.incarnation.0, hello.configuration, hello.applied_of.0] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                put_number(out, hello.applied);
                put_text(out, &hello.address);
                put_peers(out, &hello.peers);
            }
            Message::Report(report) => {
                put_number(out, kind::REPORT);
                put_number(out, report.seq);
                put_number(out, report.sent_ms);
                for section in report.entries.chunk_by(|a, b| a.cell.limit == b.cell.limit) {
                    put_number(out, u64::from(section[0].cell.limit.0));
                    put_number(out, section.len() as u64);
                    section.iter().for_each(|entry| put_entry(out, entry));
                }
            }
            Message::ReportAck(ack) => {
                put_number(out, kind::REPORT_ACK);
                put_number(out, ack.seq);
                put_cells(out, &ack.held);
            }
            Message::Lease(offer) => {
                put_number(out, kind::LEASE);
                put_number(out, offer.after);
                put_number(out, offer.grants.len() as u64);
                for grant in &offer.grants {
                    put_cell(out, &grant.cell);
                    for number in [
                        grant.version,
                        grant.seq,
                        grant.share,
                        grant.capacity,
                        grant.tokens,
                        grant.ttl_ms,
                    ] {
                        put_number(out, number);
                    }
                }
            }
            Message::LeaseAck(acks) => {
                put_number(out, kind::LEASE_ACK);
                put_number(out, acks.len() as u64);
                for ack in acks {
                    put_cell(out, &ack.cell);
                    put_number(out, ack.seq);
                    put_number(out, ack.returned);
                    out.push(u8::from(ack.ended) | u8::from(ack.declared) << 1);
                }
            }
            Message::Heartbeat(heartbeat) => {
                put_number(out, kind::HEARTBEAT);
                put_number(out, heartbeat.members);
                put_number(out, heartbeat.beat_ms);
                out.push(u8::from(heartbeat.heard.is_some()) | u8::from(heartbeat.barred) << 1);
                if let Some(heard) = &heartbeat.heard {
                    put_number(out, heard.len() as u64);
                    heard
                        .iter()
                        .for_each(|node| out.extend_from_slice(&node.0.to_le_bytes()));
                }
            }
            Message::Limits(specs) => {
                put_number(out, kind::LIMITS);
                put_number(out, specs.len() as u64);
                specs.iter().for_each(|spec| put_spec(out, spec));
            }
            Message::Peers(peers) => {
                put_number(out, kind::PEERS);
                put_peers(out, peers);
            }
            Message::Goodbye => put_number(out, kind::GOODBYE),
            Message::Handover(handover) => {
                put_number(out, kind::HANDOVER);
                put_limit(out, handover.limit);
                put_number(out, handover.debts.len() as u64);
                for (key, units) in &handover.debts {
                    out.extend_from_slice(&key.0.to_le_bytes());
                    put_number(out, *units);
                }
            }
            Message::Rearm(rearm) => {
                put_number(out, kind::REARM);
                put_number(out, rearm.seq);
                put_cells(out, &rearm.cells);
            }
            Message::Refuse(refusal) => {
                put_number(out, kind::REFUSE);
                put_number(out, refusal.code());
            }
        }
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.extend_from_slice(&entry.cell.key.0.to_le_bytes());
    let mut flags = 0;
    for (set, flag) in [
        (entry.denied > 0, flag::DENIED),
        (entry.leased, flag::LEASED),
        (entry.refund, flag::REFUND),
        (entry.waiting, flag::WAITING),
    ] {
        flags |= if set { flag } else { 0 };
    }
    put_number(out, entry.used.min(MAX_USED) << flag::BITS | flags);
    if entry.denied > 0 {
        put_number(out, entry.denied);
        put_number(out, entry.largest);
    }
}

fn put_limit(out: &mut Vec<u8>, limit: LimitId) {
    put_number(out, u64::from(limit.0));
}

fn put_cell(out: &mut Vec<u8>, cell: &Cell) {
    put_limit(out, cell.limit);
    out.extend_from_slice(&cell.key.0.to_le_bytes());
}

fn put_cells(out: &mut Vec<u8>, cells: &[Cell]) {
    put_number(out, cells.len() as u64);
    cells.iter().for_each(|cell| put_cell(out, cell));
}

fn put_spec(out: &mut Vec<u8>, spec: &LimitSpec) {
    put_limit(out, spec.id);
    put_number(out, spec.version);
    out.extend_from_slice(&spec.author.0.to_le_bytes());
    put_number(out, spec.limit.rate_limit());
    put_number(out, u64::try_from(spec.limit.window().as_nanos()).unwrap_or(u64::MAX));
    put_number(out, spec.limit.capacity());
    out.push(u8::from(spec.limit.is_strict()));
    let (mode, parameter) = match spec.mode {
        Mode::Eventual => (0, 0),
        Mode::Bounded { units } => (1, units),
        Mode::Strict { floor_ppm } => (2, u64::from(floor_ppm)),
    };
    out.push(mode);
    put_number(out, parameter);
}

fn put_peers(out: &mut Vec<u8>, peers: &[(String, String)]) {
    put_number(out, peers.len() as u64);
    for (name, address) in peers {
        put_text(out, name);
        put_text(out, address);
    }
}
