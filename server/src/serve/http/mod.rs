//! HTTP with JSON: the calls under `/v1`, the page at `/`, `/metrics`, `/healthz` and `/readyz`.
//!
//! A connection is served by hyper, which bounds the head of a request and the time it may take; bodies are bounded in [`body`].

mod admin;
mod body;
mod calls;
mod page;
mod peers;
mod problem;
mod rules;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

use self::problem::Problem;
use super::metrics;
use super::node::Node;

/// How long the head of a request may take to come, and a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a client may take to accept a part of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a request. Keys of overrides are in it, three bytes for one at worst.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// What a connection too many is told.
pub(crate) const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    node: Arc<Node>,
    stopping: watch::Receiver<bool>,
}

/// The address at the other end of the connection.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

/// The paths, and what answers each.
pub(crate) fn router(node: Arc<Node>, stopping: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/v1/check", post(calls::check))
        .route("/v1/check/batch", post(calls::check_batch))
        .route("/v1/peek", post(calls::peek))
        .route("/v1/refund", post(calls::refund))
        .route("/v1/reset", post(admin::reset))
        .route("/v1/block", post(admin::block))
        .route("/v1/limits", get(admin::limits).put(admin::set_limits))
        .route(
            "/v1/overrides/{key}",
            put(admin::set_override).delete(admin::delete_override),
        )
        .route("/v1/peers", get(peers::peers))
        .route("/v1/top", get(admin::top))
        .route("/", get(page::page))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(Shared { node, stopping })
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    let text = metrics::text(&shared.node);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Whether requests should be sent here: from the first moment, since nothing is served before snapshots are restored, until it stops.
async fn ready(State(shared): State<Shared>) -> Response {
    if *shared.stopping.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

/// Serves a connection until it ends, or `stopping` turns true and the request under way is answered.
///
/// Errors: the client broke the rules of HTTP, was too slow, or went away in the middle of a request.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    node: Arc<Node>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        node.figures.requests.add();
        let mut router = router.clone();
        async move {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(Peer(peer));
            // A router is always ready.
            Ok::<Response, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    // hyper waits for ever for a client that does not take its answers.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(ANSWER_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => return served,
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
