//! What the rival laws have in common: one queue, and every refused request waits for its own Retry-After. How fast
//! requests go, and whether the others wait too, is the law's.

use crate::closed_loop::{About, Machine, Next, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tidegate::control::{Outcome, Report};

/// Refused, and not told for how long.
const UNTOLD_SECONDS: f64 = 1.0;

/// A rival law. Times are in seconds, rates in requests/s.
pub(crate) trait Law {
    /// When the next may leave, with so many in flight and so many that wait; infinite: after the next answer.
    fn ready_at(&mut self, now: f64, in_flight: usize, waiting: usize) -> f64;
    /// One leaves.
    fn sent(&mut self, _now: f64) {}
    /// It was let in, after so many seconds; so many are still in flight.
    fn accepted(&mut self, _now: f64, _rtt: f64, _in_flight: usize) {}
    /// The one that left at `sent_at` was refused.
    fn refused(&mut self, _now: f64, _sent_at: f64) {}
}

/// A machine around a rival law.
pub(crate) struct Rival<L> {
    law: L,
    /// Those that wait for a turn, by their age, with their deadline.
    ready: BTreeMap<u64, f64>,
    /// Refused ones that rest, by the end of that.
    resting: BTreeSet<(Moment, u64)>,
    deadlines: BTreeMap<u64, f64>,
    sent_at: BTreeMap<u64, f64>,
}

/// A moment in whole nanoseconds, which have an order.
type Moment = Duration;

impl<L: Law> Rival<L> {
    pub(crate) fn new(law: L) -> Self {
        Self {
            law,
            ready: BTreeMap::new(),
            resting: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            sent_at: BTreeMap::new(),
        }
    }
}

impl<L: Law> Machine for Rival<L> {
    fn ask(&mut self, _now: f64, request: u64, about: About) -> bool {
        self.ready.insert(request, about.deadline);
        self.deadlines.insert(request, about.deadline);
        true
    }

    fn next(&mut self, now: f64) -> Next {
        while let Some((until, request)) = self.resting.first().copied()
            && until.as_secs_f64() <= now
        {
            self.resting.pop_first();
            self.ready.insert(request, self.deadlines[&request]);
        }
        let rested = self.resting.first().map_or(f64::INFINITY, |(until, _)| until.as_secs_f64());
        let Some((request, deadline)) = self.ready.first_key_value().map(|(id, deadline)| (*id, *deadline))
        else {
            return Next::Wait(rested);
        };
        if deadline <= now {
            self.ready.remove(&request);
            self.deadlines.remove(&request);
            return Next::Expire(request);
        }
        let at = self.law.ready_at(now, self.sent_at.len(), self.ready.len());
        if at > now {
            return Next::Wait(at.min(rested).min(deadline));
        }
        self.ready.remove(&request);
        self.law.sent(now);
        self.sent_at.insert(request, now);
        Next::Start(request)
    }

    fn settle(&mut self, now: f64, request: u64, report: &Report) -> bool {
        let sent_at = self.sent_at.remove(&request).expect("it was sent");
        let Outcome::Limited(hint) = report.outcome else {
            self.law.accepted(now, now - sent_at, self.sent_at.len());
            return false;
        };
        self.law.refused(now, sent_at);
        let told = hint.retry_after.map_or(UNTOLD_SECONDS, |wait| wait.as_secs_f64());
        self.resting.insert((Duration::from_secs_f64(now + told), request));
        true
    }

    fn release(&mut self, _now: f64, request: u64) {
        self.deadlines.remove(&request);
    }

    fn leave(&mut self, _now: f64, request: u64) {
        self.ready.remove(&request);
        self.deadlines.remove(&request);
        self.resting.retain(|(_, other)| *other != request);
    }

    fn pace(&mut self, _now: f64) -> f64 {
        f64::NAN
    }
}

/// Evenly spaced departures.
#[derive(Debug, Default)]
pub(crate) struct Spacing {
    next: f64,
}

impl Spacing {
    pub(crate) fn ready_at(&self, now: f64) -> f64 {
        self.next.max(now)
    }

    pub(crate) fn sent(&mut self, now: f64, rate: f64) {
        // What a late timer lost is made good, up to one interval.
        self.next = self.next.max(now - 1.0 / rate) + 1.0 / rate;
    }
}

/// A coin with a bias, seeded.
#[derive(Debug)]
pub(crate) struct Coin(Random);

impl Coin {
    pub(crate) fn new() -> Self {
        Self(Random::new(1))
    }

    pub(crate) fn falls(&mut self, chance: f64) -> bool {
        self.0.uniform() < chance
    }
}
