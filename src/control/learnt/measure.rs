//! What was sent and what came of it, in the order of sending; and the limit measured from it.
//!
//! **Saturation to saturation** (S2S): between two instants at which the limiter was exhausted, the accepted
//! requests are exactly what the limiter released. So the limit is *measured*, where a blind decrease would only
//! bracket it. The measure that the pace stands on leaves pauses in the time: a window's budget does not shrink by
//! them, nor a bucket's, and an estimate that is too low heals itself (fewer refusals, fewer pauses), where one that is
//! too high feeds itself. Send times stand in for the limiter's clock: a constant outbound delay cancels.

use crate::control::jitter::Jitter;
use crate::control::law::{Answer, Stamp};
use crate::control::recent::{insert_sorted, push_bounded};
use std::collections::VecDeque;

/// An answer that is out for longer than this does not hold up the others.
const STRAGGLER_SECONDS: f64 = 3.0;
/// Bounds of memory: the longest count that a measure needs is that of a few windows.
const ACCEPTED_MAX: usize = 20_000;
const UNREFUSED_MAX: usize = 20_000;

/// Over so long demand is measured, and so much of the greatest is left after another such time.
const DEMAND_SECONDS: f64 = 5.0;
const DEMAND_KEPT: f64 = 0.8;

/// Spans of a measure: long enough to hold a window, short enough to be of now.
const SPAN_SECONDS_MIN: f64 = 0.8;
const SPAN_SECONDS_MAX: f64 = 40.0;

/// The limit as measured, in requests/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// Over the last few requests, pauses taken out: the most that the limit may be, quick to show a fall.
    pub(super) short: f64,
    /// The same with all the time taken out in which nothing got through: no limit is higher.
    pub(super) free: f64,
    /// Over all saturations since the limit last moved: exact.
    pub(super) long: f64,
    /// How long that was.
    pub(super) span_seconds: f64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: f64,
    answer: Option<Answer>,
}

/// The record of one lane's departures.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Departures whose answer has not been committed; the first has number `first`.
    open: VecDeque<Sent>,
    first: u64,
    /// Send times of accepted requests, ascending.
    accepted: VecDeque<f64>,
    /// Send times of requests not known to be refused, ascending: what a window ledger must count.
    unrefused: VecDeque<f64>,
    /// Instants at which the limiter was exhausted, ascending.
    saturations: VecDeque<f64>,
    /// Light pauses, from and until; and all the time from a refusal to what got through next.
    pauses: VecDeque<(f64, f64)>,
    blocks: VecDeque<(f64, f64)>,
    jitter: Jitter,
    demand: Demand,
}

/// How much is asked, in requests/s: the most of the last few spells.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    since: f64,
    count: u32,
    rate: f64,
}

impl Demand {
    fn sent(&mut self, now: f64) {
        let elapsed = now - self.since;
        if elapsed >= DEMAND_SECONDS {
            // Across an idle time nothing is measured.
            if elapsed < 2.0 * DEMAND_SECONDS {
                self.rate = (f64::from(self.count) / elapsed).max(DEMAND_KEPT * self.rate);
            }
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
    }
}

impl History {
    pub(super) fn sent(&mut self, now: f64) -> Stamp {
        let number = self.first + self.open.len() as u64;
        self.open.push_back(Sent { at: now, answer: None });
        push_bounded(&mut self.unrefused, now, UNREFUSED_MAX);
        self.demand.sent(now);
        Stamp::new(number, now)
    }

    /// Notes an answer; [`History::commit`] hands it out in its turn.
    pub(super) fn answered(&mut self, now: f64, stamp: Stamp, answer: Answer) {
        if matches!(answer, Answer::Accepted) {
            self.jitter.note(now - stamp.sent_at);
        }
        if matches!(answer, Answer::Refused { .. }) {
            let at = self.unrefused.partition_point(|sent| *sent < stamp.sent_at);
            if self.unrefused.get(at).is_some_and(|sent| *sent <= stamp.sent_at) {
                self.unrefused.remove(at);
            }
        }
        let index = stamp.number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(sent) = index.and_then(|index| self.open.get_mut(index)) {
            sent.answer = Some(answer);
        }
    }

    /// The next answer in the order of sending, if it is there or may be skipped.
    pub(super) fn commit(&mut self, now: f64) -> Option<(f64, Answer)> {
        let sent = *self.open.front()?;
        let answer = match sent.answer {
            Some(answer) => answer,
            None if now - sent.at > STRAGGLER_SECONDS => Answer::Unknown,
            None => return None,
        };
        self.open.pop_front();
        self.first += 1;
        if matches!(answer, Answer::Accepted) {
            insert_sorted(&mut self.accepted, sent.at);
            while self.accepted.len() > ACCEPTED_MAX {
                self.accepted.pop_front();
            }
        }
        Some((sent.at, answer))
    }

