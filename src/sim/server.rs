//! The simulated API over a socket, shaped like Genesys Cloud: for `tidegate sim`, the demo and tests.
//!
//! Any method and path is answered, every answer carries `ININ-Correlation-Id`, and a 429 looks as the platform's
//! does since 2021. Whatever has arrived is decided and counted, even if its client leaves meanwhile. A request is
//! under way until its answer is made or its client leaves.
//!
//! # Why
//! The limit is asked in the middle of a request's time, not at its ends: a real API sees a request after the way
//! there, and that way's jitter is a part of what a pace has to bear. Bodies are read and thrown away as they come,
//! so memory does not depend on them. Connections are bounded by what the process may open.

use super::account::{Account, Stats};
use super::answer::{accepted, announce, answer, throttled};
use super::chance::Chance;
use super::limits::{Announced, Refused};
use super::settings::SimSettings;
use super::tls::{Identity, TlsListener};
use super::words::{KeyBy, ModelName};
use crate::gate::clock;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{Json, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// A simulated API that has its address and waits to be served.
pub struct Sim {
    listener: TcpListener,
    address: SocketAddr,
    identity: Option<Identity>,
    shared: Arc<Shared>,
}

/// Why a simulated API could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its address could not be had.
    #[error("the simulated API cannot listen: {0}")]
    Address(#[source] io::Error),
    /// Its certificate could not be made or written.
    #[error("cannot write the certificate of --tls into {}: {cause}", folder.display())]
    Certificate {
        /// Where it was to go.
        folder: PathBuf,
        /// What came between.
        #[source]
        cause: io::Error,
    },
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

impl Sim {
    /// Takes the address in `settings`. Requests wait in the backlog until [`Sim::serve`].
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate cannot be written.
    pub async fn bind(settings: SimSettings) -> Result<Self, BindError> {
        let listener = TcpListener::bind(settings.listen).await.map_err(BindError::Address)?;
        let address = listener.local_addr().map_err(BindError::Address)?;
        let issue = |folder: &PathBuf| {
            Identity::issue(address, folder)
                .map_err(|cause| BindError::Certificate { folder: folder.clone(), cause })
        };
        let identity = settings.tls.as_ref().map(issue).transpose()?;
        let state = SimState { account: Account::new(&settings), chance: Chance::new(settings.seed) };
        let shared =
            Shared { settings, origin: clock::now(), hasher: RandomState::new(), state: Mutex::new(state) };
        Ok(Self { listener, address, identity, shared: Arc::new(shared) })
    }

    /// The address that it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The PEM file of its certificate, if it speaks HTTPS.
    pub fn certificate(&self) -> Option<&Path> {
        self.identity.as_ref().map(|identity| identity.certificate.as_path())
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
        if let Some(Identity { acceptor, .. }) = self.identity {
            let listener = TlsListener::new(self.listener, acceptor);
            return axum::serve(listener, router).with_graceful_shutdown(shutdown).await;
        }
        let listener = self.listener.tap_io(|stream| {
            // Without it a small answer may wait 40 ms for an acknowledgement; that would only be slow, not wrong.
            drop(stream.set_nodelay(true));
        });
        axum::serve(listener, router).with_graceful_shutdown(shutdown).await
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("address", &self.address).finish_non_exhaustive()
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
        let id = state.chance.uuid();
        match self.settings.model {
            // All of the time is the API's own: so many at once and so long each give the rate that one expects.
            ModelName::Concurrency => (Duration::ZERO, there + back, id),
            _ => (there, back, id),
        }
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

/// What became of a request.
struct Verdict {
    /// Let in, and under way for as long as this is kept; or refused.
    outcome: Result<UnderWay, Refused>,
    /// What its limits announce.
    announced: Vec<Announced>,
}

/// A request that was let in and is not yet over.
struct UnderWay {
    shared: Arc<Shared>,
    key: Option<u64>,
}

impl Arrival {
    fn new(shared: &Arc<Shared>, head: &Parts) -> Self {
        let limited = head.uri.path().starts_with(&shared.settings.path);
        let key = limited.then(|| shared.key(&head.headers));
        Self { shared: Arc::clone(shared), key, decided: false }
    }

    fn decide(mut self) -> Verdict {
        self.ask()
    }

    fn ask(&mut self) -> Verdict {
        self.decided = true;
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let (outcome, announced) = if let Some(key) = self.key {
            (state.account.admit(now, key), state.account.announced(now, key))
        } else {
            state.account.free();
            (Ok(()), Vec::new())
        };
        drop(state);
        let under_way = || UnderWay { shared: Arc::clone(&self.shared), key: self.key };
        Verdict { outcome: outcome.map(|()| under_way()), announced }
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

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.lock().account.release(key);
        }
    }
}

async fn stats(State(shared): State<Arc<Shared>>) -> Json<Told> {
    let SimSettings { model, key, path, .. } = &shared.settings;
    Json(Told {
        limits: shared.settings.allowed_at(shared.now()),
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
    let mut response = match verdict.outcome {
        Ok(_under_way) => {
            pass(back).await;
            accepted(&head, &id, &shared.lock().chance.uuid())
        }
        Err(refused) => {
            pass(back.min(REFUSAL_LATENCY)).await;
            throttled(&shared.settings, refused, &id)
        }
    };
    announce(shared.settings.headers, &verdict.announced, response.headers_mut());
    response
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
    use crate::sim::answer::MESSAGES;
    use crate::sim::{HeaderForm, RetryAfter};
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
            model: ModelName::Anchored,
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

    async fn eventually(mut holds: impl FnMut() -> bool) {
        let patience = clock::now() + Duration::from_secs(10);
        while !holds() {
            assert!(clock::now() < patience, "it does not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
    fn limited_answers_announce_the_limit_and_free_ones_do_not() {
        let fields = |answer: &Answer, names: [&str; 3]| {
            names.map(|name| answer.header(name).unwrap_or("none").to_owned())
        };
        let names = ["inin-ratelimit-count", "inin-ratelimit-allowed", "inin-ratelimit-reset"];
        let settings =
            SimSettings { headers: HeaderForm::Genesys, path: MESSAGES.to_owned(), ..quick("2/h") };
        with_sim(settings, async |at, _| {
            for (status, count) in [(200, "1"), (200, "2"), (429, "2")] {
                let answer = call(at, "POST", MESSAGES, "t", "{}").await;
                assert_eq!(
                    (answer.status, fields(&answer, names)),
                    (status, [count, "2", "3600"].map(Into::into))
                );
            }
            assert_eq!(fields(&call(at, "GET", "/free", "t", "").await, names), ["none"; 3]);
        });
        with_sim(SimSettings { headers: HeaderForm::Ietf, ..quick("1/h") }, async |at, _| {
            for (status, left) in [(200, "\"default\";r=0;t=3600"), (429, "\"default\";r=0;t=3600")] {
                let answer = call(at, "GET", "/", "t", "").await;
                assert_eq!((answer.status, answer.header("ratelimit")), (status, Some(left)));
                assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=1;w=3600"));
            }
        });
        let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        with_sim(SimSettings { headers: HeaderForm::XRateLimit, ..quick("2/h") }, async |at, _| {
            for (status, left) in [(200, "1"), (200, "0"), (429, "0")] {
                let answer = call(at, "GET", "/", "t", "").await;
                assert_eq!(
                    (answer.status, fields(&answer, names)),
                    (status, ["2", left, "3600"].map(Into::into))
                );
            }
        });
    }

    #[test]
    fn others_are_seen_in_counts_and_told_in_the_account() {
        // One that has come at the start, and no more within the hour.
        let others = Some(crate::control::Rate::SLOWEST);
        with_sim(SimSettings { headers: HeaderForm::Genesys, others, ..quick("3/h") }, async |at, _| {
            for (status, count) in [(200, "2"), (200, "3"), (429, "3")] {
                let answer = call(at, "GET", "/", "t", "").await;
                assert_eq!((answer.status, answer.header("inin-ratelimit-count")), (status, Some(count)));
            }
            let told = call(at, "GET", "/__sim/stats", "", "").await.body;
            assert_eq!(told["others"], json!({"accepted": 1, "refused": 0}));
            assert_eq!((&told["accepted"], &told["refused"]), (&json!(2), &json!(1)));
        });
    }

    #[test]
    fn a_request_is_under_way_until_its_answer_or_its_client_leaves() {
        let at_once = |latency| SimSettings { model: ModelName::Concurrency, latency, ..quick("1/s") };
        with_sim(at_once(Duration::from_mins(10)), async |at, account| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            eventually(|| account.stats().accepted == 1).await;
            assert_eq!(call(at, "GET", "/", "", "").await.status, 429);
            drop(stream);
            let mut other = TcpStream::connect(at).await.unwrap();
            // Refused until the sim has noticed; the one that is let in is not answered for ten minutes.
            let patience = clock::now() + Duration::from_secs(10);
            while account.stats().accepted == 1 {
                assert!(clock::now() < patience, "the place is not given back");
                other.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        with_sim(at_once(Duration::ZERO), async |at, account| {
            for _ in 0..20 {
                assert_eq!(call(at, "GET", "/", "t", "").await.status, 200);
            }
            assert_eq!(account.stats().refused, 0);
        });
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
            eventually(|| account.stats().accepted == 1).await;
        });
    }

    #[test]
    fn a_body_that_breaks_off_is_told() {
        with_sim(quick("1/h"), async |at, account| {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabcd").await.unwrap();
            drop(stream);
            eventually(|| account.stats().bodies_cut == 1).await;
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
