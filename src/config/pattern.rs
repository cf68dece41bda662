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
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        fits(&self.segments, &parts)
    }
}

/// Linear but for the number of `**`, which a pattern has at most [`MANY_MAX`] of.
fn fits(segments: &[Segment], parts: &[&str]) -> bool {
    match (segments.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((Segment::Many, rest)), _) => {
            (0..=parts.len()).any(|skipped| parts.get(skipped..).is_some_and(|parts| fits(rest, parts)))
        }
        (Some((Segment::One, rest)), Some((_, parts))) => fits(rest, parts),
        (Some((Segment::Literal(literal), rest)), Some((part, parts))) => {
            literal == part && fits(rest, parts)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
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
        ] {
            assert_eq!(pattern.parse::<PathPattern>().unwrap().matches(path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_advice() {
        for text in ["", "api", "/a*b", "/a?x=1", "/a#b", "/**/a/**/b/**"] {
            let error = text.parse::<PathPattern>().unwrap_err().to_string();
            assert!(error.contains("/api/v2/users/*"), "{text}: {error}");
        }
    }
}
