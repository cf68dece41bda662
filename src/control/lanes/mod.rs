//! Many lanes by key: the pure machine that the gate drives.
//!
//! Each lane has its own node; nodes above it (the credential's, the upstream's) exist where a limit is known for
//! them. A ticket starts when every node of its path grants, at one moment; a refusal is charged to the node that
//! refused.

mod attributing;
mod entering;
mod settling;
mod viewing;

use super::Prior;
use super::attribution::Evidence;
use super::command::Command;
use super::event::{Event, RefusalReason};
use super::key::{LaneKey, Level};
use super::kind::Kind;
use super::lane::{Lane, Node, SAME};
use super::law::Law;
use super::memory::Memory;
use super::outcome::Outcome;
use super::queue::Moment;
use super::rate::Rate;
use super::roster::Roster;
use super::settings::LanesSettings;
use super::shared::{Above, Shared, is_left, same_node};
use super::ticket::{Entry, LaneView, NodeOrigin, Refusal, Stamps, State, Step, TicketId, Tickets};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The pure machine: lanes, and when they want to be looked at.
#[derive(Debug)]
pub struct Lanes {
    settings: LanesSettings,
    epoch: Instant,
    roster: Roster,
    shared: Shared,
    /// Of refusals that do not say whose limit they are, by the node that they may be of.
    evidence: HashMap<(Level, LaneKey), Evidence>,
    /// What an earlier run knew of limits above lanes, by level and upstream.
    remembered: BTreeMap<(Level, Arc<str>), Memory>,
    tickets: Tickets<Entry>,
    agenda: BTreeSet<(Moment, u32)>,
    events: VecDeque<Event>,
    next_ticket: u64,
    draining_until: Option<f64>,
}

