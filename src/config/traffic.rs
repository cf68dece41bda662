//! Which upstream, route, lane and class a request belongs to, as the operator says it.

use super::{PathPattern, Upstream};
use http::{HeaderName, Method, StatusCode};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// One API that requests may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// What the file calls it; other tables refer to it by this name.
    pub name: Arc<str>,
    /// Its address.
    pub address: Upstream,
    /// Requests whose path starts with this (whole segments) go here, without it: `/login`. `None`: by host alone.
    pub prefix: Option<String>,
    /// Certificates (PEM) that are trusted beside the platform's.
    pub ca: Option<PathBuf>,
    /// The API's certificate is verified. False sends credentials to whoever answers.
    pub verify: bool,
}

impl UpstreamSettings {
    /// The upstream `address` with nothing special about it.
    pub fn new(address: Upstream) -> Self {
        Self { name: address.host.as_str().into(), address, prefix: None, ca: None, verify: true }
    }

    /// Its part of a lane's key.
    pub fn key(&self) -> Arc<str> {
        self.address.host_port().into()
    }
}

/// A class of routes: requests that are limited together. The first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// What it is called: the last part of a lane's key, and a label.
    pub name: Arc<str>,
    /// Of this upstream alone, by its place in [`Config::upstreams`](super::Config::upstreams).
    pub upstream: Option<usize>,
    /// Of these methods alone; empty: of all.
    pub methods: Vec<Method>,
    /// Of these paths, without an upstream's prefix.
    pub path: PathPattern,
    /// What a refusal looks like here beside a 429.
    pub refusal: Option<RefusalSign>,
}

/// How an API refuses that does not answer 429: a status, and a text that its body contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalSign {
    /// The status.
    pub status: StatusCode,
    /// What the body contains, in any case.
    pub body: String,
}

/// Which requests share one lane. The first that fits counts; without one, each credential and route has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneMatch {
    /// What the lane is called: the last part of its key.
    pub name: Arc<str>,
    /// Of this upstream alone, by its place.
    pub upstream: Option<usize>,
    /// Of routes of these names; empty: of all.
    pub routes: Vec<Arc<str>>,
    /// Who has a lane of their own.
    pub per: Per,
}

/// Who has a lane of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// Every credential.
    #[default]
    Credential,
    /// The upstream: everyone together.
    Upstream,
}

/// What makes a request belong to a class: each criterion that is given must hold. The first class that fits counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMatch {
    /// Routes of these names; empty: of all.
    pub routes: Vec<Arc<str>>,
    /// This field, with one of these values; no values: the field is there.
    pub header: Option<(HeaderName, Vec<String>)>,
    /// Credentials whose hash starts with one of these (as lanes show it); empty: all.
    pub credentials: Vec<String>,
}

/// Fields in which an API announces a limit, beside those that are known without being told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectSettings {
    /// What the limit is called.
    pub name: Arc<str>,
    /// Of this upstream alone, by its place.
    pub upstream: Option<usize>,
    /// The budget of a window, in requests; `32/40` and `total=100; remaining=99; resets=41` tell more at once.
    pub limit: HeaderName,
    /// What is left of it.
    pub remaining: Option<HeaderName>,
    /// What is spent of it.
    pub used: Option<HeaderName>,
    /// When the window ends.
    pub reset: Option<HeaderName>,
    /// What a plain number there counts.
    pub reset_in: ResetUnit,
}

/// What a plain number in the field of a reset counts. One as large as a moment since 1970 is a moment in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetUnit {
    /// Seconds from now.
    #[default]
    Seconds,
    /// Milliseconds from now.
    Milliseconds,
}

/// Who may ask how often, before anything is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// For each client: a credential, or an address where there is none.
    pub quota: crate::control::Quota,
    /// Requests that a client who was quiet may make at once, at least 1.
    pub burst: u32,
    /// Clients that are told apart; later ones share a place.
    pub clients_max: usize,
}

/// A text that nobody may see: it has no way out but [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, to compare with.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
