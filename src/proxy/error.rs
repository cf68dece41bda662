//! What can go wrong with one request, and whose fault it is.

use std::borrow::Cow;
use std::error::Error;

/// An error of any kind, kept as a source.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Whose fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The client sent something that cannot be served.
    Client,
    /// The upstream, or the way to it.
    Upstream,
    /// Tidegate itself: its bounds, its configuration, its defects.
    Proxy,
}

/// What went wrong. The table of what each is answered with stands in [`super::respond`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// The head is not a request that a proxy may forward.
    BadRequest,
    /// Another site than the upstream was asked for.
    OtherSite,
    /// A method that is not served on this resource.
    MethodNotAllowed,
    /// The body did not come.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
    /// CONNECT, or a transfer coding that is not known.
    NotImplemented,
    /// An Expect that is not 100-continue.
    ExpectationFailed,
    /// A request target that is too long.
    TargetTooLong,
    /// A head that is too long or has too many fields.
    FieldsTooLarge,
    /// A version of HTTP that is not spoken here.
    VersionNotSupported,
    /// The request has been here before.
    Loop,
    /// The upstream's name does not resolve.
    Dns,
    /// Nobody listens there.
    ConnectionRefused,
    /// No connection in time.
    ConnectionTimeout,
    /// As many connections as there may be, all in use.
    ConnectionLimit,
    /// No route to the upstream.
    Unroutable,
    /// The upstream's certificate is not trusted.
    TlsCertificate,
    /// TLS failed in another way.
    TlsProtocol,
    /// The connection ended before the response head was complete.
    ConnectionTerminated,
    /// The upstream takes nothing of the request.
    WriteTimeout,
    /// No response head in time.
    ResponseTimeout,
    /// What came is not HTTP.
    HttpProtocol,
    /// The queue is full.
    QueueFull,
    /// It would wait, or has waited, longer than it may.
    Deadline,
    /// The program is stopping.
    Draining,
    /// The configuration of this machine lacks something (no TLS roots).
    Configuration,
    /// A defect of ours.
    Internal,
}

/// Why one request is not answered by the API.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct ProxyError {
    /// What went wrong.
    pub(super) kind: ErrorKind,
    /// A sentence for the caller: what happened and what to do.
    pub(super) detail: Cow<'static, str>,
    /// What lay beneath.
    pub(super) source: Option<BoxError>,
}

impl ProxyError {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), source: None }
    }

    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn blame(&self) -> Blame {
        self.kind.blame()
    }
}

impl ErrorKind {
    pub(super) fn blame(self) -> Blame {
        match self {
            Self::BadRequest
            | Self::OtherSite
            | Self::MethodNotAllowed
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::NotImplemented
            | Self::ExpectationFailed
            | Self::TargetTooLong
            | Self::FieldsTooLarge
            | Self::VersionNotSupported
            | Self::Loop => Blame::Client,
            Self::Dns
            | Self::ConnectionRefused
            | Self::ConnectionTimeout
            | Self::Unroutable
            | Self::TlsCertificate
            | Self::TlsProtocol
            | Self::ConnectionTerminated
            | Self::WriteTimeout
            | Self::ResponseTimeout
            | Self::HttpProtocol => Blame::Upstream,
            Self::ConnectionLimit
            | Self::QueueFull
            | Self::Deadline
            | Self::Draining
            | Self::Configuration
            | Self::Internal => Blame::Proxy,
        }
    }
}

/// The first error of type `E` in the chain that starts at `error`, looking into what `io::Error` carries.
pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // io::Error::source skips the error that it carries and goes to that one's source.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match carried {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn errors_are_found_beneath_io_errors() {
        let inner = io::Error::new(io::ErrorKind::ConnectionRefused, "no");
        let middle = io::Error::other(ProxyError::new(ErrorKind::Dns, "x").because(inner));
        let outer = io::Error::other(middle);
        assert_eq!(find::<ProxyError>(&outer).unwrap().kind, ErrorKind::Dns);
        assert!(find::<rustls::Error>(&outer).is_none());
    }
}
