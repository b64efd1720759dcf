//! What a decision is made of: hash, clock, arithmetic, and the table with everything in the cache or nothing.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ratelimit::{ClientKey, Clock, Decision, Limit, Limiter};
use ratelimit_core::HashKey;
use ratelimit_model::Gcra;

/// A limit that never denies here.
const WIDE: &str = "1/hour burst 4000";
const KEYS: usize = 1_000_000;

fn limit(text: &str) -> Limit {
    text.parse().expect("a limit of this bench")
}

fn limiter(text: &str, max_keys: usize) -> Limiter {
    Limiter::builder()
        .limit(limit(text))
        .max_keys(max_keys)
        .build()
        .expect("a limiter for this bench")
}

/// A fixed walk over `0..n`: the same in every run.
fn walk(n: usize) -> impl FnMut() -> usize {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    }
}

fn hash(c: &mut Criterion) {
    let key = HashKey::new([7; 16]);
    let mut group = c.benchmark_group("hash");
    for length in [8, 24, 200, 1_024] {
        let id = vec![b'x'; length];
        group.bench_with_input(BenchmarkId::from_parameter(length), &id, |b, id| {
            b.iter(|| key.fingerprint(black_box(id)));
        });
    }
}

fn clock(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    for (name, clock) in [
        ("precise", Clock::precise()),
        ("coarse", Clock::coarse()),
        ("os", Clock::os()),
    ] {
        group.bench_function(name, |b| b.iter(|| clock.now()));
    }
}

fn arithmetic(c: &mut Criterion) {
    let mut group = c.benchmark_group("gcra");
    for text in ["100/minute", "3000000/s"] {
        let gcra = Gcra::new(&limit(text)).expect("a limit of this bench");
        group.bench_function(BenchmarkId::new("decide", text), |b| {
            b.iter(|| gcra.decide(black_box(1_000), black_box(2_000), black_box(1)));
        });
        group.bench_function(BenchmarkId::new("decision", text), |b| {
            b.iter(|| gcra.decision(black_box(true), black_box(3_000), black_box(2_000), black_box(1)));
        });
    }
}

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("table");
    for (name, keys) in [("1 key", 1), ("1024 keys", 1_024), ("1M keys", KEYS)] {
        let limiter = limiter(WIDE, KEYS);
        let keys: Vec<ClientKey> = (0..keys as u64).map(|i| limiter.key(&i.to_le_bytes())).collect();
        for key in &keys {
            assert!(limiter.is_allowed(key));
        }
        let mut next = walk(keys.len());
        group.bench_function(BenchmarkId::new("is_allowed(ClientKey)", name), |b| {
            b.iter(|| limiter.is_allowed(&keys[next()]));
        });
        group.bench_function(BenchmarkId::new("check(ClientKey)", name), |b| {
            b.iter(|| limiter.check(&keys[next()]))
        });
        group.bench_function(BenchmarkId::new("check_many of 16", name), |b| {
            let mut decisions = [Decision::default(); 16];
            b.iter_batched(
                || std::array::from_fn::<_, 16, _>(|_| keys[next()]),
                |batch| limiter.check_many(&batch, &mut decisions),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("insert", |b| {
        let limiter = limiter(WIDE, 8 * KEYS);
        let mut id = 0u64;
        b.iter(|| {
            id += 1;
            limiter.is_allowed(&id.to_le_bytes())
        });
    });
}

criterion_group! {
    name = parts;
    config = Criterion::default().without_plots();
    targets = hash, clock, arithmetic, table
}
criterion_main!(parts);
