//! Path patterns: `/api/v2/users/*`, `/api/v2/conversations/messages/**`.

use std::fmt;
use std::str::FromStr;

/// A pattern of path segments. `*` stands for any one segment, `**` for any number of them, none included; anything
/// else for itself. Empty segments (a slash too many, one at the end) do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    Many,
}

/// Why a pattern was not taken. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is not a path pattern: {problem}; write for example \"/api/v2/users/*\" or \
     \"/api/v2/conversations/messages/**\""
)]
pub struct PatternError {
    pattern: String,
    problem: &'static str,
}

impl PathPattern {
    /// Does `path` (without its query) fit?
    pub fn matches(&self, path: &str) -> bool {
        let (mut segments, mut left) = (self.segments.as_slice(), path);
        // What follows the last ** that was met, and where that stands now. Earlier ones need no second look: what they
        // could give up, the last one can take. So a path costs no more than its segments times the pattern's.
        let mut last_many = None;
        loop {
            match (segments.split_first(), first_part(left)) {
                (None, None) => return true,
                (Some((Segment::Many, after)), _) => {
                    (segments, last_many) = (after, Some((after, left)));
                    continue;
                }
                (Some((segment, after)), Some((part, rest))) if segment.fits(part) => {
                    (segments, left) = (after, rest);
                    continue;
                }
                _ => (),
            }
            let Some((after, from)) = last_many else { return false };
            let Some((_, rest)) = first_part(from) else { return false };
            (segments, left, last_many) = (after, rest, Some((after, rest)));
        }
    }
}

impl Segment {
    fn fits(&self, part: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == part,
            Self::One | Self::Many => true,
        }
    }
}

/// The first segment that is not empty, and what comes after it.
fn first_part(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_start_matches('/');
    (!path.is_empty()).then(|| path.split_once('/').unwrap_or((path, "")))
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |problem| PatternError { pattern: text.to_owned(), problem };
        if !text.starts_with('/') {
            return Err(refuse("it starts with a slash"));
        }
        if text.contains(['?', '#']) {
            return Err(refuse("it is a path alone, without query or fragment"));
        }
        let segments: Vec<Segment> = text
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| match part {
                "*" => Ok(Segment::One),
                "**" => Ok(Segment::Many),
                part if part.contains('*') => Err(refuse("a * or ** stands for whole segments")),
                part => Ok(Segment::Literal(part.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        if segments.iter().filter(|segment| **segment == Segment::Many).count() > MANY_MAX {
            return Err(refuse("it has more than two **"));
        }
        Ok(Self { segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::One => f.write_str("/*"),
            Segment::Many => f.write_str("/**"),
        })
    }
}

const MANY_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_segments() {
        for (pattern, path, fits) in [
            ("/api/v2/messages", "/api/v2/messages", true),
            ("/api/v2/messages", "/api/v2/messages/", true),
            ("/api/v2/messages", "/api/v2/messages/1", false),
            ("/api/v2/messages/*", "/api/v2/messages/1", true),
            ("/api/v2/messages/*", "/api/v2/messages", false),
            ("/api/v2/messages/*", "/api/v2/messages/1/2", false),
            ("/api/v2/messages/**", "/api/v2/messages", true),
            ("/api/v2/messages/**", "/api/v2/messages/1/2", true),
            ("/api/v2/messages/**", "/api/v2/messagesx", false),
            ("/**/jobs", "/api/v2/analytics/jobs", true),
            ("/**/jobs/**", "/api/jobs/1/results", true),
            ("/**/jobs", "/api/v2/analytics/jobs/1", false),
            ("/**", "/", true),
            ("/", "/", true),
            ("/", "/x", false),
            ("/**/a/b/**/c", "/a/a/b/b/c", true),
            ("/**/a/b/**/c", "/a/b/x/a/c/d", false),
            ("/**/a/*/**", "/x/a", false),
            ("/**/a/*/**", "//x//a///b/", true),
        ] {
            assert_eq!(pattern.parse::<PathPattern>().unwrap().matches(path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_made_to_be_slow_is_not() {
        let pattern: PathPattern = "/**/jobs/**/x".parse().unwrap();
        // Every pair of its 100 000 segments would take minutes.
        assert!(!pattern.matches(&"/jobs".repeat(100_000)));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_advice() {
        for text in ["", "api", "/a*b", "/a?x=1", "/a#b", "/**/a/**/b/**"] {
            let error = text.parse::<PathPattern>().unwrap_err().to_string();
            assert!(error.contains("/api/v2/users/*"), "{text}: {error}");
        }
    }
}
