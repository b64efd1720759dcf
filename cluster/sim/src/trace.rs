//! The hash of everything that happened, in order: two runs with one hash were one run.

use crate::rng::mix;

/// A running hash. Not cryptographic: it guards against accidents.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
}

impl Trace {
    /// Something happened.
    pub fn note(&mut self, what: u64, at: u64, detail: u64) {
        self.hash = mix(self.hash.rotate_left(23) ^ mix(at ^ mix(detail ^ (what << 56))));
    }

    /// Bytes moved.
    pub fn bytes(&mut self, what: u64, at: u64, bytes: &[u8]) {
        let mut detail = bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
            detail = (detail.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.note(what, at, detail);
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
