//! The rival laws, from their published formulas.

use crate::rival::{Coin, Law, Spacing};
use std::collections::VecDeque;

/// Additive increase, multiplicative decrease (Chiu and Jain, 1989) of the pace.
///
/// It starts like ours, at 4/s and doubling every half second, so that what differs is the law: at a refusal it goes down
/// to `beta` of its pace, at most every half second and never twice for requests that left before the last time; while
/// something waits it grows by 1 % of its last peak a second, or by 0.05.
#[derive(Debug)]
pub(crate) struct Aimd {
    beta: f64,
    rate: f64,
    peak: f64,
    starting: bool,
    grown_at: f64,
    cut_at: f64,
    spacing: Spacing,
}

impl Aimd {
    pub(crate) fn new(beta: f64) -> Self {
        let (rate, cut_at) = (4.0, f64::NEG_INFINITY);
        Self { beta, rate, peak: rate, starting: true, grown_at: 0.0, cut_at, spacing: Spacing::default() }
    }
}

impl Law for Aimd {
    fn ready_at(&mut self, now: f64, _in_flight: usize, _waiting: usize) -> f64 {
        let elapsed = (now - self.grown_at).clamp(0.0, 1.0);
        self.grown_at = now;
        if self.starting {
            self.rate *= (elapsed / 0.5).exp2();
        } else {
            self.rate += (0.01 * self.peak).max(0.05) * elapsed;
        }
        self.rate = self.rate.min(20_000.0);
        self.spacing.ready_at(now)
    }

    fn sent(&mut self, now: f64) {
        self.spacing.sent(now, self.rate);
    }

    fn refused(&mut self, now: f64, sent_at: f64) {
        if sent_at >= self.cut_at && now - self.cut_at >= 0.5 {
            self.peak = self.rate;
            self.rate = (self.rate * if self.starting { 0.5 } else { self.beta }).max(0.2);
            self.starting = false;
            self.cut_at = now;
        }
    }
}

/// The adaptive mode of the AWS SDKs: CUBIC over the rate, behind a token bucket of one second's tokens.
///
/// botocore/retries/bucket.py, throttling.py and adaptive.py: at every refusal the rate falls to 0.7 of what was measured,
/// else it is 0.4 (t - K)^3 + w with K = cbrt(0.3 w / 0.4), at most twice what was measured; measured is an average of
/// half seconds, the newest for 0.8. Nothing is limited before the first refusal.
#[derive(Debug, Default)]
pub(crate) struct Cubic {
    enabled: bool,
    rate: f64,
    tokens: f64,
    filled_at: f64,
    last_max: f64,
    inflection: f64,
    failed_at: f64,
    measured: f64,
    bucket: f64,
    count: f64,
}

impl Cubic {
    fn measure(&mut self, now: f64) {
        self.count += 1.0;
        let bucket = (now * 2.0).floor() / 2.0;
        if bucket > self.bucket {
            self.measured = 0.8 * self.count / (bucket - self.bucket) + 0.2 * self.measured;
            self.count = 0.0;
            self.bucket = bucket;
        }
    }

    fn fill(&mut self, now: f64) {
        self.tokens = (self.tokens + (now - self.filled_at) * self.rate).min(self.rate.max(1.0));
        self.filled_at = now;
    }

    fn set(&mut self, now: f64, calculated: f64) {
        self.fill(now);
        self.rate = calculated.min(2.0 * self.measured).max(0.5);
        self.tokens = self.tokens.min(self.rate.max(1.0));
    }
}

impl Law for Cubic {
    fn ready_at(&mut self, now: f64, _in_flight: usize, _waiting: usize) -> f64 {
        if !self.enabled {
            return now;
        }
        self.fill(now);
        if self.tokens >= 1.0 - 1e-9 { now } else { now + (1.0 - self.tokens) / self.rate }
    }

    fn sent(&mut self, _now: f64) {
        if self.enabled {
            self.tokens -= 1.0;
        }
    }

    fn accepted(&mut self, now: f64, _rtt: f64, _in_flight: usize) {
        self.measure(now);
        let since = now - self.failed_at - self.inflection;
        self.set(now, 0.4 * since * since * since + self.last_max);
    }

