//! How fast may we go? The pure core: it learns limits, paces, queues and decides about another try.
//!
//! **The rule.** Nothing here reads a clock, sleeps, does I/O, logs or knows HTTP: time is an argument, what
//! happened comes in as an [`Outcome`], what to do now goes out as a [`Step`], what is worth telling as an
//! [`Event`]. So an hour of traffic is a test of milliseconds, and the same inputs give the same transcript on
//! every machine (floats use `+ - * /` and `sqrt` only).
//!
//! The vocabulary: a **lane** is one limit's queue and pace; a **ticket** is a request's place in it; a lane's
//! **law** says how fast; its **pacer** says when the next one may leave; an operator's **orders** stand above both. A
//! **class** of tickets has a share of the lane's departures while it wants it.

mod aimd;
mod announcement;
mod attribution;
mod burst;
mod command;
mod event;
mod hash;
mod inflight;
mod jitter;
mod key;
mod kind;
mod lane;
mod lanes;
mod law;
mod learnt;
mod ledger;
mod memory;
mod orders;
mod outcome;
mod overload;
mod pacer;
mod queue;
mod rate;
mod recent;
mod retry;
mod roster;
mod settings;
mod shared;
mod ticket;
mod turns;

pub use announcement::{AnnouncedBy, Announcement};
pub use command::Command;
pub use event::{Event, RefusalReason, RetryReason};
pub use hash::{NameHash, NameHashes};
pub use key::{CredentialHash, LaneKey, Level};
pub use lanes::Lanes;
pub use law::LawName;
use learnt::Prior;
pub use memory::{Memory, MemoryNumber};
pub use outcome::{Hint, Outcome, Report};
pub use pacer::Pacer;
pub use rate::{Quota, QuotaError, Rate};
pub use settings::{
    ClassSettings, LaneRule, LanesSettings, LawSettings, Mode, QueueSettings, RetrySettings, Shape,
};
pub use ticket::{
    AnnouncedView, ClassId, ClassView, Entered, LaneView, LimitModel, LimitSource, LimitView, NodeOrigin,
    NodeView, Refusal, Settled, Step, Ticket, TicketHasher, TicketId, Tickets,
};
