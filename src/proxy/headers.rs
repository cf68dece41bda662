//! What an intermediary changes in a head: hop-by-hop fields go, Via comes, everything else stays as it is.
//!
//! What becomes of `Forwarded` and `X-Forwarded-*` stands in [`super::forwarded`].

use super::error::{ErrorKind, ProxyError};
use super::fields::{Fields, mark, text};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, LOCATION, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    RETRY_AFTER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, VIA, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use std::fmt;

/// Our name in Via fields: unlike any other instance's, so that meeting it again means a loop.
#[derive(Clone)]
pub(super) struct Via {
    token: String,
    one_zero: HeaderValue,
    one_one: HeaderValue,
    two: HeaderValue,
}

impl Via {
    /// A pseudonym made of `random`.
    pub(super) fn new(random: [u8; 4]) -> Self {
        let token = format!("tidegate-{:08x}", u32::from_be_bytes(random));
        let line = |version| HeaderValue::try_from(format!("{version} {token}"));
        let fallback = |_| HeaderValue::from_static("1.1 tidegate");
        let [one_zero, one_one, two] =
            ["1.0", "1.1", "2"].map(|version| line(version).unwrap_or_else(fallback));
        Self { token, one_zero, one_one, two }
    }

    fn received_as(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_2 => &self.two,
            Version::HTTP_10 | Version::HTTP_09 => &self.one_zero,
            _ => &self.one_one,
        }
    }

    fn is_in(&self, fields: &Fields) -> bool {
        let token = self.token.as_bytes();
        fields.all(&VIA).any(|line| line.windows(token.len()).any(|part| part == token))
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

/// Makes the head that goes to the upstream. Host is left out: the connection writes the upstream's own.
pub(super) fn to_upstream(fields: &mut Fields, version: Version, via: &Via) -> Result<(), ProxyError> {
    if via.is_in(fields) {
        return Err(ProxyError::new(
            ErrorKind::Loop,
            "This request has passed this Tidegate before: the upstream leads back here. Point --upstream at the API.",
        ));
    }
    let wants_trailers = has_token(fields, &TE, "trailers");
    remove_nominated(fields);
    fields.remove_if(is_not_forwarded);
    if wants_trailers {
        fields.append(&TE, b"trailers");
    }
    fields.append(&VIA, via.received_as(version).as_bytes());
    Ok(())
}

/// Makes the head that goes to the client.
pub(super) fn to_client(fields: &mut Fields) {
    if !fields.may_have(HOP_BY_HOP) {
        return;
    }
    if fields.has(&TRANSFER_ENCODING) {
        // Both: the coding wins, and the length is a lie or an attack (RFC 9112 6.3).
        fields.remove(&CONTENT_LENGTH);
    }
    remove_nominated(fields);
    fields.remove_if(is_hop_by_hop);
}

/// Takes out of trailers what must not come after the fact: framing, routing, credentials, and what concerns one
/// connection (RFC 9110 6.5.1).
pub(super) fn trailing(trailers: &mut HeaderMap) {
    let mut fields = Fields::from(std::mem::take(trailers));
    remove_nominated(&mut fields);
    fields.remove_if(|name| {
        is_hop_by_hop(name) || NOT_TRAILING.iter().any(|out| out.as_str().as_bytes() == name)
    });
    *trailers = fields.into_map();
}

/// How long the peer keeps an idle connection, in seconds, if its Keep-Alive field says.
pub(super) fn keep_alive_seconds(fields: &Fields) -> Option<u64> {
    let mut parameters = fields.all(&KEEP_ALIVE).filter_map(text).flat_map(|value| value.split(','));
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"').parse().ok())?
    })
}

