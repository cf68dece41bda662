//! A request of an HTTP/2 client that is not answered yet: taken back at once, it counts as a control frame of some size.
//!
//! # Why
//! A request that is reset makes room for the next one, so that the bound on streams bounds nothing (CVE-2023-44487). h2
//! counts those that were reset before it handed them out, and no others. A client that gives up after a while is none of
//! these: in a queue that is the usual thing. Whoever lets each request stand for [`AT_ONCE`] asks no more than ten times
//! `streams_max` a second.

use super::activity::Activity;
use crate::gate::clock;
use std::time::{Duration, Instant};

/// Dropped without an answer, it was taken back.
pub(super) struct Asked {
    since: Instant,
    /// None once it is answered.
    activity: Option<Activity>,
}

impl Asked {
    pub(super) fn new(activity: Activity) -> Self {
        Self { since: clock::now(), activity: Some(activity) }
    }

    pub(super) fn answered(mut self) {
        self.activity = None;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity
            && clock::now().saturating_duration_since(self.since) < AT_ONCE
        {
            activity.charge(COUNTS);
        }
    }
}

const AT_ONCE: Duration = Duration::from_millis(100);
/// Of `control_bytes_max`: 256 at once by default, and then one in four seconds.
const COUNTS: usize = 4 * 1024;