    fn refused(&mut self, now: f64, _sent_at: f64) {
        self.measure(now);
        let used = if self.enabled { self.measured.min(self.rate) } else { self.measured };
        self.last_max = used;
        self.inflection = (used * 0.3 / 0.4).cbrt();
        self.failed_at = now;
        self.enabled = true;
        self.set(now, 0.7 * used);
    }
}

/// Adaptive throttling of Google's SRE book, chapter 21: a request is turned away on our side with the chance
/// (requests - K accepts) / (requests + 1) over two minutes, with K = 2. What is turned away asks again after 20 ms.
#[derive(Debug)]
pub(crate) struct Sre {
    /// When, and whether it was an accept.
    history: VecDeque<(f64, bool)>,
    requests: f64,
    accepts: f64,
    again_at: f64,
    coin: Coin,
}

impl Sre {
    pub(crate) fn new() -> Self {
        let history = VecDeque::new();
        Self { history, requests: 0.0, accepts: 0.0, again_at: 0.0, coin: Coin::new() }
    }

    fn count(&mut self, now: f64, accepted: bool) {
        self.history.push_back((now, accepted));
        *(if accepted { &mut self.accepts } else { &mut self.requests }) += 1.0;
    }
}

impl Law for Sre {
    fn ready_at(&mut self, now: f64, _in_flight: usize, _waiting: usize) -> f64 {
        if now < self.again_at {
            return self.again_at;
        }
        while let Some((_, accepted)) = self.history.pop_front_if(|(at, _)| *at < now - 120.0) {
            *(if accepted { &mut self.accepts } else { &mut self.requests }) -= 1.0;
        }
        let chance = (self.requests - 2.0 * self.accepts) / (self.requests + 1.0);
        if self.coin.falls(chance) {
            self.count(now, false);
            self.again_at = now + 0.02;
            return self.again_at;
        }
        now
    }

    fn sent(&mut self, now: f64) {
        self.count(now, false);
    }

    fn accepted(&mut self, now: f64, _rtt: f64, _in_flight: usize) {
        self.count(now, true);
    }
}

/// Gradient2 of Netflix' concurrency-limits (Gradient2Limit.java): a limit in flight that shrinks as round trips become
/// longer than they were for long: `limit = 0.8 limit + 0.2 (limit clamp(long / rtt, 0.5, 1) + 4)`. It never reads
/// whether a request was refused. From 20, between 1 (the source's default is 20) and 200.
#[derive(Debug)]
pub(crate) struct Gradient2 {
    limit: f64,
    long: f64,
    samples: f64,
}

impl Gradient2 {
    pub(crate) fn new() -> Self {
        Self { limit: 20.0, long: 0.0, samples: 0.0 }
    }
}

impl Law for Gradient2 {
    fn ready_at(&mut self, now: f64, in_flight: usize, _waiting: usize) -> f64 {
        if in_flight as f64 + 1.0 <= self.limit.max(1.0) { now } else { f64::INFINITY }
    }

    fn accepted(&mut self, _now: f64, rtt: f64, in_flight: usize) {
        self.samples += 1.0;
        // An average of the first ten, then an exponential one over 600.
        let weight = if self.samples < 10.0 { 1.0 / self.samples } else { 2.0 / 601.0 };
        self.long += (rtt - self.long) * weight;
        if self.long / rtt > 2.0 {
            self.long *= 0.9;
        }
        if (in_flight as f64) + 1.0 < self.limit / 2.0 {
            return;
        }
        let gradient = (self.long / rtt).clamp(0.5, 1.0);
        self.limit = (0.8 * self.limit + 0.2 * (self.limit * gradient + 4.0)).clamp(1.0, 200.0);
    }
}

/// The oracle: it is told the limit at every moment, as a pace or as a number in flight, and its share of it. It is not
/// told where windows begin.
pub(crate) struct Told {
    /// The rate at a moment.
    pub(crate) rate: Box<dyn Fn(f64) -> f64>,
    pub(crate) in_flight_max: usize,
    pub(crate) spacing: Spacing,
}

impl Law for Told {
    fn ready_at(&mut self, now: f64, in_flight: usize, _waiting: usize) -> f64 {
        if in_flight >= self.in_flight_max { f64::INFINITY } else { self.spacing.ready_at(now) }
    }

    fn sent(&mut self, now: f64) {
        let rate = (self.rate)(now);
        self.spacing.sent(now, rate);
    }
}
