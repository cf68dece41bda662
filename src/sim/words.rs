//! The words that settings are written in, read and shown alike.

use crate::control::{Quota, Rate};
use std::fmt;
use std::str::FromStr;

/// How a limit counts, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelName {
    /// Windows on a grid in time.
    #[default]
    Fixed,
    /// Windows that open with the first request.
    Anchored,
    /// A log of the last window's requests.
    Sliding,
    /// A bucket of tokens that refills evenly.
    Bucket,
    /// Requests under way.
    Concurrency,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Anchored => "anchored",
            Self::Sliding => "sliding",
            Self::Bucket => "bucket",
            Self::Concurrency => "concurrency",
        })
    }
}

impl FromStr for ModelName {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "fixed" => Ok(Self::Fixed),
            "anchored" => Ok(Self::Anchored),
            "sliding" => Ok(Self::Sliding),
            "bucket" => Ok(Self::Bucket),
            "concurrency" => Ok(Self::Concurrency),
            _ => Err(SettingError::new(
                text,
                "a model",
                "\"fixed\" (windows on a grid in time), \"anchored\" (a window opens with its first request), \
                 \"sliding\" (the last window, wherever it starts), \"bucket\" (tokens that refill evenly) or \
                 \"concurrency\" (requests under way)",
            )),
        }
    }
}

/// Who shares a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyBy {
    /// Every value of the Authorization header has limits of its own; requests without one share theirs.
    #[default]
    Token,
    /// All share the same limits.
    None,
}

impl fmt::Display for KeyBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::None => "none",
        })
    }
}

impl FromStr for KeyBy {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "token" => Ok(Self::Token),
            "none" => Ok(Self::None),
            _ => Err(SettingError::new(
                text,
                "a key",
                "\"token\" (limits for each Authorization header) or \"none\" (the same limits for all)",
            )),
        }
    }
}

/// What a 429 says of the time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Always so many seconds, true or not.
    Seconds(u32),
    /// Whole seconds until the refusing limit resets, at least 1.
    Reset,
    /// The same moment as an HTTP-date.
    Date,
    /// No such header.
    None,
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self::Seconds(1)
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Reset => f.write_str("reset"),
            Self::Date => f.write_str("date"),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for RetryAfter {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "reset" => Ok(Self::Reset),
            "date" => Ok(Self::Date),
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Seconds).map_err(|_| {
                SettingError::new(
                    text,
                    "a Retry-After",
                    "whole seconds such as \"1\", \"reset\" (until the window ends), \"date\" (the same as an HTTP-date) \
                     or \"none\" (no such header)",
                )
            }),
        }
    }
}

/// How limited answers announce the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderForm {
    /// `inin-ratelimit-count`, `-allowed` and `-reset` of the tightest limit.
    Genesys,
    /// `RateLimit-Policy` and `RateLimit` of all limits (draft-ietf-httpapi-ratelimit-headers, 10th).
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds) of the tightest limit.
    XRateLimit,
    /// Not at all.
    #[default]
    None,
}

impl fmt::Display for HeaderForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Genesys => "genesys",
            Self::Ietf => "ietf",
            Self::XRateLimit => "x-ratelimit",
            Self::None => "none",
        })
    }
}

impl FromStr for HeaderForm {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "genesys" => Ok(Self::Genesys),
            "ietf" => Ok(Self::Ietf),
            "x-ratelimit" => Ok(Self::XRateLimit),
            "none" => Ok(Self::None),
            _ => Err(SettingError::new(
                text,
                "a form of headers",
                "\"genesys\" (inin-ratelimit-count, -allowed, -reset), \"ietf\" (RateLimit-Policy, RateLimit), \
                 \"x-ratelimit\" (X-RateLimit-Limit, -Remaining, -Reset) or \"none\"",
            )),
        }
    }
}

/// How often an unseen tenant asks: `1.5/s`, `90/min`. Fractions are fine; at most 1000 a second.
///
/// # Errors
/// A [`SettingError`] that says what to write.
pub fn others_rate(text: &str) -> Result<Rate, SettingError> {
    let rate = || {
        let (requests, window) = text.split_once('/')?;
        let requests: f64 = requests.trim().parse().ok()?;
        // A quota's windows, so that both are written alike.
        let one: Quota = format!("1/{window}").parse().ok()?;
        let per_second = requests * one.rate().get();
        let range = Rate::SLOWEST.get()..=OTHERS_MAX_PER_SECOND;
        range.contains(&per_second).then(|| Rate::new(per_second))
    };
    rate().ok_or_else(|| {
        SettingError::new(
            text,
            "a rate of others",
            "requests/window such as \"1.5/s\" or \"90/min\" (from 1/h to 1000/s)",
        )
    })
}

/// More would make the simulated API slow: each of these requests is counted one by one, for every key.
const OTHERS_MAX_PER_SECOND: f64 = 1_000.0;

/// Why a word could not be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    text: String,
    wanted: &'static str,
    instead: &'static str,
}

impl SettingError {
    fn new(text: &str, wanted: &'static str, instead: &'static str) -> Self {
        Self { text: text.to_owned(), wanted, instead }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}: write {}", self.text, self.wanted, self.instead)
    }
}

impl std::error::Error for SettingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for text in ["fixed", "anchored", "sliding", "bucket", "concurrency"] {
            assert_eq!(text.parse::<ModelName>().unwrap().to_string(), text);
        }
        for text in ["token", "none"] {
            assert_eq!(text.parse::<KeyBy>().unwrap().to_string(), text);
        }
        for text in ["genesys", "ietf", "x-ratelimit", "none"] {
            assert_eq!(text.parse::<HeaderForm>().unwrap().to_string(), text);
        }
        for text in ["0", "1", "3600", "reset", "date", "none"] {
            assert_eq!(text.parse::<RetryAfter>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_words_are_refused_with_the_words_that_would_do() {
        let error = "Sliding".parse::<ModelName>().unwrap_err().to_string();
        assert!(error.contains("\"Sliding\"") && error.contains("anchored"), "{error}");
        let error = "".parse::<KeyBy>().unwrap_err().to_string();
        assert!(error.contains("token") && error.contains("none"), "{error}");
        let error = "github".parse::<HeaderForm>().unwrap_err().to_string();
        assert!(error.contains("genesys") && error.contains("x-ratelimit"), "{error}");
        for text in ["", "-1", "1.5", "1s", "99999999999", "never"] {
            let error = text.parse::<RetryAfter>().unwrap_err().to_string();
            assert!(error.contains("reset"), "{text}: {error}");
        }
    }

    #[test]
    fn others_ask_in_fractions_too() {
        for (text, per_second) in [("1.5/s", 1.5), ("90/min", 1.5), ("1/h", 1.0 / 3_600.0), ("7/2s", 3.5)] {
            assert!((others_rate(text).unwrap().get() - per_second).abs() < 1e-12, "{text}");
        }
        for text in ["", "1.5", "0/s", "-1/s", "nan/s", "inf/s", "1001/s", "1/2d", "1/fortnight"] {
            let error = others_rate(text).unwrap_err().to_string();
            assert!(error.contains("90/min"), "{text}: {error}");
        }
    }
}
