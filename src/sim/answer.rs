//! The simulated API's answers: what was made, what was refused, and the headers that announce the limits.

use super::limits::{Announced, Refused};
use super::settings::SimSettings;
use super::words::{HeaderForm, RetryAfter};
use axum::response::{IntoResponse, Json, Response};
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use serde_json::json;
use std::time::{Duration, SystemTime};

const CORRELATION_ID: HeaderName = HeaderName::from_static("inin-correlation-id");
const ININ: [HeaderName; 3] = [
    HeaderName::from_static("inin-ratelimit-count"),
    HeaderName::from_static("inin-ratelimit-allowed"),
    HeaderName::from_static("inin-ratelimit-reset"),
];
const IETF: [HeaderName; 2] =
    [HeaderName::from_static("ratelimit-policy"), HeaderName::from_static("ratelimit")];
const X: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];
pub(super) const MESSAGES: &str = "/api/v2/conversations/messages";

/// The platform's normalised 429, member by member in its order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttled<'a> {
    message: String,
    code: &'static str,
    status: u16,
    context_id: &'a str,
    details: [(); 0],
    errors: [(); 0],
}

/// What a call has made, under the new `id`.
pub(super) fn accepted(head: &Parts, correlation: &str, id: &str) -> Response {
    let path = head.uri.path();
    // The platform takes in messages for later (202), and says what a call has made (200).
    let later = head.method == Method::POST && path.starts_with(MESSAGES) && path != MESSAGES;
    let status = if later { StatusCode::ACCEPTED } else { StatusCode::OK };
    let uri = format!("{path}/{id}");
    answer(status, correlation, json!({"id": id, "selfUri": uri}))
}

/// The 429, with the time to wait as the settings have it told.
pub(super) fn throttled(settings: &SimSettings, refused: Refused, correlation: &str) -> Response {
    let reset = seconds_up(refused.reset_seconds).max(1);
    let (said, header) = match settings.retry_after {
        RetryAfter::Seconds(seconds) => (u64::from(seconds), Some(HeaderValue::from(seconds))),
        RetryAfter::Reset => (reset, Some(HeaderValue::from(reset))),
        RetryAfter::Date => (reset, date_after(refused.reset_seconds)),
        RetryAfter::None => (reset, None),
    };
    let body = Throttled {
        message: format!("Rate limit exceeded the maximum. Retry the request in [{said}] seconds"),
        code: "too.many.requests.retry.after",
        status: StatusCode::TOO_MANY_REQUESTS.as_u16(),
        context_id: correlation,
        details: [],
        errors: [],
    };
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, correlation, body);
    if let Some(header) = header {
        response.headers_mut().insert(RETRY_AFTER, header);
    }
    response
}

/// Any answer in JSON.
pub(super) fn answer(status: StatusCode, correlation: &str, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(correlation) = HeaderValue::from_str(correlation) {
        response.headers_mut().insert(CORRELATION_ID, correlation);
    }
    response
}

/// Writes what the limits announce. Times are whole seconds, rounded up.
pub(super) fn announce(form: HeaderForm, announced: &[Announced], headers: &mut HeaderMap) {
    let Some(tightest) = Announced::tightest(announced) else { return };
    let reset = tightest.reset_seconds.map(|seconds| HeaderValue::from(seconds_up(seconds)));
    let (allowed, used) = (HeaderValue::from(tightest.allowed), HeaderValue::from(tightest.used));
    let remaining = HeaderValue::from(tightest.remaining());
    let fields: Vec<_> = match form {
        HeaderForm::Genesys => ININ.into_iter().zip([Some(used), Some(allowed), reset]).collect(),
        HeaderForm::XRateLimit => X.into_iter().zip([Some(allowed), Some(remaining), reset]).collect(),
        HeaderForm::Ietf => {
            let lists = [listed(announced, policy), listed(announced, service)];
            IETF.into_iter().zip(lists.map(|list| HeaderValue::from_str(&list).ok())).collect()
        }
        HeaderForm::None => Vec::new(),
    };
    headers.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
}

/// A list of structured fields, one member a limit. The only limit is called `default`, several have numbers.
fn listed(announced: &[Announced], parameters: fn(&Announced) -> String) -> String {
    let members: Vec<_> = match announced {
        [only] => vec![format!("\"default\"{}", parameters(only))],
        several => {
            (1..).zip(several).map(|(number, one)| format!("\"limit-{number}\"{}", parameters(one))).collect()
        }
    };
    members.join(", ")
}

fn policy(limit: &Announced) -> String {
    match limit.window_seconds {
        // The draft has whole seconds only; a window that is shorter or broken is better not told than told wrong.
        Some(window) if seconds_up(window) as f64 - window > 1e-6 => format!(";q={}", limit.allowed),
        Some(window) => format!(";q={};w={}", limit.allowed, seconds_up(window)),
        None => format!(";q={};qu=\"concurrent-requests\"", limit.allowed),
    }
}

