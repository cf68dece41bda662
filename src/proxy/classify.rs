//! What does this request want? Its head becomes an [`Intent`], or a sentence about why it is not served.

use super::error::{ErrorKind, ProxyError};
use super::fields::{Fields, text};
use super::grammar::{self, DISGUISE, TOKENS_MANY, TYPES_MANY, check_target, is_framing_in_disguise, number};
use super::host::is_host;
use super::message::Asking;
use super::sites::{Site, Sites};
use super::traffic::{Place, Traffic};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, MAX_FORWARDS, TRANSFER_ENCODING,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Version};
use std::fmt;

/// Reads heads.
#[derive(Debug)]
pub(super) struct Classifier {
    sites: Sites,
    traffic: Traffic,
}

/// What a request wants.
#[derive(Debug)]
pub(super) enum Intent<'a> {
    /// To be sent on.
    Forward(Wanted<'a>),
    /// To be answered here: OPTIONS that may go no further.
    AnswerOptions,
}

/// Where a request goes, and what it counts against.
pub(super) struct Wanted<'a> {
    /// The upstream.
    pub(super) site: &'a Site,
    /// What is asked of it.
    pub(super) target: PathAndQuery,
    pub(super) place: Place<'a>,
}

/// Without the target: a query may hold a token.
impl fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wanted({} {:?})", self.site.upstream, self.place)
    }
}

impl Classifier {
    pub(super) fn new(sites: Sites, traffic: Traffic) -> Self {
        Self { sites, traffic }
    }

    /// What the request wants. Max-Forwards is counted down on the way.
    pub(super) fn intent(&self, head: &mut Asking) -> Result<Intent<'_>, ProxyError> {
        let (site, target) = self.site(head)?;
        check_coding(&head.fields)?;
        if check_expectation(&head.fields)? && head.version != Version::HTTP_2 && !head.waits {
            // Its body is on the way already, and nobody has to be asked for it.
            head.fields.remove(&EXPECT);
        }
        if target.path() == "*" && head.method != Method::OPTIONS {
            return Err(bad("Only OPTIONS may ask for *."));
        }
        if head.method == Method::TRACE && has_credentials(&head.fields) {
            return Err(ProxyError::new(
                ErrorKind::MethodNotAllowed,
                "TRACE would send the credentials back to whoever reads the answer. Leave them out.",
            ));
        }
        if head.method.as_str() == "PRI" {
            // Behind us it could be read as the beginning of HTTP/2 (RFC 9113 3.4).
            return Err(bad("PRI is not a method: it begins a connection of HTTP/2."));
        }
        if head.method == Method::TRACE && has_content(&head.fields) {
            return Err(bad("A TRACE has no body."));
        }
        if !count_down(head)? {
            return if head.method == Method::OPTIONS {
                Ok(Intent::AnswerOptions)
            } else {
                Err(ProxyError::new(
                    ErrorKind::MethodNotAllowed,
                    "Max-Forwards is 0 and Tidegate answers no TRACE.",
                ))
            };
        }
        let place = self.traffic.place(site, &head.method, target.path(), &head.fields);
        Ok(Intent::Forward(Wanted { site, target, place }))
    }

    /// Which upstream does the request mean, and does it say so in a valid way (RFC 9112 3.2, RFC 9113 8.3.1)?
    fn site(&self, head: &mut Asking) -> Result<(&Site, PathAndQuery), ProxyError> {
        if head.method == Method::CONNECT {
            return Err(self.no_tunnel(head));
        }
        let host = one_host(&head.fields)?;
        let target = match head.uri.authority() {
            // Nothing else is in it, and a copy of it costs.
            None => std::mem::take(&mut head.uri).into_parts().path_and_query,
            Some(_) => head.uri.path_and_query().cloned(),
        };
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        match (head.version, head.uri.scheme(), head.uri.authority()) {
            (Version::HTTP_2, scheme, authority) => {
                check_translatable(&head.fields)?;
                let same = |host: &str| {
                    authority.is_none_or(|authority| host.eq_ignore_ascii_case(authority.as_str()))
                };
                let valid = authority.is_none_or(|authority| is_host(authority.as_str().as_bytes()));
                if !valid || !host.is_none_or(same) {
                    return Err(bad("The :authority is not valid, or Host contradicts it."));
                }
                if !target.as_str().starts_with('/') && target.as_str() != "*" {
                    return Err(bad("The :path does not begin with a slash."));
                }
                check_target(target.as_str().as_bytes(), false)?;
                if scheme.is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
                    return Err(bad("The :scheme is neither http nor https."));
                }
                let named = authority.map(Authority::as_str).or(host);
                let named =
                    named.ok_or_else(|| bad("Neither :authority nor Host says which host is meant."))?;
                Ok(self.sites.leading(target, Some(named)))
            }
            _ if host.is_none() && head.version != Version::HTTP_10 => Err(bad("The Host field is missing.")),
            // Absolute form: it wins over Host, which some clients fill with the proxy's name.
            (_, Some(scheme), Some(authority)) => {
                if !is_host(authority.as_str().as_bytes()) {
                    return Err(bad(
                        "A request target names a host and perhaps a port, and nobody's name or password.",
                    ));
                }
                if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
                    return Err(bad("A request target begins with http:// or https://."));
                }
                let site = self.sites.named(Some(scheme), authority).ok_or_else(|| self.other_site())?;
                Ok((site, target))
            }
            (_, None, Some(_)) => Err(bad("This form of request target is for CONNECT alone.")),
            _ => Ok(self.sites.leading(target, host)),
        }
    }

    fn no_tunnel(&self, head: &Asking) -> ProxyError {
        let named = head.uri.authority().and_then(|authority| self.sites.named(None, authority));
        let upstream = &named.unwrap_or_else(|| self.sites.first()).upstream;
        ProxyError::new(
            ErrorKind::NotImplemented,
            format!(
                "Tidegate opens no tunnels. Ask for http://{}/... instead of https (in JMeter: protocol http \
                 with -H and -P); Tidegate speaks {} to the upstream.",
                upstream.authority, upstream.scheme
            ),
        )
    }

    fn other_site(&self) -> ProxyError {
        ProxyError::new(
            ErrorKind::OtherSite,
            format!(
                "Tidegate forwards only to {}. Ask for http://{}/..., or start another Tidegate with --upstream \
                 for that site.",
                self.sites.shown(),
                self.sites.first().upstream.authority
            ),
        )
    }
}

