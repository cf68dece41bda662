//! A refusal's body.

#![no_main]

use http::{Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tidegate::control::Outcome;
use tidegate::proxy::signals::Dialects;

static DIALECTS: LazyLock<Dialects> = LazyLock::new(|| Dialects::new("api.example.com", []));

fuzz_target!(|body: &[u8]| {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN] {
        let answer = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("x-github-request-id", "C0DE");
        let (head, ()) = answer.body(()).expect("it is a response").into_parts();
        let mut said = DIALECTS.head(head.status, &head.headers);
        DIALECTS.add_body(&mut said, &head, body, None);
        if let Outcome::Limited(hint) = said.report.outcome {
            assert!(hint.retry_after.is_none_or(|wait| wait <= Duration::from_hours(10 * 365 * 24)));
        }
        for limit in &said.report.announced {
            assert!(limit.requests > 0 && limit.window.is_some_and(|window| !window.is_zero()));
        }
    }
});
