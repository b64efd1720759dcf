//! Cuts, restarts, departures, hostile peers.

use super::*;
use crate::config::OnPartition;
use crate::message::{Message, Refusal, Report};
use crate::rules::Lease;
use crate::store::{DrainSink, Drained, GiveOutcome, Pass};

const EVENTUAL: Mode = Mode::Eventual;

impl Net {
    fn told(&self, what: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| what(event)).count()
    }

    fn kill(&mut self, i: usize) {
        self.places[i].alive = false;
        for other in (0..self.places.len()).filter(|other| *other != i) {
            self.cut_between(i, other);
        }
    }

    /// Units drained for others, and units of others applied, over all nodes that live.
    fn totals(&self) -> (u64, u64) {
        let peers = || {
            self.places
                .iter()
                .filter(|place| place.alive)
                .flat_map(|place| place.node.peers.values())
        };
        (
            peers().map(|peer| peer.outbox.drained_units).sum(),
            peers().map(|peer| peer.inbox.applied_units).sum(),
        )
    }
}

#[test]
fn units_arrive_exactly_once_through_cuts_and_delays() {
    let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
    for round in 0..20 {
        net.delay_ns = MS * (1 + round % 7 * 5);
        net.run(130 * MS, flood(3 * MS));
        let (a, b) = [(0, 1), (1, 2), (0, 2)][round as usize % 3];
        net.cut_between(a, b);
        net.run(70 * MS, flood(3 * MS));
        net.link(a, b);
    }
    net.run(2 * SECOND, |_, _| {});
    let (drained, applied) = net.totals();
    assert_eq!(drained, applied);
    let unreported: u64 = net.places.iter().map(|place| place.store.unreported()).sum();
    assert_eq!(unreported, 0);
    let own: u64 = net.places.iter().map(|place| place.node.count.own_units).sum();
    assert_eq!(
        own + applied,
        net.oracle.admitted,
        "every admitted unit is in a book, once"
    );
}

#[test]
fn a_slow_peer_costs_no_memory_and_nothing_is_lost() {
    let mut net = Net::new(2, spec(limit(1_000_000, 1_000_000), EVENTUAL), |_| {});
    let owner = net.owner();
    net.cut_way(1 - owner, owner);
    net.run(2 * SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            net.ask(1 - owner, KEY, 10);
        }
    });
    let stats = net.places[1 - owner].node.stats();
    let peer = stats.peers.values().next().copied().expect("a peer");
    assert!(
        peer.unacked_batches <= WINDOW_OF_ONE && peer.waiting_bytes <= 2 * 32 * 1024,
        "{peer:?}"
    );
    net.mend();
    net.run(SECOND, |_, _| {});
    let (drained, applied) = net.totals();
    let left = net.places[1 - owner].store.unreported();
    assert_eq!((drained, applied, left), (net.oracle.admitted, net.oracle.admitted, 0));
}
const WINDOW_OF_ONE: usize = crate::link::WINDOW;

#[test]
fn a_lease_whose_reports_are_held_up_is_not_idle() {
    let mut net = Net::new(2, spec(limit(1000, 1000), EVENTUAL), |_| {});
    let owner = net.owner();
    net.run(2 * SECOND, flood(MS));
    net.cut_way(1 - owner, owner);
    // The window is full after four batches, and nothing is drained any more.
    net.run(500 * MS, flood(MS));
    assert_eq!(
        net.places[1 - owner].node.stats().leases,
        1,
        "a share is closer to the truth than what is left without it"
    );
}

