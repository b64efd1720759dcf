//! Snapshots: what is kept, what is believed, and what a damaged file does.
#![allow(clippy::unwrap_used)]

#[path = "../../limiter/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use proptest::prelude::*;
use ratelimit_core::snapshot::simulated::{Failure, SimulatedDisk};
use ratelimit_core::snapshot::{
    CHUNK_BYTES, ChunkHealth, Damage, Disk, HEADER_BYTES, Moment, Outcome, Restore, Snapshot, Storage, TRAILER_BYTES,
    Which,
};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, ManualClock, Overflow};
use support::Random;

const SECRET: [u8; 16] = *b"sixteen secrets!";

fn engine_with(limits: &[&str], max_keys: Option<u64>, secret: [u8; 16]) -> (Engine, ManualClock) {
    let (clock, hand) = Clock::manual();
    let engine = Engine::new(Config {
        limits: limits.iter().map(|text| text.parse().unwrap()).collect(),
        max_keys,
        hash_key: HashKey::new(secret),
        clock,
        overflow: Overflow::Share,
    })
    .unwrap();
    (engine, hand)
}

fn engine(limits: &[&str]) -> (Engine, ManualClock) {
    engine_with(limits, None, SECRET)
}

fn client(engine: &Engine, number: u64) -> Fingerprint {
    engine.fingerprint(&number.to_le_bytes())
}

fn moment(seconds: u64) -> Moment {
    Moment {
        boot_id: 77,
        boot_ns: seconds * 1_000_000_000,
        wall_ns: 1_700_000_000_000_000_000 + seconds * 1_000_000_000,
    }
}

/// What a client has left to wait until its bucket is full.
fn debt(engine: &Engine, number: u64) -> Duration {
    engine.peek(client(engine, number), 0, None).reset_after
}

fn bytes_of(engine: &Engine, generation: u64, seconds: u64) -> Vec<u8> {
    let mut disk = SimulatedDisk::new();
    engine
        .write_snapshot(&mut disk, generation, || moment(seconds))
        .unwrap();
    disk.content(Which::Newest).unwrap()
}

/// A table with some clients in debt, each by another amount.
fn some_clients(count: u64) -> (Engine, ManualClock) {
    let (engine, hand) = engine(&["100/minute"]);
    hand.set(Duration::from_secs(1_000));
    for number in 0..count {
        assert!(engine.check(client(&engine, number), 1 + number % 100, None).allowed);
    }
    (engine, hand)
}

#[test]
fn every_debt_comes_back_less_the_time_that_passed() {
    let (before, _) = some_clients(5_000);
    let bytes = bytes_of(&before, 1, 50);
    let mut disk = SimulatedDisk::holding(Some(&bytes), None);
    for max_keys in [None, Some(10_000)] {
        let (mut after, hand) = engine_with(&["100/minute"], max_keys, SECRET);
        hand.set(Duration::from_secs(3));
        let restored = after.restore(&mut disk, Restore::Auto, moment(50 + 7)).unwrap();
        assert_eq!((restored.outcome, restored.generation), (Outcome::Exact, 1));
        assert_eq!(restored.age, Duration::from_secs(7));
        assert!(restored.is_exact_age);
        assert_eq!(restored.cells + restored.expired, 5_000);
        assert_eq!(
            (restored.unmapped, restored.no_room, restored.damaged_chunks),
            (0, 0, 0)
        );
        for number in 0..5_000 {
            let left = debt(&before, number).saturating_sub(Duration::from_secs(7));
            assert_eq!(debt(&after, number), left, "client {number}");
        }
        assert_eq!(debt(&after, 999_999), Duration::ZERO, "nobody else has debt");
    }
}

