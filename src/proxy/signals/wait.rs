//! How long an answer asks to wait: Retry-After, and the moment at which a window ends.

use super::single;
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// How long Retry-After (RFC 9110 10.2.3) asks to wait; `None` when there is none or it says nothing. A date is
/// measured against the response's own Date, so that the origin's clock may be wrong.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    seconds(text).map(bounded).or_else(|| {
        let then = httpdate::parse_http_date(text).ok()?;
        let wait = then.duration_since(origin_clock(headers)).unwrap_or_default();
        Some(wait.min(LONGEST))
    })
}

/// How long until a window ends, as a bare number says it: milliseconds or seconds since 1970 when it is as large as
/// that, else seconds from now. Moments are measured against the response's own Date.
pub(super) fn reset(text: &str, headers: &HeaderMap) -> Option<Duration> {
    let number = seconds(text)?;
    if number < EPOCH_SECONDS_MIN {
        return Some(bounded(number));
    }
    let since_1970 = if number < EPOCH_MILLIS_MIN { number } else { number / 1000.0 };
    let origin = origin_clock(headers).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(bounded((since_1970 - origin.as_secs_f64()).max(0.0)))
}

/// A number without sign, with decimals tolerated: the standard has none, origins do.
fn seconds(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// No longer than [`LONGEST`].
pub(super) fn bounded(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
}

/// What the origin took for the time when it answered.
#[expect(clippy::disallowed_methods, reason = "a moment without a Date beside it has only the wall clock")]
fn origin_clock(headers: &HeaderMap) -> SystemTime {
    let date = single(headers, &DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    date.unwrap_or_else(SystemTime::now)
}

/// Longer than anyone waits, and far from the end of any arithmetic with instants.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// From here on a number is seconds since 1970 (2001 and later) and not a wait of 31 years.
const EPOCH_SECONDS_MIN: f64 = 1e9;

/// From here on a number is milliseconds since 1970 and not a year beyond 33658.
const EPOCH_MILLIS_MIN: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const DATED: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

    fn told(value: &str) -> Option<Duration> {
        retry_after(&headers(&[("retry-after", value), DATED]))
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

    #[test]
    fn a_reset_is_a_wait_or_a_moment_by_its_size() {
        let dated = headers(&[("date", "Tue, 24 Nov 2026 07:30:00 GMT")]);
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("38", Some(38.0)),
            ("0.25", Some(0.25)),
            ("999999999", Some(315_360_000.0)),
            ("1795505430", Some(30.0)),
            ("1795505430.5", Some(30.5)),
            ("1795505430250", Some(30.25)),
            ("1795505000", Some(0.0)),
            ("-1", None),
            ("Tue Feb 16 2021", None),
            ("6m0s", None),
        ] {
            assert_eq!(reset(text, &dated), seconds.map(Duration::from_secs_f64), "{text}");
        }
        assert_eq!(reset("1000000000", &headers(&[])), Some(Duration::ZERO), "2001 is over by any clock");
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
            prop_assert!(reset(&date, &fields).is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn whole_seconds_are_taken_as_they_are(seconds in 0_u32..100_000_000) {
            prop_assert_eq!(told(&seconds.to_string()), Some(Duration::from_secs(seconds.into())));
        }
    }
}
