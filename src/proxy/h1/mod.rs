//! HTTP/1.1 to clients and to upstreams (RFC 9112): one task for each client's connection, none for an upstream's, and
//! nothing that an idle one keeps.
//!
//! # Why not hyper
//! hyper takes what leaves a choice, so that every message had to be measured by the grammar before it was parsed once
//! more; its own refusals say neither why nor whose they are; it has one timer for a slow head and an idle connection;
//! and each connection keeps its buffers. Here a head is read once, where it came, and its fields are places in one copy
//! of it ([`super::fields`]), of which what goes through is copied as it stands; a body that came with its head is just
//! bytes; an answer that is there whole leaves in one call.
//!
//! Towards upstreams hyper has a task for each connection, which is told of each request by a channel and tells of its
//! answer by another, and it wants a head of its own, which costs a copy of the map. Here the request's own future sends
//! and reads: 29,400 user instructions a request; with maps of fields it was 36,400, and with hyper 49,600 (callgrind: 6,000
//! requests of 256 B, 100 connections, one shard). HTTP/2 towards upstreams stays with it.
//!
//! # Parts
//! `head`, `answer`, `fields` and `chunked` read, `write` and `ask` write, `out` gathers what is to be sent: all without
//! I/O. Clients: `body` is where a request's reader and its connection meet, `line` is the connection with its clocks,
//! `serve` what happens on it. Upstreams: `link` is the connection, `exchange` a request and the head of its answer,
//! `download` the rest of that.

mod alarm;
mod answer;
mod ask;
mod body;
mod chunked;
mod date;
mod download;
mod exchange;
mod fields;
mod head;
mod line;
mod link;
mod out;
mod serve;
mod trial;
mod write;

pub(super) use alarm::Alarm;
pub(super) use date::today;
pub(super) use download::Download;
pub(super) use exchange::{Exchange, Lost};
pub(super) use link::Link;
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
