//! How much later than usual a request may arrive, from round trips.

use std::collections::VecDeque;

const SAMPLES: usize = 200;
/// Before enough is known, and the bounds of what is believed, in seconds.
const UNKNOWN: f64 = 0.02;
const LEAST: f64 = 0.003;
const MOST: f64 = 0.5;

/// The spread of the last round trips.
#[derive(Clone, Debug, Default)]
pub(super) struct Jitter {
    rtts: VecDeque<f64>,
    since: u32,
    spread: Option<f64>,
}

impl Jitter {
    /// Notes one round trip, in seconds.
    pub(super) fn note(&mut self, rtt: f64) {
        while self.rtts.len() >= SAMPLES {
            self.rtts.pop_front();
        }
        self.rtts.push_back(rtt.max(0.0));
        self.since += 1;
        if self.rtts.len() >= 10 && self.since >= 10 {
            self.since = 0;
            let mut rtts: Vec<f64> = self.rtts.iter().copied().collect();
            let least = rtts.iter().copied().fold(f64::INFINITY, f64::min);
            // Selecting one costs a tenth of sorting all, which took 8 % of a request that no limit holds back.
            let place = rtts.len() * 95 / 100;
            let (_, high, _) = rtts.select_nth_unstable_by(place, f64::total_cmp);
            self.spread = Some((0.6 * (*high - least)).clamp(LEAST, MOST));
        }
    }

    /// 0.6 of the spread between p95 and the minimum of the last 200 round trips, within 3 ms and 0.5 s.
    pub(super) fn seconds(&self) -> f64 {
        self.spread.unwrap_or(UNKNOWN)
    }
}
