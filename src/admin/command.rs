//! `PATCH /api/v1/lanes/{name}`: an operator pins, pauses, resumes or forgets a lane.

use super::Admin;
use super::access::MayChange;
use super::lanes::{self, Lane};
use super::problem::Problem;
use crate::config;
use crate::control::{Command, Quota};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// Does it, and answers with the lane as it is then.
pub(super) async fn patch(
    _allowed: MayChange,
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Lane>, Problem> {
    if !is_json(&headers) {
        let detail = format!("write the order as JSON, with Content-Type: application/json. {FORMS}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let command = read(&whole(body).await?).map_err(|why| {
        Problem::new(StatusCode::BAD_REQUEST, format!("this is no order to a lane: {why}. {FORMS}"))
    })?;
    if !admin.gate.command(&name, command) {
        return Err(lanes::unknown(&admin, &name));
    }
    lanes::one(&admin, &name).map(Json)
}

/// The order's wire shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Wire {
    action: String,
    rate: Option<String>,
    r#for: Option<String>,
}

fn read(body: &[u8]) -> Result<Command, String> {
    let Wire { action, rate, r#for: duration } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    match (action.as_str(), rate.as_deref(), duration.as_deref()) {
        ("pin", Some(rate), None) => {
            let quota = rate.parse::<Quota>().map_err(|error| error.to_string())?;
            Ok(Command::Pin(quota.rate()))
        }
        ("pin", None, _) => Err("pin needs a rate".into()),
        ("pause", None, text) => Ok(Command::Pause(text.map(pause).transpose()?)),
        ("resume", None, None) => Ok(Command::Resume),
        ("forget", None, None) => Ok(Command::Forget),
        ("pin" | "pause" | "resume" | "forget", ..) => Err(format!("{action} goes with fewer fields")),
        _ => Err(format!("there is no action {action:?}")),
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let length = config::duration(text).map_err(|error| error.to_string())?;
    if length.is_zero() { Err("a pause of nothing is none".into()) } else { Ok(length) }
}

/// `application/json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The body, if it is short and comes soon.
async fn whole(body: Body) -> Result<Bytes, Problem> {
    match timeout(BODY_TIME, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("an order has {BODY_BYTES_MAX} bytes at most. {FORMS}");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// Every order there is.
const FORMS: &str = "Write {\"action\":\"pin\",\"rate\":\"10/s\"}, {\"action\":\"pause\"}, \
                     {\"action\":\"pause\",\"for\":\"30s\"}, {\"action\":\"resume\"} or {\"action\":\"forget\"}";
/// Forty times the longest order.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// For a body that fits into one packet.
const BODY_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Rate;

    #[test]
    fn orders_are_read() {
        for (text, command) in [
            (r#"{"action":"pin","rate":"10/s"}"#, Command::Pin(Rate::new(10.0))),
            (r#"{"rate":"300/min","action":"pin"}"#, Command::Pin(Rate::new(5.0))),
            (r#"{"action":"pause"}"#, Command::Pause(None)),
            (r#"{"action":"pause","for":null}"#, Command::Pause(None)),
            (r#"{"action":"pause","for":"30s"}"#, Command::Pause(Some(Duration::from_secs(30)))),
            (r#" {"action":"resume"} "#, Command::Resume),
            (r#"{"action":"forget"}"#, Command::Forget),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), command, "{text}");
        }
    }

    #[test]
    fn what_is_no_order_is_told_why() {
        for (text, why) in [
            ("", "EOF"),
            ("pin", "expected value"),
            ("[]", "expected an object"),
            (r#"{"action":"stop"}"#, r#"there is no action "stop""#),
            (r#"{"action":"pin"}"#, "pin needs a rate"),
            (r#"{"action":"pin","rate":"fast"}"#, "10/s"),
            (r#"{"action":"pin","rate":10}"#, "expected a string"),
            (r#"{"action":"pin","rate":"10/s","for":"30s"}"#, "pin goes with fewer fields"),
            (r#"{"action":"pause","for":"30"}"#, "30s"),
            (r#"{"action":"pause","for":"0s"}"#, "a pause of nothing"),
            (r#"{"action":"resume","for":"30s"}"#, "resume goes with fewer fields"),
            (r#"{"action":"resume","force":true}"#, "unknown field `force`"),
            (r#"{"action":"resume"} {}"#, "trailing characters"),
            ("{\"action\":\"\u{0}", "control character"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn json_is_json_with_parameters_too() {
        let with =
            |value: &str| is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        assert!(with("application/json") && with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain") && !with("application/jsonp") && !is_json(&HeaderMap::new()));
    }
}
