//! Every byte of a snapshot file; `docs/snapshot-format.md` draws them.
//!
//! ```text
//! | header page, 4,096 bytes | chunk 0, 64 KiB | chunk 1 | ... | trailer, 64 bytes |
//! ```
//!
//! Everything lies at a place that its number tells, so that one damaged chunk does not hide the others. All numbers are
//! little-endian.

use std::fmt;

use ratelimit_model::MAX_TOLERANCE_NS;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use super::moment::Moment;
use crate::raw::{Debt, MAX_LIMITS};

/// The format that is written. A file with a later one is left alone.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of the header page.
pub const HEADER_BYTES: usize = 4_096;
/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 65_536;
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 64;

/// A byte that no text has, three letters, and both kinds of line ends around the byte that ends a text: a transfer that takes
/// the file for text shows at once.
const MAGIC: [u8; 8] = [0x8f, b'R', b'L', b'S', 0x0d, 0x0a, 0x1a, 0x0a];
const CHUNK_MAGIC: [u8; 4] = *b"RLSc";
const TRAILER_MAGIC: [u8; 8] = *b"RLSend\r\n";
/// Magic, version, length of the body, checksum.
const HEADER_HEAD: usize = 20;
const CHUNK_HEAD: usize = 32;
/// What the numbers in a file mean beyond their places. Another meaning is another text.
const LAYOUT: &[u8] =
    b"fingerprint siphash-1-3 64; several limits: odd multiplier, index in the low 3 bits; debts in ns";

/// What a snapshot says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// One more than the snapshot before.
    pub generation: u64,
    /// When it was made: debts are told as of then.
    pub made: Moment,
    /// Says whether a secret is the one that keyed the fingerprints, and nothing about it.
    pub key_check: u64,
    /// The limits that debts are told in, in their order.
    pub limits: Vec<LimitLine>,
    /// How many clients had debt, from a sample.
    pub cells_estimate: u64,
    /// The version of the crate that wrote it.
    pub written_by: String,
}

/// One limit, as far as its debts need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitLine {
    /// Its text form.
    pub text: String,
    /// Requests at one instant.
    pub burst: u64,
    /// How long an empty bucket takes to fill.
    pub tolerance_ns: u64,
}

/// The body of the header page, as postcard writes it. Fields are never reordered; another list is another version.
#[derive(Serialize, Deserialize)]
struct HeaderBody {
    layout: u64,
    generation: u64,
    boot_id: u128,
    boot_ns: u64,
    wall_ns: u64,
    key_check: u64,
    limits: Vec<LimitLine>,
    cells_estimate: u64,
    written_by: String,
}

/// What the entries of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Debts under the limits for all.
    Cells = 1,
    /// Debts under clients' own limits.
    Overrides = 2,
    /// Blocks.
    Blocks = 3,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 3] = [Kind::Cells, Kind::Overrides, Kind::Blocks];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u32 == number)
    }

    /// Bytes of one entry.
    #[must_use]
    pub const fn entry_bytes(self) -> usize {
        match self {
            Kind::Cells | Kind::Blocks => 16,
            Kind::Overrides => 24,
        }
    }

    /// How many entries fit a chunk.
    #[must_use]
    pub const fn capacity(self) -> usize {
        (CHUNK_BYTES - CHUNK_HEAD) / self.entry_bytes()
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Cells => "cells",
            Kind::Overrides => "override cells",
            Kind::Blocks => "blocks",
        }
    }
}

/// What a chunk keeps of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What is left to wait under one of the limits for all.
    Cell {
        /// The keyed fingerprint.
        key: u64,
        /// Which limit.
        limit: u8,
        /// Nanoseconds until the bucket was full.
        debt_ns: u64,
    },
    /// The same under the client's own limit.
    Override {
        /// The keyed fingerprint.
        key: u64,
        /// Nanoseconds until the bucket was full.
        debt_ns: u64,
        /// How long that bucket takes to fill.
        tolerance_ns: u64,
    },
    /// A client that was blocked.
    Block {
        /// The fingerprint of the block.
        key: u64,
        /// Nanoseconds until it was not.
        left_ns: u64,
    },
}

impl From<Debt> for Entry {
    fn from(debt: Debt) -> Self {
        match debt {
            Debt::Limit { key, limit, debt_ns } => Entry::Cell { key, limit, debt_ns },
            Debt::Override {
                key,
                debt_ns,
                tolerance_ns,
            } => Entry::Override {
                key,
                debt_ns,
                tolerance_ns,
            },
            Debt::Block { key, left_ns } => Entry::Block { key, left_ns },
        }
    }
}

