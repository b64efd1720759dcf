//! A private authority for tests, which can also make certificates that are wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ratelimit_quic::{Identity, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// What a certificate says.
pub struct Said<'a> {
    pub names: &'a [&'a str],
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub uses: &'a [ExtendedKeyUsagePurpose],
}

impl<'a> Said<'a> {
    pub fn of(names: &'a [&'a str]) -> Self {
        Said {
            names,
            not_before: SystemTime::now() - Duration::from_secs(3600),
            not_after: SystemTime::now() + Duration::from_secs(30 * 86_400),
            uses: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // Authorities of one name and different keys would be told apart only by their signatures.
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Ca {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate and its key, as PEM.
    pub fn issue(&self, said: &Said<'_>) -> (String, String) {
        let names: Vec<String> = said.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.not_before = said.not_before.into();
        params.not_after = said.not_after.into();
        params.extended_key_usages = said.uses.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    pub fn identity(&self, name: &str) -> Identity {
        self.identity_of(&Said::of(&[name]))
    }

    pub fn identity_of(&self, said: &Said<'_>) -> Identity {
        let (cert, key) = self.issue(said);
        Identity {
            ca: Pem::Text(self.pem.clone()),
            cert: Pem::Text(cert),
            key: Pem::Text(key),
        }
    }
}
