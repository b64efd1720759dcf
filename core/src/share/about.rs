//! What a shared table says about itself, written and read.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64 as Plain, Ordering};

use crate::clock::TimeBase;
use crate::hash::HashKey;
use crate::raw::{About, Header, MAX_LIMITS, OVERRIDE_LIMITS, SLOTS};

/// "RLTABLE" and a byte that no text has.
const MAGIC: u64 = u64::from_le_bytes(*b"RLTABLE\x1a");
/// Raised whenever the meaning of any word changes: of a cell, a record, a key, or the header.
const LAYOUT_VERSION: u64 = 1;

/// Differs wherever two builds would not understand each other's table: it is in the name of the file.
pub(super) const LAYOUT: u64 = {
    let facts = [
        LAYOUT_VERSION,
        size_of::<Header>() as u64,
        crate::raw::LINE_BYTES as u64,
        crate::raw::CELLS as u64,
        MAX_LIMITS as u64,
        OVERRIDE_LIMITS as u64,
        SLOTS as u64,
        // Words are kept as this processor keeps them.
        u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    // FNV-1a over words.
    let (mut hash, mut i) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while i < facts.len() {
        hash = (hash ^ facts[i]).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
};

/// This boot of this machine, and the clocks that this process sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Here {
    boot_id: [u64; 2],
    time_namespace: u64,
}

impl Here {
    pub(super) fn now() -> Self {
        // Where it cannot be read it is the same for all who cannot read it.
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let half = |range| {
            digits
                .get(range)
                .and_then(|half: &str| u64::from_str_radix(half, 16).ok())
                .unwrap_or(0)
        };
        Here {
            boot_id: [half(0..16), half(16..32)],
            time_namespace: std::fs::metadata("/proc/self/ns/time").map_or(0, |data| data.ino()),
        }
    }
}

/// What two processes have to agree on, beside their limits.
pub(super) struct Facts {
    pub(super) max_keys: u64,
    pub(super) limits: usize,
    pub(super) hash_key: HashKey,
    pub(super) base: TimeBase,
    pub(super) created_s: u64,
}

fn get(word: &Plain) -> u64 {
    // Relaxed: written before the file got its name, or before the fork.
    word.load(Ordering::Relaxed)
}

impl Facts {
    /// For a table that nobody else sees yet.
    pub(super) fn write(&self, about: &About) {
        let here = Here::now();
        let [key_0, key_1] = self.hash_key.to_words();
        for (word, value) in [
            (&about.magic, MAGIC),
            (&about.layout, LAYOUT),
            (&about.boot_id[0], here.boot_id[0]),
            (&about.boot_id[1], here.boot_id[1]),
            (&about.time_namespace, here.time_namespace),
            (&about.created_s, self.created_s),
            (&about.max_keys, self.max_keys),
            (&about.limits, self.limits as u64),
            (&about.hash_key[0], key_0),
            (&about.hash_key[1], key_1),
            (&about.time_source, self.base.source),
            (&about.time_origin, self.base.origin),
            (&about.time_scale, self.base.scale),
            (&about.os_origin, self.base.os_origin),
        ] {
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn read(about: &About) -> Self {
        Facts {
            max_keys: get(&about.max_keys),
            limits: get(&about.limits) as usize,
            hash_key: HashKey::from_words([get(&about.hash_key[0]), get(&about.hash_key[1])]),
            base: TimeBase {
                source: get(&about.time_source),
                origin: get(&about.time_origin),
                scale: get(&about.time_scale),
                os_origin: get(&about.os_origin),
            },
            created_s: get(&about.created_s),
        }
    }
}

/// Why a file is of no use to this process.
pub(super) enum Unusable {
    /// It is no table, or not a whole one.
    Damaged,
    /// It is from before the machine was started: its times mean nothing.
    OtherBoot,
    /// Its processes see other clocks than this one.
    OtherClocks,
}

pub(super) fn check(about: &About) -> Result<(), Unusable> {
    if get(&about.magic) != MAGIC || get(&about.layout) != LAYOUT {
        return Err(Unusable::Damaged);
    }
    let here = Here::now();
    if [get(&about.boot_id[0]), get(&about.boot_id[1])] != here.boot_id {
        return Err(Unusable::OtherBoot);
    }
    if get(&about.time_namespace) != here.time_namespace {
        return Err(Unusable::OtherClocks);
    }
    Ok(())
}
