//! Certificates, and all there is of TLS.
//!
//! Both sides of a link show a certificate of a private authority. What a certificate is believed to say is one thing: the
//! node's name, which is its first DNS name. Nobody is looked up by name, so the name that was dialled says nothing.

use std::any::Any;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::ConnectionError;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Identity, Pem};
use crate::error::CertificateError;
use crate::event::HandshakeRefusal;

/// The one protocol that is spoken over these links.
pub(crate) const ALPN: &[u8] = b"rl/1";
/// Files beyond this size are no certificates.
const MAX_PEM: u64 = 1 << 20;

/// Certificates in use, as both sides of a handshake need them.
pub(crate) struct Credentials {
    pub(crate) server: Arc<QuicServerConfig>,
    pub(crate) client: Arc<QuicClientConfig>,
    pub(crate) not_after: SystemTime,
    /// The texts that these were made of, so that a change is seen whatever the files' times say.
    pub(crate) source: Source,
}

/// The texts of an identity.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Source {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Shorter than any private key, longer than names of files are.
const MOST_SHOWN: usize = 60;

impl Source {
    /// Reads the files.
    pub(crate) fn read(identity: &Identity) -> Result<Source, CertificateError> {
        Ok(Source {
            ca: read(&identity.ca)?,
            cert: read(&identity.cert)?,
            key: read(&identity.key).map_err(|error| hide(&identity.key, error))?,
        })
    }
}

/// The name of a key's file may be the key, given without the lines around it: nothing that does not look like a file is shown.
fn hide(key: &Pem, error: CertificateError) -> CertificateError {
    match key {
        Pem::File(path) if path.as_os_str().len() > MOST_SHOWN => CertificateError(
            "the key is no PEM text (it begins with -----BEGIN) and its name is too long for a file's".to_owned(),
        ),
        _ => error,
    }
}

fn wrong(what: &Pem, problem: impl Display) -> CertificateError {
    match what {
        Pem::File(path) => CertificateError(format!("{}: {problem}", path.display())),
        Pem::Text(_) => CertificateError(format!("PEM text: {problem}")),
    }
}

fn read(pem: &Pem) -> Result<Vec<u8>, CertificateError> {
    let read_file = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_PEM + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match pem {
        Pem::Text(text) => text.clone().into_bytes(),
        Pem::File(path) => read_file(path).map_err(|error| wrong(pem, format!("cannot be read: {error}")))?,
    };
    if bytes.len() as u64 > MAX_PEM {
        return Err(wrong(pem, "is larger than 1 MiB: it is no certificate and no key"));
    }
    Ok(bytes)
}

fn certificates(pem: &Pem, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|_| wrong(pem, "is no PEM text, or is cut short"))?;
    if found.is_empty() {
        return Err(wrong(
            pem,
            "has no certificate: it needs a section \"BEGIN CERTIFICATE\"",
        ));
    }
    Ok(found)
}

/// Checks an identity as a peer would, and puts it into the two configurations.
pub(crate) fn load(identity: &Identity, source: Source, node: &str) -> Result<Credentials, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&identity.ca, &source.ca)? {
        let added = roots.add(certificate);
        added.map_err(|error| {
            wrong(
                &identity.ca,
                format!("holds a certificate that is no authority: {error}"),
            )
        })?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(&identity.cert, &source.cert)?;
    let no_key = |_| {
        wrong(
            &identity.key,
            "has no private key: it needs a section \"BEGIN PRIVATE KEY\"",
        )
    };
    let key = PrivateKeyDer::from_pem_slice(&source.key).map_err(no_key)?;
    let own = &chain[0];
    let name = name_of(own).ok_or_else(|| {
        wrong(
            &identity.cert,
            "names no node: it needs the node's name as its first DNS name (subject alternative name)",
        )
    })?;
    if name != node {
        return Err(wrong(
            &identity.cert,
            format!(
                "is for the node \"{}\", but this node is called \"{}\": use its own certificate, or call it so",
                name.escape_debug(),
                node.escape_debug()
            ),
        ));
    }
    let not_after = not_after(own).ok_or_else(|| wrong(&identity.cert, "is damaged"))?;
    let client_verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong(&identity.ca, error))?;
    let server_verifier = Arc::new(OfAnyNode {
        roots,
        provider: Arc::clone(&provider),
    });
    let now = UnixTime::now();
    let usable = server_verifier
        .verify(own, &chain[1..], now)
        .and_then(|()| client_verifier.verify_client_cert(own, &chain[1..], now).map(|_| ()));
    usable.map_err(|error| wrong(&identity.cert, unusable(&error)))?;

    let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| wrong(&identity.cert, error))?
        .dangerous()
        .with_custom_certificate_verifier(server_verifier)
        .with_client_auth_cert(chain.clone(), key.clone_key())
        .map_err(|error| wrong(&identity.key, unmatched(&error)))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_early_data = false;
    client.enable_sni = false;
    client.resumption = Resumption::disabled();

    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| wrong(&identity.cert, error))?
        .with_client_cert_verifier(client_verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&identity.key, unmatched(&error)))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.max_early_data_size = 0;
    // Every handshake shows certificates: a ticket would outlive the one it was given for.
    server.send_tls13_tickets = 0;
    server.session_storage = Arc::new(NoServerSessionStorage {});

    let suite = |error: quinn::crypto::rustls::NoInitialCipherSuite| wrong(&identity.cert, error);
    Ok(Credentials {
        server: Arc::new(QuicServerConfig::try_from(server).map_err(suite)?),
        client: Arc::new(QuicClientConfig::try_from(client).map_err(suite)?),
        not_after,
        source,
    })
}

