//! The settings of QUIC: small windows, no early data, no migration, nothing buffered for strangers.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};

use crate::config::Tuning;
use crate::tls::Credentials;

/// QUIC version 1 (RFC 9000), and no draft of it.
const VERSION_1: u32 = 1;
/// What is sent and not acknowledged.
const SEND_WINDOW: u64 = 256 * 1024;
/// What a peer may send before it is read, over both streams and on each.
const RECEIVE_WINDOW: u32 = 512 * 1024;
const STREAM_RECEIVE_WINDOW: u32 = 256 * 1024;
/// Two streams, both opened by the side that opened the link.
const STREAMS: u32 = 2;
/// Peers are near each other: the first loss is not waited for as if it were the far side of the world.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// Handshakes that wait to be looked at, and what is kept of each: a first flight is about two datagrams.
const WAITING: usize = 64;
const WAITING_BYTES: u64 = 16 * 1024;

fn transport(tuning: &Tuning, inbound: bool) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(tuning.idle).ok())
        .keep_alive_interval(Some(tuning.keep_alive))
        .initial_rtt(INITIAL_RTT)
        .send_window(SEND_WINDOW)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .max_concurrent_bidi_streams(VarInt::from_u32(if inbound { STREAMS } else { 0 }))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    Arc::new(transport)
}

pub(crate) fn endpoint() -> EndpointConfig {
    let mut endpoint = EndpointConfig::default();
    endpoint.supported_versions(vec![VERSION_1]);
    endpoint
}

pub(crate) fn server(credentials: &Credentials, tuning: &Tuning) -> ServerConfig {
    let mut server = ServerConfig::with_crypto(Arc::clone(&credentials.server) as Arc<_>);
    server
        .transport_config(transport(tuning, true))
        .migration(false)
        .max_incoming(WAITING)
        .incoming_buffer_size(WAITING_BYTES)
        .incoming_buffer_size_total(WAITING as u64 * WAITING_BYTES);
    server
}

pub(crate) fn client(credentials: &Credentials, tuning: &Tuning) -> ClientConfig {
    let mut client = ClientConfig::new(Arc::clone(&credentials.client) as Arc<_>);
    client.version(VERSION_1).transport_config(transport(tuning, false));
    client
}
