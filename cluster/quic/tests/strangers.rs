//! Those who are no nodes of the cluster: refused, counted by reason, and of no consequence for others.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use common::ca::Said;
use common::{Ca, Making, Node, compare_ledgers, hammer, per_second, quick, spec, wait_linked, wait_until};
use ratelimit_protocol::Mode;
use ratelimit_protocol::message::Refusal;
use ratelimit_quic::{Error, Event, HandshakeRefusal, Identity, Pem};
use rcgen::ExtendedKeyUsagePurpose;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// One test of this file measures the whole process, which the nodes of the others would count in: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pair(ca: &Ca) -> (Node, Node) {
    let make = |name, seeds: &[&Node]| {
        let mut making = Making::new(name, ca, seeds);
        making.limits = vec![spec(1, per_second(1000, 100), Mode::Eventual)];
        making.change = Box::new(|config| quick(&mut config.tuning));
        making.start()
    };
    let a = make("a", &[]);
    let b = make("b", &[&a]);
    wait_linked(&[&a, &b]);
    (a, b)
}

fn text(pem: &Pem) -> &[u8] {
    match pem {
        Pem::Text(text) => text.as_bytes(),
        Pem::File(_) => panic!("tests have texts"),
    }
}

/// A client that checks nothing itself, as an attacker's would not.
struct Stranger {
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
}

#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Stranger {
    fn new(identity: Option<&Identity>, alpn: &[u8]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut tls = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(text(&identity.cert)).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(text(&identity.key)).expect("a key");
                builder
                    .with_client_auth_cert(chain.expect("a chain"), key)
                    .expect("a pair")
            }
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.enable_early_data = true;
        let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("a suite");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let endpoint = quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            None,
            socket,
            Arc::new(quinn::TokioRuntime),
        );
        Stranger {
            endpoint: endpoint.expect("an endpoint"),
            client: quinn::ClientConfig::new(Arc::new(quic)),
        }
    }

    /// Links and says `bytes` on the second stream; returns why it was closed.
    async fn say(&self, to: SocketAddr, bytes: &[u8]) -> quinn::ConnectionError {
        let connecting = self
            .endpoint
            .connect_with(self.client.clone(), to, "a")
            .expect("an address");
        let connection = match connecting.await {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        let opened = async {
            let reports = connection.open_bi().await?;
            let (mut control, _) = connection.open_bi().await?;
            // The other side may have closed by now, which is what is asked.
            let _closed = control.write_all(bytes).await;
            Ok::<_, quinn::ConnectionError>((reports, control))
        };
        let _held = opened.await;
        connection.closed().await
    }
}

fn run<R>(work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(common::PATIENCE, work).await.expect("in time") })
}

fn refused(node: &Node, reason: HandshakeRefusal) -> u64 {
    node.driver().stats().refused(reason)
}

/// Everything is as before, for those who belong.
#[track_caller]
fn nothing_happened(a: &Node, b: &Node) {
    wait_linked(&[a, b]);
    assert_eq!(a.peer("b").expect("a peer").links_up, 1, "the link is the same");
    assert_eq!(a.driver().peers().len(), 1, "nobody else is known");
    assert_eq!(a.driver().stats().panics, 0);
    hammer(&[a, b], 1, 5, Duration::from_millis(200));
    compare_ledgers(&[a, b]);
}

