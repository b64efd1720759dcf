//! The few things that are asked of a disk, so that a disk which loses power or fails can stand in for it.

use std::fmt;
use std::io;

/// Which of the two generations that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// `NAME`.
    Newest,
    /// `NAME.1`.
    Previous,
}

/// Where snapshots are kept. One process writes; calls come one at a time, in the order of [`Step`].
///
/// Whatever fails, the writer calls [`discard`](Storage::discard) and starts over with a new file at another time. Nothing is
/// ever synced again after it failed: the system may have marked the lost pages as clean, so that the second time lies.
pub trait Storage: Send {
    /// A new, empty file beside the snapshot, of which about `bytes` are expected.
    fn create(&mut self, bytes: u64) -> io::Result<Box<dyn Temp + '_>>;
    /// Gives the newest generation its second name, `NAME.1`. Nothing to do if there is none.
    fn keep_previous(&mut self) -> io::Result<()>;
    /// Gives the new file the name of the newest generation.
    fn publish(&mut self) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_directory(&mut self) -> io::Result<()>;
    /// Throws the new file away, if there is one. Fails silently: who calls it has a failure to report already.
    fn discard(&mut self);
    /// The whole content of a generation; `None` if there is no such file.
    fn read(&mut self, which: Which) -> io::Result<Option<Vec<u8>>>;
}

/// A file that is being written.
pub trait Temp {
    /// Adds bytes at the end: all of them or an error.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable, and closes the file. Called once.
    fn sync(self: Box<Self>) -> io::Result<()>;
}

/// The steps of writing, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A temporary file is made and given its room.
    Create,
    /// It is filled.
    Write,
    /// It is made durable.
    Sync,
    /// The newest generation gets the name of the previous.
    KeepPrevious,
    /// The new file gets the name of the newest.
    Rename,
    /// The names are made durable.
    SyncDirectory,
}

impl Step {
    fn what(self) -> &'static str {
        match self {
            Step::Create => "make room for",
            Step::Write => "write",
            Step::Sync => "make durable",
            Step::KeepPrevious => "keep the previous generation beside",
            Step::Rename => "rename",
            Step::SyncDirectory => "make the name durable of",
        }
    }
}

/// A snapshot could not be written. The one before is as it was.
#[derive(Debug)]
pub struct StorageError {
    /// What was tried.
    pub step: Step,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} the snapshot ({}): decisions go on and the snapshot before is kept; free space or mend the disk",
            self.step.what(),
            self.error
        )
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
