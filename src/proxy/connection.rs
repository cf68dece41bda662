//! One client connection: its protocol found out, then HTTP/1.1 served by [`super::h1`] and HTTP/2 by [`super::http2`],
//! watched.
//!
//! # Why
//! hyper-util's auto server waits for ever for the first bytes, and the h2 crate has no timer for an idle connection. So
//! the protocol is found out here, and HTTP/2 is watched beside it ([`super::activity`]).

use super::Proxy;
use super::activity::{Activity, Doing};
use super::h1;
use super::http2::{Incoming, Server};
use super::opening::{open, prepare};
use super::peer::Peer;
use super::socket::{Socket, Transport};
use super::taking::{Ends, Least, Takes};
use super::tracked::Tracked;
use crate::config::ProxySettings;
use crate::gate::clock;
use bytes::BytesMut;
use http::{Request, Response};
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

/// The life of one connection.
pub(super) async fn connection(stream: TcpStream, proxy: Proxy, drain: watch::Receiver<bool>) {
    // Without an address the client has left already.
    let Ok(peer) = stream.peer_addr() else { return };
    prepare(&stream, proxy.settings());
    let found = tokio::select! {
        found = Box::pin(open(stream, &proxy)) => found,
        () = Box::pin(async { drained(drain.clone()).await; sleep(LAST_MOMENT).await }) => None,
    };
    let Some((transport, first, is_http2)) = found else { return };
    let peer = Peer { address: peer.ip().to_canonical(), over_tls: matches!(transport, Transport::Tls(_)) };
    if is_http2 {
        // Boxed: what few connections need is not kept room for in every one.
        Box::pin(Connected { peer, proxy, drain }.over_http2(transport, first)).await;
    } else {
        h1::serve(transport, first, proxy, peer, drain).await;
    }
}

