//! The admin listener: few connections, each with its time.

use super::access::Peer;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;

/// Serves `pages` for as long as it is polled. Too many clients wait in the backlog.
pub async fn serve(listener: TcpListener, pages: Router) {
    serving(listener, pages, HEAD_MAX).await;
}

/// The same, where a client has so much time for its first head.
async fn serving(listener: TcpListener, pages: Router, head_max: Duration) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    // A semaphore that nobody closes gives a permit in the end.
    while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let peer = Peer(from.ip());
                drop(connections.spawn(connection(stream, peer, pages.clone(), head_max, seat)));
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

async fn connection(
    stream: TcpStream,
    peer: Peer,
    pages: Router,
    head_max: Duration,
    _seat: OwnedSemaphorePermit,
) {
    // Without it an answer may wait 40 ms for an acknowledgement: slow, not wrong.
    stream.set_nodelay(true).ok();
    // Who takes nothing of its page does not keep its seat; hyper has no timer for that.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(IDLE_MAX)).ok();
    let has_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&has_asked);
    let page = service_fn(move |mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        pages.clone().call(request)
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .serve_connection(TokioIo::new(stream), page)
    );
    let ended = match timeout(head_max, served.as_mut()).await {
        Ok(ended) => ended,
        Err(_) if !has_asked.load(Ordering::Relaxed) => return,
        Err(_) => served.await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended badly");
    }
}

/// A Prometheus or two, a person or two.
const CONNECTIONS_MAX: usize = 64;
/// From a connection to its first head.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Between two requests: longer than the usual scrape interval.
const IDLE_MAX: Duration = Duration::from_secs(75);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_asks_for_nothing_gives_its_seat_back() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Router::new().route("/", get(async || "page"));
        let mut tasks = JoinSet::new();
        tasks.spawn(serving(listener, pages, Duration::from_millis(200)));
        let ask = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(ask).await.unwrap();
        assert!(asking.read(&mut [0; 512]).await.unwrap() > 0);
        for begins in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(begins.as_bytes()).await.unwrap();
            let end = timeout(Duration::from_secs(20), silent.read(&mut [0; 512])).await.unwrap();
            assert!(matches!(end, Ok(0) | Err(_)), "{begins:?}");
        }
        // Who has asked once may do so again.
        asking.write_all(ask).await.unwrap();
        assert!(asking.read(&mut [0; 512]).await.unwrap() > 0);
    }
}
