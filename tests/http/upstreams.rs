//! Several upstreams behind one door, and the operator's rules for what shares a lane.

use super::client::{ask, request};
use super::origin::{Origin, Reply, Seen, ok, reply};
use super::through::{Through, fixed};
use http::StatusCode;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate::config::{Config, LaneMatch, Per, RefusalSign, ReplayPolicy, RouteSettings, UpstreamSettings};

async fn named(name: &'static str) -> Origin {
    Origin::start(move |seen| ok(&format!("{name} {}", seen.line))).await
}

fn upstream(origin: &Origin, prefix: Option<&str>) -> UpstreamSettings {
    UpstreamSettings {
        prefix: prefix.map(str::to_owned),
        ..UpstreamSettings::new(format!("http://{}", origin.address).parse().unwrap())
    }
}

fn config(upstreams: Vec<UpstreamSettings>) -> Config {
    let mut config = Config::new(upstreams[0].address.clone());
    config.upstreams = upstreams;
    config.lanes = fixed(10_000.0);
    config
}

#[tokio::test]
async fn a_request_finds_its_upstream_by_prefix_host_or_authority() {
    let (api, login) = (named("api").await, named("login").await);
    let through = Through::of(&config(vec![upstream(&api, None), upstream(&login, Some("/login"))]));
    for (target, host, expected) in [
        ("/users?x=%2F", "proxy.test", "api GET /users?x=%2F"),
        ("/login/oauth/token?a=/b", "proxy.test", "login GET /oauth/token?a=/b"),
        ("/logins", "proxy.test", "api GET /logins"),
        ("/users", &login.address.to_string(), "login GET /users"),
        (&format!("http://{}/login/x", api.address), "proxy.test", "api GET /login/x"),
        (&format!("http://{}/login/x", login.address), "proxy.test", "login GET /login/x"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = ask(through.address, head).await;
        assert_eq!((response.status, response.text().as_str()), (200, expected), "{target} {host}");
    }
    let host = login.address.to_string();
    assert!(login.seen().iter().all(|seen| seen.field("host") == Some(&host)), "each gets its own name");
    let lanes = through.gate.snapshot();
    let keys: Vec<_> = lanes.iter().map(|lane| (&*lane.key.upstream, &*lane.key.route)).collect();
    let (api, login) = (api.address.to_string(), login.address.to_string());
    for key in [(&*api, "/users"), (&*login, "/oauth/token"), (&*login, "/users"), (&*login, "/login/x")] {
        assert!(keys.contains(&key), "{key:?} in {keys:?}");
    }
}

#[tokio::test]
async fn what_names_no_upstream_is_refused_with_the_names_of_those_there_are() {
    let api = named("api").await;
    let mut upstreams = vec![upstream(&api, None)];
    upstreams.extend((1..5).map(|i| UpstreamSettings::new(format!("https://r{i}.test").parse().unwrap())));
    let through = Through::of(&config(upstreams));
    let response = ask(through.address, request("GET", "http://elsewhere.test/", "", "")).await;
    assert_eq!(response.status, 403);
    let expected = format!("only to http://{}, https://r1.test, https://r2.test and 2 more", api.address);
    assert!(response.text().contains(&expected), "{}", response.text());
    assert_eq!(api.seen().len(), 0);
}

/// A login that refuses as Genesys Cloud's does: with a 400.
async fn login(body: &'static str) -> Origin {
    let refused = AtomicBool::new(false);
    Origin::start(move |_: &Seen| -> Reply {
        if refused.swap(true, Ordering::Relaxed) {
            ok("token")
        } else {
            reply("400 Bad Request", "Retry-After: 0\r\nContent-Type: application/json\r\n", body)
        }
    })
    .await
}

fn token_route() -> RouteSettings {
    RouteSettings {
        name: "token".into(),
        upstream: None,
        methods: Vec::new(),
        path: "/oauth/token".parse().unwrap(),
        refusal: Some(RefusalSign { status: StatusCode::BAD_REQUEST, body: "rate limit exceeded".into() }),
    }
}

#[tokio::test]
async fn a_route_s_own_refusal_is_waited_out_like_a_429() {
    const LIMITED: &str = r#"{"error":"invalid_request","description":"Rate limit exceeded; try later"}"#;
    const WRONG: &str = r#"{"error":"invalid_client"}"#;
    for (body, path, policy, status) in [
        (LIMITED, "/oauth/token", ReplayPolicy::All, 200),
        (LIMITED, "/oauth/token", ReplayPolicy::Idempotent, 400),
        (LIMITED, "/other", ReplayPolicy::All, 400),
        (WRONG, "/oauth/token", ReplayPolicy::All, 400),
    ] {
        let origin = login(body).await;
        let mut config = config(vec![upstream(&origin, None)]);
        config.routes = vec![token_route()];
        config.proxy.replay_on_429 = policy;
        let through = Through::of(&config);
        let response = ask(through.address, request("POST", path, "", "grant")).await;
        assert_eq!(response.status, status, "{body} {path} {policy:?}");
        if status == 400 {
            assert_eq!(response.text(), body, "it reaches the client as it came");
        }
        let throttled: u64 = through.gate.snapshot().iter().map(|lane| lane.throttled_total).sum();
        assert_eq!(throttled, u64::from(body == LIMITED && path == "/oauth/token"), "{body} {path}");
    }
}

#[tokio::test]
async fn routes_of_one_lane_share_it_per_credential_or_all_together() {
    let origin = named("api").await;
    for (per, lanes) in [(Per::Credential, 2), (Per::Upstream, 1)] {
        let mut config = config(vec![upstream(&origin, None)]);
        config.lane_matches = vec![LaneMatch { name: "all".into(), upstream: None, routes: Vec::new(), per }];
        let through = Through::of(&config);
        for (path, token) in [("/a", "x"), ("/b", "x"), ("/a", "y"), ("/c/42", "y")] {
            let fields = format!("Authorization: Bearer {token}\r\n");
            assert_eq!(ask(through.address, request("GET", path, &fields, "")).await.status, 200);
        }
        let snapshot = through.gate.snapshot();
        assert_eq!(snapshot.len(), lanes, "{per:?}");
        assert!(snapshot.iter().all(|lane| &*lane.key.route == "all"), "{per:?}");
    }
}
