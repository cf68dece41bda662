//! The modelled API as its answers show it, and the way to it and back.

use std::time::Duration;
use tidegate::control::{AnnouncedBy, Announcement, Hint, Level, Outcome};
use tidegate::sim::limits::{Announced, Limits, Refused};

/// What the API says beside a 429.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RetryAfter {
    Seconds(f64),
    /// The seconds until reset, rounded up.
    Reset,
    /// The same as a date: two clocks' whole seconds lie between, so it may be a second early.
    Date,
    Nothing,
}

/// What the API says of its limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Headers {
    /// How the seconds until reset become whole.
    pub(crate) whole: Whole,
    /// The window's length is told too.
    pub(crate) window: bool,
    /// Of this limit alone, by its place; else of all.
    pub(crate) of: Option<usize>,
    pub(crate) on: On,
    /// It tells this share of what is allowed, as if it were all.
    pub(crate) share: f64,
}

/// How seconds become whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Whole {
    Up,
    Down,
    Nearest,
    /// Not at all.
    Exact,
    /// Always 0: a header that says nothing.
    Zero,
    /// A lie: nothing is left, and that for days.
    Spent,
}

/// Which answers have the headers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum On {
    All,
    Accepted,
    Refused,
}

/// The way to the API and back, and the API's own time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) rtt_seconds: f64,
    /// Mean of the exponential jitter, each way.
    pub(crate) jitter_seconds: f64,
    pub(crate) service_seconds: f64,
    pub(crate) service_jitter_seconds: f64,
    /// Mean lateness of the timer that releases.
    pub(crate) timer_seconds: f64,
    /// The way stands still so often and so long: what arrives then, either side, is looked at afterwards.
    pub(crate) stall: Option<(f64, f64)>,
    /// Such a share of what is let in takes so many seconds longer.
    pub(crate) straggle: Option<(f64, f64)>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            rtt_seconds: 0.05,
            jitter_seconds: 0.01,
            service_seconds: 0.02,
            service_jitter_seconds: 0.01,
            timer_seconds: 0.0002,
            stall: None,
            straggle: None,
        }
    }
}

impl Network {
    /// `at`, or the end of the stall that it falls into.
    pub(crate) fn after_stall(&self, at: f64) -> f64 {
        match self.stall {
            Some((every, seconds)) if at.rem_euclid(every) < seconds => at - at.rem_euclid(every) + seconds,
            _ => at,
        }
    }

    /// The mean time of a request that nothing holds back.
    pub(crate) fn usual_seconds(&self) -> f64 {
        self.rtt_seconds + 2.0 * self.jitter_seconds + self.service_seconds + self.service_jitter_seconds
    }
}

/// What the API makes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    LetIn,
    /// With the wait that it asks for, in seconds.
    Refused(Option<f64>),
    /// An error of its own, before anything was counted.
    Broken,
}

impl Verdict {
    /// As the proxy reads it: of errors of the API's own, it knows that they were no refusals.
    pub(crate) fn outcome(self, level: Option<Level>) -> Outcome {
        match self {
            Self::LetIn | Self::Broken => Outcome::Accepted,
            Self::Refused(told) => {
                Outcome::Limited(Hint { retry_after: told.map(Duration::from_secs_f64), level })
            }
        }
    }
}

/// The API.
pub(crate) struct Api {
    pub(crate) network: Network,
    pub(crate) retry_after: RetryAfter,
    pub(crate) headers: Option<Headers>,
    /// Refused requests are counted like the others.
    pub(crate) counts_refused: bool,
    /// At the end of so many seconds, it answers for so many with errors of its own.
    pub(crate) breaks: Option<(f64, f64)>,
    /// Whom its refusals say that the limit is on.
    pub(crate) says_level: Option<Level>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            network: Network::default(),
            retry_after: RetryAfter::Seconds(1.0),
            headers: None,
            counts_refused: false,
            breaks: None,
            says_level: None,
        }
    }
}

impl Api {
    /// Asks `limits` at `now`.
    pub(crate) fn asked(&self, limits: &mut Limits, now: f64) -> Verdict {
        if self.breaks.is_some_and(|(every, seconds)| now.rem_euclid(every) >= every - seconds) {
            return Verdict::Broken;
        }
        match limits.admit(now) {
            Ok(()) => Verdict::LetIn,
            Err(refused) => {
                if self.counts_refused {
                    (0..)
                        .map_while(|place| limits.get_mut(place).map(|limit| limit.take(now)))
                        .for_each(drop);
                }
                Verdict::Refused(self.wait(refused, now))
            }
        }
    }

    fn wait(&self, refused: Refused, now: f64) -> Option<f64> {
        match self.retry_after {
            RetryAfter::Seconds(seconds) => Some(seconds),
            RetryAfter::Reset => Some(refused.reset_seconds.ceil().max(1.0)),
            RetryAfter::Date => Some((now + refused.reset_seconds).floor() - now.floor()),
            RetryAfter::Nothing => None,
        }
    }

    /// What an answer at `now` announces.
    pub(crate) fn announces(&self, limits: &mut Limits, now: f64, verdict: Verdict) -> Vec<Announcement> {
        let Some(headers) = self.headers else { return Vec::new() };
        let shown = match headers.on {
            On::All => verdict != Verdict::Broken,
            On::Accepted => verdict == Verdict::LetIn,
            On::Refused => matches!(verdict, Verdict::Refused(_)),
        };
        let told = if shown { limits.announced(now) } else { Vec::new() };
        let told = match headers.of {
            Some(place) => told.get(place..=place).unwrap_or_default(),
            None => told.as_slice(),
        };
        told.iter().filter_map(|told| headers.say(told)).collect()
    }
}

impl Headers {
    fn say(self, told: &Announced) -> Option<Announcement> {
        let reset = match self.whole {
            Whole::Up => told.reset_seconds?.ceil(),
            Whole::Down => told.reset_seconds?.floor(),
            Whole::Nearest => told.reset_seconds?.round(),
            Whole::Exact => told.reset_seconds?,
            Whole::Zero => 0.0,
            Whole::Spent => 500_000.0,
        };
        let allowed = (f64::from(told.allowed) * self.share).round() as u32;
        let used = if self.share < 1.0 { told.used.min(allowed) } else { told.used };
        Some(Announcement {
            name: "told".into(),
            source: AnnouncedBy::Header,
            requests: allowed,
            used: Some(if self.whole == Whole::Spent { allowed } else { used }),
            reset: Some(Duration::from_secs_f64(reset)),
            window: told.window_seconds.filter(|_| self.window).map(Duration::from_secs_f64),
            level: Level::Route,
        })
    }
}
