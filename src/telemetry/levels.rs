//! How full everything bounded is, as the rest of the program tells it at a scrape.

use crate::observe::Connections;
use std::sync::Arc;

/// How full everything bounded is now, apart from the lanes: what the rest of the program tells at a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Lanes that may exist.
    pub lanes_max: usize,
    /// Tickets that may wait in one lane.
    pub queue_tickets_max: usize,
    /// Request bytes kept for replays.
    pub replay_buffer_bytes: usize,
    /// Request bytes that may be kept for replays.
    pub replay_buffer_bytes_max: usize,
    /// Client connections.
    pub client_connections: usize,
    /// Client connections that may be open.
    pub client_connections_max: usize,
    /// Callers that have a quota of their own at the door.
    pub admission_callers: usize,
    /// Callers that may have one; 0 when there is no quota.
    pub admission_callers_max: usize,
    /// Connections to each upstream.
    pub upstream_connections: Vec<(Arc<str>, Connections)>,
    /// Connections that may be open to one upstream.
    pub upstream_connections_max: usize,
    /// Connections that may be kept to one upstream without a request.
    pub upstream_connections_idle_max: usize,
    /// Requests that may wait for a connection to one upstream.
    pub upstream_connection_waiters_max: usize,
    /// Is the program stopping?
    pub draining: bool,
}
