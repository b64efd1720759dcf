//! The authority, and what it signs.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::files::{Folder, Readers};
use crate::{DAY, Made};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Clocks of nodes differ: a new certificate is valid from a while ago.
const BEFORE: Duration = Duration::from_secs(3600);

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

impl Authority {
    pub(crate) fn open_or_make(folder: &Folder, days: u32) -> Result<(Authority, Made), Error> {
        match (folder.read(CERTIFICATE)?, folder.read(KEY)?) {
            (Some(certificate), Some(key)) => Ok((Authority::open(folder, &certificate, &key)?, Made::Kept)),
            (None, None) => Ok((Authority::make(folder, days)?, Made::New)),
            (certificate, _) => {
                let names = [CERTIFICATE, KEY].map(|name| folder.path(name));
                let [there, missing] = if certificate.is_some() {
                    names
                } else {
                    let [certificate, key] = names;
                    [key, certificate]
                };
                Err(Error::HalfAuthority { there, missing })
            }
        }
    }

    fn make(folder: &Folder, days: u32) -> Result<Authority, Error> {
        let mut number = [0; 4];
        getrandom::fill(&mut number).map_err(|error| Error::Making(error.to_string()))?;
        let mut params = CertificateParams::new(Vec::new())?;
        // Two authorities must not have one name: while one replaces the other, nodes believe both.
        params.distinguished_name = named(&format!("ratelimit cluster {:08x}", u32::from_be_bytes(number)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        params.not_before = (now - BEFORE).into();
        params.not_after = (now + DAY * days).into();
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        folder.write(KEY, &key.serialize_pem(), Readers::Owner, false)?;
        folder.write(CERTIFICATE, &certificate.pem(), Readers::All, false)?;
        Ok(Authority {
            not_after: not_after(&certificate.pem()).unwrap_or(now + DAY * days),
            issuer: Issuer::new(params, key),
        })
    }

    fn open(folder: &Folder, certificate: &str, key: &str) -> Result<Authority, Error> {
        let path = folder.path(CERTIFICATE);
        let damaged = |path, reason: String| Error::Damaged { path, reason };
        let key = KeyPair::from_pem(key).map_err(|error| {
            let reason = format!("it is no private key that can sign ({error})");
            damaged(folder.path(KEY), reason)
        })?;
        let not_after =
            not_after(certificate).ok_or_else(|| damaged(path.clone(), "it is no certificate".to_owned()))?;
        if !is_of(certificate, &key) {
            return Err(damaged(
                folder.path(KEY),
                format!("it is not the key of {}", path.display()),
            ));
        }
        if not_after <= SystemTime::now() {
            return Err(Error::Expired { path });
        }
        let issuer = Issuer::from_ca_cert_pem(certificate, key)
            .map_err(|error| damaged(path, format!("it is no authority's certificate ({error})")))?;
        Ok(Authority { issuer, not_after })
    }

    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Makes a node's certificate if it has none, or if it is to be renewed; returns until when it is valid.
    pub(crate) fn node(
        &self,
        folder: &Folder,
        name: &str,
        days: u32,
        renew: bool,
    ) -> Result<(Made, SystemTime), Error> {
        let files = [format!("{name}.pem"), format!("{name}.key")];
        let [certificate, key] = [folder.read(&files[0])?, folder.read(&files[1])?];
        let known = certificate.is_some() || key.is_some();
        if !renew {
            match (certificate, key) {
                (Some(certificate), Some(_)) => {
                    let not_after = not_after(&certificate).ok_or_else(|| Error::Damaged {
                        path: folder.path(&files[0]),
                        reason: format!("it is no certificate: make a new one with --renew {name}"),
                    })?;
                    return Ok((Made::Kept, not_after));
                }
                (None, None) => {}
                (certificate, _) => {
                    let missing = folder.path(&files[usize::from(certificate.is_some())]);
                    let name = name.to_owned();
                    return Err(Error::HalfNode { name, missing });
                }
            }
        }
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node calls and is called.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        let until = (now + DAY * days).min(self.not_after);
        params.not_before = (now - BEFORE).into();
        params.not_after = until.into();
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        folder.write(&files[1], &key.serialize_pem(), Readers::Owner, renew)?;
        folder.write(&files[0], &certificate, Readers::All, renew)?;
        let made = if known { Made::Renewed } else { Made::New };
        Ok((made, not_after(&certificate).unwrap_or(until)))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn not_after(pem: &str) -> Option<SystemTime> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn is_of(pem: &str, key: &KeyPair) -> bool {
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    X509Certificate::from_der(&certificate)
        .is_ok_and(|(_, parsed)| parsed.public_key().subject_public_key.data == key.public_key_raw())
}
