//! How a request comes in: it takes a place in its lane's queue, or is refused, or goes by where nobody waits.

use super::Lanes;
use crate::control::event::{Event, RefusalReason};
use crate::control::key::LaneKey;
use crate::control::lane::SAME;
use crate::control::ticket::{ClassId, Entered, Entry, Refusal, Stamps, State, Ticket, TicketId};
use std::sync::Arc;
use std::time::Instant;

/// A predicted wait may be wrong by this much before a ticket is refused on arrival.
const PREDICTION_SLACK: f64 = 1.1;

/// A request that was not refused.
struct Arrival {
    now: f64,
    lane: u32,
    class: ClassId,
    deadline: f64,
}

impl Lanes {
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
        let arrival = self.arrive(now, key, ticket)?;
        Ok(self.wait(&arrival))
    }

    /// As [`Lanes::submit`] and the [`Lanes::poll`] that lets this ticket go, where it may go at once and nobody waits in
    /// its lane: the queue, and the agenda of what is due, need not know of it.
    ///
    /// # Errors
    /// As [`Lanes::submit`].
    pub fn enter(&mut self, now: Instant, key: &LaneKey, ticket: Ticket) -> Result<Entered, Refusal> {
        let arrival = self.arrive(now, key, ticket)?;
        if let Some((id, lane)) = self.pass(&arrival) {
            return Ok(Entered { id, lane, started: true });
        }
        let (id, lane) = self.wait(&arrival);
        Ok(Entered { id, lane, started: false })
    }

    /// Refuses what cannot be served.
    fn arrive(&mut self, now: Instant, key: &LaneKey, ticket: Ticket) -> Result<Arrival, Refusal> {
        let now = self.seconds(now);
        let patience = now + self.settings.deadline_of(key).as_secs_f64();
        let deadline = ticket.deadline.map_or(patience, |deadline| self.seconds(deadline));
        let index = self.lane_for(now, key);
        let draining = self.draining_until.is_some();
        let tickets_max = self.settings.queue.lane_tickets_max;
        let Some(lane) = self.roster.used(now, index) else { return Err(Refusal::draining(&"none".into())) };
        self.events.push_back(Event::Offered { lane: Arc::clone(&lane.name) });
        let too_late = |wait: f64| now + wait > deadline + (PREDICTION_SLACK - 1.0) * wait;
        let reason = if draining {
            Some(RefusalReason::Draining)
        } else if lane.node.lets_all(now) {
            None
        } else if !lane.queue.has_place(ticket.class, tickets_max) {
            Some(RefusalReason::QueueFull)
        } else if lane.predicted_wait(&self.shared, now, lane.queue.ahead(ticket.class)).is_some_and(too_late)
        {
            Some(RefusalReason::Deadline)
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(self.refuse(now, index, reason));
        }
        // Tells the law that nothing waited until now, if so.
        lane.node.hear(now, lane.queue.ready_len());
        Ok(Arrival { now, lane: index, class: ticket.class, deadline })
    }

    /// Lets a ticket go by, if nobody waits and it may. What it meets, and what is noted of it, is what a poll would do.
    fn pass(&mut self, arrival: &Arrival) -> Option<(TicketId, Arc<str>)> {
        // Below a shared node lanes take turns, which is the agenda's business.
        let lane = self.roster.get_mut(arrival.lane).filter(|lane| lane.queue.len() == 0)?;
        if !self.shared.is_empty() {
            return None;
        }
        let now = arrival.now;
        let is_late = arrival.deadline <= now.max(lane.node.pause_end());
        if (is_late && !lane.node.lets_all(now)) || lane.node.ready_at(now, 1, false) > now + SAME {
            return None;
        }
        lane.queue.pass(arrival.class);
        let stamps = Stamps { own: lane.node.take(now), shared: Vec::new() };
        // Nothing waits from now on.
        lane.node.hear(now, 0);
        let lane = Arc::clone(&lane.name);
        let class = self.settings.class_name(arrival.class);
        self.events.push_back(Event::Started { lane: Arc::clone(&lane), class, waited_seconds: 0.0 });
        Some((self.note(arrival, State::Started(stamps)), lane))
    }

    /// Lets a ticket wait for its turn.
    fn wait(&mut self, arrival: &Arrival) -> (TicketId, Arc<str>) {
        let id = self.note(arrival, State::Waiting);
        let mut name = None;
        if let Some(lane) = self.roster.get_mut(arrival.lane) {
            lane.queue.insert(id, arrival.class, arrival.deadline, None);
            name = Some(Arc::clone(&lane.name));
        }
        self.schedule(arrival.now, arrival.lane);
        (id, name.unwrap_or_default())
    }

    fn note(&mut self, arrival: &Arrival, state: State) -> TicketId {
        let id = TicketId(self.next_ticket);
        self.next_ticket += 1;
        let Arrival { now, lane, class, deadline } = *arrival;
        self.tickets.insert(id, Entry { lane, class, deadline, queued_at: now, returns: 0, state });
        id
    }
}
