//! An API that slows down instead of refusing: how many requests at once do not wait with it for one another?
//!
//! **The idea** is that of Netflix's Gradient2 limit: what a request takes now, against what it takes when few are under
//! way, says how far the requests at once exceed what the API works on. Two things are done otherwise. Refusals are no
//! samples, since they come back at once. And a latency is never believed alone: calls may be slow by nature, long ones
//! may have become more frequent, a proxy and an API on one machine take each other's time. So
//!
//! - **A suspicion** needs more than twice the usual time, and more than 50 ms above it, in two rounds of answers.
//! - **A trial** decides: for a round half as many are let out. Where they took half as long and as many were answered a
//!   second, the rest had only waited. Where not, nobody is held back, the latency is the usual one from now on, and the
//!   next suspicion has to wait, each time twice as long.
//! - **Keeping it.** The limit goes down with the gradient as long as no throughput is lost. Now and then, and when
//!   throughput falls, half as many again are let out for a round: if more are answered a second, the limit was too low.
//!
//! It is an overlay: it holds back at most, and what holds a pace goes on beside it. Measured in virtual time, ten workers
//! of 0.1 s and a hundred clients: 0.21 s with the API instead of 1 s, at all of its 100 answers a second.

use super::law::{Answer, Stamp};
use super::{LimitModel, LimitSource, LimitView};
use std::time::Duration;

/// More than so many times the usual, and so many seconds above it, is slow.
const SLOW_FACTOR: f64 = 2.0;
const SLOW_SECONDS: f64 = 0.05;
/// Rounds in a row that have to be slow.
const SLOW_ROUNDS: u32 = 2;
/// Fewer at once than this are never held back.
const CROWD_MIN: f64 = 4.0;
/// A round has so many answers and takes so long, in seconds; and twice as long as one of its requests.
const ROUND_ANSWERS: u32 = 50;
const ROUND_SECONDS: f64 = 0.5;
/// The answers that say first what is usual.
const FIRST_ANSWERS: u32 = 20;
/// One request counts for no more than so many times the usual: a straggler is no crowd.
const STRAGGLER: f64 = 8.0;
/// What a trial shows of an API that only queues: so much of the throughput, in so much of the time.
const TRIAL_THROUGHPUT: f64 = 0.8;
const TRIAL_SECONDS: f64 = 0.75;
/// The limit aims at so many times the usual, and at so many requests more than that takes.
const AIM: f64 = 1.1;
const SPARE: f64 = 2.0;
/// A round that answered less than this share of the best is one that lost something.
const LOST: f64 = 0.85;
/// A look at more: so many times the limit, so often, in seconds.
const LOOK_FACTOR: f64 = 1.5;
const LOOK_SECONDS: f64 = 30.0;
/// How long no suspicion is believed after one that misled, in seconds; longer each time.
const DISTRUST_SECONDS: f64 = 60.0;
const DISTRUST_SECONDS_MAX: f64 = 3600.0;
/// A limit that nothing met for so many seconds is forgotten.
const UNMET_SECONDS: f64 = 60.0;
/// A limit is told again when it moved by more than this share.
const TOLD: f64 = 0.25;

/// What is known of an API's slowness.
#[derive(Clone, Debug)]
pub(super) struct Overload {
    /// Requests sent and not answered. Not those whose answer's body is on its way: the API has worked on them.
    unanswered: u32,
    round: Round,
    /// What a request takes when few are under way, in seconds.
    usual: Option<f64>,
    slow_rounds: u32,
    limit: Option<Limit>,
    distrust_until: f64,
    distrust_seconds: f64,
}

/// Answers seen together.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// What was sent earlier belongs to no round, or to the one before.
    since: f64,
    answers: u32,
    seconds: f64,
    departures: u32,
    unanswered: f64,
}

/// What a round came to.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Answers a second.
    throughput: f64,
    /// What a request took, in seconds.
    took: f64,
    /// Requests at once, on average.
    at_once: f64,
}

/// How many may be unanswered.
#[derive(Clone, Copy, Debug)]
struct Limit {
    requests: f64,
    stage: Stage,
    /// The best throughput under it, in answers a second.
    best: f64,
    look_at: f64,
    /// When it last held something back.
    met_at: f64,
    told: f64,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Half of what was: does anything get lost?
    Trial(Seen),
    Kept,
    /// More than the limit, which was so many with such an outcome.
    Look(f64, Seen),
}

