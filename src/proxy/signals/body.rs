//! What a refusal's body tells, and the sign that a route has for its own.
//!
//! Genesys Cloud's, in two generations: the older one names the limit and its window, the newer one the time to wait.
//! Some of its layers name the limit's key alone.
//!
//! ```json
//! {"code":"too.many.requests","message":"Rate limit exceeded the maximum [300] requests within [60] seconds"}
//! {"code":"too.many.requests.retry.after",
//!  "message":"Rate limit exceeded the maximum. Retry the request in [42] seconds"}
//! ```
//!
//! Discord's `{"message":"You are being rate limited.","retry_after":64.57,"global":false}`, and GitHub's sentence about
//! a secondary limit, after which its documentation asks for a minute.

use super::coding::plain;
use super::limits::NAME_BYTES_MAX;
use super::{Dialects, Said, count, quantity, wait, words};
use crate::config::RefusalSign;
use crate::control::{AnnouncedBy, Announcement, Level, Outcome};
use crate::proxy::fields::{Fields, text};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

impl Said {
    /// Could the body change or add to what the head said?
    pub fn is_body_worth_reading(&self, head: &Parts, sign: Option<&RefusalSign>) -> bool {
        self.is_more_in_body(head.status, &head.headers.clone().into(), sign)
    }

    /// The same of a head that may be in no map.
    pub(in crate::proxy) fn is_more_in_body(
        &self,
        status: StatusCode,
        fields: &Fields,
        sign: Option<&RefusalSign>,
    ) -> bool {
        match self.report.outcome {
            Outcome::Limited(_) => is_json(fields),
            _ => self.is_doubtful || sign.is_some_and(|sign| sign.status == status),
        }
    }
}

impl Dialects {
    /// Adds what `body` says. A body with the route's sign makes a refusal of whatever the status says.
    pub fn add_body(&self, said: &mut Said, head: &Parts, body: &[u8], sign: Option<&RefusalSign>) {
        self.add(said, (head.status, &head.headers.clone().into()), body, sign);
    }

    /// The same for a head that may be in no map.
    pub(in crate::proxy) fn add(
        &self,
        said: &mut Said,
        (status, fields): (StatusCode, &Fields),
        body: &[u8],
        sign: Option<&RefusalSign>,
    ) {
        let Some(body) = plain(fields, body) else { return };
        let body = &*body;
        let is_sign = |sign: &RefusalSign| sign.status == status && contains(body, sign.body.as_bytes());
        if sign.is_some_and(is_sign) || (said.is_doubtful && contains(body, SECONDARY.as_bytes())) {
            *said = self.refusal(fields);
        }
        let Outcome::Limited(hint) = &mut said.report.outcome else { return };
        if !is_json(fields) {
            return;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let text = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let message = text("message");
        // The fields win (RFC 9110 10.2.3).
        if hint.retry_after.is_none() {
            hint.retry_after = body.get("retry_after").and_then(|seconds| {
                let seconds = seconds.as_f64().filter(|seconds| *seconds >= 0.0);
                if seconds.is_none() {
                    said.ignored.push(Cow::Borrowed("retry_after"));
                }
                seconds.map(wait::bounded)
            });
        }
        if contains(message.as_bytes(), SECONDARY.as_bytes()) {
            hint.retry_after = hint.retry_after.or(Some(SECONDARY_WAIT));
        }
        match body.get("global") {
            Some(Value::Bool(true)) => hint.level = Some(Level::Credential),
            Some(Value::Bool(false)) => hint.level = hint.level.or(Some(Level::Route)),
            _ => (),
        }
        hint.level = hint.level.or_else(|| words::level_in(&body));
        if text("code").starts_with(GENESYS) {
            hint.retry_after = hint.retry_after.or_else(|| retry_in(message));
            let key = key_in(message);
            hint.level = key.map(level_of).or(hint.level);
            said.report.announced.extend(limit_of(message, key));
        }
    }
}

fn retry_in(message: &str) -> Option<Duration> {
    let seconds = between(message, "Retry the request in [", "] seconds").and_then(count)?;
    Some(wait::bounded(seconds.into()))
}

fn limit_of(message: &str, key: Option<&str>) -> Option<Announcement> {
    let number = |before, after| between(message, before, after).and_then(quantity).flatten();
    let requests = number("exceeded the maximum [", "] requests")?;
    let window = number("requests within [", "] seconds")?;
    Some(Announcement {
        name: key.map_or_else(|| Arc::clone(&NAME), Arc::from),
        source: AnnouncedBy::Body,
        requests,
        used: Some(requests),
        reset: None,
        window: Some(Duration::from_secs(window.into())),
        level: key.map(level_of).unwrap_or_default(),
    })
}

/// The key of a limit of Genesys Cloud, such as `client.credentials.token.rate.per.minute`.
fn key_in(message: &str) -> Option<&str> {
    let mut words = message.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_')));
    words.find(|word| word.contains(".rate.per.") && word.len() <= NAME_BYTES_MAX)
}

/// Whom a limit is on, by its key.
fn level_of(key: &str) -> Level {
    words::level_of(key).unwrap_or_default()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(between, _)| between)
}

