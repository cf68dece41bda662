//! A limit on requests at once, told from a limit on their rate by where refusals fall, and kept by a cap.
//!
//! **Evidence.** Where so many may be under way, refusals fall on departures that find many at work, and acceptances do
//! not; where a rate is limited, both see the same. How many the API was at work on when a request came to it is known
//! once its answer would be back if it were refused: those in flight before it, less those whose answers came meanwhile
//! (they were on their way). So refusals of a limit of eight find eight, and next to no acceptance does. (Those in flight
//! as they are counted here would not do: nine in flight are refused now, and let through then.) Only the first refusal of
//! an episode counts: what was sent before its answer came says the same again.
//!
//! **Is a cap better?** A place is free when the API has answered, and we know of it half a round trip later. So a cap
//! at exactly the limit leaves the way there and back unused, where a pace does not; but a pace has to stay far below a
//! limit whose requests take now long, now short. By Little's law the requests in flight are the throughput times the
//! time of one: the cap is taken only where clearly more are in flight at it than the pace keeps there on average.
//! Measured, in virtual time, 70 ms there and back, share of what the limit's places could serve, without and with:
//! 8 at once of 0.2 s, exponential: 57 % and 77 %; of 1 s: 58 % and 94 %; 10 at once of 0.2 s each: 81 %, and the pace
//! stays (the cap would make 75 %). Where the way is long against the request, the pace is given time to show what it can
//! do before that is decided.
//!
//! **Keeping it.** While the cap holds, the pace does not. A refusal below the cap lowers it, unless one beyond the cap may
//! have taken its place (P11, 10 at once: 89.9 % of the places, of 90 % that can be had); at most a probe period apart one
//! more is tried, and stays if enough of those get through. Both go twice as far the next time, so that a limit that moved
//! is followed: 20 at once that become 5 within 10 s, and back within a probe period. A cap that goes on being refused was
//! no such limit: the pace is back, and the evidence is not believed for a while. With nothing in flight one may always go.

use super::law::{Answer, Stamp};
use super::recent::push_bounded;
use super::settings::LawSettings;
use super::{LimitModel, LimitSource, LimitView};
use std::collections::VecDeque;

/// The evidence: the last first refusals of episodes, the last acceptances, and how many of each are needed.
const REFUSALS: usize = 10;
const REFUSALS_MIN: usize = 3;
const REFUSALS_SETTLED: usize = 8;
const ACCEPTANCES: usize = 200;
const ACCEPTANCES_MIN: usize = 30;
/// If refusals fell anywhere, it would be less likely than this that so many fell where so few acceptances did.
const CHANCE: f64 = 2e-6;
/// Where the way there and back is no more than this share of a request's time, a cap does better than any pace could.
const WAY_SHARE: f64 = 0.2;
/// Answers that are kept, to tell who was on the way.
const ANSWERS: usize = 512;
/// The pace keeps no more than this share of the cap in flight: else it does as well.
const CLEARLY_BETTER: f64 = 0.93;
/// Departures beyond the cap that must get through before it is raised.
const TRIAL_DEPARTURES: u32 = 10;
/// Seconds between trials, at least; at most it is the probe period.
const TRIAL_SECONDS_MIN: f64 = 2.0;
/// Doubt grows by one with a refusal below the cap, and shrinks by this with an acceptance; so much is too much.
const DOUBT_RELIEF: f64 = 0.02;
const DOUBT_MAX: f64 = 5.0;
/// How long evidence that misled is not believed, in seconds; longer each time.
const DISTRUST_SECONDS: f64 = 120.0;
const DISTRUST_SECONDS_MAX: f64 = 3600.0;
/// The weight of the newest time in the usual one, and of the newest way in the usual way.
const SMOOTHING: f64 = 0.05;
const SMOOTHING_WAY: f64 = 0.2;

