//! The learnt law: find the limit by measuring it, stand at it, and pay one refused call a probe period to learn
//! that it was raised.
//!
//! **Start**: from a slow pace, doubling while something waits, until the first refusal. **Servo**: each refusal
//! episode measures the limit from saturation to saturation ([`measure`]); the pace goes to it and then
//! creeps, so that the next refusal comes about one probe period later. **Held**: when a window explains the refusals
//! ([`fit`]), or readings mean a round number ([`round`]), the pace stands exactly there; once a period it creeps
//! above, to be refused once. No refusal for long: **climb**, ever faster; or back to where the limit was before it fell
//! ([`moves`]). Where others share the limit, none of this
//! ([`contended`]). Beside these,
//! **blocks** ([`block`]) and the long windows that they show ([`window`]).
//!
//! # Why
//! Plain AIMD knows a limit only to within its own step and pays for that in refusals for ever. Here the decrease
//! goes to a measured limit. Differences from the model that the constants come from: growth counts only time in
//! which something waited (no stale growth after a quiet hour), a held number does not creep between probes (the
//! phase that was found stays found), and a refusal at a held number shifts the phase before it cuts.

mod block;
mod contended;
mod episode;
mod fit;
mod headroom;
mod hold_back;
mod measure;
mod moves;
mod observed;
mod prior;
mod round;
mod told;
mod window;
mod words;

pub(super) use self::observed::Observed;
use self::prior::Beginning;
pub(super) use self::prior::Prior;

use self::block::{Block, Blocks};
use self::contended::Contended;
use self::hold_back::HoldBack;
use self::measure::History;
use self::moves::Moves;
use self::round::{Held, Rounds};
use self::window::LongWindow;
use super::law::{Answer, Shift, Stamp};
use super::rate::{Rate, doubled};
use super::settings::LawSettings;
use std::collections::VecDeque;

/// A lane in which nothing waited for this long (or two intervals) was idle.
const IDLE_SECONDS: f64 = 0.5;
/// The servo's first step.
const STEP: f64 = 0.02;
/// How far above a held number a probe goes.
const PROBE_ABOVE: f64 = 0.02;
/// A pace this far above a held number when a refusal comes at last: the limit has moved. Less is believed the
/// second time (a bucket's saved tokens let a climb go on for a while), or where a window named the number exactly.
const MOVED: f64 = 1.25;
/// After a climb of so many seconds without a refusal, a servo's limit was raised.
const CLEARLY_SECONDS: f64 = 2.0;
/// The law's state for one limit.
#[derive(Clone, Debug)]
pub(super) struct Learnt {
    probe_period: f64,
    start_rate: f64,
    doubling_seconds: f64,
    rate: f64,
    /// The pace after the last episode, and the fastest since.
    base: f64,
    peak: f64,
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
    /// The share of a known limit that stays unused between probes, and since when the last probe goes beyond it.
    headroom: f64,
    beyond_since: f64,
    /// Requests that may leave at once, out of a budget that was saved.
    at_once: u32,
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
    /// Others share the limit.
    contended: Option<Contended>,
    began: Beginning,
    moves: Moves,
}

impl Learnt {
    pub(super) fn new(settings: &LawSettings, prior: Option<&Prior>, now: f64) -> Self {
        let mut rounds = Rounds::default();
        let (mut rate, mut starting, mut window) = (settings.start_rate.get(), true, None);
        if let Some(prior) = prior {
            (rate, starting) = (prior.rate, prior.starting);
            if let Some(held) = prior.held.filter(|_| !settings.shared) {
                rounds.inherit(held);
            }
            let window_known = prior.window.filter(|_| !settings.shared);
            window = window_known.map(|(requests, seconds)| LongWindow::new(requests, seconds, now));
            // Where a budget holds back, the pace stands above it.
            rate = window.map_or(rate, |window| rate.max(1.1 * window.rate()));
        }
        let mut law = Self {
            probe_period: settings.probe_period_seconds,
            start_rate: settings.start_rate.get(),
            doubling_seconds: settings.start_doubling_seconds,
            rate,
            base: rate,
            peak: rate,
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
            headroom: settings.headroom,
            beyond_since: f64::NEG_INFINITY,
            at_once: settings.at_once(),
            episode_at: f64::NEG_INFINITY,
            refused_at: f64::NEG_INFINITY,
            episodes: 0,
            hold_back: HoldBack::new(starting && !settings.shared),
            history: History::default(),
            recent_refusals: VecDeque::new(),
            firsts: Vec::new(),
            blocks: Blocks::default(),
            window,
            rounds,
            born: now,
            contended: settings.shared.then(|| Contended::new(now)),
            began: prior.map_or(Beginning::Here, |prior| prior.beginning),
            moves: Moves::default(),
        };
        if !starting {
            // What an earlier run learnt may have changed meanwhile: its first probe comes soon.
            law.hold = if law.began == Beginning::Here { law.period() } else { law.early_probe() };
        }
        law
    }

