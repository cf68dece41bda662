//! `/api/v1/lanes`: what every lane knows and does, as JSON.

use super::Admin;
use crate::control::{LaneView, LimitView};
use axum::Json;
use axum::extract::State;
use serde::Serialize;

pub(super) async fn list(State(admin): State<Admin>) -> Json<List> {
    Json(List { lanes: admin.gate.snapshot().into_iter().map(Lane::from).collect() })
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct List {
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize)]
struct Lane {
    name: String,
    upstream: String,
    /// A path with its identifiers folded.
    route: String,
    /// A short keyed hash; `null` for requests without a credential.
    credential: Option<String>,
    pace_rps: f64,
    /// `null` while none is known.
    limit: Option<Limit>,
    queue_depth: usize,
    in_flight: usize,
    accepted_total: u64,
    throttled_total: u64,
    paused_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Limit {
    requests: f64,
    window_seconds: f64,
    /// 0 to 1.
    confidence: f64,
    /// For a person.
    says: String,
}

impl From<LaneView> for Lane {
    fn from(view: LaneView) -> Self {
        Self {
            name: view.name.as_ref().into(),
            upstream: view.key.upstream.as_ref().into(),
            route: view.key.route.as_ref().into(),
            credential: view.key.credential.map(|hash| hash.short(HASH_DIGITS)),
            pace_rps: rounded(view.pace),
            limit: view.limit.map(Limit::from),
            queue_depth: view.queue_depth,
            in_flight: view.in_flight,
            accepted_total: view.accepted_total,
            throttled_total: view.throttled_total,
            paused_seconds: rounded(view.paused_seconds),
        }
    }
}

impl From<LimitView> for Limit {
    fn from(view: LimitView) -> Self {
        Self {
            requests: rounded(view.requests),
            window_seconds: rounded(view.window_seconds),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CredentialHash, LaneKey};
    use crate::control::{LawName, LimitModel, LimitSource};
    use serde_json::json;

    #[test]
    fn a_lane_has_the_fields_that_scripts_rely_on() {
        let view = LaneView {
            name: "messages@3f9a".into(),
            key: LaneKey {
                upstream: "api.example.com:443".into(),
                credential: Some(CredentialHash(0x3f9a_0123_4567_89ab)),
                route: "/v2/messages/{id}".into(),
            },
            law: LawName::Learnt,
            pace: 9.900_04,
            pinned: None,
            limit: Some(LimitView {
                requests: 10.0,
                window_seconds: 1.0,
                model: LimitModel::FixedWindow,
                source: LimitSource::Learnt,
                confidence: 0.9,
                says: "10/s".into(),
            }),
            queue_depth: 90,
            in_flight: 1,
            accepted_total: 1_000,
            throttled_total: 3,
            paused_seconds: 0.0,
        };
        assert_eq!(
            serde_json::to_value(Lane::from(view)).unwrap(),
            json!({
                "name": "messages@3f9a", "upstream": "api.example.com:443", "route": "/v2/messages/{id}",
                "credential": "3f9a0123", "pace_rps": 9.9,
                "limit": {"requests": 10.0, "window_seconds": 1.0, "confidence": 0.9, "says": "10/s"},
                "queue_depth": 90, "in_flight": 1, "accepted_total": 1000, "throttled_total": 3,
                "paused_seconds": 0.0,
            })
        );
    }
}
