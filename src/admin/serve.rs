//! The admin listener: few connections, each with its time.

use super::access::Peer;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower_service::Service;

/// Serves `pages` for as long as it is polled. Too many clients wait in the backlog.
pub async fn serve(listener: TcpListener, pages: Router) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    // A semaphore that nobody closes gives a permit in the end.
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let peer = Peer(from.ip());
                drop(connections.spawn(connection(stream, peer, pages.clone(), seat)));
            }
            Err(error) => {
                // A connection that died in the backlog, or no files left: the next try may do better.
                tracing::debug!(%error, "an admin connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, peer: Peer, pages: Router, _seat: OwnedSemaphorePermit) {
    // Without it an answer may wait 40 ms for an acknowledgement: slow, not wrong.
    stream.set_nodelay(true).ok();
    let page = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        pages.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .serve_connection(TokioIo::new(stream), page)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended badly");
    }
}

/// A Prometheus or two, a person or two.
const CONNECTIONS_MAX: usize = 64;
/// Between two requests, and for a request's head: longer than the usual scrape interval.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