#[test]
fn several_limits_blocks_overrides_and_given_times_are_kept() {
    let (before, hand) = engine(&["10/s burst 20", "1000/hour"]);
    hand.set(Duration::from_secs(100));
    for number in 0..300 {
        assert!(before.check(client(&before, number), 5, None).allowed);
    }
    let one = before.fingerprint(b"has its own");
    before.set_override(one, Some("10/minute".parse().unwrap())).unwrap();
    assert!(before.check(one, 4, None).allowed);
    before
        .block(before.fingerprint(b"blocked"), Duration::from_secs(60))
        .unwrap();
    let given = before.fingerprint(b"at given times");
    assert!(before.check(given, 10, Some(Duration::from_secs(5_000_000))).allowed);

    let mut disk = SimulatedDisk::holding(Some(&bytes_of(&before, 9, 10)), None);
    let (mut after, hand) = engine(&["10/s burst 20", "1000/hour"]);
    hand.set(Duration::from_secs(7_777));
    let restored = after.restore(&mut disk, Restore::Auto, moment(10)).unwrap();
    assert_eq!((restored.unmapped, restored.no_room, restored.blocks), (0, 0, 1));
    for number in 0..300 {
        assert_eq!(
            after.peek(client(&after, number), 1, None),
            before.peek(client(&before, number), 1, None),
            "client {number}"
        );
    }
    let blocked = after.check(after.fingerprint(b"blocked"), 1, None);
    assert_eq!((blocked.allowed, blocked.retry_after), (false, Duration::from_secs(60)));
    // Four tenths of its own burst, and so of the limit that all have, until the application sets the override again.
    let one = after.fingerprint(b"has its own");
    assert_eq!(after.peek(one, 0, None).remaining, 12);
    after.set_override(one, Some("10/minute".parse().unwrap())).unwrap();
    assert_eq!(after.peek(one, 0, None).remaining, 6);
    let given = after.fingerprint(b"at given times");
    assert_eq!(after.peek(given, 0, Some(Duration::from_secs(9))).remaining, 10);
}

#[test]
fn a_change_of_limit_in_flight_is_told_in_the_newest_numbers() {
    let (before, _) = engine(&["10/s"]);
    assert!(before.check(client(&before, 1), 5, None).allowed);
    before.set_limits(&["100/minute".parse().unwrap()]).unwrap();
    assert!(before.check(client(&before, 2), 50, None).allowed);
    let mut disk = SimulatedDisk::holding(Some(&bytes_of(&before, 1, 0)), None);
    let (mut after, _) = engine(&["100/minute"]);
    after.restore(&mut disk, Restore::Auto, moment(0)).unwrap();
    for number in [1, 2] {
        assert_eq!(
            after.peek(client(&after, number), 0, None).remaining,
            50,
            "client {number}"
        );
    }
}

#[test]
fn from_one_limit_to_several_and_back() {
    let (one, _) = engine(&["10/s"]);
    let (two, _) = engine(&["10/s", "100/hour"]);
    for number in 0..100 {
        assert!(one.check(client(&one, number), 5, None).allowed);
        assert!(two.check(client(&two, number), 5, None).allowed);
    }
    let restore = |bytes: &[u8], limits: &[&str]| {
        let (mut after, _) = engine(limits);
        let mut disk = SimulatedDisk::holding(Some(bytes), None);
        let restored = after.restore(&mut disk, Restore::Auto, moment(0)).unwrap();
        (after, restored)
    };
    let (after, restored) = restore(&bytes_of(&one, 1, 0), &["10/s", "100/hour"]);
    assert_eq!((restored.cells, restored.unmapped), (100, 0));
    assert!((0..100).all(|number| !after.check(client(&after, number), 6, None).allowed));
    let (after, restored) = restore(&bytes_of(&two, 1, 0), &["10/s", "100/hour", "5000/day"]);
    assert_eq!((restored.cells, restored.unmapped), (200, 0));
    assert!((0..100).all(|number| !after.check(client(&after, number), 6, None).allowed));
    // The way back loses the debts, and says so.
    let (after, restored) = restore(&bytes_of(&two, 1, 0), &["10/s"]);
    assert_eq!((restored.cells, restored.unmapped), (0, 200));
    assert!((0..100).all(|number| after.check(client(&after, number), 10, None).allowed));
}

