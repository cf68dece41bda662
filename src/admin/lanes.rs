//! `/api/v1/lanes`: what every lane knows and does, as JSON.

use super::Admin;
use super::problem::Problem;
use crate::control::{AnnouncedView, ClassView, LaneView, Level, LimitView, NodeView, Rate};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use humantime::format_rfc3339_millis;
use serde::Serialize;
use std::time::{Duration, SystemTime};

pub(super) async fn list(State(admin): State<Admin>) -> Json<List> {
    let now = wall_now();
    Json(List { lanes: admin.gate.snapshot().into_iter().map(|view| Lane::new(view, now)).collect() })
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
) -> Result<Json<Lane>, Problem> {
    one(&admin, &name).map(Json)
}

/// The lane called `name`.
pub(super) fn one(admin: &Admin, name: &str) -> Result<Lane, Problem> {
    let found = admin.gate.snapshot().into_iter().find(|view| *view.name == *name);
    found.map(|view| Lane::new(view, wall_now())).ok_or_else(|| unknown(admin, name))
}

/// There is no lane called `name`, but others.
pub(super) fn unknown(admin: &Admin, name: &str) -> Problem {
    let lanes = admin.gate.snapshot();
    let names: Vec<&str> = lanes.iter().take(NAMES_SHOWN).map(|view| view.name.as_ref()).collect();
    let more = lanes.len() - names.len();
    let there = match (names.len(), more) {
        (0, _) => "no lane exists yet: the first request of a route and a credential makes one".to_owned(),
        (_, 0) => format!("there are: {}", names.join(", ")),
        (_, more) => format!("there are: {} and {more} more", names.join(", ")),
    };
    Problem::new(StatusCode::NOT_FOUND, format!("no lane is called {}; {there}", shown(name)))
}

/// A name that may be anything, in quotes: so much of it that a person knows it again.
fn shown(name: &str) -> String {
    match name.char_indices().nth(NAME_SHOWN) {
        Some((end, _)) => format!("{:?} and so on", name.get(..end).unwrap_or_default()),
        None => format!("{name:?}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a pause's end is told as a date, which people compare with their own clocks"
)]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct List {
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize)]
pub(super) struct Lane {
    name: String,
    upstream: String,
    /// A path with its identifiers folded.
    route: String,
    /// A short keyed hash; `null` for requests without a credential.
    credential: Option<String>,
    law: &'static str,
    /// With `observe` nothing is held back, and the pace is what would be set.
    mode: &'static str,
    pace_rps: f64,
    /// The pace that an operator pinned; `null` while the law decides.
    pinned_rps: Option<f64>,
    /// Its own, or the narrowest above it; `null` while none is known.
    limit: Option<Limit>,
    /// What the API announces in header fields; empty where it announces nothing.
    announced: Vec<Announced>,
    /// The limits that it shares with other lanes, the narrowest first.
    shared: Vec<Shared>,
    queue_depth: usize,
    /// What belongs to no class first, as `other`; empty where there are no classes.
    classes: Vec<Class>,
    in_flight: usize,
    /// `null` where nothing limits how many may be under way at once.
    in_flight_max: Option<u32>,
    accepted_total: u64,
    throttled_total: u64,
    paused: bool,
    /// `null` while it is paused until an operator resumes it.
    paused_seconds: Option<f64>,
    /// RFC 3339, UTC; `null` while it is not paused, or until an operator resumes it.
    paused_until: Option<String>,
}

#[derive(Debug, Serialize)]
struct Class {
    name: String,
    /// Of the lane's pace, 0 to 1.
    share: f64,
    queue_depth: usize,
}

