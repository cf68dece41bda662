//! One lane: its queue, and the limit that it learns; and the nodes of a path, which grant together.

use super::announcement::Announcement;
use super::attribution::Passed;
use super::burst::Burst;
use super::command::Command;
use super::kind::Kind;
use super::law::{Answer, Law, Shift, Stamp};
use super::learnt::Prior;
use super::memory::Legacy;
use super::orders::Orders;
use super::pacer::Pacer;
use super::queue::Queue;
use super::rate::{Quota, Rate};
use super::retry::PAUSING_SECONDS;
use super::settings::{LanesSettings, LawSettings, Mode};
use super::shared::Shared;
use super::ticket::TicketId;
use super::{LaneKey, LimitView};
use std::sync::Arc;

/// Two moments closer than this are the same: what a conversion between clock and seconds may lose.
pub(super) const SAME: f64 = 1e-7;

/// A new credential's first request waits at most this long for its predecessor's phase.
const FOLLOWED_SECONDS: f64 = 1.0;

/// One limit of a path: a law that says how fast, a pacer that says when, and what an operator set beside them.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) law: Law,
    pacer: Pacer,
    burst: Burst,
    orders: Orders,
    /// A pause that no law asked for (the API is overloaded).
    pause_until: f64,
    /// When the next one would have left before the phase was changed; infinite without such a change.
    unshifted: f64,
    /// Since when something waits; infinite while nothing does.
    waiting_since: f64,
    /// Requests sent whose exchange is not over.
    pub(super) in_flight: u32,
    /// What left up to then was another law's: its answers teach this one nothing.
    since: f64,
    mode: Mode,
    /// What was learnt before the lane's refusals turned out to be those of a limit above it.
    aside: Option<Aside>,
}

/// What a lane had learnt; nothing, if its law was still looking.
#[derive(Clone, Debug)]
struct Aside {
    prior: Option<Prior>,
}

impl Node {
    pub(super) fn new(law: Law, ceiling: Option<Quota>) -> Self {
        let never = f64::NEG_INFINITY;
        Self {
            law,
            pacer: Pacer::new(),
            burst: Burst::none(),
            orders: Orders::new(ceiling),
            pause_until: never,
            unshifted: f64::INFINITY,
            waiting_since: f64::INFINITY,
            in_flight: 0,
            since: never,
            mode: Mode::Adaptive,
            aside: None,
        }
    }

    /// Whether it holds anything back.
    pub(super) fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// The node of `key`'s lane. It starts from what another lane of the same route left.
    pub(super) fn heir(settings: &LanesSettings, key: &LaneKey, legacy: Option<&Legacy>, now: f64) -> Self {
        let law = Law::new(settings.law_of(key), legacy.map(|legacy| &legacy.prior), now);
        let mut node = Self::new(law, settings.ceiling_of(key)).in_mode(settings.law_of(key).mode);
        node.burst = Burst::new(settings.law_of(key));
        // A phase is worth following once there is a limit to have one against, and where that costs a moment only.
        let rate = node.law.current_rate();
        let follows = !node.law.is_starting() && rate.interval_seconds() <= FOLLOWED_SECONDS;
        if let Some(legacy) = legacy.filter(|_| follows) {
            node.pacer.follow(&legacy.pacer, now, rate);
        }
        node
    }

    /// What it leaves to the next lane of its route, if it learnt something.
    pub(super) fn legacy(&self, used_at: f64) -> Option<Legacy> {
        Some(Legacy { prior: self.law.prior()?, pacer: self.pacer.clone(), used_at })
    }

    /// Tells the law that so many wait, and gives its pace. While an operator's orders are what holds back, nothing
    /// waits for the law: it neither climbs nor probes.
    pub(super) fn hear(&mut self, now: f64, waiting: usize) -> Rate {
        let waiting = self.waiting_for_law(now, waiting);
        self.law.rate(now, waiting)
    }

    fn waiting_for_law(&mut self, now: f64, waiting: usize) -> usize {
        self.waiting_since = if waiting == 0 { f64::INFINITY } else { self.waiting_since.min(now) };
        if self.orders.hold_back(now, &self.law) { 0 } else { waiting }
    }

