//! How long decisions take: a histogram of one in so many, so that measuring costs next to nothing.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One decision of so many is measured.
const ONE_OF: u64 = 64;

/// The upper ends of the parts in nanoseconds.
const ENDS_NS: [u64; 10] = [50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 1_000_000];

/// The times of sampled decisions. Relaxed throughout: counts guard nothing.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    seen: AtomicU64,
    /// Of each part, and of what took longer than all.
    counts: [AtomicU64; ENDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Latency {
    /// Decides, and measures it if it is its turn.
    pub(crate) fn of<T>(&self, decide: impl FnOnce() -> T) -> T {
        if !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(ONE_OF) {
            return decide();
        }
        let start = Instant::now();
        let decided = decide();
        self.add(start.elapsed());
        decided
    }

    fn add(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let part = ENDS_NS.partition_point(|&end| end < ns);
        self.counts[part].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Appends it as Prometheus has it.
    pub(crate) fn text(&self, text: &mut String) {
        const NAME: &str = "ratelimit_decision_duration_seconds";
        let _ = write!(
            text,
            "# HELP {NAME} How long one decision of {ONE_OF} took, without reading the request and writing the answer.\n\
             # TYPE {NAME} histogram\n"
        );
        let mut total = 0;
        for (end_ns, count) in ENDS_NS.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{:e}\"}} {total}", *end_ns as f64 / 1e9);
        }
        total += self.counts[ENDS_NS.len()].load(Ordering::Relaxed);
        let sum = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        let _ = write!(
            text,
            "{NAME}_bucket{{le=\"+Inf\"}} {total}\n{NAME}_sum {sum}\n{NAME}_count {total}\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_is_measured_and_parts_add_up() {
        let latency = Latency::default();
        for number in 0..129 {
            assert_eq!(latency.of(|| number), number);
        }
        let mut text = String::new();
        latency.text(&mut text);
        assert!(
            text.contains("_count 3\n") && text.contains("le=\"+Inf\"} 3\n"),
            "{text}"
        );

        let latency = Latency::default();
        for ns in [50, 51, 1_000_000, 2_000_000_000] {
            latency.add(Duration::from_nanos(ns));
        }
        let mut text = String::new();
        latency.text(&mut text);
        for line in [
            "{le=\"5e-8\"} 1",
            "{le=\"1e-7\"} 2",
            "{le=\"1e-3\"} 3",
            "{le=\"+Inf\"} 4",
            "_sum 2.001000101",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