#[test]
fn a_dead_owner_is_replaced_after_the_hold_down_and_its_units_go_to_the_next() {
    let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
    net.run(SECOND, flood(2 * MS));
    let owner = net.owner();
    net.kill(owner);
    let other = (owner + 1) % 3;
    net.run(5 * SECOND, flood(2 * MS));
    let cell = Cell { limit: LIMIT, key: KEY };
    let id = net.places[owner].node.id();
    assert_eq!(net.places[other].node.owner(cell), Some(id), "dead is not yet gone");
    // Three seconds until all others have it for dead, ten of hold-down.
    net.run(9 * SECOND, flood(2 * MS));
    assert_ne!(net.places[other].node.owner(cell), Some(id));
    net.run(SECOND, flood(2 * MS));
    let before = net.oracle.admitted;
    net.run(2 * SECOND, |net, now_ns| {
        if now_ns.is_multiple_of(MS) {
            (0..3).filter(|i| *i != owner).for_each(|i| {
                net.ask(i, KEY, 1);
            });
        }
    });
    let used = net.oracle.admitted - before;
    assert!(
        (1900..=2110).contains(&used),
        "{used} of 2,000 and a burst under the new owner"
    );
    for place in net.places.iter().filter(|place| place.alive) {
        let of_dead = place.node.stats().peers[&id];
        assert_eq!(of_dead.in_flight_units, 0, "nothing waits for the dead");
    }
}

#[test]
fn a_cut_between_two_makes_no_second_ledger_while_a_third_hears_both() {
    let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
    let owner = net.owner();
    let cell = Cell { limit: LIMIT, key: KEY };
    let id = net.places[owner].node.id();
    net.cut_between(owner, (owner + 1) % 3);
    net.run(15 * SECOND, flood(20 * MS));
    assert!((0..3).all(|i| net.places[i].node.owner(cell) == Some(id)));
}

#[test]
fn each_side_of_a_partition_does_what_the_policy_says() {
    // Two of five on one side. The rates that each side may spend after the hold-down.
    for (policy, big, small) in [
        (OnPartition::Open, 950..=1030, 950..=1030),
        (OnPartition::Share, 570..=620, 380..=420),
        (OnPartition::Closed, 0..=1030, 350..=420),
    ] {
        let mut net = Net::new(5, spec(limit(1000, 100), EVENTUAL), |config| {
            config.on_partition = policy
        });
        let owner = net.owner();
        // The owner is on the side of three.
        let side: Vec<usize> = (1..5).map(|i| (owner + i) % 5).take(2).collect();
        net.run(SECOND, flood(2 * MS));
        for a in 0..5 {
            for b in 0..5 {
                if a != b && side.contains(&a) != side.contains(&b) {
                    net.cut_between(a, b);
                }
            }
        }
        net.run(14 * SECOND, flood(4 * MS));
        net.run(SECOND, flood(MS));
        let mut used = [0u64; 2];
        net.run(SECOND, |net, now_ns| {
            if now_ns.is_multiple_of(MS) {
                for i in 0..5 {
                    used[usize::from(side.contains(&i))] += u64::from(net.ask(i, KEY, 1));
                }
            }
        });
        assert!(
            big.contains(&used[0]) && small.contains(&used[1]),
            "{policy:?}: {used:?}"
        );
        // Healed, there is one ledger and one rate again.
        for a in 0..5 {
            for b in a + 1..5 {
                if side.contains(&a) != side.contains(&b) {
                    net.link(a, b);
                }
            }
        }
        net.run(2 * SECOND, flood(2 * MS));
        let before = net.oracle.admitted;
        net.run(2 * SECOND, flood(2 * MS));
        let used = net.oracle.admitted - before;
        assert!(
            (1900..=2030).contains(&used),
            "{policy:?}: {used} of 2,000 after healing"
        );
    }
}

#[test]
fn one_that_leaves_hands_over_its_debts_and_loses_nothing() {
    let mut net = Net::new(3, spec(limit(100, 1000), EVENTUAL), |_| {});
    let owner = net.owner();
    for _ in 0..600 {
        net.ask((owner + 1) % 3, KEY, 1);
    }
    net.run(200 * MS, |_, _| {});
    let now_ns = net.now_ns;
    net.places[owner].node.leave(now_ns);
    net.run(200 * MS, |_, _| {});
    assert_eq!(net.told(|event| *event == Event::LeaveDone), 1);
    let cell = Cell { limit: LIMIT, key: KEY };
    let next = net.places[(owner + 1) % 3].node.owner(cell).expect("an owner");
    assert_ne!(next, net.places[owner].node.id());
    let next = net
        .places
        .iter()
        .position(|place| place.node.id() == next)
        .expect("one of them");
    let owed = net.places[next]
        .node
        .ledger
        .get(cell)
        .map(|account| account.owed(now_ns + 200 * MS));
    assert!(
        owed.is_some_and(|owed| (540..=600).contains(&owed)),
        "{owed:?} of about 560"
    );
    assert_eq!(net.places[owner].node.poll_timeout(), None);
}

