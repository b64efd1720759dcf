use super::*;
use crate::limits::Mode;
use crate::wire::{FrameReader, WireError};
use alloc::vec;
use core::time::Duration;
use proptest::prelude::*;
use ratelimit_model::{Limit, WHOLE_SHARE};

fn cell() -> impl Strategy<Value = Cell> {
    (any::<u32>(), any::<u64>()).prop_map(|(limit, key)| Cell {
        limit: LimitId(limit),
        key: Key(key),
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (0u32..4, any::<u64>(), 0u64..1 << 60, 0u64..1000, any::<[bool; 3]>()).prop_map(
        |(limit, key, used, denied, flags)| Entry {
            cell: Cell {
                limit: LimitId(limit),
                key: Key(key),
            },
            used,
            denied,
            largest: if denied > 0 { denied / 2 } else { 0 },
            leased: flags[0],
            refund: flags[1],
            waiting: flags[2],
        },
    )
}

fn grant() -> impl Strategy<Value = Grant> {
    (cell(), any::<[u64; 5]>(), 0..=WHOLE_SHARE).prop_map(|(cell, n, share)| Grant {
        cell,
        version: n[0],
        seq: n[1],
        share,
        capacity: n[2],
        tokens: n[3],
        ttl_ms: n[4],
    })
}

fn spec() -> impl Strategy<Value = LimitSpec> {
    let mode = prop_oneof![
        Just(Mode::Eventual),
        any::<u64>().prop_map(|units| Mode::Bounded { units }),
        (0u32..=1_000_000).prop_map(|floor_ppm| Mode::Strict { floor_ppm }),
    ];
    (
        any::<[u64; 2]>(),
        any::<u32>(),
        2u64..1_000_000,
        1u64..100_000,
        any::<bool>(),
        mode,
    )
        .prop_map(|(n, id, rate, window_ms, strict, mode)| {
            let limit = Limit::new(rate, Duration::from_millis(window_ms + rate / 100_000))
                .expect("a limit")
                .burst(rate / 2);
            LimitSpec {
                id: LimitId(id),
                version: n[0],
                author: NodeId(n[1]),
                limit: if strict { limit.strict() } else { limit },
                mode,
            }
        })
}

fn message() -> impl Strategy<Value = Message> {
    let name = "[a-z0-9.-]{1,64}";
    let hello = (
        any::<[u64; 7]>(),
        name,
        "[ -~]{0,255}",
        prop::collection::vec((name, "[ -~]{0,40}"), 0..8),
    )
        .prop_map(|(n, name, address, peers)| {
            Message::Hello(Hello {
                version: n[0],
                oldest: n[1],
                features: n[2],
                name,
                incarnation: Incarnation(n[3]),
                configuration: n[4],
                applied_of: Incarnation(n[5]),
                applied: n[6],
                address,
                peers,
            })
        });
    let report = (any::<[u64; 2]>(), prop::collection::vec(entry(), 0..40))
        .prop_map(|([seq, sent_ms], entries)| Message::Report(Report { seq, sent_ms, entries }));
    let cells = || prop::collection::vec(cell(), 0..20);
    prop_oneof![
        hello,
        report,
        (any::<u64>(), cells()).prop_map(|(seq, held)| Message::ReportAck(ReportAck { seq, held })),
        (any::<u64>(), prop::collection::vec(grant(), 0..20))
            .prop_map(|(after, grants)| Message::Lease(LeaseOffer { after, grants })),
        prop::collection::vec((cell(), any::<[u64; 2]>(), any::<[bool; 2]>()), 0..20).prop_map(|acks| {
            Message::LeaseAck(
                acks.into_iter()
                    .map(|(cell, n, flags)| LeaseAck {
                        cell,
                        seq: n[0],
                        returned: n[1],
                        ended: flags[0],
                        declared: flags[1],
                    })
                    .collect(),
            )
        }),
        (
            any::<(u64, u64, bool)>(),
            prop::option::of(prop::collection::vec(any::<u64>().prop_map(NodeId), 0..20))
        )
            .prop_map(|((members, beat_ms, barred), heard)| {
                Message::Heartbeat(Heartbeat {
                    members,
                    beat_ms,
                    barred,
                    heard,
                })
            }),
        prop::collection::vec(spec(), 0..10).prop_map(Message::Limits),
        Just(Message::Goodbye),
        prop::collection::vec(("[a-z]{1,9}", "[a-z.:0-9]{0,20}"), 0..9).prop_map(Message::Peers),
        (
            any::<u32>(),
            prop::collection::vec((any::<u64>().prop_map(Key), any::<u64>()), 0..20)
        )
            .prop_map(|(limit, debts)| {
                Message::Handover(Handover {
                    limit: LimitId(limit),
                    debts,
                })
            }),
        (any::<u64>(), cells()).prop_map(|(seq, cells)| Message::Rearm(Rearm { seq, cells })),
        any::<u64>().prop_map(|code| Message::Refuse(Refusal::of_code(code))),
    ]
}

fn body(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    message.encode(&mut frame);
    let mut rest = &frame[..];
    let body = FrameReader::default()
        .next(&mut rest)
        .expect("a frame")
        .expect("all of it")
        .to_vec();
    assert!(rest.is_empty());
    body
}

/// What was understood, said again, gives the same bytes: there is one way to say each thing.
fn check_bytes(bytes: &[u8]) {
    if let Ok(Some((message, left))) = Message::decode(bytes) {
        assert_eq!(body(&message), &bytes[..bytes.len() - left]);
    }
}

proptest! {
    #[test]
    fn every_message_comes_back(message in message()) {
        let bytes = body(&message);
        prop_assert_eq!(Message::decode(&bytes), Ok(Some((message, 0))));
    }

    #[test]
    fn a_report_takes_the_bytes_that_were_reckoned(entry in entry()) {
        let bytes = body(&Message::Report(Report { seq: 1, sent_ms: 1, entries: vec![entry] }));
        prop_assert_eq!(bytes.len(), 3 + 2 + entry_len(&entry));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_bytes(&bytes);
    }

    #[test]
    fn damaged_messages_are_survived(message in message(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut bytes = body(&message);
        let place = at.index(bytes.len());
        bytes[place] = byte;
        check_bytes(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        check_bytes(&bytes);
    }

    /// Fields that a later version adds at the end are passed over; but a report can have none.
    #[test]
    fn later_fields_are_ignored(message in message(), more in prop::collection::vec(any::<u8>(), 1..20)) {
        prop_assume!(!matches!(message, Message::Report(_)));
        let mut bytes = body(&message);
        bytes.extend_from_slice(&more);
        prop_assert_eq!(Message::decode(&bytes), Ok(Some((message, more.len()))));
    }
}

#[test]
fn unknown_messages_are_skipped_and_short_ones_refused() {
    assert_eq!(Message::decode(&[100, 1, 2, 3]), Ok(None));
    assert_eq!(Message::decode(&[]), Err(WireError::Short));
    assert_eq!(Message::decode(&[kind::REPORT as u8]), Err(WireError::Short));
}

#[test]
fn impossible_values_are_refused() {
    let grant = Grant {
        cell: Cell {
            limit: LimitId(1),
            key: Key(2),
        },
        version: 1,
        seq: 1,
        share: WHOLE_SHARE + 1,
        capacity: 1,
        tokens: 1,
        ttl_ms: 1,
    };
    let offer = Message::Lease(LeaseOffer {
        after: 1,
        grants: vec![grant],
    });
    assert_eq!(Message::decode(&body(&offer)), Err(WireError::Value("share")));
    // More cells than the frame has bytes for.
    assert_eq!(
        Message::decode(&[kind::REARM as u8, 1, 0xff, 0x7f, 0, 0]),
        Err(WireError::Short)
    );
    // A limit of zero per second.
    let mut bytes = vec![kind::LIMITS as u8, 1, 1, 1];
    bytes.extend([0; 8]);
    bytes.extend([0, 1, 1, 0, 0, 0]);
    assert_eq!(Message::decode(&bytes), Err(WireError::Value("limit")));
    bytes.pop();
    assert_eq!(Message::decode(&bytes), Err(WireError::Short));
}

/// The frames that `docs/protocol.md` shows.
#[test]
fn the_document_shows_these_bytes() {
    let cell = Cell {
        limit: LimitId(1),
        key: Key(0x1122_3344_5566_7788),
    };
    let entry = Entry {
        cell,
        used: 5,
        denied: 0,
        largest: 0,
        leased: true,
        refund: false,
        waiting: false,
    };
    let second = Cell { key: Key(2), ..cell };
    let frames = [
        Message::Hello(Hello {
            version: 1,
            oldest: 1,
            features: 0,
            name: "a".into(),
            incarnation: Incarnation(5),
            configuration: 7,
            applied_of: Incarnation(0),
            applied: 0,
            address: String::new(),
            peers: vec![],
        }),
        Message::Report(Report {
            seq: 300,
            sent_ms: 1,
            entries: vec![
                entry,
                Entry {
                    cell: second,
                    used: 0,
                    denied: 3,
                    largest: 2,
                    leased: false,
                    ..entry
                },
            ],
        }),
        Message::ReportAck(ReportAck {
            seq: 300,
            held: vec![cell],
        }),
        Message::Lease(LeaseOffer {
            after: 300,
            grants: vec![Grant {
                cell,
                version: 1,
                seq: 2,
                share: WHOLE_SHARE / 2,
                capacity: 50,
                tokens: 20,
                ttl_ms: 1000,
            }],
        }),
        Message::LeaseAck(vec![LeaseAck {
            cell,
            seq: 2,
            returned: 20,
            ended: true,
            declared: false,
        }]),
        Message::Heartbeat(Heartbeat {
            members: 2,
            beat_ms: 500,
            barred: false,
            heard: Some(vec![NodeId::of("a")]),
        }),
        Message::Limits(vec![LimitSpec {
            id: LimitId(1),
            version: 1,
            author: NodeId::of("a"),
            limit: Limit::new(100, Duration::from_secs(60)).expect("a limit").burst(20),
            mode: Mode::Bounded { units: 5 },
        }]),
        Message::Goodbye,
        Message::Handover(Handover {
            limit: LimitId(1),
            debts: vec![(cell.key, 9)],
        }),
        Message::Rearm(Rearm {
            seq: 300,
            cells: vec![cell],
        }),
        Message::Refuse(Refusal::Incarnation),
    ];
    let document = include_str!("../../../../docs/protocol.md");
    for message in frames {
        let mut frame = Vec::new();
        message.encode(&mut frame);
        let hex: String = frame.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
        assert!(
            document.contains(&hex),
            "docs/protocol.md does not show {hex} for {message:?}"
        );
    }
}