#[test]
fn of_two_debts_of_one_key_the_larger_counts() {
    // A file has two of a client that got or lost an override while it was written. Here they come from two files.
    let (before, hand) = engine(&["100/minute"]);
    assert!(before.check(client(&before, 1), 60, None).allowed);
    let larger = bytes_of(&before, 1, 0);
    hand.advance(Duration::from_secs(30));
    let smaller = bytes_of(&before, 2, 0);
    for order in [[&larger, &smaller], [&smaller, &larger]] {
        let (mut after, _) = engine(&["100/minute"]);
        for bytes in order {
            let mut disk = SimulatedDisk::holding(Some(bytes), None);
            after.restore(&mut disk, Restore::Auto, moment(0)).unwrap();
        }
        assert_eq!(after.peek(client(&after, 1), 0, None).remaining, 40);
    }
}

#[test]
fn a_table_that_is_too_small_says_what_found_no_place() {
    let (before, _) = some_clients(20_000);
    let mut disk = SimulatedDisk::holding(Some(&bytes_of(&before, 1, 0)), None);
    let (mut after, _) = engine_with(&["100/minute"], Some(1_000), SECRET);
    let restored = after.restore(&mut disk, Restore::Auto, moment(0)).unwrap();
    assert!(restored.cells >= 1_900 && restored.no_room >= 17_000, "{restored:?}");
    assert_eq!(restored.cells + restored.no_room, 20_000);
}

#[test]
fn what_is_believed_and_in_which_order() {
    let (before, _) = some_clients(5_000);
    let (good, older) = (bytes_of(&before, 2, 0), bytes_of(&before, 1, 0));
    let mut bad = good.clone();
    bad[HEADER_BYTES + CHUNK_BYTES + 100] ^= 1;
    let mut later = good.clone();
    later[8] = 2;
    let outcome = |newest: Option<&[u8]>, previous: Option<&[u8]>, policy| {
        let (mut after, _) = engine(&["100/minute"]);
        let mut disk = SimulatedDisk::holding(newest, previous);
        after
            .restore(&mut disk, policy, moment(0))
            .map(|restored| (restored.outcome, restored.cells))
            .map_err(|refused| refused.to_string())
    };
    use Restore::{Auto, Required, Salvage};
    let cold = |outcome| Ok((outcome, 0));
    assert_eq!(outcome(Some(&good), Some(&older), Auto), Ok((Outcome::Exact, 5_000)));
    assert_eq!(outcome(Some(&bad), Some(&older), Auto), Ok((Outcome::Previous, 5_000)));
    assert_eq!(outcome(None, Some(&older), Required), Ok((Outcome::Previous, 5_000)));
    assert_eq!(outcome(Some(&bad), None, Auto), cold(Outcome::ColdDamaged));
    assert_eq!(outcome(Some(&bad), None, Salvage), Ok((Outcome::Salvaged, 4_094)));
    assert_eq!(outcome(None, None, Auto), cold(Outcome::ColdNone));
    assert_eq!(outcome(None, None, Required), cold(Outcome::ColdNone));
    assert_eq!(outcome(Some(b""), None, Salvage), cold(Outcome::ColdDamaged));
    assert_eq!(outcome(Some(&later), None, Auto), cold(Outcome::ColdVersion));
    assert_eq!(
        outcome(Some(&later), Some(&older), Auto),
        Ok((Outcome::Previous, 5_000))
    );
    let refused = outcome(Some(&bad), Some(&bad), Required).unwrap_err();
    assert!(
        refused.contains("1 of its chunks") && refused.contains("remove the damaged files"),
        "{refused}"
    );

    let (mut other, _) = engine_with(&["100/minute"], None, *b"another secret!!");
    let mut disk = SimulatedDisk::holding(Some(&good), Some(&bad));
    let restored = other.restore(&mut disk, Salvage, moment(0)).unwrap();
    assert_eq!(
        (restored.outcome, restored.cells, restored.generation),
        (Outcome::ColdKey, 0, 2)
    );
}

