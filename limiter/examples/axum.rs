//! An axum service with two limits per client address.
//!
//! `cargo run --example axum --features tower`, then `for i in $(seq 12); do curl -si localhost:3000 | head -5; done`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::{Router, routing::get};
use ratelimit::{Limiter, tower::RateLimitLayer};

/// The peer's address; of IPv6 the first 64 bits, since a client has at least so many addresses to itself.
fn peer(request: &Request) -> Option<Vec<u8>> {
    // A request without a peer would be a mistake in this program. All such share one budget instead of having none.
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    Some(match peer.map(|ConnectInfo(address)| address.ip().to_canonical()) {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
        None => b"unknown".to_vec(),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = Limiter::builder()
        .limit("10/s".parse()?)
        .limit("1000/day".parse()?)
        .build()?;
    let layer = RateLimitLayer::new(limiter.clone(), peer)
        .cost(|request: &Request| if request.method().is_safe() { 1 } else { 5 })
        .policy_names(["burst", "daily"])?;

    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .layer(layer)
        // After the layer, so that it is not limited.
        .route("/metrics", get(async move || limiter.prometheus()));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
