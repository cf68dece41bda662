//! Can the upstream be reached? A warning at the start, so that a typing error is found before the first request.

use crate::config::Upstream;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Tries once to connect, and says so when that fails. It is no reason to stop: the upstream may come up later.
pub(super) async fn check(upstream: Upstream, patience: Duration) {
    let name = upstream.host.trim_start_matches('[').trim_end_matches(']');
    let tried = timeout(patience, TcpStream::connect((name, upstream.port))).await;
    let error = match tried {
        Ok(Ok(_connected)) => return tracing::debug!(%upstream, "the upstream can be reached"),
        Ok(Err(error)) => error,
        Err(_elapsed) => io::ErrorKind::TimedOut.into(),
    };
    tracing::warn!(
        %upstream, %error,
        "the upstream cannot be reached now: requests are answered 502 or 504 until it can; is --upstream right?"
    );
}
