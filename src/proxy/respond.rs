//! The only place that invents responses: each says in Proxy-Status (RFC 9209) that it is ours, and what to do.

use super::error::{Blame, ErrorKind, ProxyError};
use super::fields::Fields;
use crate::control::{Refusal, RefusalReason};
use crate::observe::ADMISSION_QUOTA;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use std::time::Duration;

/// The table: what each kind of error is answered with, and its token of RFC 9209.
pub(super) fn status_of(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::BadRequest | ErrorKind::BodyBroken => (StatusCode::BAD_REQUEST, "http_request_error"),
        ErrorKind::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "http_request_error"),
        ErrorKind::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "http_request_error"),
        ErrorKind::ExpectationFailed => (StatusCode::EXPECTATION_FAILED, "http_request_error"),
        ErrorKind::TargetTooLong => (StatusCode::URI_TOO_LONG, "http_request_error"),
        ErrorKind::FieldsTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error"),
        ErrorKind::VersionNotSupported => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "http_request_error"),
        ErrorKind::OtherSite => (StatusCode::FORBIDDEN, "http_request_denied"),
        ErrorKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "http_request_denied"),
        ErrorKind::Loop => (StatusCode::LOOP_DETECTED, "proxy_loop_detected"),
        ErrorKind::Dns => (StatusCode::BAD_GATEWAY, "dns_error"),
        ErrorKind::ConnectionRefused => (StatusCode::BAD_GATEWAY, "connection_refused"),
        ErrorKind::ConnectionTimeout => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
        ErrorKind::ConnectionLimit => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
        ErrorKind::Unroutable => (StatusCode::BAD_GATEWAY, "destination_ip_unroutable"),
        ErrorKind::TlsCertificate => (StatusCode::BAD_GATEWAY, "tls_certificate_error"),
        ErrorKind::TlsProtocol => (StatusCode::BAD_GATEWAY, "tls_protocol_error"),
        ErrorKind::ConnectionTerminated => (StatusCode::BAD_GATEWAY, "connection_terminated"),
        ErrorKind::WriteTimeout => (StatusCode::GATEWAY_TIMEOUT, "connection_write_timeout"),
        ErrorKind::ResponseTimeout => (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
        ErrorKind::HttpProtocol => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
        ErrorKind::QueueFull | ErrorKind::Deadline | ErrorKind::Draining => {
            (StatusCode::SERVICE_UNAVAILABLE, "proxy_internal_response")
        }
        ErrorKind::Configuration => (StatusCode::BAD_GATEWAY, "proxy_configuration_error"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
    }
}

/// The answer to a request that met `error`.
pub(super) fn to_error(error: &ProxyError) -> Response<Bytes> {
    let (status, token) = status_of(error.kind);
    let problem = Problem { status, token, detail: &error.detail, reason: None };
    let mut response = problem.response();
    if error.blame() == Blame::Client {
        // Its body may still be on the way, and nobody will read it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if error.kind == ErrorKind::MethodNotAllowed {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    response
}

/// The answer to a request that is not let through, and the word of Proxy-Status for it.
pub(super) fn to_refusal(refusal: &Refusal) -> (Response<Bytes>, &'static str) {
    let (kind, detail) = match refusal.reason {
        RefusalReason::QueueFull => (
            ErrorKind::QueueFull,
            "The queue for this limit is full. Come back after Retry-After, or send with fewer clients.",
        ),
        RefusalReason::Deadline => (
            ErrorKind::Deadline,
            "The API's limit does not let this request out before its deadline. Come back after Retry-After.",
        ),
        RefusalReason::Draining => (
            ErrorKind::Draining,
            "Tidegate is stopping and this request would not finish in time. It was not sent to the API.",
        ),
    };
    let (status, token) = status_of(kind);
    let problem = Problem { status, token, detail, reason: Some(refusal.reason.as_str()) };
    let mut response = problem.response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(refusal.retry_after)));
    (response, token)
}

/// The answer to a request whose caller has used up its quota at the door, and may come back after `wait`.
pub(super) fn to_caller_over_quota(wait: Duration) -> Response<Bytes> {
    let problem = Problem {
        status: StatusCode::TOO_MANY_REQUESTS,
        token: "http_request_denied",
        detail: "You have used up the quota that Tidegate's operator gives each caller. Nothing was sent to the API. \
                 Come back after Retry-After.",
        reason: Some(ADMISSION_QUOTA),
    };
    let mut response = problem.response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    response
}

