//! How long an answer asks to wait: Retry-After and its relatives, and the moment at which a window ends.

use super::fields::Fields;
use super::moment::moment;
use crate::config::ResetUnit;
use http::HeaderName;
use http::header::RETRY_AFTER;
use std::time::Duration;

/// How long the answer asks to wait, by the first of its fields that says so: Retry-After in milliseconds is the same
/// word, only more exact, and the others are of those who do not send it.
pub(super) fn retry_after(fields: &mut Fields<'_>) -> Option<Duration> {
    if let Some(millis) = fields.read(&RETRY_AFTER_MS, number) {
        return Some(bounded(millis / 1_000.0));
    }
    [RETRY_AFTER, X_RETRY_AFTER, X_NEXT].iter().find_map(|name| {
        let now = if fields.has(name) { fields.now() } else { 0.0 };
        fields.read(name, |text| {
            // A date is measured against the response's own Date, so that the origin's clock may be wrong.
            let seconds = number(text).or_else(|| moment(text).map(|moment| (moment - now).max(0.0)));
            seconds.map(bounded)
        })
    })
}

/// Does the answer say that it makes sense to come back?
pub(super) fn asks_to_wait(fields: &Fields<'_>) -> bool {
    fields.has(&RETRY_AFTER) || fields.has(&RETRY_AFTER_MS)
}

/// How long until a window ends, by a field of whatever form:
///
/// | form | example |
/// |---|---|
/// | a wait, in seconds or what `unit` says | `41`, `0.25` |
/// | seconds or milliseconds since 1970, told by their size | `1795505430`, `1795505430.5`, `1795505430250` |
/// | a duration as Go writes it | `6m0s`, `1h2m3.5s`, `12ms` |
/// | a moment | see [`moment`] |
///
/// Moments are measured against the response's own Date. What is absurd says nothing.
pub(super) fn reset(fields: &mut Fields<'_>, name: &HeaderName, unit: ResetUnit) -> Option<Duration> {
    if !fields.has(name) {
        return None;
    }
    let now = fields.now();
    fields.read(name, |text| until(text, unit, now))
}

/// As [`reset`], of a `text` that came at `now`.
pub(super) fn until(text: &str, unit: ResetUnit, now: f64) -> Option<Duration> {
    let from_now = |moment: f64| (moment - now).max(0.0);
    let seconds = match number(text) {
        Some(number) if number >= EPOCH_MILLIS_MIN => from_now(number / 1_000.0),
        Some(number) if number >= EPOCH_SECONDS_MIN => from_now(number),
        Some(number) if unit == ResetUnit::Milliseconds => number / 1_000.0,
        Some(number) => number,
        None => go_duration(text).or_else(|| moment(text).map(from_now))?,
    };
    sensible(bounded(seconds))
}

/// Not beyond any window that an API has.
pub(super) fn sensible(reset: Duration) -> Option<Duration> {
    (reset <= RESET_MAX).then_some(reset)
}

/// A number without sign, with decimals tolerated: the standard has none, origins do.
pub(super) fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// The seconds of `1h2m3.5s` or `12ms`.
fn go_duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic() || c == 'µ')?;
        let (amount, more) = rest.split_at_checked(digits)?;
        let end = more.find(|c: char| c.is_ascii_digit()).unwrap_or(more.len());
        let (unit, more) = more.split_at_checked(end)?;
        seconds += number(amount)? * GO_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = more;
    }
    (!text.is_empty()).then_some(seconds)
}

/// No longer than [`LONGEST`].
pub(super) fn bounded(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST).min(LONGEST)
}

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// What `MailerLite` sends.
const X_RETRY_AFTER: HeaderName = HeaderName::from_static("x-ratelimit-retry-after");
/// What Akamai sends: when the next request will be let in.
const X_NEXT: HeaderName = HeaderName::from_static("x-ratelimit-next");

/// Longer than anyone waits, and far from the end of any arithmetic with instants.
pub(super) const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// No API counts over more than a month: what would end later is some other number.
const RESET_MAX: Duration = Duration::from_hours(32 * 24);

/// From here on a number is seconds since 1970 (2001 and later) and not a wait of 31 years.
const EPOCH_SECONDS_MIN: f64 = 1e9;

/// From here on a number is milliseconds since 1970 and not a year beyond 33658.
const EPOCH_MILLIS_MIN: f64 = 1e12;