#[test]
fn a_real_disk_keeps_two_generations_and_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let (before, _) = some_clients(10_000);
    let mut disk = Disk::open(&path).unwrap();
    for generation in 1..=3 {
        let written = before.write_snapshot(&mut disk, generation, Moment::now).unwrap();
        assert_eq!((written.generation, written.entries), (generation, [10_000, 0, 0]));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), written.bytes);
    }
    let generation = |which| {
        let bytes = Disk::read(&mut Disk::open(&path).unwrap(), which).unwrap().unwrap();
        let snapshot = Snapshot::parse(&bytes).unwrap();
        assert_eq!(snapshot.damage(), None);
        snapshot.header().generation
    };
    let busy = Disk::open(&path).unwrap_err().to_string();
    assert!(busy.contains("another limiter"), "{busy}");
    drop(disk);
    assert_eq!((generation(Which::Newest), generation(Which::Previous)), (3, 2));
    // What a writer that died leaves is removed, and nothing else.
    for name in ["api.snapshot.tmp.77", "api.snapshot.1.tmp.78", "api.snapshot.tmp.mine"] {
        std::fs::write(directory.path().join(name), b"half").unwrap();
    }
    drop(Disk::open(&path).unwrap());
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "api.snapshot",
            "api.snapshot.1",
            "api.snapshot.lock",
            "api.snapshot.tmp.mine"
        ]
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        for name in ["api.snapshot", "api.snapshot.1", "api.snapshot.lock"] {
            let mode = std::fs::metadata(directory.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{name} is open to others");
        }
        let link = directory.path().join("link.snapshot");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = Disk::open(&link).unwrap_err().to_string();
        assert!(refused.contains("ordinary file"), "{refused}");
    }
    let refused = Disk::open(&directory.path().join("api.snapshot/below"))
        .unwrap_err()
        .to_string();
    assert!(refused.contains("the system refused"), "{refused}");
}

// --- Damage ------------------------------------------------------------------------------------------------------------------

/// A file of one chunk: 64 KiB of entries.
fn one_chunk() -> Vec<u8> {
    let (before, _) = some_clients(4_000);
    let bytes = bytes_of(&before, 5, 0);
    assert_eq!(bytes.len(), HEADER_BYTES + CHUNK_BYTES + TRAILER_BYTES);
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    Snapshot::parse(bytes).is_ok_and(|snapshot| snapshot.damage().is_none())
}

#[test]
fn no_flipped_bit_is_believed() {
    let mut bytes = one_chunk();
    assert!(is_whole(&bytes));
    // Without optimisation one bit of each byte; with it every bit.
    let step = if cfg!(debug_assertions) { 17 } else { 1 };
    let mut tried = 0;
    for bit in (0..bytes.len() * 8).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_whole(&bytes), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
        tried += 1;
    }
    assert!(is_whole(&bytes));
    // Nor does salvage believe a header: the times and limits in it say what the chunks are worth.
    for bit in (0..HEADER_BYTES * 8).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Snapshot::parse(&bytes).is_err(), "bit {bit} of the header");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    println!("{tried} bits flipped, one at a time");
}