/// The answer to OPTIONS that may go no further (Max-Forwards: 0).
pub(super) fn to_options() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    mark(response.headers_mut(), "proxy_internal_response", "Max-Forwards was 0");
    response
}

/// Writes Server-Timing: the time in queues, the time with the API, and how often it was sent again. A field of
/// the API's own stays, in a line of its own.
pub(super) fn add_server_timing(fields: &mut Fields, queued: Duration, upstream: Duration, retries: u32) {
    let mut line = Line::default();
    line.put("queue;dur=");
    line.put_milliseconds(queued);
    line.put(", upstream;dur=");
    line.put_milliseconds(upstream);
    line.put(", retries;desc=\"");
    line.put(itoa::Buffer::new().format(retries));
    line.put("\"");
    // No two are alike.
    fields.append_once(&SERVER_TIMING, line.written());
}

/// A line of Server-Timing while it is written: each answer gets one, and `format!` costs ten times as much.
struct Line {
    /// Three numbers of twenty digits at most, and the words between them.
    bytes: [u8; 128],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 128], length: 0 }
    }
}

impl Line {
    fn put(&mut self, text: &str) {
        let end = self.length + text.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
            self.length = end;
        }
    }

    /// Milliseconds with up to three decimals, without the zeros that say nothing.
    fn put_milliseconds(&mut self, time: Duration) {
        let whole = time.as_secs().saturating_mul(1_000).saturating_add(u64::from(time.subsec_millis()));
        self.put(itoa::Buffer::new().format(whole));
        let thousandths = time.subsec_micros() % 1_000;
        if thousandths > 0 {
            let mut digits = itoa::Buffer::new();
            // A thousand more, so that there are three of them.
            let digits = digits.format(1_000 + thousandths).get(1..).unwrap_or_default();
            self.put(".");
            self.put(digits.trim_end_matches('0'));
        }
    }

    fn written(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The raw bytes for a client whose request head did not come in time: there is no request to answer to.
pub(super) const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    Connection: close\r\n\
    Cache-Control: no-store\r\n\
    Proxy-Status: tidegate; error=http_request_error; details=\"the request head did not arrive in time\"\r\n\
    Content-Length: 0\r\n\r\n";

/// For a client that speaks in the clear where TLS is spoken.
pub(super) const TLS_EXPECTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Connection: close\r\n\
    Cache-Control: no-store\r\n\
    Proxy-Status: tidegate; error=http_request_error; details=\"TLS is spoken here: use https\"\r\n\
    Content-Length: 0\r\n\r\n";

struct Problem<'a> {
    status: StatusCode,
    token: &'static str,
    detail: &'a str,
    reason: Option<&'static str>,
}

