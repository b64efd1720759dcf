//! From a client's id to the 64 bits that stand for it.
//!
//! An attacker picks ids and can see whether two of them share a budget, so the fingerprint must be a keyed pseudo-random
//! function, the same in every process, version and machine that shares a table or a snapshot: SipHash-1-3 with a secret
//! of 128 bits. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.

use std::fmt;

use siphasher::sip::SipHasher13;

/// The secret that keys the fingerprints.
#[derive(Clone)]
pub struct HashKey {
    hasher: SipHasher13,
}

impl HashKey {
    /// From 16 secret bytes.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        let [low, high] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&secret[at..at + 8]);
            u64::from_le_bytes(half)
        });
        HashKey {
            hasher: SipHasher13::new_with_keys(low, high),
        }
    }

    /// A secret from the operating system.
    ///
    /// Errors: the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self::new(secret))
    }

    /// The fingerprint of an id of any length. Cost: about 10 ns for 24 bytes; no allocation.
    // Never inlined: the hash takes every register there is, and what a decision keeps in them would go to the stack and
    // back. The call costs less than that.
    #[inline(never)]
    #[must_use]
    pub fn fingerprint(&self, id: &[u8]) -> Fingerprint {
        Fingerprint::new(self.hasher.hash(id))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(secret)")
    }
}

/// 64 bits that stand for one client, and for one of the limits that it is under.
///
/// Two of a million clients share a fingerprint with a probability of 3e-8; they then share a budget.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Zero marks an empty place, so it becomes 1. Setting a bit in every fingerprint instead would halve the lines that
    /// a key can go to.
    #[inline]
    #[must_use]
    pub fn new(hash: u64) -> Self {
        Fingerprint(if hash == 0 { 1 } else { hash })
    }

    /// The bits, never 0.
    #[inline]
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The same client under another of the limiter's limits. The first keeps the fingerprint as it is.
    #[inline]
    #[must_use]
    pub(crate) fn under_limit(self, index: usize) -> Self {
        // Multiplying by an odd number maps distinct fingerprints to distinct ones.
        Fingerprint(
            self.0
                .wrapping_mul((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 << 1) | 1),
        )
    }

    /// The record of a block of this client.
    #[inline]
    #[must_use]
    pub(crate) fn of_block(self) -> Self {
        Fingerprint::new(self.0 ^ 0xb10c_b10c_b10c_b10c)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:016x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_siphash_1_3_of_the_bytes() {
        // A change of the hash would orphan every snapshot and split every cluster: this value is for ever. It was computed
        // by an implementation of its own, from the paper.
        const FIXED: u64 = 14_766_168_718_422_612_829;
        let key = HashKey::new(std::array::from_fn(|i| i as u8));
        assert_eq!(key.fingerprint(b"client-7").bits(), FIXED);
        assert_ne!(HashKey::new([0; 16]).fingerprint(b"client-7").bits(), FIXED);
    }

    #[test]
    fn zero_becomes_one() {
        assert_eq!(Fingerprint::new(0).bits(), 1);
        assert_eq!(Fingerprint::new(2).bits(), 2);
    }

    #[test]
    fn the_first_limit_keeps_the_fingerprint_and_others_differ() {
        let f = Fingerprint::new(0x1234_5678_9abc_def1);
        let all: std::collections::HashSet<u64> = (0..8).map(|i| f.under_limit(i).bits()).collect();
        assert_eq!(f.under_limit(0), f);
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn a_key_shows_no_secret() {
        assert_eq!(format!("{:?}", HashKey::new([7; 16])), "HashKey(secret)");
    }
}