impl Lanes {
    /// No lanes yet. `epoch` is the moment from which the core counts: no later than any other moment given.
    pub fn new(settings: LanesSettings, epoch: Instant) -> Self {
        Self {
            settings,
            epoch,
            roster: Roster::default(),
            shared: Shared::default(),
            evidence: HashMap::new(),
            remembered: BTreeMap::new(),
            tickets: Tickets::default(),
            agenda: BTreeSet::new(),
            events: VecDeque::new(),
            next_ticket: 0,
            draining_until: None,
        }
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

    /// The exchange is over; one that was not settled counts as ignored.
    pub fn release(&mut self, now: Instant, id: TicketId) {
        let now = self.seconds(now);
        let Some(entry) = self.tickets.remove(&id) else { return };
        if let State::Started(stamps) = &entry.state {
            self.teach(now, entry.lane, stamps, Outcome::Ignored, &[]);
            self.schedule_below(now, entry.lane, stamps);
        }
        if let Some(lane) = self.roster.used(now, entry.lane) {
            match entry.state {
                State::Waiting => drop(lane.queue.remove(id)),
                State::Started(stamps) => {
                    lane.node.ended();
                    self.shared.ended(&lane.key, stamps.levels().into_iter());
                }
                State::Flying(levels) => {
                    lane.node.ended();
                    self.shared.ended(&lane.key, levels.into_iter());
                }
            }
        }
        self.schedule(now, entry.lane);
    }

    /// The client left before its request was sent.
    pub fn cancel(&mut self, now: Instant, id: TicketId) {
        let now = self.seconds(now);
        let Some(entry) = self.tickets.remove(&id) else { return };
        let Some(lane) = self.roster.get_mut(entry.lane) else { return };
        match &entry.state {
            State::Waiting => drop(lane.queue.remove(id)),
            State::Started(stamps) => {
                lane.node.give_back(now, stamps.own);
                self.shared.give_back(&lane.key, now, &stamps.shared);
            }
            State::Flying(levels) => {
                lane.node.ended();
                self.shared.ended(&lane.key, levels.iter().copied());
            }
        }
        self.events.push_back(Event::Abandoned { lane: Arc::clone(&lane.name) });
        self.schedule(now, entry.lane);
    }

    /// Serve only what can be sent before `until`; refuse the rest at once, and everything new.
    pub fn drain(&mut self, now: Instant, until: Instant) {
        let (now, until) = (self.seconds(now), self.seconds(until));
        self.draining_until = Some(until);
        let indices: Vec<u32> = self.roster.iter().map(|(index, _)| index).collect();
        for index in indices {
            if let Some(lane) = self.roster.get_mut(index) {
                for (id, ahead) in lane.queue.in_order() {
                    let in_time =
                        lane.predicted_wait(&self.shared, now, ahead).is_none_or(|wait| now + wait < until);
                    lane.queue.hasten(id, if in_time { until } else { now });
                }
            }
            self.schedule(now, index);
        }
    }

    /// Tells the lane of that name what an operator wants; false if there is none.
    pub fn command(&mut self, now: Instant, name: &str, command: Command) -> bool {
        let now = self.seconds(now);
        let Some(index) = self.roster.find_name(name) else { return false };
        let Some(lane) = self.roster.get_mut(index) else { return false };
        lane.node.obey(now, command, self.settings.law_of(&lane.key));
        // A legacy of its route need not be forgotten: it is read only where the route has no lane, and this one's will
        // take its place.
        if command == Command::Forget {
            lane.told = None;
            lane.kind = Kind::default();
        }
        if command == Command::Forget {
            let key = lane.key.clone();
            self.forget_above(now, &key, index);
        }
        self.events.push_back(Event::Commanded { lane: name.into(), command });
        self.schedule(now, index);
        true
    }

    /// Puts a limit on everything of `key`'s credential or upstream: a node that must grant as well.
    pub fn limit_shared(&mut self, level: Level, key: &LaneKey, rate: Rate) {
        if level != Level::Route {
            let node = Node::new(Law::Fixed(rate), None);
            self.shared.insert(level, key, Above::new(node, NodeOrigin::Configured, None));
        }
    }

    /// Starts a route's lanes from what an earlier run learnt, and says whether its numbers are those of a
    /// limit. For lanes that do not exist yet.
    pub fn remember(&mut self, now: Instant, memory: &Memory) -> bool {
        let now = self.seconds(now);
        if memory.per == Level::Route {
            return self.roster.remember(now, memory, &self.settings);
        }
        let has_room = self.remembered.len() < self.settings.queue.lanes_max;
        let is_limit = has_room && Prior::remembered(memory).is_some();
        if is_limit {
            self.remembered.insert((memory.per, Arc::clone(&memory.upstream)), memory.clone());
        }
        is_limit
    }

    /// What the next run can start from: the limit of each route, the last used first; at most
    /// [`QueueSettings::lanes_max`](super::QueueSettings::lanes_max) of them.
    pub fn memories(&self, now: Instant) -> Vec<Memory> {
        let now = self.seconds(now);
        let mut above = self.remembered.clone();
        for memory in above.values_mut() {
            memory.age_seconds += now;
        }
        for memory in self.shared.memories(now) {
            above.insert((memory.per, Arc::clone(&memory.upstream)), memory);
        }
        let mut memories = self.roster.memories(now, &self.settings);
        memories.extend(above.into_values());
        memories.truncate(self.settings.queue.lanes_max);
        memories
    }

    /// The oldest event not yet told.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every lane as it is now, in order of name.
    pub fn snapshot(&self, now: Instant) -> Vec<LaneView> {
        let now = self.seconds(now);
        let mut views: Vec<LaneView> =
            self.roster.iter().map(|(_, lane)| lane.view(&self.shared, now, &self.settings)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Looks at a lane that is due: one step, if there is one.
    fn look(&mut self, now: f64, index: u32) -> Option<Step> {
        let lane = self.roster.get_mut(index)?;
        lane.queue.wake(now + SAME);
        // A pause beyond a ticket's deadline is an answer already.
        let horizon = lane.pause_end(&self.shared).max(now);
        if !lane.node.lets_all(now)
            && let Some(id) = lane.queue.expired(horizon)
        {
            self.tickets.remove(&id);
            let refusal = self.refuse(now, index, late_reason(self.draining_until));
            return Some(Step::Expire(id, refusal));
        }
        let turns = self.shared.turns(&lane.key, index);
        if turns.len() < 2 || !turns.contains(&index) {
            return self.start(now, index);
        }
        // Who could go takes turns with the other lanes below the node: the first that may, goes.
        let step = turns.iter().find_map(|lane| self.start(now, *lane));
        for other in turns {
            self.schedule(now, other);
        }
        step
    }

    /// Lets a lane's next ticket go, if it may.
    fn start(&mut self, now: f64, index: u32) -> Option<Step> {
        let lane = self.roster.get_mut(index)?;
        let id = lane.take(&mut self.shared, now)?;
        let own = lane.node.take(now);
        let shared = self.shared.take(&lane.key, index, now);
        let entry = self.tickets.get_mut(&id)?;
        entry.state = State::Started(Stamps { own, shared });
        let waited_seconds = (now - entry.queued_at).max(0.0);
        let class = self.settings.class_name(entry.class);
        self.events.push_back(Event::Started { lane: Arc::clone(&lane.name), class, waited_seconds });
        Some(Step::Start(id))
    }

    fn refuse(&mut self, now: f64, index: u32, reason: RefusalReason) -> Refusal {
        let Some(lane) = self.roster.get(index) else { return Refusal::draining(&"none".into()) };
        self.events.push_back(Event::Refused { lane: Arc::clone(&lane.name), reason });
        let retry_after = Duration::from_secs_f64(lane.drain_seconds(&self.shared, now));
        Refusal { reason, retry_after, lane: Arc::clone(&lane.name) }
    }

    /// The lane of `key`, made if need be; beyond the bound, the upstream's `other` lane.
    fn lane_for(&mut self, now: f64, key: &LaneKey) -> u32 {
        if let Some(index) = self.roster.find(key) {
            return index;
        }
        for (index, wake, lane) in self.roster.forget_idle(now, &self.settings) {
            self.agenda.remove(&(Moment(wake), index));
            let left = self.roster.iter().map(|(_, lane)| &lane.key);
            self.shared.forget(index, &left);
            self.evidence.retain(|part, _| is_left(part, left.clone()));
            self.events.push_back(Event::LaneForgotten { lane });
        }
        let other = LaneKey { upstream: Arc::clone(&key.upstream), credential: None, route: "other".into() };
        let key = if self.roster.has_room(&self.settings) { key.clone() } else { other };
        self.roster.find(&key).unwrap_or_else(|| {
            let (index, lane) = self.roster.make(now, key, &self.settings);
            self.events.push_back(Event::LaneMade { lane });
            index
        })
    }

    /// Computes when a lane wants to be looked at, and notes it.
    fn schedule(&mut self, now: f64, index: u32) {
        let Some(lane) = self.roster.get_mut(index) else { return };
        let start = if lane.queue.ready_len() > 0 {
            lane.ready_at(&mut self.shared, now, lane.queue.wants_share())
        } else {
            // Tells the law that nothing waits from now on.
            lane.node.hear(now, 0);
            self.shared.rests(&lane.key, index, now);
            if lane.queue.len() == 0 && lane.wake == f64::INFINITY {
                return;
            }
            f64::INFINITY
        };
        let change = lane.queue.next_change();
        // A deadline that a pause makes impossible is due now.
        let pause_end = lane.pause_end(&self.shared);
        let change = if change <= pause_end && lane.queue.doomed(pause_end) { now } else { change };
        let (was, wake) = (Moment(lane.wake), Moment(start.min(change)));
        if was == wake {
            return;
        }
        lane.wake = wake.0;
        if was.0 < f64::INFINITY {
            self.agenda.remove(&(was, index));
        }
        if wake.0 < f64::INFINITY {
            self.agenda.insert((wake, index));
        }
    }

    /// As [`Lanes::schedule`], for every lane that the nodes of `stamps` hold back.
    fn schedule_below(&mut self, now: f64, index: u32, stamps: &Stamps) {
        self.schedule(now, index);
        let Some((level, _)) = stamps.shared.last() else { return };
        let Some(key) = self.roster.get(index).map(|lane| lane.key.clone()) else { return };
        let held = |(other, lane): &(u32, &Lane)| {
            *other != index && lane.queue.len() > 0 && same_node(*level, &lane.key, &key)
        };
        let others: Vec<u32> = self.roster.iter().filter(held).map(|(other, _)| other).collect();
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

/// Why a request that is too late is: the deadline was its own, or that of a drain.
fn late_reason(draining_until: Option<f64>) -> RefusalReason {
    if draining_until.is_some() { RefusalReason::Draining } else { RefusalReason::Deadline }
}
