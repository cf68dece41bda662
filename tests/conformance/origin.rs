//! A small API of our own to stand behind the proxy: it keeps what it saw, and answers by path.
//!
//! `/echo…` gives the body back · `/refuse-once/…` answers 429 with `Retry-After: 1` the first time that it is
//! called on a path, 200 after · anything else is `200 hello`.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// One request, as it arrived at the API.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Every header.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

impl Seen {
    /// A header as text; empty when it did not come.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Record = Arc<Mutex<Vec<Seen>>>;

/// The API, on a port of its own, for as long as the value lives.
pub(crate) struct Origin {
    address: SocketAddr,
    record: Record,
    /// Keeps the server running.
    _runtime: Runtime,
}

impl Origin {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let record = Record::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&record));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, record, _runtime: runtime }
    }

    /// Where it is, as `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The authority alone.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// What has arrived so far, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.record.lock().unwrap().clone()
    }

    /// The last request that arrived.
    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("nothing has arrived at the API")
    }
}

async fn answer(State(record): State<Record>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let path = head.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let again = {
        let mut record = record.lock().unwrap();
        let again = record.iter().any(|seen| seen.path == path);
        let method = head.method.to_string();
        record.push(Seen { method, path: path.clone(), headers: head.headers, body: body.clone() });
        again
    };
    if path.starts_with("/refuse-once/") && !again {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "too many\n").into_response();
    }
    if path.starts_with("/echo") { Body::from(body).into_response() } else { "hello\n".into_response() }
}
