//! What a node of a cluster exports, as text for Prometheus. The one place where these metrics are named.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use ratelimit_quic::{DriverStats, HandshakeRefusal, ModeOfWork, PeerState};

/// Name, kind, help and value.
type Metric = (&'static str, &'static str, &'static str, fn(&DriverStats) -> f64);

const METRICS: [Metric; 20] = [
    ("ratelimit_cluster_links", "gauge", "Links that are up.", |s| {
        s.node.links as f64
    }),
    (
        "ratelimit_cluster_nodes",
        "gauge",
        "Other nodes that this one knows.",
        |s| s.node.members as f64,
    ),
    (
        "ratelimit_cluster_leases",
        "gauge",
        "Keys that this node holds a lease for.",
        |s| s.node.leases as f64,
    ),
    (
        "ratelimit_cluster_owned_keys",
        "gauge",
        "Keys that this node keeps books for as their owner.",
        |s| s.node.accounts as f64,
    ),
    (
        "ratelimit_cluster_largest_debt_units",
        "gauge",
        "The most that one key in this node's books was admitted above its limit and has not paid back yet.",
        |s| s.node.largest_debt as f64,
    ),
    (
        "ratelimit_cluster_unconfirmed_units",
        "gauge",
        "Units that were spent here, sent to their owners and not confirmed: what owners may not know.",
        |s| s.node.peers.values().map(|peer| peer.in_flight_units).sum::<u64>() as f64,
    ),
    (
        "ratelimit_cluster_staleness_seconds",
        "gauge",
        "The age of the oldest report that its owner has not confirmed.",
        |s| s.node.peers.values().map(|peer| peer.waits_ns).max().unwrap_or(0) as f64 / 1e9,
    ),
    (
        "ratelimit_cluster_booked_units_total",
        "counter",
        "Units that this node booked as their owner.",
        |s| s.node.booked_units as f64,
    ),
    (
        "ratelimit_cluster_clamped_units_total",
        "counter",
        "Units cut from reports because nobody can have spent them.",
        |s| s.node.clamped_units as f64,
    ),
    (
        "ratelimit_cluster_unknown_units_total",
        "counter",
        "Units reported of limits that are not known here, or that this node cannot own.",
        |s| s.node.unknown_units as f64,
    ),
    (
        "ratelimit_cluster_no_room_units_total",
        "counter",
        "Units for which this node's books had no room.",
        |s| s.node.no_room_units as f64,
    ),
    (
        "ratelimit_cluster_lost_units_total",
        "counter",
        "Units that could not be put back into the table: they are not reported.",
        |s| s.node.lost_units as f64,
    ),
    (
        "ratelimit_cluster_malformed_total",
        "counter",
        "Links closed for bytes that could not be understood.",
        |s| s.node.malformed as f64,
    ),
    (
        "ratelimit_cluster_links_up_total",
        "counter",
        "Links that came up.",
        |s| s.links_up as f64,
    ),
    (
        "ratelimit_cluster_links_down_total",
        "counter",
        "Links that went down.",
        |s| s.links_down as f64,
    ),
    (
        "ratelimit_cluster_handshakes_in_progress",
        "gauge",
        "Handshakes of others in progress.",
        |s| s.handshakes_in_progress as f64,
    ),
    (
        "ratelimit_cluster_certificates_failed_total",
        "counter",
        "Times that certificate files changed and were of no use.",
        |s| s.certificates_failed as f64,
    ),
    (
        "ratelimit_cluster_panics_total",
        "counter",
        "Bugs that the node's thread met and went on after.",
        |s| s.panics as f64,
    ),
    (
        "ratelimit_cluster_wakes_total",
        "counter",
        "Times that the node's thread woke up.",
        |s| s.wakes as f64,
    ),
    (
        "ratelimit_cluster_longest_turn_seconds",
        "gauge",
        "The longest time between two looks at the table, of late.",
        |s| s.longest_turn.as_secs_f64(),
    ),
];

/// Of each peer. Names of peers are those in their certificates, so there are at most as many as nodes may be.
type PeerMetric = (&'static str, &'static str, &'static str, fn(&PeerState) -> f64);

const PEER_METRICS: [PeerMetric; 6] = [
    (
        "ratelimit_cluster_peer_linked",
        "gauge",
        "1 if there is a link to this peer.",
        |p| f64::from(u8::from(p.linked)),
    ),
    (
        "ratelimit_cluster_peer_rtt_seconds",
        "gauge",
        "Round-trip time of the link to this peer; NaN without one.",
        |p| p.rtt.map_or(f64::NAN, |rtt| rtt.as_secs_f64()),
    ),
    (
        "ratelimit_cluster_peer_lag_seconds",
        "gauge",
        "The age of the oldest report that this peer has not confirmed.",
        |p| p.lag.as_secs_f64(),
    ),
    (
        "ratelimit_cluster_peer_unconfirmed_units",
        "gauge",
        "Units in reports that this peer has not confirmed.",
        |p| p.unacked_units as f64,
    ),
    (
        "ratelimit_cluster_peer_sent_bytes_total",
        "counter",
        "Bytes sent to this peer.",
        |p| p.sent_bytes as f64,
    ),
    (
        "ratelimit_cluster_peer_received_bytes_total",
        "counter",
        "Bytes received from this peer.",
        |p| p.received_bytes as f64,
    ),
];

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// A label's value: a name in a certificate may have any letter.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Adds what a node exports.
pub(crate) fn text(stats: &DriverStats, peers: &[PeerState], text: &mut String) {
    for (name, kind, help, value) in METRICS {
        head(text, name, kind, help);
        let _ = writeln!(text, "{name} {}", value(stats));
    }

    let name = "ratelimit_cluster_mode_of_work";
    head(
        text,
        name,
        "gauge",
        "1 for how this node works: it hears nobody, everybody, or not everybody.",
    );
    for (word, mode) in [
        ("alone", ModeOfWork::Alone),
        ("whole", ModeOfWork::Whole),
        ("parted", ModeOfWork::Parted),
    ] {
        let is = u8::from(stats.mode_of_work == Some(mode));
        let _ = writeln!(text, "{name}{{mode=\"{word}\"}} {is}");
    }

    let name = "ratelimit_cluster_handshakes_refused_total";
    head(text, name, "counter", "Handshakes that came to nothing, by reason.");
    for reason in HandshakeRefusal::ALL {
        let _ = writeln!(
            text,
            "{name}{{reason=\"{}\"}} {}",
            reason.label(),
            stats.refused(reason)
        );
    }

    if let Some(not_after) = stats.certificate_not_after {
        let name = "ratelimit_cluster_certificate_expires_seconds";
        head(
            text,
            name,
            "gauge",
            "How long this node's certificate is still valid; negative if it is not.",
        );
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let _ = writeln!(text, "{name} {:.0}", seconds(not_after) - seconds(SystemTime::now()));
    }

    for (name, kind, help, value) in PEER_METRICS {
        head(text, name, kind, help);
        for peer in peers {
            let _ = writeln!(text, "{name}{{peer=\"{}\"}} {}", label(&peer.name), value(peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_counters_end_as_counters_do() {
        let mut names: Vec<&str> = METRICS.iter().map(|(name, ..)| *name).collect();
        names.extend(PEER_METRICS.iter().map(|(name, ..)| *name));
        for (name, kind) in METRICS
            .iter()
            .map(|m| (m.0, m.1))
            .chain(PEER_METRICS.iter().map(|m| (m.0, m.1)))
        {
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(label("a\"b\\\n"), "a\\\"b\\\\\\n");
    }

    #[test]
    fn every_line_is_a_sample_or_a_comment() {
        let mut out = String::new();
        text(&DriverStats::default(), &[], &mut out);
        assert!(out.contains("\nratelimit_cluster_handshakes_refused_total{reason=\"expired\"} 0\n"));
        assert!(out.contains("\nratelimit_cluster_mode_of_work{mode=\"whole\"} 0\n"));
        for line in out.lines() {
            assert!(
                line.starts_with("# HELP ") || line.starts_with("# TYPE ") || line.split(' ').count() == 2,
                "{line}"
            );
        }
    }
}
