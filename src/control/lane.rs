//! One lane: its queue, and the limit that it learns; and the nodes of a path, which grant together.

use super::law::{Law, Shift, Stamp};
use super::pacer::Pacer;
use super::queue::Queue;
use super::rate::Rate;
use super::settings::LawSettings;
use super::shared::Shared;
use super::{LaneKey, LaneView};
use std::sync::Arc;

/// Two moments closer than this are the same: what a conversion between clock and seconds may lose.
pub(super) const SAME: f64 = 1e-7;

/// A new credential's first request waits at most this long for its predecessor's phase.
const FOLLOWED_SECONDS: f64 = 1.0;

/// One limit of a path: a law that says how fast, and a pacer that says when.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) law: Law,
    pub(super) pacer: Pacer,
    /// A pause that no law asked for (the API is overloaded).
    pause_until: f64,
}

impl Node {
    pub(super) fn new(law: Law) -> Self {
        Self { law, pacer: Pacer::new(), pause_until: f64::NEG_INFINITY }
    }

    /// A node for a lane whose route another credential has used: it starts from what that one learnt.
    pub(super) fn heir(settings: &LawSettings, donor: Option<&Self>, now: f64) -> Self {
        let prior = donor.and_then(|donor| donor.law.prior());
        let law = Law::new(settings, prior.as_ref(), now);
        let mut node = Self::new(law);
        // A phase is worth following once there is a limit to have one against, and where that costs a moment only.
        let rate = node.law.current_rate();
        let follows =
            prior.is_some() && !node.law.is_starting() && rate.interval_seconds() <= FOLLOWED_SECONDS;
        if let Some(donor) = donor.filter(|_| follows) {
            node.pacer.follow(&donor.pacer, now, rate);
        }
        node
    }

    /// When the next one may leave, with `waiting` that could; infinite while an answer has to come first.
    pub(super) fn ready_at(&mut self, now: f64, waiting: usize) -> f64 {
        let rate = self.law.rate(now, waiting);
        let hold = self.law.hold_until(now, waiting).max(self.pause_until);
        if let Some(shift) = self.law.take_shift() {
            let earliest = if hold.is_finite() { hold.max(now) } else { now };
            match shift {
                Shift::By(fraction) => self.pacer.shift(earliest, fraction, rate),
                Shift::Onto(at) => self.pacer.align(earliest, at, rate),
            }
        }
        self.pacer.ready_at(rate).max(hold)
    }

    /// One leaves.
    pub(super) fn take(&mut self, now: f64) -> Stamp {
        let rate = self.law.grid_rate();
        self.pacer.keep_phase(self.law.keeps_phase());
        self.pacer.take(now, rate);
        self.law.sent(now)
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self, now: f64, stamp: Stamp) {
        self.pacer.give_back(self.law.grid_rate());
        self.law.give_back(now, stamp);
    }

    /// Nothing leaves for so many seconds, if any.
    pub(super) fn pause(&mut self, now: f64, seconds: Option<f64>) {
        self.pause_until = self.pause_until.max(seconds.map_or(f64::NEG_INFINITY, |seconds| now + seconds));
    }

    /// The end of the longest pause known.
    pub(super) fn paused_until(&self) -> f64 {
        self.pause_until.max(self.law.paused_until())
    }
}

/// One limit's whole state.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) name: Arc<str>,
    pub(super) node: Node,
    pub(super) queue: Queue,
    pub(super) in_flight: usize,
    pub(super) accepted_total: u64,
    pub(super) throttled_total: u64,
    pub(super) used_at: f64,
    /// When the machine wants to look at it next; infinite for never.
    pub(super) wake: f64,
    /// The limit as it was last told.
    pub(super) told: Option<(f64, f64)>,
}

impl Lane {
    pub(super) fn new(key: LaneKey, name: Arc<str>, node: Node, now: f64) -> Self {
        Self {
            key,
            name,
            node,
            queue: Queue::default(),
            in_flight: 0,
            accepted_total: 0,
            throttled_total: 0,
            used_at: now,
            wake: f64::INFINITY,
            told: None,
        }
    }

    /// When every node of the lane's path grants.
    pub(super) fn ready_at(&mut self, shared: &mut Shared, now: f64) -> f64 {
        let waiting = self.queue.ready_len();
        self.node.ready_at(now, waiting).max(shared.ready_at(&self.key, now, waiting))
    }

    /// Nothing waits and nothing flies.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.in_flight == 0
    }

    /// Seconds until a ticket behind `ahead` others would leave; `None` while the pace is still being found.
    pub(super) fn predicted_wait(&self, now: f64, ahead: usize) -> Option<f64> {
        if self.node.law.is_starting() {
            return None;
        }
        let pause = (self.node.paused_until() - now).max(0.0);
        Some(pause + ahead as f64 * self.node.law.current_rate().interval_seconds())
    }

    /// Seconds until the queue has drained, for a Retry-After: whole, at least 1, at most a minute.
    pub(super) fn drain_seconds(&self, now: f64) -> f64 {
        let pause = (self.node.paused_until() - now).max(0.0);
        let rate: Rate = self.node.law.current_rate();
        (pause + self.queue.len() as f64 * rate.interval_seconds()).ceil().clamp(1.0, 60.0)
    }

    pub(super) fn view(&self, now: f64) -> LaneView {
        LaneView {
            name: Arc::clone(&self.name),
            key: self.key.clone(),
            law: self.node.law.name(),
            pace: self.node.law.current_rate().get(),
            pinned: None,
            limit: self.node.law.limit(),
            queue_depth: self.queue.len(),
            in_flight: self.in_flight,
            accepted_total: self.accepted_total,
            throttled_total: self.throttled_total,
            paused_seconds: (self.node.paused_until() - now).max(0.0),
        }
    }
}