fn unusable(error: &rustls::Error) -> String {
    use rustls::CertificateError as Reason;
    match error {
        rustls::Error::InvalidCertificate(Reason::Expired | Reason::ExpiredContext { .. }) => {
            "has expired: make a new one with `ratelimit certs DIR --renew NODE`".to_owned()
        }
        rustls::Error::InvalidCertificate(Reason::NotValidYet | Reason::NotValidYetContext { .. }) => {
            "is not valid yet: look at this machine's clock".to_owned()
        }
        // Of an authority with a known name and another key, the signature is what does not fit.
        rustls::Error::InvalidCertificate(Reason::UnknownIssuer | Reason::BadSignature) => {
            "was signed by none of the authorities in `ca`: use the certificates of one cluster".to_owned()
        }
        rustls::Error::InvalidCertificate(Reason::InvalidPurpose | Reason::InvalidPurposeContext { .. }) => {
            "may not be used both as a server's and a client's: a node is both".to_owned()
        }
        other => format!("is of no use: {other}"),
    }
}

fn unmatched(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "is the key of another certificate".to_owned(),
        other => format!("is of no use: {other}"),
    }
}

/// The node's name in a certificate: its first DNS name.
pub(crate) fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let name = parsed.valid_dns_names().next()?;
    let fits = !name.is_empty() && name.len() <= ratelimit_protocol::MAX_NAME && !name.contains('*');
    fits.then(|| name.to_owned())
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The name of the node on the other side of a connection, whose certificate was verified in the handshake.
pub(crate) fn peer_name(connection: &quinn::Connection) -> Option<String> {
    let identity: Box<dyn Any> = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    name_of(chain.first()?)
}

/// Believes every certificate that an authority of the cluster signed for a server, whatever its name.
#[derive(Debug)]
struct OfAnyNode {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl OfAnyNode {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for OfAnyNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls12NotOffered,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Alerts of TLS travel as QUIC error codes from here on.
const CRYPTO: u64 = 0x100;

/// Why a handshake came to nothing.
pub(crate) fn refusal(error: &ConnectionError) -> HandshakeRefusal {
    match error {
        ConnectionError::TransportError(error) => of_alert(u64::from(error.code)),
        ConnectionError::ConnectionClosed(close) => match of_alert(u64::from(close.error_code)) {
            HandshakeRefusal::Other | HandshakeRefusal::TooMany => of_code(u64::from(close.error_code)),
            HandshakeRefusal::Protocol => HandshakeRefusal::Protocol,
            _ => HandshakeRefusal::OurCertificate,
        },
        ConnectionError::VersionMismatch => HandshakeRefusal::Protocol,
        ConnectionError::TimedOut => HandshakeRefusal::Timeout,
        _ => HandshakeRefusal::Other,
    }
}

/// CONNECTION_REFUSED: the other side has too many handshakes in progress.
const REFUSED: u64 = 0x2;

fn of_code(code: u64) -> HandshakeRefusal {
    if code == REFUSED {
        HandshakeRefusal::TooMany
    } else {
        HandshakeRefusal::Other
    }
}

fn of_alert(code: u64) -> HandshakeRefusal {
    match code.checked_sub(CRYPTO) {
        // RFC 8446, section 6.2.
        Some(48) => HandshakeRefusal::UnknownAuthority,
        Some(45) => HandshakeRefusal::Expired,
        Some(116) => HandshakeRefusal::NoCertificate,
        Some(42 | 43 | 44 | 46 | 51) => HandshakeRefusal::BadCertificate,
        Some(40 | 47 | 50 | 70 | 71 | 109 | 110 | 120) => HandshakeRefusal::Protocol,
        _ => HandshakeRefusal::Other,
    }
}
