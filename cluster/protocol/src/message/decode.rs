//! Bytes into messages. Nothing here panics, whatever the bytes; nothing is allocated for more than they can hold.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use ratelimit_model::Limit;

use super::{
    Entry, Grant, Handover, Heartbeat, Hello, LeaseAck, LeaseOffer, MAX_ADDRESS, MAX_PEERS_TOLD, Message, Rearm,
    Refusal, Report, ReportAck, flag, kind,
};
use crate::id::{Cell, Incarnation, Key, LimitId, MAX_NAME, NodeId};
use crate::limits::{LimitSpec, MAX_FLOOR_PPM, Mode};
use crate::wire::{Reader, WireError};

impl Message {
    /// The message in a frame without its length, and the bytes after the fields that are known; `None` if this version
    /// does not know the message.
    ///
    /// Errors: bytes that no node of any version sends; see [`WireError`].
    pub fn decode(frame: &[u8]) -> Result<Option<(Message, usize)>, WireError> {
        let mut reader = Reader::new(frame);
        let message = match reader.number()? {
            kind::HELLO => Message::Hello(hello(&mut reader)?),
            kind::REPORT => {
                // Everything up to the end of the frame is sections, so that a report can gain no fields; a new kind of
                // report is a new message.
                Message::Report(report(&mut reader)?)
            }
            kind::REPORT_ACK => Message::ReportAck(ReportAck {
                seq: reader.number()?,
                held: list(&mut reader, CELL, cell)?,
            }),
            kind::LEASE => Message::Lease(LeaseOffer {
                after: reader.number()?,
                grants: list(&mut reader, CELL + 6, grant)?,
            }),
            kind::LEASE_ACK => Message::LeaseAck(list(&mut reader, CELL + 3, lease_ack)?),
            kind::HEARTBEAT => {
                let members = reader.number()?;
                let [heard, barred] = flags(&mut reader, "heartbeat")?;
                let heard = match heard {
                    true => Some(list(&mut reader, 8, |reader| reader.fixed().map(NodeId))?),
                    false => None,
                };
                Message::Heartbeat(Heartbeat { members, barred, heard })
            }
            kind::LIMITS => Message::Limits(list(&mut reader, 16, spec)?),
            kind::GOODBYE => Message::Goodbye,
            kind::HANDOVER => Message::Handover(Handover {
                limit: limit(&mut reader)?,
                debts: list(&mut reader, 9, |reader| Ok((Key(reader.fixed()?), reader.number()?)))?,
            }),
            kind::REARM => Message::Rearm(Rearm {
                seq: reader.number()?,
                cells: list(&mut reader, CELL, cell)?,
            }),
            kind::REFUSE => Message::Refuse(Refusal::of_code(reader.number()?)),
            _ => return Ok(None),
        };
        Ok(Some((message, reader.left())))
    }
}

/// The fewest bytes of a cell.
const CELL: usize = 9;

fn list<'a, T>(
    reader: &mut Reader<'a>,
    least: usize,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let count = reader.count(least)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(item(reader)?);
    }
    Ok(items)
}

/// Two flags in a byte.
fn flags(reader: &mut Reader<'_>, field: &'static str) -> Result<[bool; 2], WireError> {
    match reader.bytes(1)? {
        [byte @ 0..=3] => Ok([byte & 1 != 0, byte & 2 != 0]),
        _ => Err(WireError::Value(field)),
    }
}

fn boolean(reader: &mut Reader<'_>, field: &'static str) -> Result<bool, WireError> {
    match reader.bytes(1)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(WireError::Value(field)),
    }
}

fn limit(reader: &mut Reader<'_>) -> Result<LimitId, WireError> {
    reader.number32("limit").map(LimitId)
}

fn cell(reader: &mut Reader<'_>) -> Result<Cell, WireError> {
    Ok(Cell {
        limit: limit(reader)?,
        key: Key(reader.fixed()?),
    })
}

fn name(reader: &mut Reader<'_>) -> Result<String, WireError> {
    match reader.text(MAX_NAME, "name")? {
        "" => Err(WireError::Value("name")),
        name => Ok(name.into()),
    }
}

