//! Accepting connections: as many as there may be, the others are told so and closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::node::{Connections, Node};
use super::{http, resp};
use crate::events::{tell, tell_paced};

/// What a connection too many is told, where it speaks RESP. The text is Redis's.
const RESP_FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the system could not give a connection.
const RETRY: Duration = Duration::from_millis(50);

/// Serves RESP until `stopping` turns true and all connections have ended.
pub(crate) async fn resp(listener: TcpListener, node: Arc<Node>, most: usize, stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(most));
    let mut id = 0;
    while let Some((stream, _)) = accept(&listener, stopping.clone()).await {
        id += 1;
        let Some(permit) = enter(&room, &node.figures.resp, &stream, RESP_FULL) else {
            tell_paced!(CONNECTION_REFUSED, listener = "resp");
            continue;
        };
        let (node, stopping) = (node.clone(), stopping.clone());
        tokio::spawn(async move {
            let dropped = resp::serve(stream, &node, id, stopping).await;
            if let Some(reason) = dropped {
                node.figures.resp.dropped.add();
                tell!(CONNECTION_DROPPED, listener = "resp", ?reason);
            }
            leave(&node.figures.resp, permit);
        });
    }
    all_left(&room, most).await;
}

/// Serves HTTP until `stopping` turns true and all connections have ended.
pub(crate) async fn http(listener: TcpListener, node: Arc<Node>, most: usize, stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(most));
    let router = http::router(node.clone(), stopping.clone());
    while let Some((stream, peer)) = accept(&listener, stopping.clone()).await {
        let tls = node.tls();
        // Whoever speaks TLS could not read the answer.
        let full = if tls.is_none() { http::FULL } else { b"" };
        let Some(permit) = enter(&room, &node.figures.http, &stream, full) else {
            tell_paced!(CONNECTION_REFUSED, listener = "http");
            continue;
        };
        let (node, router, stopping) = (node.clone(), router.clone(), stopping.clone());
        tokio::spawn(async move {
            let served = match tls {
                None => http::serve(stream, peer, node.clone(), router, stopping)
                    .await
                    .map_err(|error| error.to_string()),
                Some(tls) => encrypted(tls, stream, peer, node.clone(), router, stopping).await,
            };
            if let Err(reason) = served {
                node.figures.http.dropped.add();
                tell!(CONNECTION_DROPPED, listener = "http", reason);
            }
            leave(&node.figures.http, permit);
        });
    }
    all_left(&room, most).await;
}

/// Serves a connection after the handshake, which may take as long as the head of a request.
async fn encrypted(
    tls: Arc<rustls::ServerConfig>,
    stream: TcpStream,
    peer: SocketAddr,
    node: Arc<Node>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), String> {
    let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls).accept(stream));
    let stream = tokio::select! {
        outcome = handshake => match outcome {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("TLS: {error}")),
            Err(_) => return Err("TLS: the handshake took too long".to_owned()),
        },
        _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
    };
    let served = http::serve(stream, peer, node, router, stopping).await;
    served.map_err(|error| error.to_string())
}

/// The next connection; `None` once `stopping` is true.
async fn accept(listener: &TcpListener, mut stopping: watch::Receiver<bool>) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return None,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Replies are sent whole: waiting for more to send would only delay them. Refusal costs that delay.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer));
            }
            Err(error) => {
                // No more files, or a connection that ended before it was accepted. The first passes only if others end.
                tell_paced!(NOT_ACCEPTED, %error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn enter(
    room: &Arc<Semaphore>,
    connections: &Connections,
    stream: &TcpStream,
    full: &'static [u8],
) -> Option<OwnedSemaphorePermit> {
    match room.clone().try_acquire_owned() {
        Ok(permit) => {
            connections.accepted.add();
            Some(permit)
        }
        Err(_) => {
            connections.refused.add();
            // The buffer of a new connection takes so few bytes at once; if not, closing says enough.
            let _ = stream.try_write(full);
            None
        }
    }
}

fn leave(connections: &Connections, permit: OwnedSemaphorePermit) {
    connections.closed.add();
    drop(permit);
}

async fn all_left(room: &Semaphore, most: usize) {
    // All permits are free only when no connection is left. An error would mean that the semaphore was closed, which nobody does.
    let _ = room.acquire_many(u32::try_from(most).unwrap_or(u32::MAX)).await;
}
