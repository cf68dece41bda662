//! What a refusal says of the limit: the law's judgement, one episode at a time.
//!
//! Refusals close together are one episode. Its measure moves the pace, or names a number to stand at.

use super::fit::{Fit, fit};
use super::measure::Reading;
use super::round::{Held, Remedy};
use super::{Learnt, MOVED, STEP};
use crate::control::law::Shift;

/// Refusals this close together are one episode.
const EPISODE_SECONDS: f64 = 0.3;
/// Over less than this, what a window let through says little of its limit.
const BUSY_SECONDS: f64 = 2.0;
/// A measure in a climb this far above the pace before it: the climb found something.
const RAISED: f64 = 1.04;
/// A probe that gets this far above its number goes further than a bucket's few saved tokens would let it.
const FURTHER: f64 = 1.12;
/// A measure this far below the pace: the limit has fallen.
const FALLEN: f64 = 0.87;
/// A window whose number is as close as this to the one that is held is the same; a longer one needs to say more, since
/// one request less in two seconds is scatter.
const SAME: f64 = 0.02;
const SAME_IN_LONGER: f64 = 0.03;
/// The servo's smallest step.
const STEP_MIN: f64 = 0.005;

impl Learnt {
    /// In the order of sending: what does this refusal say of the limit?
    pub(super) fn episode(&mut self, now: f64, at: f64) {
        self.recent_refusals.push_back(at);
        while self.recent_refusals.len() > 300 {
            self.recent_refusals.pop_front();
        }
        if !self.starting && self.hold_back.covers(at, EPISODE_SECONDS) {
            self.refused_at = at;
            return;
        }
        if self.contended.is_some() && !self.starting {
            return self.episode_contended(at);
        }
        let gap = (at - self.episode_at).min(1e6);
        if gap < EPISODE_SECONDS && !self.starting {
            self.history.still_saturated(at);
            self.refused_at = at;
            return;
        }
        self.note_first(at);
        let climbed = std::mem::take(&mut self.climbing);
        let reading = self.reading(at, climbed);
        let first = std::mem::take(&mut self.starting);
        if first {
            let least = if self.contended.is_some() { self.least_contended() } else { 0.0 };
            self.rate = self.rate.min(reading.short.max(least));
        } else if let Some(held) = self.rounds.held() {
            let another = |fit: &Fit| {
                let same = if fit.seconds > held.window_seconds { SAME_IN_LONGER } else { SAME };
                (fit.rate() - held.rate).abs() > same * held.rate
            };
            let fitted = self.fit(now).filter(another);
            self.episode_held(now, at, held, reading);
            if fitted.is_some() {
                self.hold_number(now, fitted, reading);
            }
        } else {
            let fitted = self.fit(now);
            self.episode_servo(at, reading, gap, climbed);
            self.hold_number(now, fitted, reading);
        }
        // Refusals that come so far apart may be windows that far apart: no climb before another one had its chance.
        self.hold = self.hold.max(gap.min(5.0)).min(self.period());
        self.base = self.rate;
        self.peak = self.rate;
        self.surplus = 0.0;
        self.pressed = 0.0;
        self.history.saturated(at);
        self.episode_at = at;
        self.refused_at = at;
        self.episodes = self.episodes.saturating_add(1);
    }

    fn note_first(&mut self, at: f64) {
        if self.firsts.len() >= 6 {
            self.firsts.remove(0);
        }
        self.firsts.push(at);
    }

    fn reading(&self, at: f64, climbed: bool) -> Reading {
        let over = |from: f64| {
            let rate = self.history.recent(at, from).max(0.25 * self.rate);
            Reading { short: rate, free: rate, long: rate, span_seconds: at - from }
        };
        if let Some(reading) = self.brief_reading(at) {
            return reading;
        }
        if self.starting {
            return over((at - 1.0).max(self.born - 1e-6));
        }
        let since_climb =
            (at - 2.0).max(self.refused_at).min(at - 6.0 / self.rate).max(self.busy_since - 1e-6);
        match self.history.measure(at) {
            Some(reading) if !climbed => reading,
            _ => over(since_climb),
        }
    }

    fn fit(&self, now: f64) -> Option<Fit> {
        if self.window.is_some() { None } else { fit(&self.history, &self.firsts, self.rate, now) }
    }

