//! The table and the store of maps side by side: the same requests, leases, drains and switches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ratelimit_cluster_table::{TableStore, unconfirmed};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, ManualClock, Overflow};
use ratelimit_model::{Gcra, Limit, WHOLE_SHARE};
use ratelimit_protocol::{Cell, DrainSink, Drained, Key, Lease, LimitId, MapStore, Mode, Pass, Rules, Store, Unleased};

const LIMIT: LimitId = LimitId(7);
const BURST: u64 = 20;
const NODES: u64 = 4;
const KEYS: u64 = 6;

fn limit() -> Limit {
    Limit::new(1_000, Duration::from_secs(1)).expect("a limit").burst(BURST)
}

fn whole() -> Gcra {
    Gcra::new(&limit()).expect("numbers")
}

fn rules(mode: Mode, share: u64) -> Rules {
    let gcra = whole();
    let connected = match mode {
        Mode::Eventual => Unleased::Part(gcra.part(share, BURST)),
        Mode::Bounded { units } => Unleased::Overdraft { gcra, units },
        Mode::Strict { .. } => Unleased::Deny,
    };
    let cut = match mode {
        Mode::Eventual => Unleased::Part(gcra.part(share, BURST / NODES)),
        _ => connected,
    };
    Rules {
        shown: limit(),
        limit: gcra,
        connected,
        cut,
        urgent_units: 5,
        overdraft: matches!(mode, Mode::Bounded { .. }),
    }
}

fn cell(key: u64) -> Cell {
    Cell {
        limit: LIMIT,
        key: Key((key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    }
}

struct Table {
    store: TableStore,
    hand: ManualClock,
}

impl Table {
    fn new(mode: Mode) -> Self {
        let (clock, hand) = Clock::manual();
        let config = Config {
            limits: vec![limit()],
            max_keys: Some(1_000),
            hash_key: HashKey::new([7; 16]),
            clock,
            overflow: Overflow::Share,
        };
        let engine = Arc::new(Engine::clustered(config, &[unconfirmed(mode)]).expect("an engine"));
        assert!(
            TableStore::with_ids(&engine, Vec::new()).is_none(),
            "a number for each limit"
        );
        let store = TableStore::with_ids(&engine, vec![LIMIT]).expect("the first");
        assert!(TableStore::new(&engine).is_none(), "one speaks for it");
        Table { store, hand }
    }

    fn decide(&self, key: u64, cost: u64) -> bool {
        let client = Fingerprint::new(cell(key).key.0);
        self.store.engine().check(client, cost, None).allowed
    }
}

#[derive(Default)]
struct All(Vec<(Cell, Drained)>);

impl DrainSink for All {
    fn accepts(&mut self, _: Cell) -> bool {
        true
    }

    fn take(&mut self, cell: Cell, drained: Drained) {
        self.0.push((cell, drained));
    }
}

fn drained(store: &mut dyn Store, pass: Pass) -> Vec<(Cell, Drained)> {
    let mut all = All::default();
    store.drain(pass, &mut all);
    all.0.sort_by_key(|(cell, drained)| (*cell, drained.leased));
    all.0
}

/// Units by cell and kind, and where somebody was denied.
fn told(drained: &[(Cell, Drained)], kinds: bool) -> (BTreeMap<(Cell, bool), u64>, Vec<Cell>) {
    let mut units = BTreeMap::new();
    let mut denied = Vec::new();
    for (cell, drained) in drained {
        if drained.used > 0 {
            *units.entry((*cell, kinds && drained.leased)).or_default() += drained.used;
        }
        if drained.denied > 0 {
            denied.push(*cell);
        }
    }
    (units, denied)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Decide(u64, u64),
    Refund(u64, u64),
    Drain(bool),
    Give {
        key: u64,
        share: u64,
        capacity: u64,
        tokens: u64,
    },
    End(u64),
    Rules(u64),
    Cut(u64, bool),
}

/// With what only one of the stores does exactly, or without.
fn steps(all: bool) -> impl Strategy<Value = Vec<Step>> {
    let share = prop::sample::select(vec![WHOLE_SHARE / 20, WHOLE_SHARE / 4, WHOLE_SHARE]);
    let give = (0..KEYS, share, 1..=BURST, 0..=BURST).prop_map(|(key, share, capacity, tokens)| Step::Give {
        key,
        share,
        capacity,
        tokens,
    });
    let step = prop_oneof![
        3 => (0u64..20_000_000).prop_map(Step::Pass),
        1 => (0u64..3_000_000_000).prop_map(Step::Pass),
        12 => (0..KEYS, 1u64..6).prop_map(|(key, cost)| Step::Decide(key, cost)),
        3 => any::<bool>().prop_map(Step::Drain),
        3 => give,
        2 => (0..KEYS).prop_map(Step::End),
        1 => (0..KEYS, any::<bool>()).prop_map(|(key, cut)| Step::Cut(key, cut)),
        u32::from(all) * 2 + 1 => (0..KEYS, 1u64..6).prop_map(move |(key, cost)| match all {
            true => Step::Refund(key, cost),
            false => Step::Decide(key, cost),
        }),
        1 => (1..=NODES).prop_map(move |nodes| match all {
            true => Step::Rules(nodes),
            false => Step::Pass(1_000_000),
        }),
    ];
    prop::collection::vec(step, 1..120)
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Eventual),
        (1u64..15).prop_map(|units| Mode::Bounded { units }),
        Just(Mode::Strict { floor_ppm: 0 }),
    ]
}