    pub(super) fn current_rate(&self) -> f64 {
        let rate = self.eased_rate();
        self.window.map_or(rate, |window| rate.min(window.rate() * (1.0 - self.headroom)))
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting
    }

    pub(super) fn paused_until(&self) -> f64 {
        self.hold_back.pause_until()
    }

    /// Holds back no longer: an operator knows better than the last refusal.
    pub(super) fn resume(&mut self) {
        self.hold_back.end();
    }

    /// Goes faster than what is known to be let through.
    pub(super) fn tries(&self) -> bool {
        self.rate > self.base
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
        let waited = self.was_waiting && self.hold_back.is_clear() && now >= self.hold_back.pause_until();
        self.advanced_at = self.advanced_at.max(now);
        if self.was_waiting || waiting > 0 {
            self.note_busy(now);
        }
        self.was_waiting = waiting > 0;
        let eased = self.is_eased();
        if waited && elapsed > 0.0 {
            self.grow(elapsed.min(5.0));
        }
        if eased && !self.is_eased() {
            self.go_beyond(now);
        }
        self.eased_rate()
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
        } else if self.contended.is_some() {
            self.grow_contended(elapsed);
        } else {
            self.pressed += elapsed;
            match self.rounds.held() {
                _ if self.is_eased() => (),
                Some(held) => self.grow_held(held, elapsed),
                None => self.grow_servo(elapsed),
            }
        }
        self.rate = self.rate.min(Rate::FASTEST.get());
        self.peak = self.peak.max(self.rate);
    }

    fn grow_held(&mut self, held: Held, elapsed: f64) {
        let creep_seconds = (1.3 / (PROBE_ABOVE * held.rate)).clamp(3.0, 30.0);
        let beyond = self.pressed - self.hold;
        if beyond <= 0.0 {
            self.rate = held.pace();
        } else if beyond <= creep_seconds {
            self.rate = held.rate * (1.0 + PROBE_ABOVE);
        } else if !self.return_to_former() {
            self.climb(beyond - creep_seconds, elapsed);
        }
    }

    fn grow_servo(&mut self, elapsed: f64) {
        if self.window.is_some_and(|window| self.rate > 11.0 * window.rate()) {
            return;
        }
        self.rate *= 1.0 + self.step * elapsed / self.creep_seconds().unwrap_or(self.hold).max(1.0);
        let beyond = self.pressed - self.creep_seconds().map_or(1.6 * self.hold, |creep| self.hold + creep);
        // A window of a second would have refused by then.
        let was_raised = beyond > CLEARLY_SECONDS && self.return_to_former();
        if beyond > 0.0 && !was_raised {
            self.climb(beyond, elapsed);
        }
    }

    fn climb(&mut self, beyond: f64, elapsed: f64) {
        self.climbing = true;
        // At slow paces a second is no time to learn in: the climb's own time is at least two intervals.
        let unit = (2.0 / self.rate).max(1.0);
        self.rate *= 1.0 + elapsed / unit * doubled(0.04, beyond / unit).min(0.7);
    }

    /// Nothing may leave before this; one that `need_not` wait with the others leaves light pauses to them.
    pub(super) fn hold_until(&mut self, now: f64, waiting: usize, need_not: bool) -> f64 {
        let may_try = waiting > 0 && self.hold_back.is_clear();
        let budget = self.window.as_mut().map_or(f64::NEG_INFINITY, |window| {
            if may_try {
                window.try_more(now, &self.history, self.headroom);
            }
            window.earliest(waiting, &self.history, self.headroom, self.at_once)
        });
        if need_not && self.hold_back.is_light() { budget } else { self.hold_back.until().max(budget) }
    }

    pub(super) fn sent(&mut self, now: f64) -> Stamp {
        if self.surplus >= 1.0 {
            self.surplus -= 1.0;
        }
        let bounded = self.window.is_some_and(|window| window.rate() < self.base);
        if self.starting || self.rate <= self.base || bounded {
            self.surplus = 0.0;
        } else {
            self.surplus += 1.0 - self.base / self.rate;
        }
        self.hold_back.sent();
        self.history.sent(now)
    }

    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer) {
        let before = self.rate;
        self.hold_back.answered();
        self.history.answered(now, stamp, answer);
        match answer {
            Answer::Accepted => {
                if let Some(block) = self.hold_back.let_through(stamp.sent_at) {
                    self.history.blocked(block.from, block.until);
                    self.block_ended(now, block);
                }
            }
            Answer::Refused { retry_after } => self.refused(now, stamp.sent_at, retry_after),
            Answer::Unknown => (),
        }
        if self.rounds.held().is_some() || self.window.is_some() {
            self.hold_back.try_rarely();
        }
        while let Some((sent_at, answer)) = self.history.commit(now) {
            if matches!(answer, Answer::Refused { .. }) {
                self.episode(now, sent_at);
            }
        }
        // It may show a number above the pace: what is let through goes there, not the refusal.
        if matches!(answer, Answer::Refused { .. }) {
            self.rate = self.rate.min(before);
        }
    }

    fn block_ended(&mut self, now: f64, block: Block) {
        let refusals = self.recent_refusals.iter().copied();
        if self.contended.is_some() {
            return self.block_ended_contended(block);
        }
        let found = self.blocks.ended(block, self.window, &self.history, refusals);
        let Some(window) = found else { return };
        self.window = Some(window);
        self.episode_at = now;
        self.pressed = 0.0;
        self.start_over();
        self.rate = self.rate.max(1.1 * window.rate());
        self.base = self.rate;
        self.peak = self.rate;
        self.starting = false;
    }

    /// At once, before the answers of earlier requests are in: how long do the others hold back?
    fn refused(&mut self, now: f64, sent_at: f64, retry_after: Option<f64>) {
        let wait = retry_after.unwrap_or(1.0);
        if self.hold_back.told(now, sent_at, wait) {
            return;
        }
        match self.rounds.held() {
            // A probe's refusal was to be expected, and nobody else needs to wait for it.
            Some(held) if self.rate > held.rate && self.rate <= MOVED * held.rate => self.rate = held.pace(),
            _ => {
                let since = self.hold_back.since(sent_at);
                let ends = match &mut self.window {
                    Some(window) if self.hold_back.is_clear() => window.ends(since, now),
                    Some(window) => window.ends_or_not(since, now),
                    None => None,
                };
                let light = self.hold_back.refused(now, sent_at, wait, self.rate, ends);
                if let Some((from, until)) = light {
                    self.history.paused(from, until);
                }
            }
        }
    }

    pub(super) fn keeps_phase(&self) -> bool {
        !self.is_eased() && self.rounds.held().is_some_and(|held| self.phase_matters(held.rate))
    }

    /// Departures at `rate` are further apart than arrivals scatter.
    fn phase_matters(&self, rate: f64) -> bool {
        rate * 1.5 * self.history.jitter() < 1.0
    }

    /// The limit in numbers: requests, and the window in seconds. A trial of more is not known yet.
    pub(super) fn believes(&self) -> Option<(f64, f64)> {
        if self.starting {
            return None;
        }
        if let Some(window) = self.window {
            return Some((f64::from(window.stood), window.seconds));
        }
        let servo = ((self.base * 100.0).round() / 100.0, 1.0);
        Some(self.rounds.held().map_or(servo, |held| (held.requests, held.window_seconds)))
    }
}