impl Overload {
    pub(super) fn new() -> Self {
        Self {
            unanswered: 0,
            round: Round::new(f64::NEG_INFINITY),
            usual: None,
            slow_rounds: 0,
            limit: None,
            distrust_until: f64::NEG_INFINITY,
            distrust_seconds: DISTRUST_SECONDS,
        }
    }

    /// None may leave before an answer comes.
    pub(super) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| f64::from(self.unanswered) + 1.0 > limit.requests)
    }

    /// The most that may be unanswered now.
    pub(super) fn max(&self) -> Option<u32> {
        let whole = Duration::from_secs_f64(self.limit?.requests.clamp(0.0, 1e9)).as_secs();
        u32::try_from(whole).ok()
    }

    /// It holds something back, or did a moment ago: what waits does not wait for the pace.
    pub(super) fn binds(&self, now: f64) -> bool {
        self.limit.is_some_and(|limit| now - limit.met_at < 2.0 * ROUND_SECONDS) || self.is_full()
    }

    /// The pace that it makes, in requests/s, where it is sure of its limit.
    pub(super) fn pace(&self) -> Option<f64> {
        self.kept().map(|limit| limit.best)
    }

    fn kept(&self) -> Option<Limit> {
        self.limit.filter(|limit| !matches!(limit.stage, Stage::Trial(_)))
    }

    /// One leaves.
    pub(super) fn sent(&mut self, now: f64) {
        self.unanswered += 1;
        if now >= self.round.since {
            self.round.departures += 1;
            self.round.unanswered += f64::from(self.unanswered);
        }
        let full = self.is_full();
        if let Some(limit) = &mut self.limit {
            if full {
                limit.met_at = now;
            } else if now - limit.met_at > UNMET_SECONDS {
                self.limit = None;
            }
        }
    }

    /// One did not leave, or came to nothing that says anything.
    pub(super) fn ended(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// An answer.
    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer) {
        self.ended();
        if answer != Answer::Accepted {
            return;
        }
        if self.round.since == f64::NEG_INFINITY {
            self.round.since = stamp.sent_at;
        }
        if stamp.sent_at < self.round.since {
            return;
        }
        let most = self.usual.map_or(f64::INFINITY, |usual| STRAGGLER * usual.max(SLOW_SECONDS));
        self.round.answers += 1;
        self.round.seconds += (now - stamp.sent_at).clamp(0.0, most);
        let Some(usual) = self.usual else {
            if self.round.answers >= FIRST_ANSWERS {
                self.usual = Some(self.round.seconds / f64::from(self.round.answers));
            }
            return;
        };
        let Some(seen) = self.round.over(now) else { return };
        self.usual = Some(usual.min(seen.took));
        let changed = self.heed(now, seen, usual);
        // What left under another limit has still to be answered.
        self.round = Round::new(if changed { now + seen.took } else { now });
    }

    /// Draws the conclusion from a round; says whether it changed the limit.
    fn heed(&mut self, now: f64, seen: Seen, usual: f64) -> bool {
        let Some(limit) = &mut self.limit else { return self.suspect(now, seen, usual) };
        match limit.stage {
            Stage::Trial(before) => {
                let as_many = seen.throughput >= TRIAL_THROUGHPUT * before.throughput;
                if as_many && seen.took <= TRIAL_SECONDS * before.took {
                    limit.stage = Stage::Kept;
                    limit.best = before.throughput.max(seen.throughput);
                    limit.look_at = now + LOOK_SECONDS;
                    self.distrust_seconds = DISTRUST_SECONDS;
                    limit.aim(seen, usual);
                } else {
                    self.limit = None;
                    self.usual = Some(seen.took.max(usual));
                    self.distrust_until = now + self.distrust_seconds;
                    self.distrust_seconds = (2.0 * self.distrust_seconds).min(DISTRUST_SECONDS_MAX);
                }
                true
            }
            Stage::Look(was, before) => {
                // Of what could have come more, at least half did.
                let hoped = 0.5 * (seen.at_once / before.at_once.max(1.0) - 1.0);
                if seen.throughput >= before.throughput * (1.0 + hoped.max(0.1)) {
                    // None waited for another, so what they took is the usual.
                    self.usual = Some(seen.took);
                    (limit.best, limit.look_at) = (seen.throughput, now);
                } else {
                    (limit.requests, limit.look_at) = (was, now + LOOK_SECONDS);
                    limit.best = before.throughput;
                }
                limit.stage = Stage::Kept;
                true
            }
            Stage::Kept if limit.met_at < self.round.since => false,
            Stage::Kept if now >= limit.look_at || seen.throughput < LOST * limit.best => {
                limit.stage = Stage::Look(limit.requests, seen);
                limit.requests *= LOOK_FACTOR;
                true
            }
            Stage::Kept => {
                limit.best = limit.best.max(seen.throughput);
                limit.aim(seen, usual)
            }
        }
    }

    /// Nothing is held back. Should it be?
    fn suspect(&mut self, now: f64, seen: Seen, usual: f64) -> bool {
        let slow = seen.took > (SLOW_FACTOR * usual).max(usual + SLOW_SECONDS);
        let slow = slow && seen.at_once >= 2.0 * CROWD_MIN && now >= self.distrust_until;
        self.slow_rounds = if slow { self.slow_rounds + 1 } else { 0 };
        if self.slow_rounds < SLOW_ROUNDS {
            return false;
        }
        self.slow_rounds = 0;
        let requests = 0.5 * seen.at_once;
        let (best, look_at) = (seen.throughput, f64::INFINITY);
        self.limit =
            Some(Limit { requests, stage: Stage::Trial(seen), best, look_at, met_at: now, told: requests });
        true
    }

    /// The limit in numbers: requests, and how long they should take.
    pub(super) fn believes(&self) -> Option<(f64, f64)> {
        let limit = self.kept()?;
        Some((limit.told.floor(), limit.told.floor() / limit.best))
    }

    /// The limit in words, while it holds something back.
    pub(super) fn limit(&self) -> Option<LimitView> {
        let (requests, window_seconds) = self.believes()?;
        Some(LimitView {
            requests,
            window_seconds,
            model: LimitModel::Slowdown,
            at_least: false,
            source: LimitSource::Learnt,
            confidence: 0.6,
            says: format!("no limit, but beyond {requests} at once requests only take longer"),
        })
    }
}