fn lease(mode: Mode, seq: u64, now_ns: u64, share: u64, capacity: u64, tokens: u64) -> Lease {
    Lease {
        seq,
        gcra: whole().part(share, capacity),
        tokens,
        hard: mode.is_hard(),
        until_ns: now_ns + 1_000_000_000,
        urgent_units: 8,
    }
}

fn cases(few: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(debug_assertions) { few } else { few * 20 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// Every answer, every report and every token that comes back is the same.
    #[test]
    fn they_say_the_same(mode in modes(), steps in steps(false)) {
        let mut maps = MapStore::new(1_000);
        let mut table = Table::new(mode);
        let mut now = 1_000_000_000_000;
        table.hand.set(Duration::from_nanos(now));
        let rules = rules(mode, WHOLE_SHARE / NODES);
        maps.set_rules(LIMIT, &rules, now);
        table.store.set_rules(LIMIT, &rules, now);
        prop_assert_eq!(table.store.engine().limits(), vec![limit()]);
        for (number, step) in steps.into_iter().enumerate() {
            // A switch of the table raises the word by a nanosecond at least: nothing is to fit to the nanosecond.
            now += 1_000;
            table.hand.set(Duration::from_nanos(now));
            match step {
                Step::Pass(ns) => {
                    now += ns;
                    table.hand.set(Duration::from_nanos(now));
                }
                Step::Decide(key, cost) | Step::Refund(key, cost) => {
                    let answer = maps.decide(LIMIT, cell(key).key, cost, now).allowed;
                    prop_assert_eq!(table.decide(key, cost), answer, "step {}: {:?}", number, step);
                }
                Step::Drain(confirm) => {
                    let of_maps = drained(&mut maps, Pass::All);
                    let of_table = drained(&mut table.store, Pass::All);
                    // Elsewhere it does not matter of which kind use is, and a cell has one count.
                    prop_assert_eq!(told(&of_table, rules.overdraft), told(&of_maps, rules.overdraft), "step {}", number);
                    for (cell, drained) in of_maps.iter().filter(|(_, drained)| rules.overdraft && !drained.leased) {
                        if confirm {
                            maps.rearm(*cell, drained.used);
                            table.store.rearm(*cell, drained.used);
                        } else {
                            let fit = [maps.restore(*cell, *drained), table.store.restore(*cell, *drained)];
                            prop_assert_eq!(fit, [true; 2]);
                        }
                    }
                }
                Step::Give { key, share, capacity, tokens } => {
                    let lease = lease(mode, number as u64, now, share, capacity, tokens);
                    let of_maps = maps.give_lease(cell(key), &lease, now);
                    prop_assert_eq!(table.store.give_lease(cell(key), &lease, now), of_maps, "step {}", number);
                }
                Step::End(key) => {
                    let of_maps = maps.end_lease(cell(key), now);
                    prop_assert_eq!(table.store.end_lease(cell(key), now), of_maps, "step {}: {:?}", number, step);
                }
                Step::Cut(key, cut) => {
                    let partition = ratelimit_protocol::ownership::partition(cell(key).key);
                    maps.set_cut(partition, mode.is_hard(), cut);
                    table.store.set_cut(partition, mode.is_hard(), cut);
                }
                Step::Rules(_) => {}
            }
        }
    }

    /// Whatever happens, each unit that was admitted is drained, left, or was given back before it was drained.
    #[test]
    fn no_unit_is_lost_or_made(mode in modes(), steps in steps(true)) {
        let mut table = Table::new(mode);
        let mut now = 1_000_000_000_000;
        table.hand.set(Duration::from_nanos(now));
        table.store.set_rules(LIMIT, &rules(mode, WHOLE_SHARE / NODES), now);
        let (mut admitted, mut drained_units, mut refunds) = (0, 0, 0);
        let mut spent = [0; KEYS as usize];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Pass(ns) => {
                    now += ns;
                    table.hand.set(Duration::from_nanos(now));
                }
                Step::Decide(key, cost) => {
                    let units = cost * u64::from(table.decide(key, cost));
                    admitted += units;
                    spent[key as usize] += units;
                }
                // What was never charged is not given back.
                Step::Refund(key, cost) => {
                    let cost = cost.min(spent[key as usize]);
                    spent[key as usize] -= cost;
                    let client = Fingerprint::new(cell(key).key.0);
                    table.store.engine().refund(client, cost, None);
                }
                Step::Drain(restore) => {
                    let pass = if number % 2 == 0 { Pass::All } else { Pass::Urgent };
                    for (cell, drained) in drained(&mut table.store, pass) {
                        refunds += drained.refunded;
                        if restore {
                            prop_assert!(table.store.restore(cell, drained));
                            refunds -= drained.refunded;
                        } else {
                            drained_units += drained.used;
                            if mode.is_hard() && !drained.leased {
                                table.store.rearm(cell, drained.used);
                            }
                        }
                    }
                }
                Step::Give { key, share, capacity, tokens } => {
                    let lease = lease(mode, number as u64, now, share, capacity, tokens);
                    table.store.give_lease(cell(key), &lease, now);
                }
                Step::End(key) => {
                    table.store.end_lease(cell(key), now);
                }
                Step::Cut(key, cut) => {
                    let partition = ratelimit_protocol::ownership::partition(cell(key).key);
                    table.store.set_cut(partition, mode.is_hard(), cut);
                }
                Step::Rules(nodes) => table.store.set_rules(LIMIT, &rules(mode, WHOLE_SHARE / nodes), now),
            }
        }
        // A last pass, for what waits beside the cells.
        for (_, drained) in drained(&mut table.store, Pass::All) {
            drained_units += drained.used;
            refunds += drained.refunded;
        }
        let engine = table.store.engine();
        let vain = engine.stats().counted_in_vain.expect("counted");
        prop_assert_eq!((vain.voided, table.store.stats().adrift), (0, 0));
        // Units that are in flight when they are given back leave their count, and are confirmed in vain.
        prop_assert!(drained_units + engine.unreported() + vain.refunded >= admitted);
        if mode == Mode::Eventual {
            prop_assert_eq!(drained_units + engine.unreported() + vain.refunded, admitted + vain.undo_failed);
        }
        prop_assert!(refunds <= drained_units, "{} units are given back of {}", refunds, drained_units);
        prop_assert!(engine.audit().faults == 0, "{:?}", engine.audit().shown);
    }
}
