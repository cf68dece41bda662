//! What one HTTP/2 connection of a client may do.

use std::time::Duration;

/// Bounds of one HTTP/2 connection. The first four are announced to the client (RFC 9113 6.5.2 and 6.9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Settings {
    /// Requests at once; a client waits with further ones.
    pub streams_max: u32,
    /// Bytes of one request's body that the client may send before they are taken.
    pub stream_window: u32,
    /// The same for all of the connection's bodies together.
    pub connection_window: u32,
    /// Bytes of a head as it is unpacked, 32 more for each field; the bound of trailers too.
    pub head_bytes_max: u32,
    /// A connection without a request is closed after this long.
    pub idle: Duration,
    /// Requests that may be taken back before they were looked at; one more ends the connection (CVE-2023-44487).
    pub resets_max: usize,
    /// Streams that break the protocol, and are reset for it; one more ends the connection (CVE-2025-8671).
    pub faults_max: usize,
    /// Bytes of control frames beyond what requests explain; more end the connection.
    pub control_bytes_max: usize,
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            head_bytes_max: 16 * 1024,
            idle: Duration::from_mins(5),
            resets_max: 20,
            faults_max: 100,
            control_bytes_max: 1024 * 1024,
        }
    }
}