/// What is known of a limit on requests at once.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    refused: VecDeque<Refused>,
    accepted: VecDeque<Accepted>,
    /// When the last answers came, ascending; kept once the way is known.
    answers: VecDeque<f64>,
    /// How long it is there and back: a refusal's time.
    way_seconds: Option<f64>,
    /// When the answer to the last refusal that counted came: what left before did not know of it.
    heard_at: f64,
    /// How long a request takes, in seconds.
    usual_seconds: Option<f64>,
    cap: Option<Cap>,
    /// The share of the cap that stays unused between trials.
    headroom: f64,
    probe_period: f64,
    distrust_until: f64,
    distrust_seconds: f64,
}

/// The first refusal of an episode.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// How many were at work when it came to the API.
    at_work: u32,
    /// The share of the acceptances before it that found as many.
    share: f64,
}

/// A departure that was let through.
#[derive(Clone, Copy, Debug)]
struct Accepted {
    /// How many were in flight, itself included, and how many the API was at work on when it came there.
    in_flight: u32,
    at_work: u32,
}

/// The cap on requests in flight.
#[derive(Clone, Copy, Debug)]
struct Cap {
    requests: u32,
    /// How long a request took when the cap was last set.
    seconds: f64,
    /// So many more than the cap may fly from then on, and so many of them got through.
    trial_at: f64,
    trial: u32,
    got_through: u32,
    /// By how many the next refusal below the cap lowers it: doubled until something gets through.
    lower: u32,
    doubted_at: f64,
    /// When the last one left that was beyond the cap.
    beyond_at: f64,
    trial_seconds: f64,
    doubt: f64,
}

impl InFlight {
    /// Nothing is known.
    pub(super) fn new(settings: &LawSettings) -> Self {
        Self {
            refused: VecDeque::new(),
            accepted: VecDeque::new(),
            answers: VecDeque::new(),
            way_seconds: None,
            heard_at: f64::NEG_INFINITY,
            usual_seconds: None,
            cap: None,
            headroom: settings.headroom,
            probe_period: settings.probe_period_seconds,
            distrust_until: f64::NEG_INFINITY,
            distrust_seconds: DISTRUST_SECONDS,
        }
    }

    /// The cap says when: no pace has to.
    pub(super) fn governs(&self) -> bool {
        self.cap.is_some()
    }

    /// With so many in flight, none may leave.
    pub(super) fn is_full(&self, now: f64, in_flight: u32) -> bool {
        self.cap.is_some_and(|cap| {
            if now >= cap.trial_at {
                in_flight >= cap.requests + cap.trial
            } else {
                f64::from(in_flight) >= self.used_of(cap)
            }
        })
    }

    /// The cap.
    pub(super) fn max(&self) -> Option<u32> {
        self.cap.map(|cap| cap.requests)
    }

    /// The pace that the cap makes, in requests/s.
    pub(super) fn pace(&self) -> Option<f64> {
        let (cap, seconds) = (self.cap?, self.usual_seconds?);
        Some(self.used_of(cap) / seconds)
    }

    /// What is used of a cap between trials: whole requests, and one at least.
    fn used_of(&self, cap: Cap) -> f64 {
        (f64::from(cap.requests) * (1.0 - self.headroom)).round().max(1.0)
    }

    /// One leaves; with it so many are in flight.
    pub(super) fn sent(&mut self, now: f64, in_flight: u32) {
        if let Some(cap) = self.cap.as_mut().filter(|cap| in_flight > cap.requests) {
            cap.beyond_at = now;
        }
    }

