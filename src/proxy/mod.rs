//! HTTP in and out: the life of one request, from its head to the end of its response.
//!
//! What an intermediary must do (RFC 9110 7.6, 9112) stands in `classify`, `headers` and `respond`; what a throttling
//! one must do (notice who left, replay, answer honestly) in `accept`, `body` and here.
//!
//! A client that closes its half of an HTTP/1.1 connection has left: its request is dropped, queued or in flight.

pub mod accept;
mod activity;
mod arriving;
mod asked;
mod body;
mod call;
mod classify;
mod connection;
mod credential;
mod dial;
mod error;
mod failure;
mod fields;
mod forwarded;
mod frames;
mod gathered;
mod grammar;
mod h1;
mod headers;
mod held;
mod host;
mod hpack;
mod http2;
mod identity;
mod learn;
mod message;
mod opening;
mod peer;
mod pool;
mod respond;
mod route;
mod sending;
pub mod signals;
mod sites;
mod socket;
mod streamed;
mod taking;
mod tracked;
mod traffic;
mod trailers;
mod trust;
mod upstream;

pub use credential::CredentialKey;
pub use h1::Trial;
pub use identity::{Identity, IdentityError};
pub use peer::Peer;
pub use tracked::Tracked;
pub use trust::TrustError;
pub use upstream::{Client, clients};

use crate::config::{Config, ProxySettings};
use crate::control::{Event, Refusal, RefusalReason, RetryReason, Ticket};
use crate::gate::{Flight, Gate, Pass, Quotas, Verdict, clock};
use crate::observe::{Attempt, Observer};
use arriving::Arriving;
use body::Budget;
use bytes::Bytes;
use call::{Call, Early};
use classify::Classifier;
use error::{BoxError, ErrorKind, ProxyError};
use headers::Via;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use learn::{Kept, Learnt};
use message::{Asking, Reply};
use signals::Dialects;
use sites::Sites;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use tokio::sync::Semaphore;
use tracked::Account;
use traffic::Traffic;
use upstream::Sent;

/// HTTP's face: serves requests through a gate. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// One for each upstream, in their order.
    clients: Arc<[Client]>,
}

/// What a [`Proxy`] is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// What the operator says of upstreams, routes, lanes and classes, and the HTTP side's bounds.
    pub config: &'a Config,
    /// What lets requests out.
    pub gate: Gate,
    /// What sends them: one for each upstream, in their order.
    pub clients: Vec<Client>,
    /// The key of credential hashes.
    pub credentials: CredentialKey,
    /// What clients see of us that speak TLS; without it, all speak in the clear.
    pub identity: Option<Identity>,
}

struct Shared {
    classifier: Classifier,
    settings: ProxySettings,
    identity: Option<Identity>,
    /// At the door, if the operator sets any.
    quotas: Option<Quotas>,
    gate: Gate,
    /// What each upstream's answers may say, in their order.
    dialects: Vec<Dialects>,
    budget: Arc<Budget>,
    via: Via,
    connections: AtomicUsize,
    /// Room for client connections, over all shards.
    room: Arc<Semaphore>,
    observer: Arc<dyn Observer>,
}

/// An answer, and whose it is.
struct Answer {
    reply: Reply<Content>,
    flight: Option<Flight>,
    /// What [`Exchange::local_error`](crate::observe::Exchange::local_error) says, when the answer is ours.
    local: Option<&'static str>,
}

enum Content {
    Whole(Bytes),
    /// In a box: an answer goes through many hands.
    Coming(Bytes, Box<Arriving>),
    /// All that came of a body that broke off.
    Cut(Bytes, BoxError),
}

impl Proxy {
    /// A proxy of `parts` that tells `observer` what happens.
    ///
    /// # Panics
    /// Without an upstream, or when there is not one client for each.
    pub fn new(parts: Parts<'_>, observer: Arc<dyn Observer>) -> Self {
        let Parts { config, gate, clients, credentials, identity } = parts;
        assert_eq!(clients.len(), config.upstreams.len(), "each upstream has its client");
        let settings = config.proxy.clone();
        let budget = Budget::new(&settings);
        let room = Arc::new(Semaphore::new(settings.connections_max.min(Semaphore::MAX_PERMITS)));
        let shared = Shared {
            classifier: Classifier::new(Sites::new(&config.upstreams), Traffic::new(config, credentials)),
            settings,
            identity,
            quotas: config.admission.map(|door| Quotas::new(door.quota, door.burst, door.clients_max)),
            gate,
            dialects: Dialects::of_each(config),
            budget: Arc::new(budget),
            via: Via::new(random()),
            connections: AtomicUsize::new(0),
            room,
            observer,
        };
        Self { shared: Arc::new(shared), clients: clients.into() }
    }

