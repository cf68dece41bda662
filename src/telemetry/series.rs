//! Which lanes have series: a bounded number of lane labels, and of status and method labels within each.
//!
//! # Why
//! A label's values come from outside (routes, statuses, methods), and every one costs memory here and in
//! Prometheus for ever. So a lane's counters are made at its first event (all at zero, that `rate()` sees the first
//! increase), found again without hashing label strings, and given up when the core forgets the lane.

use super::metrics::Vectors;
use crate::control::{Level, RefusalReason, RetryReason};
use http::Method;
use prometheus::{Histogram, IntCounter};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The lanes that have series.
#[derive(Debug)]
pub(super) struct Series {
    lanes: RwLock<HashMap<Arc<str>, Arc<LaneSeries>>>,
    lanes_max: usize,
    /// Where everything beyond the bound is counted.
    other: Arc<str>,
    capped: IntCounter,
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
    /// By method and status.
    requests: Mutex<HashMap<(&'static str, u16), IntCounter>>,
    /// By status; [`NO_STATUS`]: no response came.
    responses: Mutex<HashMap<u16, IntCounter>>,
}

impl Series {
    pub(super) fn new(lanes_max: usize, capped: IntCounter) -> Self {
        Self { lanes: RwLock::default(), lanes_max, other: OTHER.into(), capped }
    }

    /// The series of `lane`, made when it is new; those of `other` when there are too many.
    pub(super) fn of(&self, vectors: &Vectors, lane: &Arc<str>) -> Arc<LaneSeries> {
        if let Some(found) = self.read(lane) {
            return found;
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let full = lanes.len() >= self.lanes_max && !lanes.contains_key(lane);
        if full {
            self.capped.inc();
        }
        let label = if full { &self.other } else { lane };
        Arc::clone(
            lanes.entry(Arc::clone(label)).or_insert_with(|| Arc::new(LaneSeries::new(vectors, label))),
        )
    }

    /// The label under which `lane` is counted.
    pub(super) fn label<'a>(&'a self, lane: &'a Arc<str>) -> &'a str {
        if self.read(lane).is_some() { lane } else { OTHER }
    }

    /// Lets the series of `lane` go: the core has forgotten it.
    pub(super) fn forget(&self, vectors: &Vectors, lane: &Arc<str>) {
        let gone = self.lanes.write().unwrap_or_else(PoisonError::into_inner).remove(lane);
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
            requests: Mutex::default(),
            responses: Mutex::default(),
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
        let mut known = lock(&self.requests);
        let full = known.len() >= REQUEST_SERIES_MAX && !known.contains_key(&(method, status));
        let (method, status) = if full { (OTHER, OTHER_STATUS) } else { (method, status) };
        known
            .entry((method, status))
            .or_insert_with(|| {
                vectors.requests.with_label_values(&[self.label.as_ref(), method, &status_label(status)])
            })
            .inc();
    }

    /// The upstream answered, or did not.
    pub(super) fn responded(&self, vectors: &Vectors, status: Option<u16>) {
        let mut known = lock(&self.responses);
        let status = status.unwrap_or(NO_STATUS);
        let full = known.len() >= RESPONSE_SERIES_MAX && !known.contains_key(&status);
        let status = if full { OTHER_STATUS } else { status };
        known
            .entry(status)
            .or_insert_with(|| {
                vectors.responses.with_label_values(&[self.label.as_ref(), &status_label(status)])
            })
            .inc();
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
        for (method, status) in lock(&self.requests).keys() {
            drop(vectors.requests.remove_label_values(&[lane, method, &status_label(*status)]));
        }
        for status in lock(&self.responses).keys() {
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

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
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