#[test]
fn limits_spread_and_the_newest_wins() {
    let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
    net.places[2]
        .node
        .set_limit(LIMIT, limit(200, 20), EVENTUAL)
        .expect("a limit");
    net.places[0]
        .node
        .set_limit(LimitId(9), limit(5, 5), EVENTUAL)
        .expect("a limit");
    net.run(100 * MS, |_, _| {});
    for place in &net.places {
        let known: Vec<u64> = place.node.limits().map(|spec| spec.limit.rate_limit()).collect();
        assert_eq!(known, [200, 5], "{}", place.name);
    }
    net.run(SECOND, flood(MS));
    let before = net.oracle.admitted;
    net.run(2 * SECOND, flood(MS));
    let used = net.oracle.admitted - before;
    assert!((380..=410).contains(&used), "{used} of 400");
    let refused = net.places[0]
        .node
        .set_limit(LIMIT, limit(5, 5), Mode::Strict { floor_ppm: 0 });
    assert!(
        matches!(refused, Err(ConfigError::NoOwners { .. })),
        "no owners are configured"
    );
}

#[test]
fn a_restart_storm_gives_no_extra_credit_and_the_newest_life_counts() {
    let mut net = Net::new(4, spec(limit(1000, 100), EVENTUAL), |_| {});
    let owner = net.owner();
    let victim = (owner + 1) % 4;
    net.run(SECOND, flood(2 * MS));
    for life in 2..12 {
        net.restart(victim, life);
        for other in (0..4).filter(|other| *other != victim) {
            net.link(victim, other);
        }
        net.run(500 * MS, flood(2 * MS));
    }
    let (events, bad) = (
        net.events.len(),
        net.told(|event| matches!(event, Event::DuplicateName { .. })),
    );
    assert_eq!(bad, 0, "a restart is no duplicate, of {events} events");
    // A restarted node may spend a burst before its owner answers, each time: no more than that.
    assert!(net.oracle.excess() <= 4 * 100, "{}", net.oracle.excess());
    let before = net.oracle.admitted;
    net.run(2 * SECOND, flood(2 * MS));
    assert!(
        (1900..=2020).contains(&(net.oracle.admitted - before)),
        "{}",
        net.oracle.admitted - before
    );
}

#[test]
fn an_older_process_of_the_same_name_is_refused_and_soon_nobody_owns_with_it() {
    let mut net = Net::new(2, spec(limit(1000, 100), EVENTUAL), |_| {});
    let mut config = net.places[1].node.config.clone();
    config.address = "x".into();
    let mut twin = Node::new(config, Incarnation(0), 5, 0).expect("a configuration");
    let mut store = MapStore::new(16);
    for attempt in 0..3 {
        let link = LinkId(1000 + attempt);
        let now_ns = net.now_ns;
        twin.handle_link_up(link, "node-0", true, now_ns);
        net.places[0].node.handle_link_up(link, "node-1", false, now_ns);
        let place = &mut net.places[0];
        while let Some(Transmit { bytes, stream, .. }) = twin.poll_transmit() {
            place.node.handle_bytes(link, stream, &bytes, now_ns, &mut place.store);
        }
        while let Some(transmit) = place.node.poll_transmit() {
            if transmit.link == link {
                twin.handle_bytes(link, transmit.stream, &transmit.bytes, now_ns, &mut store);
            }
        }
    }
    let cell = Cell { limit: LIMIT, key: KEY };
    let mut told = vec![];
    while let Some(event) = twin.poll_event() {
        told.push(event);
    }
    assert!(
        told.iter().any(|event| matches!(
            event,
            Event::Refused {
                reason: Refusal::Incarnation,
                ..
            }
        )),
        "{told:?}"
    );
    assert_ne!(twin.owner(cell), Some(twin.id()), "the older one owns nothing");
    let mut found = false;
    while let Some(event) = net.places[0].node.poll_event() {
        found |= matches!(event, Event::DuplicateName { .. });
    }
    assert!(found);
    assert_eq!(
        net.places[0].node.owner(cell),
        Some(net.places[0].node.id()),
        "nor does the other"
    );
    let alive = net.places[0].node.stats().peers.len();
    assert_eq!(alive, 1);
}

