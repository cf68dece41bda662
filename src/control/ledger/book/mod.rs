//! One announced limit: what is spent of its budget, when its window ends, and when the next request may leave.
//!
//! What is spent is the newest count that the API told, plus every request that is still out: each may be uncounted.
//! What is left is spread evenly until shortly before the window's end; nothing leaves around the end itself, whose
//! moment is known to within an interval only; then one **scout** goes ahead, which opens the next window (some begin
//! with their first request) and brings the new numbers.

mod timing;

use super::doubt::Doubt;
use super::others::Others;
use super::window::{Fit, Rounding, Window};
use crate::control::lane::SAME;
use crate::control::{AnnouncedBy, AnnouncedView, Announcement, LimitModel};
use std::sync::Arc;

/// Others who would spend less than this in a window are nobody.
const NOBODY: f64 = 0.5;
/// With others, shares are uneven for so many windows after the start, and for so long at most.
const SETTLING_WINDOWS: f64 = 1.5;
const SETTLING_SECONDS_MAX: f64 = 180.0;
/// It takes this long, in seconds, to see three short windows begin; of a time in which nothing is sent, so much counts.
const UNCLEAR_SECONDS: f64 = 6.0;
const QUIET_SECONDS: f64 = 1.0;
/// A budget that lasts no longer than this, in seconds, is spread over its window.
const PACED_SECONDS: f64 = 3_700.0;
/// A count up to this has not gone far from its start.
const FEW: u32 = 3;
/// Ends that move on without the count falling: it is no window that starts over.
const SHIFTS_MAX: u32 = 3;
/// Window lengths that people choose, in seconds.
const LENGTHS: [f64; 12] =
    [1.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 86_400.0];
/// A window up to this long has no phase that whole seconds could tell: the law, which finds phases, holds its number.
pub(super) const SHORT_SECONDS: f64 = 2.0;

/// One limit as it is announced, and what we make of it.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) name: Arc<str>,
    pub(super) requests: u32,
    /// As told, where it is told.
    window_told: Option<f64>,
    /// The longest time to the end that was ever told.
    reset_max: f64,
    used: u32,
    /// When it was first announced.
    first_at: f64,
    /// Seconds of it that were watched, quiet times shortened.
    watched: f64,
    /// When the request was sent whose answer told that.
    told_at: f64,
    window: Window,
    /// When this window was first seen, and how many requests were left then: the even line starts there.
    opened: (f64, f64),
    scout: Option<(u64, f64)>,
    last: f64,
    others: Others,
    /// Ends that moved on in a row without the count falling.
    shifts: u32,
    /// It counts what was sent in the last so many seconds: there is no end.
    slides: bool,
    /// The law knows the number.
    is_said: bool,
    /// An accepted request's answer announced it. What refusals alone announce is known too late to foresee them.
    pub(super) is_vouched: bool,
    pub(super) doubt: Doubt,
    /// Windows seen to begin, when the last one was, and the shortest time between two.
    rollovers: u32,
    began_at: f64,
    gap_min: f64,
    /// Answers since it was last announced.
    pub(super) unseen: u32,
    /// Refusals that it did not foresee, lately.
    pub(super) strikes: u32,
    /// Requests of the budget that stay unused.
    reserve: f64,
    /// Requests that may leave at once ahead of the even line.
    at_once: u32,
}

/// The request that an answer is to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) departure: u64,
    pub(super) sent_at: f64,
    /// Requests still out that were sent before it.
    pub(super) flying: usize,
    /// The limiter let it through.
    pub(super) let_in: bool,
}

/// What an answer tells beyond this book.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// The number and the window are certain, and whole seconds cannot time them: a pace for the law to hold.
    Number { requests: u32, seconds: f64 },
}

