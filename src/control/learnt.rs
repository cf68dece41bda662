//! The learnt law: find the limit by measuring it, stand at it, and pay one refused call a probe period to learn
//! that it was raised.
//!
//! **Start**: from a slow pace, doubling while something waits, until the first refusal. **Servo**: each refusal
//! episode measures the limit from saturation to saturation ([`super::measure`]); the pace goes to it and then
//! creeps, so that the next refusal comes about one probe period later. **Held**: when readings mean a round number
//! ([`super::round`]), the pace stands exactly there; once a period it creeps above, to be refused once. No refusal
//! for long: **climb**, ever faster. Beside these, **blocks** and long windows ([`super::window`]).
//!
//! # Why
//! Plain AIMD knows a limit only to within its own step and pays for that in refusals for ever. Here the decrease
//! goes to a measured limit. Differences from the model that the constants come from: growth counts only time in
//! which something waited (no stale growth after a quiet hour), a held number does not creep between probes (the
//! phase that was found stays found), and a refusal at a held number shifts the phase before it cuts.

use super::LimitView;
use super::fit::{Fit, fit};
use super::law::{Answer, Shift, Stamp, doubled};
use super::measure::{History, Reading};
use super::rate::Rate;
use super::round::{Held, Remedy, Rounds};
use super::settings::LawSettings;
use super::window::{Block, Blocks, LongWindow};
use std::collections::VecDeque;

/// A Retry-After from here on is informative: the budget is gone, and this says until when.
const INFORMATIVE_SECONDS: f64 = 2.0;
/// Refusals this close together are one episode.
const EPISODE_SECONDS: f64 = 0.3;
/// A lane in which nothing waited for this long (or two intervals) was idle.
const IDLE_SECONDS: f64 = 0.5;
/// Over less than this, what a window let through says little of its limit.
const BUSY_SECONDS: f64 = 2.0;
/// The servo's first step, and its smallest.
const STEP: f64 = 0.02;
const STEP_MIN: f64 = 0.005;
/// How far above a held number a probe goes.
const PROBE_ABOVE: f64 = 0.02;
/// A pace this far above a held number when a refusal comes at last: the limit has moved. Less is believed the
/// second time (a bucket's saved tokens let a climb go on for a while).
const MOVED: f64 = 1.25;
/// A measure in a climb this far above the pace before it: the climb found something.
const RAISED: f64 = 1.04;
/// A measure this far below the pace: the limit has fallen.
const FALLEN: f64 = 0.87;
/// The share of refusals that steady probing may cost (0.002), and the most that it may (0.01).
const PROBE_SHARE: f64 = 0.002;
const PROBE_SHARE_MAX: f64 = 0.01;

/// What one lane of a route can start from, learnt by another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    rate: f64,
    starting: bool,
    held: Option<Held>,
    window: Option<(u32, f64)>,
}

/// The law's state for one limit.
#[derive(Clone, Debug)]
pub(super) struct Learnt {
    probe_period: f64,
    doubling_seconds: f64,
    rate: f64,
    /// The pace after the last episode.
    base: f64,
    starting: bool,
    step: f64,
    /// How long the servo means to go without a refusal, in seconds.
    hold: f64,
    /// Time with something waiting since the last episode or pause.
    pressed: f64,
    advanced_at: f64,
    was_waiting: bool,
    /// Since when something has waited without a pause worth naming, and when something last did.
    busy_since: f64,
    waited_at: f64,
    /// Growing ever faster, since no refusal came for long.
    climbing: bool,
    /// Departures above the known limit that have not been made by a probe yet.
    surplus: f64,
    shift: Option<Shift>,
    episode_at: f64,
    refused_at: f64,
    episodes: u32,
    hold_back: HoldBack,
    history: History,
    recent_refusals: VecDeque<f64>,
    /// The first refusals of the last episodes at the present limit.
    firsts: Vec<f64>,
    blocks: Blocks,
    window: Option<LongWindow>,
    rounds: Rounds,
    born: f64,
}

/// How the lane holds back after refusals.
#[derive(Clone, Copy, Debug)]
struct HoldBack {
    /// Refusals in a row, of requests that knew of the one before.
    refusals: u32,
    /// When the first of them was sent.
    since: f64,
    /// The end of the last pause.
    pause_until: f64,
    informative: bool,
    /// One request at a time: this one is out.
    trial_out: bool,
}

