//! A request's way through the gate: [`Waiting`] → [`Pass`] → [`Flight`], each settled exactly once.
//!
//! All three hold the same seat. Whichever of them is dropped gives the seat back: a waiting one leaves the queue
//! at no cost, a pass that was used counts as ignored, a flight ends. So a future that is dropped because its
//! client left needs no other care.

use super::Gate;
use crate::control::{Refusal, Report, Settled, TicketId};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A place in a lane's queue.
#[must_use = "dropping it leaves the queue"]
#[derive(Debug)]
pub struct Waiting {
    seat: Seat,
    grant: oneshot::Receiver<Result<(), Refusal>>,
}

/// The right to send one request now.
#[must_use = "dropping it says that nobody waits for the answer"]
#[derive(Debug)]
pub struct Pass {
    seat: Seat,
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
        let Self { mut seat, grant } = self;
        // The sender lives in the gate until it has sent; it is gone only with the gate itself.
        let granted = grant.await.unwrap_or_else(|_| Err(Refusal::draining(&seat.lane)));
        match granted {
            Ok(()) => {
                seat.claimed = true;
                Ok(Pass { seat })
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
}

impl Pass {
    /// Reports what came of the request.
    pub fn settle(self, report: &Report) -> Verdict {
        let Self { mut seat } = self;
        match seat.gate.settle(seat.id, report) {
            (Settled::Again, Some(grant)) => {
                seat.claimed = false;
                Verdict::Again(Waiting { seat, grant })
            }
            _ => Verdict::Answer(Flight { seat }),
        }
    }

    /// The lane's name.
    pub fn lane(&self) -> &Arc<str> {
        &self.seat.lane
    }
}

impl Flight {
    /// The lane's name.
    pub fn lane(&self) -> &Arc<str> {
        &self.seat.lane
    }
}

pub(super) fn waiting(
    gate: Gate,
    id: TicketId,
    lane: Arc<str>,
    grant: oneshot::Receiver<Result<(), Refusal>>,
) -> Waiting {
    Waiting { seat: Seat { gate, id, lane, claimed: false, over: false }, grant }
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

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.over {
            self.gate.leave(self.id, self.claimed);
        }
    }
}
