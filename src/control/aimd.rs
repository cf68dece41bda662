//! Plain AIMD: additive increase, multiplicative decrease. The simple law, and the yardstick for the learnt one.
//!
//! It starts like the learnt law, so that the two differ in one thing only. Constants are those of CONTROL's
//! like-for-like table: cut to 0.95 at most every half second, grow by 1 % of the last peak a second.

use super::law::Answer;
use super::retry::PAUSING_SECONDS;
use super::settings::LawSettings;

const CUT: f64 = 0.95;
const GROWTH_PER_SECOND: f64 = 0.01;
const CUT_EVERY_SECONDS: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Aimd {
    rate: f64,
    peak: f64,
    starting: bool,
    grown_at: f64,
    cut_at: f64,
    pause_until: f64,
    doubling_seconds: f64,
}

impl Aimd {
    pub(super) fn new(settings: &LawSettings, now: f64) -> Self {
        Self {
            rate: settings.start_rate.get(),
            peak: 0.0,
            starting: true,
            grown_at: now,
            cut_at: f64::NEG_INFINITY,
            pause_until: f64::NEG_INFINITY,
            doubling_seconds: settings.start_doubling_seconds,
        }
    }

    /// The pace at `now`, grown for as long as something waited.
    pub(super) fn rate(&mut self, now: f64, waiting: usize) -> f64 {
        let elapsed = (now - self.grown_at).clamp(0.0, 1.0);
        self.grown_at = self.grown_at.max(now);
        if waiting > 0 && now >= self.pause_until {
            if self.starting {
                self.rate = super::rate::doubled(self.rate, elapsed / self.doubling_seconds);
            } else {
                self.rate += self.peak * GROWTH_PER_SECOND * elapsed;
            }
        }
        self.rate
    }

    pub(super) fn current_rate(&self) -> f64 {
        self.rate
    }

    pub(super) fn hold_until(&self) -> f64 {
        self.pause_until
    }

    pub(super) fn resume(&mut self) {
        self.pause_until = f64::NEG_INFINITY;
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting
    }

    /// An answer to the request that was sent at `sent_at`.
    pub(super) fn settle(&mut self, now: f64, sent_at: f64, answer: Answer) {
        let Answer::Refused { retry_after } = answer else { return };
        if let Some(seconds) = retry_after.filter(|seconds| *seconds >= PAUSING_SECONDS) {
            self.pause_until = self.pause_until.max(now + seconds);
        }
        // Requests that left before the last cut had not heard of it.
        if sent_at >= self.cut_at && now - self.cut_at >= CUT_EVERY_SECONDS {
            self.peak = self.rate;
            self.rate *= if self.starting { 0.5 } else { CUT };
            self.starting = false;
            self.cut_at = now;
        }
    }
}