/// Removes the fields that Connection names.
fn remove_nominated(fields: &mut Fields) {
    // Nearly always it says one of these, and names no field.
    let is_option = |line: &[u8]| matches!(line, b"keep-alive" | b"close" | b"Keep-Alive");
    if fields.all(&CONNECTION).all(is_option) {
        return;
    }
    let nominated: Vec<HeaderName> = tokens(fields, &CONNECTION)
        .filter_map(|token| HeaderName::try_from(token).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in nominated {
        fields.remove(&name);
    }
}

fn has_token(fields: &Fields, name: &HeaderName, wanted: &str) -> bool {
    tokens(fields, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The elements of a comma-separated list over all its lines, parameters cut off.
fn tokens<'a>(fields: &'a Fields, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = fields.all(name).filter_map(text);
    lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let token = item.split(';').next().unwrap_or_default().trim();
        (!token.is_empty()).then_some(token)
    })
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The marks of connection-level fields.
const HOP_BY_HOP: u64 = mark(b"te")
    | mark(b"upgrade")
    | mark(b"connection")
    | mark(b"keep-alive")
    | mark(b"proxy-connection")
    | mark(b"transfer-encoding");

/// Connection-level fields by name (RFC 9110 7.6.1). Trailer stays: it says what is relayed after the body.
fn is_hop_by_hop(name: &[u8]) -> bool {
    // The length tells most names apart from these.
    match name.len() {
        2 => name == b"te",
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    }
}

/// What of a request is not for the upstream: those, the name of its host here, and what is for a proxy.
fn is_not_forwarded(name: &[u8]) -> bool {
    match name.len() {
        4 => name == b"host",
        14 => name == b"http2-settings",
        19 => name == b"proxy-authorization",
        _ => is_hop_by_hop(name),
    }
}

/// Fields that Connection may not take away, whatever it says: framing, routing and credentials.
static END_TO_END: [HeaderName; 10] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    CACHE_CONTROL,
    RETRY_AFTER,
    VIA,
    FORWARDED,
];

static NOT_TRAILING: [HeaderName; 23] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    SET_COOKIE,
    CACHE_CONTROL,
    RETRY_AFTER,
    EXPECT,
    MAX_FORWARDS,
    RANGE,
    VIA,
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    TRAILER,
    LOCATION,
];

#[cfg(test)]
mod tests {
    use super::super::fields::both;
    use super::*;

    fn via() -> Via {
        Via::new([1, 2, 3, 4])
    }

    fn names(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(name, _)| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn hop_by_hop_fields_go_and_others_stay() {
        let fields = [
            ("host", "client.example"),
            ("connection", "keep-alive, X-Drop, authorization, content-length"),
            ("x-drop", "1"),
            ("x-keep", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic secret"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip, trailers;q=0.5"),
            ("authorization", "Bearer t"),
            ("content-length", "3"),
            ("x-forwarded-for", "10.0.0.1"),
        ];
        for mut fields in both(&fields) {
            to_upstream(&mut fields, Version::HTTP_11, &via()).unwrap();
            let mut names = names(&fields);
            // A map does not keep the order.
            names.sort();
            let kept = ["authorization", "content-length", "te", "via", "x-forwarded-for", "x-keep"];
            assert_eq!(names, kept);
            assert_eq!(fields.first(&TE), Some(&b"trailers"[..]));
            assert_eq!(fields.first(&VIA), Some(&b"1.1 tidegate-01020304"[..]));
        }
    }

    #[test]
    fn via_is_appended_and_our_own_is_a_loop() {
        for mut fields in both(&[("via", "1.0 fred, 1.1 tidegate-aaaaaaaa")]) {
            to_upstream(&mut fields, Version::HTTP_2, &via()).unwrap();
            let lines: Vec<_> = fields.all(&VIA).collect();
            assert_eq!(lines, [&b"1.0 fred, 1.1 tidegate-aaaaaaaa"[..], b"2 tidegate-01020304"]);
            let error = to_upstream(&mut fields, Version::HTTP_11, &via()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Loop);
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_dropped_from_responses() {
        for mut fields in both(&[("content-length", "3"), ("transfer-encoding", "chunked"), ("x", "1")]) {
            to_client(&mut fields);
            assert_eq!(names(&fields), ["x"]);
        }
    }

    #[test]
    fn trailers_carry_no_framing_no_credentials_and_nothing_of_one_connection() {
        let fields = [
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "evil.example"),
            ("authorization", "Bearer t"),
            ("set-cookie", "a=1"),
            ("connection", "x-gone"),
            ("x-gone", "1"),
        ];
        for fields in both(&fields) {
            let mut trailers = fields.into_map();
            trailing(&mut trailers);
            assert_eq!(names(&trailers.into()), ["grpc-status", "x-checksum"]);
        }
    }

    #[test]
    fn keep_alive_is_read() {
        for (value, seconds) in [
            ("timeout=5, max=100", Some(5)),
            ("max=100, Timeout = \"20\"", Some(20)),
            ("max=1", None),
            ("timeout=x", None),
        ] {
            for fields in both(&[("keep-alive", value)]) {
                assert_eq!(keep_alive_seconds(&fields), seconds, "{value}");
            }
        }
    }
}