const GO_UNITS: [(&str, f64); 7] =
    [("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)];

#[cfg(test)]
mod tests {
    use super::super::tests::headers;
    use super::*;
    use http::header::DATE;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    const DATED: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");

    fn told(value: &str) -> Option<Duration> {
        asked(&[("retry-after", value), DATED])
    }

    fn asked(fields: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&mut Fields::new(&headers(fields).into()))
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
        assert_eq!(asked(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(Duration::ZERO));
    }

    #[test]
    fn the_most_exact_word_counts_first() {
        let (wait, millis) = (("retry-after", "2"), ("retry-after-ms", "1500"));
        assert_eq!(asked(&[wait, millis]), Some(Duration::from_millis(1_500)));
        assert_eq!(asked(&[wait, ("retry-after-ms", "-1")]), Some(Duration::from_secs(2)));
        assert_eq!(asked(&[wait, ("x-ratelimit-retry-after", "9")]), Some(Duration::from_secs(2)));
        assert_eq!(asked(&[("x-ratelimit-retry-after", "9")]), Some(Duration::from_secs(9)));
        let next = ("x-ratelimit-next", "1994-11-06T08:49:41.5Z");
        assert_eq!(asked(&[DATED, next]), Some(Duration::from_millis(4_500)));
    }

    #[test]
    fn a_reset_is_a_wait_or_a_moment_by_its_size() {
        // Tue, 24 Nov 2026 07:30:00 GMT.
        let now = 1_795_505_400.0;
        for (text, seconds) in [
            ("0", Some(0.0)),
            ("38", Some(38.0)),
            ("0.25", Some(0.25)),
            ("2764800", Some(2_764_800.0)),
            ("2764801", None),
            ("999999999", None),
            ("1795505430", Some(30.0)),
            ("1795505430.5", Some(30.5)),
            ("1795505430250", Some(30.25)),
            ("1795505000", Some(0.0)),
            ("9999999999", None),
            ("99999999999999999999", None),
            ("6m0s", Some(360.0)),
            ("1h2m3.5s", Some(3_723.5)),
            ("1s", Some(1.0)),
            ("12ms", Some(0.012)),
            ("1m30.951s", Some(90.951)),
            ("250µs", Some(0.000_25)),
            ("2026-11-24T07:30:41Z", Some(41.0)),
            ("2026-11-24T07:29:00Z", Some(0.0)),
            ("Tue, 24 Nov 2026 07:31:00 GMT", Some(60.0)),
            ("Tue Nov 24 2026 08:30:07 GMT+0100 (Central European Standard Time)", Some(7.0)),
            ("9999h", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("", None),
            ("m", None),
            ("5x", None),
            ("5m-3s", None),
            ("6 m", None),
            ("1e3", None),
        ] {
            let seconds = seconds.map(Duration::from_secs_f64);
            assert_eq!(until(text, ResetUnit::Seconds, now), seconds, "{text}");
        }
        assert_eq!(until("600000", ResetUnit::Milliseconds, now), Some(Duration::from_mins(10)));
        assert_eq!(until("1795505430", ResetUnit::Milliseconds, now), Some(Duration::from_secs(30)));
    }

    proptest! {
        #[test]
        fn nothing_panics(value in proptest::collection::vec(any::<u8>(), 0..40), date in "\\PC{0,30}") {
            let mut map = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.insert(RETRY_AFTER, value);
            }
            if let Ok(date) = HeaderValue::from_str(&date) {
                map.insert(DATE, date);
            }
            let map = map.into();
            let mut fields = Fields::new(&map);
            prop_assert!(retry_after(&mut fields).is_none_or(|wait| wait <= LONGEST));
            prop_assert!(reset(&mut fields, &RETRY_AFTER, ResetUnit::Seconds).is_none_or(|wait| wait <= RESET_MAX));
            prop_assert!(until(&date, ResetUnit::Milliseconds, 0.0).is_none_or(|wait| wait <= RESET_MAX));
        }

        #[test]
        fn whole_seconds_are_taken_as_they_are(seconds in 0_u32..100_000_000) {
            prop_assert_eq!(told(&seconds.to_string()), Some(Duration::from_secs(seconds.into())));
        }

        #[test]
        fn durations_as_go_writes_them_come_back(hours in 0_u32..700, minutes in 0_u32..60, millis in 0_u32..60_000) {
            let text = format!("{hours}h{minutes}m{}.{:03}s", millis / 1_000, millis % 1_000);
            let expected = f64::from(hours * 3_600 + minutes * 60) + f64::from(millis) / 1_000.0;
            let found = until(&text, ResetUnit::Seconds, 0.0).unwrap().as_secs_f64();
            prop_assert!((found - expected).abs() < 1e-6, "{} {}", text, found);
        }
    }
}