#[test]
fn strangers_are_refused_by_reason_and_touch_nobody() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    let to = a.driver().local_addr();
    let day = Duration::from_secs(86_400);
    let expired = Said {
        not_before: SystemTime::now() - 3 * day,
        not_after: SystemTime::now() - day,
        ..Said::of(&["c"])
    };
    let early = Said {
        not_before: SystemTime::now() + day,
        not_after: SystemTime::now() + 2 * day,
        ..Said::of(&["c"])
    };
    let server_only = Said {
        uses: &[ExtendedKeyUsagePurpose::ServerAuth],
        ..Said::of(&["c"])
    };
    let cases = [
        (
            "another authority",
            Some(Ca::new().identity("b")),
            HandshakeRefusal::UnknownAuthority,
        ),
        ("expired", Some(ca.identity_of(&expired)), HandshakeRefusal::Expired),
        ("not valid yet", Some(ca.identity_of(&early)), HandshakeRefusal::Expired),
        ("no certificate", None, HandshakeRefusal::NoCertificate),
        ("no name", Some(ca.identity_of(&Said::of(&[]))), HandshakeRefusal::Name),
        (
            "an address as its name",
            Some(ca.identity_of(&Said::of(&["10.0.0.1"]))),
            HandshakeRefusal::Name,
        ),
        (
            "for servers only",
            Some(ca.identity_of(&server_only)),
            HandshakeRefusal::BadCertificate,
        ),
    ];
    run(async {
        for (what, identity, reason) in cases {
            let before = refused(&a, reason);
            let why = Stranger::new(identity.as_ref(), b"rl/1").say(to, b"").await;
            wait_until(&format!("{what} is counted ({why})"), || refused(&a, reason) > before);
        }
        let before = refused(&a, HandshakeRefusal::Protocol);
        let why = Stranger::new(Some(&ca.identity("c")), b"h3").say(to, b"").await;
        wait_until(&format!("another protocol is counted ({why})"), || {
            refused(&a, HandshakeRefusal::Protocol) > before
        });
    });
    assert!(a.saw(|event| matches!(event, Event::HandshakeRefused { .. })));
    nothing_happened(&a, &b);
}

#[test]
fn a_good_certificate_does_not_speak_for_another_name() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    // Hello of `b` in the last life there can be, over a link of `c`.
    let mut hello = vec![1, 1, 1, 0, 1, b'b'];
    hello.extend([0xff; 8]);
    hello.extend(ratelimit_protocol::NodeConfig::new("b").fingerprint().to_le_bytes());
    hello.extend([0; 8]);
    hello.extend([0, 0, 0]);
    let mut frame = vec![u8::try_from(hello.len()).expect("a short frame")];
    frame.extend(hello);
    let to = a.driver().local_addr();
    let why = run(async { Stranger::new(Some(&ca.identity("c")), b"rl/1").say(to, &frame).await });
    let quinn::ConnectionError::ApplicationClosed(close) = why else {
        panic!("{why}");
    };
    assert_eq!(close.error_code.into_inner(), Refusal::Name.code());
    wait_until("it is told", || {
        a.saw(|event| {
            *event
                == Event::PeerRefused {
                    name: "c".to_owned(),
                    reason: Refusal::Name,
                    by_peer: false,
                }
        })
    });
    assert_eq!(a.peer("b").expect("a peer").links_up, 1);
    wait_linked(&[&a, &b]);
}

#[test]
fn bytes_that_are_no_frames_close_only_their_link() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    let to = a.driver().local_addr();
    let why = run(async {
        Stranger::new(Some(&ca.identity("c")), b"rl/1")
            .say(to, &[0; 2000])
            .await
    });
    let quinn::ConnectionError::ApplicationClosed(close) = why else {
        panic!("{why}");
    };
    assert_eq!(close.error_code.into_inner(), Refusal::Malformed.code());
    wait_until("it is counted", || a.driver().stats().node.malformed == 1);
    wait_linked(&[&a, &b]);
    assert_eq!(a.peer("b").expect("a peer").links_up, 1);
}

#[test]
fn garbage_on_the_port_is_nothing() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    let to = a.driver().local_addr();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..20_000u32 {
        let mut datagram = [0u8; 1400];
        for byte in &mut datagram {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
        let len = (state as usize % 1400) + 1;
        if round % 2 == 0 {
            // The head of a first packet of QUIC version 1, with nonsense behind it.
            datagram[0] |= 0xc0;
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        // The system may have no room for it, which is as good.
        let _full = socket.send_to(&datagram[..len], to);
    }
    nothing_happened(&a, &b);
    wait_until("nothing is left of it", || {
        a.driver().stats().handshakes_in_progress == 0
    });
}

/// Bytes of memory that this process has.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = pages
        .split_whitespace()
        .nth(1)
        .expect("a field")
        .parse()
        .expect("a number");
    pages * 4096
}

