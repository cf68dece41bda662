//! Client connections: accepted as long as there is room, each a task, drained on request.
//!
//! One listener deals connections to shards, each a runtime of its own or all of them this one. Every connection is a
//! task of its shard's [`take`]: it returns when all are gone, and dropping it ends them all.

use super::Proxy;
use super::connection::{connection, drained};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
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

/// Where a shard's connections come from: [`deal`] gives, [`take`] takes.
pub fn arrivals() -> (Hand, Arrivals) {
    let (give, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let open = Arc::new(AtomicUsize::new(0));
    (Hand { give, open: Arc::clone(&open) }, Arrivals { arrivals, open })
}

/// A way to give connections to a shard.
#[derive(Debug)]
pub struct Hand {
    give: mpsc::Sender<Arrival>,
    /// Connections that the shard has.
    open: Arc<AtomicUsize>,
}

/// The connections that a shard is given.
#[derive(Debug)]
pub struct Arrivals {
    arrivals: mpsc::Receiver<Arrival>,
    open: Arc<AtomicUsize>,
}

/// A connection on its way to the runtime that serves it.
#[derive(Debug)]
struct Arrival {
    stream: std::net::TcpStream,
    /// Its place in the bound on connections.
    permit: OwnedSemaphorePermit,
}

/// Accepts connections as long as there is room and gives each to the shard that has the fewest, until `drain` becomes
/// true and the backlog is empty.
///
/// # Why
/// With a listener of its own for each shard (`SO_REUSEPORT`) the kernel chooses by a hash of the addresses: of a
/// hundred kept connections some sixty may share one core while the other idles, and whoever waits in the backlog of a
/// shard without room waits although another has some. One listener deals them evenly, and a second program on
/// the same port is still noticed. It costs a hand-over for each connection, none for a request.
pub async fn deal(listener: TcpListener, shards: Vec<Hand>, proxy: Proxy, drain: watch::Receiver<bool>) {
    let mut errors = Backoff::default();
    let mut draining = pin!(drained(drain));
    loop {
        let accepted = async {
            let permit = proxy.room().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            biased;
            () = &mut draining => break,
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    errors = Backoff::default();
                    give(&shards, stream, permit).await;
                }
                Err(error) => errors.pause(&error).await,
            },
        }
    }
    // Who is in the backlog has connected as far as it knows: it gets an answer too.
    while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await {
        let permit = proxy.room().await;
        give(&shards, stream, permit).await;
    }
}

async fn give(shards: &[Hand], stream: TcpStream, permit: Option<OwnedSemaphorePermit>) {
    let least = shards.iter().min_by_key(|shard| shard.open.load(Ordering::Relaxed));
    // A stream that does not leave its runtime has lost its connection.
    let (Some(shard), Some(permit), Ok(stream)) = (least, permit, stream.into_std()) else { return };
    shard.open.fetch_add(1, Ordering::Relaxed);
    if shard.give.send(Arrival { stream, permit }).await.is_err() {
        tracing::error!("a connection was lost: its shard is gone");
    }
}

/// Serves the connections that arrive, each a task of its own, until no more can come and all of them are gone. Once
/// `drain` is true, each finishes the request that it serves, and idle ones get a moment for one that is on its way.
pub async fn take(arrivals: Arrivals, proxy: Proxy, drain: watch::Receiver<bool>) {
    let Arrivals { mut arrivals, open } = arrivals;
    let mut connections = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            Some(_ended) = connections.join_next() => continue,
            arrival = arrivals.recv() => arrival,
        };
        let Some(Arrival { stream, permit }) = arrival else { break };
        let counted = Counted::new(&proxy, &open);
        // It fails when the runtime shuts down, or no more descriptors can be watched.
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let connection = connection(stream, proxy.clone(), drain.clone());
        connections.spawn(async move {
            connection.await;
            drop((counted, permit));
        });
    }
    while connections.join_next().await.is_some() {}
}

impl Proxy {
    /// A place among the connections, when there is one.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.shared.room).acquire_owned().await.ok()
    }
}

/// One open connection, in the proxy's count and in its shard's, which [`give`] has raised.
struct Counted {
    proxy: Proxy,
    shard: Arc<AtomicUsize>,
}

impl Counted {
    fn new(proxy: &Proxy, shard: &Arc<AtomicUsize>) -> Self {
        proxy.shared.connections.fetch_add(1, Ordering::Relaxed);
        Self { proxy: proxy.clone(), shard: Arc::clone(shard) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.proxy.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shard.fetch_sub(1, Ordering::Relaxed);
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

/// Connections that are between the listener and their shard.
const ARRIVALS_MAX: usize = 64;

/// Connections that wait to be accepted: a load test starts its threads at once.
const BACKLOG: u32 = 4096;
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(100);