    /// When the next one may leave, with `waiting` that could; infinite while an answer has to come first. One that
    /// `need_not` wait with the others may leave in a light pause.
    pub(super) fn ready_at(&mut self, now: f64, waiting: usize, need_not: bool) -> f64 {
        let waiting = self.waiting_for_law(now, waiting);
        let rate = self.law.rate(now, waiting);
        if self.observes() && self.orders.pinned().is_none() {
            return self.orders.paused_until();
        }
        let orders = self.orders.ready_at().max(self.pause_until);
        if let Some(pinned) = self.orders.pinned() {
            // In a dry run nothing that stands in a configuration holds anything back, a ceiling no more than the law.
            let orders = if self.observes() { self.orders.paused_until() } else { orders };
            return self.pacer.ready_at(pinned).max(orders);
        }
        if self.law.is_full(now, self.in_flight) {
            return f64::INFINITY;
        }
        let hold = self.law.hold_until(now, waiting, need_not).max(orders);
        if let Some(shift) = self.law.take_shift() {
            self.unshifted = self.pacer.ready_at(rate);
            let earliest = if hold.is_finite() { hold.max(now) } else { now };
            match shift {
                Shift::By(fraction) => self.pacer.shift(earliest, fraction, rate),
                Shift::Onto(at) => self.pacer.align(earliest, at, rate),
            }
        }
        let is_starting = self.law.is_starting();
        let saved =
            if is_starting { Burst::starting_credit_seconds(rate) } else { self.burst.credit_seconds(rate) };
        let due = self.pacer.ready_at(rate) - saved;
        // A change of phase is for the departures to come.
        if need_not { due.min(self.unshifted).max(hold) } else { due.max(hold) }
    }

    /// One leaves.
    pub(super) fn take(&mut self, now: f64) -> Stamp {
        let law = self.law.grid_rate();
        // A phase that the law chose means something at the law's pace only.
        let law_paces = self.orders.pinned().is_none() && self.orders.pace(law) >= law;
        self.pacer.keep_phase(self.law.keeps_phase() && law_paces);
        self.pacer.keep_rate(self.orders.pinned().is_some() || self.law.is_fixed());
        let is_ahead = self.orders.pinned().is_none() && self.burst.is_ahead(now, &self.pacer, law);
        self.pacer.take(now, self.orders.pinned().unwrap_or(law), self.waiting_since);
        self.orders.take(now, self.waiting_since);
        self.unshifted = f64::INFINITY;
        self.in_flight += 1;
        Stamp { is_ahead, ..self.law.sent(now, self.in_flight) }
    }

    /// It did not leave after all.
    pub(super) fn give_back(&mut self, now: f64, stamp: Stamp) {
        self.pacer.give_back(self.orders.pinned().unwrap_or_else(|| self.law.grid_rate()));
        self.orders.give_back();
        self.ended();
        if stamp.sent_at > self.since {
            self.law.give_back(now, stamp);
        }
    }

    /// An exchange is over.
    pub(super) fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// What became of one that left, and what its answer announces of this node's limits.
    pub(super) fn settle(&mut self, now: f64, stamp: Stamp, answer: Answer, told: &[Announcement]) {
        if stamp.sent_at > self.since {
            let answer = self.burst.settle(now, stamp, answer);
            self.law.settle(now, stamp, answer, told);
        }
    }

    /// Goes on with `law`, and keeps what it had learnt.
    pub(super) fn set_law_aside(&mut self, now: f64, law: Law) {
        self.aside.get_or_insert_with(|| Aside { prior: self.law.prior() });
        self.law = law;
        self.since = now;
    }

    /// Starts from what was set aside.
    pub(super) fn take_law_back(&mut self, now: f64, settings: &LawSettings) {
        if let Some(aside) = self.aside.take() {
            self.law = Law::new(settings, aside.prior.as_ref(), now);
            self.since = now;
        }
    }

    /// Nothing leaves for so many seconds, if any.
    pub(super) fn pause(&mut self, now: f64, seconds: Option<f64>) {
        if self.observes() {
            return;
        }
        self.pause_until = self.pause_until.max(seconds.map_or(f64::NEG_INFINITY, |seconds| now + seconds));
    }

