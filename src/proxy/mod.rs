//! HTTP in and out: the life of one request, from its head to the end of its response.
//!
//! What an intermediary must do (RFC 9110 7.6, 9112) and hyper leaves to it stands in `classify`, `headers` and
//! `respond`; what a throttling one must do (notice who left, replay, answer honestly) in `accept`, `body`
//! and here.
//!
//! A client that closes its half of an HTTP/1.1 connection has left: its request is dropped, queued or in flight.

pub mod accept;
mod arriving;
mod body;
mod classify;
mod connection;
mod credential;
mod dial;
mod error;
mod failure;
mod headers;
mod learn;
mod pool;
mod respond;
mod route;
mod sending;
mod signals;
mod socket;
mod tracked;
mod upstream;

pub use credential::CredentialKey;
pub use tracked::Tracked;
pub use upstream::Client;

use crate::config::{ProxySettings, Upstream};
use crate::control::{Event, LaneKey, Refusal, RefusalReason, RetryReason, Ticket};
use crate::gate::{Flight, Gate, Pass, Verdict, clock};
use crate::observe::{Attempt, Observer};
use arriving::Arriving;
use body::{Budget, Replay};
use bytes::Bytes;
use classify::{Classifier, Intent};
use error::{BoxError, ErrorKind, ProxyError};
use headers::Via;
use http::header::EXPECT;
use http::{Request, Response, Version};
use http_body::Body;
use learn::{Kept, Learnt};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tracked::Account;
use upstream::{Outgoing, Sent};

/// HTTP's face: serves requests through a gate. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// What a [`Proxy`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where requests go.
    pub upstream: Upstream,
    /// Bounds, timeouts and policies.
    pub settings: ProxySettings,
    /// What lets requests out.
    pub gate: Gate,
    /// What sends them.
    pub client: Client,
    /// The key of credential hashes.
    pub credentials: CredentialKey,
}

struct Shared {
    classifier: Classifier,
    settings: ProxySettings,
    gate: Gate,
    client: Client,
    budget: Arc<Budget>,
    via: Via,
    connections: AtomicUsize,
    observer: Arc<dyn Observer>,
}

/// An answer, and whose it is.
struct Answer {
    response: Response<Content>,
    flight: Option<Flight>,
    /// The word of Proxy-Status, when the answer is ours.
    local: Option<&'static str>,
}

enum Content {
    Whole(Bytes),
    Coming(Bytes, Arriving),
    /// All that came of a body that broke off.
    Cut(Bytes, BoxError),
}

impl Proxy {
    /// A proxy of `parts` that tells `observer` what happens.
    pub fn new(parts: Parts, observer: Arc<dyn Observer>) -> Self {
        let Parts { upstream, settings, gate, client, credentials } = parts;
        let budget =
            Budget::new(settings.replay_bytes_max, settings.replay_bytes_total_max, settings.body_idle);
        let classifier = Classifier::new(upstream, credentials, settings.route_classes_max);
        let budget = Arc::new(budget);
        let via = Via::new(random());
        let connections = AtomicUsize::new(0);
        Self {
            shared: Arc::new(Shared {
                classifier,
                settings,
                gate,
                client,
                budget,
                via,
                connections,
                observer,
            }),
        }
    }

    /// Request bytes that are kept for replays now, of at most [`ProxySettings::replay_bytes_total_max`].
    pub fn replay_bytes_in_use(&self) -> usize {
        self.shared.budget.used()
    }

    /// Client connections that are open now, of at most [`ProxySettings::connections_max`].
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What bounds them.
    pub fn settings(&self) -> &ProxySettings {
        &self.shared.settings
    }

    /// Serves one request, whatever happens: what goes wrong becomes an answer. Dropping the future gives
    /// everything back; that is how a client leaves.
    pub async fn serve<B>(&self, request: Request<B>) -> Response<Tracked>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let version = request.version();
        let mut account = Account::new(Arc::clone(&self.shared.observer), request.method().clone());
        let answer = caught(self.shared.attempt(request, &mut account)).await.unwrap_or_else(|error| {
            tracing::debug!(blame = ?error.blame(), source = ?error.source, "{error}");
            let local = Some(respond::status_of(error.kind).1);
            Answer { response: respond::to_error(&error).map(Content::Whole), flight: None, local }
        });
        finish(answer, account, version)
    }
}