fn service(limit: &Announced) -> String {
    let reset = limit.reset_seconds.map(|reset| format!(";t={}", seconds_up(reset)));
    format!(";r={}{}", limit.remaining(), reset.unwrap_or_default())
}

/// Whole seconds that are not too short. A microsecond over is a float's error, not a second.
fn seconds_up(seconds: f64) -> u64 {
    Duration::try_from_secs_f64((seconds - 1e-6).ceil()).map_or(0, |up| up.as_secs())
}

/// The HTTP-date that is not too early.
fn date_after(seconds: f64) -> Option<HeaderValue> {
    #[expect(clippy::disallowed_methods, reason = "an HTTP-date is wall time by definition")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let moment = Duration::from_secs(seconds_up(now.as_secs_f64() + seconds));
    HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + moment)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(allowed: u32, used: u32, reset_seconds: f64, window_seconds: f64) -> Announced {
        let (reset_seconds, window_seconds) = (Some(reset_seconds), Some(window_seconds));
        Announced { allowed, used, reset_seconds, window_seconds }
    }

    fn written(form: HeaderForm, announced: &[Announced]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        announce(form, announced, &mut headers);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn one_limit_in_every_form() {
        let one = [limit(240, 190, 29.2, 30.0)];
        assert_eq!(
            written(HeaderForm::Genesys, &one),
            ["inin-ratelimit-allowed: 240", "inin-ratelimit-count: 190", "inin-ratelimit-reset: 30"]
        );
        assert_eq!(
            written(HeaderForm::Ietf, &one),
            ["ratelimit-policy: \"default\";q=240;w=30", "ratelimit: \"default\";r=50;t=30"]
        );
        assert_eq!(
            written(HeaderForm::XRateLimit, &one),
            ["x-ratelimit-limit: 240", "x-ratelimit-remaining: 50", "x-ratelimit-reset: 30"]
        );
        assert_eq!(written(HeaderForm::None, &one), [""; 0]);
        assert_eq!(written(HeaderForm::Genesys, &[]), [""; 0]);
    }

    #[test]
    fn of_several_limits_ietf_tells_all_and_the_others_the_tightest() {
        let several = [limit(10, 1, 0.5, 1.0), limit(300, 299, 12.0, 60.0)];
        assert_eq!(
            written(HeaderForm::Ietf, &several),
            [
                "ratelimit-policy: \"limit-1\";q=10;w=1, \"limit-2\";q=300;w=60",
                "ratelimit: \"limit-1\";r=9;t=1, \"limit-2\";r=1;t=12"
            ]
        );
        assert_eq!(
            written(HeaderForm::Genesys, &several),
            ["inin-ratelimit-allowed: 300", "inin-ratelimit-count: 299", "inin-ratelimit-reset: 12"]
        );
    }

    #[test]
    fn what_has_no_time_tells_none_and_a_broken_window_is_not_told() {
        let under_way = Announced { allowed: 8, used: 3, reset_seconds: None, window_seconds: None };
        assert_eq!(
            written(HeaderForm::XRateLimit, &[under_way]),
            ["x-ratelimit-limit: 8", "x-ratelimit-remaining: 5"]
        );
        assert_eq!(
            written(HeaderForm::Ietf, &[under_way]),
            ["ratelimit-policy: \"default\";q=8;qu=\"concurrent-requests\"", "ratelimit: \"default\";r=5"]
        );
        let short = limit(5, 7, 0.1, 0.25);
        assert_eq!(
            written(HeaderForm::Ietf, &[short]),
            ["ratelimit-policy: \"default\";q=5", "ratelimit: \"default\";r=0;t=1"]
        );
    }

    #[test]
    fn seconds_are_rounded_up_and_float_errors_are_not() {
        for (seconds, told) in
            [(-3.0, 0), (0.0, 0), (0.2, 1), (1.0, 1), (1.000_000_001, 1), (1.01, 2), (3_599.5, 3_600)]
        {
            assert_eq!(seconds_up(seconds), told, "{seconds}");
        }
    }

    #[test]
    fn a_date_is_not_before_its_moment() {
        let refused = Refused { index: 0, reset_seconds: 7.25, quota: "9/min".parse().unwrap() };
        let settings = SimSettings { retry_after: RetryAfter::Date, ..SimSettings::default() };
        #[expect(clippy::disallowed_methods, reason = "an HTTP-date is wall time by definition")]
        let asked = SystemTime::now();
        let response = throttled(&settings, refused, "id");
        let date = httpdate::parse_http_date(response.headers()[RETRY_AFTER].to_str().unwrap()).unwrap();
        let wait = date.duration_since(asked).unwrap().as_secs_f64();
        assert!((7.24..60.0).contains(&wait), "{wait}");
    }
}
