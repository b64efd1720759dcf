//! What administrators call: limits, overrides, reset, block.
//!
//! With a token in the configuration these calls need it. Without one they are for programs on this machine: the connection comes from
//! loopback, no proxy passed the request on, and `host` names loopback, so that a page in a browser cannot have itself resolved to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ratelimit::Limit;
use serde::{Deserialize, Serialize};

use super::body::{Json, Key, MAX_KEY_BYTES, NoQuery, Sent, query};
use super::calls::named;
use super::problem::Problem;
use super::{Peer, Shared};
use crate::events::{hashed, tell, tell_paced};
use crate::serve::node::texts;

/// The longest block, in seconds: a day less than the table can hold.
const MAX_BLOCK_S: f64 = 207.0 * 86_400.0;

/// That whoever asks may administer. A handler takes it first: nobody else is told anything else.
pub(super) struct Admin;

impl FromRequestParts<Shared> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        permit(shared, parts).map(|()| Admin)
    }
}

fn permit(shared: &Shared, parts: &Parts) -> Result<(), Problem> {
    let headers = &parts.headers;
    if shared.node.needs_token() {
        let given = headers
            .get(header::AUTHORIZATION)
            .map(|value| value.as_bytes())
            .unwrap_or_default();
        let is_bearer = given
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        if is_bearer && shared.node.is_token(&given[7..]) {
            return Ok(());
        }
        // Without any token it is mostly a page in a browser that has not been told it yet.
        if !given.is_empty() {
            tell_paced!(ADMIN_REFUSED, reason = "wrong token");
        }
        return Err(Problem::unauthorized());
    }
    let passed_on = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let is_near = parts
        .extensions
        .get::<Peer>()
        .is_some_and(|peer| peer.0.ip().is_loopback());
    if is_near && !passed_on && is_loopback(host) {
        Ok(())
    } else {
        tell_paced!(
            ADMIN_REFUSED,
            reason = "not from this machine, and no token is configured"
        );
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
pub(super) struct Client {
    key: Key,
    limit: Option<String>,
}

/// Forgets what a client has spent, and lifts its block.
pub(super) async fn reset(
    _: Admin,
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(client): Sent<Client>,
) -> Result<StatusCode, Problem> {
    named(&shared.node, client.limit.as_deref())?
        .limiter
        .reset(&client.key.0);
    tell!(
        CLIENT_RESET,
        limit = client.limit.as_deref().unwrap_or_default(),
        client = hashed(&client.key.0)
    );
    Ok(StatusCode::NO_CONTENT)
}

/// A client to be denied for a while.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    key: Key,
    limit: Option<String>,
    /// Seconds; 0 lifts the block.
    duration: f64,
}

/// Denies every request of a client for a while.
pub(super) async fn block(
    _: Admin,
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(block): Sent<Block>,
) -> Result<StatusCode, Problem> {
    if !(0.0..=MAX_BLOCK_S).contains(&block.duration) {
        return Err(Problem::argument(
            "duration is the number of seconds to block for: from 0, which lifts a block, to 207 days",
        ));
    }
    let limiter = &named(&shared.node, block.limit.as_deref())?.limiter;
    limiter.block(&block.key.0, Duration::from_secs_f64(block.duration))?;
    let limit = block.limit.as_deref().unwrap_or_default();
    tell!(
        CLIENT_BLOCKED,
        limit,
        client = hashed(&block.key.0),
        seconds = block.duration
    );
    Ok(StatusCode::NO_CONTENT)
}

/// The limits of each name.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    limits: BTreeMap<String, Vec<String>>,
}

/// The limits in force.
pub(super) async fn limits(_: Admin, State(shared): State<Shared>, _: NoQuery) -> Result<Response, Problem> {
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
    _: Admin,
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(given): Sent<Limits>,
) -> Result<Response, Problem> {
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
        tell!(LIMIT_CHANGED, limit = %name, limits = ?texts(&limits));
    }
    Ok(in_force(&shared))
}

/// A client's own limit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Override {
    #[serde(rename = "override")]
    own: String,
    limit: Option<String>,
}

/// Gives a client a limit of its own, in place of all limits of that name, until the node is started anew.
pub(super) async fn set_override(
    _: Admin,
    State(shared): State<Shared>,
    _: NoQuery,
    InPath(key): InPath,
    Sent(given): Sent<Override>,
) -> Result<StatusCode, Problem> {
    let own: Limit = given.own.parse().map_err(ratelimit::Error::from)?;
    let named = named(&shared.node, given.limit.as_deref())?;
    named.set_override(&key, Some(own))?;
    let limit = given.limit.as_deref().unwrap_or_default();
    tell!(OVERRIDE_CHANGED, limit, client = hashed(&key), own = %own);
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a client's own limit away.
pub(super) async fn delete_override(
    _: Admin,
    State(shared): State<Shared>,
    InPath(key): InPath,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    let limit = query(&uri, "limit")?;
    named(&shared.node, limit)?.set_override(&key, None)?;
    tell!(
        OVERRIDE_CHANGED,
        limit = limit.unwrap_or_default(),
        client = hashed(&key),
        own = ""
    );
    Ok(StatusCode::NO_CONTENT)
}

/// The most clients of a list.
const MAX_TOP: usize = 100;

/// Of each limit the clients that were denied most and those that asked most, by their fingerprints: ids are not kept. `n` says how
/// many of each, 10 if it is not there.
pub(super) async fn top(_: Admin, State(shared): State<Shared>, uri: Uri) -> Result<Response, Problem> {
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

/// The key in the path.
pub(super) struct InPath(String);

impl FromRequestParts<Shared> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let Path(key) = Path::<String>::from_request_parts(parts, shared)
            .await
            .map_err(|error| Problem::argument(format!("the key in the path cannot be read: {error}")))?;
        if key.len() > MAX_KEY_BYTES {
            return Err(Problem::argument(format!(
                "the key is longer than {MAX_KEY_BYTES} bytes: hash it first"
            )));
        }
        Ok(InPath(key))
    }
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