impl Shared {
    /// The life of one request, top to bottom.
    async fn attempt<B>(&self, request: Request<B>, account: &mut Account) -> Result<Answer, ProxyError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let (key, target) = match self.classifier.intent(&mut head)? {
            Intent::Forward(key, target) => (key, target),
            Intent::AnswerOptions => {
                return Ok(Answer::ours(respond::to_options(), "proxy_internal_response"));
            }
        };
        headers::to_upstream(&mut head.headers, head.version, &self.via)?;
        let head = Outgoing { method: head.method, target, headers: head.headers };
        let replay = Replay::new(body, &self.budget);
        if !head.headers.contains_key(EXPECT) {
            replay.fill().await?;
        }
        let result = self.forward(&key, &head, &replay, account).await;
        // A body that broke off is why whatever followed went wrong.
        match (result, replay.failure()) {
            (Err(_), Some(failure)) => Err(failure),
            (result, _) => result,
        }
    }

    /// Queue, send, learn; again as long as the gate says so.
    async fn forward(
        &self,
        key: &LaneKey,
        head: &Outgoing,
        replay: &Replay,
        account: &mut Account,
    ) -> Result<Answer, ProxyError> {
        let ticket = Ticket::default();
        let mut waiting = match self.gate.enter(key, ticket) {
            Ok(waiting) => waiting,
            Err(refusal) => return Ok(refused(&refusal, None, account)),
        };
        account.exchange().lane = Arc::clone(waiting.lane());
        let mut last: Option<Kept> = None;
        loop {
            let queued = clock::now();
            let turn = waiting.turn().await;
            account.exchange().queued += clock::now().saturating_duration_since(queued);
            let pass = match turn {
                Ok(pass) => pass,
                Err(refusal) => return Ok(refused(&refusal, last, account)),
            };
            let sent = self.send(&pass, head, replay, account).await;
            let Learnt { report, result } = self.learn(sent, head, replay, None).await;
            match (pass.settle(&report), result) {
                (Verdict::Answer(flight), Ok(response)) => return Ok(Answer::theirs(response, flight)),
                (Verdict::Answer(_), Err(error)) => return Err(error),
                (Verdict::Again(again), result) => {
                    account.exchange().retries += 1;
                    last = result.ok().and_then(|refusal| self.keep(refusal)).or(last);
                    waiting = again;
                }
            }
        }
    }

    /// One try at the upstream.
    async fn send(
        &self,
        pass: &Pass,
        head: &Outgoing,
        replay: &Replay,
        account: &mut Account,
    ) -> Result<Response<Arriving>, ProxyError> {
        let started = clock::now();
        let Sent { response, stale } = self.client.send(head, replay).await;
        let duration = clock::now().saturating_duration_since(started);
        account.exchange().upstream += duration;
        let lane = Arc::clone(pass.lane());
        if stale {
            self.observer.event(&Event::Retried { lane: Arc::clone(&lane), reason: RetryReason::Stale });
        }
        let status = response.as_ref().ok().map(Response::status);
        self.observer.attempt(&Attempt { lane, status, duration });
        response
    }
}

impl Answer {
    fn ours(response: Response<Bytes>, local: &'static str) -> Self {
        Self { response: response.map(Content::Whole), flight: None, local: Some(local) }
    }

    fn theirs(response: Response<Content>, flight: Flight) -> Self {
        Self { response, flight: Some(flight), local: None }
    }
}

/// What a request gets that is not let through: the API's own refusal if there is one and time ran out, else ours.
fn refused(refusal: &Refusal, last: Option<Kept>, account: &mut Account) -> Answer {
    account.exchange().lane = Arc::clone(&refusal.lane);
    // What a drain cuts short is our doing, not the API's.
    if let Some(kept) = last.filter(|_| refusal.reason != RefusalReason::Draining) {
        return Answer { response: kept.response, flight: None, local: None };
    }
    let (response, local) = respond::to_refusal(refusal);
    Answer::ours(response, local)
}

/// The last touches to every answer: what the caller can see of the way, and who watches over its body.
fn finish(answer: Answer, mut account: Account, version: Version) -> Response<Tracked> {
    let Answer { response, flight, local } = answer;
    let (mut parts, content) = response.into_parts();
    let exchange = account.exchange();
    exchange.status = parts.status;
    exchange.local_error = local;
    respond::add_server_timing(&mut parts.headers, exchange.queued, exchange.upstream, exchange.retries);
    if version == Version::HTTP_2 {
        parts.headers.remove(http::header::CONNECTION);
    }
    parts.version = Version::HTTP_11;
    if let Some(flight) = flight {
        account.hold(flight);
    }
    let body = match content {
        Content::Whole(bytes) => Tracked::whole(bytes, account),
        Content::Coming(first, rest) => Tracked::coming(first, rest, account),
        Content::Cut(bytes, error) => Tracked::cut(bytes, error, account),
    };
    Response::from_parts(parts, body)
}

/// Turns a panic into an error of this request alone.
async fn caught<T>(work: impl Future<Output = Result<T, ProxyError>>) -> Result<T, ProxyError> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            tracing::error!("a request met a defect of Tidegate");
            Poll::Ready(Err(ProxyError::new(ErrorKind::Internal, "Tidegate failed on this request.")))
        })
    })
    .await
}

fn random() -> [u8; 4] {
    let mut bytes = [0; 4];
    // Without randomness two instances may share a name, which only matters when they form a chain.
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).is_err() {
        tracing::warn!("no randomness for the name in Via");
    }
    bytes
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?})", self.shared.client)
    }
}
