//! Makes what the nodes of a cluster prove themselves with: a private authority, a certificate for each node, and the secret
//! that keys clients' fingerprints.
//!
//! ```text
//! DIR/ca.pem      the authority's certificate: every node has it
//! DIR/ca.key      its key: whoever has it can name nodes, so it stays where this is run
//! DIR/secret      128 bits in hexadecimal: every node has it
//! DIR/NODE.pem    a node's certificate: its first DNS name is the node's name
//! DIR/NODE.key    its key
//! ```
//!
//! Keys are ECDSA on P-256. Files with keys have mode 0600. Nothing is ever overwritten but what [`Options::renew`] names,
//! and each file is the old one or the new one whenever the power fails.
#![forbid(unsafe_code)]

mod error;
mod files;
mod issue;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use error::Error;

use crate::files::Folder;
use crate::issue::Authority;

/// The longest node name, in bytes; as in the protocol.
pub const MAX_NAME: usize = 64;
/// How long a certificate may be valid, in days.
pub const MAX_DAYS: u32 = 3650;

const DAY: Duration = Duration::from_secs(86_400);

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where. Made with mode 0700 if it is not there.
    pub directory: PathBuf,
    /// Nodes to make certificates for. Those that have one keep it.
    pub nodes: Vec<String>,
    /// Nodes to make new keys and certificates for although they have some.
    pub renew: Vec<String>,
    /// How many days a node's certificate is valid (1 to 3,650).
    pub days: u32,
    /// How many days a new authority is valid (1 to 3,650).
    pub authority_days: u32,
}

impl Options {
    /// Certificates for `nodes`, valid for a year, of an authority that is valid for ten.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, nodes: &[&str]) -> Self {
        Options {
            directory: directory.into(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            renew: Vec::new(),
            days: 365,
            authority_days: MAX_DAYS,
        }
    }
}

/// What became of one thing that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was not there, and is now.
    New,
    /// It was there, and was left alone.
    Kept,
    /// It was there, and is another one now.
    Renewed,
}

/// One node's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The node.
    pub name: String,
    /// What became of it.
    pub made: Made,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The authority.
    pub authority: Made,
    /// Until when it is valid; no node's certificate outlives it.
    pub authority_not_after: SystemTime,
    /// The secret.
    pub secret: Made,
    /// The nodes, in the order in which they were named.
    pub nodes: Vec<NodeReport>,
}

/// Makes what is missing.
///
/// Errors: a name that no certificate can have; an authority that is incomplete, damaged or expired; a folder that cannot
/// be written. What was made before an error stays, and the next call goes on from there.
pub fn make(options: &Options) -> Result<Report, Error> {
    check(options)?;
    let folder = Folder::open(&options.directory)?;
    let (authority, made) = Authority::open_or_make(&folder, options.authority_days)?;
    let secret = folder.make_secret()?;
    let named = options.nodes.iter().filter(|node| !options.renew.contains(node));
    let all = named
        .map(|node| (node, false))
        .chain(options.renew.iter().map(|node| (node, true)));
    let mut nodes = Vec::<NodeReport>::new();
    for (name, renew) in all {
        if nodes.iter().any(|done| done.name == *name) {
            continue;
        }
        let (made, not_after) = authority.node(&folder, name, options.days, renew)?;
        nodes.push(NodeReport {
            name: name.clone(),
            made,
            not_after,
        });
    }
    Ok(Report {
        authority: made,
        authority_not_after: authority.not_after(),
        secret,
        nodes,
    })
}

/// The files of a node in a folder that [`make`] made: authority, certificate, key, secret.
#[must_use]
pub fn paths(directory: &Path, node: &str) -> [PathBuf; 4] {
    [
        directory.join("ca.pem"),
        directory.join(format!("{node}.pem")),
        directory.join(format!("{node}.key")),
        directory.join("secret"),
    ]
}

fn check(options: &Options) -> Result<(), Error> {
    for days in [options.days, options.authority_days] {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Error::Days(days));
        }
    }
    for name in options.nodes.iter().chain(&options.renew) {
        check_name(name).map_err(|reason| Error::Name {
            name: name.clone(),
            reason,
        })?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("it must have 1 to 64 bytes");
    }
    if name == "ca" {
        return Err("its files would be the authority's");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err("it is an address, and a node's name stays when its address changes");
    }
    if name.contains('*') || rustls_pki_types::DnsName::try_from(name).is_err() {
        return Err("use letters, digits, '-', '_' and '.', as in a DNS name");
    }
    Ok(())
}