#[test]
fn no_flipped_bit_is_salvaged_as_a_debt_that_was_not_there() {
    // What salvage rests on: the checksums of chunks.
    let good = one_chunk();
    let chunk = HEADER_BYTES..HEADER_BYTES + CHUNK_BYTES;
    let mut bytes = good.clone();
    let mut random = Random(3);
    for _ in 0..support::rounds(20_000, 10) {
        let flips = 1 + random.below(8);
        let places: Vec<usize> = (0..flips)
            .map(|_| random.below(bytes.len() as u64 * 8) as usize)
            .collect();
        for bit in &places {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(snapshot) = Snapshot::parse(&bytes) {
            let count = snapshot.entries().count();
            assert!(
                count == 0 || bytes[chunk.clone()] == good[chunk.clone()],
                "bits {places:?}"
            );
        }
        for bit in &places {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn no_truncated_file_is_believed() {
    let bytes = one_chunk();
    let step = if cfg!(debug_assertions) { 13 } else { 1 };
    for length in (0..bytes.len()).step_by(step) {
        assert!(!is_whole(&bytes[..length]), "cut at {length}");
    }
    for zeros in [1, 63, 64, 512, CHUNK_BYTES, CHUNK_BYTES + 64] {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + zeros, 0);
        assert!(!is_whole(&longer), "{zeros} zeros at the end");
    }
}

#[test]
fn a_trailer_that_contradicts_its_file_is_not_believed() {
    // Not damage but a writer at fault: the hash is right.
    let good = one_chunk();
    let hashed = good.len() - 16;
    for at in [8, 16, 24, 32, 40].map(|at| good.len() - TRAILER_BYTES + at) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let hash = xxhash_rust::xxh3::xxh3_128(&bytes[..hashed]);
        bytes[hashed..].copy_from_slice(&hash.to_le_bytes());
        assert_eq!(
            Snapshot::parse(&bytes).unwrap().damage(),
            Some(Damage::Trailer),
            "byte {at}"
        );
    }
}

#[test]
fn no_moved_lost_or_stale_sector_is_believed() {
    let (before, _) = some_clients(30_000);
    let older = bytes_of(&before, 5, 0);
    // Another state of the same clients, so that the older file has other content at the same places.
    for number in 0..30_000 {
        before.refund(client(&before, number), 1, None);
    }
    let bytes = bytes_of(&before, 6, 0);
    let mut random = Random(11);
    for _ in 0..support::rounds(20_000, 5) {
        let size = random.pick(&[512, 4_096, CHUNK_BYTES]);
        let sectors = bytes.len().div_ceil(size) as u64;
        let mut damaged = bytes.clone();
        let at = random.below(sectors) as usize * size;
        let end = (at + size).min(bytes.len());
        match random.below(4) {
            0 => damaged[at..].fill(0),
            1 => damaged[at..end].fill(0),
            2 => {
                let other = random.below(bytes.len() as u64 / size as u64) as usize * size;
                let count = (bytes.len() - other).min(end - at);
                damaged.copy_within(other..other + count, at);
                let moved = bytes[at..at + count].to_vec();
                damaged[other..other + count].copy_from_slice(&moved);
            }
            _ => {
                let count = older.len().saturating_sub(at).min(end - at);
                damaged[at..at + count].copy_from_slice(&older[at..at + count]);
            }
        }
        assert_eq!(is_whole(&damaged), damaged == bytes, "size {size} at {at}");
    }
    // A whole chunk of the generation before is whole in itself, and still not of this snapshot.
    let mut stale = bytes.clone();
    stale[HEADER_BYTES..HEADER_BYTES + CHUNK_BYTES].copy_from_slice(&older[HEADER_BYTES..HEADER_BYTES + CHUNK_BYTES]);
    let snapshot = Snapshot::parse(&stale).unwrap();
    assert_eq!(snapshot.chunks()[0], ChunkHealth::Stale { generation: 5 });
    assert_eq!(snapshot.damage(), Some(Damage::Chunks { damaged: 1 }));
    let mut moved = bytes.clone();
    moved.copy_within(HEADER_BYTES..HEADER_BYTES + CHUNK_BYTES, HEADER_BYTES + CHUNK_BYTES);
    let snapshot = Snapshot::parse(&moved).unwrap();
    assert_eq!(snapshot.chunks()[1], ChunkHealth::Misplaced { index: 0 });
}

// --- Faults ------------------------------------------------------------------------------------------------------------------

/// How many calls one snapshot makes.
fn calls_of(engine: &Engine, bytes: &[u8]) -> u64 {
    let mut disk = SimulatedDisk::holding(Some(bytes), None);
    engine.write_snapshot(&mut disk, 2, || moment(0)).unwrap();
    disk.calls()
}

#[test]
fn every_failing_call_leaves_the_snapshots_before_and_is_told() {
    let (engine, _) = some_clients(9_000);
    let older = bytes_of(&engine, 1, 0);
    let calls = calls_of(&engine, &older);
    assert!(calls >= 8, "{calls}");
    for failure in Failure::ALL {
        for call in 0..calls {
            let mut disk = SimulatedDisk::holding(Some(&older), None);
            disk.fail(call, failure);
            let error = engine.write_snapshot(&mut disk, 2, || moment(0)).unwrap_err();
            assert!(error.to_string().contains("decisions go on"), "{error}");
            assert!(!disk.was_synced_again(), "call {call}");
            assert!(!disk.has_leftovers(), "call {call}: a temporary file is left");
            // Up to the rename the newest is the one before; after it, it is the new one.
            let newest = disk.content(Which::Newest).unwrap();
            assert_eq!(newest == older, call + 1 < calls, "call {call}");
            assert!(is_whole(&newest));
            // The next one goes well.
            assert_eq!(engine.write_snapshot(&mut disk, 3, || moment(0)).unwrap().generation, 3);
            assert!(is_whole(&disk.content(Which::Newest).unwrap()));
        }
    }
}

#[test]
fn power_lost_at_any_call_leaves_a_whole_snapshot() {
    let (engine, _) = some_clients(9_000);
    let older = bytes_of(&engine, 1, 0);
    let calls = calls_of(&engine, &older);
    for call in 0..=calls {
        for seed in 0..support::rounds(100, 10) {
            let mut disk = SimulatedDisk::holding(Some(&older), None);
            disk.cut(call);
            let acknowledged = engine.write_snapshot(&mut disk, 2, || moment(0)).is_ok();
            assert_eq!(acknowledged, call == calls);
            let mut back = disk.power_on(seed);
            let (mut after, _) = self::engine(&["100/minute"]);
            let restored = after.restore(&mut back, Restore::Auto, moment(0)).unwrap();
            assert!(restored.outcome.is_warm(), "call {call}, seed {seed}: {restored:?}");
            assert_eq!(restored.cells, 9_000, "call {call}, seed {seed}");
            if acknowledged {
                assert_eq!((restored.outcome, restored.generation), (Outcome::Exact, 2));
            }
        }
    }
}

// --- Properties --------------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 200 }))]

    #[test]
    fn every_entry_is_read_as_it_was_written(costs in prop::collection::vec(1u64..100, 0..9_000), seconds in 0u64..1_000_000) {
        let (before, _) = engine(&["100/minute"]);
        for (number, cost) in costs.iter().enumerate() {
            assert!(before.check(client(&before, number as u64), *cost, None).allowed);
        }
        let bytes = bytes_of(&before, 3, seconds);
        let snapshot = Snapshot::parse(&bytes).unwrap();
        prop_assert_eq!(snapshot.damage(), None);
        prop_assert_eq!(snapshot.header().made, moment(seconds));
        prop_assert_eq!(snapshot.entries().count(), costs.len());
        prop_assert_eq!(snapshot.trailer().unwrap().entries, [costs.len() as u64, 0, 0]);
    }

    #[test]
    fn another_limit_keeps_the_share(
        (old_rate, old_window) in (1u64..1_000, 1u64..100_000),
        (new_rate, new_window) in (1u64..1_000, 1u64..100_000),
        spent in 1u64..1_000,
        max_keys in prop::option::of(1u64..10_000),
    ) {
        let limit = |rate: u64, window: u64| format!("{rate}/{window}s");
        let (before, _) = engine(&[&limit(old_rate, old_window)]);
        let spent = spent.min(old_rate);
        prop_assert!(before.check(client(&before, 1), spent, None).allowed);
        let mut disk = SimulatedDisk::holding(Some(&bytes_of(&before, 1, 0)), None);
        let (mut after, _) = engine_with(&[&limit(new_rate, new_window)], max_keys, SECRET);
        after.restore(&mut disk, Restore::Auto, moment(0)).unwrap();
        let full = |rate: u64, window: u64| (window * 1_000_000_000 / rate * rate) as f64;
        let old_share = debt(&before, 1).as_nanos() as f64 / full(old_rate, old_window);
        let new_share = debt(&after, 1).as_nanos() as f64 / full(new_rate, new_window);
        prop_assert!((old_share - new_share).abs() < 1e-6, "{old_share} became {new_share}");
        prop_assert!(debt(&after, 1) <= Duration::from_secs(new_window));
    }

    #[test]
    fn no_bytes_at_all_panic(bytes in prop::collection::vec(any::<u8>(), 0..10_000), keep in 0usize..200) {
        prop_assert!(!is_whole(&bytes));
        // The beginning of a true one, and then anything.
        let mut start = one_chunk_once()[..keep.min(HEADER_BYTES)].to_vec();
        start.extend(bytes);
        prop_assert!(!is_whole(&start));
    }
}

fn one_chunk_once() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(one_chunk)
}

