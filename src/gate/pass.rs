//! A request's way through the gate: [`Waiting`] → [`Pass`] → [`Flight`], each settled exactly once.
//!
//! All three hold the same seat. Whichever of them is dropped gives the seat back: a waiting one leaves the queue
//! at no cost, a pass that was used counts as ignored, a flight ends. So a future that is dropped because its
//! client left needs no other care.

use super::{Gate, clock};
use crate::control::{Refusal, Report, Settled, TicketId};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// A place in a lane's queue.
#[must_use = "dropping it leaves the queue"]
#[derive(Debug)]
pub struct Waiting {
    seat: Seat,
    grant: Grant,
    since: Instant,
}

/// How the turn comes.
#[derive(Debug)]
pub(super) enum Grant {
    /// It is here.
    Given,
    Later(oneshot::Receiver<Result<(), Refusal>>),
}

/// The right to send one request now.
#[must_use = "dropping it says that nobody waits for the answer"]
#[derive(Debug)]
pub struct Pass {
    seat: Seat,
    given: Instant,
}

/// A request whose answer is known and whose body may still be on its way.
#[must_use = "dropping it says that the exchange is over"]
#[derive(Debug)]
pub struct Flight {
    seat: Seat,
}

/// What follows from an outcome.
#[derive(Debug)]
pub enum Verdict {
    /// Answer with what came. The flight lasts until the response body has ended.
    Answer(Flight),
    /// The request is back in its queue: wait for its next turn and send it again.
    Again(Waiting),
}

impl Waiting {
    /// Waits for the turn. Dropping the future leaves the queue.
    ///
    /// # Errors
    /// A [`Refusal`] when the deadline passed or the program drains.
    pub async fn turn(self) -> Result<Pass, Refusal> {
        let Self { mut seat, grant, since } = self;
        let (granted, given) = match grant {
            Grant::Given => (Ok(()), since),
            // The sender lives in the gate until it has sent; it is gone only with the gate itself.
            Grant::Later(grant) => {
                let granted = grant.await.unwrap_or_else(|_| Err(Refusal::draining(&seat.lane)));
                (granted, clock::now())
            }
        };
        match granted {
            Ok(()) => {
                seat.claimed = true;
                Ok(Pass { seat, given })
            }
            Err(refusal) => {
                seat.over = true;
                Err(refusal)
            }
        }
    }

    /// The lane's name.
    pub fn lane(&self) -> &Arc<str> {
        &self.seat.lane
    }

    /// When it took its place.
    pub fn since(&self) -> Instant {
        self.since
    }
}

impl Pass {
    /// When it was given.
    pub fn given(&self) -> Instant {
        self.given
    }

    /// Reports what came of the request, as it was known at `now`.
    pub fn settle(self, now: Instant, report: &Report) -> Verdict {
        self.settled(now, report, false)
    }

    /// The same where nothing of the answer is still on its way: if the request does not wait for another turn, the
    /// exchange is over.
    pub fn settle_whole(self, now: Instant, report: &Report) -> Verdict {
        self.settled(now, report, true)
    }

    fn settled(self, now: Instant, report: &Report, is_over: bool) -> Verdict {
        let Self { mut seat, .. } = self;
        if let (Settled::Again, Some(grant)) = seat.gate.settle(now, seat.id, report, is_over) {
            seat.claimed = false;
            return Verdict::Again(Waiting { seat, grant: Grant::Later(grant), since: now });
        }
        seat.over = is_over;
        Verdict::Answer(Flight { seat })
    }

    /// The lane's name.
    pub fn lane(&self) -> &Arc<str> {
        &self.seat.lane
    }
}

impl Flight {
    /// The exchange is over at `now`.
    pub fn end(self, now: Instant) {
        let Self { mut seat } = self;
        seat.give_back(now);
    }

    /// The lane's name.
    pub fn lane(&self) -> &Arc<str> {
        &self.seat.lane
    }
}

pub(super) fn waiting(gate: Gate, id: TicketId, lane: Arc<str>, grant: Grant, since: Instant) -> Waiting {
    Waiting { seat: Seat { gate, id, lane, claimed: false, over: false }, grant, since }
}

/// What the three have in common, and give back when dropped.
#[derive(Debug)]
struct Seat {
    gate: Gate,
    id: TicketId,
    lane: Arc<str>,
    /// The grant has been received: the request counts as sent.
    claimed: bool,
    /// The core has already forgotten the ticket.
    over: bool,
}

impl Seat {
    fn give_back(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.over, true) {
            self.gate.leave(now, self.id, self.claimed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.over {
            self.give_back(clock::now());
        }
    }
}
