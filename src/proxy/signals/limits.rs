//! What the fields of one answer announce, gathered: the limits, and how long a request waits that they refuse.

use super::words;
use crate::control::{Announcement, Level};
use std::time::Duration;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) all: Vec<Announcement>,
    /// Until there is room again, as far as the limits say: the longest that one of them takes.
    pub(super) wait: Option<Duration>,
    /// Whom a limit is on whose budget is gone, if its name says; of several the narrowest.
    pub(super) spent_level: Option<Level>,
}

impl Limits {
    /// Takes a limit. One whose budget is gone, or may be, makes a refused request wait for its end.
    pub(super) fn add(&mut self, limit: Announcement) {
        if limit.used.is_none_or(|used| used >= limit.requests) {
            self.waits(limit.reset);
        }
        if limit.used.is_some_and(|used| used >= limit.requests) {
            self.spent(&limit.name);
        }
        self.all.push(limit);
    }

    /// There is no room before that.
    pub(super) fn waits(&mut self, until: Option<Duration>) {
        self.wait = self.wait.max(until);
    }

    /// The budget of the limit of this name is gone.
    pub(super) fn spent(&mut self, name: &str) {
        self.spent_level = words::level_of(name).into_iter().chain(self.spent_level).min();
    }

    /// The limits, without those that another says as well: some send one limit in two spellings.
    pub(super) fn into_all(mut self) -> Vec<Announcement> {
        let mut at = 0;
        while let Some(one) = self.all.get(at) {
            let is_said = self.all.iter().enumerate().any(|(place, other)| place != at && says(other, one));
            if is_said {
                self.all.remove(at);
            } else {
                at += 1;
            }
        }
        self.all
    }
}

/// Does `one` say all that `other` says?
fn says(one: &Announcement, other: &Announcement) -> bool {
    let same_count = other.used.is_some() && (one.requests, one.used) == (other.requests, other.used);
    let same_end = other.reset.is_none() || one.reset == other.reset;
    same_count && same_end && (other.window.is_none() || one.window == other.window)
}

/// May this be a part of a limit's name?
pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// An answer, or a field, that tells of more limits than this is not believed beyond them.
pub(super) const LIMITS_MAX: usize = 8;

/// A longer name is none that a person gave.
pub(super) const NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::tests::{headers, told};

    #[test]
    fn two_spellings_are_one_limit_and_two_windows_are_two() {
        let names = |fields: &[(&'static str, &str)]| -> Vec<String> {
            told(&headers(fields)).into_iter().map(|limit| limit.name).collect()
        };
        let old = [("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "7")];
        let new = [("ratelimit-limit", "10"), ("ratelimit-remaining", "1"), ("ratelimit-reset", "7")];
        assert_eq!(names(&[old, new].concat()), ["ratelimit"]);
        assert_eq!(names(&[&old[..2], &new[..]].concat()), ["ratelimit"]);
        assert_eq!(names(&[&old[..], &new[..2]].concat()), ["x-ratelimit"]);
        let later = ("ratelimit-reset", "3600");
        assert_eq!(names(&[old, [new[0], new[1], later]].concat()), ["x-ratelimit", "ratelimit"]);
        assert_eq!(names(&[old[0], new[0]]), ["x-ratelimit", "ratelimit"], "nothing is known of either");
    }
}
