//! The heads of messages on their way through, whatever brought them.

use super::fields::Fields;
use super::grammar::Fault;
use http::request;
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::ext::ReasonPhrase;

/// A request's head, before it is known what it wants.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) fields: Fields,
    /// The client waits until it is asked for the body over HTTP/1.1, and has not sent any of it. Who speaks HTTP/1.0 does
    /// not wait (RFC 9110 10.1.1).
    pub(super) waits: bool,
    /// Why it is none.
    pub(super) fault: Option<Fault>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply<B> {
    pub(super) status: StatusCode,
    /// What the API says to it, if that is not what all do. In a box: heads are moved often.
    pub(super) reason: Option<Box<ReasonPhrase>>,
    pub(super) fields: Fields,
    pub(super) body: B,
}

impl From<request::Parts> for Asking {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        Self { method, uri, version, fields: headers.into(), waits: false, fault: None }
    }
}

impl<B> Reply<B> {
    pub(super) fn map<T>(self, change: impl FnOnce(B) -> T) -> Reply<T> {
        let Self { status, reason, fields, body } = self;
        Reply { status, reason, fields, body: change(body) }
    }

    pub(super) fn into_response(self) -> Response<B> {
        let Self { status, reason, fields, body } = self;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = fields.into_map();
        if let Some(reason) = reason {
            response.extensions_mut().insert(*reason);
        }
        response
    }
}

impl<B> From<Response<B>> for Reply<B> {
    fn from(response: Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, reason: None, fields: parts.headers.into(), body }
    }
}
