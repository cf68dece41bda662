//! Dialects with one number a field: Genesys Cloud's `inin-ratelimit-*`, and the `X-RateLimit-*` of many.

use super::{count, limit, single, wait};
use crate::control::{AnnouncedBy, Announcement, Level};
use http::{HeaderMap, HeaderName};
use std::sync::{Arc, LazyLock};

/// Three fields that belong together.
struct Dialect {
    name: Arc<str>,
    limit: HeaderName,
    count: Count,
    /// Until the window ends, from now or since 1970.
    reset: HeaderName,
}

/// The field that counts, and which way.
enum Count {
    Used(HeaderName),
    Remaining(HeaderName),
}

static DIALECTS: LazyLock<[Dialect; 3]> = LazyLock::new(|| {
    let field = HeaderName::from_static;
    [
        Dialect {
            name: "inin".into(),
            limit: field("inin-ratelimit-allowed"),
            count: Count::Used(field("inin-ratelimit-count")),
            reset: field("inin-ratelimit-reset"),
        },
        Dialect {
            name: "x-ratelimit".into(),
            limit: field("x-ratelimit-limit"),
            count: Count::Remaining(field("x-ratelimit-remaining")),
            reset: field("x-ratelimit-reset"),
        },
        Dialect {
            name: "x-rate-limit".into(),
            limit: field("x-rate-limit-limit"),
            count: Count::Remaining(field("x-rate-limit-remaining")),
            reset: field("x-rate-limit-reset"),
        },
    ]
});

/// Adds what these dialects announce.
pub(super) fn announced(headers: &HeaderMap, all: &mut Vec<Announcement>) {
    all.extend(DIALECTS.iter().filter_map(|dialect| dialect.read(headers)));
}

impl Dialect {
    fn read(&self, headers: &HeaderMap) -> Option<Announcement> {
        let requests = limit(single(headers, &self.limit)?)?;
        let number = |name| single(headers, name).and_then(count);
        let used = match &self.count {
            Count::Used(name) => number(name),
            Count::Remaining(name) => number(name).map(|remaining| requests.saturating_sub(remaining)),
        };
        Some(Announcement {
            name: Arc::clone(&self.name),
            source: AnnouncedBy::Header,
            requests,
            used,
            reset: single(headers, &self.reset).and_then(|text| wait::reset(text, headers)),
            window: None,
            level: Level::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, headers, told};

    fn inin(fields: [&str; 3]) -> Vec<Told> {
        let [allowed, count, reset] = fields;
        told(&headers(&[
            ("inin-ratelimit-allowed", allowed),
            ("inin-ratelimit-count", count),
            ("inin-ratelimit-reset", reset),
        ]))
    }

    #[test]
    fn genesys_counts_up() {
        let expected =
            Told { name: "inin".into(), requests: 300, used: Some(61), reset: Some(38.0), window: None };
        assert_eq!(inin(["300", "61", "38"]), [expected]);
        assert_eq!(inin(["300", "301", "38"])[0].used, Some(301), "refused ones may be counted too");
        assert_eq!(
            inin(["300", "x", "-1"])[0],
            Told { name: "inin".into(), requests: 300, used: None, reset: None, window: None }
        );
        for allowed in ["", "0", "-1", "+5", "1.5", "300 ", "99999999999", "x", "300, 300"] {
            let count = usize::from(allowed.trim() == "300");
            assert_eq!(inin([allowed, "1", "1"]).len(), count, "{allowed}");
        }
    }

    #[test]
    fn others_count_down_to_a_wait_or_a_moment() {
        let date = ("date", "Tue, 24 Nov 2026 07:30:00 GMT");
        for (reset, seconds) in [("30", 30.0), ("1795505430", 30.0), ("1795505430000", 30.0)] {
            for [limit, remaining, name_of_reset, name] in [
                ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit"],
                ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset", "x-rate-limit"],
            ] {
                let fields = headers(&[date, (limit, "40"), (remaining, "32"), (name_of_reset, reset)]);
                let expected = Told {
                    name: name.into(),
                    requests: 40,
                    used: Some(8),
                    reset: Some(seconds),
                    window: None,
                };
                assert_eq!(told(&fields), [expected]);
            }
        }
        let more = headers(&[("x-ratelimit-limit", "40"), ("x-ratelimit-remaining", "41")]);
        assert_eq!(told(&more)[0].used, Some(0));
    }

    #[test]
    fn a_field_that_stands_there_twice_says_nothing() {
        assert_eq!(told(&headers(&[("x-ratelimit-limit", "40"), ("x-ratelimit-limit", "40")])), []);
    }
}