    /// Whether it holds anything back.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// The pace that an operator pinned it to.
    pub(super) fn pinned(&self) -> Option<Rate> {
        self.orders.pinned()
    }

    /// It only watches: nothing waits but for an operator's pin or pause, which are a person's word and no trial.
    pub(super) fn observes(&self) -> bool {
        self.mode == Mode::Observe
    }

    /// Nothing waits at all.
    pub(super) fn lets_all(&self, now: f64) -> bool {
        self.observes() && !self.orders.stand(now)
    }

    /// Does the law see to the pauses that a refusal asks for?
    pub(super) fn law_pauses(&self) -> bool {
        !matches!(self.law, Law::Fixed(_)) && self.orders.pinned().is_none()
    }

    /// The end of the longest pause known; infinite until an operator resumes.
    pub(super) fn paused_until(&self) -> f64 {
        self.asked_until().max(self.orders.paused_until())
    }

    /// As [`Node::paused_until`], where that has an end: what a deadline can be held against.
    pub(super) fn pause_end(&self) -> f64 {
        let ordered = Some(self.orders.paused_until()).filter(|until| until.is_finite());
        self.asked_until().max(ordered.unwrap_or(f64::NEG_INFINITY))
    }

    /// The end of what the API asked for.
    fn asked_until(&self) -> f64 {
        match self.orders.pinned() {
            Some(_) => self.pause_until,
            None => self.pause_until.max(self.law.paused_until()),
        }
    }

    /// The pace that law and operator leave.
    pub(super) fn pace(&self) -> Rate {
        match self.orders.pinned() {
            Some(pinned) if self.observes() => pinned,
            _ => self.orders.pace(self.law.current_rate()),
        }
    }

    /// The pace is still being found: nothing can be predicted from it.
    pub(super) fn is_starting(&self) -> bool {
        self.law.is_starting() && !self.orders.set_pace(&self.law)
    }

    /// Would the next departure be a probe, to be made with the youngest ticket?
    pub(super) fn probes(&self) -> bool {
        self.law.probes() && !self.orders.set_pace(&self.law)
    }

    /// The limit that the law believes in; else the ceiling, where that is what holds back.
    pub(super) fn limit(&self) -> Option<LimitView> {
        self.law.limit().or_else(|| self.orders.limit(&self.law))
    }

    /// Does the law try for more than it knows to be let through?
    fn tries(&self) -> bool {
        self.law.tries() && !self.orders.set_pace(&self.law)
    }

    /// An operator pinned or paused it.
    pub(super) fn is_commanded(&self, now: f64) -> bool {
        self.orders.stand(now)
    }

    /// Does what an operator tells it; `settings` are for a law that starts over.
    pub(super) fn obey(&mut self, now: f64, command: Command, settings: &LawSettings) {
        match command {
            // A law that is no longer asked cannot hold a pause: a long one was the API's word, and stays.
            Command::Pin(_) if self.law.paused_until() - now >= PAUSING_SECONDS => {
                self.pause_until = self.pause_until.max(self.law.paused_until());
            }
            Command::Pin(_) | Command::Pause(_) => (),
            Command::Resume => {
                self.pause_until = f64::NEG_INFINITY;
                self.law.resume();
            }
            Command::Forget => {
                self.pause_until = f64::NEG_INFINITY;
                self.law = Law::new(settings, None, now);
                self.aside = None;
                self.since = now;
            }
        }
        self.orders.take_order(now, command);
    }
}

/// One limit's whole state.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) key: LaneKey,
    pub(super) index: u32,
    /// Its route's place in the roster.
    pub(super) family: usize,
    pub(super) name: Arc<str>,
    pub(super) node: Node,
    pub(super) queue: Queue,
    pub(super) accepted_total: u64,
    pub(super) throttled_total: u64,
    pub(super) used_at: f64,
    /// When the last one left that this lane's limit refused.
    pub(super) refused_at: Option<f64>,
    /// When the machine wants to look at it next; infinite for never.
    pub(super) wake: f64,
    /// The limit as it was last told.
    pub(super) told: Option<(f64, f64)>,
    /// What it got through lately.
    pub(super) passed: Passed,
    /// What its refusals show of the limiter.
    pub(super) kind: Kind,
}