impl Learnt {
    pub(super) fn new(settings: &LawSettings, prior: Option<&Prior>, now: f64) -> Self {
        let mut rounds = Rounds::default();
        let (mut rate, mut starting, mut window) = (settings.start_rate.get(), true, None);
        if let Some(prior) = prior {
            (rate, starting) = (prior.rate, prior.starting);
            if let Some(held) = prior.held {
                rounds.inherit(held);
            }
            window = prior.window.map(|(requests, seconds)| LongWindow::inherited(requests, seconds, now));
        }
        let mut law = Self {
            probe_period: settings.probe_period_seconds,
            doubling_seconds: settings.start_doubling_seconds,
            rate,
            base: rate,
            starting,
            step: STEP,
            hold: 1.0,
            pressed: 0.0,
            advanced_at: now,
            was_waiting: false,
            busy_since: now,
            waited_at: now,
            climbing: false,
            surplus: 0.0,
            shift: None,
            episode_at: f64::NEG_INFINITY,
            refused_at: f64::NEG_INFINITY,
            episodes: 0,
            hold_back: HoldBack {
                refusals: 0,
                since: f64::NEG_INFINITY,
                pause_until: f64::NEG_INFINITY,
                informative: false,
                trial_out: false,
            },
            history: History::default(),
            recent_refusals: VecDeque::new(),
            firsts: Vec::new(),
            blocks: Blocks::default(),
            window,
            rounds,
            born: now,
        };
        if !starting {
            law.hold = law.period();
        }
        law
    }

    pub(super) fn current_rate(&self) -> f64 {
        self.window.map_or(self.rate, |window| self.rate.min(window.rate()))
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting
    }

    pub(super) fn paused_until(&self) -> f64 {
        self.hold_back.pause_until
    }

    pub(super) fn probes(&self) -> bool {
        self.surplus >= 1.0
    }

    pub(super) fn take_shift(&mut self) -> Option<Shift> {
        self.shift.take()
    }

    /// The pace at `now`, grown by the time in which something waited.
    pub(super) fn rate(&mut self, now: f64, waiting: usize) -> f64 {
        let elapsed = (now - self.advanced_at).max(0.0);
        let waited = self.was_waiting && self.hold_back.refusals == 0 && now >= self.hold_back.pause_until;
        self.advanced_at = self.advanced_at.max(now);
        if self.was_waiting || waiting > 0 {
            self.note_busy(now);
        }
        self.was_waiting = waiting > 0;
        if waited && elapsed > 0.0 {
            self.grow(elapsed.min(5.0));
        }
        self.rate
    }

    /// A limit that was not used up is not measured: saturations before an idle time say nothing of what came after.
    fn note_busy(&mut self, now: f64) {
        if !self.was_waiting && now - self.waited_at > (2.0 / self.rate).max(IDLE_SECONDS) {
            self.busy_since = now;
            self.history.forget_saturations();
        }
        self.waited_at = self.waited_at.max(now);
    }

    fn grow(&mut self, elapsed: f64) {
        if self.starting {
            self.rate = doubled(self.rate, elapsed.min(0.5) / self.doubling_seconds);
        } else {
            self.pressed += elapsed;
            match self.rounds.held() {
                Some(held) => self.grow_held(held, elapsed),
                None => self.grow_servo(elapsed),
            }
        }
        self.rate = self.rate.min(Rate::FASTEST.get());
    }

    fn grow_held(&mut self, held: Held, elapsed: f64) {
        let creep_seconds = (1.3 / (PROBE_ABOVE * held.rate)).clamp(3.0, 30.0);
        let beyond = self.pressed - self.hold;
        if beyond <= 0.0 {
            self.rate = held.pace();
        } else if beyond <= creep_seconds {
            self.rate = held.rate * (1.0 + PROBE_ABOVE);
        } else {
            self.climb(beyond - creep_seconds, elapsed);
        }
    }

    fn grow_servo(&mut self, elapsed: f64) {
        if self.window.is_some_and(|window| self.rate > 11.0 * window.rate()) {
            return;
        }
        self.rate *= 1.0 + self.step * elapsed / self.hold.max(1.0);
        let beyond = self.pressed - 1.6 * self.hold;
        if beyond > 0.0 {
            self.climb(beyond, elapsed);
        }
    }