#[test]
#[cfg(target_os = "linux")]
fn a_flood_of_half_handshakes_is_bounded() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, b) = pair(&ca);
    let to = a.driver().local_addr();
    run(async {
        // First flights are made once, by dialling a port that records them, and then sent again from many sources.
        let recorder = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let there = recorder.local_addr().expect("an address");
        let stranger = Stranger::new(Some(&ca.identity("c")), b"rl/1");
        let mut flights = Vec::new();
        for _ in 0..300 {
            let connecting = stranger
                .endpoint
                .connect_with(stranger.client.clone(), there, "a")
                .expect("an address");
            let mut datagram = vec![0; 2000];
            let (len, _) = recorder.recv_from(&mut datagram).await.expect("a datagram");
            datagram.truncate(len);
            flights.push(datagram);
            drop(connecting);
        }
        let senders: Vec<_> = (2..22)
            .map(|n| UdpSocket::bind(SocketAddr::from(([127, 0, 0, n], 0))).expect("a source"))
            .collect();
        let flood = |rounds: usize| {
            for round in 0..rounds {
                for (n, flight) in flights.iter().enumerate() {
                    let _full = senders[(n + round) % senders.len()].send_to(flight, to);
                    let in_progress = a.driver().stats().handshakes_in_progress;
                    assert!(in_progress <= 64, "{in_progress}");
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        flood(20);
        let before = resident();
        flood(60);
        let grown = resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more after 18,000 first flights");
    });
    let stats = a.driver().stats();
    assert!(stats.retries_asked > 0, "sources had to prove themselves: {stats:?}");
    wait_until("they are given up", || {
        let stats = a.driver().stats();
        stats.handshakes_in_progress == 0 && stats.refused(HandshakeRefusal::Timeout) > 0
    });
    nothing_happened(&a, &b);
}

#[test]
fn a_node_that_is_refused_knows_why() {
    let _alone = alone();
    let ca = Ca::new();
    let (a, _b) = pair(&ca);
    // It believes a's authority, but its own certificate is of another: only the other side sees what is wrong.
    let other = Ca::new();
    let mut identity = other.identity("c");
    identity.ca = Pem::Text(format!("{}{}", ca.pem, other.pem));
    let mut making = Making::new("c", &other, &[&a]);
    making.identity = identity;
    let c = making.start();
    wait_until("c counts it", || refused(&c, HandshakeRefusal::OurCertificate) > 0);
    wait_until("a counts it", || refused(&a, HandshakeRefusal::UnknownAuthority) > 0);
    assert!(!c.driver().ready(Duration::from_millis(10)));
    assert!(a.peer("c").is_none(), "a has not met it");
}

#[test]
fn what_is_wrong_with_an_identity_is_said_before_anything_starts() {
    let _alone = alone();
    let ca = Ca::new();
    let day = Duration::from_secs(86_400);
    let expired = Said {
        not_before: SystemTime::now() - 3 * day,
        not_after: SystemTime::now() - day,
        ..Said::of(&["a"])
    };
    let client_only = Said {
        uses: &[ExtendedKeyUsagePurpose::ClientAuth],
        ..Said::of(&["a"])
    };
    let mut foreign = ca.identity("a");
    foreign.ca = Pem::Text(Ca::new().pem);
    let mut mixed = ca.identity("a");
    mixed.key = ca.identity("a").key;
    let mut empty = ca.identity("a");
    empty.cert = Pem::Text("-----BEGIN NOTHING".to_owned());
    let mut none = ca.identity("a");
    none.cert = none.key.clone();
    let mut missing = ca.identity("a");
    missing.key = Pem::File("/nonexistent/a.key".into());
    let mut no_key = ca.identity("a");
    no_key.key = Pem::Text(ca.pem.clone());
    for (identity, says) in [
        (ca.identity("b"), "is for the node \"b\", but this node is called \"a\""),
        (ca.identity_of(&Said::of(&[])), "names no node"),
        (
            ca.identity_of(&expired),
            "has expired: make a new one with `ratelimit certs",
        ),
        (ca.identity_of(&client_only), "both as a server's and a client's"),
        (foreign, "was signed by none of the authorities"),
        (mixed, "is the key of another certificate"),
        (empty, "is no PEM text"),
        (none, "has no certificate"),
        (missing, "/nonexistent/a.key: cannot be read"),
        (no_key, "has no private key"),
    ] {
        let mut making = Making::new("a", &ca, &[]);
        making.identity = identity;
        match making.try_start().err() {
            Some(error @ Error::Certificate(_)) => {
                assert!(error.to_string().contains(says), "{error} does not say {says}")
            }
            other => panic!("{other:?} instead of: {says}"),
        }
    }
}