/// A limit above the lane.
#[derive(Debug, Serialize)]
struct Shared {
    name: String,
    per: &'static str,
    /// How it came to be known.
    origin: &'static str,
    /// The lanes that evidence put below it; `null`: all that it is on.
    lanes: Option<usize>,
    /// Of all lanes below it.
    pace_rps: f64,
    limit: Option<Limit>,
    queue_depth: usize,
    in_flight: usize,
    paused_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Announced {
    name: String,
    requests: u32,
    /// What is out counts as spent.
    remaining: f64,
    /// `null` where no end is told.
    reset_seconds: Option<f64>,
    window_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Limit {
    /// What it is per: route, credential or upstream.
    per: &'static str,
    requests: f64,
    window_seconds: f64,
    /// How many may leave at once after a quiet time; `null` where the model does not say.
    burst: Option<f64>,
    model: &'static str,
    /// What got through: the limit is that or higher.
    at_least: bool,
    source: &'static str,
    /// 0 to 1.
    confidence: f64,
    /// For a person.
    says: String,
}

impl Lane {
    /// The lane as `view` has it, at the moment `now`.
    fn new(view: LaneView, now: SystemTime) -> Self {
        let paused = view.paused_seconds > 0.0;
        let left = Some(view.paused_seconds).filter(|seconds| seconds.is_finite());
        let end = |seconds: f64| now + Duration::from_secs_f64(seconds.min(LONGEST_SECONDS));
        Self {
            name: view.name.as_ref().into(),
            upstream: view.key.upstream.as_ref().into(),
            route: view.key.route.as_ref().into(),
            credential: view.key.credential.map(|hash| hash.short(HASH_DIGITS)),
            law: view.law.as_str(),
            mode: view.mode.as_str(),
            pace_rps: rounded(view.pace),
            pinned_rps: view.pinned.map(Rate::get).map(rounded),
            limit: view.limit.map(|limit| Limit::new(limit, view.limit_per)),
            announced: view.announced.iter().map(Announced::from).collect(),
            shared: view.above.into_iter().map(Shared::from).collect(),
            queue_depth: view.queue_depth,
            classes: view.classes.iter().map(Class::from).collect(),
            in_flight: view.in_flight,
            in_flight_max: view.in_flight_max,
            accepted_total: view.accepted_total,
            throttled_total: view.throttled_total,
            paused,
            paused_seconds: left.map(rounded),
            paused_until: left
                .filter(|_| paused)
                .map(|seconds| format_rfc3339_millis(end(seconds)).to_string()),
        }
    }
}

impl From<&ClassView> for Class {
    fn from(view: &ClassView) -> Self {
        let ClassView { name, share, queue_depth } = view;
        Self { name: name.as_ref().into(), share: rounded(*share), queue_depth: *queue_depth }
    }
}

impl From<&AnnouncedView> for Announced {
    fn from(view: &AnnouncedView) -> Self {
        Self {
            name: view.name.as_ref().into(),
            requests: view.requests,
            remaining: rounded(view.remaining),
            reset_seconds: view.reset_seconds.map(rounded),
            window_seconds: rounded(view.window_seconds),
        }
    }
}

impl From<NodeView> for Shared {
    fn from(view: NodeView) -> Self {
        Self {
            name: view.name.as_ref().into(),
            per: view.per.as_str(),
            origin: view.origin.as_str(),
            lanes: view.lanes,
            pace_rps: rounded(view.pace),
            limit: view.limit.map(|limit| Limit::new(limit, view.per)),
            queue_depth: view.queue_depth,
            in_flight: view.in_flight,
            paused_seconds: rounded(view.paused_seconds.min(LONGEST_SECONDS)),
        }
    }
}

impl Limit {
    fn new(view: LimitView, per: Level) -> Self {
        Self {
            per: per.as_str(),
            burst: view.burst().map(rounded),
            requests: rounded(view.requests),
            window_seconds: rounded(view.window_seconds),
            model: view.model.as_str(),
            at_least: view.at_least,
            source: view.source.as_str(),
            confidence: rounded(view.confidence),
            says: view.says,
        }
    }
}

/// To a thousandth: more digits only look like knowledge.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Enough to tell a thousand credentials apart.
const HASH_DIGITS: usize = 8;
/// Names in an answer to a name that is not there.
const NAMES_SHOWN: usize = 10;
/// Characters of that name: enough to know it again.
const NAME_SHOWN: usize = 100;
/// Some thirty years: no pause is longer, and every date stays one.
const LONGEST_SECONDS: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CredentialHash, LaneKey};
    use crate::control::{LawName, LimitModel, LimitSource, Mode, NodeOrigin};
    use serde_json::json;