    /// The same proxy with other connections to its upstreams: those of another runtime. What is bounded stays bounded
    /// for all of them together.
    ///
    /// # Panics
    /// When there is not one client for each upstream.
    #[must_use]
    pub fn with_clients(&self, clients: Vec<Client>) -> Self {
        assert_eq!(clients.len(), self.clients.len(), "each upstream has its client");
        Self { shared: Arc::clone(&self.shared), clients: clients.into() }
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

    /// Callers that have a quota of their own at the door, of at most
    /// [`AdmissionSettings::clients_max`](crate::config::AdmissionSettings::clients_max).
    pub fn callers(&self) -> usize {
        self.shared.quotas.as_ref().map_or(0, Quotas::callers)
    }

    /// Serves one request from `peer`, whatever happens: what goes wrong becomes an answer. Dropping the future gives
    /// everything back; that is how a client leaves.
    ///
    /// What can be said before anything is waited for is said in the call itself: so a request that waits keeps no room for
    /// what it was made of.
    pub fn serve<B>(
        &self,
        request: Request<B>,
        peer: Peer,
    ) -> impl Future<Output = Response<Tracked>> + use<'_, B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        self.answer(Box::new(head.into()), body, peer, Reply::into_response)
    }

    /// The same for a head that is in no map; what the answer comes to is put in `shape`.
    fn answer<B, A>(
        &self,
        head: Box<Asking>,
        body: B,
        peer: Peer,
        shape: fn(Reply<Tracked>) -> A,
    ) -> impl Future<Output = A> + use<'_, A, B>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let version = head.version;
        let mut account = Account::new(Arc::clone(&self.shared.observer), head.method.clone());
        let call = caught(|| self.shared.call(&self.clients, head, body, peer))
            .unwrap_or_else(|defect| Err(defect.into()));
        async move {
            let result = match call {
                Err(Early::Answer(answer)) => Ok(*answer),
                Err(Early::Error(error)) => Err(error),
                Ok(ref call) => {
                    let mut work = pin!(self.shared.attempt(call, &mut account));
                    poll_fn(|cx| {
                        caught(|| work.as_mut().poll(cx)).unwrap_or_else(|defect| Poll::Ready(Err(defect)))
                    })
                    .await
                }
            };
            let answer = result.unwrap_or_else(|error| {
                tracing::debug!(blame = ?error.blame(), source = ?error.source, "{error}");
                let local = Some(respond::status_of(error.kind).1);
                let reply = Reply::from(respond::to_error(&error)).map(Content::Whole);
                Answer { reply, flight: None, local }
            });
            shape(finish(answer, account, version))
        }
    }
}

impl Shared {
    /// The life of a request from when it is known what it wants.
    async fn attempt(&self, call: &Call<'_>, account: &mut Account) -> Result<Answer, ProxyError> {
        if !call.head.fields.has(&EXPECT) {
            call.replay.fill().await?;
        }
        let result = self.forward(call, account).await;
        // A body that broke off is why whatever followed went wrong.
        match (result, call.replay.failure()) {
            (Err(_), Some(failure)) => Err(failure),
            (result, _) => result,
        }
    }