/// The Host field, if there is one; an error when there are several or it is no host.
fn one_host(fields: &Fields) -> Result<Option<&str>, ProxyError> {
    let mut fields = fields.all(&HOST);
    let Some(first) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(bad("There is more than one Host field."));
    }
    // A name may be percent-encoded (RFC 3986 3.2.2), but nobody's is, and a URI of ours could not hold it.
    let valid = text(first).filter(|host| is_host(host.as_bytes()) && !host.contains('%'));
    valid.map(Some).ok_or_else(|| bad("The Host field is not valid."))
}

/// Only chunked alone is understood here, once.
fn check_coding(fields: &Fields) -> Result<(), ProxyError> {
    let mut codings = fields.all(&TRANSFER_ENCODING);
    let Some(coding) = codings.next() else { return Ok(()) };
    grammar::check_coding(coding)?;
    if codings.next().is_some() { Err(grammar::CODING_OPEN.into()) } else { Ok(()) }
}

/// The only expectation there is (RFC 9110 10.1.1): is it there?
fn check_expectation(fields: &Fields) -> Result<bool, ProxyError> {
    let mut lines = fields.all(&EXPECT);
    match (lines.next(), lines.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.trim_ascii().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(ProxyError::new(
            ErrorKind::ExpectationFailed,
            "The only expectation that is understood is 100-continue, once.",
        )),
    }
}

