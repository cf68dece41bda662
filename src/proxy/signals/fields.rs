//! The fields of one answer: what is there is read, and what cannot be read is remembered, so that it is counted.

use crate::proxy::fields::{self, text};
use http::HeaderName;
use http::header::DATE;
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// The fields of one answer.
pub(super) struct Fields<'a> {
    all: &'a fields::Fields,
    ignored: Vec<Cow<'static, str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(all: &'a fields::Fields) -> Self {
        Self { all, ignored: Vec::new() }
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.all.has(name)
    }

    /// The names that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.all.iter().map(|(name, _)| name)
    }

    /// The text of the first line of a field.
    pub(super) fn first(&self, name: &HeaderName) -> Option<&'a str> {
        text(self.all.first(name)?).map(str::trim)
    }

    /// What `read` makes of a field that stands there once; `None` when it is not there, or makes no sense.
    pub(super) fn read<T>(
        &mut self,
        name: &HeaderName,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let mut lines = self.all.all(name);
        let (first, second) = (lines.next()?, lines.next());
        let text = if second.is_none() { text(first).map(str::trim) } else { None };
        let taken = text.and_then(read);
        if taken.is_none() {
            self.ignore(name);
        }
        taken
    }

    /// All lines of a field, as one.
    pub(super) fn joined(&self, name: &HeaderName) -> Option<Vec<u8>> {
        let lines: Vec<&[u8]> = self.all.all(name).collect();
        (!lines.is_empty()).then(|| lines.join(&b", "[..]))
    }

    /// Remembers that a field made no sense.
    pub(super) fn ignore(&mut self, name: &HeaderName) {
        if !self.ignored.iter().any(|known| *known == name.as_str()) {
            self.ignored.push(Cow::Owned(name.as_str().to_owned()));
        }
    }

    /// Those that made no sense, by name.
    pub(super) fn into_ignored(self) -> Vec<Cow<'static, str>> {
        self.ignored
    }

    /// What the origin took for the time when it answered, in seconds since 1970: its own Date, so that its clock may be
    /// wrong.
    #[expect(
        clippy::disallowed_methods,
        reason = "a moment without a Date beside it has only the wall clock"
    )]
    pub(super) fn now(&self) -> f64 {
        let date = self.all.first(&DATE).and_then(|date| httpdate::parse_http_date(text(date)?).ok());
        since_1970(date.unwrap_or_else(SystemTime::now)).as_secs_f64()
    }
}

/// From 1970 to `moment`; nothing before that.
pub(super) fn since_1970(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
