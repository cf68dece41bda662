//! One dialect: fields that belong together, and the limit that they announce.

use super::fields::Fields;
use super::limits::{LIMITS_MAX, Limits, is_name};
use super::vendors::Row;
use super::wait::{self, bounded, number};
use super::{count, quantity, words};
use crate::config::{DialectSettings, ResetUnit};
use crate::control::{AnnouncedBy, Announcement, Level};
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// Fields that belong together; see [`Row`].
#[derive(Debug)]
pub(super) struct Dialect {
    name: Arc<str>,
    pub(super) limit: HeaderName,
    used: Option<HeaderName>,
    remaining: Option<HeaderName>,
    resets: Vec<HeaderName>,
    which: Vec<HeaderName>,
    pub(super) unit: ResetUnit,
    refills: bool,
    level: Level,
}

/// The numbers of one limit as they stand there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Numbers<'a> {
    /// `None`: the API does not say, or says that it does not know.
    limit: Option<u32>,
    used: Option<u32>,
    remaining: Option<u32>,
    reset: Option<Duration>,
    window: Option<Duration>,
    which: Option<&'a str>,
}

impl Dialect {
    /// # Panics
    /// When a name in the row is not one of a field, or not in small letters.
    pub(super) fn of(row: &Row) -> Self {
        let field = |name: &'static str| (!name.is_empty()).then(|| HeaderName::from_static(name));
        Self {
            name: row.name.into(),
            limit: HeaderName::from_static(row.limit),
            used: field(row.used),
            remaining: field(row.remaining),
            resets: row.resets.iter().copied().filter_map(field).collect(),
            which: row.which.iter().copied().filter_map(field).collect(),
            unit: row.unit,
            refills: row.refills,
            level: row.level,
        }
    }

    /// The operator's own.
    pub(super) fn own(settings: &DialectSettings) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            limit: settings.limit.clone(),
            used: settings.used.clone(),
            remaining: settings.remaining.clone(),
            resets: settings.reset.iter().cloned().collect(),
            which: Vec::new(),
            unit: settings.reset_in,
            refills: false,
            level: Level::default(),
        }
    }

    /// The fields that say something even when the others are not there.
    pub(super) fn signs(&self) -> impl Iterator<Item = &HeaderName> {
        self.resets.iter().chain([&self.limit])
    }

    /// Adds what the fields announce. Of a refusal, a reset counts that belongs to no known limit, too.
    pub(super) fn announced(&self, fields: &mut Fields<'_>, is_refusal: bool, limits: &mut Limits) {
        let is_there = fields.has(&self.limit);
        if !is_there && !is_refusal {
            return;
        }
        let now = if is_there { fields.now() } else { 0.0 };
        let mut told = fields.read(&self.limit, |text| numbers(text, self.unit, now)).unwrap_or_default();
        if let [] | [_] = &told[..] {
            told = vec![self.completed(told.first().copied().unwrap_or_default(), fields, is_refusal)];
        }
        for numbers in &told {
            match self.announcement(numbers) {
                Some(limit) if self.refills => limits.all.push(limit),
                Some(limit) => limits.add(limit),
                None if self.refills || numbers.remaining.is_some_and(|left| left > 0) => (),
                None => limits.waits(numbers.reset),
            }
        }
    }

    /// What the field of the limit leaves to others. A limit that the API does not know has no count either.
    fn completed<'a>(&self, told: Numbers<'a>, fields: &mut Fields<'a>, is_refusal: bool) -> Numbers<'a> {
        if told.limit.is_none() && !is_refusal {
            return told;
        }
        let read = |fields: &mut Fields<'a>, name: &Option<HeaderName>| fields.read(name.as_ref()?, count);
        let which = |fields: &mut Fields<'a>| {
            self.which.iter().find_map(|name| fields.read(name, |text| is_name(text).then_some(text)))
        };
        Numbers {
            used: told.used.or_else(|| read(fields, &self.used)),
            remaining: told.remaining.or_else(|| read(fields, &self.remaining)),
            reset: told.reset.or_else(|| self.reset(fields)),
            which: told.which.or_else(|| which(fields)),
            ..told
        }
    }

    fn reset(&self, fields: &mut Fields<'_>) -> Option<Duration> {
        self.resets.iter().find_map(|name| wait::reset(fields, name, self.unit))
    }

    fn announcement(&self, numbers: &Numbers<'_>) -> Option<Announcement> {
        let requests = numbers.limit?;
        let left = |remaining| requests.saturating_sub(remaining);
        let used = numbers.used.or_else(|| numbers.remaining.map(left));
        let (reset, window) = match (numbers.reset, used) {
            (reset, _) if !self.refills => (reset, numbers.window),
            (Some(reset), Some(used)) => {
                let window = refill(reset, used, requests);
                (Some(reset).filter(|_| window.is_some()), window)
            }
            _ => (None, None),
        };
        let name = match numbers.which {
            None => Arc::clone(&self.name),
            Some(which) => format!("{}:{which}", self.name).into(),
        };
        Some(Announcement {
            name,
            source: AnnouncedBy::Header,
            requests,
            used,
            reset,
            window,
            level: numbers.which.and_then(words::level_of).unwrap_or(self.level),
        })
    }
}

