//! What kind of limiter is it that says nothing, as far as its refusals show? A bucket, or a window that begins with its first
//! request.
//!
//! **A bucket** that is asked for more than comes back is empty at every refusal. So what got through up to each of them lies on
//! one line: what the bucket held, and what came back since. A window that is spent lets nothing through until it ends, which bends
//! the line. Where it is straight from the first refusal on, and stands above what came back by more than a second's worth, that is
//! what a bucket held. (A shallower one looks like a window of a second to a lane that keeps an even pace.)
//!
//! **A long window that begins with its first request** ends so long after the very first one. On a grid that would be chance.
//!
//! Fixed windows of some seconds are told by the law that learns them, which needs their phase.

use super::attribution::Passed;
use super::{LimitModel, LimitSource, LimitView};
use std::collections::VecDeque;

/// Refusals that are kept: the first, and the last.
const FIRST: usize = 24;
const LAST: usize = 40;
/// Answers to what was sent before a refusal are back after so long, in seconds.
const SETTLED_SECONDS: f64 = 2.0;
/// Refusals, and episodes of them, without which a line means nothing.
const POINTS_MIN: usize = 6;
const EPISODES_MIN: usize = 4;
const EPISODE_SECONDS: f64 = 0.5;
/// How far from the line, in requests, counts may lie: a token that is nearly there, and a request overtaken by another.
const BAND: f64 = 1.3;
/// How much later than others a request may be, in seconds.
const SCATTER_SECONDS: f64 = 0.03;
/// What a bucket holds must be so many times what scatters, and what comes back in so many seconds.
const HELD_TIMES: f64 = 2.2;
const HELD_SECONDS: f64 = 1.2;
/// Requests up to the first refusal that are kept.
const OPENING: usize = 512;
/// Nothing gets through for so long, in seconds, when a long window is spent; and its end is seen so much later than it is: in
/// seconds, and as a share of it.
const SPENT_SECONDS: f64 = 4.0;
const LATE_SECONDS: f64 = 1.0;
const LATE_SHARE: f64 = 0.02;
/// The law's measure is the bucket's if it is as close as this.
const SAME_RATE: f64 = 0.08;

/// What refusals show of one lane's limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    /// When the first request left that got through.
    began: Option<f64>,
    /// When the last one left that got through, and when the first did after a window was spent.
    passed_at: f64,
    resumed: Option<f64>,
    /// What got through up to the first refusal.
    opening: Vec<f64>,
    first: Vec<Point>,
    last: VecDeque<Point>,
    /// What got through up to these is not certain yet.
    open: VecDeque<f64>,
    found: Option<Bucket>,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// When it left.
    at: f64,
    /// What had got through by then, and how far off that may be.
    passed: f64,
    off: f64,
}

/// A bucket that explains the refusals.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    holds: f64,
    rate: f64,
}

impl Kind {
    /// One got through that left at `sent_at`.
    pub(super) fn accepted(&mut self, sent_at: f64) {
        self.began.get_or_insert(sent_at);
        if self.resumed.is_none() && self.is_refused() && sent_at - self.passed_at >= SPENT_SECONDS {
            self.resumed = Some(sent_at);
        }
        self.passed_at = self.passed_at.max(sent_at);
    }

    fn is_refused(&self) -> bool {
        !self.open.is_empty() || !self.first.is_empty()
    }

    /// One was refused that left at `sent_at`; of all, `passed` got through lately, and `total` altogether.
    pub(super) fn refused(&mut self, now: f64, sent_at: f64, passed: &Passed, total: u64) {
        if self.open.len() < LAST {
            self.open.push_back(sent_at);
        }
        let mut is_new = false;
        while let Some(at) = self.open.front().copied().filter(|at| now - at >= SETTLED_SECONDS) {
            self.open.pop_front();
            let Some(after) = passed.count_after(at) else { continue };
            is_new = true;
            if self.first.is_empty() {
                self.opening = passed.until(at, OPENING).collect();
            }
            let off = BAND + passed.count(at - SCATTER_SECONDS, at + SCATTER_SECONDS) as f64;
            let point = Point { at, passed: total as f64 - after as f64, off };
            if self.first.len() < FIRST {
                self.first.push(point);
                continue;
            }
            if self.last.len() >= LAST {
                self.last.pop_front();
            }
            self.last.push_back(point);
        }
        if is_new {
            self.found = self.fit().or(self.found);
        }
    }

    /// The limit of the law, as what it is.
    pub(super) fn of(&self, limit: LimitView) -> LimitView {
        if limit.source != LimitSource::Learnt || limit.at_least {
            return limit;
        }
        if limit.model == LimitModel::FixedWindow && self.begins_with_request(limit.window_seconds) {
            let says = format!("{}; the window begins with its first request", limit.says);
            return LimitView { model: LimitModel::AnchoredWindow, says, ..limit };
        }
        let rate = limit.requests / limit.window_seconds;
        let is_same = |bucket: &Bucket| (rate - bucket.rate).abs() <= SAME_RATE * bucket.rate;
        match self.found.filter(|bucket| limit.model == LimitModel::Unknown && is_same(bucket)) {
            Some(bucket) => {
                let requests = bucket.holds.round();
                let says = format!("{}; it is a bucket that holds about {requests}", limit.says);
                let window_seconds = requests / rate;
                LimitView { requests, window_seconds, model: LimitModel::TokenBucket, says, ..limit }
            }
            None => limit,
        }
    }