impl Book {
    /// A book of what `told` announces; `None` when it says too little to keep one.
    pub(super) fn new(told: &Announcement) -> Option<Self> {
        (told.source == AnnouncedBy::Header && told.requests > 0 && told.used.is_some()).then(|| Self {
            name: Arc::clone(&told.name),
            requests: told.requests,
            window_told: None,
            reset_max: 0.0,
            used: 0,
            first_at: f64::NEG_INFINITY,
            watched: 0.0,
            told_at: f64::NEG_INFINITY,
            window: Window::unknown(),
            opened: (f64::NEG_INFINITY, 0.0),
            scout: None,
            last: f64::NEG_INFINITY,
            others: Others::default(),
            shifts: 0,
            slides: false,
            is_said: false,
            is_vouched: false,
            doubt: Doubt::new(),
            rollovers: 0,
            began_at: f64::NEG_INFINITY,
            gap_min: f64::INFINITY,
            unseen: 0,
            strikes: 0,
            reserve: 0.0,
            at_once: 1,
        })
    }

    /// A book that leaves the share `headroom` of its budget unused, and lets `at_once` requests go ahead of its line.
    pub(super) fn with(self, headroom: f64, at_once: u32) -> Self {
        Self {
            reserve: headroom * f64::from(self.requests),
            at_once,
            others: Others::beside(at_once),
            ..self
        }
    }

    /// Can requests be timed by it?
    pub(super) fn is_timed(&self) -> bool {
        self.is_vouched && !self.is_odd() && self.window.hi.is_finite() && !self.is_short()
    }

    /// What it calls an end is none, nor is it a log's.
    fn is_odd(&self) -> bool {
        self.shifts >= SHIFTS_MAX || self.doubt.is_refuted()
    }

    /// Does it say how fast? A budget for longer than an hour is no pace: nobody waits for its end, so it is spent as it is
    /// wanted, at the law's pace, until it is gone.
    pub(super) fn is_paced(&self) -> bool {
        self.is_timed() && self.window.hi - self.told_at <= PACED_SECONDS
    }

    /// The API said that nothing is left, of a window that is open beyond doubt.
    fn is_said_spent(&self, now: f64, guard: f64) -> bool {
        self.used >= self.requests && now < self.window.lo - guard - 1.0
    }

    /// How it counts, as far as that is known.
    pub(super) fn model(&self) -> LimitModel {
        if self.slides { LimitModel::SlidingWindow } else { LimitModel::FixedWindow }
    }

    fn is_short(&self) -> bool {
        self.window_told.unwrap_or(self.reset_max) <= SHORT_SECONDS
    }

    /// A short window, or the end of a long one? For the first seconds its budget is kept, at the law's pace; what has not
    /// started over by then is neither.
    fn is_unclear(&self, now: f64) -> bool {
        let quiet = (now - self.told_at).min(QUIET_SECONDS);
        self.watched + quiet < UNCLEAR_SECONDS
            && self.window_told.is_none()
            && self.is_short()
            && !self.is_said
            && !self.is_odd()
    }

    /// The window's length in seconds, as far as it is known: told, or seen when a window began, or else the next length
    /// that people choose. (60 s are told as 61 by an API that rounds up what is already whole.)
    pub(super) fn seconds(&self) -> f64 {
        if let Some(told) = self.window_told {
            return told.max(0.001);
        }
        let usual = LENGTHS.into_iter().find(|length| *length >= self.reset_max - 1.0);
        match usual {
            Some(length) if self.rollovers == 0 || length <= self.reset_max => length,
            _ => self.reset_max.max(1.0),
        }
    }

    /// The even pace over a whole window, in requests/s.
    pub(super) fn even(&self) -> f64 {
        f64::from(self.requests) / self.seconds()
    }

    /// What others spend, in requests/s.
    pub(super) fn others(&self) -> f64 {
        if self.others.rate() * self.seconds() > NOBODY { self.others.rate() } else { 0.0 }
    }

