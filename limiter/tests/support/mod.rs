//! What several of the tests need.
// Each test crate that includes this module uses a part of it.
#![allow(dead_code)]

/// Whether the long forms of the tests were asked for: `RATELIMIT_FULL=1`.
pub(crate) fn full() -> bool {
    std::env::var_os("RATELIMIT_FULL").is_some_and(|value| value == "1")
}

/// A number of rounds: as given in release builds, `full` times as many if asked for, a fiftieth without optimization, but never none.
pub(crate) fn rounds(release: u64, full_factor: u64) -> u64 {
    if cfg!(debug_assertions) {
        (release / 50).max(release.min(4))
    } else if full() {
        release * full_factor
    } else {
        release
    }
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

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included; small ones as likely as large ones by their number of digits.
    pub(crate) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let bits = |n: u64| u64::from(64 - n.leading_zeros());
        let width = bits(low) + self.below(bits(high) - bits(low) + 1);
        let number = match width {
            0 => 0,
            _ => (1u64 << (width - 1)) | (self.next() & ((1u64 << (width - 1)) - 1)),
        };
        number.clamp(low, high)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A field of `/proc/self/status` in KiB, such as `VmRSS`.
#[cfg(target_os = "linux")]
pub(crate) fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
