//! HTTP/1.1 to clients (RFC 9112): one task for each connection, and nothing that an idle one keeps.
//!
//! # Why not hyper
//! hyper takes what leaves a choice, so that every message had to be measured by the grammar before it was parsed once
//! more; its own refusals say neither why nor whose they are; it has one timer for a slow head and an idle connection;
//! and each connection keeps its buffers. Here a head is read once, where it came, and its fields are slices of one copy
//! of it; a body that came with its head is just bytes; an answer that is there whole leaves in one call. What hyper
//! is good at, HTTP/2 and the client's side, stays with it.
//!
//! # Parts
//! `head` and `chunked` read, `write` writes, `out` gathers what is to be sent: all without I/O. `body` is where a
//! request's reader and its connection meet, `line` is the connection with its clocks, `serve` what happens on it.

mod body;
mod chunked;
mod date;
mod head;
mod line;
mod out;
mod serve;
mod trial;
mod write;

pub(super) use serve::serve;
pub use trial::Trial;

use crate::config::ProxySettings;

/// What messages may have at most.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of a head, and of trailers.
    head_bytes: usize,
    /// In a head, and in trailers.
    fields: usize,
    /// Of a chunk's first line.
    chunk_line_bytes: usize,
}

impl Limits {
    fn new(settings: &ProxySettings) -> Self {
        Self {
            head_bytes: settings.head_bytes_max,
            fields: settings.fields_max,
            chunk_line_bytes: settings.chunk_line_bytes_max,
        }
    }
}

/// Where reads may end in a text of so many bytes.
#[cfg(test)]
fn cuts(length: usize) -> impl proptest::strategy::Strategy<Value = Vec<usize>> {
    use proptest::strategy::Strategy;

    proptest::collection::vec(0..=length, 0..8).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}