    /// An answer.
    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer) {
        match answer {
            Answer::Accepted => self.let_through(now, stamp),
            Answer::Refused { .. } => self.refused(now, stamp),
            Answer::Unknown => (),
        }
        if self.way_seconds.is_some() {
            push_bounded(&mut self.answers, now, ANSWERS);
        }
    }

    /// How many the API was at work on when a departure came there; nothing if that is forgotten.
    fn at_work(&self, stamp: Stamp, way_seconds: f64) -> Option<u32> {
        let before = |until: f64| self.answers.partition_point(|at| *at <= until);
        let since = before(stamp.sent_at);
        if since == 0 && self.answers.len() >= ANSWERS {
            return None;
        }
        let done = before(stamp.sent_at + way_seconds).saturating_sub(since);
        Some(stamp.in_flight.saturating_sub(1).saturating_sub(u32::try_from(done).ok()?))
    }

    fn let_through(&mut self, now: f64, stamp: Stamp) {
        let took = (now - stamp.sent_at).max(0.001);
        let usual = self.usual_seconds.get_or_insert(took);
        *usual += SMOOTHING * (took - *usual);
        let usual = *usual;
        if let Some(at_work) = self.way_seconds.and_then(|way| self.at_work(stamp, way.min(0.9 * took))) {
            let accepted = Accepted { in_flight: stamp.in_flight, at_work };
            push_bounded(&mut self.accepted, accepted, ACCEPTANCES);
        }
        let Some(cap) = &mut self.cap else { return };
        cap.doubt = (cap.doubt - DOUBT_RELIEF).max(0.0);
        if stamp.sent_at >= self.heard_at {
            cap.lower = 1;
        }
        if stamp.in_flight > cap.requests && stamp.sent_at >= cap.trial_at {
            cap.got_through += 1;
        }
        if cap.got_through >= TRIAL_DEPARTURES {
            cap.trial_seconds = TRIAL_SECONDS_MIN;
            cap.set(now, cap.requests + cap.trial, usual);
            cap.trial *= 2;
        }
    }

    fn refused(&mut self, now: f64, stamp: Stamp) {
        let took = (now - stamp.sent_at).max(0.001);
        let way = self.way_seconds.get_or_insert(took);
        *way += SMOOTHING_WAY * (took - *way);
        let way = *way;
        if stamp.sent_at < self.heard_at {
            return;
        }
        self.heard_at = now;
        let Some(at_work) = self.at_work(stamp, way) else { return };
        // What is at work changes with the pace, and with the API's own time: a refusal is held against its own day as well.
        let refused = Refused { at_work, share: self.share_of(at_work) };
        push_bounded(&mut self.refused, refused, REFUSALS);
        let (Some(cap), Some(usual)) = (&mut self.cap, self.usual_seconds) else {
            self.cap = self.found(now);
            return;
        };
        cap.trial_seconds = (2.0 * cap.trial_seconds).min(self.probe_period.max(TRIAL_SECONDS_MIN));
        // The one too many may have taken the place of another: it overtook it on the way, or was at work when that came.
        if stamp.in_flight > cap.requests || cap.beyond_at > stamp.sent_at - 2.0 * usual {
            cap.rest(now);
            cap.trial = 1;
            return;
        }
        if stamp.sent_at - cap.doubted_at > 2.0 * usual {
            cap.doubt += 1.0;
            cap.doubted_at = now;
        }
        // After a leap down, the limit may well lie above.
        if cap.lower > 1 {
            cap.trial_seconds = TRIAL_SECONDS_MIN;
        }
        let lowered = cap.requests.saturating_sub(cap.lower).max(cap.requests / 2);
        cap.set(now, at_work.min(lowered).max(1), usual);
        (cap.trial, cap.lower) = (1, 2 * cap.lower);
        if cap.doubt > DOUBT_MAX {
            self.cap = None;
            self.refused.clear();
            self.distrust_until = now + self.distrust_seconds;
            self.distrust_seconds = (2.0 * self.distrust_seconds).min(DISTRUST_SECONDS_MAX);
        }
    }

    /// The share of acceptances that found so many at work, or more; never quite none.
    fn share_of(&self, at_work: u32) -> f64 {
        let there = self.accepted.iter().filter(|accepted| accepted.at_work >= at_work).count();
        (there + 1) as f64 / (self.accepted.len() + 1) as f64
    }

    /// The cap that the evidence asks for, if it does.
    fn found(&self, now: f64) -> Option<Cap> {
        let (refusals, acceptances) = (self.refused.len(), self.accepted.len());
        if refusals < REFUSALS_MIN || acceptances < ACCEPTANCES_MIN || now < self.distrust_until {
            return None;
        }
        let mut sorted: Vec<u32> = self.refused.iter().map(|refused| refused.at_work).collect();
        sorted.sort_unstable();
        // What the way scatters puts some of them off by one.
        let many = sorted.get(refusals / 2).copied().filter(|many| *many >= 1)?;
        let share = self.share_of(many);
        let there = self.refused.iter().filter(|refused| refused.at_work >= many);
        let chance: f64 = there.map(|refused| refused.share.max(share)).product();
        let sum: f64 = self.accepted.iter().map(|accepted| f64::from(accepted.in_flight)).sum();
        // At even departures, what is in flight is half a request more before one than after it, on average.
        let paced = sum / acceptances as f64 - 0.5;
        let better = paced < CLEARLY_BETTER * f64::from(many);
        let (usual, way) = (self.usual_seconds?, self.way_seconds?);
        let enough = way < WAY_SHARE * usual || refusals >= REFUSALS_SETTLED;
        if !(enough && better && chance < CHANCE) {
            return None;
        }
        Some(Cap {
            requests: many,
            seconds: usual,
            trial_at: now + TRIAL_SECONDS_MIN,
            trial: 1,
            got_through: 0,
            lower: 1,
            beyond_at: f64::NEG_INFINITY,
            trial_seconds: TRIAL_SECONDS_MIN,
            doubt: 0.0,
            doubted_at: f64::NEG_INFINITY,
        })
    }

    /// The limit in numbers: requests, and how long one takes.
    pub(super) fn believes(&self) -> Option<(f64, f64)> {
        self.cap.map(|cap| (f64::from(cap.requests), cap.seconds))
    }

    /// The limit in words.
    pub(super) fn limit(&self) -> Option<LimitView> {
        let cap = self.cap?;
        Some(LimitView {
            requests: f64::from(cap.requests),
            window_seconds: cap.seconds,
            model: LimitModel::Concurrency,
            at_least: false,
            source: LimitSource::Learnt,
            confidence: 0.8 - 0.1 * cap.doubt,
            says: format!("at most {} requests at once", cap.requests),
        })
    }
}

