//! What an answer teaches: status, fields and (for refusals) body in, [`Report`] out.
//!
//! Numbers of an API are evidence: what is malformed is ignored as a whole, never guessed at and never an error. The
//! fields themselves go to the client as they came.

mod body;
mod ietf;
mod single;
mod wait;

pub(super) use body::{add_body, is_worth_reading};

use crate::control::{Announcement, Hint, Outcome, Report};
use http::header::{AGE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};

/// What the response's head says: what became of the request, and which limits are announced.
pub(super) fn head(status: StatusCode, headers: &HeaderMap) -> Report {
    Report { announced: announced(headers), ..Report::new(outcome(status, headers), false) }
}

fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Limited(hint(headers)),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => {
            Outcome::Overloaded(hint(headers))
        }
        _ => Outcome::Accepted,
    }
}

fn hint(headers: &HeaderMap) -> Hint {
    Hint { retry_after: wait::retry_after(headers), ..Hint::default() }
}

/// Every limit that the fields tell of, in each dialect that they speak.
fn announced(headers: &HeaderMap) -> Vec<Announcement> {
    let mut all = Vec::new();
    // What comes out of a cache was true for another request, some time ago.
    if headers.get(AGE).is_none_or(|age| age.as_bytes() == b"0") {
        single::announced(headers, &mut all);
        ietf::announced(headers, &mut all);
    }
    all
}

/// The text of a field that stands there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// A limit or a count of requests: digits alone.
fn count(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A limit: zero and less stand for "unknown" in the wild.
fn limit(text: &str) -> Option<u32> {
    count(text).filter(|requests| *requests > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// What the fields announce.
    pub(super) fn told(headers: &HeaderMap) -> Vec<Told> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let told = announced(headers).into_iter().map(|limit| Told {
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
        let hint = Hint { retry_after: Some(Duration::from_secs(3)), ..Hint::default() };
        assert_eq!(outcome(StatusCode::TOO_MANY_REQUESTS, &wait), Outcome::Limited(hint));
        assert_eq!(outcome(StatusCode::TOO_MANY_REQUESTS, &headers(&[])), Outcome::Limited(Hint::default()));
        assert_eq!(outcome(StatusCode::SERVICE_UNAVAILABLE, &wait), Outcome::Overloaded(hint));
        assert_eq!(outcome(StatusCode::SERVICE_UNAVAILABLE, &headers(&[])), Outcome::Accepted);
        for status in [200, 301, 401, 404, 500, 502] {
            assert_eq!(outcome(StatusCode::from_u16(status).unwrap(), &wait), Outcome::Accepted);
        }
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
            for limit in announced(&map) {
                prop_assert!(limit.requests > 0);
                prop_assert!(limit.used.is_none_or(|used| used <= limit.requests || &*limit.name == "inin"));
                prop_assert!(limit.window.is_none_or(|window| !window.is_zero()));
            }
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            *response.headers_mut() = map;
            let parts = response.into_parts().0;
            add_body(&mut head(parts.status, &parts.headers), &parts, body.as_bytes(), None);
        }
    }

    const NAMES: &[&str] = &[
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "inin-ratelimit-allowed",
        "inin-ratelimit-count",
        "inin-ratelimit-reset",
        "age",
        "date",
        "content-type",
        "retry-after",
    ];
}
