//! The simulated API over a socket, shaped like Genesys Cloud: for `tidegate sim`, the demo and tests.
//!
//! Any method and path is answered, every answer carries `ININ-Correlation-Id`, and a 429 looks as the platform's
//! does since 2021. Whatever has arrived is decided and counted, even if its client leaves meanwhile.
//!
//! # Why
//! The limit is asked in the middle of a request's time, not at its ends: a real API sees a request after the way
//! there, and that way's jitter is a part of what a pace has to bear. Bodies are read and thrown away as they come,
//! so memory does not depend on them. Connections are bounded by what the process may open.

use crate::gate::clock;
use crate::sim::account::{Account, Stats};
use crate::sim::chance::Chance;
use crate::sim::limits::Refused;
use crate::sim::settings::{KeyBy, RetryAfter, SimSettings};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// A refusal costs an API next to nothing.
const REFUSAL_LATENCY: Duration = Duration::from_millis(2);
/// A request body that brings nothing for so long is given up.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// Longer latencies and jitters are read as this.
const LATENCY_MAX: Duration = Duration::from_hours(1);
/// As the platform's default for client credentials.
const TOKEN_LIFE_SECONDS: u32 = 86_400;
const CORRELATION_ID: HeaderName = HeaderName::from_static("inin-correlation-id");
const MESSAGES: &str = "/api/v2/conversations/messages";

/// A simulated API that has its address and waits to be served.
#[derive(Debug)]
pub struct Sim {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Looks into a simulated API's account from the same process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SimAccount {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: SimSettings,
    origin: Instant,
    /// Keys the hash of credentials, which are kept nowhere.
    hasher: RandomState,
    state: Mutex<SimState>,
}

#[derive(Debug)]
struct SimState {
    account: Account,
    chance: Chance,
}

/// What `/__sim/stats` tells.
#[derive(Serialize)]
struct Told {
    limits: Vec<String>,
    model: String,
    key: String,
    path: String,
    #[serde(flatten)]
    stats: Stats,
}

/// The platform's normalised 429, member by member in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttled<'a> {
    message: String,
    code: &'static str,
    status: u16,
    context_id: &'a str,
    details: [(); 0],
    errors: [(); 0],
}

impl Sim {
    /// Takes the address in `settings`. Requests wait in the backlog until [`Sim::serve`].
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(settings: SimSettings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let state = SimState {
            account: Account::new(&settings.limits, settings.limits_model()),
            chance: Chance::new(settings.seed),
        };
        let shared =
            Shared { settings, origin: clock::now(), hasher: RandomState::new(), state: Mutex::new(state) };
        Ok(Self { listener, address, shared: Arc::new(shared) })
    }

    /// The address that it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account, for use while it serves.
    pub fn account(&self) -> SimAccount {
        SimAccount { shared: Arc::clone(&self.shared) }
    }

    /// Serves until `shutdown` is over and the requests that have come are answered.
    ///
    /// # Errors
    /// None that is known: accept errors are waited out.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let router = Router::new()
            .route("/__sim/stats", get(stats))
            .route("/__sim/reset", post(reset))
            .route("/oauth/token", post(token).fallback(api))
            .fallback(api)
            .with_state(self.shared);
        let listener = self.listener.tap_io(|stream| {
            // Without it a small answer may wait 40 ms for an acknowledgement; that would only be slow, not wrong.
            drop(stream.set_nodelay(true));
        });
        axum::serve(listener, router).with_graceful_shutdown(shutdown).await
    }
}

impl SimAccount {
    /// The account now.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Zeroes the account; what the limits have seen stays.
    pub fn reset(&self) {
        self.shared.reset();
    }
}

impl Shared {
    fn now(&self) -> f64 {
        clock::now().saturating_duration_since(self.origin).as_secs_f64()
    }

    fn lock(&self) -> MutexGuard<'_, SimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> Stats {
        self.lock().account.stats(self.now())
    }

    fn reset(&self) {
        self.lock().account.reset(self.now());
    }

    /// How long the way there and the way back take this time, and the request's id.
    fn trip(&self) -> (Duration, Duration, String) {
        let half = |time: Duration| time.min(LATENCY_MAX) / 2;
        let (latency, jitter) = (half(self.settings.latency), half(self.settings.jitter));
        let mut state = self.lock();
        let there = latency + state.chance.exponential(jitter);
        let back = latency + state.chance.exponential(jitter);
        (there, back, state.chance.uuid())
    }

    fn key(&self, headers: &HeaderMap) -> u64 {
        match self.settings.key {
            KeyBy::Token => {
                self.hasher.hash_one(headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes))
            }
            KeyBy::None => 0,
        }
    }
}