impl Entry {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Entry::Cell { .. } => Kind::Cells,
            Entry::Override { .. } => Kind::Overrides,
            Entry::Block { .. } => Kind::Blocks,
        }
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let mut word = |word: u64| into.extend(word.to_le_bytes());
        match *self {
            Entry::Cell { key, limit, debt_ns } => {
                word(key);
                word((u64::from(limit) << 56) | (debt_ns & DEBT_MASK));
            }
            Entry::Override {
                key,
                debt_ns,
                tolerance_ns,
            } => {
                word(key);
                word(debt_ns);
                word(tolerance_ns);
            }
            Entry::Block { key, left_ns } => {
                word(key);
                word(left_ns);
            }
        }
    }

    fn decode(kind: Kind, bytes: &[u8]) -> Self {
        let (key, second) = (u64_at(bytes, 0), u64_at(bytes, 8));
        match kind {
            Kind::Cells => Entry::Cell {
                key,
                limit: (second >> 56) as u8,
                debt_ns: second & DEBT_MASK,
            },
            Kind::Overrides => Entry::Override {
                key,
                debt_ns: second,
                tolerance_ns: u64_at(bytes, 16),
            },
            Kind::Blocks => Entry::Block { key, left_ns: second },
        }
    }
}

const DEBT_MASK: u64 = (1 << 56) - 1;

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Trailer {
    /// As in the header.
    pub generation: u64,
    /// How many chunks there are.
    pub chunks: u64,
    /// How many entries of each kind, in the order of [`Kind::ALL`].
    pub entries: [u64; 3],
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// It does not begin as a snapshot does.
    NotASnapshot,
    /// It was written by a later version of this library.
    LaterFormat {
        /// The version of its format.
        version: u32,
    },
    /// Its numbers mean something else than this version takes them for.
    OtherLayout,
    /// The header page is not as it was written.
    Header,
    /// The file is cut off, or has grown.
    Length,
    /// Chunks are not as they were written.
    Chunks {
        /// How many.
        damaged: u64,
    },
    /// The trailer is not as it was written.
    Trailer,
    /// Some byte is not as it was written.
    Hash,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NotASnapshot => f.write_str("it is no snapshot"),
            Damage::LaterFormat { version } => {
                write!(f, "its format {version} is later than this version's {FORMAT_VERSION}")
            }
            Damage::OtherLayout => f.write_str("its numbers mean something else to this version"),
            Damage::Header => f.write_str("its header is damaged"),
            Damage::Length => f.write_str("it is cut off or has grown"),
            Damage::Chunks { damaged } => write!(f, "{damaged} of its chunks are damaged"),
            Damage::Trailer => f.write_str("its trailer is damaged"),
            Damage::Hash => f.write_str("its checksum does not match"),
        }
    }
}

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

/// Over all of the chunk but the checksum itself.
fn chunk_crc(chunk: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&chunk[..28]);
    crc.update(&chunk[32..]);
    crc.finalize()
}

impl Header {
    /// The header page.
    ///
    /// Errors: the limits' texts are too long for it; those of this library never are.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let body = HeaderBody {
            layout: xxh3_64(LAYOUT),
            generation: self.generation,
            boot_id: self.made.boot_id,
            boot_ns: self.made.boot_ns,
            wall_ns: self.made.wall_ns,
            key_check: self.key_check,
            limits: self.limits.clone(),
            cells_estimate: self.cells_estimate,
            written_by: self.written_by.clone(),
        };
        let mut page = vec![0; HEADER_BYTES];
        let used = postcard::to_slice(&body, &mut page[HEADER_HEAD..])?.len() as u32;
        page[..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&used.to_le_bytes());
        let crc = header_crc(&page);
        page[16..20].copy_from_slice(&crc.to_le_bytes());
        Ok(page)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() < 12 || bytes[..8] != MAGIC {
            return Err(Damage::NotASnapshot);
        }
        // Before the checksum: a later format may have another.
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(Damage::LaterFormat { version });
        }
        let page = bytes.get(..HEADER_BYTES).ok_or(Damage::Length)?;
        if version == 0 || u32_at(page, 16) != header_crc(page) {
            return Err(Damage::Header);
        }
        let used = u32_at(page, 12) as usize;
        let body = page[HEADER_HEAD..].get(..used).ok_or(Damage::Header)?;
        let body: HeaderBody = postcard::from_bytes(body).map_err(|_| Damage::Header)?;
        if body.layout != xxh3_64(LAYOUT) {
            return Err(Damage::OtherLayout);
        }
        let sensible = |limit: &LimitLine| (1..=MAX_TOLERANCE_NS).contains(&limit.tolerance_ns);
        if body.limits.is_empty() || body.limits.len() > MAX_LIMITS || !body.limits.iter().all(sensible) {
            return Err(Damage::Header);
        }
        Ok(Header {
            generation: body.generation,
            made: Moment {
                boot_id: body.boot_id,
                boot_ns: body.boot_ns,
                wall_ns: body.wall_ns,
            },
            key_check: body.key_check,
            limits: body.limits,
            cells_estimate: body.cells_estimate,
            written_by: body.written_by,
        })
    }
}

/// Over all of the page but the checksum itself.
fn header_crc(page: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&page[..16]);
    crc.update(&page[HEADER_HEAD..]);
    crc.finalize()
}

impl Trailer {
    fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == TRAILER_BYTES && bytes[..8] == TRAILER_MAGIC).then(|| Trailer {
            generation: u64_at(bytes, 8),
            chunks: u64_at(bytes, 16),
            entries: std::array::from_fn(|kind| u64_at(bytes, 24 + 8 * kind)),
        })
    }
}

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

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
