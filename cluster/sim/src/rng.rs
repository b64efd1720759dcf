//! Random numbers of a run: one seed, one stream, on every machine and with every compiler.

/// SplitMix64 (Steele, Lea and Flood, 2014). Small, and good enough to draw delays; nothing here is a secret.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A stream of its own for each `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Rng {
            state: mix(seed ^ 0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Another stream for another subject of the same run, so that a draw more here does not shift every draw there.
    #[must_use]
    pub fn fork(&self, subject: u64) -> Self {
        Rng::new(self.state ^ mix(subject))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A whole number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number from 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `per_mille / 1000`.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// An exponential variate of this mean, the gap between two arrivals of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * ln(1.0 - self.unit())
    }
}

/// The finalizer of SplitMix64: every bit of the input moves half of the output.
#[must_use]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The natural logarithm of a positive normal number, from additions, products and quotients only.
///
/// Those are exact to the last bit in IEEE 754; `f64::ln` is whatever the platform's library makes of it, and a trace hash
/// that differs between two machines is worth nothing.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is below 1/3, so twenty terms leave less than a rounding error.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut power = z;
    let mut sum = 0.0;
    for k in 0..20 {
        sum += power / f64::from(2 * k + 1);
        power *= square;
    }
    2.0 * sum + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.bits(), rng.bits(), rng.below(10), rng.between(5, 5)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(7)[3], 5);
    }

    #[test]
    fn the_logarithm_is_one() {
        for x in [1e-300, 1e-9, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 1e9] {
            assert!((ln(x) - x.ln()).abs() <= 1e-13 * x.ln().abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn gaps_have_their_mean() {
        let mut rng = Rng::new(1);
        let mean = (0..100_000).map(|_| rng.exponential(3.0)).sum::<f64>() / 100_000.0;
        assert!((2.97..3.03).contains(&mean), "{mean}");
    }
}