impl Cap {
    fn set(&mut self, now: f64, requests: u32, seconds: f64) {
        (self.requests, self.seconds) = (requests, seconds);
        self.rest(now);
    }

    /// No trial for a while.
    fn rest(&mut self, now: f64) {
        self.got_through = 0;
        self.trial_at = now + self.trial_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Answer = Answer::Refused { retry_after: Some(1.0) };
    /// The way there, and the way back.
    const THERE: f64 = 0.015;

    fn law() -> InFlight {
        InFlight::new(&LawSettings::default())
    }

    fn stamp(sent_at: f64, in_flight: u32) -> Stamp {
        Stamp { in_flight, ..Stamp::new(0, sent_at) }
    }

    /// An even pace for a minute, every fourth second two thirds faster, to an API that takes a quarter of a second for a
    /// request, and up to half of `spread` less or more; it `refuses` the n-th that finds so many at work. While the law
    /// has a cap, nothing leaves beyond it. Gives the moment after it.
    fn played(
        law: &mut InFlight,
        from: f64,
        pace: f64,
        spread: f64,
        refuses: impl Fn(u32, u32) -> bool,
    ) -> f64 {
        let mut out: Vec<(f64, Stamp, Answer)> = Vec::new();
        let mut now = from;
        for n in 0.. {
            now += if now % 4.0 < 1.0 { 0.6 } else { 1.0 } / pace;
            if now > from + 60.0 {
                break;
            }
            out.sort_by(|a, b| a.0.total_cmp(&b.0));
            while let Some((at, stamp, answer)) = out.first().copied().filter(|(at, ..)| *at <= now) {
                law.settle(at, stamp, answer);
                out.remove(0);
            }
            let is_at_work =
                |out: &&(f64, Stamp, Answer)| out.2 == Answer::Accepted && out.0 - THERE > now + THERE;
            let at_work = out.iter().filter(is_at_work).fold(0, |count, _| count + 1);
            let in_flight = out.iter().fold(0, |count, _| count + 1);
            let took = 0.25 + spread * (f64::from(n * 7 % 11) / 10.0 - 0.5);
            let (answer, took) = if refuses(n, at_work) { (REFUSED, 0.0) } else { (Answer::Accepted, took) };
            if law.is_full(now, in_flight) {
                continue;
            }
            let stamp = stamp(now, in_flight + 1);
            law.sent(now, stamp.in_flight);
            out.push((now + 2.0 * THERE + took, stamp, answer));
        }
        out.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, stamp, answer) in out {
            law.settle(at, stamp, answer);
        }
        now + 1.0
    }

