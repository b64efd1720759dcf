//! Dividing a rate among those who ask for it.

use alloc::vec::Vec;

/// Everyone who asks gets at least a twentieth of an equal part, so that a newcomer is never at zero until the next round.
const FLOOR_PARTS: u64 = 20;

/// Divides `pool` among holders with these weights: a floor of 5 % of an equal part each, the rest by weight. The sum is
/// never above `pool`; what rounding leaves over belongs to nobody.
pub(crate) fn divide(pool: u64, weights: &[u64]) -> Vec<u64> {
    let count = weights.len() as u64;
    if count == 0 {
        return Vec::new();
    }
    let floor = pool / (count * FLOOR_PARTS);
    let rest = pool - floor * count;
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let part = |weight: u64| match total {
        0 => rest / count,
        _ => (u128::from(rest) * u128::from(weight) / total) as u64,
    };
    weights.iter().map(|weight| floor + part(*weight)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_weights_get_equal_parts_and_nobody_gets_nothing() {
        assert_eq!(divide(1000, &[7, 7, 7, 7]), [250; 4]);
        assert_eq!(divide(1000, &[0, 0]), [500; 2]);
        assert_eq!(divide(1000, &[1, 0]), [975, 25]);
        assert!(divide(1000, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_never_add_up_to_more(pool in 0u64..=1 << 32, weights in prop::collection::vec(any::<u64>(), 1..50)) {
            let parts = divide(pool, &weights);
            let sum: u64 = parts.iter().sum();
            prop_assert!(sum <= pool);
            prop_assert!(pool - sum <= 2 * weights.len() as u64);
        }

        #[test]
        fn more_weight_is_never_less(pool in 0u64..=1 << 32, weights in prop::collection::vec(0u64..1 << 40, 2..20)) {
            let parts = divide(pool, &weights);
            for i in 1..weights.len() {
                prop_assert!((weights[i] >= weights[i - 1]) == (parts[i] >= parts[i - 1]) || parts[i] == parts[i - 1]);
            }
        }
    }
}
