//! Snapshots: what is left of each debt, in a file that survives the process.
//!
//! The live table is memory. A snapshot is written beside it now and then, without stopping a decision, and read once, when a
//! limiter is made. The promises: a crash costs at most one burst per key; no file locks a client out for longer than its own
//! window; a damaged file is never believed and never fatal; a full disk changes no decision and harms no earlier snapshot.
//!
//! | file | subject |
//! |---|---|
//! | `format` | every byte of the file, drawn in `docs/snapshot-format.md` |
//! | `storage` | the few things asked of a disk |
//! | `disk` | a real one |
//! | [`simulated`] | one that loses power, fills up and fails, for tests |
//! | `moment` | when a snapshot was made, and how long ago that is |
//! | `key_file` | the secret beside the snapshot |
//! | `write` | from a table to a file |
//! | `restore` | from a file to a table |

mod disk;
mod format;
mod key_file;
mod moment;
mod restore;
pub mod simulated;
mod storage;
mod write;

use std::time::Duration;

/// How the keeping of snapshots goes, in this process.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Snapshots written and durable.
    pub written: u64,
    /// Attempts that failed.
    pub errors: u64,
    /// The number of the last one written; 0 before the first.
    pub generation: u64,
    /// Its bytes.
    pub last_bytes: u64,
    /// Its debts and blocks.
    pub last_cells: u64,
    /// How long it took.
    pub last_duration: Duration,
    /// How long ago everything that had been decided was in the file; `None` before the first time.
    pub age: Option<Duration>,
    /// What was restored when the limiter was made.
    pub restored: Restored,
}

impl SnapshotStats {
    /// Made from its parts by who keeps the snapshot.
    #[doc(hidden)]
    #[must_use]
    pub fn new(restored: Restored) -> Self {
        SnapshotStats {
            written: 0,
            errors: 0,
            generation: 0,
            last_bytes: 0,
            last_cells: 0,
            last_duration: Duration::ZERO,
            age: None,
            restored,
        }
    }
}

pub use disk::{Disk, OpenError};
pub use format::{
    CHUNK_BYTES, ChunkHealth, Damage, Entry, FORMAT_VERSION, HEADER_BYTES, Header, Kind, LimitLine, Snapshot,
    TRAILER_BYTES, Trailer,
};
pub use key_file::{KeyFileError, KeyFileState, hash_key_of, keep_hash_key, key_file_state};
pub use moment::Moment;
pub(crate) use restore::{Found, find};
pub use restore::{Outcome, Restore, RestoreRefused, Restored, last_generation};
pub use storage::{Step, Storage, StorageError, Temp, Which};
pub use write::Written;
pub(crate) use write::write;
