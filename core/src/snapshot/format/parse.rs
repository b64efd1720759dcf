//! A whole file as it was found: every byte checked before anything in it is believed.

use xxhash_rust::xxh3::xxh3_128;

use super::entry::{Entry, Kind};
use super::{
    CHUNK_BYTES, CHUNK_HEAD, CHUNK_MAGIC, Damage, HEADER_BYTES, Header, TRAILER_BYTES, Trailer, array_at, chunk_crc,
    u32_at, u64_at,
};

/// The state of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkHealth {
    /// As it was written.
    Intact {
        /// What it holds.
        kind: Kind,
        /// How many.
        count: usize,
    },
    /// Its bytes do not match its checksum, or its head makes no sense.
    Damaged,
    /// Intact, but of another snapshot: the disk kept an old sector.
    Stale {
        /// The generation it belongs to.
        generation: u64,
    },
    /// Intact, but not at its place.
    Misplaced {
        /// The place it belongs to.
        index: u64,
    },
}

/// A snapshot whose header could be read, with the state of all the rest. Nothing in it is believed before it was checked.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    bytes: &'a [u8],
    header: Header,
    chunks: Vec<ChunkHealth>,
    trailer: Option<Trailer>,
    damage: Option<Damage>,
}

impl<'a> Snapshot<'a> {
    /// Reads and checks a whole file.
    ///
    /// Errors: the header cannot be read, so that nothing else means anything. Other damage: see [`damage`](Snapshot::damage).
    /// Cost: every byte is read twice; nothing is allocated in proportion to what the file claims.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Damage> {
        let header = Header::decode(bytes)?;
        let body = &bytes[HEADER_BYTES..];
        let (chunks, rest) = body.as_chunks::<CHUNK_BYTES>();
        let healths: Vec<ChunkHealth> = chunks
            .iter()
            .enumerate()
            .map(|(index, chunk)| health(chunk, index as u64, header.generation))
            .collect();
        let trailer = Trailer::decode(rest);
        let damage = whole_damage(bytes, &header, &healths, trailer.as_ref(), rest.len());
        Ok(Snapshot {
            bytes,
            header,
            chunks: healths,
            trailer,
            damage,
        })
    }

    /// What it says about itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The state of each chunk.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkHealth] {
        &self.chunks
    }

    /// The trailer, if it makes sense.
    #[must_use]
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// What is wrong; `None` if every byte is as it was written.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }

    /// The entries of all intact chunks.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let (chunks, _) = self.bytes[HEADER_BYTES..].as_chunks::<CHUNK_BYTES>();
        chunks.iter().zip(&self.chunks).flat_map(|(chunk, health)| {
            let (kind, count) = match *health {
                ChunkHealth::Intact { kind, count } => (kind, count),
                _ => (Kind::Cells, 0),
            };
            let entries = chunk[CHUNK_HEAD..].chunks_exact(kind.entry_bytes()).take(count);
            entries.map(move |bytes| Entry::decode(kind, bytes))
        })
    }
}

fn whole_damage(
    bytes: &[u8],
    header: &Header,
    chunks: &[ChunkHealth],
    trailer: Option<&Trailer>,
    rest: usize,
) -> Option<Damage> {
    let damaged = chunks
        .iter()
        .filter(|health| !matches!(health, ChunkHealth::Intact { .. }))
        .count() as u64;
    if damaged > 0 {
        return Some(Damage::Chunks { damaged });
    }
    if rest != TRAILER_BYTES {
        return Some(Damage::Length);
    }
    let Some(trailer) = trailer else {
        return Some(Damage::Trailer);
    };
    let mut entries = [0; 3];
    for health in chunks {
        if let ChunkHealth::Intact { kind, count } = *health {
            entries[kind as usize - 1] += count as u64;
        }
    }
    let hashed = bytes.len() - 16;
    let hash = u128::from_le_bytes(array_at(bytes, hashed));
    if xxh3_128(&bytes[..hashed]) != hash {
        return Some(Damage::Hash);
    }
    let says = Trailer {
        generation: header.generation,
        chunks: chunks.len() as u64,
        entries,
    };
    (*trailer != says).then_some(Damage::Trailer)
}

fn health(chunk: &[u8; CHUNK_BYTES], index: u64, generation: u64) -> ChunkHealth {
    if chunk[..4] != CHUNK_MAGIC || u32_at(chunk, 28) != chunk_crc(chunk) {
        return ChunkHealth::Damaged;
    }
    let count = u32_at(chunk, 24) as usize;
    let Some(kind) = Kind::of(u32_at(chunk, 4)).filter(|kind| count <= kind.capacity()) else {
        return ChunkHealth::Damaged;
    };
    let (its_index, its_generation) = (u64_at(chunk, 8), u64_at(chunk, 16));
    if its_generation != generation {
        ChunkHealth::Stale {
            generation: its_generation,
        }
    } else if its_index != index {
        ChunkHealth::Misplaced { index: its_index }
    } else {
        ChunkHealth::Intact { kind, count }
    }
}
