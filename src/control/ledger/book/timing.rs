//! When may the next request leave, by one ledger?

use super::Book;
use crate::control::ledger::window::Rounding;

/// The guard around a window's end: so many times the jitter, and at most this share of the window.
const GUARD_JITTERS: f64 = 1.2;
const GUARD_SHARE_MAX: f64 = 0.15;
const GUARD_SECONDS_MIN: f64 = 0.002;
/// This share of what the even line still has may be spent ahead of it, by a queue that is no longer than that.
const CREDIT: f64 = 0.1;
/// Such requests still leave this many times closer together than even, not all at once.
const CREDIT_SPEED: f64 = 5.0;
/// The pace is never more than so many times the even one.
pub(super) const RUSH: f64 = 5.0;
/// A scout that is out for longer than this no longer holds up the others.
const SCOUT_SECONDS: f64 = 1.0;
/// In a log's window this share of the requests is kept back, one at least and two at most: departures overtake each
/// other, and its room is seen late.
const KEPT_SLIDING: f64 = 0.02;
/// A budget that is doubted is spent so long before the end, the last of it within so long, if its window is this long; in seconds.
const EARLY_SECONDS: f64 = 3.0;
const RUN_OUT_SECONDS: f64 = 0.5;
const DOUBTED_SECONDS: f64 = 10.0;

impl Book {
    /// How far from a window's end nothing leaves, with arrivals that scatter by `jitter` seconds.
    pub(in crate::control::ledger) fn guard(&self, jitter: f64) -> f64 {
        (GUARD_JITTERS * jitter).min(GUARD_SHARE_MAX * self.seconds()).max(GUARD_SECONDS_MIN)
    }

    /// When the next one may leave, with `waiting` that could and `flying` out.
    pub(in crate::control::ledger) fn ready_at(
        &mut self,
        now: f64,
        waiting: usize,
        flying: usize,
        guard: f64,
    ) -> f64 {
        let said_spent = self.is_said_spent(now, guard);
        self.doubt.note(now, said_spent);
        if !self.is_timed() {
            let is_kept = self.is_unclear(now) || (!self.is_vouched && !self.is_short());
            let gone = is_kept && self.left(now, flying) < 1.0;
            return if gone { self.doubt.until(self.window.hi + guard) } else { f64::NEG_INFINITY };
        }
        if let Some(rate) = self.refill.rate() {
            return self.ready_bucket(now, waiting, flying, rate);
        }
        let even = self.even();
        if self.slides {
            return self.ready_sliding(now, flying, guard);
        }
        if self.is_over(now, guard) {
            return match self.scout {
                None => now,
                Some((_, sent_at)) => (sent_at + SCOUT_SECONDS).max(self.last + 1.0 / even),
            };
        }
        let end = self.window.lo - guard;
        // The first window's scout may find it open for a second more (a reset that was rounded down).
        let kept = if self.window.rounding == Rounding::Unknown { 1.0 } else { 0.0 };
        let others = self.others();
        let early = self.doubts_soon(now, waiting, others);
        let margin = if others > 0.0 { 1.0 } else { 0.0 };
        let left = self.to_spend(now, flying) - kept - margin;
        if now >= end || left < 1.0 {
            if early > 0.0 {
                self.doubt.ask();
            }
            return self.doubt.until(self.window.hi + guard);
        }
        if !self.is_paced() {
            return f64::NEG_INFINITY;
        }
        let rest = (end - early - now).max(RUN_OUT_SECONDS.min(end - now));
        let pace = if others > 0.0 {
            self.others.share(now, left / rest)
        } else {
            let (opened_at, found) = self.opened;
            let line = (found - self.reserve).max(0.0) * rest / (end - opened_at).max(rest);
            let ahead = line - left;
            let at_once = f64::from(self.at_once);
            if at_once > 1.0 && ahead < at_once && waiting as f64 <= at_once {
                // Announced is certain: what leaves now leaves less for later, and no more than that.
                return self.last;
            }
            let credit = CREDIT * line;
            if ahead < credit && waiting as f64 <= credit - ahead {
                CREDIT_SPEED * left / rest
            } else {
                left / rest
            }
        };
        // What an idle time left over is not thrown at the API all at once.
        (self.last + 1.0 / pace.min(RUSH * even)).min(self.window.hi + guard)
    }

    /// By how much, in seconds, a budget is spent before its window's end, so that one more can be sent to see whether that is
    /// all: nothing, but now and then.
    fn doubts_soon(&mut self, now: f64, waiting: usize, others: f64) -> f64 {
        let can_be_asked =
            waiting > 0 && others <= 0.0 && self.reserve <= 0.0 && self.seconds() >= DOUBTED_SECONDS;
        if can_be_asked && self.is_paced() && self.doubt.is_due(now) { EARLY_SECONDS } else { 0.0 }
    }

    /// As [`Book::ready_at`], of a log: evenly, a little below the limit, and only while the count leaves room.
    fn ready_sliding(&self, now: f64, flying: usize, guard: f64) -> f64 {
        let room = if self.to_spend(now, flying) >= 1.0 || self.is_over(now, guard) {
            f64::NEG_INFINITY
        } else {
            self.doubt.until(self.window.hi + guard)
        };
        let budget = f64::from(self.requests) - self.reserve;
        let pace =
            (budget - (KEPT_SLIDING * budget).clamp(1.0, 2.0)).max(0.5) / self.seconds() - self.others();
        room.max(self.last + 1.0 / pace.max(0.05 * self.even()))
    }
}