    /// The pace that it sets over windows to come, in requests/s; beside others it is known by what they leave of the even
    /// one, by the share that was settled on, and by what we got through in a whole window. Each of them is low at times: at
    /// a burst of theirs, in a window that is nearly spent, after a time without demand.
    pub(super) fn pace(&self) -> f64 {
        let even = self.even() - self.reserve / self.seconds();
        if self.others() <= 0.0 {
            return even;
        }
        let left = even - self.others.settled();
        let own = self.others.own_rate(self.seconds());
        left.max(own).max(self.others.last_share().unwrap_or(0.0)).min(even)
    }

    /// Beside others, shares come to be even in a window or so: before that, nothing can be foretold from the pace.
    pub(super) fn is_settling(&self) -> bool {
        let seen_for = self.told_at - self.first_at;
        self.others() > 0.0 && seen_for < (SETTLING_WINDOWS * self.seconds()).min(SETTLING_SECONDS_MAX)
    }

    /// What is left of the budget with `flying` requests out.
    pub(super) fn left(&self, flying: usize) -> f64 {
        f64::from(self.requests) - f64::from(self.used) - flying as f64
    }

    /// As [`Book::left`], without what stays unused.
    pub(super) fn to_spend(&self, flying: usize) -> f64 {
        self.left(flying) - self.reserve
    }

    /// As it is shown, with `flying` requests out.
    pub(super) fn view(&self, now: f64, flying: usize) -> AnnouncedView {
        let reset = (self.window.hi - now).max(0.0);
        AnnouncedView {
            name: Arc::clone(&self.name),
            requests: self.requests,
            remaining: self.left(flying).max(0.0),
            reset_seconds: self.window.hi.is_finite().then_some(reset),
            window_seconds: self.seconds(),
        }
    }

    /// The latest moment at which the window ends.
    pub(super) fn end(&self) -> f64 {
        self.window.hi
    }

    /// Is the window over beyond doubt? What leaves a rounding's breadth before that leaves then: it is the scout, and the
    /// others wait for it.
    fn is_over(&self, now: f64, guard: f64) -> bool {
        now + SAME >= self.window.hi + guard
    }

    /// Until when it is certain that nothing can leave, if nothing is left.
    pub(super) fn blocked_until(&self) -> f64 {
        self.doubt.believed_until(self.window.hi)
    }

    /// One departs.
    pub(super) fn sent(&mut self, now: f64, departure: u64, guard: f64) {
        self.last = now;
        if self.is_said_spent(now, guard) {
            self.doubt.sent(departure);
        }
        if self.scout.is_none() && self.is_over(now, guard) {
            self.scout = Some((departure, now));
        }
    }

    /// It is back, or was never sent. Says when it left, if it was the scout.
    pub(super) fn back(&mut self, departure: u64) -> bool {
        let was_scout = self.scout.is_some_and(|(scout, _)| scout == departure);
        if was_scout {
            self.scout = None;
        }
        was_scout
    }

    /// Accepted, by an answer that said nothing of this limit.
    pub(super) fn accepted_unsaid(&mut self, sent_at: f64) {
        if sent_at > self.told_at {
            self.used = self.used.saturating_add(1);
        }
    }

    /// Ours was counted.
    pub(super) fn counted(&mut self, sent_at: f64) {
        self.others.counted(sent_at);
    }

    /// An answer that announces this limit.
    pub(super) fn hear(&mut self, now: f64, answered: &Answered, told: &Announcement, guard: f64) -> Known {
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
            if known && over {
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
        self.number()
    }

    /// As [`Book::hear`], of a log: its end is when the eldest request leaves it.
    fn hear_sliding(&mut self, now: f64, sent_at: f64, used: u32, flying: usize, told: &Announcement) {
        if let Some(reset) = told.reset {
            self.window.begin(sent_at, now, reset.as_secs_f64());
        }
        self.others.read_sliding(sent_at, used, flying, self.seconds());
        (self.used, self.told_at) = (used, sent_at);
    }

    /// The budget is gone until the window ends: a refusal said so.
    pub(super) fn spent(&mut self) {
        self.used = self.used.max(self.requests);
        self.doubt.confirm();
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
