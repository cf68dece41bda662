//! Which lanes have series: a bounded number of lane labels, and of status and method labels within each.
//!
//! # Why
//! A label's values come from outside (routes, statuses, methods), and every one costs memory here and in
//! Prometheus for ever. So a lane's counters are made at its first event (all at zero, that `rate()` sees the first
//! increase), found again without hashing label strings, and given up when the core forgets the lane.

use super::known::Known;
use super::metrics::Vectors;
use crate::control::{Level, RefusalReason, RetryReason};
use http::Method;
use prometheus::{Histogram, IntCounter};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The lanes that have series.
#[derive(Debug)]
pub(super) struct Series {
    lanes: RwLock<HashMap<Arc<str>, Arc<LaneSeries>>>,
    lanes_max: usize,
    /// Where everything beyond the bound is counted.
    other: Arc<str>,
    capped: IntCounter,
    /// What this thread has found before.
    known: Known,
}

/// One lane's counters.
#[derive(Debug)]
pub(super) struct LaneSeries {
    pub(super) label: Arc<str>,
    pub(super) offered: IntCounter,
    pub(super) accepted: IntCounter,
    pub(super) throttled: IntCounter,
    pub(super) abandoned: IntCounter,
    pub(super) signals_ignored: IntCounter,
    pub(super) queue_wait: Histogram,
    pub(super) upstream_duration: Histogram,
    retries: Vec<(RetryReason, IntCounter)>,
    refused: Vec<(RefusalReason, IntCounter)>,
    /// By method and status, in the order of their first.
    requests: RwLock<Vec<((&'static str, u16), IntCounter)>>,
    /// By status, likewise; [`NO_STATUS`]: no response came.
    responses: RwLock<Vec<(u16, IntCounter)>>,
}

impl Series {
    pub(super) fn new(lanes_max: usize, capped: IntCounter) -> Self {
        Self { lanes: RwLock::default(), lanes_max, other: OTHER.into(), capped, known: Known::default() }
    }

    /// Runs `act` on the series of `lane`, made when it is new; on those of `other` when there are too many.
    pub(super) fn with(&self, vectors: &Vectors, lane: &Arc<str>, act: impl FnOnce(&LaneSeries)) {
        self.known.with(lane, || self.of(vectors, lane), act);
    }

    /// The series of a lane, and whether they are its own.
    fn of(&self, vectors: &Vectors, lane: &Arc<str>) -> (Arc<LaneSeries>, bool) {
        if let Some(found) = self.read(lane) {
            return (found, true);
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let full = lanes.len() >= self.lanes_max && !lanes.contains_key(lane);
        if full {
            self.capped.inc();
        }
        let label = if full { &self.other } else { lane };
        let series =
            lanes.entry(Arc::clone(label)).or_insert_with(|| Arc::new(LaneSeries::new(vectors, label)));
        (Arc::clone(series), !full)
    }

    /// The label under which `lane` is counted.
    pub(super) fn label<'a>(&'a self, lane: &'a Arc<str>) -> &'a str {
        if self.read(lane).is_some() { lane } else { OTHER }
    }

    /// Lets the series of `lane` go: the core has forgotten it.
    pub(super) fn forget(&self, vectors: &Vectors, lane: &Arc<str>) {
        let gone = self.lanes.write().unwrap_or_else(PoisonError::into_inner).remove(lane);
        self.known.forget();
        if let Some(series) = gone {
            series.remove_from(vectors);
        }
    }

    fn read(&self, lane: &str) -> Option<Arc<LaneSeries>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).get(lane).map(Arc::clone)
    }
}

impl LaneSeries {
    fn new(vectors: &Vectors, label: &Arc<str>) -> Self {
        let retry = |reason: RetryReason| {
            (reason, vectors.retries.with_label_values(&[label.as_ref(), reason.as_str()]))
        };
        let refusal = |reason: RefusalReason| {
            (reason, vectors.refused.with_label_values(&[label.as_ref(), reason.as_str()]))
        };
        Self {
            label: Arc::clone(label),
            offered: vectors.offered.with_label_values(&[label]),
            accepted: vectors.accepted.with_label_values(&[label]),
            throttled: vectors.throttled.with_label_values(&[label]),
            abandoned: vectors.abandoned.with_label_values(&[label]),
            signals_ignored: vectors.signals_ignored.with_label_values(&[label]),
            queue_wait: vectors.queue_wait.with_label_values(&[label]),
            upstream_duration: vectors.upstream_duration.with_label_values(&[label]),
            retries: RETRY_REASONS.into_iter().map(retry).collect(),
            refused: REFUSAL_REASONS.into_iter().map(refusal).collect(),
            requests: RwLock::default(),
            responses: RwLock::default(),
        }
    }

