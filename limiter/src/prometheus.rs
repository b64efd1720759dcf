//! The text of `/metrics`.

use ratelimit_core::snapshot::{Outcome, SnapshotStats};
use ratelimit_core::{LATENCY_ENDS_NS, Latency, Stats};

use crate::metrics::{Metric, counter, gauge, head, sample};

/// Every metric: the one place where they are named.
const METRICS: [Metric<Stats, u64>; 16] = [
    counter("ratelimit_allowed_total", "Requests allowed.", |s| s.allowed),
    counter("ratelimit_denied_total", "Requests denied.", |s| s.denied),
    counter(
        "ratelimit_overflowed_total",
        "Decisions on clients that found the table full.",
        |s| s.overflowed,
    ),
    counter("ratelimit_inserted_total", "Clients that got a cell.", |s| s.inserted),
    counter(
        "ratelimit_recycled_total",
        "Expired cells that were taken over by other clients.",
        |s| s.recycled,
    ),
    counter(
        "ratelimit_translated_total",
        "Cells brought along after a change of limit.",
        |s| s.translated,
    ),
    counter(
        "ratelimit_stepped_total",
        "Clients brought back because a clock was set back.",
        |s| s.stepped,
    ),
    gauge(
        "ratelimit_live_keys",
        "Clients with debt, estimated from a sample.",
        |s| s.table.live,
    ),
    gauge("ratelimit_cells", "Cells in open tiers.", |s| s.table.cells),
    gauge("ratelimit_cells_max", "Cells in all tiers, open or not.", |s| {
        s.table.cells_at_most
    }),
    gauge("ratelimit_tiers", "Open tiers.", |s| s.table.tiers as u64),
    gauge("ratelimit_table_bytes", "Bytes of the open tiers.", |s| s.table.bytes),
    gauge(
        "ratelimit_clock_fell_back",
        "1 if the processor's counter was found wrong.",
        |s| u64::from(s.clock_fell_back),
    ),
    gauge(
        "ratelimit_clock_is_tsc",
        "1 if the processor's counter is the clock.",
        |s| u64::from(s.clock == "tsc"),
    ),
    gauge(
        "ratelimit_table_is_shared",
        "1 if other processes may use the table too.",
        |s| u64::from(s.shared_with != "no"),
    ),
    gauge(
        "ratelimit_attached",
        "Limiters attached to the table, this one among them.",
        |s| s.attached as u64,
    ),
];

/// The metrics without the prefix that all have and the ending of counters: for those who show statistics by name. Of
/// snapshots those that are counts.
pub(crate) fn named(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let of_table = METRICS.iter().map(|metric| (plain(metric.name), metric.value(stats)));
    let of_snapshot = stats.snapshot.iter().flat_map(|snapshot| {
        let counts = (SNAPSHOT_METRICS.iter()).filter(|metric| !metric.name.ends_with("_seconds"));
        counts.map(move |metric| (plain(metric.name), metric.value(snapshot) as u64))
    });
    of_table.chain(of_snapshot)
}

fn plain(name: &'static str) -> &'static str {
    let name = name.strip_prefix("ratelimit_").unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name)
}

/// Every metric of a limiter that keeps snapshots.
const SNAPSHOT_METRICS: [Metric<SnapshotStats>; 10] = [
    counter(
        "ratelimit_snapshot_written_total",
        "Snapshots written and durable.",
        |s| s.written as f64,
    ),
    counter(
        "ratelimit_snapshot_errors_total",
        "Snapshots that could not be written.",
        |s| s.errors as f64,
    ),
    gauge(
        "ratelimit_snapshot_age_seconds",
        "Time since everything decided was in the file; NaN before the first time.",
        |s| s.age.map_or(f64::NAN, |age| age.as_secs_f64()),
    ),
    gauge("ratelimit_snapshot_last_bytes", "Bytes of the last snapshot.", |s| {
        s.last_bytes as f64
    }),
    gauge(
        "ratelimit_snapshot_last_cells",
        "Debts and blocks in the last snapshot.",
        |s| s.last_cells as f64,
    ),
    gauge(
        "ratelimit_snapshot_last_duration_seconds",
        "How long the last snapshot took.",
        |s| s.last_duration.as_secs_f64(),
    ),
    gauge(
        "ratelimit_restored_cells",
        "Debts restored when the limiter was made.",
        |s| s.restored.cells as f64,
    ),
    gauge(
        "ratelimit_restore_lost_cells",
        "Debts in the snapshot that found no place or no limit.",
        |s| (s.restored.no_room + s.restored.unmapped) as f64,
    ),
    gauge(
        "ratelimit_restore_damaged_chunks",
        "Damaged parts of the snapshot that were left out.",
        |s| s.restored.damaged_chunks as f64,
    ),
    gauge(
        "ratelimit_restored_age_seconds",
        "How old the snapshot was that was restored.",
        |s| s.restored.age.as_secs_f64(),
    ),
];

fn snapshot_text(stats: &SnapshotStats, text: &mut String) {
    for metric in SNAPSHOT_METRICS {
        metric.write(stats, text);
    }
    const OUTCOME: &str = "ratelimit_restore_outcome";
    let help = "1 for what became of the snapshot when the limiter was made.";
    head(text, OUTCOME, "gauge", help);
    for outcome in Outcome::ALL {
        let is = u8::from(outcome == stats.restored.outcome);
        sample(text, OUTCOME, &[("outcome", outcome.name())], is);
    }
}

fn latency_text(latency: &Latency, text: &mut String) {
    const NAME: &str = "ratelimit_decision_seconds";
    let help = "How long decisions took after the id was hashed, from a sample of about one in a thousand.";
    head(text, NAME, "histogram", help);
    let bucket = format!("{NAME}_bucket");
    let mut up_to = 0;
    for (end_ns, count) in LATENCY_ENDS_NS.iter().zip(latency.buckets) {
        up_to += count;
        let end = (*end_ns as f64 / 1e9).to_string();
        sample(text, &bucket, &[("le", &end)], up_to);
    }
    let all = up_to + latency.buckets[LATENCY_ENDS_NS.len()];
    sample(text, &bucket, &[("le", "+Inf")], all);
    sample(text, &format!("{NAME}_sum"), &[], latency.sum_ns as f64 / 1e9);
    sample(text, &format!("{NAME}_count"), &[], all);
}

pub(crate) fn text(stats: &Stats) -> String {
    let mut text = String::with_capacity(2_048);
    for metric in METRICS {
        metric.write(stats, &mut text);
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
