//! Seeded chance: jitter, ids and tokens that are the same on every run.

use std::time::Duration;

/// The `SplitMix64` generator: small, good enough for jitter, no secret source.
#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    /// The sequence that belongs to `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from (0, 1].
    pub(super) fn fraction(&mut self) -> f64 {
        // 53 bits fill an f64's mantissa exactly.
        ((self.bits() >> 11) + 1) as f64 / 9_007_199_254_740_992.0
    }

    /// Exponential with this mean, cut at ten times the mean.
    pub(super) fn exponential(&mut self, mean: Duration) -> Duration {
        let times = -self.fraction().ln();
        mean.mul_f64(times.clamp(0.0, 10.0))
    }

    /// Looks like a random UUID (version 4).
    pub(super) fn uuid(&mut self) -> String {
        let (high, low) = (self.bits(), self.bits());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0x0fff,
            0x8000 | (low >> 48) & 0x3fff,
            low & 0xffff_ffff_ffff,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The reference values for seed 1234567 of the generator's authors.
        let mut chance = Chance::new(1_234_567);
        assert_eq!(chance.bits(), 6_457_827_717_110_365_317);
        assert_eq!(chance.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_keeps_its_mean_and_its_bound() {
        let mut chance = Chance::new(7);
        let mean = Duration::from_millis(8);
        let draws: Vec<Duration> = (0..20_000).map(|_| chance.exponential(mean)).collect();
        let average = draws.iter().sum::<Duration>() / 20_000;
        assert!(average > mean.mul_f64(0.97) && average < mean.mul_f64(1.03), "{average:?}");
        assert!(draws.iter().all(|draw| *draw <= mean * 10));
        assert_eq!(chance.exponential(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn ids_look_like_uuids_and_differ() {
        let mut chance = Chance::new(0);
        let (one, two) = (chance.uuid(), chance.uuid());
        assert_ne!(one, two);
        for id in [one, two] {
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
    }
}