/// What HTTP/2 can say and HTTP/1.1 would say otherwise (RFC 9113 8.2.1, 8.1.1).
fn check_translatable(fields: &Fields) -> Result<(), ProxyError> {
    let is_padded = |value: &[u8]| value.trim_ascii().len() < value.len();
    if fields.iter().any(|(_, value)| is_padded(value)) {
        return Err(bad("A field's value begins or ends with a space."));
    }
    let is_disguise = |name: &[u8]| matches!(name.len(), 14 | 17) && is_framing_in_disguise(name);
    if fields.iter().any(|(name, _)| is_disguise(name)) {
        return Err(bad(DISGUISE));
    }
    for (name, fault) in [(AUTHORIZATION, TOKENS_MANY), (CONTENT_TYPE, TYPES_MANY)] {
        if fields.all(&name).nth(1).is_some() {
            return Err(bad(fault));
        }
    }
    let mut lengths = fields.all(&CONTENT_LENGTH);
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || !length.iter().all(u8::is_ascii_digit))
    {
        return Err(bad("The Content-Length is not a number."));
    }
    Ok(())
}

fn has_credentials(fields: &Fields) -> bool {
    fields.iter().any(|(name, _)| CREDENTIALS.iter().any(|known| known.as_bytes() == name))
}

/// Is there a body, or the word of one?
fn has_content(fields: &Fields) -> bool {
    fields.has(&TRANSFER_ENCODING) || fields.first(&CONTENT_LENGTH).is_some_and(|length| length != b"0")
}

/// Counts Max-Forwards down (RFC 9110 7.6.2); `false` when the request may go no further.
fn count_down(head: &mut Asking) -> Result<bool, ProxyError> {
    if !matches!(head.method, Method::OPTIONS | Method::TRACE) {
        return Ok(true);
    }
    let left = {
        let mut values = head.fields.all(&MAX_FORWARDS);
        let Some(value) = values.next() else { return Ok(true) };
        number(value).filter(|_| values.next().is_none())
    };
    match left {
        None => Err(bad("Max-Forwards is not a number.")),
        Some(0) => Ok(false),
        Some(left) => {
            head.fields.insert(&MAX_FORWARDS, itoa::Buffer::new().format(left - 1).as_bytes());
            Ok(true)
        }
    }
}

fn bad(detail: &'static str) -> ProxyError {
    ProxyError::new(ErrorKind::BadRequest, detail)
}

/// Fields in which APIs are told who asks.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "ocp-apim-subscription-key",
];

#[cfg(test)]
mod tests {
    use super::super::credential::CredentialKey;
    use super::*;
    use crate::config::Config;
    use http::{HeaderValue, Request, Uri};

    fn classifier(upstream: &str) -> Classifier {
        let config = Config::new(upstream.parse().unwrap());
        let traffic = Traffic::new(&config, CredentialKey::new([0; 32]));
        Classifier::new(Sites::new(&config.upstreams), traffic)
    }

