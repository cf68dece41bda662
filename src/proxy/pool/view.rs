//! What can be seen of a pool: how full it is, and what has happened.

use super::Pool;
use super::http2::Line;
use crate::observe::{ClosedBy, Connections};

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) opened_http1: u64,
    pub(super) opened_http2: u64,
    pub(super) failed: u64,
    pub(super) reused: u64,
    pub(super) refused: u64,
    closed: [u64; 5],
}

impl Counts {
    pub(super) fn closed(&mut self, by: ClosedBy) {
        for (count, reason) in self.closed.iter_mut().zip(ClosedBy::ALL) {
            *count += u64::from(reason == by);
        }
    }
}

impl Pool {
    /// Adds what there is and was to what `sum` has already.
    pub(in crate::proxy) fn add_to(&self, sum: &mut Connections) {
        let state = self.lock();
        let counts = &state.counts;
        sum.open += state.open;
        sum.idle += state.idle.len() + state.lines.iter().filter(|line| line.streams() == 0).count();
        sum.streams += state.lines.iter().map(Line::streams).sum::<usize>();
        sum.waiting += state.waiting.len();
        sum.opened_http1 += counts.opened_http1;
        sum.opened_http2 += counts.opened_http2;
        sum.failed += counts.failed;
        sum.reused += counts.reused;
        sum.refused += counts.refused;
        for (sum, count) in sum.closed.iter_mut().zip(counts.closed) {
            *sum += count;
        }
    }
}
