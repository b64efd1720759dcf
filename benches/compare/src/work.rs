//! What is asked of the engines: ids and the order they are asked in, the same for every engine.

use std::ops::Range;

/// Where the ids of a case lie in memory.
///
/// In a service the id of a request has just been parsed and is in the cache, while the limiter's state for it may not
/// be. `Streamed` models that: one id per call, lying in call order, so that the processor has fetched it ahead.
/// `Scattered` picks each id at random from a table of all distinct ids, so that every call of every engine also pays
/// for up to two cache misses that are not the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Streamed,
    Scattered,
}

/// Length of the ids of the speed cases, in bytes.
pub(crate) const ID_BYTES: usize = 24;

/// The ids of one round of one thread, in the order they are asked for: the id of call `n` is `ids[order[n]]`.
pub(crate) struct Workload {
    pub(crate) ids: Vec<String>,
    pub(crate) order: Vec<u32>,
    layout: Layout,
    keys: Range<u64>,
}

impl Workload {
    /// Room for `calls` calls on the keys numbered `keys`; [`draw`](Workload::draw) fills it.
    pub(crate) fn new(layout: Layout, keys: Range<u64>, calls: usize) -> Workload {
        let mut ids = Vec::new();
        let mut order = vec![0; calls];
        match layout {
            // Allocated once and in order, and only overwritten later: the ids stay where the prefetcher expects them.
            Layout::Streamed => {
                ids.resize_with(calls, || String::with_capacity(ID_BYTES));
                for (place, number) in order.iter_mut().zip(0..) {
                    *place = number;
                }
            }
            Layout::Scattered => {
                for number in keys.clone() {
                    let mut id = String::with_capacity(ID_BYTES);
                    write_id(&mut id, number, ID_BYTES);
                    ids.push(id);
                }
            }
        }
        Workload {
            ids,
            order,
            layout,
            keys,
        }
    }

    /// Draws every call's key anew. Rounds that repeated one order would time keys the cache still knows.
    pub(crate) fn draw(&mut self, seed: u64) {
        let count = self.keys.end - self.keys.start;
        for call in 0..self.order.len() {
            let random = mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(call as u64));
            // The high half of a 128-bit product: even over `count` without a division.
            let index = ((u128::from(random) * u128::from(count)) >> 64) as u64;
            match self.layout {
                Layout::Streamed => write_id(&mut self.ids[call], self.keys.start + index, ID_BYTES),
                Layout::Scattered => self.order[call] = index as u32,
            }
        }
    }
}

/// Writes the id of key `number`, `bytes` characters of hexadecimal. Different numbers give different ids from 16 bytes
/// up, since [`mix`] is a bijection.
pub(crate) fn write_id(id: &mut String, number: u64, bytes: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    id.clear();
    let mut word = mix(number);
    let mut left = 16;
    while id.len() < bytes {
        if left == 0 {
            word = mix(word);
            left = 16;
        }
        id.push(char::from(DIGITS[(word & 15) as usize]));
        word = word.rotate_right(4);
        left -= 1;
    }
}

/// The finaliser of splitmix64, a bijection whose results look random.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_length_and_differ() {
        let mut seen = std::collections::HashSet::new();
        let mut id = String::new();
        for number in 0..10_000 {
            for bytes in [22, 24, 200] {
                write_id(&mut id, number, bytes);
                assert_eq!(id.len(), bytes);
                assert!(seen.insert(id.clone()));
            }
        }
    }

    #[test]
    fn both_layouts_ask_for_the_same_keys() {
        let mut streamed = Workload::new(Layout::Streamed, 5..105, 1000);
        let mut scattered = Workload::new(Layout::Scattered, 5..105, 1000);
        streamed.draw(3);
        scattered.draw(3);
        for call in 0..1000 {
            let of = |work: &Workload| work.ids[work.order[call] as usize].clone();
            assert_eq!(of(&streamed), of(&scattered));
        }
    }
}
