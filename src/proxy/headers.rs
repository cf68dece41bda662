//! What an intermediary changes in a head: hop-by-hop fields go, Via comes, everything else stays as it is.
//!
//! What becomes of `Forwarded` and `X-Forwarded-*` stands in [`super::forwarded`].

use super::error::{ErrorKind, ProxyError};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, LOCATION, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    RETRY_AFTER, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA, WWW_AUTHENTICATE,
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

    fn received_as(&self, version: Version) -> HeaderValue {
        match version {
            Version::HTTP_2 => self.two.clone(),
            Version::HTTP_10 | Version::HTTP_09 => self.one_zero.clone(),
            _ => self.one_one.clone(),
        }
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let token = self.token.as_bytes();
        let lines = headers.get_all(VIA).iter();
        lines.into_iter().any(|line| line.as_bytes().windows(token.len()).any(|part| part == token))
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

/// Makes the head that goes to the upstream. Host is left out: the connection writes the upstream's own.
pub(super) fn to_upstream(headers: &mut HeaderMap, version: Version, via: &Via) -> Result<(), ProxyError> {
    let there = Present::of(headers, &NOT_FORWARDED);
    if headers.keys().any(|name| *name == VIA) && via.is_in(headers) {
        return Err(ProxyError::new(
            ErrorKind::Loop,
            "This request has passed this Tidegate before: the upstream leads back here. Point --upstream at the API.",
        ));
    }
    if there.any() {
        let wants_trailers = there.has(&TE) && has_token(headers, &TE, "trailers");
        if there.has(&CONNECTION) {
            remove_nominated(headers);
        }
        there.remove_from(headers);
        if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    headers.append(VIA, via.received_as(version));
    Ok(())
}

/// Makes the head that goes to the client.
pub(super) fn to_client(headers: &mut HeaderMap) {
    let there = Present::of(headers, &HOP_BY_HOP);
    if !there.any() {
        return;
    }
    if there.has(&TRANSFER_ENCODING) {
        // Both: the coding wins, and the length is a lie or an attack (RFC 9112 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if there.has(&CONNECTION) {
        remove_nominated(headers);
    }
    there.remove_from(headers);
}

/// Takes out of trailers what must not come after the fact: framing, routing, credentials, and what concerns one
/// connection (RFC 9110 6.5.1).
pub(super) fn trailing(trailers: &mut HeaderMap) {
    remove_nominated(trailers);
    Present::of(trailers, &HOP_BY_HOP).remove_from(trailers);
    Present::of(trailers, &NOT_TRAILING).remove_from(trailers);
}

/// How long the peer keeps an idle connection, in seconds, if its Keep-Alive field says.
pub(super) fn keep_alive_seconds(headers: &HeaderMap) -> Option<u64> {
    let fields = headers.get_all(KEEP_ALIVE).iter().filter_map(|value| value.to_str().ok());
    let mut parameters = fields.flat_map(|value| value.split(','));
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"').parse().ok())?
    })
}

/// Which of some names a head has, found in one look at the few that are there: looking each of them up costs a hash.
#[derive(Clone, Copy)]
pub(super) struct Present {
    names: &'static [HeaderName],
    /// A bit for each of the names.
    found: u32,
}

impl Present {
    /// `names` are 32 at most.
    pub(super) fn of(headers: &HeaderMap, names: &'static [HeaderName]) -> Self {
        let bit = |name: &HeaderName| names.iter().position(|known| known == name).map_or(0, |at| 1 << at);
        Self { names, found: headers.keys().fold(0, |found, name| found | bit(name)) }
    }

    fn any(self) -> bool {
        self.found != 0
    }

    pub(super) fn has(self, name: &HeaderName) -> bool {
        self.those().any(|found| found == name)
    }

    fn remove_from(self, headers: &mut HeaderMap) {
        for name in self.those() {
            headers.remove(name);
        }
    }

    fn those(mut self) -> impl Iterator<Item = &'static HeaderName> {
        std::iter::from_fn(move || {
            let at = self.found.trailing_zeros();
            self.found &= self.found.wrapping_sub(1);
            self.names.get(usize::try_from(at).ok()?)
        })
    }
}

/// Removes the fields that Connection names.
fn remove_nominated(headers: &mut HeaderMap) {
    // Nearly always it says one of these, and names no field.
    let is_option = |line: &HeaderValue| matches!(line.as_bytes(), b"keep-alive" | b"close" | b"Keep-Alive");
    if headers.iter().all(|(name, value)| *name != CONNECTION || is_option(value)) {
        return;
    }
    let nominated: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::try_from(token).ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The elements of a comma-separated list over all its lines, parameters cut off.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let token = item.split(';').next().unwrap_or_default().trim();
        (!token.is_empty()).then_some(token)
    })
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Connection-level fields by name (RFC 9110 7.6.1). Trailer stays: it says what is relayed after the body.
static HOP_BY_HOP: [HeaderName; 6] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE];

/// What of a request is not for the upstream: those, the name of its host here, and what is for a proxy.
static NOT_FORWARDED: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HOST,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
];

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
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn via() -> Via {
        Via::new([1, 2, 3, 4])
    }

    #[test]
    fn hop_by_hop_fields_go_and_others_stay() {
        let mut headers = map(&[
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
        ]);
        to_upstream(&mut headers, Version::HTTP_11, &via()).unwrap();
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        for gone in [
            "host",
            "connection",
            "x-drop",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "upgrade",
        ] {
            assert!(!names.contains(&gone), "{gone} in {names:?}");
        }
        for kept in ["x-keep", "authorization", "content-length", "x-forwarded-for"] {
            assert!(names.contains(&kept), "{kept} not in {names:?}");
        }
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["via"], "1.1 tidegate-01020304");
    }

    #[test]
    fn via_is_appended_and_our_own_is_a_loop() {
        let mut headers = map(&[("via", "1.0 fred, 1.1 tidegate-aaaaaaaa")]);
        to_upstream(&mut headers, Version::HTTP_2, &via()).unwrap();
        let lines: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(lines, ["1.0 fred, 1.1 tidegate-aaaaaaaa", "2 tidegate-01020304"]);
        let error = to_upstream(&mut headers, Version::HTTP_11, &via()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Loop);
    }

    #[test]
    fn a_length_beside_a_coding_is_dropped_from_responses() {
        let mut headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked"), ("x", "1")]);
        to_client(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn trailers_carry_no_framing_no_credentials_and_nothing_of_one_connection() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("x-checksum", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("host", "evil.example"),
            ("authorization", "Bearer t"),
            ("set-cookie", "a=1"),
            ("connection", "x-gone"),
            ("x-gone", "1"),
        ]);
        trailing(&mut trailers);
        let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["grpc-status", "x-checksum"]);
    }

    #[test]
    fn keep_alive_is_read() {
        for (value, seconds) in [
            ("timeout=5, max=100", Some(5)),
            ("max=100, Timeout = \"20\"", Some(20)),
            ("max=1", None),
            ("timeout=x", None),
        ] {
            assert_eq!(keep_alive_seconds(&map(&[("keep-alive", value)])), seconds, "{value}");
        }
    }
}
