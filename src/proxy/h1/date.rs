//! The Date of answers that have none (RFC 9110 6.6.1), written out once a second.

use crate::gate::clock;
use http::HeaderValue;
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

/// A date, and until when it is the right one.
struct Date {
    text: HeaderValue,
    until: Option<Instant>,
}

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { text: HeaderValue::from_static(""), until: None }) };
}

/// Writes the field.
pub(super) fn write(out: &mut Vec<u8>) {
    with(|date| {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// The field's value.
pub(in crate::proxy) fn today() -> HeaderValue {
    with(HeaderValue::clone)
}

fn with<T>(read: impl FnOnce(&HeaderValue) -> T) -> T {
    let now = clock::now();
    DATE.with_borrow_mut(|date| {
        if date.until.is_none_or(|until| until <= now) {
            #[expect(clippy::disallowed_methods, reason = "a date that others read")]
            let today = SystemTime::now();
            if let Ok(text) = httpdate::fmt_http_date(today).try_into() {
                date.text = text;
            }
            date.until = Some(now + Duration::from_secs(1));
        }
        read(&date.text)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_a_date_of_now() {
        let mut out = Vec::new();
        super::write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let date = text.strip_prefix("date: ").unwrap().strip_suffix("\r\n").unwrap();
        assert!(httpdate::parse_http_date(date).is_ok(), "{text}");
    }
}
