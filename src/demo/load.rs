//! Callers as a load tester has them: closed-loop sessions, each on a kept connection, each calling again at once.

use crate::gate::clock;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What every session calls.
const PATH: &str = "/api/v2/conversations/messages";
const BODY: &str = r#"{"channel":{"to":{"id":"+15550100"}},"text":"hello"}"#;
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// A session that cannot connect tries again after this.
const RECONNECT: Duration = Duration::from_millis(100);
/// Times that are kept for percentiles; further calls are only counted.
const SAMPLES_MAX: usize = 200_000;

/// Sessions at work. They end when this is dropped, in the middle of a call as it may be.
#[derive(Debug)]
pub(super) struct Load {
    tally: Arc<Mutex<Tally>>,
    _sessions: JoinSet<()>,
}

/// What the callers have seen. A call that is not answered yet is in no number.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Answered 2xx.
    pub(super) ok: u64,
    /// Answered 429.
    pub(super) throttled: u64,
    /// Answered otherwise, or not at all.
    pub(super) failed: u64,
    /// From the call to the end of its answer, in ms.
    pub(super) total_ms: Vec<f64>,
    /// What the answers' `Server-Timing` says of the queue, in ms.
    pub(super) queue_ms: Vec<f64>,
    /// What it says of the upstream, in ms.
    pub(super) upstream_ms: Vec<f64>,
}

impl Load {
    /// Starts `sessions` sessions that call `target`.
    pub(super) fn start(target: SocketAddr, sessions: usize) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut tasks = JoinSet::new();
        for _ in 0..sessions {
            tasks.spawn(session(target, Arc::clone(&tally)));
        }
        Self { tally, _sessions: tasks }
    }

    /// Answered 2xx, and all others, until now.
    pub(super) fn counts(&self) -> (u64, u64) {
        let tally = lock(&self.tally);
        (tally.ok, tally.errors())
    }

    /// What the callers have seen until now.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }
}

impl Tally {
    /// Calls that are over.
    pub(super) fn requests(&self) -> u64 {
        self.ok + self.errors()
    }

    /// Calls that a load tester reports as errors.
    pub(super) fn errors(&self) -> u64 {
        self.throttled + self.failed
    }

    fn count(&mut self, status: StatusCode, headers: &HeaderMap, took: Duration) {
        if status.is_success() {
            self.ok += 1;
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            self.throttled += 1;
        } else {
            self.failed += 1;
        }
        if self.total_ms.len() < SAMPLES_MAX {
            self.total_ms.push(took.as_secs_f64() * 1_000.0);
            let timing = headers.get(SERVER_TIMING).and_then(|value| value.to_str().ok()).unwrap_or_default();
            self.queue_ms.extend(duration_ms(timing, "queue"));
            self.upstream_ms.extend(duration_ms(timing, "upstream"));
        }
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn session(target: SocketAddr, tally: Arc<Mutex<Tally>>) {
    loop {
        if let Ok((client, connection)) = connect(target).await {
            // The calls end when the connection does, and give it up when they end.
            let ((), ended) = tokio::join!(calls(client, target, &tally), connection);
            drop(ended);
        } else {
            lock(&tally).failed += 1;
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

async fn connect(target: SocketAddr) -> anyhow::Result<(SendRequest<Full<Bytes>>, Connection)> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(http1::handshake(TokioIo::new(stream)).await?)
}

/// Calls until the connection is of no more use.
async fn calls(mut client: SendRequest<Full<Bytes>>, target: SocketAddr, tally: &Mutex<Tally>) {
    // Closed between two calls, as a server may do at any time: no call is lost, so none is counted.
    while client.ready().await.is_ok() {
        let start = clock::now();
        let Ok((status, headers)) = call(&mut client, target).await else {
            lock(tally).failed += 1;
            return;
        };
        lock(tally).count(status, &headers, clock::now() - start);
    }
}

async fn call(
    client: &mut SendRequest<Full<Bytes>>,
    target: SocketAddr,
) -> anyhow::Result<(StatusCode, HeaderMap)> {
    let mut request = Request::post(PATH).body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
    let headers = request.headers_mut();
    headers.insert(HOST, target.to_string().parse()?);
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer demo"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let (head, mut body) = client.send_request(request).await?.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok((head.status, head.headers))
}

/// The `dur` of the metric `name` in a Server-Timing header.
fn duration_ms(header: &str, name: &str) -> Option<f64> {
    let metric = header
        .split(',')
        .map(|metric| metric.split(';').map(str::trim))
        .find_map(|mut parts| (parts.next() == Some(name)).then_some(parts));
    metric?.find_map(|part| part.strip_prefix("dur=")).and_then(|value| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Sim, SimSettings};

    #[test]
    fn server_timing_is_read() {
        let header = "queue;dur=9870.2, upstream;dur=48, retries;desc=\"1\"";
        assert_eq!(duration_ms(header, "queue"), Some(9_870.2));
        assert_eq!(duration_ms(header, "upstream"), Some(48.0));
        assert_eq!(duration_ms(header, "retries"), None);
        assert_eq!(duration_ms("", "queue"), None);
        assert_eq!(duration_ms("queue;desc=x;dur=y", "queue"), None);
    }

    #[test]
    fn a_call_is_counted_by_what_came_of_it() {
        let mut tally = Tally::default();
        let mut headers = HeaderMap::new();
        tally.count(StatusCode::TOO_MANY_REQUESTS, &headers, Duration::from_millis(2));
        headers.insert(SERVER_TIMING, HeaderValue::from_static("queue;dur=5, upstream;dur=7"));
        tally.count(StatusCode::ACCEPTED, &headers, Duration::from_millis(12));
        tally.count(StatusCode::BAD_GATEWAY, &headers, Duration::from_millis(12));
        assert_eq!((tally.ok, tally.throttled, tally.failed), (1, 1, 1));
        assert_eq!((tally.requests(), tally.errors()), (3, 2));
        assert_eq!((tally.total_ms.len(), tally.queue_ms.len()), (3, 2));
    }

    #[tokio::test]
    async fn sessions_call_again_and_again_on_kept_connections() {
        let settings = SimSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            limits: vec!["50/h".parse().unwrap()],
            model: crate::sim::ModelName::Anchored,
            latency: Duration::from_millis(2),
            jitter: Duration::ZERO,
            ..SimSettings::default()
        };
        let sim = Sim::bind(settings).await.unwrap();
        let account = sim.account();
        let load = Load::start(sim.address(), 10);
        let patience = clock::now() + Duration::from_secs(20);
        let watch = async {
            while load.tally().requests() < 200 {
                assert!(clock::now() < patience, "{:?}", load.counts());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = sim.serve(std::future::pending()) => panic!("served until {ended:?}"),
            () = watch => (),
        }
        let tally = load.tally();
        assert_eq!((tally.ok, tally.failed), (50, 0));
        let decided = account.stats().requests;
        assert!(decided >= tally.requests() && decided <= tally.requests() + 10, "one call each at once");
    }

    #[tokio::test]
    async fn an_api_that_is_not_there_is_an_error_and_no_busy_loop() {
        let gone = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let load = Load::start(gone, 1);
        tokio::time::sleep(Duration::from_millis(250)).await;
        let (ok, errors) = load.counts();
        assert!(ok == 0 && (1..=3).contains(&errors), "{errors}");
    }
}
