//! With whom a table is shared: what a caller asks for.

use std::path::PathBuf;

/// Where named tables lie if nothing else is said: the file system in memory that every Linux has.
pub const SHARE_DIRECTORY: &str = "/dev/shm";

/// The number of clients that a shared table has room for if nothing else is said: about 8 MiB for one limit. All of it is
/// taken at the start.
pub const SHARED_MAX_KEYS: u64 = 250_000;

/// With whom a table is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum With {
    /// With the processes that are forked from this one later.
    Children,
    /// With all processes of this user on this host that give the same name.
    Name {
        /// 1 to 100 letters, digits, dots, hyphens and underscores.
        name: String,
        /// A directory on a file system in memory.
        directory: PathBuf,
    },
}

/// How a table is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// With whom.
    pub with: With,
    /// Whether these limits are put in force if the table has others and other processes use it.
    pub replace_limits: bool,
    /// Whether the hash key was chosen by the caller, so that a table with another one is of no use.
    pub hash_key_matters: bool,
    /// The same for the clock.
    pub clock_matters: bool,
}
