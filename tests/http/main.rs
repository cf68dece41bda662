//! The HTTP side, in process: real sockets on free ports in real time, and memory in paused time.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod accept;
mod admission;
mod answers;
mod checklist;
mod client;
mod departure;
mod endings;
mod frames;
mod hops;
mod hostile;
mod http1;
mod http2;
mod interim;
mod intermediary;
mod origin;
mod paused;
mod replay;
mod rules;
mod secure;
mod signals;
mod stale;
mod stalls;
mod streams;
mod through;
mod tls;
mod translation;
mod untouched;
mod upstream_http2;
mod upstream_pool;
mod upstream_stall;
mod upstreams;
