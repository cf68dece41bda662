//! The upstream's address: a scheme, a host and a port, and nothing that a typing error could hide in.

use http::Uri;
use http::uri::{Authority, Scheme};
use std::fmt;
use std::str::FromStr;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// As the Host field carries it: `host`, or `host:port` when the port is not the scheme's own.
    pub authority: Authority,
    /// The host alone; an IPv6 address keeps its brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
}

impl Upstream {
    /// Does a request in absolute form for `authority` mean this upstream? The port may be left out, be the
    /// upstream's, or be the own port of the request's `scheme`: JMeter's `http://H/` for an upstream `https://H`.
    pub fn answers_to(&self, authority: &Authority) -> bool {
        let port_fits = match authority.port_u16() {
            None => true,
            Some(port) => port == self.port,
        };
        port_fits && authority.host().eq_ignore_ascii_case(&self.host)
    }

    /// `host:port`, always with the port.
    pub fn host_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Why an upstream's URL was not taken. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{url:?} is not an upstream: {problem}; write for example https://api.mypurecloud.com or http://127.0.0.1:9000"
)]
pub struct UpstreamError {
    url: String,
    problem: &'static str,
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        // A URL may carry a password or a token: never repeat one.
        let shown = if text.contains('@') {
            "(not shown: it has user information)"
        } else if text.contains(['?', '#']) {
            "(not shown: it has a query or a fragment)"
        } else {
            text
        };
        let refuse = |problem| UpstreamError { url: shown.to_owned(), problem };
        if text.contains('@') {
            return Err(refuse("user information in a URL is not supported"));
        }
        let uri: Uri = text.parse().map_err(|_| refuse("it is no URL"))?;
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => scheme.clone(),
            Some(_) => return Err(refuse("the scheme must be http or https")),
            None => return Err(refuse("it needs a scheme, http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("it has no host"))?;
        if !matches!(uri.path(), "" | "/") || text.contains(['?', '#']) {
            return Err(refuse("it must have no path: requests bring their own"));
        }
        let own_port = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            None if !has_port => own_port,
            Some(port) if port != 0 => port,
            _ => return Err(refuse("the port must be from 1 to 65535")),
        };
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(refuse("it has no host"));
        }
        let shown = if port == own_port { host.clone() } else { format!("{host}:{port}") };
        let authority = shown.parse().map_err(|_| refuse("the host is not valid"))?;
        Ok(Self { scheme, authority, host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, authority) in [
            ("https://api.mypurecloud.com", "api.mypurecloud.com", 443, "api.mypurecloud.com"),
            ("https://API.MyPureCloud.com:443/", "api.mypurecloud.com", 443, "api.mypurecloud.com"),
            ("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://[::1]:9000", "[::1]", 9000, "[::1]:9000"),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.host, host);
            assert_eq!(upstream.port, port);
            assert_eq!(upstream.authority.as_str(), authority);
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused_with_advice_and_without_secrets() {
        for text in [
            "",
            "api.example.com",
            "ftp://h",
            "http://",
            "http://h/path",
            "http://h?x=1",
            "http://h/#secret",
            "http://h?",
            "http://h:0",
            "http://h:99999",
            "http://u:secret@h",
        ] {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains("https://api.mypurecloud.com"), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn absolute_requests_match_by_host_and_port() {
        let secure: Upstream = "https://api.example.com".parse().unwrap();
        for (authority, fits) in [
            ("api.example.com", true),
            ("API.example.com:443", true),
            ("api.example.com:8080", false),
            ("evil.com", false),
        ] {
            assert_eq!(secure.answers_to(&authority.parse().unwrap()), fits, "{authority}");
        }
        let plain: Upstream = "http://127.0.0.1:9000".parse().unwrap();
        assert!(plain.answers_to(&"127.0.0.1:9000".parse().unwrap()));
        assert!(!plain.answers_to(&"127.0.0.1:9001".parse().unwrap()));
    }
}
