//! Why a driver cannot start. Each text says what to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ratelimit_protocol::ConfigError;

/// Why a driver cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The protocol's part of the configuration.
    Node(ConfigError),
    /// A seed that is no address.
    Seed {
        /// The seed.
        seed: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An address to advertise that is none, or none that can be found.
    Advertise {
        /// The address, if one was given.
        address: Option<String>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A time or size of [`Tuning`](crate::Tuning).
    Tuning {
        /// Its name.
        name: &'static str,
        /// What to do.
        reason: &'static str,
    },
    /// A certificate, key or authority that is of no use.
    Certificate(CertificateError),
    /// The system does not let this process listen there.
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's word.
        error: io::Error,
    },
    /// The file that remembers the node's life.
    IncarnationFile {
        /// Its name.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The system gives no thread, descriptor or randomness.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Node(error) => error.fmt(f),
            Error::Seed { seed, reason } => write!(
                f,
                "the seed \"{}\" makes no sense, {reason}: write it as 10.0.0.1:7001, [::1]:7001 or name:7001",
                seed.escape_debug()
            ),
            Error::Advertise {
                address: Some(address),
                reason,
            } => write!(
                f,
                "cannot advertise \"{}\", {reason}: write it as 10.0.0.1:7001, name:7001 or name",
                address.escape_debug()
            ),
            Error::Advertise { address: None, reason } => {
                write!(
                    f,
                    "{reason}: set `advertise` to the address that other nodes reach this one at"
                )
            }
            Error::Tuning { name, reason } => write!(f, "{name} is out of range: {reason}"),
            Error::Certificate(error) => error.fmt(f),
            Error::Listen { address, error } => write!(
                f,
                "cannot listen on UDP {address}: {error}; choose another address or port with `listen`, or stop who has it"
            ),
            Error::IncarnationFile { path, error } => write!(
                f,
                "cannot keep this node's life in {}: {error}; it needs a directory that this process may write to",
                path.display()
            ),
            Error::System(error) => write!(f, "the system gives no thread, descriptor or randomness: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Node(error) => Some(error),
            Error::Certificate(error) => Some(error),
            Error::Listen { error, .. } | Error::IncarnationFile { error, .. } | Error::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Node(error)
    }
}

impl From<CertificateError> for Error {
    fn from(error: CertificateError) -> Self {
        Error::Certificate(error)
    }
}

/// Why certificates are of no use. The text names the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError(pub(crate) String);

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CertificateError {}