/// Does `body` contain `text`, in any case?
fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
}

fn is_json(fields: &Fields) -> bool {
    let kind = fields.first(&CONTENT_TYPE).and_then(text).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let (_, subtype) = kind.split_once('/').unwrap_or_default();
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

/// What the codes of both of Genesys Cloud's generations begin with.
const GENESYS: &str = "too.many.requests";

/// GitHub's limits beside the one that it counts in headers.
const SECONDARY: &str = "secondary rate limit";
const SECONDARY_WAIT: Duration = Duration::from_mins(1);

static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "body".into());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Hint, Report};
    use http::Response;

    fn read(status: u16, fields: &[(&str, &str)], body: &str, sign: Option<&RefusalSign>) -> Report {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let parts = response.body(()).unwrap().into_parts().0;
        let dialects = Dialects::new("example.com", []);
        let mut said = dialects.head(parts.status, &parts.headers);
        if said.is_body_worth_reading(&parts, sign) {
            dialects.add_body(&mut said, &parts, body.as_bytes(), sign);
        }
        said.report
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

    #[test]
    fn a_limit_s_key_says_whom_it_is_on() {
        let told = |key: &str| {
            let report = read(429, &[JSON], &OLD.replace("Rate limit", &format!("Rate limit [{key}]")), None);
            let Outcome::Limited(hint) = report.outcome else { panic!("{report:?}") };
            let level = report.announced[0].level;
            assert_eq!(hint.level, (key != "no key" && !key.starts_with('x')).then_some(level));
            (level, report.announced[0].name.to_string())
        };
        for (key, level) in [
            ("client.credentials.token.rate.per.minute", Level::Credential),
            ("token.rate.per.minute", Level::Credential),
            ("ui.token.rate.per.minute", Level::Credential),
            ("org.app.user.rate.per.minute", Level::Credential),
            ("org.user.rate.per.minute", Level::Credential),
            ("org.rate.per.minute", Level::Upstream),
            ("flows.query.rate.per.minute", Level::Route),
        ] {
            assert_eq!(told(key), (level, key.to_owned()));
        }
        assert_eq!(told("no key"), (Level::Route, "body".to_owned()));
        assert_eq!(told(&format!("{}.rate.per.minute", "x".repeat(60))).1, "body");
    }

    #[test]
    fn discord_tells_seconds_with_decimals_and_whether_everything_waits() {
        let body = r#"{"message":"You are being rate limited.","retry_after":64.57,"global":true}"#;
        let waits = |fields: &[(&str, &str)], body: &str| {
            let Outcome::Limited(hint) = read(429, fields, body, None).outcome else { panic!("{body}") };
            (hint.retry_after.map(|wait| wait.as_secs_f64()), hint.level)
        };
        assert_eq!(waits(&[JSON], body), (Some(64.57), Some(Level::Credential)));
        assert_eq!(waits(&[JSON, ("retry-after", "65")], body), (Some(65.0), Some(Level::Credential)));
        assert_eq!(waits(&[JSON], &body.replace("true", "false")), (Some(64.57), Some(Level::Route)));
        for bad in ["-1", "\"soon\"", "null", "[]"] {
            assert_eq!(waits(&[JSON], &body.replace("64.57", bad)).0, None, "{bad}");
        }
    }

    #[test]
    fn github_s_secondary_limit_is_a_403_that_only_its_body_tells() {
        let body = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes."}"#;
        let github = ("x-github-request-id", "C0DE:1");
        let left = ("x-ratelimit-remaining", "4000");
        assert_eq!(read(403, &[JSON, github, left], body, None).outcome, limited(Some(60)));
        assert_eq!(read(429, &[JSON, github, left], body, None).outcome, limited(Some(60)));
        assert_eq!(read(403, &[JSON, github, ("retry-after", "5")], body, None).outcome, limited(Some(5)));
        let other = body.replace("secondary rate limit", "boundary");
        assert_eq!(read(403, &[JSON, github, left], &other, None).outcome, Outcome::Accepted);
        assert_eq!(read(403, &[JSON, left], body, None).outcome, Outcome::Accepted, "it is not GitHub");
    }
}
