//! What a simulated API is told: its limits, whom they count, and how it answers.

use crate::control::Quota;
use crate::sim::limits::Model;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Everything about one simulated API. The default is the API of the founding problem: 10 a second, `Retry-After: 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct SimSettings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its limits; all must admit. None: nothing is refused.
    pub limits: Vec<Quota>,
    /// How the limits count.
    pub model: ModelName,
    /// With [`ModelName::Fixed`]: by how much the windows are shifted against the start of the simulation.
    pub phase: Duration,
    /// Who shares a limit.
    pub key: KeyBy,
    /// Paths that start with this are limited; all others are free.
    pub path: String,
    /// What a 429 says of the time to wait.
    pub retry_after: RetryAfter,
    /// From a request's arrival to its answer; half of it passes before the limit is asked, half after. A 429
    /// does without the second half. At most an hour.
    pub latency: Duration,
    /// Mean of what is added to `latency` at random (exponential, half of it on either side, cut at ten times
    /// the mean). At most an hour.
    pub jitter: Duration,
    /// Seeds the jitter, the ids and the tokens.
    pub seed: u64,
}

impl Default for SimSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            limits: vec![Quota { requests: 10, window: Duration::from_secs(1) }],
            model: ModelName::default(),
            phase: Duration::ZERO,
            key: KeyBy::default(),
            path: "/".to_owned(),
            retry_after: RetryAfter::default(),
            latency: Duration::from_millis(40),
            jitter: Duration::from_millis(8),
            seed: 1,
        }
    }
}

impl SimSettings {
    /// The pure model that the limits follow.
    pub fn limits_model(&self) -> Model {
        match self.model {
            ModelName::Fixed => Model::Fixed { phase_seconds: self.phase.as_secs_f64() },
            ModelName::Anchored => Model::Anchored,
        }
    }
}

/// How a limit counts, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelName {
    /// Windows on a grid in time.
    #[default]
    Fixed,
    /// Windows that open with the first request.
    Anchored,
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed",
            Self::Anchored => "anchored",
        })
    }
}

impl FromStr for ModelName {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "fixed" => Ok(Self::Fixed),
            "anchored" => Ok(Self::Anchored),
            _ => Err(SettingError::new(
                text,
                "a model",
                "\"fixed\" (windows on a grid in time) or \"anchored\" (a window opens with its first request)",
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
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for RetryAfter {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "reset" => Ok(Self::Reset),
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Seconds).map_err(|_| {
                SettingError::new(
                    text,
                    "a Retry-After",
                    "whole seconds such as \"1\", \"reset\" (until the window ends) or \"none\" (no such header)",
                )
            }),
        }
    }
}

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
        for text in ["fixed", "anchored"] {
            assert_eq!(text.parse::<ModelName>().unwrap().to_string(), text);
        }
        for text in ["token", "none"] {
            assert_eq!(text.parse::<KeyBy>().unwrap().to_string(), text);
        }
        for text in ["0", "1", "3600", "reset", "none"] {
            assert_eq!(text.parse::<RetryAfter>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_words_are_refused_with_the_words_that_would_do() {
        let error = "Sliding".parse::<ModelName>().unwrap_err().to_string();
        assert!(error.contains("\"Sliding\"") && error.contains("anchored"), "{error}");
        let error = "".parse::<KeyBy>().unwrap_err().to_string();
        assert!(error.contains("token") && error.contains("none"), "{error}");
        for text in ["", "-1", "1.5", "1s", "99999999999", "never"] {
            let error = text.parse::<RetryAfter>().unwrap_err().to_string();
            assert!(error.contains("reset"), "{text}: {error}");
        }
    }

    #[test]
    fn the_phase_belongs_to_the_fixed_model() {
        let mut settings = SimSettings { phase: Duration::from_millis(250), ..SimSettings::default() };
        assert_eq!(settings.limits_model(), Model::Fixed { phase_seconds: 0.25 });
        settings.model = ModelName::Anchored;
        assert_eq!(settings.limits_model(), Model::Anchored);
    }
}
