//! The seam between what happens and who wants to know: an [`Observer`] is told, nothing waits for it.

use crate::control::Event;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Told of everything worth counting or logging. Called outside locks, on the request's own task: return quickly.
pub trait Observer: Send + Sync + 'static {
    /// Something happened in a lane.
    fn event(&self, event: &Event);
    /// One request to the upstream got its response head, or failed.
    fn attempt(&self, attempt: &Attempt);
    /// One client's request is over.
    fn exchange(&self, exchange: &Exchange);
}

/// One try at the upstream.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The lane's name.
    pub lane: Arc<str>,
    /// The response's status, or none if there was no response.
    pub status: Option<StatusCode>,
    /// From the pass to the response head (or failure).
    pub duration: Duration,
}

/// The record of one finished request: one access-log line, one sample per metric.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The lane's name; empty when the request never got as far as a lane.
    pub lane: Arc<str>,
    /// The request's method.
    pub method: Method,
    /// The status that the client got.
    pub status: StatusCode,
    /// Time spent waiting for passes, all attempts together.
    pub queued: Duration,
    /// Time spent with the upstream until its response head, all attempts together.
    pub upstream: Duration,
    /// From the request's head to the end of the response body.
    pub total: Duration,
    /// How often the request was sent again.
    pub retries: u32,
    /// Why the answer is ours and not the API's, in the words of Proxy-Status, or [`ADMISSION_QUOTA`]; none when it is
    /// the API's.
    pub local_error: Option<&'static str>,
}

/// The caller has used up its quota at the door: [`Exchange::local_error`] then.
pub const ADMISSION_QUOTA: &str = "admission_quota";

/// Why a connection to the upstream was closed, or takes no more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The upstream closed it, or it broke.
    Upstream,
    /// It was idle for as long as it may be.
    Idle,
    /// It was as old as it may be.
    Age,
    /// There are as many as there may be.
    Room,
    /// Its exchange ended before its time: the client left, or waited no longer.
    Cut,
}

impl ClosedBy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Upstream, Self::Idle, Self::Age, Self::Room, Self::Cut];

    /// The word for it, in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Room => "room",
            Self::Cut => "cut",
        }
    }
}

/// Connections to one upstream: how many there are, and what has become of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Open, or being made.
    pub open: usize,
    /// Open and without a request.
    pub idle: usize,
    /// Streams in use of HTTP/2 connections.
    pub streams: usize,
    /// Requests that wait for a connection.
    pub waiting: usize,
    /// HTTP/1.1 connections made so far.
    pub opened_http1: u64,
    /// HTTP/2 connections made so far.
    pub opened_http2: u64,
    /// Connections that could not be made.
    pub failed: u64,
    /// Requests that found a connection made for an earlier one.
    pub reused: u64,
    /// Requests that got no connection, because too many waited or they did for too long.
    pub refused: u64,
    /// Look-ups of the upstream's name so far that were answered.
    pub lookups_answered: u64,
    /// Look-ups that failed, or took too long; older addresses may have stood in.
    pub lookups_failed: u64,
    /// Closed so far, in the order of [`ClosedBy::ALL`].
    pub closed: [u64; 5],
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullObserver;

impl Observer for NullObserver {
    fn event(&self, _: &Event) {}
    fn attempt(&self, _: &Attempt) {}
    fn exchange(&self, _: &Exchange) {}
}
