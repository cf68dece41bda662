//! How a lane holds back after refusals: a light pause first, then one request at a time.
//!
//! One refusal makes one request wait; its siblings hold back for moments only, since a bucket refills meanwhile. A
//! refusal of a request that already knew of that pause means a block: then trials, one at a time, further and further
//! apart, until one gets through. A Retry-After of two seconds or more says how long the budget is gone.
//!
//! **At fast paces, before any limit was known,** the first second of a block has more trials than the model's (CONTROL's
//! first ones are half a second and a second apart): most fast limits are kept in windows of a second, and a window whose
//! start is missed is half lost, and measured as if the limit were that low. In virtual time, seconds until 95 % of a fixed
//! window are used, median (worst of 20 phases): at 100/s 9.3 (13.8) without and 2.2 (7.2) with, at 400/s 10.5 (22.8) and
//! 3.2 (13.2); at 1000/s over six 11 (22.5) and 3.8 (10.0). Not later: what goes on after a limit moved is measured as it
//! is, and a sliding window of 200/s that halves was followed in 13 s for 2. Nor where others share the limit: the trials
//! would take what the others are to get.

use super::block::Block;
use crate::control::rate::doubled;
use crate::control::retry::PAUSING_SECONDS;

/// A light pause lasts as long as so many departures, within these bounds.
const LIGHT_DEPARTURES: f64 = 3.0;
const LIGHT_SECONDS_MIN: f64 = 0.02;
const LIGHT_SECONDS_MAX: f64 = 0.25;
/// Where a long window may be spent: a sliding one would have let something in again by then.
const LIGHT_SECONDS_SPENT: f64 = 1.0;
/// The first wait between trials, doubled each time, up to the longest.
const TRIAL_SECONDS: f64 = 0.25;
const TRIAL_SECONDS_MAX: f64 = 5.0;
/// A block this young may be the rest of a short window: at fast paces its trials are as far apart as so many
/// departures, and as such a share of its age.
const YOUNG_SECONDS: f64 = 1.0;
const YOUNG_DEPARTURES: f64 = 15.0;
const YOUNG_SHARE: f64 = 0.7;
/// From this pace on, in requests/s.
const FAST: f64 = 30.0;

/// How the lane holds back after refusals.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldBack {
    /// Refusals in a row, of requests that knew of the one before.
    refusals: u32,
    /// When the first of them was sent.
    since: f64,
    /// The end of the last pause.
    pause_until: f64,
    informative: bool,
    /// One request at a time: this one is out.
    trial_out: bool,
    /// A young block is tried sooner.
    quick: bool,
}

impl HoldBack {
    /// Holds nothing back. `quick`: no limit is known yet, and none that others share.
    pub(super) fn new(quick: bool) -> Self {
        Self {
            refusals: 0,
            since: f64::NEG_INFINITY,
            pause_until: f64::NEG_INFINITY,
            informative: false,
            trial_out: false,
            quick,
        }
    }

    /// Holds nothing back any longer.
    pub(super) fn end(&mut self) {
        *self = Self::new(self.quick);
    }

    /// A limit is known: blocks are tried at the usual times from now on.
    pub(super) fn try_rarely(&mut self) {
        self.quick = false;
    }

    /// Nothing was refused since something last got through.
    pub(super) fn is_clear(&self) -> bool {
        self.refusals == 0
    }

    /// A request sent at `at` could not know whether the block is over: its refusal says nothing new.
    pub(super) fn covers(&self, at: f64, episode_seconds: f64) -> bool {
        self.is_block() && at >= self.since + episode_seconds
    }

    fn is_block(&self) -> bool {
        self.refusals >= 2
    }

    /// Nothing is held back but moments, for all to wait in.
    pub(super) fn is_light(&self) -> bool {
        !self.is_block()
    }

    /// The end of the last pause.
    pub(super) fn pause_until(&self) -> f64 {
        self.pause_until
    }

    /// Nothing may leave before this; infinite while a trial is out.
    pub(super) fn until(&self) -> f64 {
        if self.is_block() && self.trial_out { f64::INFINITY } else { self.pause_until }
    }

    /// One departs.
    pub(super) fn sent(&mut self) {
        self.trial_out = self.is_block();
    }

    /// Any answer: the trial is back.
    pub(super) fn answered(&mut self) {
        self.trial_out = false;
    }

    /// A request sent at `sent_at` got through. Gives the block that it ended, if it did.
    pub(super) fn let_through(&mut self, sent_at: f64) -> Option<Block> {
        if self.is_clear() || sent_at <= self.since {
            return None;
        }
        self.refusals = 0;
        Some(Block { from: self.since, until: sent_at, informative: self.informative })
    }

    /// A refusal that says how long the budget is gone. Says whether it was one.
    pub(super) fn told(&mut self, now: f64, sent_at: f64, wait: f64) -> bool {
        self.informative = wait >= PAUSING_SECONDS;
        if self.informative {
            if self.is_clear() {
                self.since = sent_at;
            }
            self.refusals = (self.refusals + 1).max(2);
            self.pause_until = self.pause_until.max(now + wait);
        }
        self.informative
    }

