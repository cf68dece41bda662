//! What an answer teaches: status, fields and (for refusals) body in, a [`Report`] out.
//!
//! Numbers of an API are evidence: what is malformed or absurd is ignored, never guessed at and never an error, and it
//! is counted. The fields themselves go to the client as they came.
//!
//! | where | what |
//! |---|---|
//! | `vendors` | the table: who announces limits in which fields |
//! | `dialect` | how a row of it is read |
//! | `ietf` | the `RateLimit` fields of all drafts |
//! | `wait`, `moment` | Retry-After, and the forms that a reset has |
//! | `body` | what a refusal's body says |
//! | `words` | whose limit it is, by its name |
//!
//! A refused request waits as the first of these says: Retry-After, a vendor's reset, the IETF's, the body.

mod body;
mod coding;
mod dialect;
mod fields;
mod ietf;
mod limits;
mod moment;
mod vendors;
mod wait;
mod words;

use crate::config::{Config, DialectSettings};
use crate::control::{Hint, Level, Outcome, Report};
use dialect::Dialect;
use fields::Fields;
use http::header::AGE;
use http::{HeaderMap, HeaderName, StatusCode};
use limits::{LIMITS_MAX, Limits};
use std::borrow::Cow;

/// The dialects that one upstream may speak.
#[derive(Debug)]
pub struct Dialects {
    all: Vec<Dialect>,
    /// The fields that the operator named.
    own: Vec<HeaderName>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// What it teaches.
    pub report: Report,
    /// What made no sense in it: names of fields, or of what a body holds. Few, and never a value.
    pub ignored: Vec<Cow<'static, str>>,
    /// The body of this answer, which by its head is no refusal, may yet make it one.
    is_doubtful: bool,
}

impl Dialects {
    /// Those that are known of `host`, under the operator's `own`.
    pub fn new<'a>(host: &str, own: impl IntoIterator<Item = &'a DialectSettings>) -> Self {
        let mut all: Vec<_> = own.into_iter().map(Dialect::own).collect();
        let own = all.iter().flat_map(Dialect::signs).cloned().collect();
        for dialect in vendors::of(host) {
            if !all.iter().any(|known| known.limit == dialect.limit) {
                all.push(dialect);
            }
        }
        Self { all, own }
    }

    /// Those of each of the configuration's upstreams, in their order.
    pub(super) fn of_each(config: &Config) -> Vec<Self> {
        let is_of =
            |dialect: &DialectSettings, place| dialect.upstream.is_none_or(|upstream| upstream == place);
        let upstreams = config.upstreams.iter().enumerate();
        upstreams
            .map(|(place, upstream)| {
                let own = config.dialects.iter().filter(|dialect| is_of(dialect, place));
                Self::new(&upstream.address.host, own)
            })
            .collect()
    }

    /// What the response's head says: what became of the request, and which limits are announced.
    pub fn head(&self, status: StatusCode, headers: &HeaderMap) -> Said {
        self.fields(status, &headers.clone().into())
    }

    /// The same of fields that may be in no map.
    pub(super) fn fields(&self, status: StatusCode, all: &super::fields::Fields) -> Said {
        self.sorted(sort(status, all), all)
    }

    /// The same of a response that is a refusal whatever its status says.
    fn refusal(&self, all: &super::fields::Fields) -> Said {
        self.sorted(Sort::Limited, all)
    }

    fn sorted(&self, sort: Sort, all: &super::fields::Fields) -> Said {
        let mut fields = Fields::new(all);
        let is_refusal = sort == Sort::Limited;
        let mut limits = Limits::default();
        let mut wait = match sort {
            Sort::Limited | Sort::Overloaded => wait::retry_after(&mut fields),
            Sort::Accepted | Sort::Doubtful => None,
        };
        // What comes out of a cache was true for another request, some time ago.
        let is_fresh = || all.first(&AGE).is_none_or(|age| age == b"0");
        if self.may_announce(&fields) && is_fresh() {
            self.announced(&mut fields, is_refusal, &mut limits);
            let vendors_wait = limits.wait.take();
            ietf::announced(&mut fields, is_refusal, &mut limits);
            if is_refusal {
                wait = wait.or(vendors_wait).or(limits.wait);
            }
        }
        let hint = || Hint { retry_after: wait, level: level(&fields).or(limits.spent_level) };
        let outcome = match sort {
            Sort::Limited => Outcome::Limited(hint()),
            Sort::Overloaded => Outcome::Overloaded(hint()),
            Sort::Accepted | Sort::Doubtful => Outcome::Accepted,
        };
        let report = Report { announced: limits.into_all(), ..Report::new(outcome, false) };
        Said { report, ignored: fields.into_ignored(), is_doubtful: sort == Sort::Doubtful }
    }

    /// One look at the names: most answers announce nothing.
    fn may_announce(&self, fields: &Fields<'_>) -> bool {
        fields.names().any(has_limit) || self.own.iter().any(|name| fields.has(name))
    }

    fn announced(&self, fields: &mut Fields<'_>, is_refusal: bool, limits: &mut Limits) {
        for dialect in &self.all {
            dialect.announced(fields, is_refusal, limits);
        }
        for prefix in vendors::PREFIXES {
            let names: Vec<_> = fields.names().filter(|name| name.starts_with(prefix.as_bytes())).collect();
            for name in
                names.into_iter().filter_map(|name| HeaderName::from_bytes(name).ok()).take(LIMITS_MAX)
            {
                dialect::of_prefix(fields, &name, prefix, limits);
            }
        }
    }
}