fn hello(reader: &mut Reader<'_>) -> Result<Hello, WireError> {
    Ok(Hello {
        version: reader.number()?,
        oldest: reader.number()?,
        features: reader.number()?,
        name: name(reader)?,
        incarnation: Incarnation(reader.fixed()?),
        configuration: reader.fixed()?,
        applied_of: Incarnation(reader.fixed()?),
        applied: reader.number()?,
        address: reader.text(MAX_ADDRESS, "address")?.into(),
        peers: {
            let peers = list(reader, 3, |reader| {
                Ok((name(reader)?, String::from(reader.text(MAX_ADDRESS, "address")?)))
            })?;
            if peers.len() > MAX_PEERS_TOLD {
                return Err(WireError::Value("peers"));
            }
            peers
        },
    })
}

fn report(reader: &mut Reader<'_>) -> Result<Report, WireError> {
    let (seq, sent_ms) = (reader.number()?, reader.number()?);
    let mut entries = Vec::with_capacity(reader.left() / 9);
    let mut last = None;
    while reader.left() > 0 {
        let limit = limit(reader)?;
        let count = reader.count(9)?;
        // Two sections of one limit in a row are one section: there is one way to say a thing.
        if count == 0 || last == Some(limit) {
            return Err(WireError::Value("section"));
        }
        last = Some(limit);
        for _ in 0..count {
            let key = Key(reader.fixed()?);
            let word = reader.number()?;
            let (denied, largest) = if word & flag::DENIED != 0 {
                (reader.number()?, reader.number()?)
            } else {
                (0, 0)
            };
            if word & flag::DENIED != 0 && denied == 0 {
                return Err(WireError::Value("denied"));
            }
            entries.push(Entry {
                cell: Cell { limit, key },
                used: word >> flag::BITS,
                denied,
                largest,
                leased: word & flag::LEASED != 0,
                refund: word & flag::REFUND != 0,
                waiting: word & flag::WAITING != 0,
            });
        }
    }
    Ok(Report { seq, sent_ms, entries })
}

fn grant(reader: &mut Reader<'_>) -> Result<Grant, WireError> {
    let grant = Grant {
        cell: cell(reader)?,
        version: reader.number()?,
        seq: reader.number()?,
        share: reader.number()?,
        capacity: reader.number()?,
        tokens: reader.number()?,
        ttl_ms: reader.number()?,
    };
    if grant.share > ratelimit_model::WHOLE_SHARE {
        return Err(WireError::Value("share"));
    }
    Ok(grant)
}

fn lease_ack(reader: &mut Reader<'_>) -> Result<LeaseAck, WireError> {
    let (cell, seq, returned) = (cell(reader)?, reader.number()?, reader.number()?);
    let [ended, declared] = flags(reader, "acknowledgement")?;
    Ok(LeaseAck {
        cell,
        seq,
        returned,
        ended,
        declared,
    })
}

fn spec(reader: &mut Reader<'_>) -> Result<LimitSpec, WireError> {
    let id = limit(reader)?;
    let version = reader.number()?;
    let author = NodeId(reader.fixed()?);
    let (rate, window_ns, burst) = (reader.number()?, reader.number()?, reader.number()?);
    let strict = boolean(reader, "strict")?;
    let mode = reader.bytes(1)?[0];
    let parameter = reader.number()?;
    let mode = match (mode, u32::try_from(parameter)) {
        (0, Ok(0)) => Mode::Eventual,
        (1, _) => Mode::Bounded { units: parameter },
        (2, Ok(floor_ppm)) if floor_ppm <= MAX_FLOOR_PPM => Mode::Strict { floor_ppm },
        _ => return Err(WireError::Value("mode")),
    };
    let limit = Limit::new(rate, Duration::from_nanos(window_ns)).map_err(|_| WireError::Value("limit"))?;
    let limit = if strict { limit.strict() } else { limit };
    // A burst that goes without saying is not said: nodes show the same text, wherever a limit was set.
    let limit = if limit.capacity() == burst {
        limit
    } else {
        limit.burst(burst)
    };
    limit.validate().map_err(|_| WireError::Value("limit"))?;
    Ok(LimitSpec {
        id,
        version,
        author,
        limit,
        mode,
    })
}