impl Limit {
    /// Moves with the gradient: from what a request takes to what is usual. Says whether that was far.
    fn aim(&mut self, seen: Seen, usual: f64) -> bool {
        let gradient = (AIM * usual / seen.took).clamp(0.5, 1.0);
        let was = self.requests;
        self.requests = (was.min(1.2 * seen.at_once) * gradient + SPARE).max(CROWD_MIN);
        if (self.requests - self.told).abs() > TOLD * self.told {
            self.told = self.requests;
        }
        (self.requests - was).abs() > 0.1 * was
    }
}

impl Round {
    fn new(since: f64) -> Self {
        Self { since, answers: 0, seconds: 0.0, departures: 0, unanswered: 0.0 }
    }

    /// What it came to, if it is over at `now`.
    fn over(&self, now: f64) -> Option<Seen> {
        let (length, took) = (now - self.since, self.seconds / f64::from(self.answers));
        if self.answers < ROUND_ANSWERS || self.departures == 0 || length < ROUND_SECONDS.max(2.0 * took) {
            return None;
        }
        // The first answer to what left in the round comes when it has taken its time.
        let throughput = f64::from(self.answers) / (length - took);
        Some(Seen { throughput, took, at_once: self.unanswered / f64::from(self.departures) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    /// `clients` who ask again as soon as they have their answer, of so many workers; the way takes 20 ms.
    struct Pool {
        law: Overload,
        now: f64,
        waiting: usize,
        workers: Vec<f64>,
        /// Answers on their way, by microseconds, and what they answer.
        answers: BinaryHeap<Reverse<(u64, u64)>>,
        answered: u32,
        most: u32,
    }

    impl Pool {
        fn new(clients: usize, workers: usize) -> Self {
            Self {
                law: Overload::new(),
                now: 0.0,
                waiting: clients,
                workers: vec![0.0; workers],
                answers: BinaryHeap::new(),
                answered: 0,
                most: 0,
            }
        }

        /// Runs for `seconds` with calls that take so long each; gives answers a second and the most at once.
        fn run(&mut self, seconds: f64, service: impl Fn(u32) -> f64) -> (f64, u32) {
            (self.answered, self.most) = (0, 0);
            let until = self.now + seconds;
            let micros = |seconds: f64| u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap();
            // Clients come one by one in the first two seconds, as a start lets them.
            while self.now < until {
                let come = self.now >= 2.0 || f64::from(self.law.unanswered) < self.now * 4.0 + 1.0;
                if self.waiting > 0 && come && !self.law.is_full() {
                    self.waiting -= 1;
                    self.law.sent(self.now);
                    self.most = self.most.max(self.law.unanswered);
                    let takes = service(self.answered + self.law.unanswered);
                    let free = self.workers.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
                    *free = free.max(self.now + 0.01) + takes;
                    self.answers.push(Reverse((micros(*free + 0.01), micros(self.now))));
                    continue;
                }
                let Some(Reverse((at, sent_at))) = self.answers.pop() else { break };
                self.now = self.now.max(at as f64 * 1e-6);
                self.law.settle(self.now, Stamp::new(0, sent_at as f64 * 1e-6), Answer::Accepted);
                self.waiting += 1;
                self.answered += 1;
            }
            (f64::from(self.answered) / seconds, self.most)
        }
    }

    #[test]
    fn requests_that_only_wait_for_one_another_are_held_back() {
        let mut pool = Pool::new(100, 10);
        pool.run(20.0, |_| 0.1);
        let (throughput, _) = pool.run(60.0, |_| 0.1);
        let limit = pool.law.limit().unwrap();
        assert!(throughput > 97.0, "{throughput}");
        assert!(limit.model == LimitModel::Slowdown && (10.0..20.0).contains(&limit.requests), "{limit:?}");
        assert!(pool.law.binds(pool.now));
    }

    #[test]
    fn an_api_that_became_slower_by_nature_keeps_its_throughput() {
        let mut pool = Pool::new(100, 10);
        pool.run(30.0, |_| 0.1);
        pool.run(60.0, |_| 0.4);
        let (throughput, most) = pool.run(60.0, |_| 0.4);
        assert!(throughput > 0.95 * 25.0 && most < 40, "{throughput} {most}");
        pool.run(60.0, |_| 0.05);
        let (throughput, _) = pool.run(60.0, |_| 0.05);
        assert!(throughput > 0.95 * 200.0, "{throughput}");
    }

    #[test]
    fn more_workers_are_found() {
        let mut pool = Pool::new(200, 10);
        pool.run(30.0, |_| 0.1);
        pool.workers = vec![pool.now; 40];
        pool.run(120.0, |_| 0.1);
        let (throughput, _) = pool.run(60.0, |_| 0.1);
        assert!(throughput > 0.95 * 400.0, "{throughput}");
    }

    #[test]
    fn calls_that_are_slow_by_nature_are_not_held_back() {
        let mut pool = Pool::new(100, 1_000);
        pool.run(30.0, |_| 0.02);
        // The quick ones are gone: ten times as slow, whatever is at once.
        let (throughput, _) = pool.run(60.0, |_| 0.4);
        assert!(throughput > 0.96 * 100.0 / 0.42, "{throughput}");
        let (throughput, _) = pool.run(60.0, |n| if n % 2 == 0 { 0.02 } else { 0.8 });
        assert!(throughput > 0.96 * 100.0 / 0.43, "{throughput}");
        assert!(pool.law.limit().is_none());
    }

    #[test]
    fn a_crowd_that_waits_for_milliseconds_is_left_alone() {
        // One processor, shared: 100 at once take 40 ms instead of 20.4.
        let mut pool = Pool::new(100, 1);
        let (_, most) = pool.run(30.0, |_| 0.0004);
        assert!(pool.law.limit.is_none() && most == 100);
    }

    #[test]
    fn a_limit_that_nothing_meets_is_forgotten() {
        let mut pool = Pool::new(100, 10);
        pool.run(30.0, |_| 0.1);
        assert!(pool.law.limit().is_some());
        pool.waiting = 0;
        while pool.answers.len() > 3 {
            pool.answers.pop();
            pool.law.ended();
        }
        pool.run(UNMET_SECONDS + 5.0, |_| 0.1);
        assert!(pool.law.limit().is_none());
    }

    #[test]
    fn refusals_are_no_samples() {
        let mut law = Overload::new();
        for n in 0..1_000 {
            let now = f64::from(n) * 0.01;
            law.sent(now);
            law.settle(now + 0.001, Stamp::new(0, now), Answer::Refused { retry_after: None });
        }
        assert!(law.usual.is_none() && law.unanswered == 0);
    }
}