/// A store that reports what nobody can have spent.
struct Liar {
    keys: u64,
    used: u64,
    limit: LimitId,
}

impl Store for Liar {
    fn drain(&mut self, _pass: Pass, sink: &mut dyn DrainSink) {
        for key in 0..self.keys {
            let cell = Cell {
                limit: self.limit,
                // Spread over all partitions.
                key: Key(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            };
            if sink.accepts(cell) {
                let used = self.used;
                sink.take(
                    cell,
                    Drained {
                        used,
                        ..Drained::default()
                    },
                );
            }
        }
    }
    fn restore(&mut self, _: Cell, _: Drained) -> bool {
        false
    }
    fn rearm(&mut self, _: Cell, _: u64) {}
    fn give_lease(&mut self, _: Cell, _: &Lease, _: u64) -> GiveOutcome {
        GiveOutcome::default()
    }
    fn end_lease(&mut self, _: Cell, _: u64) -> u64 {
        0
    }
    fn set_rules(&mut self, _: LimitId, _: &Rules, _: u64) {}
    fn set_cut(&mut self, _: u16, _: bool, _: bool) {}
}

/// Lets node 1 of two speak with a store of lies for a while.
fn lie(net: &mut Net, liar: &mut Liar, for_ns: u64) {
    let end_ns = net.now_ns + for_ns;
    while net.now_ns < end_ns {
        net.now_ns += MS;
        let now_ns = net.now_ns;
        net.places[1].node.handle_tick(now_ns, liar);
        net.step();
    }
}

#[test]
fn absurd_reports_are_cut_and_their_sender_is_quarantined() {
    let mut net = Net::new(2, spec(limit(1000, 100), EVENTUAL), |config| {
        config.owners = vec!["node-0".into()]
    });
    let mut liar = Liar {
        keys: 1,
        used: 1 << 50,
        limit: LIMIT,
    };
    lie(&mut net, &mut liar, SECOND);
    assert_eq!(net.told(|event| matches!(event, Event::Clamped { .. })), 3);
    assert_eq!(net.told(|event| matches!(event, Event::Quarantined { .. })), 1);
    let stats = net.places[0].node.stats();
    assert!(stats.largest_debt <= 300, "{}", stats.largest_debt);
    assert!(stats.clamped_units > 1 << 50);
    // Back in another life it is believed again, as long as it is honest.
    net.restart(1, 2);
    net.link(0, 1);
    net.run(SECOND, flood(10 * MS));
    assert!(
        net.places[0]
            .node
            .peers
            .values()
            .all(|peer| !peer.quarantined && peer.strikes == 0)
    );
}

#[test]
fn a_flood_of_keys_is_bounded_and_unknown_limits_are_counted() {
    let mut net = Net::new(2, spec(limit(1000, 100), EVENTUAL), |config| {
        config.owners = vec!["node-0".into()];
        config.caps.accounts = 1000;
    });
    let mut liar = Liar {
        keys: 3_000,
        used: 1,
        limit: LIMIT,
    };
    lie(&mut net, &mut liar, SECOND / 10);
    let stats = net.places[0].node.stats();
    assert_eq!(stats.accounts, 750, "one node may open three quarters");
    assert!(stats.no_room_units > 1000);
    assert!(net.ask(0, Key(5), 1));
    net.run(200 * MS, |_, _| {});
    assert_eq!(net.places[0].node.stats().accounts, 751, "others find room");
    // The second node knows a limit that the first refuses to: it was never told in time.
    net.places[1].node.limits.adopt(&LimitSpec {
        id: LimitId(7),
        ..spec(limit(1, 1), EVENTUAL)
    });
    net.places[1]
        .node
        .links
        .values_mut()
        .for_each(|link| link.limits_told = u64::MAX);
    let mut liar = Liar {
        keys: 10,
        used: 3,
        limit: LimitId(7),
    };
    lie(&mut net, &mut liar, SECOND / 10);
    assert!(net.places[0].node.stats().unknown_units >= 30);
}

#[test]
fn idle_books_and_leases_are_closed() {
    let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
    net.run(SECOND, flood(MS));
    assert!(net.places.iter().any(|place| place.node.stats().leases > 0));
    net.run(5 * SECOND, |_, _| {});
    for place in &mut net.places {
        let now_ns = net.now_ns;
        place.store.sweep(100, now_ns);
        let stats = place.node.stats();
        assert_eq!(
            (stats.leases, stats.accounts, place.store.len()),
            (0, 0, 0),
            "{}",
            place.name
        );
    }
}

#[test]
fn bytes_without_sense_close_the_link_and_nothing_else() {
    let mut net = Net::new(2, spec(limit(1000, 100), EVENTUAL), |_| {});
    let place = &mut net.places[0];
    let (link, now_ns) = (LinkId(500), net.now_ns);
    place.node.handle_link_up(link, "node-1", false, now_ns);
    place
        .node
        .handle_bytes(link, Stream::Control, &[0xff; 100], now_ns, &mut place.store);
    let mut said = vec![];
    while let Some(transmit) = place.node.poll_transmit() {
        said.extend((transmit.link == link).then_some(transmit.bytes));
    }
    let mut refusal = vec![];
    Message::Refuse(Refusal::Malformed).encode(&mut refusal);
    assert!(said.concat().ends_with(&refusal), "it says why");
    assert_eq!(place.node.stats().links, 1, "the other link stands");
    // A report before any hello waits; a message out of place ends the link.
    place.node.handle_link_up(LinkId(501), "node-1", false, now_ns);
    let mut early = vec![];
    Message::Report(Report {
        seq: 1,
        sent_ms: 1,
        entries: vec![],
    })
    .encode(&mut early);
    place
        .node
        .handle_bytes(LinkId(501), Stream::Report, &early, now_ns, &mut place.store);
    assert_eq!(place.node.stats().links, 2);
    place
        .node
        .handle_bytes(LinkId(501), Stream::Control, &early, now_ns, &mut place.store);
    while place.node.poll_transmit().is_some() {}
    assert_eq!((place.node.stats().links, place.node.stats().malformed), (1, 2));
}

#[test]
fn nodes_that_do_not_fit_are_refused_with_the_reason() {
    for (what, reason) in [("owners", Refusal::Configuration), ("name", Refusal::Name)] {
        let mut a = Node::new(NodeConfig::new("a"), Incarnation(1), 1, 0).expect("a configuration");
        let mut config = NodeConfig::new("b");
        if what == "owners" {
            config.owners = vec!["b".into()];
        }
        let mut b = Node::new(config, Incarnation(1), 2, 0).expect("a configuration");
        a.handle_link_up(LinkId(1), if what == "name" { "c" } else { "b" }, true, 0);
        b.handle_link_up(LinkId(1), "a", false, 0);
        let mut store = MapStore::new(1);
        while let Some(Transmit { stream, bytes, .. }) = b.poll_transmit() {
            a.handle_bytes(LinkId(1), stream, &bytes, 0, &mut store);
        }
        let link = LinkId(1);
        assert_eq!(a.poll_event(), Some(Event::CloseLink { link, reason }), "{what}");
    }
    let mut a = Node::new(NodeConfig::new("a"), Incarnation(1), 1, 0).expect("a configuration");
    a.handle_link_up(LinkId(1), "a", true, 0);
    assert!(matches!(
        a.poll_event(),
        Some(Event::CloseLink {
            reason: Refusal::Name,
            ..
        })
    ));
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let trace = || {
        let mut net = Net::new(3, spec(limit(1000, 100), EVENTUAL), |_| {});
        net.run(SECOND, flood(MS));
        net.cut_between(0, 1);
        net.run(SECOND, flood(MS));
        (
            net.sent,
            net.oracle.admitted,
            net.denied,
            format!("{:?}", net.places[0].node.ledger),
        )
    };
    assert_eq!(trace(), trace());
}
