//! From entries to the bytes of a file.

use xxhash_rust::xxh3::Xxh3;

use super::entry::{Entry, Kind};
use super::{CHUNK_BYTES, CHUNK_HEAD, CHUNK_MAGIC, HEADER_BYTES, TRAILER_BYTES, TRAILER_MAGIC, Trailer, chunk_crc};

/// Turns entries into the bytes of a file, and hands these on in their order.
pub(crate) struct Encoder<W> {
    generation: u64,
    /// A chunk of each kind under way.
    chunks: [Vec<u8>; 3],
    hash: Xxh3,
    trailer: Trailer,
    write: W,
}

impl<E, W: FnMut(&[u8]) -> Result<(), E>> Encoder<W> {
    /// Begins with the header page.
    pub(crate) fn new(page: &[u8], generation: u64, write: W) -> Result<Self, E> {
        let mut encoder = Encoder {
            generation,
            chunks: std::array::from_fn(|_| Vec::new()),
            hash: Xxh3::new(),
            trailer: Trailer {
                generation,
                ..Trailer::default()
            },
            write,
        };
        encoder.put(page)?;
        Ok(encoder)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.hash.update(bytes);
        (self.write)(bytes)
    }

    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), E> {
        let kind = entry.kind();
        let chunk = &mut self.chunks[kind as usize - 1];
        if chunk.is_empty() {
            chunk.reserve_exact(CHUNK_BYTES);
            chunk.resize(CHUNK_HEAD, 0);
        }
        entry.encode(chunk);
        if chunk.len() + kind.entry_bytes() > CHUNK_BYTES {
            self.end_chunk(kind)?;
        }
        Ok(())
    }

    fn end_chunk(&mut self, kind: Kind) -> Result<(), E> {
        let mut chunk = std::mem::take(&mut self.chunks[kind as usize - 1]);
        if chunk.is_empty() {
            return Ok(());
        }
        let count = (chunk.len() - CHUNK_HEAD) / kind.entry_bytes();
        chunk.resize(CHUNK_BYTES, 0);
        chunk[..4].copy_from_slice(&CHUNK_MAGIC);
        chunk[4..8].copy_from_slice(&(kind as u32).to_le_bytes());
        chunk[8..16].copy_from_slice(&self.trailer.chunks.to_le_bytes());
        chunk[16..24].copy_from_slice(&self.generation.to_le_bytes());
        chunk[24..28].copy_from_slice(&(count as u32).to_le_bytes());
        let crc = chunk_crc(&chunk);
        chunk[28..32].copy_from_slice(&crc.to_le_bytes());
        self.trailer.chunks += 1;
        self.trailer.entries[kind as usize - 1] += count as u64;
        self.put(&chunk)?;
        // The buffer is used again.
        chunk.clear();
        self.chunks[kind as usize - 1] = chunk;
        Ok(())
    }

    /// Ends with the trailer.
    pub(crate) fn end(mut self) -> Result<Trailer, E> {
        for kind in Kind::ALL {
            self.end_chunk(kind)?;
        }
        let Trailer {
            generation,
            chunks,
            entries,
        } = self.trailer;
        let mut bytes = TRAILER_MAGIC.to_vec();
        for number in [generation, chunks].into_iter().chain(entries) {
            bytes.extend(number.to_le_bytes());
        }
        self.hash.update(&bytes);
        bytes.extend(self.hash.digest128().to_le_bytes());
        (self.write)(&bytes)?;
        Ok(self.trailer)
    }
}

/// About how many bytes a snapshot of so many cells has.
pub(crate) fn size_of(cells: u64) -> u64 {
    let chunks = cells.div_ceil(Kind::Cells.capacity() as u64);
    (HEADER_BYTES + TRAILER_BYTES) as u64 + chunks.saturating_mul(CHUNK_BYTES as u64)
}
