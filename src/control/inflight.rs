//! A limit on requests at once, told from a limit on their rate by where refusals fall, and kept by a cap.
//!
//! **Evidence.** Where so many may be under way, refusals fall on departures that find many in flight, and acceptances
//! do not; where a rate is limited, both see the same. Only the first refusal of an episode counts: what was sent before
//! its answer came says the same again.
//!
//! **Is a cap better?** A place is free when the API has answered, and we know of it half a round trip later. So a cap
//! at exactly the limit leaves the way there and back unused, where a pace does not; but a pace has to stay far below a
//! limit whose requests take now long, now short. By Little's law the requests in flight are the throughput times the
//! time of one: the cap is taken only where clearly more are in flight at it than the pace keeps there on average.
//! Measured, in virtual time, 70 ms there and back, share of what the limit's places could serve, without and with:
//! 8 at once of 0.2 s, exponential: 57 % and 77 %; of 1 s: 58 % and 94 %; 10 at once of 0.2 s each: 81 %, and the pace
//! stays (the cap would make 75 %).
//!
//! **Keeping it.** While the cap holds, the pace does not. A refusal below the cap lowers it, unless one beyond the cap may
//! have taken its place (P11, 10 at once: 89.6 % of the places, of 90 % that can be had); now and then one more is
//! tried, and stays if enough of those get through. A cap that goes on being refused was no such limit: the pace is back,
//! and the evidence is not believed for a while. With nothing in flight one may always go.

use super::law::{Answer, Stamp};
use super::{LimitModel, LimitSource, LimitView};
use std::collections::VecDeque;

/// The evidence: the last first refusals of episodes, the last acceptances, and how many of each are needed.
const REFUSALS: usize = 10;
const REFUSALS_MIN: usize = 5;
const ACCEPTANCES: usize = 200;
const ACCEPTANCES_MIN: usize = 30;
/// Acceptances among so many in flight as refusals found must be fewer than this share.
const ACCEPTED_THERE: f64 = 0.08;
/// The pace keeps no more than this share of the cap in flight: else it does as well.
const CLEARLY_BETTER: f64 = 0.93;
/// Departures beyond the cap that must get through before it is raised.
const TRIAL_DEPARTURES: u32 = 10;
/// Seconds between trials: after the first, at least, and at most.
const TRIAL_SECONDS_MIN: f64 = 2.0;
const TRIAL_SECONDS_MAX: f64 = 64.0;
/// Doubt grows by one with a refusal below the cap, and shrinks by this with an acceptance; so much is too much.
const DOUBT_RELIEF: f64 = 0.02;
const DOUBT_MAX: f64 = 5.0;
/// How long evidence that misled is not believed, in seconds; longer each time.
const DISTRUST_SECONDS: f64 = 120.0;
const DISTRUST_SECONDS_MAX: f64 = 3600.0;
/// The weight of the newest time in the usual one.
const SMOOTHING: f64 = 0.05;

/// What is known of a limit on requests at once.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    /// How many were in flight, the departing one included, at first refusals and at acceptances.
    refused: VecDeque<u32>,
    accepted: VecDeque<u32>,
    /// When the answer to the last refusal that counted came: what left before did not know of it.
    heard_at: f64,
    /// How long a request takes, in seconds.
    usual_seconds: Option<f64>,
    cap: Option<Cap>,
    /// The share of the cap that stays unused between trials.
    headroom: f64,
    distrust_until: f64,
    distrust_seconds: f64,
}

/// The cap on requests in flight.
#[derive(Clone, Copy, Debug)]
struct Cap {
    requests: u32,
    /// How many the pace kept in flight: a cap below that is worse.
    paced: f64,
    /// How long a request took when the cap was last set.
    seconds: f64,
    /// One more than the cap may fly from then on, and so many got through.
    trial_at: f64,
    got_through: u32,
    /// When the last one left that was beyond the cap.
    beyond_at: f64,
    trial_seconds: f64,
    doubt: f64,
}

