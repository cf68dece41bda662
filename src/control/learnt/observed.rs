//! What can be learnt of a limit by watching alone: the law of a lane that holds nothing back.
//!
//! The learnt law knows where a limit stands because it paces up to it; traffic that nobody paces says less. What holds:
//!
//! - **Announced limits are exact**: the ledgers read the same counts, and would set the same pace.
//! - **A number in a refusal's body** is exact where its window is told.
//! - **Refusals without words give a measure**: what was let through between the first refusals of two episodes, by the
//!   time between them. Where more was wanted than the limit gives, that is the limit, whatever its window. Where less
//!   was, it is too low, and the limit is at least the largest of the last episodes. Nobody tells which it was; but where
//!   more is wanted all the time, a good part of it is refused and no second passes without somebody asking, and only then
//!   the measure is called the limit. Before the second episode there is only what was let through in the second before
//!   the first refusal: of a bucket or a long window that is the burst, and too much.
//! - **No window, no phase, no round number**: those are found by standing at a pace, so they are not claimed.
//! - **Without a refusal nothing is known** but what got through.

use super::measure::History;
use crate::control::announcement::{AnnouncedBy, Announcement};
use crate::control::law::{Answer, Stamp};
use crate::control::ledger::Ledgers;
use crate::control::{AnnouncedView, LawName, LimitModel, LimitSource, LimitView};
use std::collections::VecDeque;
use std::time::Duration;

/// Refusals closer together than this are one episode.
const EPISODE_SECONDS: f64 = 1.0;
/// Episodes whose measures are kept: a limit that fell is seen after so many.
const EPISODES_KEPT: usize = 8;
/// More is wanted than the limit gives if at least this share of the requests is refused, and nothing was asked in no more
/// than this share of the seconds; over the episodes that are kept.
const PRESSED_SHARE: f64 = 0.1;
const QUIET_SHARE: f64 = 0.1;
/// A longer time without a request counts as so many seconds.
const QUIET_SECONDS_MAX: u64 = 600;
/// What got through is told over so many seconds.
const USED_SECONDS: f64 = 5.0;

/// What was let through between two episodes, in requests/s, and what was asked for.
#[derive(Clone, Copy, Debug)]
struct Between {
    rate: f64,
    asked: Asked,
}

/// What was asked for in a time.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    requests: u64,
    refused: u64,
    /// Seconds, and those of them in which nothing was asked.
    seconds: u64,
    quiet: u64,
}

impl Asked {
    /// One is sent at `now`; the last one was in the second `last`.
    fn note(&mut self, now: f64, last: &mut u64) {
        let second = Duration::try_from_secs_f64(now).unwrap_or_default().as_secs();
        let passed = second.saturating_sub(*last).min(QUIET_SECONDS_MAX);
        *last = second;
        self.requests = self.requests.saturating_add(1);
        self.seconds = self.seconds.saturating_add(passed);
        self.quiet = self.quiet.saturating_add(passed.saturating_sub(1));
    }

    fn with(self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            refused: self.refused.saturating_add(other.refused),
            seconds: self.seconds.saturating_add(other.seconds),
            quiet: self.quiet.saturating_add(other.quiet),
        }
    }
}

/// What was seen of one lane's limit.
#[derive(Clone, Debug)]
pub(in crate::control) struct Observed {
    /// The law that would have paced.
    name: LawName,
    ledgers: Ledgers,
    /// The share of a limit that it would leave unused.
    headroom: f64,
    history: History,
    /// As the API said in words: requests, the window in seconds, who said it.
    told: Option<(u32, f64, LimitSource)>,
    /// Let through in the second before the first refusal, in requests/s.
    before: Option<f64>,
    /// Between the refusals of the last episodes.
    between: VecDeque<Between>,
    /// Since the last episode began.
    asked: Asked,
    /// The second in which something was last asked.
    second: u64,
    episode_at: f64,
    refused_at: f64,
    episodes: u32,
    refusals: u64,
    /// What got through lately, in requests/s.
    used: f64,
}

impl Observed {
    /// Nothing was seen yet by a lane that `name` would pace, and whose limit it would leave the share `headroom` of.
    pub(in crate::control) fn new(name: LawName, headroom: f64) -> Self {
        Self {
            name,
            ledgers: Ledgers::default(),
            headroom,
            history: History::default(),
            told: None,
            before: None,
            between: VecDeque::new(),
            asked: Asked::default(),
            second: 0,
            episode_at: f64::NEG_INFINITY,
            refused_at: f64::NEG_INFINITY,
            episodes: 0,
            refusals: 0,
            used: 0.0,
        }
    }

    pub(in crate::control) fn name(&self) -> LawName {
        self.name
    }

    /// The pace that it would set, in requests/s: as far as a limit is known; else what gets through.
    pub(in crate::control) fn pace(&self) -> f64 {
        let announced = if self.ledgers.govern() { self.ledgers.pace() } else { None };
        announced
            .or_else(|| self.told.map(|(requests, seconds, _)| f64::from(requests) / seconds))
            .or_else(|| self.measured())
            .map_or(self.used, |limit| limit * (1.0 - self.headroom))
    }

