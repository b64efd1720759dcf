//! `GET /v1/peers`: the other nodes of the clusters that this node's limits are kept in.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;
use super::body::{Json, NoQuery};

/// Of each limit that a cluster keeps, each peer. Times are in seconds.
pub(super) async fn peers(State(shared): State<Shared>, _: NoQuery) -> Response {
    let limiters = shared.node.limiters();
    let peers: Vec<serde_json::Value> = limiters
        .iter()
        .flat_map(|(limit, named)| {
            named.limiter.peers().into_iter().map(move |peer| {
                json!({
                    "limit": limit,
                    "name": peer.name,
                    "address": peer.address,
                    "state": peer.state.name(),
                    "rtt": peer.rtt.map(|rtt| rtt.as_secs_f64()),
                    "lag": peer.lag.as_secs_f64(),
                    "unacked_units": peer.unacked_units,
                    "sent_bytes": peer.sent_bytes,
                    "received_bytes": peer.received_bytes,
                })
            })
        })
        .collect();
    Json(json!({ "peers": peers })).into_response()
}
