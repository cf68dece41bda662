//! A whole head, as it stands in a file: a status line, then fields. What stands behind it is left out.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tidegate::control::{Hint, Outcome};
use tidegate::proxy::signals::Dialects;

static DIALECTS: LazyLock<Dialects> = LazyLock::new(|| Dialects::new("api.prisjakt.nu", []));

fuzz_target!(|head: &[u8]| {
    let mut lines = head.split(|b| *b == b'\n').take_while(|line| !line.is_empty());
    let status = lines.next().and_then(|line| StatusCode::from_bytes(line.get(9..12)?).ok());
    let headers: HeaderMap = lines.take(64).filter_map(field).collect();
    let said = DIALECTS.head(status.unwrap_or(StatusCode::TOO_MANY_REQUESTS), &headers);
    assert!(said.ignored.len() <= headers.keys_len());
    assert!(said.report.announced.len() <= 256);
    for limit in &said.report.announced {
        assert!(limit.requests > 0 && limit.name.len() <= 256);
        assert!(limit.window.is_none_or(|window| !window.is_zero()));
        assert!(limit.reset.is_none_or(|reset| reset <= Duration::from_hours(32 * 24)));
    }
    if let Outcome::Limited(Hint { retry_after: Some(wait), .. }) = said.report.outcome {
        assert!(wait <= Duration::from_hours(10 * 365 * 24));
    }
});

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
    let value = HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?;
    Some((name, value))
}