/// The wire shape of RFC 9457.
#[derive(Serialize)]
struct ProblemJson<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Problem<'_> {
    fn response(&self) -> Response<Bytes> {
        let json = ProblemJson {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail,
            reason: self.reason,
        };
        // A struct of strings and a number always has a JSON form.
        let mut response = Response::new(Bytes::from(serde_json::to_vec(&json).unwrap_or_default()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        mark(headers, self.token, self.reason.unwrap_or(self.detail));
        response
    }
}

/// Says that this response is ours, and that no cache may keep it.
fn mark(headers: &mut HeaderMap, token: &str, details: &str) {
    let quoted: String = details
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .flat_map(|c| (matches!(c, '"' | '\\')).then_some('\\').into_iter().chain([c]))
        .collect();
    if let Ok(value) = HeaderValue::try_from(format!("tidegate; error={token}; details=\"{quoted}\"")) {
        headers.insert(PROXY_STATUS, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// At least one second, and never less than asked.
fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(up).max(1)
}

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_KIND: [(ErrorKind, u16, &str); 27] = [
        (ErrorKind::ExpectationFailed, 417, "http_request_error"),
        (ErrorKind::TargetTooLong, 414, "http_request_error"),
        (ErrorKind::FieldsTooLarge, 431, "http_request_error"),
        (ErrorKind::VersionNotSupported, 505, "http_request_error"),
        (ErrorKind::BadRequest, 400, "http_request_error"),
        (ErrorKind::OtherSite, 403, "http_request_denied"),
        (ErrorKind::MethodNotAllowed, 405, "http_request_denied"),
        (ErrorKind::BodyTimeout, 408, "http_request_error"),
        (ErrorKind::BodyBroken, 400, "http_request_error"),
        (ErrorKind::NotImplemented, 501, "http_request_error"),
        (ErrorKind::Loop, 508, "proxy_loop_detected"),
        (ErrorKind::Dns, 502, "dns_error"),
        (ErrorKind::ConnectionRefused, 502, "connection_refused"),
        (ErrorKind::ConnectionTimeout, 504, "connection_timeout"),
        (ErrorKind::ConnectionLimit, 503, "connection_limit_reached"),
        (ErrorKind::Unroutable, 502, "destination_ip_unroutable"),
        (ErrorKind::TlsCertificate, 502, "tls_certificate_error"),
        (ErrorKind::TlsProtocol, 502, "tls_protocol_error"),
        (ErrorKind::ConnectionTerminated, 502, "connection_terminated"),
        (ErrorKind::WriteTimeout, 504, "connection_write_timeout"),
        (ErrorKind::ResponseTimeout, 504, "http_response_timeout"),
        (ErrorKind::HttpProtocol, 502, "http_protocol_error"),
        (ErrorKind::QueueFull, 503, "proxy_internal_response"),
        (ErrorKind::Deadline, 503, "proxy_internal_response"),
        (ErrorKind::Draining, 503, "proxy_internal_response"),
        (ErrorKind::Configuration, 502, "proxy_configuration_error"),
        (ErrorKind::Internal, 500, "proxy_internal_error"),
    ];

    #[test]
    fn every_error_has_its_status_and_its_word() {
        for (kind, status, token) in EVERY_KIND {
            let response = to_error(&ProxyError::new(kind, "say \"why\""));
            assert_eq!(response.status().as_u16(), status, "{kind:?}");
            let line = response.headers()["proxy-status"].to_str().unwrap();
            assert_eq!(line, format!("tidegate; error={token}; details=\"say \\\"why\\\"\""));
            assert_eq!(response.headers()["cache-control"], "no-store");
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["status"], status);
            assert_eq!(body["detail"], "say \"why\"");
            let closes = response.headers().contains_key("connection");
            assert_eq!(closes, kind.blame() == Blame::Client, "{kind:?}");
        }
    }

    #[test]
    fn refusals_say_why_and_when_to_come_back() {
        for (reason, word) in [
            (RefusalReason::QueueFull, "queue_full"),
            (RefusalReason::Deadline, "deadline"),
            (RefusalReason::Draining, "draining"),
        ] {
            for (wait, seconds) in [(0, "1"), (1_000, "1"), (1_001, "2"), (30_000, "30")] {
                let retry_after = Duration::from_millis(wait);
                let (response, _) = to_refusal(&Refusal { reason, retry_after, lane: "x@none".into() });
                assert_eq!(response.status(), 503);
                assert_eq!(response.headers()["retry-after"], seconds);
                let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
                assert_eq!(body["reason"], word);
                assert!(response.headers()["proxy-status"].to_str().unwrap().contains(word));
            }
        }
    }

    #[test]
    fn a_caller_over_its_quota_gets_a_429_of_ours_with_whole_seconds() {
        for (millis, seconds) in [(1, "1"), (1_000, "1"), (59_001, "60")] {
            let response = to_caller_over_quota(Duration::from_millis(millis));
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], seconds);
            assert_eq!(response.headers()["cache-control"], "no-store");
            let line = response.headers()["proxy-status"].to_str().unwrap();
            assert!(
                line.starts_with("tidegate; error=http_request_denied; details=\"admission_quota"),
                "{line}"
            );
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["reason"], "admission_quota");
        }
    }

    #[test]
    fn server_timing_is_added_beside_the_api_s_own() {
        for mut fields in [Fields::default(), HeaderMap::new().into()] {
            fields.append(&SERVER_TIMING, b"db;dur=5");
            add_server_timing(&mut fields, Duration::from_micros(1_200_500), Duration::from_millis(12), 2);
            let lines: Vec<_> = fields.all(&SERVER_TIMING).collect();
            let ours = b"queue;dur=1200.5, upstream;dur=12, retries;desc=\"2\"";
            assert_eq!(lines, [&b"db;dur=5"[..], ours]);
        }
    }

    #[test]
    fn milliseconds_are_short() {
        for (micros, text) in [(0, "0"), (1, "0.001"), (1_000, "1"), (1_230, "1.23"), (100_000, "100")] {
            let mut fields = Fields::default();
            add_server_timing(&mut fields, Duration::from_micros(micros), Duration::MAX, u32::MAX);
            let line =
                format!("queue;dur={text}, upstream;dur={}.999, retries;desc=\"{}\"", u64::MAX, u32::MAX);
            assert_eq!(fields.first(&SERVER_TIMING), Some(line.as_bytes()));
        }
    }
}
