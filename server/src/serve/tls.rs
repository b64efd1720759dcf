//! TLS for HTTP: a certificate and its key from PEM files, read at the start and at each reload.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::config::TlsConfig;
use crate::failure::Failure;

/// What connections are encrypted with: TLS 1.2 and 1.3 as rustls has them, no client certificates, no early data.
///
/// Errors: a file cannot be read or holds something else, or the key is not that of the certificate. Texts name the file.
pub(crate) fn load(config: &TlsConfig) -> Result<Arc<ServerConfig>, Failure> {
    let certificates = CertificateDer::pem_file_iter(&config.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unread("tls_cert", &config.cert, &error))?;
    if certificates.is_empty() {
        return Err(unread("tls_cert", &config.cert, &PemError::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| unread("tls_key", &config.key, &error))?;
    let wrong = |error: rustls::Error| {
        Failure::Usage(format!(
            "tls_cert {} and tls_key {} cannot be used: {error}",
            config.cert.display(),
            config.key.display()
        ))
    };
    // Named and not the process's default, which another crate could have set.
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(wrong)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn unread(option: &str, path: &Path, error: &PemError) -> Failure {
    match error {
        PemError::Io(error) => Failure::Io(format!("{option}: cannot read {}: {error}", path.display())),
        PemError::NoItemsFound => Failure::Usage(format!(
            "{option}: {} has nothing of the kind in it: it takes PEM, which begins with a line like -----BEGIN {}-----",
            path.display(),
            if option == "tls_key" {
                "PRIVATE KEY"
            } else {
                "CERTIFICATE"
            }
        )),
        other => Failure::Usage(format!("{option}: {} is not PEM: {other}", path.display())),
    }
}
