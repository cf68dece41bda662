//! Exchanges with the upstream that failed: what that says about the request, and whether it may be sent again.

use super::body::Replay;
use super::error::{ErrorKind, ProxyError, find};
use super::h1::Lost;
use super::pool::Stalled;
use super::sending::Sending;
use crate::config::Upstream;
use http::{Method, Request};
use hyper::client::conn::TrySendError;
use std::error::Error;

/// Why an attempt failed, and what that says about another one.
pub(super) struct Failed {
    pub(super) error: ProxyError,
    /// Nothing of the request was processed, for certain.
    unsent: bool,
    /// The connection was kept from an earlier exchange.
    kept: bool,
}

impl Failed {
    /// An exchange over HTTP/1.1 was `lost`, of which nothing had left if it `is_unsent`.
    pub(super) fn of_http1(lost: Lost, is_unsent: bool, kept: bool, upstream: &Upstream) -> Self {
        Self { error: explain(lost, upstream), unsent: is_unsent, kept }
    }

    pub(super) fn of_http2(error: TrySendError<Request<Sending>>, kept: bool, upstream: &Upstream) -> Self {
        let unsent = error.message().is_some() || is_refused_stream(error.error());
        // A stream that is reset is this request's own end, not that of a connection that was kept too long.
        let kept = kept && ends_connection(error.error());
        Self { error: explain(error.into_error(), upstream), unsent, kept }
    }

    /// What was never processed may be sent again; so may an idempotent request whose connection was kept from
    /// before, since its end says nothing about the request (RFC 9112 9.3.1).
    pub(super) fn may_retry(&self, method: &Method, replay: &Replay) -> bool {
        let idempotent = method.is_idempotent() && replay.can_replay();
        self.error.kind == ErrorKind::ConnectionTerminated
            && ((self.unsent && replay.can_resend()) || (self.kept && idempotent))
    }
}

impl From<ProxyError> for Failed {
    fn from(error: ProxyError) -> Self {
        Self { error, unsent: false, kept: false }
    }
}

/// What a failed exchange with `upstream` is answered with.
pub(super) fn explain(error: impl Error + Send + Sync + 'static, upstream: &Upstream) -> ProxyError {
    let (kind, detail) = if let Some(Lost::Nonsense(fault)) = find::<Lost>(&error) {
        (ErrorKind::HttpProtocol, format!("{upstream} did not answer with valid HTTP. {}", fault.detail))
    } else if find::<Stalled>(&error).is_some() {
        (
            ErrorKind::WriteTimeout,
            format!(
                "{upstream} took nothing of the request for too long. What it has may have been processed."
            ),
        )
    } else if let Some(tls) = find::<rustls::Error>(&error) {
        (ErrorKind::TlsProtocol, format!("TLS with {upstream} failed: {tls}."))
    } else if find::<h2::Error>(&error)
        .is_some_and(|error| error.reason() == Some(h2::Reason::PROTOCOL_ERROR))
    {
        (ErrorKind::HttpProtocol, format!("{upstream} did not answer with valid HTTP/2: {error}."))
    } else {
        (
            ErrorKind::ConnectionTerminated,
            format!(
                "{upstream} ended the connection before it answered. The request may have been processed."
            ),
        )
    };
    ProxyError::new(kind, detail).because(error)
}

/// HTTP/2 says of some streams that they were never looked at (RFC 9113 8.7).
fn is_refused_stream(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}

/// Is there no further request for this HTTP/2 connection? One stream that was reset says nothing of the others.
pub(super) fn ends_connection(error: &hyper::Error) -> bool {
    find::<h2::Error>(error).is_none_or(|error| !error.is_reset())
}
