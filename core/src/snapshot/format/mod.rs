//! Every byte of a snapshot file; `docs/snapshot-format.md` draws them.
//!
//! ```text
//! | header page, 4,096 bytes | chunk 0, 64 KiB | chunk 1 | ... | trailer, 64 bytes |
//! ```
//!
//! Everything lies at a place that its number tells, so that one damaged chunk does not hide the others. All numbers are
//! little-endian.

mod encode;
mod entry;
mod parse;

use std::fmt;

use ratelimit_model::MAX_TOLERANCE_NS;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::encode::{Encoder, size_of};
pub use self::entry::{Entry, Kind};
pub use self::parse::{ChunkHealth, Snapshot};
use super::moment::Moment;
use crate::raw::MAX_LIMITS;

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
