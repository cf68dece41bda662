//! A small seeded generator (splitmix64) whose every draw is the same on every machine.

/// The sequence that belongs to a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1)
    }

    /// Evenly from [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        if mean <= 0.0 { 0.0 } else { -mean * logarithm(1.0 - self.uniform()) }
    }
}

/// The natural logarithm of a positive normal number, without the machine's own, whose last bit differs between
/// libraries: timelines are compared to the request.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as f64 - 1023.0;
    let mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    // ln m = 2 artanh z for z = (m - 1) / (m + 1), which is at most 1/3 here: its series ends soon.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut sum, mut power) = (0.0, z);
    for odd in (1..40).step_by(2) {
        sum += power / f64::from(odd);
        power *= z * z;
    }
    exponent * std::f64::consts::LN_2 + 2.0 * sum
}

#[test]
fn the_logarithm_is_one() {
    for x in [1.0, 0.999, 0.5, 0.1, 3.7e-9, 1e-16, 123.0] {
        assert!((logarithm(x) - f64::ln(x)).abs() < 1e-12 * f64::ln(x).abs().max(1.0), "{x}");
    }
}
