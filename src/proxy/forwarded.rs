//! What the upstream is told of who asks: writes `Forwarded` (RFC 7239) and `X-Forwarded-*` as the operator wants them.

use crate::config::{ForwardedMode, ForwardedSettings};
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// The host that a request means, if it is to be told: what its target names, else its Host field.
pub(super) fn host(head: &Parts, settings: &ForwardedSettings) -> Option<HeaderValue> {
    if matches!(settings.mode, ForwardedMode::Pass | ForwardedMode::Off) {
        return None;
    }
    let named = head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    named.or_else(|| head.headers.get(HOST).cloned())
}

/// Makes the fields of a request from `client` for `host`, which came by `scheme`. The fields that Connection names are
/// gone by now: a client may not have ours taken away.
pub(super) fn tell(
    headers: &mut HeaderMap,
    settings: &ForwardedSettings,
    client: IpAddr,
    host: Option<HeaderValue>,
    scheme: &Scheme,
) {
    let keeps = match settings.mode {
        ForwardedMode::Pass => return,
        ForwardedMode::Off | ForwardedMode::Replace => false,
        ForwardedMode::Append => settings.trusts(client),
    };
    if !keeps {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            headers.remove(name);
        }
    }
    if settings.mode == ForwardedMode::Off {
        return;
    }
    let quoted =
        |host: &HeaderValue| host.to_str().map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
    let address = if client.is_ipv6() { format!("\"[{client}]\"") } else { client.to_string() };
    let host_part = host.as_ref().map(quoted).unwrap_or_default();
    append(headers, FORWARDED, &format!("for={address}{host_part};proto={scheme}"));
    append(headers, X_FORWARDED_FOR, &client.to_string());
    // The first proxy on the way knows these best.
    if let Some(host) = host
        && !headers.contains_key(X_FORWARDED_HOST)
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        append(headers, X_FORWARDED_PROTO, scheme.as_str());
    }
}

/// One more element of a list, in one line with those that are there: some programs read only one line.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let mut list: Vec<u8> = Vec::new();
    for line in headers.get_all(&name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        headers.insert(name, value);
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mode: ForwardedMode, client: &str) -> Vec<String> {
        let settings = ForwardedSettings { mode, trusted: vec!["10.0.0.0/8".parse().unwrap()] };
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED, HeaderValue::from_static("for=1.1.1.1"));
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("1.1.1.1"));
        headers.append(X_FORWARDED_FOR, HeaderValue::from_static("2.2.2.2"));
        headers.append(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        tell(
            &mut headers,
            &settings,
            client.parse().unwrap(),
            Some(HeaderValue::from_static("a:80")),
            &Scheme::HTTP,
        );
        let shown = |name: &HeaderName| {
            let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
            lines.join(" | ")
        };
        [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO].iter().map(shown).collect()
    }

    #[test]
    fn each_mode_says_what_it_should() {
        use ForwardedMode::{Append, Off, Pass, Replace};
        let own = ["for=9.9.9.9;host=\"a:80\";proto=http", "9.9.9.9", "a:80", "http"];
        assert_eq!(told(Pass, "9.9.9.9"), ["for=1.1.1.1", "1.1.1.1 | 2.2.2.2", "", "https"]);
        assert_eq!(told(Off, "10.0.0.1"), ["", "", "", ""]);
        assert_eq!(told(Replace, "9.9.9.9"), own);
        assert_eq!(told(Append, "9.9.9.9"), own, "who is not trusted has said nothing");
        assert_eq!(
            told(Append, "10.0.0.1"),
            [
                "for=1.1.1.1, for=10.0.0.1;host=\"a:80\";proto=http",
                "1.1.1.1, 2.2.2.2, 10.0.0.1",
                "a:80",
                "https"
            ]
        );
        assert_eq!(told(Replace, "::1")[..2], ["for=\"[::1]\";host=\"a:80\";proto=http", "::1"]);
    }
}