    fn head(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> Asking {
        let mut request =
            Request::builder().method(method).uri(target.parse::<Uri>().unwrap()).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0.into()
    }

    fn kind(upstream: &str, mut head: Asking) -> Result<(), ErrorKind> {
        classifier(upstream).intent(&mut head).map(drop).map_err(|error| error.kind)
    }

    const UPSTREAM: &str = "https://api.example.com";

    #[test]
    fn requests_find_their_lane() {
        let fields = [("host", "127.0.0.1:8080"), ("authorization", "Bearer t")];
        let mut head = head("GET", "/users/42?x=%20", Version::HTTP_11, &fields);
        let classifier = classifier(UPSTREAM);
        let Ok(Intent::Forward(wanted)) = classifier.intent(&mut head) else { panic!("not forwarded") };
        let (key, target) = (wanted.place.key, wanted.target);
        assert_eq!(&*key.upstream, "api.example.com:443");
        assert_eq!(&*key.route, "/users/{id}");
        assert_eq!(
            key.credential,
            Some(CredentialKey::new([0; 32]).hash(&HeaderValue::from_static("Bearer t")))
        );
        assert_eq!(target, "/users/42?x=%20");
    }

    #[test]
    fn hosts_are_checked() {
        for (version, fields, good) in [
            (Version::HTTP_11, &[("host", "a")][..], true),
            (Version::HTTP_11, &[("host", "a:80")], true),
            (Version::HTTP_11, &[("host", "[::1]:80")], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &[("host", "a"), ("host", "a")], false),
            (Version::HTTP_11, &[("host", "")], false),
            (Version::HTTP_11, &[("host", "a b")], false),
            (Version::HTTP_11, &[("host", "u@a")], false),
            (Version::HTTP_11, &[("host", "a:x")], false),
            (Version::HTTP_11, &[("host", "a/b")], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_10, &[("host", "a"), ("host", "b")], false),
        ] {
            let result = kind(UPSTREAM, head("GET", "/", version, fields));
            assert_eq!(result.is_ok(), good, "{version:?} {fields:?}");
        }
    }

    #[test]
    fn absolute_form_is_for_the_upstream_alone() {
        for (target, expected) in [
            ("http://api.example.com/x", None),
            ("https://api.example.com:443/x", None),
            ("http://api.example.com:80/x", None),
            ("https://api.example.com:80/x", Some(ErrorKind::OtherSite)),
            ("http://api.example.com:8080/x", Some(ErrorKind::OtherSite)),
            ("http://other.example/x", Some(ErrorKind::OtherSite)),
            ("http://u:p@api.example.com/x", Some(ErrorKind::BadRequest)),
            ("api.example.com:443", Some(ErrorKind::BadRequest)),
        ] {
            let result = kind(UPSTREAM, head("GET", target, Version::HTTP_11, &[("host", "proxy.test")]));
            assert_eq!(result.err(), expected, "{target}");
        }
    }

    #[test]
    fn http2_names_any_authority_once() {
        let over2 =
            |target, fields: &[(&str, &str)]| kind(UPSTREAM, head("GET", target, Version::HTTP_2, fields));
        assert!(over2("http://127.0.0.1:8080/x", &[]).is_ok());
        assert!(over2("http://127.0.0.1:8080/x", &[("host", "127.0.0.1:8080")]).is_ok());
        assert_eq!(over2("http://a/x", &[("host", "b")]).err(), Some(ErrorKind::BadRequest));
        assert_eq!(over2("http://u@a/x", &[]).err(), Some(ErrorKind::BadRequest));
        assert_eq!(over2("/x", &[]).err(), Some(ErrorKind::BadRequest));
    }

    #[test]
    fn tunnels_and_odd_codings_are_not_served() {
        let connect =
            head("CONNECT", "api.example.com:443", Version::HTTP_11, &[("host", "api.example.com")]);
        let error = classifier(UPSTREAM).intent(&mut { connect }).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NotImplemented);
        assert!(error.detail.contains("http://api.example.com/"), "{error}");
        for (coding, good) in
            [("chunked", true), ("Chunked", true), ("gzip, chunked", false), (",chunked", false)]
        {
            let fields = [("host", "a"), ("transfer-encoding", coding)];
            assert_eq!(
                kind(UPSTREAM, head("POST", "/", Version::HTTP_11, &fields)).is_ok(),
                good,
                "{coding}"
            );
        }
    }

    #[test]
    fn asterisk_trace_and_max_forwards() {
        let host = ("host", "a");
        let ask = |method, target, fields: &[(&str, &str)]| {
            kind(UPSTREAM, head(method, target, Version::HTTP_11, fields))
        };
        assert!(ask("OPTIONS", "*", &[host]).is_ok());
        assert_eq!(ask("GET", "*", &[host]).err(), Some(ErrorKind::BadRequest));
        assert!(ask("TRACE", "/", &[host]).is_ok());
        let secret = ("authorization", "Bearer t");
        assert_eq!(ask("TRACE", "/", &[host, secret]).err(), Some(ErrorKind::MethodNotAllowed));
        let last = ("max-forwards", "0");
        for (method, is_answered) in [("OPTIONS", true), ("GET", false)] {
            let mut head = head(method, "/", Version::HTTP_11, &[host, last]);
            let classifier = classifier(UPSTREAM);
            let intent = classifier.intent(&mut head).unwrap();
            assert_eq!(matches!(intent, Intent::AnswerOptions), is_answered, "{method}");
        }
        let mut five = head("OPTIONS", "/", Version::HTTP_11, &[host, ("max-forwards", "5")]);
        classifier(UPSTREAM).intent(&mut five).unwrap();
        assert_eq!(five.fields.first(&MAX_FORWARDS), Some(&b"4"[..]));
    }
}