/// The limit of a field whose name begins with `prefix`: `total=100; remaining=99; resets=41`.
pub(super) fn of_prefix(fields: &mut Fields<'_>, name: &HeaderName, prefix: &str, limits: &mut Limits) {
    let Some(which) = name.as_str().strip_prefix(prefix).filter(|which| is_name(which)) else { return };
    let now = fields.now();
    let told = fields
        .read(name, |text| if text.contains('=') { pairs(text, ResetUnit::Seconds, now) } else { None });
    let dialect = prefix.trim_end_matches('-');
    for numbers in told.into_iter().flatten() {
        let Some(requests) = numbers.limit else { continue };
        limits.add(Announcement {
            name: format!("{dialect}:{which}").into(),
            source: AnnouncedBy::Header,
            requests,
            used: numbers.used.or_else(|| numbers.remaining.map(|left| requests.saturating_sub(left))),
            reset: numbers.reset,
            window: numbers.window,
            level: words::level_of(which).unwrap_or_default(),
        });
    }
}

/// What the field of a limit says: `100`, `32/40`, or pairs.
fn numbers(text: &str, unit: ResetUnit, now: f64) -> Option<Vec<Numbers<'_>>> {
    if text.contains('=') {
        return pairs(text, unit, now);
    }
    let one = match text.split_once('/') {
        Some((used, limit)) => {
            Numbers { used: Some(count(used.trim())?), limit: quantity(limit.trim())?, ..Numbers::default() }
        }
        None => Numbers { limit: quantity(text)?, ..Numbers::default() },
    };
    Some(vec![one])
}

/// `total=100; remaining=99; resets=41`; several are apart by commas.
fn pairs(text: &str, unit: ResetUnit, now: f64) -> Option<Vec<Numbers<'_>>> {
    text.split(',')
        .take(LIMITS_MAX)
        .map(|limit| limit.split(';').try_fold(Numbers::default(), |told, pair| told.with(pair, unit, now)))
        .collect()
}

impl<'a> Numbers<'a> {
    fn with(mut self, pair: &'a str, unit: ResetUnit, now: f64) -> Option<Self> {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim();
        match key.trim() {
            "total" | "limit" | "q" => self.limit = quantity(value)?,
            "remaining" | "r" => self.remaining = Some(count(value)?),
            "used" => self.used = Some(count(value)?),
            "reset" | "resets" | "t" => self.reset = Some(wait::until(value, unit, now)?),
            "w" => self.window = number(value).filter(|seconds| *seconds > 0.0).map(bounded),
            "b" if is_name(value) => {
                self.which = Some(value);
                self.window = PERIODS.iter().find(|(name, _)| *name == value).map(|(_, window)| *window);
            }
            // Others mean something to someone else.
            _ => (),
        }
        Some(self)
    }
}

