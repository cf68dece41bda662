//! What a refusal's body tells: the two generations of Genesys Cloud's, and the sign that a route has for its own.
//!
//! The older one names the limit and its window, the newer one the time to wait:
//!
//! ```json
//! {"code":"too.many.requests","message":"Rate limit exceeded the maximum [300] requests within [60] seconds"}
//! {"code":"too.many.requests.retry.after",
//!  "message":"Rate limit exceeded the maximum. Retry the request in [42] seconds"}
//! ```

use super::{count, hint, limit, wait};
use crate::config::RefusalSign;
use crate::control::{AnnouncedBy, Announcement, Level, Outcome, Report};
use http::header::CONTENT_TYPE;
use http::response::Parts;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Could the body change or add to what the head said?
pub(in crate::proxy) fn is_worth_reading(report: &Report, head: &Parts, sign: Option<&RefusalSign>) -> bool {
    match report.outcome {
        Outcome::Limited(_) => is_json(head),
        _ => sign.is_some_and(|sign| sign.status == head.status),
    }
}

/// Adds what `body` says. A body with the route's sign makes a refusal of whatever the status says.
pub(in crate::proxy) fn add_body(report: &mut Report, head: &Parts, body: &[u8], sign: Option<&RefusalSign>) {
    if sign.is_some_and(|sign| sign.status == head.status && contains(body, sign.body.as_bytes())) {
        report.outcome = Outcome::Limited(hint(&head.headers));
    }
    let Outcome::Limited(hint) = &mut report.outcome else { return };
    if !is_json(head) {
        return;
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal<'_>>(body) else { return };
    if !refusal.code.starts_with(CODE) {
        return;
    }
    // The header wins (RFC 9110 10.2.3).
    hint.retry_after = hint.retry_after.or_else(|| retry_in(&refusal.message));
    report.announced.extend(limit_of(&refusal.message));
}

/// The wire shape of Genesys Cloud's errors, as far as it is read.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

fn retry_in(message: &str) -> Option<Duration> {
    let seconds = between(message, "Retry the request in [", "] seconds").and_then(count)?;
    Some(wait::bounded(seconds.into()))
}

fn limit_of(message: &str) -> Option<Announcement> {
    let requests = between(message, "exceeded the maximum [", "] requests").and_then(limit)?;
    let window = between(message, "requests within [", "] seconds").and_then(limit)?;
    Some(Announcement {
        name: Arc::clone(&NAME),
        source: AnnouncedBy::Body,
        requests,
        used: Some(requests),
        reset: None,
        window: Some(Duration::from_secs(window.into())),
        level: Level::default(),
    })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(between, _)| between)
}

/// Does `body` contain `text`, in any case?
fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
}

fn is_json(head: &Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let (_, subtype) = kind.split_once('/').unwrap_or_default();
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

/// What the codes of both generations begin with.
const CODE: &str = "too.many.requests";

static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "body".into());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Hint;
    use http::{Response, StatusCode};

    fn read(status: u16, fields: &[(&str, &str)], body: &str, sign: Option<&RefusalSign>) -> Report {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let parts = response.body(()).unwrap().into_parts().0;
        let mut report = super::super::head(parts.status, &parts.headers);
        if is_worth_reading(&report, &parts, sign) {
            add_body(&mut report, &parts, body.as_bytes(), sign);
        }
        report
    }

    fn limited(seconds: Option<u64>) -> Outcome {
        Outcome::Limited(Hint { retry_after: seconds.map(Duration::from_secs), ..Hint::default() })
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const OLD: &str = r#"{"status":429,"code":"too.many.requests",
        "message":"Rate limit exceeded the maximum [300] requests within [60] seconds"}"#;
    const NEW: &str = r#"{"message":"Rate limit exceeded the maximum. Retry the request in [42] seconds",
        "code":"too.many.requests.retry.after","status":429,"contextId":"c","details":[],"errors":[]}"#;

    #[test]
    fn the_older_generation_tells_limit_and_window() {
        let report = read(429, &[JSON], OLD, None);
        assert_eq!(report.outcome, limited(None));
        let expected = Announcement {
            name: "body".into(),
            source: AnnouncedBy::Body,
            requests: 300,
            used: Some(300),
            reset: None,
            window: Some(Duration::from_mins(1)),
            level: Level::default(),
        };
        assert_eq!(report.announced, [expected]);
    }

    #[test]
    fn the_newer_generation_tells_the_wait_and_the_header_wins() {
        assert_eq!(read(429, &[JSON], NEW, None), Report::new(limited(Some(42)), false));
        assert_eq!(read(429, &[JSON, ("retry-after", "7")], NEW, None).outcome, limited(Some(7)));
        assert_eq!(read(429, &[JSON, ("retry-after", "soon")], NEW, None).outcome, limited(Some(42)));
    }

    #[test]
    fn other_bodies_say_nothing() {
        let nothing = Report::new(limited(None), false);
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "{\"code\":1}",
            "{\"code\":\"too.many.requests\"}",
            &OLD.replace("300", "%s"),
            &OLD.replace("300", "0"),
            &OLD.replace("60", "0"),
            &OLD.replace("300", "99999999999"),
            &OLD.replace("too.many", "too.few"),
            &NEW.replace("42", "-42"),
            &NEW.replace("[42", "42"),
            &"[".repeat(60_000),
        ] {
            assert_eq!(read(429, &[JSON], body, None), nothing, "{body}");
        }
        assert_eq!(read(429, &[("content-type", "text/plain")], OLD, None), nothing);
        assert_eq!(read(429, &[], OLD, None), nothing);
        assert_eq!(read(200, &[JSON], OLD, None), Report::new(Outcome::Accepted, false));
    }

    #[test]
    fn a_route_s_own_sign_makes_a_refusal() {
        let sign = RefusalSign { status: StatusCode::BAD_REQUEST, body: "rate limit exceeded".into() };
        let body = "{\"error\":\"invalid_request\",\"description\":\"Rate Limit exceeded; try later\"}";
        assert_eq!(read(400, &[JSON, ("retry-after", "3")], body, Some(&sign)).outcome, limited(Some(3)));
        assert_eq!(read(400, &[], body, Some(&sign)).outcome, limited(None));
        assert_eq!(
            read(400, &[JSON], "{\"error\":\"invalid_client\"}", Some(&sign)).outcome,
            Outcome::Accepted
        );
        assert_eq!(read(401, &[JSON], body, Some(&sign)).outcome, Outcome::Accepted);
        assert_eq!(read(400, &[JSON], body, None).outcome, Outcome::Accepted);
    }
}