    /// Stands at a number: of a window that explains the refusals, or a round one that the readings mean.
    fn hold_number(&mut self, now: f64, fitted: Option<Fit>, reading: Reading) {
        let held = match fitted {
            Some(fit) => self.rounds.hold(now, Held::of_fit(fit)),
            None if self.window.is_none() => self.rounds.read(now, reading.long, self.rate),
            None => None,
        };
        let Some(held) = held else { return };
        self.rate = held.pace();
        self.hold = self.early_probe();
        if let (Some(Fit { boundary, .. }), true) = (fitted, self.phase_matters(held.rate)) {
            self.shift = Some(Shift::Onto(boundary + 0.5 / held.rate));
        }
    }

    fn episode_servo(&mut self, at: f64, reading: Reading, gap: f64, climbed: bool) {
        // A window of about a second leaves a measure uncertain by a second's share of its span.
        let uncertain = 0.02 + 1.0 / reading.span_seconds.max(1.0);
        // After a move the pace is a guess, and what it overshoots by makes a block of its own.
        let moved = std::mem::take(&mut self.moves.unsure);
        let most = |measured: Reading| if moved { measured.free } else { measured.short };
        if self.history.measure(at).is_some_and(|measured| most(measured) < FALLEN * self.base) {
            self.note_fall(at, reading.short, None);
            self.fallen(reading.short.min(self.base));
        } else if climbed {
            // Until now less was used than the limit gives: a measure across that time would only find the pace.
            self.history.forget_saturations();
            let let_through = self.base.max(self.rate.min(reading.short));
            if let_through > RAISED * self.base && at - self.busy_since >= BUSY_SECONDS {
                self.raise(let_through);
            } else {
                self.rate = let_through.min(RAISED * self.base) * (1.0 - 0.5 * self.step);
                self.hold = (1.5 * self.hold).min(self.period());
            }
        } else if reading.long < self.rate * (1.0 - uncertain) {
            self.rate = reading.long;
        } else {
            let step = if gap > 0.5 * self.hold { self.step } else { (1.5 * self.step).min(0.06) };
            if gap > self.hold {
                self.step = (0.75 * self.step).max(STEP_MIN);
            }
            self.rate *= 1.0 - step;
            self.hold = (1.6 * self.hold).min(self.period());
        }
    }

    fn episode_held(&mut self, now: f64, at: f64, held: Held, reading: Reading) {
        let gap = at - self.episode_at;
        let above = self.rate > held.rate * 1.001 || self.pressed > self.hold;
        let further = above && self.peak > FURTHER * held.rate;
        let low = self.rounds.seems_low() || held.is_exact();
        let long_enough = at - self.busy_since >= BUSY_SECONDS;
        if long_enough && (self.peak > MOVED * held.rate || (further && low)) {
            self.base = held.rate;
            self.raise(reading.short);
            self.start_over();
        } else if reading.short < FALLEN * held.pace() {
            self.note_fall(at, reading.short, Some(held));
            self.rounds.reset();
            self.fallen(reading.short);
        } else if above {
            self.rounds.confirmed(further);
            self.rate = held.pace();
            self.hold = (2.0 * self.hold).min(self.period());
            self.shift = self.phase_matters(held.rate).then_some(Shift::By(0.5));
        } else {
            match self.rounds.refused(now, gap, reading.long, self.phase_matters(held.rate)) {
                Remedy::Shift(fraction) => self.shift = Some(Shift::By(fraction)),
                Remedy::Stay => (),
                Remedy::GiveUp => self.hold = 2.0,
            }
            self.rate = self
                .rounds
                .held()
                .map_or_else(|| (held.pace() * 0.985).min(reading.long), |held| held.pace());
        }
    }

    /// More was let through than the pace that was stood at: go there, and look again soon.
    fn raise(&mut self, reading: f64) {
        self.rate = self.base.max(self.peak.min(reading));
        self.moves.unsure = true;
        self.hold = (self.hold / 4.0).clamp(1.0, 4.0).max(4.0 / self.rate);
        self.step = STEP;
    }

    /// The limit fell: go to what was let through, but at most half the way down at once.
    fn fallen(&mut self, reading: f64) {
        let far = reading < 0.7 * self.rate;
        self.rate = reading.max(0.5 * self.rate);
        self.hold = (0.5 * self.hold).clamp(1.0, 8.0).max(4.0 / self.rate);
        self.step = STEP;
        if far {
            self.start_over();
        }
    }

    /// What was measured at the old limit means nothing for the new one.
    pub(super) fn start_over(&mut self) {
        self.step = STEP;
        self.rounds.reset();
        self.firsts.clear();
        self.history.forget_saturations();
    }
}