    /// A request is sent again.
    pub(super) fn retried(&self, reason: RetryReason) {
        for (_, counter) in self.retries.iter().filter(|(kept, _)| *kept == reason) {
            counter.inc();
        }
    }

    /// A request is not served.
    pub(super) fn refused(&self, reason: RefusalReason) {
        for (_, counter) in self.refused.iter().filter(|(kept, _)| *kept == reason) {
            counter.inc();
        }
    }

    /// A client got its answer.
    pub(super) fn answered(&self, vectors: &Vectors, method: &'static str, status: u16) {
        let other = (OTHER, OTHER_STATUS);
        count(&self.requests, REQUEST_SERIES_MAX, (method, status), other, |(method, status)| {
            vectors.requests.with_label_values(&[self.label.as_ref(), method, &status_label(status)])
        });
    }

    /// The upstream answered, or did not.
    pub(super) fn responded(&self, vectors: &Vectors, status: Option<u16>) {
        let status = status.unwrap_or(NO_STATUS);
        count(&self.responses, RESPONSE_SERIES_MAX, status, OTHER_STATUS, |status| {
            vectors.responses.with_label_values(&[self.label.as_ref(), &status_label(status)])
        });
    }

    /// Removes all of the lane's children. One that is not there is fine: it was never made.
    fn remove_from(&self, vectors: &Vectors) {
        let lane = self.label.as_ref();
        drop(vectors.offered.remove_label_values(&[lane]));
        drop(vectors.accepted.remove_label_values(&[lane]));
        drop(vectors.throttled.remove_label_values(&[lane]));
        for per in [Level::Route, Level::Credential, Level::Upstream] {
            drop(vectors.attributed.remove_label_values(&[lane, per.as_str()]));
        }
        drop(vectors.abandoned.remove_label_values(&[lane]));
        drop(vectors.signals_ignored.remove_label_values(&[lane]));
        drop(vectors.queue_wait.remove_label_values(&[lane]));
        drop(vectors.upstream_duration.remove_label_values(&[lane]));
        for (reason, _) in &self.retries {
            drop(vectors.retries.remove_label_values(&[lane, reason.as_str()]));
        }
        for (reason, _) in &self.refused {
            drop(vectors.refused.remove_label_values(&[lane, reason.as_str()]));
        }
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        for ((method, status), _) in &*requests {
            drop(vectors.requests.remove_label_values(&[lane, method, &status_label(*status)]));
        }
        let responses = self.responses.read().unwrap_or_else(PoisonError::into_inner);
        for (status, _) in &*responses {
            drop(vectors.responses.remove_label_values(&[lane, &status_label(*status)]));
        }
    }
}

/// A method as a label: what is not in the list could be anything, and as many.
pub(super) fn method_label(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

/// A status as a label: the number, or a word for what has none.
fn status_label(status: u16) -> String {
    match status {
        NO_STATUS => "none".into(),
        OTHER_STATUS => OTHER.into(),
        number => number.to_string(),
    }
}

/// Counts one more of `label`, or of `other` when there are as many as may be. A lane has few labels, and those that it
/// meets most come first: they are found sooner than a hash is made.
fn count<L: Copy + PartialEq>(
    counters: &RwLock<Vec<(L, IntCounter)>>,
    most: usize,
    label: L,
    other: L,
    make: impl FnOnce(L) -> IntCounter,
) {
    let find = |counters: &[(L, IntCounter)], label: L| {
        let found = counters.iter().find(|(known, _)| *known == label);
        found.map(|(_, counter)| counter.inc()).is_some()
    };
    if find(&counters.read().unwrap_or_else(PoisonError::into_inner), label) {
        return;
    }
    let mut counters = counters.write().unwrap_or_else(PoisonError::into_inner);
    let known = counters.iter().any(|(known, _)| *known == label);
    let label = if !known && counters.len() >= most { other } else { label };
    if !find(&counters, label) {
        let counter = make(label);
        counter.inc();
        counters.push((label, counter));
    }
}

/// Methods that are told apart.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
/// The label for what has no series of its own.
pub(super) const OTHER: &str = "other";
/// Method and status pairs that are told apart in one lane.
const REQUEST_SERIES_MAX: usize = 100;
/// Statuses of the upstream that are told apart in one lane.
const RESPONSE_SERIES_MAX: usize = 50;
/// Stands for "no response": no status is 0.
const NO_STATUS: u16 = 0;
/// Stands for "some other status": no status is 1.
const OTHER_STATUS: u16 = 1;
const RETRY_REASONS: [RetryReason; 3] = [RetryReason::Throttled, RetryReason::Overloaded, RetryReason::Stale];
const REFUSAL_REASONS: [RefusalReason; 3] =
    [RefusalReason::QueueFull, RefusalReason::Deadline, RefusalReason::Draining];
