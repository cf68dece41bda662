//! What the upstream is told of who asks: writes `Forwarded` (RFC 7239) and `X-Forwarded-*` as the operator wants them.

use super::fields::{Fields, text};
use super::message::Asking;
use crate::config::{ForwardedMode, ForwardedSettings};
use http::HeaderName;
use http::header::{FORWARDED, HOST};
use http::uri::Scheme;
use std::net::IpAddr;

/// The host that a request means, if it is to be told: what its target names, else its Host field.
pub(super) fn host(head: &Asking, settings: &ForwardedSettings) -> Option<Vec<u8>> {
    if matches!(settings.mode, ForwardedMode::Pass | ForwardedMode::Off) {
        return None;
    }
    let named = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    named.or_else(|| head.fields.first(&HOST)).map(<[u8]>::to_vec)
}

/// Makes the fields of a request from `client` for `host`, which came by `scheme`. The fields that Connection names are
/// gone by now: a client may not have ours taken away.
pub(super) fn tell(
    fields: &mut Fields,
    settings: &ForwardedSettings,
    client: IpAddr,
    host: Option<Vec<u8>>,
    scheme: &Scheme,
) {
    let keeps = match settings.mode {
        ForwardedMode::Pass => return,
        ForwardedMode::Off | ForwardedMode::Replace => false,
        ForwardedMode::Append => settings.trusts(client),
    };
    if !keeps {
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO] {
            fields.remove(&name);
        }
    }
    if settings.mode == ForwardedMode::Off {
        return;
    }
    let quoted = |host: &str| format!(";host=\"{host}\"");
    let address = if client.is_ipv6() { format!("\"[{client}]\"") } else { client.to_string() };
    let host_part = host.as_deref().and_then(text).map(quoted).unwrap_or_default();
    append(fields, &FORWARDED, &format!("for={address}{host_part};proto={scheme}"));
    append(fields, &X_FORWARDED_FOR, &client.to_string());
    // The first proxy on the way knows these best.
    if let Some(host) = host
        && !fields.has(&X_FORWARDED_HOST)
    {
        fields.append(&X_FORWARDED_HOST, &host);
    }
    if !fields.has(&X_FORWARDED_PROTO) {
        append(fields, &X_FORWARDED_PROTO, scheme.as_str());
    }
}

/// One more element of a list, in one line with those that are there: some programs read only one line.
fn append(fields: &mut Fields, name: &HeaderName, element: &str) {
    let mut list: Vec<u8> = Vec::new();
    for line in fields.all(name) {
        list.extend_from_slice(line);
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    fields.insert(name, &list);
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::super::fields::both;
    use super::*;

    fn told(mode: ForwardedMode, client: &str) -> Vec<String> {
        let settings = ForwardedSettings { mode, trusted: vec!["10.0.0.0/8".parse().unwrap()] };
        let said = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
        ];
        let [mut fields, _] = both(&said);
        tell(&mut fields, &settings, client.parse().unwrap(), Some(b"a:80".to_vec()), &Scheme::HTTP);
        let shown = |name: &HeaderName| {
            let lines: Vec<_> = fields.all(name).filter_map(text).collect();
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
