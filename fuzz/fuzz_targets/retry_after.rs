//! One value, in each field that may ask to wait.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tidegate::control::Outcome;
use tidegate::proxy::signals::Dialects;

static DIALECTS: LazyLock<Dialects> = LazyLock::new(|| Dialects::new("api.example.com", []));

const FIELDS: [&str; 5] =
    ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-next", "ratelimit-reset"];

fuzz_target!(|value: &[u8]| {
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    for field in FIELDS {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("Tue, 24 Nov 2026 07:30:00 GMT"));
        headers.insert(HeaderName::from_static(field), value.clone());
        let said = DIALECTS.head(StatusCode::TOO_MANY_REQUESTS, &headers);
        let Outcome::Limited(hint) = said.report.outcome else { panic!("a 429 is a refusal") };
        // Either it says how long, or it is counted as what makes no sense.
        assert_ne!(hint.retry_after.is_some(), said.ignored.iter().any(|name| name == field), "{field}");
        assert!(hint.retry_after.is_none_or(|wait| wait <= Duration::from_hours(10 * 365 * 24)));
    }
});
