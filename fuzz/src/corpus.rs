//! Messages of every kind, to be damaged.

use std::time::Duration;

use fastrand::Rng;
use ratelimit_model::{Limit, WHOLE_SHARE};
use ratelimit_protocol::message::{
    Entry, Grant, Handover, Heartbeat, Hello, LeaseAck, LeaseOffer, Message, Rearm, Refusal, Report, ReportAck,
};
use ratelimit_protocol::{Cell, Incarnation, Key, LimitId, LimitSpec, Mode, NodeId};

/// A number of any length: small ones are as likely as large ones.
fn number(rng: &mut Rng) -> u64 {
    rng.u64(..) >> rng.u32(0..64)
}

fn cell(rng: &mut Rng) -> Cell {
    Cell {
        limit: LimitId(rng.u32(0..4)),
        key: Key(rng.u64(..)),
    }
}

fn many<T>(rng: &mut Rng, most: usize, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.usize(0..=most)).map(|_| one(rng)).collect()
}

fn entry(rng: &mut Rng) -> Entry {
    let denied = if rng.bool() { number(rng) } else { 0 };
    Entry {
        cell: cell(rng),
        used: number(rng) >> 4,
        denied,
        largest: if denied > 0 { number(rng) } else { 0 },
        leased: rng.bool(),
        refund: rng.u8(..) < 20,
        waiting: rng.u8(..) < 20,
    }
}

fn grant(rng: &mut Rng) -> Grant {
    Grant {
        cell: cell(rng),
        version: rng.u64(0..4),
        seq: number(rng),
        share: rng.u64(0..=WHOLE_SHARE),
        capacity: number(rng),
        tokens: number(rng),
        ttl_ms: number(rng),
    }
}

fn spec(rng: &mut Rng) -> LimitSpec {
    let limit = Limit::new(rng.u64(2..1_000_000), Duration::from_millis(rng.u64(100..1_000_000))).expect("a limit");
    LimitSpec {
        id: LimitId(rng.u32(0..4)),
        version: number(rng),
        author: NodeId(rng.u64(..)),
        limit: limit.burst(rng.u64(1..1000)),
        mode: match rng.u8(0..3) {
            0 => Mode::Eventual,
            1 => Mode::Bounded { units: number(rng) },
            _ => Mode::Strict {
                floor_ppm: rng.u32(0..=1_000_000),
            },
        },
    }
}

/// The hello of the node called `name`, in a random life.
pub(crate) fn hello(rng: &mut Rng, name: &str, configuration: u64) -> Message {
    Message::Hello(Hello {
        version: 1,
        oldest: 1,
        features: number(rng),
        name: name.into(),
        incarnation: Incarnation(number(rng)),
        configuration,
        applied_of: Incarnation(number(rng)),
        applied: 0,
        address: "127.0.0.1:7001".into(),
        peers: many(rng, 3, |rng| (format!("n{}", rng.u8(..)), String::new())),
    })
}

/// A message that some node might send; everything but a hello.
pub(crate) fn message(rng: &mut Rng) -> Message {
    match rng.u8(0..12) {
        0 | 1 => {
            let mut entries = many(rng, 30, entry);
            entries.sort_by_key(|entry| entry.cell);
            Message::Report(Report {
                seq: rng.u64(0..8),
                sent_ms: number(rng),
                entries,
            })
        }
        2 => Message::ReportAck(ReportAck {
            seq: rng.u64(0..8),
            held: many(rng, 10, cell),
        }),
        3 => Message::Lease(LeaseOffer {
            after: rng.u64(0..8),
            grants: many(rng, 10, grant),
        }),
        4 => Message::LeaseAck(many(rng, 10, |rng| LeaseAck {
            cell: cell(rng),
            seq: number(rng),
            returned: number(rng),
            ended: rng.bool(),
            declared: rng.bool(),
        })),
        5 => Message::Heartbeat(Heartbeat {
            barred: rng.u8(..) < 20,
            members: number(rng),
            beat_ms: number(rng),
            heard: rng.bool().then(|| many(rng, 10, |rng| NodeId(rng.u64(..)))),
        }),
        6 => Message::Limits(many(rng, 5, spec)),
        7 => Message::Goodbye,
        8 => Message::Handover(Handover {
            limit: LimitId(rng.u32(0..4)),
            debts: many(rng, 20, |rng| (Key(rng.u64(..)), number(rng))),
        }),
        9 => Message::Rearm(Rearm {
            seq: rng.u64(0..8),
            cells: many(rng, 10, cell),
        }),
        10 => Message::Peers(many(rng, 20, |rng| {
            (format!("n{}", rng.u8(..)), "10.0.0.1:7001".into())
        })),
        _ => Message::Refuse(Refusal::Other(number(rng))),
    }
}