    /// When the first refusal of the block was sent.
    pub(super) fn since(&self, sent_at: f64) -> f64 {
        if self.is_clear() { sent_at } else { self.since }
    }

    /// Any other refusal, at a pace of `rate`, in a block that `ends` at a known time. Gives the light pause that it
    /// starts, if it does.
    pub(super) fn refused(
        &mut self,
        now: f64,
        sent_at: f64,
        wait: f64,
        rate: f64,
        ends: Option<f64>,
    ) -> Option<(f64, f64)> {
        if self.is_clear() {
            self.since = sent_at;
            self.refusals = 1;
            let light = match ends {
                Some(_) => LIGHT_SECONDS_SPENT,
                None => (LIGHT_DEPARTURES / rate).clamp(LIGHT_SECONDS_MIN, LIGHT_SECONDS_MAX),
            };
            self.pause_until = self.pause_until.max(now + wait.min(light));
            return Some((now, self.pause_until));
        }
        if sent_at >= self.pause_until - 1e-6 {
            let age = now - self.since;
            let young = rate >= FAST && age < YOUNG_SECONDS && self.quick;
            if !(young && self.is_block()) {
                self.refusals = self.refusals.saturating_add(1);
            }
            let backoff = if young {
                (YOUNG_DEPARTURES / rate).max(YOUNG_SHARE * age)
            } else {
                let backoff = doubled(TRIAL_SECONDS, f64::from(self.refusals - 1));
                if self.refusals > 2 { backoff.max(wait) } else { backoff }
            };
            let backoff = now + backoff.min(TRIAL_SECONDS_MAX);
            if let Some(ends) = ends.filter(|ends| *ends > backoff) {
                self.refusals = 2;
                self.pause_until = self.pause_until.max(ends);
            } else {
                self.pause_until = self.pause_until.max(backoff);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_is_a_light_pause_and_siblings_in_flight_change_nothing() {
        let mut hold = HoldBack::new(true);
        assert_eq!(hold.refused(1.0, 0.95, 1.0, 10.0, None), Some((1.0, 1.25)));
        assert_eq!(hold.refused(1.01, 0.96, 1.0, 10.0, None), None);
        assert!((hold.until() - 1.25).abs() < 1e-9);
        assert_eq!(hold.let_through(0.9), None, "it was sent before");
        assert!(hold.let_through(1.3).is_some());
        assert!(hold.is_clear());
    }

    #[test]
    fn a_refusal_after_the_pause_means_trials_one_at_a_time() {
        let mut hold = HoldBack::new(true);
        hold.refused(1.0, 0.95, 1.0, 10.0, None);
        hold.refused(1.35, 1.3, 1.0, 10.0, None);
        assert!((hold.until() - 1.85).abs() < 1e-9, "half a second until the next trial");
        hold.sent();
        assert!(hold.until().is_infinite(), "the trial is out");
        hold.answered();
        hold.refused(1.95, 1.9, 1.0, 10.0, None);
        assert!((hold.until() - 2.95).abs() < 1e-9);
        let block = hold.let_through(4.0).unwrap();
        assert!((block.from - 0.95).abs() < 1e-9 && (block.until - 4.0).abs() < 1e-9 && !block.informative);
    }

    #[test]
    fn at_a_fast_pace_a_young_block_is_tried_sooner_while_no_limit_is_known() {
        let waits = |quick| {
            let mut hold = HoldBack::new(quick);
            hold.refused(1.0, 0.95, 1.0, 100.0, None);
            hold.refused(1.1, 1.05, 1.0, 100.0, None);
            hold.until() - 1.1
        };
        assert!((waits(true) - 0.15).abs() < 1e-9, "fifteen departures");
        assert!((waits(false) - 0.5).abs() < 1e-9);
        let mut hold = HoldBack::new(true);
        hold.refused(1.0, 0.95, 1.0, 100.0, None);
        hold.refused(1.65, 1.6, 1.0, 100.0, None);
        assert!((hold.until() - 1.65 - 0.49).abs() < 1e-9, "a share of its age");
        hold.refused(2.25, 2.2, 1.0, 100.0, None);
        assert!((hold.until() - 3.25).abs() < 1e-9, "no longer young: the usual trials");
    }

    #[test]
    fn a_block_whose_end_is_known_is_asked_once_and_waited_out() {
        let mut hold = HoldBack::new(true);
        hold.refused(1.0, 0.95, 1.0, 5.0, Some(13.0));
        assert!((hold.until() - 2.0).abs() < 1e-9, "a second, whatever the pace");
        hold.refused(2.1, 2.05, 1.0, 5.0, Some(13.0));
        assert!((hold.until() - 13.0).abs() < 1e-9);
        hold.refused(13.1, 13.05, 1.0, 5.0, None);
        assert!((hold.until() - 14.1).abs() < 1e-9, "it was another: the usual trials");
    }

    #[test]
    fn a_long_retry_after_pauses_until_then() {
        let mut hold = HoldBack::new(true);
        assert!(!hold.told(1.0, 0.9, 1.9));
        assert!(hold.told(1.0, 0.9, 42.0));
        assert!((hold.until() - 43.0).abs() < 1e-9);
        assert!(hold.let_through(43.1).unwrap().informative);
    }
}
