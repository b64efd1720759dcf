//! The text of `/metrics`.

use std::fmt::Write;

use ratelimit_core::snapshot::{Outcome, SnapshotStats};
use ratelimit_core::{LATENCY_ENDS_NS, Latency, Stats};

/// Name, kind, help and value of a metric.
type Metric = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

/// Every metric: the one place where they are named.
const METRICS: [Metric; 16] = [
    ("ratelimit_allowed_total", "counter", "Requests allowed.", |s| s.allowed),
    ("ratelimit_denied_total", "counter", "Requests denied.", |s| s.denied),
    (
        "ratelimit_overflowed_total",
        "counter",
        "Decisions on clients that found the table full.",
        |s| s.overflowed,
    ),
    ("ratelimit_inserted_total", "counter", "Clients that got a cell.", |s| {
        s.inserted
    }),
    (
        "ratelimit_recycled_total",
        "counter",
        "Expired cells that were taken over by other clients.",
        |s| s.recycled,
    ),
    (
        "ratelimit_translated_total",
        "counter",
        "Cells brought along after a change of limit.",
        |s| s.translated,
    ),
    (
        "ratelimit_stepped_total",
        "counter",
        "Clients brought back because a clock was set back.",
        |s| s.stepped,
    ),
    (
        "ratelimit_live_keys",
        "gauge",
        "Clients with debt, estimated from a sample.",
        |s| s.table.live,
    ),
    ("ratelimit_cells", "gauge", "Cells in open tiers.", |s| s.table.cells),
    (
        "ratelimit_cells_max",
        "gauge",
        "Cells in all tiers, open or not.",
        |s| s.table.cells_at_most,
    ),
    ("ratelimit_tiers", "gauge", "Open tiers.", |s| s.table.tiers as u64),
    ("ratelimit_table_bytes", "gauge", "Bytes of the open tiers.", |s| {
        s.table.bytes
    }),
    (
        "ratelimit_clock_fell_back",
        "gauge",
        "1 if the processor's counter was found wrong.",
        |s| u64::from(s.clock_fell_back),
    ),
    (
        "ratelimit_clock_is_tsc",
        "gauge",
        "1 if the processor's counter is the clock.",
        |s| u64::from(s.clock == "tsc"),
    ),
    (
        "ratelimit_table_is_shared",
        "gauge",
        "1 if other processes may use the table too.",
        |s| u64::from(s.shared_with != "no"),
    ),
    (
        "ratelimit_attached",
        "gauge",
        "Limiters attached to the table, this one among them.",
        |s| s.attached as u64,
    ),
];

/// The metrics without the prefix that all have and the ending of counters: for those who show statistics by name. Of
/// snapshots those that are counts.
pub(crate) fn named(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let of_table = METRICS.iter().map(|(name, _, _, value)| (plain(name), value(stats)));
    let of_snapshot = stats.snapshot.iter().flat_map(|snapshot| {
        let counts = SNAPSHOT_METRICS.iter().filter(|(name, ..)| !name.ends_with("_seconds"));
        counts.map(move |(name, _, _, value)| (plain(name), value(snapshot) as u64))
    });
    of_table.chain(of_snapshot)
}

fn plain(name: &'static str) -> &'static str {
    let name = name.strip_prefix("ratelimit_").unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name)
}

