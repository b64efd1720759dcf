//! What a node of a cluster exports, as text for Prometheus. The one place where these metrics are named.

use std::time::{SystemTime, UNIX_EPOCH};

use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::{LimitId, LimitStats};
use ratelimit_quic::{DriverStats, HandshakeRefusal, ModeOfWork, PeerState};

use crate::metrics::{Metric, counter, gauge, head, sample};

/// Of the node.
const METRICS: [Metric<DriverStats>; 20] = [
    gauge("ratelimit_cluster_links", "Links that are up.", |s| s.node.links as f64),
    gauge("ratelimit_cluster_nodes", "Other nodes that this one knows.", |s| {
        s.node.members as f64
    }),
    gauge(
        "ratelimit_cluster_leases",
        "Keys that this node holds a lease for.",
        |s| s.node.leases as f64,
    ),
    gauge(
        "ratelimit_cluster_owned_keys",
        "Keys that this node keeps books for as their owner.",
        |s| s.node.accounts as f64,
    ),
    gauge(
        "ratelimit_cluster_largest_debt_units",
        "The most that one key in this node's books was admitted above its limit and has not paid back yet.",
        |s| s.node.largest_debt as f64,
    ),
    gauge(
        "ratelimit_cluster_unconfirmed_units",
        "Units that were spent here, sent to their owners and not confirmed: what owners may not know.",
        |s| s.node.peers.values().map(|peer| peer.in_flight_units).sum::<u64>() as f64,
    ),
    gauge(
        "ratelimit_cluster_staleness_seconds",
        "The age of the oldest report that its owner has not confirmed.",
        |s| s.node.peers.values().map(|peer| peer.waits_ns).max().unwrap_or(0) as f64 / 1e9,
    ),
    counter(
        "ratelimit_cluster_booked_units_total",
        "Units that this node booked as their owner.",
        |s| s.node.booked_units as f64,
    ),
    counter(
        "ratelimit_cluster_clamped_units_total",
        "Units cut from reports because nobody can have spent them.",
        |s| s.node.clamped_units as f64,
    ),
    counter(
        "ratelimit_cluster_unknown_units_total",
        "Units reported of limits that are not known here, or that this node cannot own.",
        |s| s.node.unknown_units as f64,
    ),
    counter(
        "ratelimit_cluster_no_room_units_total",
        "Units for which this node's books had no room.",
        |s| s.node.no_room_units as f64,
    ),
    counter(
        "ratelimit_cluster_lost_units_total",
        "Units that could not be put back into the table: they are not reported.",
        |s| s.node.lost_units as f64,
    ),
    counter(
        "ratelimit_cluster_malformed_total",
        "Links closed for bytes that could not be understood.",
        |s| s.node.malformed as f64,
    ),
    counter("ratelimit_cluster_links_up_total", "Links that came up.", |s| {
        s.links_up as f64
    }),
    counter("ratelimit_cluster_links_down_total", "Links that went down.", |s| {
        s.links_down as f64
    }),
    gauge(
        "ratelimit_cluster_handshakes_in_progress",
        "Handshakes of others in progress.",
        |s| s.handshakes_in_progress as f64,
    ),
    counter(
        "ratelimit_cluster_certificates_failed_total",
        "Times that certificate files changed and were of no use.",
        |s| s.certificates_failed as f64,
    ),
    counter(
        "ratelimit_cluster_panics_total",
        "Bugs that the node's thread met and went on after.",
        |s| s.panics as f64,
    ),
    counter(
        "ratelimit_cluster_wakes_total",
        "Times that the node's thread woke up.",
        |s| s.wakes as f64,
    ),
    gauge(
        "ratelimit_cluster_longest_turn_seconds",
        "The longest time between two looks at the table, of late.",
        |s| s.longest_turn.as_secs_f64(),
    ),
];

/// Of each peer. Names of peers are those in their certificates, so there are at most as many as nodes may be.
const PEER_METRICS: [Metric<PeerState>; 8] = [
    gauge(
        "ratelimit_cluster_peer_linked",
        "1 if there is a link to this peer.",
        |p| f64::from(u8::from(p.linked)),
    ),
    gauge(
        "ratelimit_cluster_peer_missed",
        "1 if this peer fell silent and said no goodbye, until it is heard again or forgotten after an hour.",
        |p| f64::from(u8::from(matches!(p.standing, Standing::Suspect | Standing::Dead))),
    ),
    gauge(
        "ratelimit_cluster_peer_strikes",
        "Times that this peer reported more than it can have spent; from the third on its reports are ignored.",
        |p| f64::from(p.strikes),
    ),
    gauge(
        "ratelimit_cluster_peer_rtt_seconds",
        "Round-trip time of the link to this peer; NaN without one.",
        |p| p.rtt.map_or(f64::NAN, |rtt| rtt.as_secs_f64()),
    ),
    gauge(
        "ratelimit_cluster_peer_lag_seconds",
        "The age of the oldest report that this peer has not confirmed.",
        |p| p.lag.as_secs_f64(),
    ),
    gauge(
        "ratelimit_cluster_peer_unconfirmed_units",
        "Units in reports that this peer has not confirmed.",
        |p| p.unacked_units as f64,
    ),
    counter(
        "ratelimit_cluster_peer_sent_bytes_total",
        "Bytes sent to this peer.",
        |p| p.sent_bytes as f64,
    ),
    counter(
        "ratelimit_cluster_peer_received_bytes_total",
        "Bytes received from this peer.",
        |p| p.received_bytes as f64,
    ),
];

