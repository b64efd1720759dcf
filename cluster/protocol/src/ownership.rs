//! Which node owns a key: rendezvous hashing over 4,096 partitions.
//!
//! Every candidate has a score for every partition; the highest owns it. When a node comes or goes only the partitions it
//! wins or loses move, one in `N`, and every node that knows the same candidates names the same owner without asking.
//!
//! `Eventual` limits choose among the nodes in view. `Bounded` and `Strict` limits must never have two ledgers, so they
//! choose among the configured owners, whether those are alive or not.

use alloc::vec;
use alloc::vec::Vec;

use crate::id::{Key, NodeId};

/// The number of partitions.
pub const PARTITIONS: usize = 4096;

/// The partition of a key: its top twelve bits.
#[must_use]
pub const fn partition(key: Key) -> u16 {
    (key.0 >> 52) as u16
}

/// The score of a node for a partition. Part of the protocol: all nodes must compute the same.
///
/// The finaliser is MurmurHash3's (public domain), which is a permutation: two nodes never tie for a partition unless
/// their identities are equal.
const fn score(node: NodeId, partition: u16) -> u64 {
    let mut x = node.0 ^ (partition as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The owner of each partition among one set of candidates, computed when first asked for.
#[derive(Debug)]
pub(crate) struct Ownership {
    candidates: Vec<NodeId>,
    /// Index into the candidates, plus one; 0 is not computed yet. 8 KiB.
    owner: Vec<u16>,
}

impl Ownership {
    pub(crate) fn new(candidates: Vec<NodeId>) -> Self {
        Ownership {
            candidates,
            owner: vec![0; PARTITIONS],
        }
    }

    pub(crate) fn candidates(&self) -> &[NodeId] {
        &self.candidates
    }

    /// `None` if there is no candidate.
    pub(crate) fn owner(&mut self, partition: u16) -> Option<NodeId> {
        let place = self.owner.get_mut(usize::from(partition))?;
        if *place == 0 {
            let best = (0..self.candidates.len()).max_by_key(|i| score(self.candidates[*i], partition))?;
            *place = u16::try_from(best + 1).ok()?;
        }
        self.candidates.get(usize::from(*place) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|i| NodeId::of(&format!("node-{i}"))).collect()
    }

    #[test]
    fn every_node_gets_its_part_and_only_what_must_move_moves() {
        let mut ten = Ownership::new(nodes(10));
        let mut eleven = Ownership::new(nodes(11));
        let newcomer = nodes(11)[10];
        let mut parts = [0usize; 11];
        let mut moved = 0;
        for partition in 0..PARTITIONS as u16 {
            let (before, after) = (ten.owner(partition), eleven.owner(partition));
            if before != after {
                assert_eq!(after, Some(newcomer), "a partition moved between two that stayed");
                moved += 1;
            }
            let index = ten
                .candidates
                .iter()
                .position(|n| Some(*n) == before)
                .expect("a candidate");
            parts[index] += 1;
        }
        assert!((250..500).contains(&moved), "{moved} partitions moved; 4096/11 is 372");
        assert!(parts[..10].iter().all(|n| (300..520).contains(n)), "{parts:?}");
    }

    #[test]
    fn the_order_of_candidates_does_not_matter_and_none_owns_nothing() {
        let mut forward = Ownership::new(nodes(7));
        let mut backward = Ownership::new(nodes(7).into_iter().rev().collect());
        assert!((0..PARTITIONS as u16).all(|p| forward.owner(p) == backward.owner(p)));
        assert_eq!(Ownership::new(Vec::new()).owner(5), None);
        assert_eq!(forward.owner(PARTITIONS as u16), None, "no such partition");
    }

    #[test]
    fn owners_are_part_of_the_protocol() {
        // If this fails, nodes of two versions would disagree about owners.
        let mut three = Ownership::new(["a", "b", "c"].map(NodeId::of).to_vec());
        let names = ["a", "b", "c"].map(NodeId::of);
        let owners = [0u16, 1, 2, 1000, 4095].map(|p| names.iter().position(|n| Some(*n) == three.owner(p)));
        assert_eq!(owners, FIXED.map(Some));
        assert_eq!(NodeId::of("a").0, FIXED_ID);
    }
    const FIXED: [usize; 5] = [1, 2, 1, 0, 0];
    const FIXED_ID: u64 = 0x407448d2b89b1813;
}