    fn climb(&mut self, beyond: f64, elapsed: f64) {
        self.climbing = true;
        // At slow paces a second is no time to learn in: the climb's own time is at least two intervals.
        let unit = (2.0 / self.rate).max(1.0);
        self.rate *= 1.0 + elapsed / unit * doubled(0.04, beyond / unit).min(0.7);
    }

    /// Nothing may leave before this.
    pub(super) fn hold_until(&mut self, now: f64, waiting: usize) -> f64 {
        if self.hold_back.refusals >= 2 && self.hold_back.trial_out {
            return f64::INFINITY;
        }
        let budget = match &mut self.window {
            Some(window) => window.earliest(now, waiting, &self.history),
            None => f64::NEG_INFINITY,
        };
        self.hold_back.pause_until.max(budget)
    }

    pub(super) fn sent(&mut self, now: f64) -> Stamp {
        if self.surplus >= 1.0 {
            self.surplus -= 1.0;
        }
        if self.starting || self.rate <= self.base {
            self.surplus = 0.0;
        } else {
            self.surplus += 1.0 - self.base / self.rate;
        }
        self.hold_back.trial_out = self.hold_back.refusals >= 2;
        self.history.sent(now)
    }

    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer) {
        self.hold_back.trial_out = false;
        self.history.answered(now, stamp, answer);
        match answer {
            Answer::Accepted => self.let_through(now, stamp.sent_at),
            Answer::Refused { retry_after } => self.refused(now, stamp.sent_at, retry_after),
            Answer::Unknown => (),
        }
        while let Some((sent_at, answer)) = self.history.commit(now) {
            if matches!(answer, Answer::Refused { .. }) {
                self.episode(now, sent_at);
            }
        }
    }

    fn let_through(&mut self, now: f64, sent_at: f64) {
        let held = self.hold_back;
        if held.refusals == 0 || sent_at <= held.since {
            return;
        }
        self.hold_back.refusals = 0;
        if held.refusals >= 2 && sent_at - held.since > 2.5 {
            self.block_ended(now, Block { from: held.since, until: sent_at, informative: held.informative });
        }
    }

    fn block_ended(&mut self, now: f64, block: Block) {
        let refusals = self.recent_refusals.iter().copied();
        let found = self.blocks.ended(now, block, self.window, &self.history, refusals);
        let Some(window) = found else { return };
        self.window = Some(window);
        self.episode_at = now;
        self.pressed = 0.0;
        self.start_over();
        self.rate = self.rate.max(1.1 * window.rate());
        self.base = self.rate;
        self.starting = false;
    }

    /// At once, before the answers of earlier requests are in: how long do the others hold back?
    fn refused(&mut self, now: f64, sent_at: f64, retry_after: Option<f64>) {
        let wait = retry_after.unwrap_or(1.0);
        let hold = &mut self.hold_back;
        if let Some(window) = &mut self.window
            && hold.refusals == 0
        {
            window.refused(now);
        }
        hold.informative = wait >= INFORMATIVE_SECONDS;
        if hold.informative {
            if hold.refusals == 0 {
                hold.since = sent_at;
            }
            hold.refusals = (hold.refusals + 1).max(2);
            hold.pause_until = hold.pause_until.max(now + wait);
            return;
        }
        if let Some(held) = self.rounds.held()
            && self.rate > held.rate
            && self.rate <= MOVED * held.rate
        {
            self.rate = held.pace();
            return;
        }
        if hold.refusals == 0 {
            hold.since = sent_at;
            hold.refusals = 1;
            let light = (3.0 / self.rate).clamp(0.02, 0.25);
            hold.pause_until = hold.pause_until.max(now + wait.min(light));
            self.history.paused(now, hold.pause_until);
        } else if sent_at >= hold.pause_until - 1e-6 {
            hold.refusals += 1;
            let backoff = doubled(0.25, f64::from(hold.refusals - 1));
            let backoff = if hold.refusals > 2 { backoff.max(wait) } else { backoff };
            hold.pause_until = hold.pause_until.max(now + backoff.min(5.0));
        }
    }

    /// In the order of sending: what does this refusal say of the limit?
    fn episode(&mut self, now: f64, at: f64) {
        self.recent_refusals.push_back(at);
        while self.recent_refusals.len() > 300 {
            self.recent_refusals.pop_front();
        }
        if self.hold_back.refusals >= 2 && !self.starting && at >= self.hold_back.since + EPISODE_SECONDS {
            self.refused_at = at;
            return;
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
            self.rate = self.rate.min(reading.short);
        } else if let Some(held) = self.rounds.held() {
            let fitted = self.fit(now).filter(|fit| (fit.rate() - held.rate).abs() > 0.02 * held.rate);
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
            Reading { short: rate, long: rate, span_seconds: at - from }
        };
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
            Some(fit) => self.rounds.hold(now, fit.rate()),
            None if self.window.is_none() => self.rounds.read(now, reading.long, self.rate),
            None => None,
        };
        let Some(held) = held else { return };
        self.rate = held.pace();
        // The first probe comes soon: a number that is too low shows at once, and costs little to confirm.
        self.hold = (self.period() / 8.0).max(5.0);
        if let (Some(Fit { boundary, .. }), true) = (fitted, self.phase_matters(held.rate)) {
            self.shift = Some(Shift::Onto(boundary + 0.5 / held.rate));
        }
    }

    fn episode_servo(&mut self, at: f64, reading: Reading, gap: f64, climbed: bool) {
        // A window of about a second leaves a measure uncertain by a second's share of its span.
        let uncertain = 0.02 + 1.0 / reading.span_seconds.max(1.0);
        if self.history.measure(at).is_some_and(|measured| measured.short < FALLEN * self.base) {
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
        let further = above && self.rate > RAISED * held.rate;
        let long_enough = at - self.busy_since >= BUSY_SECONDS;
        if long_enough && (self.rate > MOVED * held.rate || (further && self.rounds.seems_low())) {
            self.base = held.rate;
            self.raise(reading.short);
            self.start_over();
        } else if reading.short < FALLEN * held.pace() {
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
        self.rate = self.base.max(self.rate.min(reading));
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
    fn start_over(&mut self) {
        self.step = STEP;
        self.rounds.reset();
        self.firsts.clear();
        self.history.forget_saturations();
    }

    pub(super) fn keeps_phase(&self) -> bool {
        self.rounds.held().is_some_and(|held| self.phase_matters(held.rate))
    }

    /// Departures at `rate` are further apart than arrivals scatter.
    fn phase_matters(&self, rate: f64) -> bool {
        rate * 1.5 * self.history.jitter() < 1.0
    }

    /// Seconds between probes at the present pace: the probe period, less often where one refusal would be more
    /// than 1 % of the requests, more often where it would be less than 0.2 %.
    fn period(&self) -> f64 {
        let rate = self.rate.max(0.01);
        let wanted = (1.0 / (PROBE_SHARE * rate)).max(6.0).min(self.probe_period);
        wanted.max((1.0 / (PROBE_SHARE_MAX * rate)).min(120.0))
    }

    pub(super) fn prior(&self) -> Option<Prior> {
        if self.starting {
            // A lane without a limit: another credential may start at what this one really used.
            let used = self.history.recent(self.advanced_at, self.advanced_at - 5.0);
            return (used > 0.0).then_some(Prior {
                rate: used.max(0.1),
                starting: true,
                held: None,
                window: None,
            });
        }
        let window = self.window.map(|window| (window.requests, window.seconds));
        Some(Prior { rate: self.base, starting: false, held: self.rounds.held(), window })
    }

    pub(super) fn limit(&self) -> Option<LimitView> {
        if self.starting {
            return None;
        }
        if let Some(window) = self.window {
            let (requests, window_seconds) = (f64::from(window.requests), window.seconds);
            let says =
                format!("{requests} requests in {window_seconds} s: then refused until the window ends");
            return Some(LimitView { requests, window_seconds, confidence: 0.8, says });
        }
        if let Some(held) = self.rounds.held() {
            let per_second = (held.rate - held.rate.round()).abs() < 1e-9;
            let window_seconds = if per_second { 1.0 } else { 60.0 };
            let requests = (held.rate * window_seconds).round();
            let unit = if per_second { "second" } else { "minute" };
            let says = format!(
                "{requests} requests a {unit}: measured {} times, a round number, and stood at since",
                self.episodes.saturating_sub(1)
            );
            return Some(LimitView { requests, window_seconds, confidence: 0.95 - 5.0 * held.margin, says });
        }
        let requests = (self.base * 100.0).round() / 100.0;
        let confidence = (0.2 + 0.1 * f64::from(self.episodes.min(5))).min(0.7);
        let says = format!("about {requests} requests a second: measured {} times", self.episodes);
        Some(LimitView { requests, window_seconds: 1.0, confidence, says })
    }
}