    /// Accepted requests sent in `(after, until]`.
    pub(super) fn accepted_in(&self, after: f64, until: f64) -> usize {
        let upto = |limit: f64| self.accepted.partition_point(|sent| *sent <= limit);
        upto(until).saturating_sub(upto(after))
    }

    /// When the first accepted request at or after `from` was sent.
    pub(super) fn first_accepted_from(&self, from: f64) -> Option<f64> {
        self.accepted.get(self.accepted.partition_point(|sent| *sent < from)).copied()
    }

    /// When the `count`-th last request not known to be refused was sent.
    pub(super) fn unrefused_back(&self, count: usize) -> Option<f64> {
        self.unrefused.len().checked_sub(count).and_then(|index| self.unrefused.get(index)).copied()
    }

    /// The limiter was exhausted at `at`.
    pub(super) fn saturated(&mut self, at: f64) {
        push_bounded(&mut self.saturations, at, 14);
    }

    /// As [`History::saturated`], for an episode that goes on: it moves the last instant.
    pub(super) fn still_saturated(&mut self, at: f64) {
        self.saturations.pop_back();
        self.saturated(at);
    }

    /// The limit moved: what was measured across the change means nothing.
    pub(super) fn forget_saturations(&mut self) {
        self.saturations.clear();
    }

    /// The limit, measured from earlier saturations up to one at `at`; nothing before the second saturation.
    pub(super) fn measure(&self, at: f64) -> Option<Reading> {
        let mut short = None;
        let mut long = None;
        for from in self.saturations.iter().rev().copied() {
            let span = at - from;
            if span < SPAN_SECONDS_MIN {
                continue;
            }
            // At a thousand a second the record holds less than the longest span: what it has dropped cannot be counted.
            let is_forgotten = self.accepted.len() >= ACCEPTED_MAX && self.accepted.front() > Some(&from);
            if is_forgotten || (span > SPAN_SECONDS_MAX && long.is_some()) {
                break;
            }
            let count = self.accepted_in(from, at);
            if short.is_none() && (count >= 6 || span > SPAN_SECONDS_MAX) {
                let without = |breaks| count as f64 / (span - within(breaks, from, at)).max(0.4 * span);
                short = Some((without(&self.pauses), without(&self.blocks)));
            }
            long = Some((count as f64 / span, span));
        }
        let (long, span_seconds) = long?;
        let (short, free) = short.unwrap_or((long, long));
        Some(Reading { short, free, long, span_seconds })
    }

    /// The lane held back from `from` until `until`.
    pub(super) fn paused(&mut self, from: f64, until: f64) {
        push_bounded(&mut self.pauses, (from, until), 40);
    }

    /// Nothing got through from `from` until `until`.
    pub(super) fn blocked(&mut self, from: f64, until: f64) {
        push_bounded(&mut self.blocks, (from, until), 40);
    }

    /// Accepted requests per second in `(from, at]`, over at least a quarter of a second.
    pub(super) fn recent(&self, at: f64, from: f64) -> f64 {
        self.accepted_in(from, at) as f64 / (at - from).max(0.25)
    }

    /// How many requests/s were sent when much was asked lately; 0 before five seconds of it.
    pub(super) fn demand(&self) -> f64 {
        self.demand.rate
    }

    /// How much later than usual a request may arrive, in seconds.
    pub(super) fn jitter(&self) -> f64 {
        self.jitter.seconds()
    }
}

/// How much of the time from `from` until `until` is in `breaks`.
fn within(breaks: &VecDeque<(f64, f64)>, from: f64, until: f64) -> f64 {
    breaks.iter().map(|(start, end)| (until.min(*end) - from.max(*start)).max(0.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` accepted requests, evenly over `seconds` from `from`.
    fn accepted(history: &mut History, count: u32, from: f64, seconds: f64) {
        for n in 0..count {
            let at = from + seconds * f64::from(n) / f64::from(count);
            let stamp = history.sent(at);
            history.answered(at, stamp, Answer::Accepted);
            assert!(history.commit(at).is_some());
        }
    }

    #[test]
    fn a_span_longer_than_the_record_is_no_measure() {
        let mut history = History::default();
        history.saturated(0.0);
        accepted(&mut history, 20_000, 0.0, 20.0);
        history.saturated(20.0);
        accepted(&mut history, 8_000, 20.0, 8.0);
        let reading = history.measure(28.0).unwrap();
        assert!((reading.long - 1000.0).abs() < 1.0, "{reading:?}");
        assert!((reading.span_seconds - 8.0).abs() < 1e-9, "{reading:?}");
    }
}