    #[test]
    fn a_name_that_is_not_there_is_not_echoed_at_length() {
        assert_eq!(shown("a\"b"), r#""a\"b""#);
        assert_eq!(shown(&"é".repeat(100)), format!("\"{}\"", "é".repeat(100)));
        let long = shown(&"é".repeat(10_000));
        assert_eq!(long, format!("\"{}\" and so on", "é".repeat(100)));
    }

    fn view(paused_seconds: f64) -> LaneView {
        LaneView {
            name: "messages@3f9a".into(),
            key: LaneKey {
                upstream: "api.example.com:443".into(),
                credential: Some(CredentialHash(0x3f9a_0123_4567_89ab)),
                route: "/v2/messages/{id}".into(),
            },
            law: LawName::Learnt,
            mode: Mode::Adaptive,
            pace: 9.900_04,
            pinned: None,
            limit_per: Level::Route,
            above: vec![NodeView {
                name: "credential@3f9a0123".into(),
                per: Level::Credential,
                origin: NodeOrigin::Found,
                lanes: Some(2),
                queue_depth: 95,
                in_flight: 2,
                pace: 14.9,
                limit: None,
                paused_seconds: 0.0,
            }],
            limit: Some(LimitView {
                requests: 10.0,
                window_seconds: 1.0,
                model: LimitModel::FixedWindow,
                at_least: false,
                source: LimitSource::Learnt,
                confidence: 0.9,
                says: "10/s".into(),
            }),
            announced: vec![AnnouncedView {
                name: "minute".into(),
                requests: 300,
                remaining: 17.0,
                reset_seconds: None,
                window_seconds: 60.0,
            }],
            queue_depth: 90,
            classes: vec![ClassView { name: "production".into(), share: 0.5, queue_depth: 3 }],
            in_flight: 1,
            in_flight_max: Some(8),
            accepted_total: 1_000,
            throttled_total: 3,
            paused_seconds,
        }
    }

    #[test]
    fn a_lane_has_the_fields_that_scripts_rely_on() {
        assert_eq!(
            serde_json::to_value(Lane::new(view(0.0), SystemTime::UNIX_EPOCH)).unwrap(),
            json!({
                "name": "messages@3f9a", "upstream": "api.example.com:443", "route": "/v2/messages/{id}",
                "credential": "3f9a0123", "law": "learnt", "mode": "adaptive", "pace_rps": 9.9, "pinned_rps": null,
                "limit": {
                    "per": "route", "requests": 10.0, "window_seconds": 1.0, "burst": 10.0, "model": "fixed_window",
                    "at_least": false, "source": "learnt",
                    "confidence": 0.9, "says": "10/s",
                },
                "announced": [{
                    "name": "minute", "requests": 300, "remaining": 17.0, "reset_seconds": null, "window_seconds": 60.0,
                }],
                "shared": [{
                    "name": "credential@3f9a0123", "per": "credential", "origin": "found", "lanes": 2, "pace_rps": 14.9,
                    "limit": null, "queue_depth": 95, "in_flight": 2, "paused_seconds": 0.0,
                }],
                "queue_depth": 90, "classes": [{"name": "production", "share": 0.5, "queue_depth": 3}],
                "in_flight": 1, "in_flight_max": 8, "accepted_total": 1000, "throttled_total": 3,
                "paused": false, "paused_seconds": 0.0, "paused_until": null,
            })
        );
    }

    #[test]
    fn a_pause_is_told_with_its_end_if_it_has_one() {
        let paused = |seconds: f64| {
            let lane = serde_json::to_value(Lane::new(view(seconds), SystemTime::UNIX_EPOCH)).unwrap();
            ["paused", "paused_seconds", "paused_until"].map(|field| lane[field].clone())
        };
        assert_eq!(paused(90.25), [json!(true), json!(90.25), json!("1970-01-01T00:01:30.250Z")]);
        assert_eq!(paused(f64::INFINITY), [json!(true), json!(null), json!(null)]);
        assert_eq!(paused(1e300)[2], json!("2001-09-09T01:46:40.000Z"));
    }
}
