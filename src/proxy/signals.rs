//! What an answer teaches: status and headers in, [`Outcome`] out.

use crate::control::{Hint, Outcome};
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use std::time::{Duration, SystemTime};

/// What the response's head says about the limiter.
pub(super) fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let hint = || Hint { retry_after: retry_after(headers), ..Hint::default() };
    match status {
        StatusCode::TOO_MANY_REQUESTS => Outcome::Limited(hint()),
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => Outcome::Overloaded(hint()),
        _ => Outcome::Accepted,
    }
}

/// How long Retry-After (RFC 9110 10.2.3) asks to wait; `None` when there is none or it says nothing. A date is
/// measured against the response's own Date, so that the origin's clock may be wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    delta(text).or_else(|| {
        let then = httpdate::parse_http_date(text).ok()?;
        let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let wait = then.duration_since(date.unwrap_or_else(wall_clock)).unwrap_or_default();
        Some(wait.min(LONGEST))
    })
}

/// Seconds, with decimals tolerated: the standard has none, origins do.
fn delta(text: &str) -> Option<Duration> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    if !plain {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an HTTP-date without a Date beside it has only the wall clock"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Longer than anyone waits, and far from the end of any arithmetic with instants.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn told(value: &str) -> Option<Duration> {
        retry_after(&headers(&[("retry-after", value), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]))
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
    fn retry_after_is_read_in_every_form() {
        for (text, seconds) in [("0", 0.0), ("1", 1.0), (" 60 ", 60.0), ("0.5", 0.5), ("1.", 1.0)] {
            assert_eq!(told(text), Some(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "soon", "-5", "+5", "1e9", "inf", "NaN", "1.2.3", "1 2", ".5", "Sun, 99 Nov 1994"] {
            assert_eq!(told(text), None, "{text}");
        }
        for text in ["99999999999999999999", "99999999999999999999999999999999999999999999.9"] {
            assert_eq!(told(text), Some(LONGEST), "{text}");
        }
    }

    #[test]
    fn dates_are_measured_against_the_response_s_own_date() {
        assert_eq!(told("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(told("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(told("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LONGEST));
        let past = retry_after(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]));
        assert_eq!(past, Some(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn nothing_panics(value in proptest::collection::vec(any::<u8>(), 0..40), date in "\\PC{0,30}") {
            let mut fields = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                fields.insert(RETRY_AFTER, value);
            }
            if let Ok(date) = HeaderValue::from_str(&date) {
                fields.insert(DATE, date);
            }
            prop_assert!(retry_after(&fields).is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn whole_seconds_are_taken_as_they_are(seconds in 0_u32..100_000_000) {
            prop_assert_eq!(told(&seconds.to_string()), Some(Duration::from_secs(seconds.into())));
        }
    }
}
