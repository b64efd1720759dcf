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
    halves: [u64; 2],
}

impl HashKey {
    /// From 16 secret bytes.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        Self::from_words([0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&secret[at..at + 8]);
            u64::from_le_bytes(half)
        }))
    }

    /// The secret as words, for memory that is shared with processes of the same user.
    pub(crate) fn to_words(&self) -> [u64; 2] {
        self.halves
    }

    pub(crate) fn from_words(halves: [u64; 2]) -> Self {
        HashKey {
            hasher: SipHasher13::new_with_keys(halves[0], halves[1]),
            halves,
        }
    }

    /// A secret from the operating system.
    ///
    /// Errors: the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        Self::random_secret().map(Self::new)
    }

    /// 16 secret bytes from the operating system, for who has to keep them.
    ///
    /// Errors: the system has no randomness to give.
    pub(crate) fn random_secret() -> Result<[u8; 16], getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(secret)
    }

    /// Says whether two keys are the same, and nothing else about them: what a keyed pseudo-random function makes of a text
    /// that no client is called.
    #[must_use]
    pub fn check_value(&self) -> u64 {
        self.hasher.hash(b"\0ratelimit: the check value of a key\0")
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

/// The low bits of a key that say which of several limits it is under.
pub(crate) const LIMIT_BITS: u32 = 3;
pub(crate) const LIMIT_MASK: u64 = (1 << LIMIT_BITS) - 1;
// Every limit has a number of its own in these bits.
const _: () = assert!(crate::raw::MAX_LIMITS <= 1 << LIMIT_BITS);

/// 64 bits that stand for one client.
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

    /// The key of the client's cell under one of several limits, never 0. The low [`LIMIT_BITS`] say which limit, so that a
    /// snapshot knows what a debt was charged under; the rest differs for each limit, so that the cells of one client do
    /// not crowd the same two lines.
    #[inline]
    #[must_use]
    pub(crate) fn among_limits(self, index: usize) -> u64 {
        // Multiplying by an odd number maps distinct fingerprints to distinct ones. The first limit's keeps its bits, so that
        // a table which gets a second limit still knows its clients.
        let mixed = self
            .0
            .wrapping_mul((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 << 1) | 1);
        let key = (mixed & !LIMIT_MASK) | (index as u64 & LIMIT_MASK);
        if key == 0 { 1 << LIMIT_BITS } else { key }
    }

    /// A fingerprint whose key under one of several limits is this one. A key keeps 61 bits of a fingerprint, so it is not always
    /// the one that the key was made from.
    #[must_use]
    pub(crate) fn of_key(key: u64, index: usize) -> Self {
        let factor = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15 << 1) | 1;
        // Newton's way to the inverse of an odd number: 3 bits are right, and each step doubles them.
        let mut inverse = factor;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(inverse)));
        }
        Fingerprint::new(key.wrapping_mul(inverse))
    }

    /// The same client by times that are given, on a clustered table: a cell of its own, which no owner knows of.
    #[inline]
    #[must_use]
    pub(crate) fn of_given(self) -> Self {
        Fingerprint::new(self.0 ^ 0x91e7_91e7_91e7_91e7)
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
    fn keys_among_limits_say_which_limit_and_are_spread() {
        for bits in [1, 7, 8, 0x1234_5678_9abc_def1, u64::MAX] {
            let f = Fingerprint::new(bits);
            for limit in 0..8 {
                let key = f.among_limits(limit);
                assert!(key != 0 && key & LIMIT_MASK == limit as u64, "{bits:x} under {limit}");
                assert_eq!(Fingerprint::of_key(key, limit).among_limits(limit), key);
            }
        }
        let f = Fingerprint::new(0x1234_5678_9abc_def1);
        // What chooses lines: the high bits of both halves.
        let lines: std::collections::HashSet<u64> = (0..8).map(|i| f.among_limits(i) & 0xff00_0000_ff00_0000).collect();
        assert_eq!(lines.len(), 8, "the cells of one client crowd the same lines");
        assert_eq!(f.among_limits(0), f.bits() & !LIMIT_MASK);
    }

    #[test]
    fn a_key_shows_no_secret() {
        assert_eq!(format!("{:?}", HashKey::new([7; 16])), "HashKey(secret)");
    }
}