/// A request that has arrived. It is decided exactly once: on its turn, or when its client leaves before.
struct Arrival {
    shared: Arc<Shared>,
    /// Whose limits it counts against; none when it is free.
    key: Option<u64>,
    decided: bool,
}

impl Arrival {
    fn new(shared: &Arc<Shared>, head: &Parts) -> Self {
        let limited = head.uri.path().starts_with(&shared.settings.path);
        let key = limited.then(|| shared.key(&head.headers));
        Self { shared: Arc::clone(shared), key, decided: false }
    }

    fn decide(mut self) -> Result<(), Refused> {
        self.ask()
    }

    fn ask(&mut self) -> Result<(), Refused> {
        self.decided = true;
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if let Some(key) = self.key {
            state.account.admit(now, key)
        } else {
            state.account.free();
            Ok(())
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.decided {
            // Nobody hears the verdict, but the request has been sent: it counts.
            let _unheard = self.ask();
        }
    }
}

async fn stats(State(shared): State<Arc<Shared>>) -> Json<Told> {
    let SimSettings { limits, model, key, path, .. } = &shared.settings;
    Json(Told {
        limits: limits.iter().map(ToString::to_string).collect(),
        model: model.to_string(),
        key: key.to_string(),
        path: path.clone(),
        stats: shared.stats(),
    })
}

async fn reset(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.reset();
    StatusCode::NO_CONTENT
}

async fn token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (there, back, id) = shared.trip();
    swallow(&shared, request.into_body()).await;
    pass(there + back).await;
    let mut state = shared.lock();
    state.account.token();
    let fresh = format!("{:016x}{:016x}", state.chance.bits(), state.chance.bits());
    drop(state);
    let body = json!({"access_token": fresh, "token_type": "bearer", "expires_in": TOKEN_LIFE_SECONDS});
    answer(StatusCode::OK, &id, body)
}

async fn api(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (there, back, id) = shared.trip();
    let (head, body) = request.into_parts();
    let arrival = Arrival::new(&shared, &head);
    pass(there).await;
    let verdict = arrival.decide();
    swallow(&shared, body).await;
    match verdict {
        Ok(()) => {
            pass(back).await;
            accepted(&head, &id, &shared.lock().chance.uuid())
        }
        Err(refused) => {
            pass(back.min(REFUSAL_LATENCY)).await;
            throttled(shared.settings.retry_after, refused, &id)
        }
    }
}

fn accepted(head: &Parts, correlation: &str, id: &str) -> Response {
    let path = head.uri.path();
    // The platform takes in messages for later (202), and says what a call has made (200).
    let later = head.method == Method::POST && path.starts_with(MESSAGES) && path != MESSAGES;
    let status = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
    let uri = format!("{path}/{id}");
    answer(status, correlation, json!({"id": id, "selfUri": uri}))
}

fn throttled(retry_after: RetryAfter, refused: Refused, correlation: &str) -> Response {
    let reset = seconds_up(refused.reset_seconds);
    let (said, header) = match retry_after {
        RetryAfter::Seconds(seconds) => (u64::from(seconds), true),
        RetryAfter::Reset => (reset, true),
        RetryAfter::None => (reset, false),
    };
    let body = Throttled {
        message: format!("Rate limit exceeded the maximum. Retry the request in [{said}] seconds"),
        code: "too.many.requests.retry.after",
        status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
        context_id: correlation,
        details: [],
        errors: [],
    };
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, correlation, body);
    if header {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(said));
    }
    response
}

fn answer(status: StatusCode, correlation: &str, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(correlation) = HeaderValue::from_str(correlation) {
        response.headers_mut().insert(CORRELATION_ID, correlation);
    }
    response
}

/// Whole seconds that are not too short, at least 1. A microsecond over is a float's error, not a second.
fn seconds_up(seconds: f64) -> u64 {
    Duration::try_from_secs_f64((seconds - 1e-6).ceil()).map_or(1, |up| up.as_secs()).max(1)
}