/// The time in which a whole budget comes back, of a bucket that will be full again in `reset`; `None` when that is no
/// time that people choose.
fn refill(reset: Duration, used: u32, requests: u32) -> Option<Duration> {
    let seconds = reset.as_secs_f64() * f64::from(requests) / f64::from(used.max(1));
    let near = |length: &&Duration| (seconds / length.as_secs_f64() - 1.0).abs() <= REFILL_SLACK;
    REFILLS.iter().find(near).copied()
}

/// How Auth0 calls its windows.
const PERIODS: [(&str, Duration); 4] = [
    ("per_second", Duration::from_secs(1)),
    ("per_minute", Duration::from_mins(1)),
    ("per_hour", Duration::from_hours(1)),
    ("per_day", Duration::from_hours(24)),
];

/// In what times buckets are filled, and how far a reset may be rounded.
const REFILLS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_mins(1), Duration::from_hours(1), Duration::from_hours(24)];
const REFILL_SLACK: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, headers, ignored, told};

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
    fn what_makes_no_sense_is_ignored_by_name_and_an_unknown_limit_is_not() {
        for (fields, expected) in [
            (&[("x-ratelimit-limit", "40"), ("x-ratelimit-limit", "40")][..], &["x-ratelimit-limit"][..]),
            (&[("x-ratelimit-limit", "many")], &["x-ratelimit-limit"]),
            (&[("x-ratelimit-limit", "40"), ("x-ratelimit-remaining", "-3")], &["x-ratelimit-remaining"]),
            (&[("x-ratelimit-limit", "40"), ("x-ratelimit-reset", "NaN")], &["x-ratelimit-reset"]),
            (&[("x-ratelimit-limit", "40"), ("x-ratelimit-reset", "9999999")], &["x-ratelimit-reset"]),
            (&[("x-shopify-shop-api-call-limit", "32/x")], &["x-shopify-shop-api-call-limit"]),
            (&[("zendesk-ratelimit-tickets-index", "100")], &["zendesk-ratelimit-tickets-index"]),
            (
                &[("zendesk-ratelimit-tickets-index", "total=100; remaining")],
                &["zendesk-ratelimit-tickets-index"],
            ),
            (&[("x-ratelimit-limit", "-1"), ("x-ratelimit-remaining", "-1")], &[]),
            (&[("x-ratelimit-limit-requests", "0")], &[]),
            (&[("x-ratelimit-limit", "40"), ("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "1")], &[]),
        ] {
            assert_eq!(ignored(&headers(fields)), expected, "{fields:?}");
        }
        assert_eq!(told(&headers(&[("x-ratelimit-limit", "40"), ("x-ratelimit-limit", "40")])), []);
    }

    #[test]
    fn a_bucket_tells_how_long_a_whole_budget_takes() {
        let requests = |limit, remaining, reset| {
            let told = told(&headers(&[
                ("x-ratelimit-limit-requests", limit),
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", reset),
            ]));
            (told[0].used, told[0].reset, told[0].window)
        };
        assert_eq!(requests("60", "59", "1s"), (Some(1), Some(1.0), Some(60.0)));
        assert_eq!(requests("5000", "4999", "12ms"), (Some(1), Some(0.012), Some(60.0)));
        assert_eq!(requests("10000", "9999", "8.64s"), (Some(1), Some(8.64), Some(86_400.0)));
        assert_eq!(requests("60", "0", "59.9s"), (Some(60), Some(59.9), Some(60.0)));
        assert_eq!(requests("60", "59", "41s"), (Some(1), None, None), "nobody fills a bucket in 41 minutes");
        assert_eq!(requests("60", "60", "0s"), (Some(0), None, None));
    }
}
