//! What an answer does: it teaches the nodes of the ticket's path, and ends the ticket or sends it back.

use super::Lanes;
use crate::control::announcement::Announcement;
use crate::control::event::{Event, RefusalReason, RetryReason};
use crate::control::key::Level;
use crate::control::lane::SAME;
use crate::control::law::Answer;
use crate::control::outcome::{Hint, Outcome, Report};
use crate::control::retry::{PAUSING_SECONDS, Rest, pause_seconds, rest, seconds_of};
use crate::control::ticket::{ClassId, Settled, Stamps, State, TicketId};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

impl Lanes {
    /// The answer is known, as far as it teaches anything.
    pub fn settle(&mut self, now: Instant, id: TicketId, report: &Report) -> Settled {
        let Report { outcome, ref announced, replayable } = *report;
        let now = self.seconds(now);
        let Some(entry) = self.tickets.get_mut(&id) else { return Settled::Answer };
        let flying = match &entry.state {
            State::Started(stamps) => State::Flying(stamps.levels()),
            State::Waiting | State::Flying(_) => return Settled::Answer,
        };
        let State::Started(stamps) = std::mem::replace(&mut entry.state, flying) else {
            return Settled::Answer;
        };
        let index = entry.lane;
        self.teach(now, index, &stamps, outcome, announced);
        let settled = match outcome {
            Outcome::Limited(hint) => self.again(now, id, hint, replayable, RetryReason::Throttled),
            Outcome::Overloaded(hint) => self.again(now, id, hint, replayable, RetryReason::Overloaded),
            Outcome::Accepted | Outcome::Failed | Outcome::Ignored => Settled::Answer,
        };
        self.schedule_below(now, index, &stamps);
        settled
    }