/// What kind of answer is it?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Accepted,
    /// The head leaves it to the body.
    Doubtful,
    Limited,
    Overloaded,
}

fn sort(status: StatusCode, all: &super::fields::Fields) -> Sort {
    let fields = Fields::new(all);
    match status.as_u16() {
        429 => Sort::Limited,
        503 if wait::asks_to_wait(&fields) => Sort::Overloaded,
        // Anthropic's, and others' since: too busy, whoever asks.
        529 => Sort::Overloaded,
        // GitHub refuses so too, if it is GitHub that answers and says that it is about a limit.
        403 if GITHUB.iter().any(|name| fields.has(name)) => {
            let spent = fields.first(&X_REMAINING) == Some("0");
            if spent || wait::asks_to_wait(&fields) { Sort::Limited } else { Sort::Doubtful }
        }
        _ => Sort::Accepted,
    }
}

/// Which node of the path refused, where the fields are certain of it: Discord's global limit is on all that a bot
/// sends.
fn level(fields: &Fields<'_>) -> Option<Level> {
    let is = |name: HeaderName, value: &str| {
        fields.first(&name).is_some_and(|text| text.eq_ignore_ascii_case(value))
    };
    if is(X_GLOBAL, "true") || is(X_SCOPE, "global") { Some(Level::Credential) } else { None }
}

/// Is [`vendors::IN_EVERY_NAME`] in a name? A general search costs more than all else that is done with most answers.
fn has_limit(name: &[u8]) -> bool {
    let word = vendors::IN_EVERY_NAME.as_bytes();
    name.windows(word.len()).any(|part| part == word)
}