/// Every metric of a limiter that keeps snapshots.
type SnapshotMetric = (&'static str, &'static str, &'static str, fn(&SnapshotStats) -> f64);

const SNAPSHOT_METRICS: [SnapshotMetric; 10] = [
    (
        "ratelimit_snapshot_written_total",
        "counter",
        "Snapshots written and durable.",
        |s| s.written as f64,
    ),
    (
        "ratelimit_snapshot_errors_total",
        "counter",
        "Snapshots that could not be written.",
        |s| s.errors as f64,
    ),
    (
        "ratelimit_snapshot_age_seconds",
        "gauge",
        "Time since everything decided was in the file; NaN before the first time.",
        |s| s.age.map_or(f64::NAN, |age| age.as_secs_f64()),
    ),
    (
        "ratelimit_snapshot_last_bytes",
        "gauge",
        "Bytes of the last snapshot.",
        |s| s.last_bytes as f64,
    ),
    (
        "ratelimit_snapshot_last_cells",
        "gauge",
        "Debts and blocks in the last snapshot.",
        |s| s.last_cells as f64,
    ),
    (
        "ratelimit_snapshot_last_duration_seconds",
        "gauge",
        "How long the last snapshot took.",
        |s| s.last_duration.as_secs_f64(),
    ),
    (
        "ratelimit_restored_cells",
        "gauge",
        "Debts restored when the limiter was made.",
        |s| s.restored.cells as f64,
    ),
    (
        "ratelimit_restore_lost_cells",
        "gauge",
        "Debts in the snapshot that found no place or no limit.",
        |s| (s.restored.no_room + s.restored.unmapped) as f64,
    ),
    (
        "ratelimit_restore_damaged_chunks",
        "gauge",
        "Damaged parts of the snapshot that were left out.",
        |s| s.restored.damaged_chunks as f64,
    ),
    (
        "ratelimit_restored_age_seconds",
        "gauge",
        "How old the snapshot was that was restored.",
        |s| s.restored.age.as_secs_f64(),
    ),
];

fn snapshot_text(stats: &SnapshotStats, text: &mut String) {
    for (name, kind, help, value) in SNAPSHOT_METRICS {
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n",
            value(stats)
        );
    }
    const OUTCOME: &str = "ratelimit_restore_outcome";
    let _ = write!(
        text,
        "# HELP {OUTCOME} 1 for what became of the snapshot when the limiter was made.\n# TYPE {OUTCOME} gauge\n"
    );
    for outcome in Outcome::ALL {
        let is = u8::from(outcome == stats.restored.outcome);
        let _ = writeln!(text, "{OUTCOME}{{outcome=\"{}\"}} {is}", outcome.name());
    }
}

fn latency_text(latency: &Latency, text: &mut String) {
    const NAME: &str = "ratelimit_decision_seconds";
    let _ = write!(
        text,
        "# HELP {NAME} How long decisions took after the id was hashed, from a sample of about one in a thousand.\n\
         # TYPE {NAME} histogram\n"
    );
    let mut up_to = 0;
    for (end_ns, count) in LATENCY_ENDS_NS.iter().zip(latency.buckets) {
        up_to += count;
        let _ = writeln!(text, "{NAME}_bucket{{le=\"{}\"}} {up_to}", *end_ns as f64 / 1e9);
    }
    let all = up_to + latency.buckets[LATENCY_ENDS_NS.len()];
    let sum = latency.sum_ns as f64 / 1e9;
    let _ = write!(
        text,
        "{NAME}_bucket{{le=\"+Inf\"}} {all}\n{NAME}_sum {sum}\n{NAME}_count {all}\n"
    );
}

pub(crate) fn text(stats: &Stats) -> String {
    let mut text = String::with_capacity(2_048);
    for (name, kind, help, value) in METRICS {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}\n",
            value(stats)
        );
    }
    latency_text(&stats.latency, &mut text);
    if let Some(snapshot) = &stats.snapshot {
        snapshot_text(snapshot, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::Limiter;

    #[test]
    fn names_are_those_of_the_metrics_and_values_are_the_same() {
        let limiter = Limiter::builder()
            .limit("1/minute".parse().expect("a limit"))
            .build()
            .expect("a limiter");
        assert!(limiter.is_allowed("a") && !limiter.is_allowed("a"));
        let named = limiter.stats_by_name();
        assert_eq!(named.len(), super::METRICS.len());
        assert!(named.contains(&("allowed", 1)) && named.contains(&("denied", 1)) && named.contains(&("live_keys", 1)));
        let text = limiter.prometheus();
        for (name, value) in named {
            let plain = format!("\nratelimit_{name} {value}\n");
            let total = format!("\nratelimit_{name}_total {value}\n");
            assert!(text.contains(&plain) || text.contains(&total), "{name} {value}: {text}");
        }
    }
}
