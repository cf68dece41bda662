//! How do I look? The admin listener's pages: metrics, health, and what every lane knows.
//!
//! Everything here only reads, but for an operator's orders to a lane. Pages are made for programs and for a person with curl; their JSON is this module's
//! own, so that the core's types can change without anyone's script noticing.

mod access;
mod command;
mod host;
mod lanes;
mod problem;
mod serve;

pub use serve::serve;

use crate::config::Secret;
use crate::gate::Gate;
use crate::telemetry::{Levels, Telemetry};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt;
use std::sync::Arc;

/// What the pages look at.
#[derive(Clone)]
pub struct Admin {
    /// The lanes.
    pub gate: Gate,
    /// What happened.
    pub telemetry: Arc<Telemetry>,
    /// How full the rest of the program is, and whether it is stopping.
    pub levels: Arc<dyn Fn() -> Levels + Send + Sync>,
    /// What an order to a lane has to show; without one, this machine alone may give orders.
    pub token: Option<Secret>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

/// The pages. `loopback`: they are meant for this machine alone, so a request that names another host is refused.
pub fn router(admin: Admin, loopback: bool) -> Router {
    let pages = Router::new()
        .route("/", get(async || INDEX))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/v1/lanes", get(lanes::list))
        .route("/api/v1/lanes/{name}", get(lanes::show).patch(command::patch))
        .with_state(admin);
    let pages = if loopback { pages.layer(middleware::from_fn(host::own_only)) } else { pages };
    pages.layer(middleware::from_fn(host::one_only))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    // With a thousand lanes it is megabytes of text: no worker that moves requests shall wait for it.
    let page = move || admin.telemetry.render(&admin.gate.snapshot(), &(admin.levels)());
    match tokio::task::spawn_blocking(page).await {
        Ok(Ok(text)) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        problem => {
            tracing::error!(?problem, "metrics could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written\n").into_response()
        }
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if (admin.levels)().draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

const INDEX: &str = "\
Tidegate's admin pages:
  /metrics              what happened and how full everything is, for Prometheus
  /healthz              200 while the process lives
  /readyz               200 while new requests are welcome, 503 once it drains
  /api/v1/lanes         every lane: its limit as learnt, its pace, its queue (JSON)
  /api/v1/lanes/{name}  one of them; PATCH pins, pauses, resumes or forgets it (any other body says how)
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{LaneKey, Lanes, LanesSettings, Ticket};
    use crate::gate::clock;
    use crate::observe::NullObserver;
    use access::Peer;
    use axum::body::Body;
    use axum::http::response::Parts;
    use axum::http::{HeaderName, Request, request};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower_service::Service;

    /// Pages over one lane, `messages@none`.
    fn pages(loopback: bool, draining: bool, token: Option<&str>) -> Router {
        let lanes = Lanes::new(LanesSettings::default(), clock::now());
        let gate = Gate::new(lanes, Arc::new(NullObserver));
        let key = LaneKey { upstream: "h:80".into(), credential: None, route: "/messages".into() };
        // It leaves at once; its lane stays.
        drop(gate.enter(&key, Ticket::default()).unwrap());
        let admin = Admin {
            gate,
            telemetry: Arc::new(Telemetry::new().unwrap()),
            levels: Arc::new(move || Levels { draining, ..Levels::default() }),
            token: token.map(|text| Secret::new(text.to_owned())),
        };
        router(admin, loopback)
    }

    async fn ask(mut pages: Router, request: request::Builder, body: &str) -> (Parts, String) {
        let peer = Peer([127, 0, 0, 1].into());
        let request = request.extension(peer).body(Body::from(body.to_owned())).unwrap();
        let (head, body) = pages.call(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(loopback: bool, draining: bool, host: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::HOST, host);
        let (head, body) = ask(pages(loopback, draining, None), request, "").await;
        (head.status, body)
    }

    /// One order, with `with` among its headers.
    async fn patch(pages: Router, path: &str, with: (HeaderName, &str), body: &str) -> (Parts, Value) {
        let request = Request::patch(path).header(header::HOST, "localhost").header(with.0, with.1);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let (head, body) = ask(pages, request, body).await;
        (head, serde_json::from_str(&body).unwrap())
    }

    #[tokio::test]
    async fn health_and_readiness_are_two_things() {
        assert_eq!(get(true, false, "localhost", "/healthz").await.0, StatusCode::OK);
        assert_eq!(get(true, false, "localhost", "/readyz").await.0, StatusCode::OK);
        assert_eq!(get(true, true, "localhost", "/healthz").await.0, StatusCode::OK);
        assert_eq!(get(true, true, "localhost", "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn the_index_names_the_pages_and_they_are_there() {
        let (_, index) = get(true, false, "localhost", "/").await;
        for page in index.split_whitespace().filter(|word| word.starts_with('/')) {
            let page = page.replace("{name}", "messages@none");
            assert_eq!(get(true, false, "127.0.0.1:9464", &page).await.0, StatusCode::OK, "{page}");
        }
    }

    #[tokio::test]
    async fn on_loopback_a_foreign_host_name_is_refused() {
        assert_eq!(get(true, false, "evil.example:9464", "/metrics").await.0, StatusCode::FORBIDDEN);
        assert_eq!(get(false, false, "tidegate.internal", "/metrics").await.0, StatusCode::OK);
        for hosts in [0, 2] {
            let mut request = Request::get("/metrics");
            for _ in 0..hosts {
                request = request.header(header::HOST, "localhost");
            }
            let (head, _) = ask(pages(false, false, None), request, "").await;
            assert_eq!(head.status, StatusCode::BAD_REQUEST, "{hosts} hosts");
        }
    }

    #[tokio::test]
    async fn a_lane_is_found_by_its_name_however_it_is_written() {
        for path in ["/api/v1/lanes/messages@none", "/api/v1/lanes/messages%40none"] {
            let (status, body) = get(true, false, "localhost", path).await;
            assert!(status == StatusCode::OK && body.starts_with(r#"{"name":"messages@none","#), "{body}");
        }
        let (status, body) = get(true, false, "localhost", "/api/v1/lanes/message@none").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains("there are: messages@none"), "{body}");
    }

    #[tokio::test]
    async fn an_order_is_answered_with_the_lane_as_it_is_then() {
        let nothing = (header::ACCEPT, "*/*");
        let pages = pages(true, false, None);
        let path = "/api/v1/lanes/messages%40none";
        let order = async |body| patch(pages.clone(), path, nothing.clone(), body).await;
        let (head, lane) = order(r#"{"action":"pin","rate":"20/s"}"#).await;
        assert_eq!(
            (head.status, &lane["pinned_rps"], &lane["pace_rps"]),
            (StatusCode::OK, &json!(20.0), &json!(20.0))
        );
        let (_, lane) = order(r#"{"action":"pause"}"#).await;
        assert_eq!((&lane["paused"], &lane["paused_seconds"]), (&json!(true), &json!(null)));
        let (_, lane) = order(r#"{"action":"resume"}"#).await;
        assert_eq!((&lane["paused"], &lane["pinned_rps"]), (&json!(false), &json!(null)));
        assert_eq!(order(r#"{"action":"forget"}"#).await.0.status, StatusCode::OK);
        let (head, problem) = order(r#"{"action":"stop"}"#).await;
        assert_eq!((head.status, &problem["status"]), (StatusCode::BAD_REQUEST, &json!(400)));
        assert_eq!(head.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(order(&" ".repeat(5_000)).await.0.status, StatusCode::PAYLOAD_TOO_LARGE);
        let elsewhere =
            patch(pages.clone(), "/api/v1/lanes/x", nothing.clone(), r#"{"action":"forget"}"#).await;
        assert_eq!(elsewhere.0.status, StatusCode::NOT_FOUND);
        let text =
            Request::patch(path).header(header::HOST, "localhost").header(header::CONTENT_TYPE, "text/plain");
        assert_eq!(ask(pages, text, "{}").await.0.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[tokio::test]
    async fn an_order_shows_the_token_if_there_is_one() {
        let order = async |with| {
            let pages = pages(true, false, Some("s3cret"));
            patch(pages, "/api/v1/lanes/messages@none", with, r#"{"action":"forget"}"#).await
        };
        assert_eq!(order((header::AUTHORIZATION, "Bearer s3cret")).await.0.status, StatusCode::OK);
        for without in [(header::AUTHORIZATION, "Bearer secret"), (header::ACCEPT, "*/*")] {
            let (head, problem) = order(without).await;
            assert_eq!(head.status, StatusCode::UNAUTHORIZED);
            assert_eq!(head.headers[header::WWW_AUTHENTICATE], "Bearer");
            assert!(problem["detail"].as_str().unwrap().contains("--admin-token-file"), "{problem}");
        }
    }
}