/// Waits until draining begins; a sender that is gone never begins it.
pub(super) async fn drained(mut drain: watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A client whose protocol is known.
struct Connected {
    peer: Peer,
    proxy: Proxy,
    drain: watch::Receiver<bool>,
}

impl Connected {
    async fn over_http2(self, mut transport: Transport, first: BytesMut) {
        let Self { peer, proxy, drain } = self;
        let settings = proxy.settings().clone();
        let activity = Activity::new(settings.http2.control_bytes_max);
        let Some(ends) = transport.stream().and_then(Ends::of) else { return };
        let home = transport.watch(activity.clone());
        let socket = Socket::new(transport, first.freeze(), activity.clone());
        let connection =
            Server::new(socket, &settings, activity.clone(), |request| proxy.serve(request, peer));
        let patience = Patience::new(&settings, settings.http2.idle, ends);
        let ended = {
            let mut connection = pin!(connection);
            watched_until_end(connection.as_mut(), &activity, &patience, drain).await
        };
        let stream = home.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (stream, ended) {
            (Some(stream), Ended::Itself | Ended::HeadLate) => drop(linger(&stream).await),
            // The kernel need not hold what nobody takes either.
            (Some(stream), Ended::Stalled) => drop(stream.set_zero_linger()),
            _ => (),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Itself,
    /// Its head did not come in time.
    HeadLate,
    /// The peer took nothing, or did not go when asked to.
    Stalled,
    /// It sent control frames for their own sake.
    Flood,
}

/// How long a connection may do what.
struct Patience {
    head: Duration,
    /// Without a request, when there have been some.
    idle: Duration,
    /// The client lets nothing of its answers out.
    untaken: Duration,
    /// What it takes of what is out.
    least: Least,
    ends: Ends,
}

impl Patience {
    fn new(settings: &ProxySettings, idle: Duration, ends: Ends) -> Self {
        let (untaken, least) = (settings.write_stall, Least::new(settings));
        Self { head: settings.head_timeout, idle, untaken, least, ends }
    }
}

/// Drives a connection, and looks after each turn at what it does and until when it may.
async fn watched_until_end<S, F>(
    mut connection: Pin<&mut Server<S, F>>,
    activity: &Activity,
    patience: &Patience,
    drain: watch::Receiver<bool>,
) -> Ended
where
    S: Fn(Request<Incoming>) -> F + Unpin,
    F: Future<Output = Response<Tracked>>,
{
    let mut draining = pin!(drained(drain));
    let mut drain_since = None;
    let mut asked_to_finish = None;
    let mut timer = pin!(sleep(Duration::ZERO));
    let mut armed = None;
    std::future::poll_fn(move |cx| {
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::Itself);
            }
            if drain_since.is_none() && draining.as_mut().poll(cx).is_ready() {
                drain_since = Some(clock::now());
            }
            let now = clock::now();
            if activity.look_due(patience.least).is_some_and(|due| due <= now)
                && activity.look(patience.ends.untaken().unwrap_or_default(), patience.least)
                    == Takes::TooLittle
            {
                return Poll::Ready(Ended::Stalled);
            }
            let (due, then) = next(now, activity, patience, drain_since, asked_to_finish);
            if due.is_some_and(|due| due <= now) {
                match then {
                    Then::Finish => {
                        asked_to_finish = Some(now);
                        connection.as_mut().finish();
                        continue;
                    }
                    Then::End(ended) => return Poll::Ready(ended),
                }
            }
            let due = due.into_iter().chain(activity.look_due(patience.least)).min();
            let Some(due) = due else { return Poll::Pending };
            if armed != Some(due) {
                armed = Some(due);
                timer.set(sleep_until(due.into()));
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            armed = None;
        }
    })
    .await
}

enum Then {
    Finish,
    End(Ended),
}

/// What has to be done next with a connection, and when.
fn next(
    now: Instant,
    activity: &Activity,
    patience: &Patience,
    drain_since: Option<Instant>,
    asked_to_finish: Option<Instant>,
) -> (Option<Instant>, Then) {
    if activity.is_flood() {
        return (Some(now), Then::End(Ended::Flood));
    }
    match (activity.doing(), asked_to_finish, drain_since) {
        (Doing::Reading(since), ..) => (Some(since + patience.head), Then::End(Ended::HeadLate)),
        (Doing::Serving, None, Some(since)) => (Some(since), Then::Finish),
        (Doing::Serving, ..) => {
            (activity.untaken_since().map(|since| since + patience.untaken), Then::End(Ended::Stalled))
        }
        (Doing::Idle(_) | Doing::Silent(_), Some(asked), _) => {
            (Some(asked + FINISH_PATIENCE), Then::End(Ended::Stalled))
        }
        (Doing::Idle(since) | Doing::Silent(since), None, Some(draining)) => {
            (Some(since.max(draining) + LAST_MOMENT), Then::Finish)
        }
        // Who has said how it speaks and then asks for nothing is as silent as who says nothing.
        (Doing::Silent(since), None, None) => (Some(since + patience.head.min(patience.idle)), Then::Finish),
        (Doing::Idle(since), None, None) => (Some(since + patience.idle), Then::Finish),
    }
}

/// Says that nothing more comes, then reads and forgets what the client still sends after its last response, so that
/// the response reaches it: a close with unread data resets the connection. Whether the client has closed its side.
pub(super) async fn linger(stream: &TcpStream) -> bool {
    // It fails when the client has gone, or when hyper has said so already.
    drop(socket2::SockRef::from(stream).shutdown(Shutdown::Write));
    let discard = async {
        let mut left = LINGER_BYTES;
        while left > 0 && stream.readable().await.is_ok() {
            match forget(stream) {
                Ok(0) => return true,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(_) => return true,
            }
        }
        false
    };
    // A client that goes on for longer has had its time.
    timeout(LINGER, discard).await.unwrap_or(false)
}

/// Reads and forgets. Apart, so that no future keeps room for it.
fn forget(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 4096])
}

/// What an idle connection gets when draining begins, for a request that is on its way.
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(1);
/// How long an idle connection may take to go when asked to.
const FINISH_PATIENCE: Duration = Duration::from_secs(3);

pub(super) const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