impl InFlight {
    /// Nothing is known. `headroom` is the share of what is learnt that stays unused.
    pub(super) fn new(headroom: f64) -> Self {
        Self {
            refused: VecDeque::new(),
            accepted: VecDeque::new(),
            heard_at: f64::NEG_INFINITY,
            usual_seconds: None,
            cap: None,
            headroom,
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
                in_flight > cap.requests
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
    }

    fn let_through(&mut self, now: f64, stamp: Stamp) {
        let took = (now - stamp.sent_at).max(0.001);
        let usual = self.usual_seconds.get_or_insert(took);
        *usual += SMOOTHING * (took - *usual);
        push_bounded(&mut self.accepted, stamp.in_flight, ACCEPTANCES);
        let Some(cap) = &mut self.cap else { return };
        cap.doubt = (cap.doubt - DOUBT_RELIEF).max(0.0);
        if stamp.in_flight > cap.requests && stamp.sent_at >= cap.trial_at {
            cap.got_through += 1;
        }
        if cap.got_through >= TRIAL_DEPARTURES {
            cap.trial_seconds = (0.5 * cap.trial_seconds).max(TRIAL_SECONDS_MIN);
            cap.set(now, cap.requests + 1, *usual);
        }
    }

    fn refused(&mut self, now: f64, stamp: Stamp) {
        if stamp.sent_at < self.heard_at {
            return;
        }
        self.heard_at = now;
        push_bounded(&mut self.refused, stamp.in_flight, REFUSALS);
        let (Some(cap), Some(usual)) = (&mut self.cap, self.usual_seconds) else {
            self.cap = self.found(now);
            return;
        };
        cap.trial_seconds = (2.0 * cap.trial_seconds).min(TRIAL_SECONDS_MAX);
        // The one too many may have taken the place of another: it overtook it on the way, or was at work when that came.
        if stamp.in_flight > cap.requests || cap.beyond_at > stamp.sent_at - 2.0 * usual {
            cap.rest(now);
            return;
        }
        cap.doubt += 1.0;
        cap.set(now, cap.requests.min(stamp.in_flight).saturating_sub(1).max(1), usual);
        let worse = f64::from(cap.requests) < cap.paced;
        if worse || cap.doubt > DOUBT_MAX {
            self.cap = None;
            self.refused.clear();
            self.distrust_until = now + self.distrust_seconds;
            self.distrust_seconds = (2.0 * self.distrust_seconds).min(DISTRUST_SECONDS_MAX);
        }
    }

    /// The cap that the evidence asks for, if it does.
    fn found(&self, now: f64) -> Option<Cap> {
        let (refusals, acceptances) = (self.refused.len(), self.accepted.len());
        if refusals < REFUSALS_MIN || acceptances < ACCEPTANCES_MIN || now < self.distrust_until {
            return None;
        }
        let mut sorted: Vec<u32> = self.refused.iter().copied().collect();
        sorted.sort_unstable();
        // Of ten refusals, seven found so many or more.
        let many = sorted.get(refusals * 3 / 10).copied().filter(|many| *many >= 2)?;
        let there = self.accepted.iter().filter(|count| **count >= many).count() as f64;
        let sum: f64 = self.accepted.iter().map(|count| f64::from(*count)).sum();
        // At even departures, what is in flight is half a request more before one than after it, on average.
        let paced = sum / acceptances as f64 - 0.5;
        let requests = many - 1;
        let told_apart = there < ACCEPTED_THERE * acceptances as f64;
        let better = paced < CLEARLY_BETTER * f64::from(requests);
        let seconds = self.usual_seconds.filter(|_| told_apart && better)?;
        let (trial_seconds, trial_at) = (TRIAL_SECONDS_MIN, now + TRIAL_SECONDS_MIN);
        let beyond_at = f64::NEG_INFINITY;
        Some(Cap { requests, paced, seconds, trial_at, got_through: 0, beyond_at, trial_seconds, doubt: 0.0 })
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

fn push_bounded(to: &mut VecDeque<u32>, item: u32, max: usize) {
    while to.len() >= max {
        to.pop_front();
    }
    to.push_back(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Answer = Answer::Refused { retry_after: Some(1.0) };

    fn stamp(sent_at: f64, in_flight: u32) -> Stamp {
        Stamp { in_flight, ..Stamp::new(0, sent_at) }
    }

    /// Departures every 50 ms that find 1 to `most` in flight in turn, each answered after 40 ms by `answer`.
    fn played(law: &mut InFlight, from: f64, count: u32, most: u32, answer: impl Fn(u32) -> Answer) -> f64 {
        let mut now = from;
        for n in 0..count {
            let in_flight = 1 + n * 7 % most;
            law.settle(now + 0.04, stamp(now, in_flight), answer(in_flight));
            now += 0.05;
        }
        now
    }

    fn at_most(places: u32) -> impl Fn(u32) -> Answer {
        move |in_flight| if in_flight > places { REFUSED } else { Answer::Accepted }
    }

    #[test]
    fn refusals_where_many_are_in_flight_mean_a_limit_of_places() {
        let mut law = InFlight::new(0.0);
        played(&mut law, 0.0, 200, 9, at_most(8));
        assert_eq!(law.believes().map(|(requests, _)| requests), Some(8.0));
        assert!(law.governs() && law.is_full(10.0, 8) && !law.is_full(10.0, 7));
        let limit = law.limit().unwrap();
        assert_eq!(
            (limit.model, limit.says.as_str()),
            (LimitModel::Concurrency, "at most 8 requests at once")
        );
    }

    #[test]
    fn refusals_wherever_they_fall_mean_a_rate() {
        let mut law = InFlight::new(0.0);
        let mut now = 0.0;
        for n in 0..400 {
            let answer = if n % 10 == 9 { REFUSED } else { Answer::Accepted };
            law.settle(now + 0.04, stamp(now, 1 + n * 7 % 9), answer);
            now += 0.05;
        }
        assert!(!law.governs());
    }

    #[test]
    fn a_pace_that_keeps_as_many_in_flight_stays() {
        let mut law = InFlight::new(0.0);
        let mut now = 0.0;
        for n in 0..400 {
            let (in_flight, answer) = if n % 20 == 19 { (9, REFUSED) } else { (8, Answer::Accepted) };
            law.settle(now + 0.04, stamp(now, in_flight), answer);
            now += 0.05;
        }
        assert!(!law.governs(), "a cap of 8 would make no more");
    }

    #[test]
    fn a_trial_that_gets_through_raises_the_cap_and_one_that_does_not_waits_longer() {
        let mut law = InFlight::new(0.0);
        let mut now = played(&mut law, 0.0, 200, 9, at_most(8));
        for cap in 8..14 {
            assert_eq!(law.believes().map(|(requests, _)| requests), Some(f64::from(cap)));
            now += TRIAL_SECONDS_MAX;
            assert!(!law.is_full(now, cap) && law.is_full(now, cap + 1), "one more may go");
            for _ in 0..TRIAL_DEPARTURES {
                law.settle(now + 0.04, stamp(now, cap + 1), Answer::Accepted);
                now += 0.05;
            }
        }
        now += TRIAL_SECONDS_MIN;
        law.settle(now + 0.04, stamp(now, 15), REFUSED);
        assert_eq!(law.believes().map(|(requests, _)| requests), Some(14.0));
        assert!(law.is_full(now + TRIAL_SECONDS_MIN, 14), "not so soon again");
    }

    #[test]
    fn a_refusal_below_the_cap_lowers_it_and_one_may_always_go() {
        let mut law = InFlight::new(0.0);
        let now = played(&mut law, 0.0, 200, 9, at_most(8));
        law.settle(now + 0.04, stamp(now, 7), REFUSED);
        assert_eq!(law.believes().map(|(requests, _)| requests), Some(6.0));
        // What left before the refusal was heard of says it again.
        law.settle(now + 0.05, stamp(now + 0.01, 6), REFUSED);
        assert_eq!(law.believes().map(|(requests, _)| requests), Some(6.0));
        assert!(!law.is_full(now, 0));
    }

    #[test]
    fn a_cap_that_goes_on_being_refused_was_none_and_is_not_believed_for_a_while() {
        let mut law = InFlight::new(0.0);
        let mut now = played(&mut law, 0.0, 200, 9, at_most(8));
        for _ in 0..20 {
            law.settle(now + 0.04, stamp(now, 1), REFUSED);
            now += 0.05;
        }
        assert!(!law.governs());
        let later = played(&mut law, now, 400, 9, at_most(8));
        assert!(!law.governs(), "the same evidence misled a moment ago");
        played(&mut law, later + DISTRUST_SECONDS, 400, 9, at_most(8));
        assert!(law.governs());
    }
}
