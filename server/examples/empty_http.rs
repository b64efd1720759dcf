//! The least that the framework of `ratelimit serve` can do: reads the body of `POST /v1/check`, and answers as many bytes as a decision
//! has. `cargo xtask bench-serve` compares the node with it.
//!
//! Prints its address.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use axum::routing::post;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tower_service::Service;

/// As long as the answer to a check.
const ANSWER: &str = r#"{"allowed":true,"limit":100,"remaining":98,"retry_after":0.0,"reset_after":1.187654321}"#;

async fn empty(_: Bytes) -> ([(header::HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, "application/json")], ANSWER)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http  http://{}", listener.local_addr()?);
    let router = Router::new().route("/v1/check", post(empty));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let router = router.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let mut router = router.clone();
                async move {
                    let answer = router.call(request.map(Body::new)).await;
                    Ok::<Response, Infallible>(answer.unwrap_or_else(|never| match never {}))
                }
            });
            // A client that goes away in the middle of a request ends the connection, and nothing else.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