    fn measured(&self) -> Option<f64> {
        self.between.iter().map(|between| between.rate).max_by(f64::total_cmp).or(self.before)
    }

    /// Was more wanted than the limit gives, all the time?
    fn is_pressed(&self) -> bool {
        let asked = self.between.iter().fold(Asked::default(), |sum, between| sum.with(&between.asked));
        asked.refused as f64 >= PRESSED_SHARE * asked.requests as f64
            && asked.quiet as f64 <= QUIET_SHARE * asked.seconds as f64
    }

    pub(in crate::control) fn sent(&mut self, now: f64) -> Stamp {
        // Windows pass for the ledgers, whether somebody asks them or not.
        self.ledgers.ready_at(now, 0);
        self.asked.note(now, &mut self.second);
        Stamp { departure: self.ledgers.sent(now), ..self.history.sent(now) }
    }

    pub(in crate::control) fn give_back(&mut self, now: f64, stamp: Stamp) {
        self.ledgers.give_back(now, stamp.departure);
        self.history.answered(now, stamp, Answer::Unknown);
    }

    pub(in crate::control) fn settle(
        &mut self,
        now: f64,
        stamp: Stamp,
        answer: Answer,
        told: &[Announcement],
    ) {
        let heard = self.ledgers.settle(now, stamp.departure, answer, told);
        if let Some((requests, seconds, by)) = heard.number {
            let source = match by {
                AnnouncedBy::Header => LimitSource::Header,
                AnnouncedBy::Body => LimitSource::Body,
            };
            self.told = Some((requests, seconds, source));
        }
        self.history.answered(now, stamp, answer);
        while let Some((sent_at, answer)) = self.history.commit(now) {
            if matches!(answer, Answer::Refused { .. }) {
                self.refused(sent_at);
            }
        }
        self.used = self.history.recent(now, now - USED_SECONDS);
    }

    /// In the order of sending: the first refusal of an episode is the moment at which a budget was spent.
    fn refused(&mut self, at: f64) {
        self.refusals = self.refusals.saturating_add(1);
        self.asked.refused = self.asked.refused.saturating_add(1);
        let goes_on = at - self.episode_at < EPISODE_SECONDS
            || self.history.accepted_in(self.refused_at, at) == 0 && self.episodes > 0;
        self.refused_at = at;
        if goes_on {
            return;
        }
        if self.before.is_none() {
            self.before = Some(self.history.recent(at, at - 1.0));
        }
        if let Some(reading) = self.history.measure(at) {
            while self.between.len() >= EPISODES_KEPT {
                self.between.pop_front();
            }
            self.between.push_back(Between { rate: reading.long, asked: self.asked });
        }
        self.asked = Asked::default();
        self.history.saturated(at);
        self.episode_at = at;
        self.episodes = self.episodes.saturating_add(1);
    }

    /// What the API announces.
    pub(in crate::control) fn announced(&self, now: f64) -> Vec<AnnouncedView> {
        self.ledgers.views(now)
    }

    /// The limit in numbers: requests, and the window in seconds.
    pub(in crate::control) fn believes(&self) -> Option<(f64, f64)> {
        let told = self.told.map(|(requests, seconds, _)| (f64::from(requests), seconds));
        let measured = self.measured().map(|rate| ((rate * 100.0).round() / 100.0, 1.0));
        self.ledgers.believes().or(told).or(measured)
    }