    /// A law that has found a limit of eight at once.
    fn eight() -> (InFlight, f64) {
        let mut law = law();
        let now = played(&mut law, 0.0, 18.0, 0.4, |_, at_work| at_work >= 8);
        (law, now)
    }

    fn cap(law: &InFlight) -> Option<u32> {
        law.max()
    }

    #[test]
    fn refusals_where_many_are_at_work_mean_a_limit_of_places() {
        let (law, _) = eight();
        assert_eq!(cap(&law), Some(8));
        assert!(law.governs() && law.is_full(0.0, 8) && !law.is_full(0.0, 7));
        let limit = law.limit().unwrap();
        assert_eq!(
            (limit.model, limit.says.as_str()),
            (LimitModel::Concurrency, "at most 8 requests at once")
        );
    }

    #[test]
    fn refusals_wherever_they_fall_mean_a_rate() {
        for every in [5, 10, 37] {
            let mut law = law();
            played(&mut law, 0.0, 18.0, 0.4, |n, _| n % every == every - 1);
            assert!(!law.governs(), "one in {every}");
        }
    }

    #[test]
    fn a_pace_that_keeps_as_many_in_flight_stays() {
        let mut law = law();
        played(&mut law, 0.0, 31.0, 0.0, |_, at_work| at_work >= 8);
        assert!(!law.refused.is_empty() && !law.governs(), "a cap of 8 would make no more");
    }

    #[test]
    fn trials_that_get_through_raise_the_cap_further_and_further_and_one_that_does_not_waits_longer() {
        let (mut law, mut now) = eight();
        for (found, tried) in [(8, 9), (9, 11), (11, 15)] {
            assert_eq!(cap(&law), Some(found));
            now += 60.0;
            assert!(!law.is_full(now, tried - 1) && law.is_full(now, tried), "{} more may go", tried - found);
            for _ in 0..TRIAL_DEPARTURES {
                law.settle(now + 0.04, stamp(now, tried), Answer::Accepted);
                now += 0.05;
            }
        }
        now += TRIAL_SECONDS_MIN;
        law.settle(now + 0.04, stamp(now, 16), REFUSED);
        assert_eq!(cap(&law), Some(15));
        assert!(law.is_full(now + TRIAL_SECONDS_MIN, 15), "not so soon again");
        assert!(law.is_full(now + 60.0, 16), "and one at a time");
    }

    #[test]
    fn refusals_below_the_cap_lower_it_ever_faster_and_one_may_always_go() {
        let (mut law, now) = eight();
        law.settle(now + 0.04, stamp(now, 8), REFUSED);
        assert_eq!(cap(&law), Some(7));
        // What left before the refusal was heard of says it again.
        law.settle(now + 0.05, stamp(now + 0.01, 7), REFUSED);
        assert_eq!(cap(&law), Some(7));
        law.settle(now + 0.14, stamp(now + 0.1, 7), REFUSED);
        assert_eq!(cap(&law), Some(5));
        law.settle(now + 0.24, stamp(now + 0.2, 3), REFUSED);
        assert_eq!(cap(&law), Some(2), "half at most");
        law.settle(now + 0.34, stamp(now + 0.3, 1), REFUSED);
        assert!(!law.is_full(now, 0));
    }

    #[test]
    fn a_cap_that_goes_on_being_refused_was_none_and_is_not_believed_for_a_while() {
        let (mut law, mut now) = eight();
        for _ in 0..10 {
            law.settle(now + 0.04, stamp(now, 1), REFUSED);
            now += 1.0;
        }
        assert!(!law.governs());
        let later = played(&mut law, now, 18.0, 0.4, |_, at_work| at_work >= 8);
        assert!(!law.governs(), "the same evidence misled a moment ago");
        played(&mut law, later + DISTRUST_SECONDS, 18.0, 0.4, |_, at_work| at_work >= 8);
        assert!(law.governs());
    }
}
