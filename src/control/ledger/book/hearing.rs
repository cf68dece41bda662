//! What an answer that announces a limit tells of it.

use super::{Answered, Book, Known, QUIET_SECONDS};
use crate::control::Announcement;
use crate::control::ledger::window::{Fit, Rounding};

/// A count up to this has not gone far from its start.
const FEW: u32 = 3;
/// The numbers of one answer.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When its request was sent.
    sent_at: f64,
    used: u32,
    /// Requests still out that were sent before it.
    flying: usize,
    /// Seconds to the end, as told.
    reset: f64,
    /// Its request went ahead into a new window, and was let in.
    is_scout: bool,
}

impl Book {
    /// An answer that announces this limit.
    pub(in crate::control::ledger) fn hear(
        &mut self,
        now: f64,
        answered: &Answered,
        told: &Announcement,
        guard: f64,
    ) -> Known {
        let Answered { departure, sent_at, flying, let_in } = *answered;
        // A scout that was let in tells whether the window is over; one that was refused, only that it is open.
        let is_scout = let_in && self.scout.is_some_and(|(scout, _)| scout == departure);
        self.unseen = 0;
        self.is_vouched |= let_in;
        if self.first_at == f64::NEG_INFINITY {
            self.first_at = now;
        }
        self.window_told = told.window.map(|window| window.as_secs_f64()).or(self.window_told);
        let Some(used) = told.used else { return Known::Nothing };
        if sent_at <= self.told_at {
            // Of requests that left together, in any order, the largest count of this window is the newest.
            if self.at_once > 1 && !self.slides && sent_at >= self.opened.0 {
                self.used = self.used.max(used);
            }
            return Known::Nothing;
        }
        if self.told_at.is_finite() {
            self.watched += (sent_at - self.told_at).min(QUIET_SECONDS);
        }
        if self.slides {
            self.hear_sliding(now, sent_at, used, flying, told);
            return Known::Nothing;
        }
        let Some(reset) = told.reset.map(|reset| reset.as_secs_f64()) else {
            (self.used, self.told_at) = (used, sent_at);
            return self.number();
        };
        self.refill.hear(used, reset);
        if self.refill.rate().is_some() {
            self.hear_bucket(now, sent_at, used, flying, reset);
            return Known::Nothing;
        }
        self.hear_window(now, &Heard { sent_at, used, flying, reset, is_scout }, guard);
        self.number()
    }

    /// As [`Book::hear`], of a window: does it go on, or has another begun?
    fn hear_window(&mut self, now: f64, heard: &Heard, guard: f64) {
        let Heard { sent_at, used, flying, reset, is_scout } = *heard;
        self.reset_max = self.reset_max.max(reset);
        let was_due = self.is_over(sent_at, guard);
        let (before, known) = (self.window, self.told_at.is_finite());
        self.last = self.last.max(sent_at);
        let late = sent_at > before.hi + (0.5 * self.seconds()).max(2.0);
        let fit = self.window.hear(sent_at, now, reset);
        let over = used <= (self.used / 2).max(FEW);
        let fell = over && used < self.used && (self.is_short() || sent_at > before.lo - guard);
        // It should be over, and the count goes on from where it was: what is left leaves it one by one. (A count that is
        // low, or is seen late, may be what others spent of a new window.)
        let goes_on = is_scout && !over && used <= self.used && !self.is_short();
        let prompt = sent_at < before.hi + 1.0 + 0.1 * self.seconds();
        if goes_on && prompt && used >= self.requests / 4 {
            self.slides = true;
        }
        if !known || late || fell || goes_on || (over && (was_due || fit == Fit::Later)) {
            if !known {
                self.anchor.begin(used, reset);
            }
            if known && over {
                self.anchor.opened(sent_at - before.hi, reset, self.seconds());
                // A count that never goes far falls in a bucket too, with every token that comes back.
                if self.used > FEW || !self.is_short() {
                    self.rollovers += 1;
                    if self.rollovers > 1 {
                        self.gap_min = self.gap_min.min(sent_at - self.began_at);
                    }
                    self.began_at = sent_at;
                }
                if was_due {
                    self.window.over_in_time();
                }
            }
            // A window that begins and is nearly over is none.
            let stunted = known && was_due && !late && reset < 0.5 * self.reset_max;
            self.shifts = if stunted { self.shifts + 1 } else { 0 };
            self.window.begin(sent_at, now, reset);
            self.opened = (sent_at, f64::from(self.requests.saturating_sub(used)));
            self.others.window(sent_at, used);
        } else {
            if was_due && self.window.rounding != Rounding::Down {
                self.window.still_open();
            } else if is_scout || fit == Fit::Later {
                self.shifts += 1;
            }
            self.others.read(sent_at, used, flying, self.seconds());
        }
        (self.used, self.told_at) = (used, sent_at);
        self.doubt.note(now, self.is_said_spent(now, guard));
    }

    /// As [`Book::hear`], of a log: its end is when the eldest request leaves it.
    fn hear_sliding(&mut self, now: f64, sent_at: f64, used: u32, flying: usize, told: &Announcement) {
        if let Some(reset) = told.reset {
            self.window.begin(sent_at, now, reset.as_secs_f64());
        }
        self.others.read_sliding(sent_at, used, flying, self.seconds());
        (self.used, self.told_at) = (used, sent_at);
    }

    /// A number that whole seconds cannot time, said once: from then on the law's own evidence counts.
    fn number(&mut self) -> Known {
        if self.doubt.is_refuted() {
            return Known::Nothing;
        }
        let seconds = match self.window_told {
            Some(seconds) if !self.is_timed() => seconds,
            // One second may be told as 2, as 60 are as 61: the time between two starts tells. A reset that is always
            // 0, or starts that are further apart or closer, say nothing: a bucket that was waited for looks like them.
            None if self.is_short()
                && self.rollovers > 2
                && self.reset_max >= 1.0
                && (0.8..1.25).contains(&self.gap_min) =>
            {
                1.0
            }
            _ => return Known::Nothing,
        };
        if std::mem::replace(&mut self.is_said, true) {
            return Known::Nothing;
        }
        Known::Number { requests: self.requests, seconds }
    }
}