    /// The limit in words, and how sure.
    pub(in crate::control) fn limit(&self) -> Option<LimitView> {
        if let Some(announced) = self.ledgers.limit() {
            return Some(announced);
        }
        let (requests, window_seconds) = self.believes()?;
        let (refusals, episodes) = (self.refusals, self.episodes);
        let at_least = self.told.is_none() && !self.between.is_empty() && !self.is_pressed();
        let (source, confidence, says) = match self.told {
            Some((.., source)) => {
                let says = format!("{requests} requests in {window_seconds} s: as the API announced");
                (source, 0.95, says)
            }
            None if self.between.is_empty() => {
                let says = format!(
                    "{requests} requests a second or less: let through in the second before the first refusal"
                );
                (LimitSource::Learnt, 0.1, says)
            }
            None if at_least => {
                let says = format!(
                    "at least {requests} requests a second: the most that was let through between refusals, of which \
                     there were {refusals} in {episodes} episodes; less was asked for than the limit gives, so it may be \
                     higher"
                );
                (LimitSource::Learnt, 0.1, says)
            }
            None => {
                let says = format!(
                    "about {requests} requests a second: the most that was let through between refusals, of which \
                     there were {refusals} in {episodes} episodes; watching alone finds no window"
                );
                (LimitSource::Learnt, 0.4, says)
            }
        };
        let model = LimitModel::Unknown;
        Some(LimitView { requests, window_seconds, model, at_least, source, confidence, says })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;
    use std::time::Duration;

    /// Asks evenly `wanted` times a second for `seconds`, of a limiter that lets `requests` through in each window.
    fn watch(law: &mut Observed, wanted: f64, seconds: f64, (requests, window): (u32, f64)) {
        let (mut at, mut opened, mut used) = (0.0, f64::NEG_INFINITY, 0);
        while at < seconds {
            if at - opened >= window {
                (opened, used) = (at, 0);
            }
            let stamp = law.sent(at);
            used += 1;
            let answer =
                if used > requests { Answer::Refused { retry_after: None } } else { Answer::Accepted };
            law.settle(at + 0.02, stamp, answer, &[]);
            at += 1.0 / wanted;
        }
    }

    #[test]
    fn the_limit_is_measured_where_more_is_wanted_than_it_gives() {
        for (limit, wanted) in [((10, 1.0), 25.0), ((300, 60.0), 12.0), ((100, 1.0), 130.0)] {
            let mut law = Observed::new(LawName::Learnt, 0.0);
            watch(&mut law, wanted, 300.0, limit);
            let rate = f64::from(limit.0) / limit.1;
            assert!((law.pace() - rate).abs() < 0.06 * rate, "{limit:?}: {}", law.pace());
            let says = law.limit().unwrap().says;
            assert!(says.contains("episodes; watching alone") && !law.limit().unwrap().at_least, "{says}");
        }
    }

    #[test]
    fn one_episode_says_only_what_was_let_through_before() {
        let mut law = Observed::new(LawName::Learnt, 0.0);
        watch(&mut law, 12.0, 40.0, (300, 60.0));
        let limit = law.limit().unwrap();
        assert!((limit.requests - 12.0).abs() < 1.0 && limit.confidence < 0.2, "{limit:?}");
        assert!(limit.says.contains("or less"), "{limit:?}");
    }

    #[test]
    fn where_less_is_asked_than_the_limit_gives_it_is_at_least_that() {
        // Thirty at once every five seconds, to ten a second.
        let mut law = Observed::new(LawName::Learnt, 0.0);
        for burst in 0..60_u32 {
            for n in 0..30_u32 {
                let at = 5.0 * f64::from(burst) + 0.001 * f64::from(n);
                let stamp = law.sent(at);
                let answer = if n < 10 { Answer::Accepted } else { Answer::Refused { retry_after: None } };
                law.settle(at + 0.02, stamp, answer, &[]);
            }
        }
        let limit = law.limit().unwrap();
        assert!(limit.at_least && limit.requests <= 10.0 && limit.confidence <= 0.1, "{limit:?}");
        assert!(limit.says.starts_with("at least") && limit.model == LimitModel::Unknown, "{limit:?}");
        // Evenly, a little below it, and now and then above.
        let mut law = Observed::new(LawName::Learnt, 0.0);
        let (mut at, mut used, mut second) = (0.0_f64, 0, 0.0);
        while at < 120.0 {
            if at.floor() > second {
                (second, used) = (at.floor(), 0);
            }
            let stamp = law.sent(at);
            used += 1;
            let answer = if used > 10 { Answer::Refused { retry_after: None } } else { Answer::Accepted };
            law.settle(at + 0.02, stamp, answer, &[]);
            at += if at % 10.0 < 1.0 { 1.0 / 13.0 } else { 1.0 / 6.0 };
        }
        let limit = law.limit().unwrap();
        assert!(limit.at_least && limit.requests < 10.0, "{limit:?}");
    }

    #[test]
    fn no_refusal_is_no_limit_and_the_pace_is_what_gets_through() {
        let mut law = Observed::new(LawName::Learnt, 0.0);
        watch(&mut law, 30.0, 20.0, (1_000, 1.0));
        assert_eq!((law.limit(), law.believes()), (None, None));
        assert!((law.pace() - 30.0).abs() < 1.0, "{}", law.pace());
    }

    #[test]
    fn a_limit_that_fell_is_seen() {
        let mut law = Observed::new(LawName::Learnt, 0.0);
        watch(&mut law, 25.0, 60.0, (20, 1.0));
        assert!((law.pace() - 20.0).abs() < 1.5, "{}", law.pace());
        let mut later = Observed { history: History::default(), ..law };
        later.episode_at = f64::NEG_INFINITY;
        watch(&mut later, 25.0, 60.0, (10, 1.0));
        assert!((later.pace() - 10.0).abs() < 1.0, "{}", later.pace());
    }

    #[test]
    fn what_the_api_announces_is_taken_as_it_stands() {
        let mut law = Observed::new(LawName::Learnt, 0.0);
        let told = Announcement {
            name: "body".into(),
            requests: 300,
            window: Some(Duration::from_mins(1)),
            used: None,
            reset: None,
            level: Level::Route,
            source: AnnouncedBy::Body,
        };
        let stamp = law.sent(1.0);
        law.settle(1.1, stamp, Answer::Refused { retry_after: None }, &[told]);
        assert_eq!(law.believes(), Some((300.0, 60.0)));
        assert_eq!(law.limit().unwrap().source, LimitSource::Body);
        assert!((law.pace() - 5.0).abs() < 1e-9);
    }
}
