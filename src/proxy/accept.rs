//! Client connections: accepted as long as there is room, each a task, drained on request.
//!
//! Every connection is a task of [`serve`]: it returns when all are gone, and dropping it ends them all.

use super::Proxy;
use super::connection::{connection, drained};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A listener whose backlog holds a burst of connections. Call inside the runtime.
///
/// # Errors
/// When the address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections from `listener` until `drain` becomes true and all of them are gone. Then no new ones are
/// taken, each finishes the request that it serves, and idle ones get a moment for one that is on its way.
pub async fn serve(listener: TcpListener, proxy: Proxy, drain: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(proxy.settings().connections_max));
    let mut connections = JoinSet::new();
    let mut errors = Backoff::default();
    let start = |connections: &mut JoinSet<()>, stream, permit| {
        let counted = Counted::new(&proxy);
        let connection = connection(stream, proxy.clone(), drain.clone());
        connections.spawn(async move {
            connection.await;
            drop((counted, permit));
        });
    };
    let mut draining = pin!(drained(drain.clone()));
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(_ended) = connections.join_next() => (),
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    errors = Backoff::default();
                    start(&mut connections, stream, permit);
                }
                Err(error) => errors.pause(&error).await,
            },
        }
    }
    // Who is in the backlog has connected as far as it knows: it gets an answer too.
    while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await {
        let permit = Arc::clone(&permits).acquire_owned().await;
        start(&mut connections, stream, permit);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One open connection, in the proxy's count.
struct Counted(Proxy);

impl Counted {
    fn new(proxy: &Proxy) -> Self {
        proxy.shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(proxy.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accept errors (no more file descriptors, above all) pass: try again, a little later each time.
#[derive(Default)]
struct Backoff {
    last: Duration,
}

impl Backoff {
    async fn pause(&mut self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if self.last.is_zero() {
            tracing::warn!(%error, "no connections can be accepted for the moment");
        }
        self.last = (self.last * 2).clamp(ACCEPT_PAUSE_MIN, ACCEPT_PAUSE_MAX);
        sleep(self.last).await;
    }
}

/// Connections that wait to be accepted: a load test starts its threads at once.
const BACKLOG: u32 = 4096;
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(100);
