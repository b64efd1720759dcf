//! What campaigns on shared tables have in common.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use ratelimit::{Limit, Limiter};

/// So many requests, and no refill while a campaign looks.
pub(crate) fn budget(requests: u64) -> Limit {
    Limit::new(1, Duration::from_secs(3_600))
        .map(|limit| limit.burst(requests))
        .unwrap_or_else(|_| unreachable!("one request per hour is a limit"))
}

/// Random numbers that can be repeated: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// A shared table with a name of its own, removed at the end.
#[derive(Debug)]
pub(crate) struct Named(String);

impl Named {
    pub(crate) fn new(what: &str) -> Self {
        Named(format!("fault-{what}-{}", std::process::id()))
    }

    pub(crate) fn open(&self, limit: Limit, keys: usize) -> Result<Limiter, String> {
        Limiter::builder()
            .limit(limit)
            .max_keys(keys)
            .share(&self.0)
            .build()
            .map_err(|error| error.to_string())
    }

    pub(crate) fn remove(&self) -> Result<(), String> {
        Limiter::unshare(&self.0).map(drop).map_err(|error| error.to_string())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// Counts that a process which is killed leaves as they are: in a nameless file that all processes map.
#[derive(Debug)]
pub(crate) struct Counts {
    map: MmapRaw,
    len: usize,
}

impl Counts {
    pub(crate) fn new(len: usize) -> Result<Self, String> {
        let make = || {
            let file = tempfile::tempfile()?;
            file.set_len((len * 8) as u64)?;
            MmapOptions::new().len(len * 8).map_raw(&file)
        };
        let map = make().map_err(|error: std::io::Error| format!("no memory for counts: {error}"))?;
        Ok(Counts { map, len })
    }

    pub(crate) fn at(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.len);
        // Safety: inside the mapping, at a multiple of 8 from a page; atomics only are made of it.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }
}
