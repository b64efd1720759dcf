//! From a table to a file.

use std::io;
use std::time::{Duration, Instant};

use super::format::{Encoder, Entry, Header, TRAILER_BYTES, Trailer, size_of};
use super::storage::{Step, Storage, StorageError};

/// A snapshot that was written and is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Its number.
    pub generation: u64,
    /// Entries of each kind: cells, override cells, blocks.
    pub entries: [u64; 3],
    /// Bytes of the file.
    pub bytes: u64,
    /// How long it took, from the first byte to the durable name.
    pub duration: Duration,
}

/// Writes what `export` yields. Whatever fails, the temporary file is thrown away and the earlier generations are as they were.
pub(crate) fn write(
    storage: &mut dyn Storage,
    header: &Header,
    export: impl FnOnce(&mut dyn FnMut(Entry) -> io::Result<()>) -> io::Result<()>,
) -> Result<Written, StorageError> {
    let start = Instant::now();
    let written = steps(storage, header, export);
    if written.is_err() {
        storage.discard();
    }
    let (trailer, bytes) = written?;
    Ok(Written {
        generation: header.generation,
        entries: trailer.entries,
        bytes,
        duration: start.elapsed(),
    })
}

fn steps(
    storage: &mut dyn Storage,
    header: &Header,
    export: impl FnOnce(&mut dyn FnMut(Entry) -> io::Result<()>) -> io::Result<()>,
) -> Result<(Trailer, u64), StorageError> {
    let at = |step| move |error| StorageError { step, error };
    let page = header
        .encode()
        .map_err(|error| at(Step::Write)(io::Error::other(error.to_string())))?;
    let mut temp = storage
        .create(size_of(header.cells_estimate))
        .map_err(at(Step::Create))?;
    let mut bytes = 0;
    let append = |part: &[u8]| {
        bytes += part.len() as u64;
        temp.append(part)
    };
    let fill = || {
        let mut encoder = Encoder::new(&page, header.generation, append)?;
        export(&mut |entry| encoder.add(entry))?;
        encoder.end()
    };
    let trailer = fill().map_err(at(Step::Write))?;
    debug_assert!(bytes >= (page.len() + TRAILER_BYTES) as u64);
    temp.sync().map_err(at(Step::Sync))?;
    storage.keep_previous().map_err(at(Step::KeepPrevious))?;
    storage.publish().map_err(at(Step::Rename))?;
    storage.sync_directory().map_err(at(Step::SyncDirectory))?;
    Ok((trailer, bytes))
}