impl Lane {
    pub(super) fn new(key: LaneKey, index: u32, name: Arc<str>, node: Node, queue: Queue, now: f64) -> Self {
        Self {
            key,
            index,
            family: 0,
            name,
            node,
            queue,
            accepted_total: 0,
            throttled_total: 0,
            used_at: now,
            refused_at: None,
            wake: f64::INFINITY,
            told: None,
            passed: Passed::default(),
            kind: Kind::default(),
        }
    }

    /// When every node of the lane's path grants: to whoever is next, or sooner to a class that asks for its share.
    pub(super) fn ready_at(&mut self, shared: &mut Shared, now: f64, for_share: bool) -> f64 {
        let waiting = self.queue.ready_len();
        // An operator's pin is a person's word: it counts in the nodes above, and does not wait for them.
        if self.node.observes() || self.node.pinned().is_some() {
            return self.node.ready_at(now, waiting, for_share);
        }
        let above = shared.ready_at(&self.key, self.index, now, waiting);
        // While a node above holds back, nothing waits for this law: it only listens, and does not climb.
        let waiting = if above > now + SAME { 0 } else { waiting };
        self.node.ready_at(now, waiting, for_share).max(above)
    }

    /// Takes out the ticket that leaves now, if one may.
    pub(super) fn take(&mut self, shared: &mut Shared, now: f64) -> Option<TicketId> {
        if self.queue.ready_len() == 0 {
            return None;
        }
        if self.ready_at(shared, now, false) <= now + SAME {
            return self.queue.take(self.node.probes() || self.meets_refusal(now));
        }
        let sooner = self.queue.wants_share() && self.ready_at(shared, now, true) <= now + SAME;
        if sooner { self.queue.take(false) } else { None }
    }

    /// Would a departure meet the end of a window, as the last refusal did? Windows repeat, so while the law tries for
    /// more this is the slot that is refused: not one for a class that asks for no more than its share.
    fn meets_refusal(&self, now: f64) -> bool {
        let Some(refused) = self.refused_at.filter(|_| self.queue.has_classes() && self.node.tries()) else {
            return false;
        };
        let Some((_, window)) = self.node.law.believes() else { return false };
        let past = (now - refused).rem_euclid(window);
        past.min(window - past) < 0.45 * self.node.pace().interval_seconds()
    }

    /// Nothing waits and nothing flies.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.node.in_flight == 0
    }

    /// The end of the longest pause that has one, its own or that of a node above it.
    pub(super) fn pause_end(&self, shared: &Shared) -> f64 {
        self.node.pause_end().max(shared.pause_end(&self.key, self.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets everything through for ten minutes in which something always waits; gives the fastest that the law got.
    fn fastest(node: &mut Node, command: Option<Command>) -> f64 {
        let (mut now, mut fastest) = (1.0, 0.0_f64);
        if let Some(command) = command {
            node.obey(now, command, &LawSettings::default());
        }
        while now < 600.0 {
            let at = node.ready_at(now, 50, false);
            if at <= now {
                let stamp = node.take(now);
                node.settle(now, stamp, Answer::Accepted, &[]);
            }
            now = at.clamp(now + 0.001, now + 1.0);
            fastest = fastest.max(node.law.current_rate().get());
        }
        fastest
    }

    #[test]
    fn a_law_that_an_operator_holds_back_does_not_climb() {
        let law = || Law::new(&LawSettings::default(), None, 0.0);
        let ceiling = "5/s".parse::<Quota>().unwrap();
        assert!(fastest(&mut Node::new(law(), Some(ceiling)), None) < 10.0);
        assert!(fastest(&mut Node::new(law(), None), Some(Command::Pin(Rate::new(50.0)))) < 5.0);
        assert!(fastest(&mut Node::new(law(), None), Some(Command::Pause(None))) < 5.0);
        assert!(fastest(&mut Node::new(law(), None), None) > 1_000.0);
    }
}
