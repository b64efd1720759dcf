//! The ways in which bytes are damaged.

use fastrand::Rng;

/// Damages `bytes` in up to four places. They may come out as they were.
pub(crate) fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..rng.u8(0..=4) {
        if bytes.is_empty() {
            bytes.push(rng.u8(..));
        }
        let at = rng.usize(0..bytes.len());
        match rng.u8(0..9) {
            0 => bytes[at] ^= 1 << rng.u8(0..8),
            1 => bytes[at] = rng.u8(..),
            // The values that lengths and counts go wrong by.
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(0..5)],
            3 => bytes[at] = bytes[at].wrapping_add(if rng.bool() { 1 } else { 0xff }),
            4 => bytes.truncate(at),
            5 => bytes.insert(at, rng.u8(..)),
            6 => drop(bytes.remove(at)),
            7 => {
                let tail = other.len().min(rng.usize(0..64));
                bytes.truncate(at);
                bytes.extend_from_slice(&other[other.len() - tail..]);
            }
            _ => {
                // A number that is as large as it can be.
                let end = (at + rng.usize(1..11)).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
    }
}