/// Reads a request body to its end and keeps only its size.
async fn swallow(shared: &Shared, mut body: Body) {
    loop {
        match tokio::time::timeout(BODY_IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
                shared.lock().account.body(bytes);
            }
            Ok(None) => return,
            Ok(Some(Err(_))) | Err(_) => {
                shared.lock().account.body_cut();
                return;
            }
        }
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;
    use hyper_util::rt::TokioIo;
    use serde_json::Value;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    fn quick(limit: &str) -> SimSettings {
        SimSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            limits: vec![limit.parse().unwrap()],
            model: crate::sim::ModelName::Anchored,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            ..SimSettings::default()
        }
    }

    struct Answer {
        status: u16,
        headers: HeaderMap,
        text: String,
        body: Value,
    }

    impl Answer {
        fn header(&self, name: &str) -> Option<&str> {
            self.headers.get(name).map(|value| value.to_str().unwrap())
        }
    }

    async fn call(at: SocketAddr, method: &str, path: &str, token: &str, body: &'static str) -> Answer {
        let stream = TcpStream::connect(at).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "api.example")
            .header("authorization", token)
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap();
        let exchange = async {
            let (head, body) = client.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            drop(client);
            let text = String::from_utf8(body.to_vec()).unwrap();
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            Answer { status: head.status.as_u16(), headers: head.headers, text, body }
        };
        let (answer, ended) = tokio::join!(exchange, connection);
        ended.unwrap();
        answer
    }

    /// Runs `test` against a simulated API.
    fn with_sim(settings: SimSettings, test: impl AsyncFnOnce(SocketAddr, SimAccount)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sim = Sim::bind(settings).await.unwrap();
            let (at, account) = (sim.address(), sim.account());
            tokio::select! {
                ended = sim.serve(std::future::pending()) => panic!("served until {ended:?}"),
                () = test(at, account) => (),
            }
        });
    }

    #[test]
    fn calls_are_answered_as_the_platform_does() {
        with_sim(quick("3/h"), async |at, account| {
            let made = call(at, "POST", MESSAGES, "t", "{}").await;
            assert_eq!(made.status, 200);
            assert_eq!(made.body["id"].as_str().unwrap().len(), 36);
            let inbound = call(at, "POST", &format!("{MESSAGES}/7/inbound/open/message"), "t", "{}").await;
            assert_eq!(inbound.status, 202);
            let odd = call(at, "PROPFIND", "/anything?x=1", "t", "").await;
            assert_eq!((odd.status, odd.header("inin-correlation-id").unwrap().len()), (200, 36));

            let refused = call(at, "POST", MESSAGES, "t", "{}").await;
            assert_eq!(refused.status, 429);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.header("content-type"), Some("application/json"));
            let id = refused.header("inin-correlation-id").unwrap();
            let expected = format!(
                r#"{{"message":"Rate limit exceeded the maximum. Retry the request in [1] seconds","code":"too.many.requests.retry.after","status":429,"contextId":"{id}","details":[],"errors":[]}}"#
            );
            assert_eq!(refused.text, expected, "byte for byte as announced in 2021");
            assert_eq!((account.stats().accepted, account.stats().refused), (3, 1));
        });
    }

    #[test]
    fn retry_after_tells_the_reset_or_nothing() {
        with_sim(SimSettings { retry_after: RetryAfter::Reset, ..quick("1/h") }, async |at, _| {
            assert_eq!(call(at, "GET", "/", "t", "").await.status, 200);
            let refused = call(at, "GET", "/", "t", "").await;
            assert_eq!(refused.header("retry-after"), Some("3600"));
            assert!(refused.body["message"].as_str().unwrap().contains("[3600] seconds"));
        });
        with_sim(SimSettings { retry_after: RetryAfter::None, ..quick("1/h") }, async |at, _| {
            assert_eq!(call(at, "GET", "/", "t", "").await.status, 200);
            let refused = call(at, "GET", "/", "t", "").await;
            assert_eq!((refused.status, refused.header("retry-after")), (429, None));
        });
    }

    #[test]
    fn seconds_are_rounded_up_and_float_errors_are_not() {
        for (seconds, told) in [(0.0, 1), (0.2, 1), (1.0, 1), (1.000_000_001, 1), (1.01, 2), (3_599.5, 3_600)]
        {
            assert_eq!(seconds_up(seconds), told, "{seconds}");
        }
    }

    #[test]
    fn every_token_has_limits_of_its_own_unless_told_otherwise() {
        with_sim(quick("1/h"), async |at, account| {
            for (token, status) in [("one", 200), ("one", 429), ("two", 200), ("two", 429)] {
                assert_eq!(call(at, "GET", "/x", token, "").await.status, status);
            }
            let stats = account.stats();
            let told: Vec<_> = stats.keys.iter().map(|key| (key.index, key.accepted, key.refused)).collect();
            assert_eq!(told, [(0, 1, 1), (1, 1, 1)]);
        });
        with_sim(SimSettings { key: KeyBy::None, ..quick("1/h") }, async |at, _| {
            assert_eq!(call(at, "GET", "/x", "one", "").await.status, 200);
            assert_eq!(call(at, "GET", "/x", "two", "").await.status, 429);
        });
    }

    #[test]
    fn what_lies_outside_the_prefix_and_tokens_are_free() {
        with_sim(SimSettings { path: MESSAGES.to_owned(), ..quick("1/h") }, async |at, account| {
            assert_eq!(call(at, "POST", MESSAGES, "t", "{}").await.status, 200);
            assert_eq!(call(at, "POST", MESSAGES, "t", "{}").await.status, 429);
            for _ in 0..3 {
                assert_eq!(call(at, "GET", "/api/v2/analytics", "t", "").await.status, 200);
            }
            let one = call(at, "POST", "/oauth/token", "", "grant_type=client_credentials").await;
            let two = call(at, "POST", "/oauth/token", "", "grant_type=client_credentials").await;
            assert_eq!((one.status, one.body["token_type"].as_str()), (200, Some("bearer")));
            assert!(one.body["expires_in"].as_u64().unwrap() > 0);
            assert_ne!(one.body["access_token"], two.body["access_token"]);
            let stats = account.stats();
            assert_eq!((stats.requests, stats.free, stats.tokens), (5, 3, 2));
        });
    }

    #[test]
    fn the_account_is_told_and_zeroed_over_http() {
        with_sim(quick("2/h"), async |at, account| {
            for _ in 0..4 {
                call(at, "POST", "/a", "secret", "0123456789").await;
            }
            let told = call(at, "GET", "/__sim/stats", "", "").await.body;
            assert_eq!(told["limits"], json!(["2/h"]));
            assert_eq!((&told["model"], &told["key"]), (&json!("anchored"), &json!("token")));
            assert_eq!(
                (&told["requests"], &told["accepted"], &told["refused"]),
                (&json!(4), &json!(2), &json!(2))
            );
            assert_eq!((&told["refused_share"], &told["body_bytes"]), (&json!(0.5), &json!(40)));
            assert!(!told.to_string().contains("secret"));
            assert_eq!(call(at, "POST", "/__sim/reset", "", "").await.status, 204);
            let stats = account.stats();
            assert_eq!((stats.requests, stats.body_bytes, stats.keys.len()), (0, 0, 0));
        });
    }

    #[test]
    fn a_refusal_does_without_the_way_back() {
        let settings = SimSettings { latency: Duration::from_millis(600), ..quick("1/h") };
        with_sim(settings, async |at, _| {
            for (status, least, most) in [(200, 600, 60_000), (429, 300, 600)] {
                let start = clock::now();
                assert_eq!(call(at, "GET", "/", "t", "").await.status, status);
                let took = clock::now() - start;
                assert!(
                    took >= Duration::from_millis(least) && took < Duration::from_millis(most),
                    "{took:?}"
                );
            }
        });
    }

    #[test]
    fn a_request_whose_client_leaves_still_counts() {
        let settings = SimSettings { latency: Duration::from_mins(10), ..quick("1/h") };
        with_sim(settings, async |at, account| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(stream);
            let patience = clock::now() + Duration::from_secs(10);
            while account.stats().accepted == 0 {
                assert!(clock::now() < patience, "the request is lost");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }

    #[test]
    fn a_body_that_breaks_off_is_told() {
        with_sim(quick("1/h"), async |at, account| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabcd").await.unwrap();
            drop(stream);
            let patience = clock::now() + Duration::from_secs(10);
            while account.stats().bodies_cut == 0 {
                assert!(clock::now() < patience, "nobody noticed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!((account.stats().accepted, account.stats().body_bytes), (1, 4));
        });
    }

    #[tokio::test]
    async fn shutdown_answers_what_has_come() {
        let sim =
            Sim::bind(SimSettings { latency: Duration::from_millis(300), ..quick("1/h") }).await.unwrap();
        let (at, account) = (sim.address(), sim.account());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let client = async {
            tokio::join!(call(at, "GET", "/", "t", ""), async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                stop.send(()).unwrap();
            })
            .0
        };
        let serve = sim.serve(async {
            drop(stopped.await);
        });
        let (answer, served) = tokio::join!(client, serve);
        assert_eq!((answer.status, account.stats().accepted), (200, 1));
        served.unwrap();
        assert!(TcpStream::connect(at).await.is_err());
    }
}
