//! Many lanes by key: the pure machine that the gate drives.
//!
//! Each lane has its own node; nodes above it (the credential's, the upstream's) exist where a limit is known for
//! them. A ticket starts when every node of its path grants, at one moment; a refusal is charged to the node that
//! refused.

use super::event::{Event, RefusalReason, RetryReason};
use super::key::{LaneKey, Level};
use super::lane::{Lane, Node, SAME};
use super::law::{Answer, Law};
use super::outcome::{Hint, Outcome};
use super::queue::Moment;
use super::rate::Rate;
use super::settings::LanesSettings;
use super::ticket::{Entry, LaneView, Refusal, Settled, Stamps, State, Step, Ticket, TicketId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A Retry-After of an overloaded API from here on pauses the whole lane.
const PAUSING_SECONDS: f64 = 2.0;
/// The first wait of a refused request that was not told how long; doubles each time, up to the longest.
const BACKOFF_SECONDS: f64 = 0.5;
const BACKOFF_SECONDS_MAX: f64 = 30.0;
/// A predicted wait may be wrong by this much before a ticket is refused on arrival.
const PREDICTION_SLACK: f64 = 1.1;

/// The pure machine: lanes, and when they want to be looked at.
#[derive(Debug)]
pub struct Lanes {
    settings: LanesSettings,
    epoch: Instant,
    by_index: BTreeMap<u32, Lane>,
    by_key: HashMap<LaneKey, u32>,
    names: HashSet<Arc<str>>,
    /// Limits above the lanes, by level and by the part of the key that they stand for.
    shared: HashMap<(Level, LaneKey), Node>,
    /// What forgotten lanes had learnt, by upstream and route.
    legacies: HashMap<(Arc<str>, Arc<str>), Node>,
    tickets: HashMap<TicketId, Entry>,
    agenda: BTreeSet<(Moment, u32)>,
    events: VecDeque<Event>,
    next_ticket: u64,
    next_lane: u32,
    draining_until: Option<f64>,
}

impl Lanes {
    /// No lanes yet. `epoch` is the moment from which the core counts: no later than any other moment given.
    pub fn new(settings: LanesSettings, epoch: Instant) -> Self {
        Self {
            settings,
            epoch,
            by_index: BTreeMap::new(),
            by_key: HashMap::new(),
            names: HashSet::new(),
            shared: HashMap::new(),
            legacies: HashMap::new(),
            tickets: HashMap::new(),
            agenda: BTreeSet::new(),
            events: VecDeque::new(),
            next_ticket: 0,
            next_lane: 0,
            draining_until: None,
        }
    }

    /// Takes a place in the queue of `key`'s lane. Gives the ticket's name and the lane's.
    ///
    /// # Errors
    /// A [`Refusal`] when the queue is full, the deadline cannot be met, or the program drains.
    pub fn submit(
        &mut self,
        now: Instant,
        key: &LaneKey,
        ticket: Ticket,
    ) -> Result<(TicketId, Arc<str>), Refusal> {
        let (now, deadline) = (self.seconds(now), self.seconds(ticket.deadline));
        let index = self.lane_for(now, key);
        let draining = self.draining_until.is_some();
        let tickets_max = self.settings.queue.lane_tickets_max;
        let Some(lane) = self.by_index.get_mut(&index) else { return Err(Refusal::draining(&"none".into())) };
        lane.used_at = now;
        let ahead = lane.queue.len();
        let too_late = |wait: f64| now + wait > deadline + (PREDICTION_SLACK - 1.0) * wait;
        let reason = if draining {
            Some(RefusalReason::Draining)
        } else if ahead >= tickets_max {
            Some(RefusalReason::QueueFull)
        } else if lane.predicted_wait(now, ahead).is_some_and(too_late) {
            Some(RefusalReason::Deadline)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(self.refuse(now, index, reason));
        }
        // Tells the law that nothing waited until now, if so.
        lane.node.law.rate(now, lane.queue.ready_len());
        let id = TicketId(self.next_ticket);
        self.next_ticket += 1;
        lane.queue.insert(id, deadline, None);
        let name = Arc::clone(&lane.name);
        self.tickets
            .insert(id, Entry { lane: index, deadline, queued_at: now, returns: 0, state: State::Waiting });
        self.schedule(now, index);
        Ok((id, name))
    }

    /// What to do now; call until it says [`Step::Wait`].
    pub fn poll(&mut self, now: Instant) -> Step {
        let now = self.seconds(now);
        while let Some((at, index)) = self.agenda.first().copied() {
            if at.0 > now + SAME {
                return Step::Wait(Some(self.instant(at.0)));
            }
            let step = self.look(now, index);
            self.schedule(now, index);
            if let Some(step) = step {
                return step;
            }
        }
        Step::Wait(None)
    }

    /// The answer's head is known. `replayable`: the request can be sent again, byte for byte, and may be.
    pub fn settle(&mut self, now: Instant, id: TicketId, outcome: Outcome, replayable: bool) -> Settled {
        let now = self.seconds(now);
        let Some(entry) = self.tickets.get_mut(&id) else { return Settled::Answer };
        let State::Started(stamps) = std::mem::replace(&mut entry.state, State::Flying) else {
            return Settled::Answer;
        };
        let index = entry.lane;
        self.teach(now, index, &stamps, outcome);
        let settled = match outcome {
            Outcome::Limited(hint) => self.again(now, id, hint, replayable, RetryReason::Throttled),
            Outcome::Overloaded(hint) => self.again(now, id, hint, replayable, RetryReason::Overloaded),
            Outcome::Accepted | Outcome::Failed | Outcome::Ignored => Settled::Answer,
        };
        self.schedule_below(now, index, &stamps);
        settled
    }

    /// The exchange is over; one that was not settled counts as ignored.
    pub fn release(&mut self, now: Instant, id: TicketId) {
        let now = self.seconds(now);
        let Some(entry) = self.tickets.remove(&id) else { return };
        if let State::Started(stamps) = &entry.state {
            self.teach(now, entry.lane, stamps, Outcome::Ignored);
            self.schedule_below(now, entry.lane, stamps);
        }
        if let Some(lane) = self.by_index.get_mut(&entry.lane) {
            lane.used_at = now;
            match entry.state {
                State::Waiting => drop(lane.queue.remove(id)),
                State::Started(_) | State::Flying => lane.in_flight = lane.in_flight.saturating_sub(1),
            }
        }
    }

    /// The client left before its request was sent.
    pub fn cancel(&mut self, now: Instant, id: TicketId) {
        let now = self.seconds(now);
        let Some(entry) = self.tickets.remove(&id) else { return };
        let Some(lane) = self.by_index.get_mut(&entry.lane) else { return };
        match &entry.state {
            State::Waiting => drop(lane.queue.remove(id)),
            State::Started(stamps) => {
                lane.in_flight = lane.in_flight.saturating_sub(1);
                lane.node.give_back(now, stamps.own);
                for (level, stamp) in &stamps.shared {
                    if let Some(node) = self.shared.get_mut(&shared_key(*level, &lane.key)) {
                        node.give_back(now, *stamp);
                    }
                }
            }
            State::Flying => lane.in_flight = lane.in_flight.saturating_sub(1),
        }
        self.events.push_back(Event::Abandoned { lane: Arc::clone(&lane.name) });
        self.schedule(now, entry.lane);
    }

    /// Serve only what can be sent before `until`; refuse the rest at once, and everything new.
    pub fn drain(&mut self, now: Instant, until: Instant) {
        let (now, until) = (self.seconds(now), self.seconds(until));
        self.draining_until = Some(until);
        let indices: Vec<u32> = self.by_index.keys().copied().collect();
        for index in indices {
            if let Some(lane) = self.by_index.get_mut(&index) {
                let order: Vec<TicketId> = lane.queue.in_order().collect();
                for (ahead, id) in order.into_iter().enumerate() {
                    let in_time = lane.predicted_wait(now, ahead).is_none_or(|wait| now + wait < until);
                    lane.queue.hasten(id, if in_time { until } else { now });
                }
            }
            self.schedule(now, index);
        }
    }

    /// Puts a limit on everything of `key`'s credential or upstream: a node that must grant as well.
    pub fn limit_shared(&mut self, level: Level, key: &LaneKey, rate: Rate) {
        if level != Level::Route {
            self.shared.insert(shared_key(level, key), Node::new(Law::Fixed(rate)));
        }
    }

    /// The oldest event not yet told.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every lane as it is now, in order of name.
    pub fn snapshot(&self, now: Instant) -> Vec<LaneView> {
        let now = self.seconds(now);
        let mut views: Vec<LaneView> = self.by_index.values().map(|lane| lane.view(now)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Looks at a lane that is due: one step, if there is one.
    fn look(&mut self, now: f64, index: u32) -> Option<Step> {
        let lane = self.by_index.get_mut(&index)?;
        lane.queue.wake(now + SAME);
        // A pause beyond a ticket's deadline is an answer already.
        let horizon = lane.node.paused_until().max(now);
        if let Some(id) = lane.queue.expired(horizon) {
            self.tickets.remove(&id);
            let reason =
                if self.draining_until.is_some() { RefusalReason::Draining } else { RefusalReason::Deadline };
            let refusal = self.refuse(now, index, reason);
            return Some(Step::Expire(id, refusal));
        }
        if lane.queue.ready_len() == 0 || ready_at(&mut self.shared, lane, now) > now + SAME {
            return None;
        }
        let id = lane.queue.candidate(lane.node.law.probes())?;
        lane.queue.remove(id);
        lane.in_flight += 1;
        let own = lane.node.take(now);
        let shared = LEVELS_ABOVE
            .into_iter()
            .filter_map(|level| Some((level, self.shared.get_mut(&shared_key(level, &lane.key))?.take(now))))
            .collect();
        let entry = self.tickets.get_mut(&id)?;
        entry.state = State::Started(Stamps { own, shared });
        let waited_seconds = (now - entry.queued_at).max(0.0);
        self.events.push_back(Event::Started { lane: Arc::clone(&lane.name), waited_seconds });
        Some(Step::Start(id))
    }

    /// Tells every node of the path what came of a request.
    fn teach(&mut self, now: f64, index: u32, stamps: &Stamps, outcome: Outcome) {
        let longest = self.settings.retry.retry_after_max.as_secs_f64();
        let Some(lane) = self.by_index.get_mut(&index) else { return };
        let answer_at = |level: Level| match outcome {
            Outcome::Accepted => Answer::Accepted,
            Outcome::Limited(hint) if hint.level == level => {
                Answer::Refused { retry_after: seconds_of(hint).map(|wait| wait.min(longest)) }
            }
            Outcome::Limited(_) | Outcome::Overloaded(_) | Outcome::Failed | Outcome::Ignored => {
                Answer::Unknown
            }
        };
        let paused_before = lane.node.paused_until();
        lane.node.law.settle(now, stamps.own, answer_at(Level::Route));
        for (level, stamp) in &stamps.shared {
            if let Some(node) = self.shared.get_mut(&shared_key(*level, &lane.key)) {
                node.law.settle(now, *stamp, answer_at(*level));
            }
        }
        match outcome {
            Outcome::Accepted => lane.accepted_total += 1,
            Outcome::Limited(hint) => {
                lane.throttled_total += 1;
                let retry_after_seconds = seconds_of(hint);
                self.events.push_back(Event::Throttled { lane: Arc::clone(&lane.name), retry_after_seconds });
                if matches!(lane.node.law, Law::Fixed(_)) {
                    pause_for(&mut lane.node, now, hint, longest);
                }
            }
            Outcome::Overloaded(hint) => pause_for(&mut lane.node, now, hint, longest),
            Outcome::Failed | Outcome::Ignored => (),
        }
        self.tell(now, index, paused_before);
    }

    /// Tells of a pause that became longer, and of a limit that changed.
    fn tell(&mut self, now: f64, index: u32, paused_before: f64) {
        let Some(lane) = self.by_index.get_mut(&index) else { return };
        let paused_until = lane.node.paused_until();
        if paused_until > paused_before && paused_until - now >= PAUSING_SECONDS {
            self.events
                .push_back(Event::Paused { lane: Arc::clone(&lane.name), seconds: paused_until - now });
        }
        let Some(limit) = lane.node.law.limit() else { return };
        let changed = lane.told.is_none_or(|(requests, window)| {
            let (old, new) = (requests / window, limit.requests / limit.window_seconds);
            (old - new).abs() > 0.02 * old || (window - limit.window_seconds).abs() > SAME
        });
        if changed {
            lane.told = Some((limit.requests, limit.window_seconds));
            let requests_per_second = limit.requests / limit.window_seconds;
            let lane = Arc::clone(&lane.name);
            self.events.push_back(Event::LimitLearnt { lane, requests_per_second, says: limit.says });
        }
    }

    /// Once more, or answer? Absorbing a 429 is bounded by deadline and pace; anything else by attempts too.
    fn again(
        &mut self,
        now: f64,
        id: TicketId,
        hint: Hint,
        replayable: bool,
        reason: RetryReason,
    ) -> Settled {
        let settings = &self.settings.retry;
        let Some(entry) = self.tickets.get_mut(&id) else { return Settled::Answer };
        let Some(lane) = self.by_index.get_mut(&entry.lane) else { return Settled::Answer };
        let attempts_left = reason == RetryReason::Throttled || entry.returns + 1 < settings.attempts_max;
        if !replayable || !attempts_left {
            return Settled::Answer;
        }
        let backoff = super::law::doubled(BACKOFF_SECONDS, f64::from(entry.returns)).min(BACKOFF_SECONDS_MAX);
        let rest = seconds_of(hint).filter(|wait| *wait > 0.0).unwrap_or(backoff);
        let deadline = self.draining_until.map_or(entry.deadline, |until| entry.deadline.min(until));
        if rest > settings.retry_after_max.as_secs_f64() || now + rest >= deadline {
            let reason =
                if self.draining_until.is_some() { RefusalReason::Draining } else { RefusalReason::Deadline };
            self.events.push_back(Event::Refused { lane: Arc::clone(&lane.name), reason });
            return Settled::Answer;
        }
        entry.returns = entry.returns.saturating_add(1);
        entry.state = State::Waiting;
        entry.queued_at = now;
        lane.in_flight = lane.in_flight.saturating_sub(1);
        lane.node.law.rate(now, lane.queue.ready_len());
        lane.queue.insert(id, deadline, Some(now + rest));
        self.events.push_back(Event::Retried { lane: Arc::clone(&lane.name), reason });
        Settled::Again
    }

    fn refuse(&mut self, now: f64, index: u32, reason: RefusalReason) -> Refusal {
        let Some(lane) = self.by_index.get(&index) else { return Refusal::draining(&"none".into()) };
        self.events.push_back(Event::Refused { lane: Arc::clone(&lane.name), reason });
        let retry_after = Duration::from_secs_f64(lane.drain_seconds(now));
        Refusal { reason, retry_after, lane: Arc::clone(&lane.name) }
    }

    /// The lane of `key`, made if need be; beyond the bound, the upstream's `other` lane.
    fn lane_for(&mut self, now: f64, key: &LaneKey) -> u32 {
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        self.forget_idle(now);
        if self.by_index.len() < self.settings.queue.lanes_max.max(1) {
            return self.make_lane(now, key.clone());
        }
        let other = LaneKey { upstream: Arc::clone(&key.upstream), credential: None, route: "other".into() };
        match self.by_key.get(&other) {
            Some(index) => *index,
            None => self.make_lane(now, other),
        }
    }

    fn make_lane(&mut self, now: f64, key: LaneKey) -> u32 {
        let same_route = |lane: &&Lane| lane.key.upstream == key.upstream && lane.key.route == key.route;
        let donor = self.by_index.values().filter(same_route).max_by(|a, b| a.used_at.total_cmp(&b.used_at));
        let route = (Arc::clone(&key.upstream), Arc::clone(&key.route));
        let donor = donor.map(|lane| &lane.node).or_else(|| self.legacies.get(&route));
        let node = Node::heir(&self.settings.law, donor, now);
        let name = self.free_name(&key);
        let index = self.next_lane;
        self.next_lane += 1;
        self.names.insert(Arc::clone(&name));
        self.by_key.insert(key.clone(), index);
        self.by_index.insert(index, Lane::new(key, Arc::clone(&name), node, now));
        self.events.push_back(Event::LaneMade { lane: name });
        index
    }

    fn free_name(&self, key: &LaneKey) -> Arc<str> {
        let plain: Arc<str> = key.name(4).into();
        if !self.names.contains(&plain) {
            return plain;
        }
        let (label, rest) = plain.split_once('@').unwrap_or((&plain, "none"));
        let numbered = |n: usize| Arc::<str>::from(format!("{label}~{n}@{rest}"));
        (2..=self.names.len() + 2)
            .map(numbered)
            .find(|name| !self.names.contains(name))
            .unwrap_or_else(|| Arc::clone(&plain))
    }

    /// Forgets lanes that nobody used for long; keeps what they learnt for their route.
    fn forget_idle(&mut self, now: f64) {
        let idle = self.settings.queue.lane_idle.as_secs_f64();
        let full = self.by_index.len() >= self.settings.queue.lanes_max;
        // When there is no room, a quiet minute is enough.
        let idle = if full { idle.min(60.0) } else { idle };
        let gone: Vec<u32> = self
            .by_index
            .iter()
            .filter(|(_, lane)| lane.is_idle() && now - lane.used_at > idle)
            .map(|(index, _)| *index)
            .collect();
        for index in gone {
            let Some(lane) = self.by_index.remove(&index) else { continue };
            self.agenda.remove(&(Moment(lane.wake), index));
            self.by_key.remove(&lane.key);
            self.names.remove(&lane.name);
            if self.legacies.len() < self.settings.queue.lanes_max {
                self.legacies.insert((lane.key.upstream, lane.key.route), lane.node);
            }
            self.events.push_back(Event::LaneForgotten { lane: lane.name });
        }
    }

    /// Computes when a lane wants to be looked at, and notes it.
    fn schedule(&mut self, now: f64, index: u32) {
        let Some(lane) = self.by_index.get_mut(&index) else { return };
        let start = if lane.queue.ready_len() > 0 {
            ready_at(&mut self.shared, lane, now)
        } else {
            // Tells the law that nothing waits from now on.
            lane.node.law.rate(now, 0);
            f64::INFINITY
        };
        let change = lane.queue.next_change();
        // A deadline that a pause makes impossible is due now.
        let change = if change <= lane.node.paused_until() && lane.queue.doomed(lane.node.paused_until()) {
            now
        } else {
            change
        };
        let wake = start.min(change);
        self.agenda.remove(&(Moment(lane.wake), index));
        lane.wake = wake;
        if wake.is_finite() || wake < 0.0 {
            self.agenda.insert((Moment(wake), index));
        }
    }

    /// As [`Lanes::schedule`], for every lane that the nodes of `stamps` hold back.
    fn schedule_below(&mut self, now: f64, index: u32, stamps: &Stamps) {
        self.schedule(now, index);
        let Some(key) = self.by_index.get(&index).map(|lane| lane.key.clone()) else { return };
        let Some((level, _)) = stamps.shared.last() else { return };
        let node = shared_key(*level, &key);
        let below = |lane: &Lane| shared_key(*level, &lane.key) == node;
        let others: Vec<u32> = self
            .by_index
            .iter()
            .filter(|(_, lane)| below(lane))
            .map(|(other, _)| *other)
            .filter(|other| *other != index)
            .collect();
        for other in others {
            self.schedule(now, other);
        }
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.epoch).as_secs_f64()
    }

    fn instant(&self, seconds: f64) -> Instant {
        self.epoch + Duration::from_secs_f64(seconds.clamp(0.0, 1e9))
    }
}

const LEVELS_ABOVE: [Level; 2] = [Level::Credential, Level::Upstream];

/// When every node of the lane's path grants.
fn ready_at(shared: &mut HashMap<(Level, LaneKey), Node>, lane: &mut Lane, now: f64) -> f64 {
    let waiting = lane.queue.ready_len();
    let mut at = lane.node.ready_at(now, waiting);
    if !shared.is_empty() {
        for level in LEVELS_ABOVE {
            if let Some(node) = shared.get_mut(&shared_key(level, &lane.key)) {
                at = at.max(node.ready_at(now, waiting));
            }
        }
    }
    at
}

/// The part of a key that a node above the lane stands for.
fn shared_key(level: Level, key: &LaneKey) -> (Level, LaneKey) {
    let credential = if level == Level::Upstream { None } else { key.credential };
    (level, LaneKey { upstream: Arc::clone(&key.upstream), credential, route: "".into() })
}

fn seconds_of(hint: Hint) -> Option<f64> {
    hint.retry_after.map(|wait| wait.as_secs_f64())
}

fn pause_for(node: &mut Node, now: f64, hint: Hint, longest: f64) {
    if let Some(wait) = seconds_of(hint).filter(|wait| *wait >= PAUSING_SECONDS) {
        node.pause(now + wait.min(longest));
    }
}