    /// Did the first window end when one does that began with the first request?
    fn begins_with_request(&self, seconds: f64) -> bool {
        let (Some(began), Some(resumed)) = (self.began, self.resumed) else { return false };
        let lasted = resumed - began;
        seconds >= 2.0 * SPENT_SECONDS
            && lasted >= seconds - 0.5
            && lasted <= seconds * (1.0 + LATE_SHARE) + LATE_SECONDS
    }

    fn fit(&self) -> Option<Bucket> {
        let points = || self.first.iter().chain(&self.last);
        let first = self.first.first()?;
        let count = points().count();
        let gaps = points().zip(points().skip(1)).filter(|(a, b)| b.at - a.at >= EPISODE_SECONDS);
        if count < POINTS_MIN || gaps.count() + 1 < EPISODES_MIN {
            return None;
        }
        let mean = |of: &dyn Fn(&Point) -> f64| points().map(of).sum::<f64>() / count as f64;
        let (at, passed) = (mean(&|point| point.at), mean(&|point| point.passed));
        let spread = mean(&|point| (point.at - at) * (point.at - at));
        let rate = mean(&|point| (point.at - at) * (point.passed - passed)) / spread;
        if !rate.is_finite() || rate <= 0.0 {
            return None;
        }
        let line = |moment: f64| passed + rate * (moment - at);
        let is_straight = points().all(|point| (point.passed - line(point.at)).abs() <= point.off);
        // It was full until more was asked for than came back: at the moment since when most was taken out of it.
        let taken = self.opening.iter().rev().zip(1_u32..);
        let taken = taken.map(|(since, count)| f64::from(count) - rate * (first.at - since));
        let holds = taken.fold(0.0, f64::max);
        let is_deep = holds >= HELD_TIMES * (BAND + SCATTER_SECONDS * rate) && holds >= HELD_SECONDS * rate;
        (is_straight && is_deep).then_some(Bucket { holds, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Quota;
    use crate::sim::limits::{Limiter, Limits, Model};

    /// What refusals show of `limits`, asked at twice what they let through at first, then at about that.
    fn kind(mut limits: Limits, rate: f64) -> Kind {
        let (mut kind, mut passed, mut total, mut at) = (Kind::default(), Passed::default(), 0_u64, 10.0_f64);
        let mut refusals = 0_u32;
        while at < 100.0 {
            if limits.admit(at).is_ok() {
                total += 1;
                kind.accepted(at);
                passed.accepted(at);
            } else {
                refusals += 1;
                kind.refused(at + 0.05, at, &passed, total);
            }
            let pace = if refusals < 10 { 2.0 * rate } else { 1.02 * rate };
            at += 1.0 / pace;
        }
        kind
    }

    fn limits(text: &str, model: Model) -> Limits {
        Limits::new(vec![Limiter::new(text.parse::<Quota>().unwrap(), model)])
    }

    #[test]
    fn a_bucket_is_told_with_what_it_holds() {
        for (text, rate, burst) in [("450/min", 7.5, 15.0), ("10/s", 10.0, 30.0), ("5/s", 5.0, 60.0)] {
            let found = kind(limits(text, Model::Bucket { burst }), rate).found.unwrap();
            assert!((found.holds - burst).abs() <= 1.5, "{text}: {found:?}");
            assert!((found.rate / rate - 1.0).abs() < 0.02, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_long_window_that_ends_as_long_after_the_first_request_began_with_it() {
        let limit = || LimitView {
            requests: 180.0,
            window_seconds: 60.0,
            model: LimitModel::FixedWindow,
            at_least: false,
            source: LimitSource::Learnt,
            confidence: 0.8,
            says: "180 requests a minute".into(),
        };
        let found = kind(limits("180/min", Model::Anchored), 12.0).of(limit());
        assert_eq!(found.model, LimitModel::AnchoredWindow);
        let found = kind(limits("180/min", Model::Fixed { phase_seconds: 33.0 }), 12.0).of(limit());
        assert_eq!(found.model, LimitModel::FixedWindow);
    }

    #[test]
    fn windows_are_none() {
        for (text, rate) in [("10/s", 10.0), ("25/2s", 12.5), ("300/min", 5.0), ("100/10s", 10.0)] {
            for phase in 0..20_u32 {
                let phase_seconds = f64::from(phase) * 0.37;
                let found = kind(limits(text, Model::Fixed { phase_seconds }), rate).found;
                assert_eq!(found, None, "{text} at {phase_seconds}");
            }
            assert_eq!(kind(limits(text, Model::Anchored), rate).found, None, "{text}");
            assert_eq!(kind(limits(text, Model::Sliding), rate).found, None, "{text}");
        }
    }
}
