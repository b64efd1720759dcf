//! The text of `/metrics`: every limiter's metrics under its name, those of `CL.THROTTLE`, and the node's own.
//!
//! Labels come from the configuration alone. Terms that clients bring are counted together.

use std::collections::BTreeMap;

use ratelimit::metrics::{Metric, counter, gauge};

use super::node::{Connections, Node, RULES_NAME};

/// A metric of all limiters: its help and kind, and its samples.
#[derive(Default)]
struct Family {
    comments: Vec<String>,
    samples: Vec<String>,
}

/// Writes the text, in Prometheus's exposition format 0.0.4.
pub(crate) fn text(node: &Node) -> String {
    let mut order: Vec<String> = Vec::new();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let limiters = node.limiters();
    let of_limiters = limiters
        .iter()
        .map(|(name, named)| (name.as_str(), named.limiter.prometheus()));
    let of_rules = node.rules().map(|rules| (RULES_NAME, rules.prometheus()));
    for (limiter, text) in of_limiters.chain(of_rules) {
        for line in text.lines() {
            let comment = line.strip_prefix("# ");
            let name = match comment {
                Some(comment) => comment.split(' ').nth(1),
                None => line.split(['{', ' ']).next(),
            };
            let Some(name) = name else { continue };
            let family = families.entry(name.to_owned()).or_insert_with(|| {
                order.push(name.to_owned());
                Family::default()
            });
            match comment {
                // Of several limiters each text has it; it may be said once.
                Some(_) if family.comments.iter().any(|known| known == line) => {}
                Some(_) => family.comments.push(line.to_owned()),
                None => family.samples.push(labelled(line, name, limiter)),
            }
        }
    }
    let mut text = String::with_capacity(4096 * families.len().max(1));
    for name in &order {
        let family = &families[name];
        for line in family.comments.iter().chain(&family.samples) {
            text.push_str(line);
            text.push('\n');
        }
    }
    own(node, &mut text);
    text
}

/// The sample with a label more. Names of limiters hold nothing that needs escaping.
fn labelled(line: &str, name: &str, limiter: &str) -> String {
    let rest = &line[name.len()..];
    match rest.strip_prefix('{') {
        Some(labels) => format!("{name}{{limiter=\"{limiter}\",{labels}"),
        None => format!("{name}{{limiter=\"{limiter}\"}}{rest}"),
    }
}

/// The service's own.
const METRICS: [Metric<Node, u64>; 10] = [
    counter(
        "ratelimit_throttle_allowed_total",
        "Requests that CL.THROTTLE allowed.",
        |n| n.throttle.counts()[0],
    ),
    counter(
        "ratelimit_throttle_denied_total",
        "Requests that CL.THROTTLE denied.",
        |n| n.throttle.counts()[1],
    ),
    counter(
        "ratelimit_throttle_refused_total",
        "Calls of CL.THROTTLE whose limit makes no sense or finds no room.",
        |n| n.throttle.counts()[2],
    ),
    gauge(
        "ratelimit_throttle_limits",
        "Different limits that CL.THROTTLE keeps.",
        |n| n.throttle.len() as u64,
    ),
    gauge(
        "ratelimit_throttle_live_keys",
        "Clients with debt under CL.THROTTLE, estimated.",
        |n| n.throttle.live_keys(),
    ),
    counter("ratelimit_http_requests_total", "Requests over HTTP.", |n| {
        n.figures.requests.get()
    }),
    counter("ratelimit_resp_commands_total", "Requests over RESP.", |n| {
        n.figures.commands.get()
    }),
    counter(
        "ratelimit_reloads_total",
        "Configurations put in force after the first.",
        |n| n.figures.reloads.get(),
    ),
    counter("ratelimit_reload_errors_total", "Configurations refused.", |n| {
        n.figures.reload_errors.get()
    }),
    gauge("ratelimit_uptime_seconds", "Time since the start.", |n| {
        n.started.elapsed().as_secs()
    }),
];

/// Of the connections to each listener.
const OF_CONNECTIONS: [Metric<Connections, u64>; 4] = [
    gauge("ratelimit_connections", "Open connections.", Connections::open),
    counter("ratelimit_connections_accepted_total", "Connections accepted.", |c| {
        c.accepted.get()
    }),
    counter(
        "ratelimit_connections_refused_total",
        "Connections that found too many others.",
        |c| c.refused.get(),
    ),
    counter(
        "ratelimit_connections_dropped_total",
        "Connections closed for breaking the rules.",
        |c| c.dropped.get(),
    ),
];

fn own(node: &Node, text: &mut String) {
    let figures = &node.figures;
    for metric in METRICS {
        metric.write(node, text);
    }
    figures.latency.text(text);
    for metric in OF_CONNECTIONS {
        let listeners = [("http", &figures.http), ("resp", &figures.resp)];
        metric.write_each("listener", listeners.into_iter(), text);
    }
}
