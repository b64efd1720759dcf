//! What a chunk keeps: debts and blocks, by kind.

use super::{CHUNK_BYTES, CHUNK_HEAD, u64_at};
use crate::raw::Debt;

const DEBT_MASK: u64 = (1 << 56) - 1;

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

    pub(super) fn of(number: u32) -> Option<Self> {
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

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
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

    pub(super) fn decode(kind: Kind, bytes: &[u8]) -> Self {
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