    /// Tells every node of the path what came of a request.
    pub(super) fn teach(
        &mut self,
        now: f64,
        index: u32,
        stamps: &Stamps,
        outcome: Outcome,
        told: &[Announcement],
    ) {
        let longest = self.settings.retry.retry_after_max.as_secs_f64();
        let refused_at = match outcome {
            Outcome::Limited(hint) => Some(self.attribute(now, index, hint)),
            _ => None,
        };
        let Some(lane) = self.roster.get_mut(index) else { return };
        let answer_at = |level: Level| match outcome {
            Outcome::Accepted => Answer::Accepted,
            Outcome::Limited(hint) if refused_at == Some(level) => {
                Answer::Refused { retry_after: seconds_of(hint).map(|wait| wait.min(longest)) }
            }
            Outcome::Limited(_) | Outcome::Overloaded(_) | Outcome::Failed | Outcome::Ignored => {
                Answer::Unknown
            }
        };
        let pause = match outcome {
            Outcome::Limited(hint) | Outcome::Overloaded(hint) => pause_seconds(&self.settings.retry, hint),
            Outcome::Accepted | Outcome::Failed | Outcome::Ignored => None,
        };
        let paused_before = lane.node.paused_until();
        // What is announced of a limit above the lane is that node's to keep, where there is one.
        let is_above = |told: &&Announcement| stamps.shared.iter().any(|(level, _)| *level == told.level);
        let own: Cow<'_, [Announcement]> = if told.iter().any(|told| is_above(&told)) {
            told.iter().filter(|told| !is_above(told)).cloned().collect()
        } else {
            Cow::Borrowed(told)
        };
        let of = |level: Level| told.iter().filter(|told| told.level == level).cloned().collect();
        lane.node.settle(now, stamps.own, answer_at(Level::Route), &own);
        self.shared.settle(&lane.key, now, &stamps.shared, answer_at, of);
        match outcome {
            Outcome::Accepted => {
                lane.accepted_total += 1;
                lane.passed.accepted(stamps.own.sent_at);
                lane.kind.accepted(stamps.own.sent_at);
                self.events.push_back(Event::Accepted { lane: Arc::clone(&lane.name) });
            }
            Outcome::Limited(hint) => {
                lane.throttled_total += 1;
                let per = refused_at.unwrap_or_default();
                if per == Level::Route {
                    lane.refused_at = Some(stamps.own.sent_at);
                    lane.kind.refused(now, stamps.own.sent_at, &lane.passed, lane.accepted_total);
                }
                let retry_after_seconds = seconds_of(hint);
                self.events.push_back(Event::Throttled {
                    lane: Arc::clone(&lane.name),
                    retry_after_seconds,
                    per,
                });
                let node = match self.shared.get(per, &lane.key, index) {
                    Some(above) => &mut above.node,
                    None => &mut lane.node,
                };
                let law_pauses = node.law_pauses();
                node.pause(now, pause.filter(|_| !law_pauses));
            }
            Outcome::Overloaded(_) => {
                lane.node.pause(now, pause);
            }
            Outcome::Failed | Outcome::Ignored => (),
        }
        self.tell(now, index, paused_before);
        if matches!(outcome, Outcome::Limited(hint) if hint.level.is_none()) {
            self.weigh(now, index, stamps.own.sent_at);
        }
    }

    /// Tells of a pause that became longer, and of a limit that changed.
    fn tell(&mut self, now: f64, index: u32, paused_before: f64) {
        let Some(lane) = self.roster.get_mut(index) else { return };
        let paused_until = lane.node.paused_until();
        if paused_until > paused_before && paused_until - now >= PAUSING_SECONDS {
            self.events
                .push_back(Event::Paused { lane: Arc::clone(&lane.name), seconds: paused_until - now });
        }
        let Some((requests, window_seconds)) = lane.node.law.believes() else { return };
        let changed = lane.told.is_none_or(|(old_requests, old_window)| {
            let (old, new) = (old_requests / old_window, requests / window_seconds);
            (old - new).abs() > 0.02 * old || (old_window - window_seconds).abs() > SAME
        });
        if changed && let Some(limit) = lane.node.law.limit() {
            lane.told = Some((requests, window_seconds));
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
        let Some(entry) = self.tickets.get_mut(&id).filter(|_| replayable) else { return Settled::Answer };
        let State::Flying(levels) = &entry.state else { return Settled::Answer };
        let levels = levels.clone();
        let lane = self.roster.get_mut(entry.lane).filter(|lane| !lane.node.observes());
        let Some(lane) = lane else { return Settled::Answer };
        let deadline = self.draining_until.map_or(entry.deadline, |until| entry.deadline.min(until));
        let seconds = match rest(&self.settings.retry, reason, hint, entry.returns, deadline - now) {
            Rest::Seconds(seconds) => seconds,
            Rest::Spent => return Settled::Answer,
            Rest::TooLong if self.draining_until.is_none() => {
                let reason = RefusalReason::Deadline;
                self.events.push_back(Event::Refused { lane: Arc::clone(&lane.name), reason });
                return Settled::Answer;
            }
            // A drain ends waits that the API would have had time for: the answer to that is ours. The ticket is due
            // at once, and refused when its lane is looked at.
            Rest::TooLong => {
                entry.state = State::Waiting;
                lane.node.ended();
                self.shared.ended(&lane.key, levels.iter().copied());
                lane.queue.insert(id, entry.class, now, None);
                return Settled::Again;
            }
        };
        entry.returns = entry.returns.saturating_add(1);
        entry.state = State::Waiting;
        entry.queued_at = now;
        lane.node.ended();
        self.shared.ended(&lane.key, levels.iter().copied());
        lane.node.hear(now, lane.queue.ready_len());
        // The API asks one request to wait. Which one leaves at the next departure is not its affair: where the rest has one
        // that could, it waits in a class's stead, and as many leave as would have.
        let short = reason == RetryReason::Throttled && seconds < PAUSING_SECONDS;
        let is_stood_in = short && entry.class != ClassId::default() && lane.queue.stand_in(now + seconds);
        let not_before = (!is_stood_in).then_some(now + seconds);
        lane.queue.insert(id, entry.class, deadline, not_before);
        self.events.push_back(Event::Retried { lane: Arc::clone(&lane.name), reason });
        Settled::Again
    }
}
