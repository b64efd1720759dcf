//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::events::tell;

/// Files beside connections: snapshots, locks, the runtime's own.
const OTHERS: usize = 512;

/// Raises the limit of open files as far as the system lets us, and says so if connections may need more.
pub(crate) fn raise(connections: usize) {
    let needed = (connections + OTHERS) as u64;
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let mut allowed = limit.current.unwrap_or(u64::MAX);
    if allowed < needed {
        let wanted = Rlimit {
            current: Some(needed.min(most)),
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            allowed = needed.min(most);
        }
    }
    if allowed < needed {
        tell!(FEW_FILES, allowed, needed);
    }
}
