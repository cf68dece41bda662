//! One limit as an API announces it: the numbers of a header or of a refusal's body, free of HTTP.

use super::Level;
use std::sync::Arc;
use std::time::Duration;

/// What one response says of one limit. Numbers are the API's own words: evidence, not truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Which of the API's limits: the dialect, and the policy's name where it has one (`inin`, `ratelimit:burst`).
    pub name: Arc<str>,
    /// Where it stood.
    pub source: AnnouncedBy,
    /// The budget of a window, in requests; at least 1.
    pub requests: u32,
    /// What the limiter has counted in this window so far, this request included; `None` when it does not say.
    pub used: Option<u32>,
    /// Until the window ends, as told: whole seconds as a rule, rounded either way.
    pub reset: Option<Duration>,
    /// The window's length, if the API says.
    pub window: Option<Duration>,
    /// Which node of the lane's path the limit belongs to.
    pub level: Level,
}

/// Where an announcement stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnouncedBy {
    /// In a response's header fields.
    Header,
    /// In a refusal's body.
    Body,
}
