//! Looking into a snapshot file, for tools. A limiter reads and writes its own: see [`Builder::persist`](crate::Builder::persist).

pub use ratelimit_core::snapshot::{
    CHUNK_BYTES, ChunkHealth, Damage, Entry, FORMAT_VERSION, HEADER_BYTES, Header, KeyFileState, Kind, LimitLine,
    Moment, Snapshot, TRAILER_BYTES, Trailer, key_file_state,
};
