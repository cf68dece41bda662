//! Who may change something? This machine, or whoever has the token.
//!
//! With a token it is asked of everyone. Without one only a peer on loopback may, and only under one of our own names:
//! a web page that has its own name resolved to this machine must not steer lanes, whatever the listener's address. What
//! a proxy brought is not from here either, although the proxy may be.

use super::Admin;
use super::host;
use super::problem::Problem;
use crate::config::Secret;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use ring::hmac;
use std::net::IpAddr;

/// The address that a request came from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The right to change something, as an argument of handlers that do.
#[derive(Debug)]
pub(super) struct MayChange;

impl FromRequestParts<Admin> for MayChange {
    type Rejection = Problem;

    async fn from_request_parts(request: &mut Parts, admin: &Admin) -> Result<Self, Problem> {
        let peer = request.extensions.get::<Peer>().copied();
        may_change(admin.token.as_ref(), peer, &request.headers)
    }
}

fn may_change(token: Option<&Secret>, peer: Option<Peer>, headers: &HeaderMap) -> Result<MayChange, Problem> {
    let Some(token) = token else {
        let near = peer.is_some_and(|Peer(ip)| ip.to_canonical().is_loopback());
        let direct = !BROUGHT.iter().any(|field| headers.contains_key(*field));
        return if near && direct && host::names_own(headers) { Ok(MayChange) } else { Err(stranger()) };
    };
    match bearer(headers) {
        Some(shown) if same(token, shown) => Ok(MayChange),
        Some(_) => Err(Problem::unauthorized("this is not the token of --admin-token-file")),
        None => {
            Err(Problem::unauthorized("send the token of --admin-token-file: Authorization: Bearer TOKEN"))
        }
    }
}

fn stranger() -> Problem {
    let detail = "lanes can be changed from this machine (by localhost or an IP address) alone; to do it from elsewhere, \
                  start Tidegate with --admin-token-file FILE and send: Authorization: Bearer TOKEN";
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// What stands behind `Bearer`, whose case does not matter (RFC 9110 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim_ascii())
}

/// Compares keyed hashes, so that the time that it takes tells nothing of the token, its length included.
fn same(token: &Secret, shown: &[u8]) -> bool {
    let token = token.reveal().as_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA256, token);
    hmac::verify(&key, shown, hmac::sign(&key, token).as_ref()).is_ok()
}

const BEARER: &[u8] = b"Bearer ";
/// The fields by which proxies say that they are there.
const BROUGHT: [&str; 3] = ["forwarded", "via", "x-forwarded-for"];

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn asked(token: Option<&str>, peer: &str, host: &str, authorization: Option<&str>) -> u16 {
        let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(host).unwrap())]);
        if let Some(text) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
        }
        let token = token.map(|text| Secret::new(text.to_owned()));
        let peer = Some(Peer(peer.parse().unwrap()));
        may_change(token.as_ref(), peer, &headers).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn without_a_token_this_machine_may_under_its_own_names() {
        for peer in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(asked(None, peer, "localhost:9464", None), 200, "{peer}");
        }
        for peer in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert_eq!(asked(None, peer, "localhost:9464", None), 403, "{peer}");
        }
        assert_eq!(asked(None, "127.0.0.1", "evil.example:9464", None), 403);
        assert!(may_change(None, None, &HeaderMap::new()).is_err(), "nobody knows who asks");
        let near = Some(Peer([127, 0, 0, 1].into()));
        assert!(may_change(None, near, &HeaderMap::new()).is_ok());
        for field in BROUGHT {
            let brought = HeaderMap::from_iter([(field.parse().unwrap(), HeaderValue::from_static("x"))]);
            assert!(may_change(None, near, &brought).is_err(), "{field}");
        }
    }

    #[test]
    fn with_a_token_it_is_asked_of_everyone() {
        let token = Some("open sesame");
        for peer in ["127.0.0.1", "192.0.2.7"] {
            for good in ["Bearer open sesame", "bearer open sesame", "BEARER  open sesame "] {
                assert_eq!(asked(token, peer, "tidegate.internal", Some(good)), 200, "{good}");
            }
            for bad in
                ["Bearer open sesam", "Bearer open sesame!", "Bearer ", "Basic open sesame", "open sesame"]
            {
                assert_eq!(asked(token, peer, "localhost", Some(bad)), 401, "{bad}");
            }
            assert_eq!(asked(token, peer, "localhost", None), 401);
        }
    }
}