    /// Queue, send, learn; again as long as the gate says so.
    async fn forward(&self, call: &Call<'_>, account: &mut Account) -> Result<Answer, ProxyError> {
        let ticket = Ticket { deadline: None, class: call.place.class };
        let mut waiting = match self.gate.enter(&call.place.key, ticket) {
            Ok(waiting) => waiting,
            Err(refusal) => return Ok(refused(&refusal, None, account)),
        };
        account.exchange().lane = Arc::clone(waiting.lane());
        // Boxed, as few requests have one.
        let mut last: Option<Box<Kept>> = None;
        loop {
            let since = waiting.since();
            let turn = waiting.turn().await;
            let until = turn.as_ref().map_or_else(|_| clock::now(), Pass::given);
            account.exchange().queued += until.saturating_duration_since(since);
            let pass = match turn {
                Ok(pass) => pass,
                Err(refusal) => return Ok(refused(&refusal, last, account)),
            };
            // Boxed: what waits in a queue keeps no room for what it needs when it goes.
            let Learnt { report, result, at } = Box::pin(self.send(&pass, call, account)).await;
            let is_whole = matches!(&result, Ok(Reply { body: Content::Whole(_), .. }));
            let verdict = if is_whole { pass.settle_whole(at, &report) } else { pass.settle(at, &report) };
            match (verdict, result) {
                (Verdict::Answer(flight), Ok(reply)) => return Ok(Answer::theirs(reply, flight)),
                (Verdict::Answer(_), Err(error)) => return Err(error),
                (Verdict::Again(again), result) => {
                    account.exchange().retries += 1;
                    last = result.ok().and_then(|refusal| self.keep(refusal)).or(last);
                    waiting = again;
                }
            }
        }
    }

    /// One try at the upstream, and what it teaches.
    async fn send(&self, pass: &Pass, call: &Call<'_>, account: &mut Account) -> Learnt {
        let Sent { response, stale } = call.client.send(&call.head, &call.replay).await;
        let now = clock::now();
        let duration = now.saturating_duration_since(pass.given());
        account.exchange().upstream += duration;
        let lane = Arc::clone(pass.lane());
        if stale {
            self.observer.event(&Event::Retried { lane: Arc::clone(&lane), reason: RetryReason::Stale });
        }
        let status = response.as_ref().ok().map(|reply| reply.status);
        self.observer.attempt(&Attempt { lane, status, duration });
        match self.learn(response, now, pass, call) {
            Ok(learnt) => learnt,
            // In a box: most answers are not waited for.
            Err(more) => Box::pin(self.learn_more(*more, pass, call)).await,
        }
    }
}

impl Answer {
    fn ours(response: Response<Bytes>, local: &'static str) -> Self {
        Self { reply: Reply::from(response).map(Content::Whole), flight: None, local: Some(local) }
    }

    fn theirs(reply: Reply<Content>, flight: Flight) -> Self {
        Self { reply, flight: Some(flight), local: None }
    }
}

/// What a request gets that is not let through: the API's own refusal if there is one and time ran out, else ours.
fn refused(refusal: &Refusal, last: Option<Box<Kept>>, account: &mut Account) -> Answer {
    account.exchange().lane = Arc::clone(&refusal.lane);
    // What a drain cuts short is our doing, not the API's.
    if let Some(kept) = last.filter(|_| refusal.reason != RefusalReason::Draining) {
        return Answer { reply: kept.reply, flight: None, local: None };
    }
    let (response, local) = respond::to_refusal(refusal);
    Answer::ours(response, local)
}

/// The last touches to every answer: what the caller can see of the way, and who watches over its body.
fn finish(answer: Answer, mut account: Account, version: Version) -> Reply<Tracked> {
    let Answer { mut reply, flight, local } = answer;
    let exchange = account.exchange();
    exchange.status = reply.status;
    exchange.local_error = local;
    respond::add_server_timing(&mut reply.fields, exchange.queued, exchange.upstream, exchange.retries);
    if version == Version::HTTP_2 {
        reply.fields.remove(&CONNECTION);
        if reply.status == StatusCode::NO_CONTENT {
            // It has none, whatever an API says (RFC 9110 8.6), and clients take a length without a body for a lie.
            reply.fields.remove(&CONTENT_LENGTH);
        }
    }
    if let Some(flight) = flight {
        account.hold(flight);
    }
    reply.map(|content| match content {
        Content::Whole(bytes) => Tracked::whole(bytes, account),
        Content::Coming(first, rest) => Tracked::coming(first, rest, account),
        Content::Cut(bytes, error) => Tracked::cut(bytes, error, account),
    })
}

/// Turns a panic into an error of this request alone.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ProxyError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!("a request met a defect of Tidegate");
        ProxyError::new(ErrorKind::Internal, "Tidegate failed on this request.")
    })
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
        write!(f, "Proxy({:?})", self.clients)
    }
}
