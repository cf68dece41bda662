//! A limit that moved may move again, and back.
//!
//! Limits that fall often come back: an incident ends, a tenant's night is over. So for some minutes after a fall the
//! limit is probed twice as often as otherwise, and once a probe shows that it was raised, the pace goes back to what
//! was known before, without a climb that would overshoot it. If that is too much, it is forgotten.

use super::Learnt;
use super::round::Held;

/// The share of refusals that steady probing may cost (0.002), and the most that it may (0.01).
const PROBE_SHARE: f64 = 0.002;
const PROBE_SHARE_MAX: f64 = 0.01;
/// For so many seconds after a fall the limit is probed in this share of the period.
const RESTLESS_SECONDS: f64 = 180.0;
const RESTLESS_SHARE: f64 = 0.5;
/// A fall from less than so many seconds after the last move is no new knowledge.
const STOOD_SECONDS: f64 = 15.0;
/// A servo knew its limit that went without a refusal for so many seconds before the last one.
const KNOWN_SECONDS: f64 = 8.0;
/// A pace that was met by so few refusals since the fall is still on its way to the new limit.
const MET_EPISODES: usize = 3;
/// A move is at least this far.
const FAR: f64 = 0.8;

/// What was known before the limit fell.
#[derive(Clone, Copy, Debug)]
struct Former {
    pace: f64,
    held: Option<Held>,
}

/// Where the limit stood before it moved, and when that was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moves {
    former: Option<Former>,
    moved_at: f64,
    fell_at: f64,
    /// The pace went to another limit, and was not refused there yet.
    pub(super) unsure: bool,
}

impl Default for Moves {
    fn default() -> Self {
        Self { former: None, moved_at: f64::NEG_INFINITY, fell_at: f64::NEG_INFINITY, unsure: false }
    }
}

impl Moves {
    /// The share of the probe period in which the limit is probed at `now`.
    pub(super) fn period_share(&self, now: f64) -> f64 {
        if now - self.fell_at < RESTLESS_SECONDS { RESTLESS_SHARE } else { 1.0 }
    }
}

impl Learnt {
    /// Seconds between probes at the present pace: the probe period, less often where one refusal would be more
    /// than 1 % of the requests, more often where it would be less than 0.2 %.
    pub(super) fn period(&self) -> f64 {
        let rate = self.rate.max(0.01);
        let period = self.probe_period * self.moves.period_share(self.advanced_at);
        let wanted = (1.0 / (PROBE_SHARE * rate)).max(6.0).min(period);
        wanted.max((1.0 / (PROBE_SHARE_MAX * rate)).min(120.0))
    }

    /// Seconds to the first probe of a number that may be too low: that shows at once, and costs little to confirm.
    pub(super) fn early_probe(&self) -> f64 {
        (self.period() / 8.0).max(5.0)
    }

    /// The limit fell at `at`, to `reading`.
    pub(super) fn note_fall(&mut self, at: f64, reading: f64, held: Option<Held>) {
        let known_servo = match self.firsts.as_slice() {
            [.., before, last, _] => last - before >= KNOWN_SECONDS,
            _ => false,
        };
        let known = held.is_some() || known_servo;
        if reading > FAR * self.base || !known {
            return;
        }
        let stood = at - self.moves.moved_at > STOOD_SECONDS;
        self.moves.former = stood.then_some(Former { pace: self.base, held });
        self.moves.moved_at = at;
        self.moves.unsure = true;
        if stood {
            self.moves.fell_at = at;
        }
    }

    /// A probe showed that the limit was raised: goes back to what it was before it fell. Says whether that is known.
    pub(super) fn return_to_former(&mut self) -> bool {
        if self.firsts.len() < MET_EPISODES {
            return false;
        }
        let Some(former) = self.moves.former.take_if(|former| FAR * former.pace > self.base) else {
            return false;
        };
        self.start_over();
        if let Some(held) = former.held {
            self.rounds.inherit(held);
        }
        self.rate = former.pace;
        self.base = former.pace;
        self.pressed = 0.0;
        self.hold = self.early_probe();
        self.moves.moved_at = self.advanced_at;
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::control::learnt::Learnt;
    use crate::control::learnt::round::{Held, Source};
    use crate::control::settings::LawSettings;

    fn twenty() -> Held {
        Held::new(20.0, 1.0, Source::Round)
    }

    /// Stands at twenty a second for a while, and then falls to ten at 100 s.
    fn fallen() -> Learnt {
        let mut law = Learnt::new(&LawSettings::default(), None, 0.0);
        (law.rate, law.base, law.starting, law.advanced_at) = (20.0, 20.0, false, 100.0);
        law.note_fall(100.0, 10.0, Some(twenty()));
        (law.rate, law.base) = (10.0, 10.0);
        law
    }

    #[test]
    fn a_limit_that_fell_is_probed_twice_as_often_for_some_minutes() {
        let mut law = fallen();
        let soon = law.period();
        law.advanced_at = 100.0 + 181.0;
        assert!((law.period() - 2.0 * soon).abs() < 1e-9, "{soon}");
    }

    #[test]
    fn a_raised_limit_is_what_it_was_before_once_the_lower_one_was_met() {
        let mut law = fallen();
        assert!(!law.return_to_former(), "on its way to the new limit");
        law.firsts = vec![105.0, 110.0, 120.0];
        assert!(law.return_to_former());
        assert!((law.rate - 20.0).abs() < 1e-9 && law.rounds.held() == Some(twenty()));
        law.firsts = vec![105.0, 110.0, 120.0];
        assert!(!law.return_to_former(), "once");
    }

    #[test]
    fn what_was_too_much_after_all_is_forgotten() {
        let mut law = fallen();
        law.firsts = vec![105.0, 110.0, 120.0];
        law.advanced_at = 130.0;
        assert!(law.return_to_former());
        law.note_fall(131.0, 10.0, Some(twenty()));
        law.base = 10.0;
        law.firsts = vec![135.0, 140.0, 150.0];
        assert!(!law.return_to_former());
    }

    #[test]
    fn a_servo_that_was_refused_every_few_seconds_knew_no_limit() {
        let known = |firsts: Vec<f64>| {
            let mut law = Learnt::new(&LawSettings::default(), None, 0.0);
            (law.rate, law.base, law.firsts) = (20.0, 20.0, firsts);
            law.note_fall(100.0, 10.0, None);
            law.moves.former.is_some()
        };
        assert!(!known(vec![92.0, 96.0, 100.0]));
        assert!(known(vec![80.0, 96.0, 100.0]));
    }
}