/// A count of requests: digits alone.
fn count(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A limit. Zero and less stand for "unknown" in the wild, which is `Some(None)`.
#[expect(clippy::option_option, reason = "malformed is one thing, not known another")]
fn quantity(text: &str) -> Option<Option<u32>> {
    match text.strip_prefix('-') {
        Some(less) => count(less).map(|_| None),
        None => count(text).map(|requests| (requests > 0).then_some(requests)),
    }
}

const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_GLOBAL: HeaderName = HeaderName::from_static("x-ratelimit-global");
const X_SCOPE: HeaderName = HeaderName::from_static("x-ratelimit-scope");
/// One of these is in each answer of GitHub's.
static GITHUB: [HeaderName; 2] =
    [HeaderName::from_static("x-github-request-id"), HeaderName::from_static("x-ratelimit-resource")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResetUnit;
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::time::Duration;

    pub(super) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// An announcement in numbers that are easily written down; times in seconds.
    #[derive(Debug, PartialEq)]
    pub(super) struct Told {
        pub(super) name: String,
        pub(super) requests: u32,
        pub(super) used: Option<u32>,
        pub(super) reset: Option<f64>,
        pub(super) window: Option<f64>,
    }

    fn said(status: u16, headers: &HeaderMap) -> Said {
        Dialects::new("example.com", []).head(StatusCode::from_u16(status).unwrap(), headers)
    }

    /// What of the fields makes no sense.
    pub(super) fn ignored(headers: &HeaderMap) -> Vec<String> {
        said(200, headers).ignored.into_iter().map(Cow::into_owned).collect()
    }

    /// What the fields announce.
    pub(super) fn told(headers: &HeaderMap) -> Vec<Told> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let told = said(200, headers).report.announced.into_iter().map(|limit| Told {
            name: limit.name.to_string(),
            requests: limit.requests,
            used: limit.used,
            reset: seconds(limit.reset),
            window: seconds(limit.window),
        });
        told.collect()
    }

    #[test]
    fn statuses_become_outcomes() {
        let wait = headers(&[("retry-after", "3")]);
        let millis = headers(&[("retry-after-ms", "3000")]);
        let outcome = |status, headers: &HeaderMap| said(status, headers).report.outcome;
        let hint = Hint { retry_after: Some(Duration::from_secs(3)), ..Hint::default() };
        for told in [&wait, &millis] {
            assert_eq!(outcome(429, told), Outcome::Limited(hint));
            assert_eq!(outcome(503, told), Outcome::Overloaded(hint));
            assert_eq!(outcome(529, told), Outcome::Overloaded(hint));
        }
        assert_eq!(outcome(429, &headers(&[])), Outcome::Limited(Hint::default()));
        assert_eq!(outcome(503, &headers(&[])), Outcome::Accepted);
        assert_eq!(outcome(529, &headers(&[])), Outcome::Overloaded(Hint::default()));
        for status in [200, 301, 401, 403, 404, 500, 502] {
            assert_eq!(outcome(status, &wait), Outcome::Accepted);
        }
    }

    #[test]
    fn only_a_403_of_github_s_is_a_refusal_and_only_when_it_says_so() {
        let github = ("x-github-request-id", "C0DE:1");
        for (fields, is_refusal) in [
            (&[github, ("x-ratelimit-remaining", "0")][..], true),
            (&[github, ("retry-after", "60")], true),
            (&[("x-ratelimit-resource", "core"), ("retry-after", "60")], true),
            (&[github, ("x-ratelimit-remaining", "4999")], false),
            (&[github], false),
            (&[("x-ratelimit-remaining", "0")], false),
        ] {
            let outcome = said(403, &headers(fields)).report.outcome;
            assert_eq!(matches!(outcome, Outcome::Limited(_)), is_refusal, "{fields:?}");
        }
    }

    #[test]
    fn a_refusal_without_retry_after_waits_for_the_limit_that_is_spent() {
        let waits = |fields: &[(&'static str, &str)]| match said(429, &headers(fields)).report.outcome {
            Outcome::Limited(hint) => hint.retry_after.map(|wait| wait.as_secs()),
            other => panic!("{other:?}"),
        };
        let (limit, reset) = (("x-ratelimit-limit", "40"), ("x-ratelimit-reset", "30"));
        let (none, some) = (("x-ratelimit-remaining", "0"), ("x-ratelimit-remaining", "9"));
        assert_eq!(waits(&[limit, none, reset]), Some(30));
        assert_eq!(waits(&[limit, none, reset, ("retry-after", "7")]), Some(7));
        assert_eq!(waits(&[limit, none, reset, ("ratelimit", "limit=9, remaining=0, reset=50")]), Some(30));
        assert_eq!(waits(&[limit, some, reset]), None, "another limit refused");
        assert_eq!(waits(&[limit, reset]), Some(30));
        assert_eq!(waits(&[reset]), Some(30));
        assert_eq!(waits(&[some, reset]), None);
        assert_eq!(waits(&[("x-ratelimit-limit", "-1"), reset]), Some(30));
        assert_eq!(waits(&[("ratelimit", "\"a\";r=0;t=9, \"b\";r=1;t=90")]), Some(9));
        assert_eq!(waits(&[("ratelimit-reset", "9")]), Some(9));
        assert_eq!(waits(&[("ratelimit-reset", "9"), ("ratelimit-remaining", "1")]), None);
        let tokens = ("x-ratelimit-reset-tokens", "6m0s");
        assert_eq!(waits(&[tokens, ("x-ratelimit-remaining-tokens", "0")]), None);
    }

    #[test]
    fn the_operator_s_own_fields_go_before_those_that_are_known() {
        let own = |limit: &'static str| DialectSettings {
            name: "acme".into(),
            upstream: None,
            limit: HeaderName::from_static(limit),
            remaining: None,
            used: Some(HeaderName::from_static("x-acme-used")),
            reset: Some(HeaderName::from_static("x-acme-reset")),
            reset_in: ResetUnit::Milliseconds,
        };
        let fields = headers(&[
            ("x-acme-budget", "50"),
            ("x-ratelimit-limit", "40"),
            ("x-ratelimit-remaining", "1"),
            ("x-acme-used", "7"),
            ("x-acme-reset", "90000"),
        ]);
        for (limit, requests, count) in [("x-acme-budget", 50, 2), ("x-ratelimit-limit", 40, 1)] {
            let settings = own(limit);
            let said = Dialects::new("example.com", [&settings]).head(StatusCode::OK, &fields);
            let [first, ..] = &said.report.announced[..] else { panic!("{said:?}") };
            assert_eq!((&*first.name, first.requests, first.used), ("acme", requests, Some(7)));
            assert_eq!(first.reset, Some(Duration::from_secs(90)));
            assert_eq!(said.report.announced.len(), count);
        }
        let settings = own("x-acme-budget");
        let alone = headers(&[("x-acme-reset", "1500")]);
        let said = Dialects::new("example.com", [&settings]).head(StatusCode::TOO_MANY_REQUESTS, &alone);
        let hint = Hint { retry_after: Some(Duration::from_millis(1_500)), ..Hint::default() };
        assert_eq!(said.report.outcome, Outcome::Limited(hint));
    }

    #[test]
    fn every_dialect_is_announced_beside_the_others() {
        let fields = headers(&[
            ("inin-ratelimit-count", "5"),
            ("inin-ratelimit-allowed", "300"),
            ("inin-ratelimit-reset", "12"),
            ("ratelimit-limit", "10"),
            ("x-ratelimit-limit", "40"),
        ]);
        let names: Vec<_> = told(&fields).into_iter().map(|limit| limit.name).collect();
        assert_eq!(names, ["inin", "x-ratelimit", "ratelimit"]);
        assert_eq!(told(&headers(&[])), []);
    }

    #[test]
    fn a_cached_answer_announces_nothing() {
        let limit = ("x-ratelimit-limit", "40");
        assert_eq!(told(&headers(&[limit, ("age", "1")])), []);
        assert_eq!(told(&headers(&[limit, ("age", "0")])).len(), 1);
    }

    /// Values that look like what APIs send, and values that look like nothing.
    fn value() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("10"),
            Just("-1"),
            Just("0"),
            Just("99999999999999999999"),
            Just("1.5"),
            Just("limit="),
            Just("remaining="),
            Just("reset="),
            Just("\"a\""),
            Just(";q="),
            Just(";w="),
            Just(";r="),
            Just(";t="),
            Just(";qu="),
            Just(", "),
            Just(";"),
            Just("a"),
            Just("32/40"),
            Just("total="),
            Just("resets="),
            Just("6m0s"),
            Just("Tue Feb 16 2021 09:02:42 GMT+0100"),
            Just("2021-02-16T09:02:42Z"),
            Just(":MTI=:"),
            Just("("),
            Just(" "),
            Just("\u{7f}"),
        ];
        prop_oneof![proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat()), "[ -~]{0,40}"]
    }

    proptest! {
        #[test]
        fn whatever_an_api_sends_is_read_or_ignored(
            fields in proptest::collection::vec((0_usize..NAMES.len(), value()), 0..8),
            body in value(),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    map.append(HeaderName::from_static(NAMES[name]), value);
                }
            }
            for limit in said(200, &map).report.announced {
                prop_assert!(limit.requests > 0);
                prop_assert!(limit.window.is_none_or(|window| !window.is_zero()));
                prop_assert!(limit.reset.is_none_or(|reset| reset <= Duration::from_hours(32 * 24)));
                prop_assert!(limit.name.len() <= 128);
            }
            prop_assert!(said(200, &map).ignored.len() <= map.keys_len());
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            *response.headers_mut() = map;
            let parts = response.into_parts().0;
            let dialects = Dialects::new("example.com", []);
            let mut said = dialects.head(parts.status, &parts.headers);
            dialects.add_body(&mut said, &parts, body.as_bytes(), None);
            let Outcome::Limited(hint) = said.report.outcome else { panic!("{said:?}") };
            prop_assert!(hint.retry_after.is_none_or(|wait| wait <= wait::LONGEST));
        }
    }

    const NAMES: &[&str] = &[
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "ratelimit-observed",
        "ratelimit-resettime",
        "ratelimit-name",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "x-ratelimit-reset-after",
        "x-ratelimit-bucket",
        "x-ratelimit-scope",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-shopify-shop-api-call-limit",
        "zendesk-ratelimit-tickets-index",
        "auth0-client-quota-limit",
        "anthropic-ratelimit-requests-reset",
        "x-rate-limit",
        "retry-after-ms",
        "inin-ratelimit-allowed",
        "inin-ratelimit-count",
        "inin-ratelimit-reset",
        "age",
        "date",
        "content-type",
        "retry-after",
    ];
}
