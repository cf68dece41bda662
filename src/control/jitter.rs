//! How much later than usual a request may arrive, from round trips.
//!
//! The spread is that of the last 200 at every tenth, and is worked out when somebody asks for it: where no limit holds
//! back nobody does, and noting a round trip costs next to nothing.

use std::cell::Cell;
use std::collections::VecDeque;

const SAMPLES: usize = 200;
/// The spread moves at every so many round trips.
const STEP: usize = 10;
/// Before enough is known, and the bounds of what is believed, in seconds.
const UNKNOWN: f64 = 0.02;
const LEAST: f64 = 0.003;
const MOST: f64 = 0.5;

/// The spread of the last round trips.
#[derive(Clone, Debug, Default)]
pub(super) struct Jitter {
    /// Those that the spread is of, and up to [`STEP`] that came since.
    rtts: VecDeque<f64>,
    /// Those that came since.
    since: usize,
    spread: Cell<Option<f64>>,
}

impl Jitter {
    /// Notes one round trip, in seconds.
    pub(super) fn note(&mut self, rtt: f64) {
        self.rtts.push_back(rtt.max(0.0));
        self.since += 1;
        if self.since >= STEP {
            self.since = 0;
            let old = self.rtts.len().saturating_sub(SAMPLES);
            self.rtts.drain(..old);
            self.spread.set(None);
        }
    }

    /// 0.6 of the spread between p95 and the minimum of the last 200 round trips, within 3 ms and 0.5 s.
    pub(super) fn seconds(&self) -> f64 {
        let known = self.rtts.len() - self.since;
        if known < STEP {
            return UNKNOWN;
        }
        self.spread.get().unwrap_or_else(|| {
            let mut rtts: Vec<f64> = self.rtts.iter().take(known).copied().collect();
            let least = rtts.iter().copied().fold(f64::INFINITY, f64::min);
            // Selecting one costs a tenth of sorting all.
            let (_, high, _) = rtts.select_nth_unstable_by(known * 95 / 100, f64::total_cmp);
            let spread = (0.6 * (*high - least)).clamp(LEAST, MOST);
            self.spread.set(Some(spread));
            spread
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it was before it was lazy: worked out at every tenth.
    fn at_once(rtts: &[f64]) -> f64 {
        let known = rtts.len() / STEP * STEP;
        let known = rtts.get(known.saturating_sub(SAMPLES)..known).unwrap_or_default();
        if known.is_empty() {
            return UNKNOWN;
        }
        let mut sorted = known.to_vec();
        sorted.sort_by(f64::total_cmp);
        (0.6 * (sorted[known.len() * 95 / 100] - sorted[0])).clamp(LEAST, MOST)
    }

    #[test]
    fn it_is_the_same_whenever_it_is_asked() {
        let rtts: Vec<f64> = (0..1_000_u32).map(|n| 0.05 + f64::from(n * 7_919 % 997) * 1e-4).collect();
        for every in [1, 3, 10, 17, 400] {
            let mut jitter = Jitter::default();
            for (place, rtt) in rtts.iter().enumerate() {
                jitter.note(*rtt);
                if place % every == 0 {
                    let expected = at_once(&rtts[..=place]);
                    assert!((jitter.seconds() - expected).abs() < 1e-12, "{place}");
                }
            }
            assert!(jitter.rtts.len() < SAMPLES + STEP);
        }
    }
}