/// Of each limit, by its place among the limiter's: what docs/consistency.md defines.
const LIMIT_METRICS: [Metric<LimitStats>; 6] = [
    gauge(
        "ratelimit_cluster_limit_over_admission_units",
        "An estimate of the units that are admitted above the limit now, this node's part: excess in its books, and spent unseen.",
        |l| l.over_admission_units() as f64,
    ),
    gauge(
        "ratelimit_cluster_limit_excess_units",
        "Units above the burst in this node's books, over all keys that it owns, that are not paid back yet.",
        |l| l.excess_units as f64,
    ),
    gauge(
        "ratelimit_cluster_limit_unconfirmed_units",
        "Units that were spent here and that no owner has confirmed, in the table or on their way.",
        |l| l.unconfirmed_units as f64,
    ),
    gauge(
        "ratelimit_cluster_limit_staleness_seconds",
        "How long the oldest of the unconfirmed units has waited: so far behind is what owners know of this node.",
        |l| l.staleness_ns as f64 / 1e9,
    ),
    gauge(
        "ratelimit_cluster_limit_owners",
        "Nodes that own keys of this limit: those in view, or the configured ones.",
        |l| l.owners as f64,
    ),
    gauge(
        "ratelimit_cluster_limit_owners_unheard",
        "Of those, nodes that are not heard: their keys have no owner here.",
        |l| l.owners_unheard as f64,
    ),
];

/// Adds what a node exports. `limits`: their numbers in the cluster, in their order; of others nothing is told.
pub(crate) fn text(stats: &DriverStats, peers: &[PeerState], limits: &[LimitId], text: &mut String) {
    for metric in METRICS {
        metric.write(stats, text);
    }

    let name = "ratelimit_cluster_mode_of_work";
    let help = "1 for how this node works: it hears nobody, everybody, or not everybody.";
    head(text, name, "gauge", help);
    for mode in ModeOfWork::ALL {
        let is = u8::from(stats.mode_of_work == Some(mode));
        sample(text, name, &[("mode", mode.label())], is);
    }

    let name = "ratelimit_cluster_handshakes_refused_total";
    head(text, name, "counter", "Handshakes that came to nothing, by reason.");
    for reason in HandshakeRefusal::ALL {
        sample(text, name, &[("reason", reason.label())], stats.refused(reason));
    }

    if let Some(not_after) = stats.certificate_not_after {
        let name = "ratelimit_cluster_certificate_expires_seconds";
        let help = "How long this node's certificate is still valid; negative if it is not.";
        head(text, name, "gauge", help);
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let left = seconds(not_after) - seconds(SystemTime::now());
        sample(text, name, &[], left.round());
    }

    let places = limits.iter().enumerate().map(|(place, id)| (place.to_string(), id));
    let known: Vec<(String, &LimitStats)> = places
        .filter_map(|(place, id)| Some((place, stats.node.by_limit.get(id)?)))
        .collect();
    for metric in LIMIT_METRICS {
        metric.write_each(
            "limit",
            known.iter().map(|(place, limit)| (place.as_str(), *limit)),
            text,
        );
    }

    for metric in PEER_METRICS {
        metric.write_each("peer", peers.iter().map(|peer| (peer.name.as_str(), peer)), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_counters_end_as_counters_do() {
        assert!(METRICS.iter().all(Metric::is_named_well) && PEER_METRICS.iter().all(Metric::is_named_well));
        assert!(LIMIT_METRICS.iter().all(Metric::is_named_well));
        let of_node = METRICS.iter().map(|metric| metric.name);
        let of_peers = PEER_METRICS.iter().map(|metric| metric.name);
        let of_limits = LIMIT_METRICS.iter().map(|metric| metric.name);
        let mut names: Vec<&str> = of_node.chain(of_peers).chain(of_limits).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_line_is_a_sample_or_a_comment() {
        let mut out = String::new();
        let mut stats = DriverStats::default();
        let limit = LimitStats {
            excess_units: 5,
            unconfirmed_units: 7,
            unbacked_units: 3,
            staleness_ns: 1_500_000_000,
            ..LimitStats::default()
        };
        stats.node.by_limit = [(LimitId(513), limit), (LimitId(9), limit)].into();
        text(&stats, &[], &[LimitId(512), LimitId(513)], &mut out);
        assert!(out.contains("\nratelimit_cluster_limit_over_admission_units{limit=\"1\"} 8\n"));
        assert!(out.contains("\nratelimit_cluster_limit_staleness_seconds{limit=\"1\"} 1.5\n"));
        assert_eq!(
            out.matches("{limit=").count(),
            LIMIT_METRICS.len(),
            "only of limits that are this limiter's"
        );
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
