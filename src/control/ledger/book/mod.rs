//! One announced limit: what is spent of its budget, when its window ends, and when the next request may leave.
//!
//! What is spent is the newest count that the API told, plus every request that is still out: each may be uncounted.
//! What is left is spread evenly until shortly before the window's end; nothing leaves around the end itself, whose
//! moment is known to within an interval only; then one **scout** goes ahead, which opens the next window (some begin
//! with their first request) and brings the new numbers.

mod bucket;
mod hearing;
mod sharing;
mod timing;

use super::anchor::Anchor;
use super::doubt::Doubt;
use super::others::Others;
use super::refill::Refill;
use super::window::Window;
use crate::control::lane::SAME;
use crate::control::{AnnouncedBy, AnnouncedView, Announcement, LimitModel};
use std::sync::Arc;

/// Others who would spend less than this in a window are nobody.
const NOBODY: f64 = 0.5;
/// It takes this long, in seconds, to see three short windows begin; of a time in which nothing is sent, so much counts.
const UNCLEAR_SECONDS: f64 = 6.0;
const QUIET_SECONDS: f64 = 1.0;
/// A budget that lasts no longer than this, in seconds, is spread over its window.
const PACED_SECONDS: f64 = 3_700.0;
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
    /// When that answer came: what a bucket got back since is known.
    heard_at: f64,
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
    /// It is a bucket, if its rate is known; and since when what was let through says how fast it fills: when, and what
    /// was gone then.
    refill: Refill,
    anchor: Anchor,
    filling: Option<(f64, u32)>,
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
    /// A book of what `told` announces, for one who may pay a refused call every so many seconds; `None` when it says too
    /// little to keep one.
    pub(super) fn new(told: &Announcement, probe_period_seconds: f64) -> Option<Self> {
        (told.source == AnnouncedBy::Header && told.requests > 0 && told.used.is_some()).then(|| Self {
            name: Arc::clone(&told.name),
            requests: told.requests,
            window_told: None,
            reset_max: 0.0,
            used: 0,
            first_at: f64::NEG_INFINITY,
            watched: 0.0,
            told_at: f64::NEG_INFINITY,
            heard_at: f64::NEG_INFINITY,
            window: Window::unknown(),
            opened: (f64::NEG_INFINITY, 0.0),
            scout: None,
            last: f64::NEG_INFINITY,
            others: Others::default(),
            shifts: 0,
            slides: false,
            refill: Refill::new(),
            anchor: Anchor::default(),
            filling: None,
            is_said: false,
            is_vouched: false,
            doubt: Doubt::new(probe_period_seconds),
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
        let by_window = || !self.is_odd() && self.window.hi.is_finite() && !self.is_short();
        self.is_vouched && (self.refill.rate().is_some() || by_window())
    }

    /// What it calls an end is none, nor is it a log's.
    fn is_odd(&self) -> bool {
        self.shifts >= SHIFTS_MAX || self.doubt.is_refuted()
    }

    /// Does it say how fast? A budget for longer than an hour is no pace: nobody waits for its end, so it is spent as it is
    /// wanted, at the law's pace, until it is gone.
    pub(super) fn is_paced(&self) -> bool {
        self.is_timed() && (self.refill.rate().is_some() || self.window.hi - self.told_at <= PACED_SECONDS)
    }

    /// The API said that nothing is left, of a window that is open beyond doubt.
    fn is_said_spent(&self, now: f64, guard: f64) -> bool {
        self.used >= self.requests && self.refill.rate().is_none() && now < self.window.lo - guard - 1.0
    }

    /// How it counts, as far as that is known.
    pub(super) fn model(&self) -> LimitModel {
        match (self.refill.rate(), self.slides) {
            (Some(_), _) => LimitModel::TokenBucket,
            (None, true) => LimitModel::SlidingWindow,
            (None, false) if self.anchor.is_with_request(self.seconds(), self.reset_max, self.rollovers) => {
                LimitModel::AnchoredWindow
            }
            (None, false) => LimitModel::FixedWindow,
        }
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
    /// that people choose. (60 s are told as 61 by an API that rounds up what is already whole.) Of a bucket, the time to
    /// fill it.
    pub(super) fn seconds(&self) -> f64 {
        if let Some(rate) = self.refill.rate() {
            return f64::from(self.requests) / rate;
        }
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
        // Of a bucket only what is left is looked at, whoever took it.
        if self.refill.rate().is_some() {
            return 0.0;
        }
        if self.others.rate() * self.seconds() > NOBODY { self.others.rate() } else { 0.0 }
    }

    /// What is left of the budget with `flying` requests out.
    pub(super) fn left(&self, now: f64, flying: usize) -> f64 {
        let came_back = self.refill.rate().map_or(0.0, |rate| rate * (now - self.heard_at).max(0.0));
        let used = (f64::from(self.used) - came_back).max(0.0);
        f64::from(self.requests) - used - flying as f64
    }

    /// As [`Book::left`], without what stays unused of a window.
    pub(super) fn to_spend(&self, now: f64, flying: usize) -> f64 {
        self.left(now, flying) - self.reserve
    }

    /// As it is shown, with `flying` requests out.
    pub(super) fn view(&self, now: f64, flying: usize) -> AnnouncedView {
        let reset = (self.window.hi - now).max(0.0);
        AnnouncedView {
            name: Arc::clone(&self.name),
            requests: self.requests,
            remaining: self.left(now, flying).max(0.0),
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

    /// Until when it is certain that nothing can leave, with `flying` requests out.
    pub(super) fn blocked_until(&self, flying: usize) -> f64 {
        if self.refill.rate().is_some() || self.to_spend(self.heard_at, flying) >= 1.0 {
            return f64::NEG_INFINITY;
        }
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

    /// The budget is gone until the window ends, or a token comes back: a refusal said so.
    pub(super) fn spent(&mut self, now: f64) {
        self.used = self.used.max(self.requests);
        self.heard_at = now;
        self.doubt.confirm();
    }
}
