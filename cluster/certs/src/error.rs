//! What can go wrong. Each text says what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why something was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A name that no node can have.
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A number of days out of range.
    Days(u32),
    /// The authority's certificate is there, and its key is not, or the other way round.
    HalfAuthority {
        /// The file that is there.
        there: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The same of a node.
    HalfNode {
        /// The node.
        name: String,
        /// The file that is missing.
        missing: PathBuf,
    },
    /// A file that is not what its name says.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authority has expired.
    Expired {
        /// Its certificate.
        path: PathBuf,
    },
    /// The system refused a file or a folder.
    File {
        /// What was to be done: "read", "write", "make".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A certificate could not be made.
    Making(String),
}

impl Error {
    /// Whether whoever asked asked for something impossible; otherwise a file or the system is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Error::Name { .. } | Error::Days(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name { name, reason } => write!(f, "\"{}\" is no node name: {reason}", name.escape_debug()),
            Error::Days(days) => write!(f, "a certificate cannot be valid for {days} days: use 1 to 3650"),
            Error::HalfAuthority { there, missing } => write!(
                f,
                "{} is here and {} is not: nodes are added where both are kept; to begin a new cluster use another folder",
                there.display(),
                missing.display()
            ),
            Error::HalfNode { name, missing } => write!(
                f,
                "{} is missing, which belongs to the node \"{name}\": make both files anew with --renew {name}",
                missing.display()
            ),
            Error::Damaged { path, reason } => write!(f, "{}: {reason}", path.display()),
            Error::Expired { path } => write!(
                f,
                "{} has expired: make a new authority in another folder, and let nodes believe both while they change over",
                path.display()
            ),
            Error::File { what, path, error } => write!(f, "cannot {what} {}: {error}", path.display()),
            Error::Making(reason) => write!(f, "cannot make a certificate: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::File { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Error::Making(error.to_string())
    }
}
