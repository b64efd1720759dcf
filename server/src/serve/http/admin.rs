//! What administrators call: limits, overrides, reset, block.
//!
//! With a token in the configuration these calls need it. Without one they are for programs on this machine: the connection comes from
//! loopback, no proxy passed the request on, and `host` names loopback, so that a page in a browser cannot have itself resolved to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ratelimit::Limit;
use serde::{Deserialize, Serialize};

use super::body::{Json, Key, MAX_KEY_BYTES, query, read};
use super::calls::{named, no_query};
use super::problem::Problem;
use super::{Peer, Shared};
use crate::serve::node::texts;

/// The longest block, in seconds: a day less than the table can hold.
const MAX_BLOCK_S: f64 = 207.0 * 86_400.0;

fn permit(shared: &Shared, peer: Peer, headers: &HeaderMap) -> Result<(), Problem> {
    shared.node.figures.requests.add();
    if shared.node.needs_token() {
        let given = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.as_bytes())
            .unwrap_or_default();
        let is_bearer = given
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        return if is_bearer && shared.node.is_token(&given[7..]) {
            Ok(())
        } else {
            Err(Problem::unauthorized())
        };
    }
    let passed_on = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    if peer.0.ip().is_loopback() && !passed_on && is_loopback(host) {
        Ok(())
    } else {
        Err(Problem::forbidden())
    }
}

/// Whether the value of `host` names this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// A client of a limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    key: Key,
    limit: Option<String>,
}

/// Forgets what a client has spent, and lifts its block.
pub(super) async fn reset(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    permit(&shared, peer, &headers)?;
    no_query(&uri)?;
    let client: Client = read(&headers, body).await?;
    named(&shared.node, client.limit.as_deref())?
        .limiter
        .reset(&client.key.0);
    Ok(StatusCode::NO_CONTENT)
}

/// A client to be denied for a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    key: Key,
    limit: Option<String>,
    /// Seconds; 0 lifts the block.
    duration: f64,
}

/// Denies every request of a client for a while.
pub(super) async fn block(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    permit(&shared, peer, &headers)?;
    no_query(&uri)?;
    let block: Block = read(&headers, body).await?;
    if !(0.0..=MAX_BLOCK_S).contains(&block.duration) {
        return Err(Problem::argument(
            "duration is the number of seconds to block for: from 0, which lifts a block, to 207 days",
        ));
    }
    let limiter = &named(&shared.node, block.limit.as_deref())?.limiter;
    limiter.block(&block.key.0, Duration::from_secs_f64(block.duration))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The limits of each name.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    limits: BTreeMap<String, Vec<String>>,
}

/// The limits in force.
pub(super) async fn limits(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    permit(&shared, peer, &headers)?;
    no_query(&uri)?;
    Ok(in_force(&shared))
}

fn in_force(shared: &Shared) -> Response {
    let limiters = shared.node.limiters();
    let limits = limiters
        .iter()
        .map(|(name, named)| (name.clone(), texts(&named.limiter.limits())));
    Json(Limits {
        limits: limits.collect(),
    })
    .into_response()
}

/// Puts other limits in force for the names given, until the node is started anew or its configuration reloaded. Clients keep the share
/// of their burst that they have spent.
pub(super) async fn set_limits(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    permit(&shared, peer, &headers)?;
    no_query(&uri)?;
    let given: Limits = read(&headers, body).await?;
    // All is read before any is changed. What can fail beyond that is their number, which is looked at too.
    let mut changes = Vec::new();
    for (name, texts) in &given.limits {
        let named = named(&shared.node, Some(name))?;
        let limits = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Limit>, _>>();
        let limits = limits.map_err(ratelimit::Error::from)?;
        let has = named.limiter.limits().len();
        if limits.len() != has {
            let text = format!(
                "limit \"{name}\" has {has} limits, and {} are given: give as many",
                limits.len()
            );
            return Err(ratelimit::Error::LimitCount(text).into());
        }
        changes.push((name, named, limits));
    }
    for (name, named, limits) in changes {
        named.set_limits(&limits)?;
        tracing::info!(limit = %name, limits = ?texts(&limits), "limits changed");
    }
    Ok(in_force(&shared))
}

/// A client's own limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    #[serde(rename = "override")]
    own: String,
    limit: Option<String>,
}

/// Gives a client a limit of its own, in place of all limits of that name, until the node is started anew.
pub(super) async fn set_override(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    permit(&shared, peer, &headers)?;
    no_query(&uri)?;
    check_length(&key)?;
    let given: Override = read(&headers, body).await?;
    let own: Limit = given.own.parse().map_err(ratelimit::Error::from)?;
    named(&shared.node, given.limit.as_deref())?
        .limiter
        .set_override(&key, Some(own))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a client's own limit away.
pub(super) async fn delete_override(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(key): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    permit(&shared, peer, &headers)?;
    check_length(&key)?;
    named(&shared.node, query(&uri, "limit")?)?
        .limiter
        .set_override(&key, None)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The most clients of a list.
const MAX_TOP: usize = 100;

/// Of each limit the clients that were denied most and those that asked most, by their fingerprints: ids are not kept. `n` says how
/// many of each, 10 if it is not there.
pub(super) async fn top(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    permit(&shared, peer, &headers)?;
    let n =
        match query(&uri, "n")? {
            None => 10,
            Some(text) => text.parse().ok().filter(|n| (1..=MAX_TOP).contains(n)).ok_or_else(|| {
                Problem::argument(format!("n is how many clients of each list to tell: 1 to {MAX_TOP}"))
            })?,
        };
    let told = |list: Vec<ratelimit::HeavyClient>| {
        let clients = list.into_iter().map(|client| {
            serde_json::json!({
                "client": client.fingerprint,
                "requests": client.requests,
                "overcount": client.overcount,
            })
        });
        clients.collect::<Vec<_>>()
    };
    let limiters = shared.node.limiters();
    let limits: BTreeMap<_, _> = limiters
        .iter()
        .map(|(name, named)| {
            let top = named.limiter.top(n);
            (
                name,
                serde_json::json!({"denied": told(top.denied), "used": told(top.used)}),
            )
        })
        .collect();
    Ok(Json(serde_json::json!({"limits": limits})).into_response())
}

fn check_length(key: &str) -> Result<(), Problem> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Problem::argument(format!(
            "the key is longer than {MAX_KEY_BYTES} bytes: hash it first"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1",
            "127.9.9.9:8078",
            "[::1]:8078",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "10.0.0.1:80",
            "[::2]",
            "example.org",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
