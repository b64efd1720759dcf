//! The text of `/metrics`.

use std::fmt::Write;

use ratelimit_core::Stats;

/// Name, kind, help and value of a metric.
type Metric = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

/// Every metric: the one place where they are named.
const METRICS: [Metric; 14] = [
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
];

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
    text
}
