//! Tidegate: an adaptive throttling proxy for rate-limited HTTP APIs.
//!
//! It stands between whoever calls a rate-limited API and that API, learns the limit that the API really enforces,
//! queues and paces what goes out, absorbs the refusals that remain, and says what it learnt. This page is the
//! architecture document: who knows whom, how one request flows, and what always holds.
//!
//! # The picture
//!
//! A request takes a **ticket** in the **lane** of the limit it counts against. The **gate** lets it through when the
//! lane's law and pacer say so: it holds a **pass**. What the API answers teaches the lane. Refused? The same ticket
//! waits for another turn.
//!
//! # The map
//!
//! From the inside out; a module may use those above it in its own row, never the other way.
//!
//! - [`control`] *pure*: how fast may we go? Laws, pacer, queue, lanes. `now` is an argument; no I/O, no HTTP.
//! - [`gate`] may this request go now? One mutex around `control`, one driver on a precise timer.
//! - [`observe`] what is worth telling, and to whom: the trait that telemetry implements.
//! - [`config`] what the operator may say, complete and valid by construction.
//! - [`proxy`] HTTP in and out: connections, classification, replay, the upstream's pool, our own answers.
//! - [`telemetry`] metrics and logs; the only place that knows a metric's name.
//! - [`admin`] the second listener: metrics, health, lanes as JSON.
//! - [`sim`] a rate-limited API to try things on; its `limits` are pure models.
//! - [`demo`] the same sessions straight to the API and through Tidegate, side by side.
//! - [`app`] the composition root: everything long-lived is made and owned here.
//! - [`cli`] the command line, and the only reader of the environment.
//!
//! # The life of one request
//!
//! ```text
//! accept     proxy::accept      a connection; over the cap it waits in the backlog
//! classify   proxy::classify    head -> upstream, lane key and class, or an answer that says what is wrong
//! door       gate::quota        the caller's own quota, where the operator sets one
//! buffer     proxy::body        the body, up to its cap, so that it can be sent again
//! admit      Gate::enter        a ticket, or a refusal: queue full, deadline, draining
//! queue      control::queue     first in, first out, classes by their shares; a client that leaves leaves no trace
//! pace       control::lane      every node of the key's path grants, at one moment
//! forward    proxy::upstream    a kept or new connection; the head rewritten, the body streamed
//! observe    proxy::signals     status, fields, a refusal's body -> Report; Pass::settle teaches the lane
//! retry?     control::lanes     refused, replayable and in time: back to the queue, same ticket
//! respond    proxy::respond     the API's answer, or ours, with Server-Timing
//! finish     proxy::tracked     the response body ends: the flight is over, the exchange is told
//! ```
//!
//! # What always holds
//!
//! Each with the test that holds it.
//!
//! 1. `control` reads no clock, does no I/O, cannot block, and computes floats with `+ - * /` and `sqrt` alone, so that a
//!    run is identical on every machine (`tests/architecture.rs`, `tests/properties.rs`).
//! 2. Every ticket that started is settled exactly once: by its outcome, or as ignored when its pass is dropped
//!    (`tests/properties.rs`).
//! 3. No lock is held across an await, and observers are called after it is released (clippy's `await_holding_lock`).
//! 4. Every queue, map, buffer and wait has a bound, and a gauge that shows how near it is.
//! 5. Only `proxy::respond` invents responses, and each carries Proxy-Status (RFC 9209).
//! 6. Long-lived tasks are spawned in `app` alone, connections in `proxy` (clippy's `disallowed_methods`).
//! 7. A body is kept for a replay up to a cap; beyond it, it is streamed and not sent again (`tests/http`).
//! 8. A request is over when its response *body* ends (`tests/http`).
//! 9. The hot path never waits for a log sink or a scrape.
//! 10. Metric names exist in `telemetry::metrics` alone (`tests/architecture.rs`).
//! 11. A client that leaves while it waits costs the API nothing, whatever its body (`tests/http`).

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod gate;
pub mod observe;
pub mod proxy;
pub mod sim;
pub mod telemetry;