#[test]
fn no_clock_locks_anyone_out_or_gives_more_than_a_burst() {
    let mut random = Random(29);
    let limits = ["10/s", "100/minute", "5/hour", "1000/day strict"];
    for round in 0..support::rounds(10_000, 10) {
        let limit = random.pick(&limits);
        let (before, hand) = engine(&[limit]);
        let burst = before.limits()[0].capacity();
        hand.set(Duration::from_nanos(random.magnitude(0, u64::MAX / 2)));
        let spent = 1 + random.below(burst);
        let given = random
            .one_in(3)
            .then(|| Duration::from_secs(random.magnitude(0, 4_000_000_000)));
        assert!(before.check(client(&before, 1), spent, given).allowed, "round {round}");
        if random.one_in(3) {
            // Backwards explicit time, by years.
            let _ = before.check(client(&before, 1), 1, given.map(|given| given / 3));
        }
        if random.one_in(3) {
            // The own clock is set back: then the table tells more debt than there can be.
            hand.set(Duration::ZERO);
        }
        let at = Moment {
            boot_id: random.pick(&[0, 1, 2]),
            boot_ns: random.magnitude(0, u64::MAX),
            wall_ns: random.magnitude(0, u64::MAX),
        };
        let mut disk = SimulatedDisk::new();
        before.write_snapshot(&mut disk, 1, || at).unwrap();
        // A step of years either way, a reboot, a suspend (the boot clock counts it).
        let now = Moment {
            boot_id: random.pick(&[0, 1, 2]),
            boot_ns: random.magnitude(0, u64::MAX),
            wall_ns: random.magnitude(0, u64::MAX),
        };
        let (mut after, hand) = engine(&[limit]);
        hand.set(Duration::from_nanos(random.magnitude(0, u64::MAX)));
        let restored = after.restore(&mut disk, Restore::Auto, now).unwrap();
        assert_eq!(restored.outcome, Outcome::Exact);
        let shown = after.peek(client(&after, 1), 1, None);
        assert!(
            shown.remaining <= burst && shown.reset_after <= Duration::from_secs(86_400 + 1),
            "round {round}"
        );
        // One window later everybody is free, whatever the clocks said.
        hand.advance(after.limits()[0].window() + Duration::from_secs(1));
        let mut admitted = 0;
        while after.check(client(&after, 1), 1, None).allowed {
            admitted += 1;
            assert!(admitted <= burst, "round {round}: more than one burst");
        }
        assert_eq!(admitted, burst, "round {round}: locked out beyond the window");
    }
}
