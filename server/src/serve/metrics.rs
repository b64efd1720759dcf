//! The text of `/metrics`: every limiter's metrics under its name, those of `CL.THROTTLE`, and the node's own.
//!
//! Labels come from the configuration alone. Terms that clients bring are counted together.

use std::collections::BTreeMap;
use std::fmt::Write;

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

fn own(node: &Node, text: &mut String) {
    let figures = &node.figures;
    let [allowed, denied, refused] = node.throttle.counts();
    for (name, kind, help, value) in [
        (
            "throttle_allowed_total",
            "counter",
            "Requests that CL.THROTTLE allowed.",
            allowed,
        ),
        (
            "throttle_denied_total",
            "counter",
            "Requests that CL.THROTTLE denied.",
            denied,
        ),
        (
            "throttle_refused_total",
            "counter",
            "Calls of CL.THROTTLE whose limit makes no sense or finds no room.",
            refused,
        ),
        (
            "throttle_limits",
            "gauge",
            "Different limits that CL.THROTTLE keeps.",
            node.throttle.len() as u64,
        ),
        (
            "throttle_live_keys",
            "gauge",
            "Clients with debt under CL.THROTTLE, estimated.",
            node.throttle.live_keys(),
        ),
        (
            "http_requests_total",
            "counter",
            "Requests over HTTP.",
            figures.requests.get(),
        ),
        (
            "resp_commands_total",
            "counter",
            "Requests over RESP.",
            figures.commands.get(),
        ),
        (
            "reloads_total",
            "counter",
            "Configurations put in force after the first.",
            figures.reloads.get(),
        ),
        (
            "reload_errors_total",
            "counter",
            "Configurations refused.",
            figures.reload_errors.get(),
        ),
        (
            "uptime_seconds",
            "gauge",
            "Time since the start.",
            node.started.elapsed().as_secs(),
        ),
    ] {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# HELP ratelimit_{name} {help}\n# TYPE ratelimit_{name} {kind}\nratelimit_{name} {value}\n"
        );
    }
    figures.latency.text(text);
    type OfConnections = (&'static str, &'static str, &'static str, fn(&Connections) -> u64);
    const OF_CONNECTIONS: [OfConnections; 4] = [
        ("connections", "gauge", "Open connections.", Connections::open),
        ("connections_accepted_total", "counter", "Connections accepted.", |c| {
            c.accepted.get()
        }),
        (
            "connections_refused_total",
            "counter",
            "Connections that found too many others.",
            |c| c.refused.get(),
        ),
        (
            "connections_dropped_total",
            "counter",
            "Connections closed for breaking the rules.",
            |c| c.dropped.get(),
        ),
    ];
    for (name, kind, help, value) in OF_CONNECTIONS {
        let _ = write!(text, "# HELP ratelimit_{name} {help}\n# TYPE ratelimit_{name} {kind}\n");
        for (listener, connections) in [("http", &figures.http), ("resp", &figures.resp)] {
            let _ = writeln!(
                text,
                "ratelimit_{name}{{listener=\"{listener}\"}} {}",
                value(connections)
            );
        }
    }
}
