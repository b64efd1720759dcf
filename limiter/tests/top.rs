//! What a sample of decisions says: who asks most, who is denied most, and how long decisions take.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

use ratelimit::{LATENCY_ENDS_NS, Limiter};

fn limiter() -> Limiter {
    Limiter::builder().limit("10/day".parse().unwrap()).build().unwrap()
}

#[test]
fn the_most_denied_and_the_most_used_are_found() {
    let limiter = limiter();
    limiter.list_clients(true);
    // A rhythm that a sample of every 256th would see one client of.
    for i in 0..400_000_u32 {
        match i % 4 {
            0 | 1 => _ = limiter.is_allowed("hog"),
            2 => _ = limiter.check("other"),
            _ => _ = limiter.is_allowed(&i.to_string()),
        }
    }
    let top = limiter.top(3);
    let [hog, other] = ["hog", "other"].map(|id| limiter.fingerprint_of(id));
    assert_eq!([&top.denied[0].fingerprint, &top.denied[1].fingerprint], [&hog, &other]);
    assert_eq!(top.used[0].fingerprint, hog);
    // 781 samples of 200,000 denials: five standard deviations are 18 %.
    let denied = top.denied[0].requests as f64;
    assert!((164_000.0..236_000.0).contains(&denied), "{top:?}");
    assert!(top.used.len() <= 3 && limiter.top(0).used.is_empty());
    assert!(limiter.top(usize::MAX).used.len() <= 512, "bounded");
}

#[test]
fn nobody_is_listed_unasked() {
    let limiter = limiter();
    for i in 0..50_000_u32 {
        let _ = limiter.is_allowed(&(i % 3).to_string());
    }
    assert_eq!(limiter.top(10), Default::default());
}

#[test]
fn times_of_sampled_decisions_are_a_histogram() {
    let limiter = Limiter::builder().limit("10000000/s".parse().unwrap()).build().unwrap();
    for _ in 0..200_000 {
        assert!(limiter.is_allowed("a"));
    }
    let latency = limiter.stats().latency;
    let all: u64 = latency.buckets.iter().sum();
    assert!((100..=400).contains(&all), "about one in 1,024: {latency:?}");
    assert!(latency.sum_ns > 0);
    let text = limiter.prometheus();
    let bucket = |line: &str| line.starts_with("ratelimit_decision_seconds_bucket");
    let counts = text
        .lines()
        .filter(|line| bucket(line))
        .map(|line| line.rsplit(' ').next().unwrap());
    let counts: Vec<u64> = counts.map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts.len(), LATENCY_ENDS_NS.len() + 1);
    assert!(counts.is_sorted() && counts.last() == Some(&all), "{text}");
    assert!(
        text.contains(&format!("\nratelimit_decision_seconds_count {all}\n")),
        "{text}"
    );
    // Of a batch nobody knows how long one of it took.
    let before = limiter.stats().latency;
    let keys = vec!["b"; 100_000];
    limiter.allowed_many(&keys, &mut vec![false; keys.len()]).unwrap();
    assert_eq!(limiter.stats().latency, before);
}
