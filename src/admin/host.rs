//! Which Host may a request name? On loopback only our own: a web page must not reach us through a DNS trick.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Passes on requests that name one host (RFC 9112 3.2).
pub(super) async fn one_only(request: Request, next: Next) -> Response {
    let is_named =
        request.version() != Version::HTTP_11 || request.headers().get_all(header::HOST).iter().count() == 1;
    if is_named {
        return next.run(request).await;
    }
    (StatusCode::BAD_REQUEST, "a request names one host: Host: localhost\n").into_response()
}

/// Passes on requests whose Host is `localhost` or an IP address, refuses the others.
pub(super) async fn own_only(request: Request, next: Next) -> Response {
    if names_own(request.headers()) {
        return next.run(request).await;
    }
    let why = "this listener answers to localhost and IP addresses only; to use a name, give --admin an address \
               that is not loopback\n";
    (StatusCode::FORBIDDEN, why).into_response()
}

/// Does the request name `localhost`, an IP address, or nothing at all, and come from a page of no other site?
pub(super) fn names_own(headers: &HeaderMap) -> bool {
    let all_own = headers.get_all(header::HOST).iter().all(|host| host.to_str().is_ok_and(is_own));
    // Origin is `scheme://host`, or `null`: a browser sends it with whatever changes something.
    let from = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let from_own = from.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| is_own(host)));
    all_own && from_own
}

fn is_own(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_counts_and_so_does_the_page_that_asks() {
        let own = |fields: &[(header::HeaderName, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            names_own(&fields.collect())
        };
        let host = (header::HOST, "127.0.0.1:9464");
        assert!(own(&[]));
        assert!(own(&[host.clone(), (header::ORIGIN, "http://localhost:9464")]));
        assert!(!own(&[host.clone(), (header::HOST, "evil.example")]));
        for origin in ["https://evil.example", "null", ""] {
            assert!(!own(&[host.clone(), (header::ORIGIN, origin)]), "{origin}");
        }
    }

    #[test]
    fn addresses_and_localhost_are_ours_names_are_not() {
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "10.0.0.1"] {
            assert!(is_own(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "", " ", "evil@localhost"]
        {
            assert!(!is_own(host), "{host}");
        }
    }
}
