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
//!
//! # The loop
//! ```text
//!            tickets           grants                    requests            the API's limiter
//!  clients ---------> queue ------------> pacer, cap ----------------------> (the plant: unknown,
//!                     turns    ^                  ^                           changes, shared)
//!                              |                  | pace, phase, hold                 |
//!                              |                  |                                   | accepted, refused,
//!                           orders               law <--- history, ledgers <----------+ headers, one RTT late
//! ```
//! The limiter answers with one bit a request, a round trip late, and punishes being above far more than being below: it
//! is a step that has to be found, not a set point to be tracked. So the law is no proportional controller. It is an
//! estimator with a schedule: each refusal *measures* the limit (what got through from one saturation to the next), the
//! pace goes to the measure in one step, and the next look above is planned a probe period ahead. Nothing it does depends
//! on a gain, so there is none that could be too high: what bounds each rule is how much one refusal may cost.
//!
//! | state of the learnt law | pace | leaves it |
//! | --- | --- | --- |
//! | start | doubles each half second of waiting | the first refusal |
//! | servo | the measure, creeping so that a refusal comes once a period | a number is named |
//! | held | a named number exactly, once a period a little above (the probe) | refusals that shifts of phase do not explain |
//! | climb | ever faster, since the period passed without a refusal | the next refusal |
//! | block | none, one try now and then, until something gets through | an answer: names a long window |
//! | contended | a share that gives way and comes back, with no number | never: others were announced |
//!
//! # To read it in half an hour
//! 1. `law`: what is composed, and by which order of rank: ledgers, cap, overload, learnt.
//! 2. `learnt`: the states above. `mod` holds the pace between refusals, `episode` what a refusal does to it,
//!    `measure` how a limit is measured, `fit` and `round` how a number gets its name, `moves` what becomes of a limit
//!    that fell, `hold_back`, `block` and `window` what happens when nothing gets through, `contended` when others share.
//!    Each says why it is as it is.
//! 3. `ledger`: limits that the API announces. `inflight`, `overload`: limits on requests at once.
//! 4. `pacer`, `burst`: from a pace to moments. `queue`, `turns`: who goes then. `orders`: what an operator says.
//! 5. `lane` is one limit with all of these, `lanes` are all of them; `attribution` and `shared` say which limit it was.
//!
//! Constants stand at the top of the file that uses them, each with what it bounds. What they come to is measured, not
//! argued: `tests/scenarios` runs each rule's case over twenty phases, `cargo bench --bench law` beside the laws of others.

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
