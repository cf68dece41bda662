//! Once more, or answer? What a refusal's hint means for the refused request itself.
//!
//! Absorbing a 429 is bounded by deadline and pace alone: every try pays for its own slot, so a number of attempts would
//! only turn patience into errors. Anything else is bounded by attempts too.

use super::event::RetryReason;
use super::outcome::Hint;
use super::rate::doubled;
use super::settings::RetrySettings;

/// A Retry-After from here on says that the budget is gone, and until when: the whole lane pauses, whatever its law.
pub(super) const PAUSING_SECONDS: f64 = 2.0;
/// The first wait of a refused request that was not told how long; doubles each time, up to the longest.
const BACKOFF_SECONDS: f64 = 0.5;
const BACKOFF_SECONDS_MAX: f64 = 30.0;

/// How long the request rests before its next turn; `None`: answer with what came. `returns`: how often it came back
/// already; `seconds_left`: until its deadline.
pub(super) fn rest(
    settings: &RetrySettings,
    reason: RetryReason,
    hint: Hint,
    returns: u32,
    seconds_left: f64,
) -> Rest {
    if reason != RetryReason::Throttled && returns + 1 >= settings.attempts_max {
        return Rest::Spent;
    }
    let backoff = doubled(BACKOFF_SECONDS, f64::from(returns)).min(BACKOFF_SECONDS_MAX);
    let seconds = seconds_of(hint).filter(|wait| *wait > 0.0).unwrap_or(backoff);
    if seconds > settings.retry_after_max.as_secs_f64() || seconds >= seconds_left {
        return Rest::TooLong;
    }
    Rest::Seconds(seconds)
}

/// What [`rest`] says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rest {
    /// Rest for so long, then wait for another turn.
    Seconds(f64),
    /// The wait is longer than may be waited, or than there is time.
    TooLong,
    /// The attempts are used up.
    Spent,
}

/// The wait that the API asks for, in seconds.
pub(super) fn seconds_of(hint: Hint) -> Option<f64> {
    hint.retry_after.map(|wait| wait.as_secs_f64())
}

/// How long the whole lane pauses for an API that says so, where its law does not decide that itself.
pub(super) fn pause_seconds(settings: &RetrySettings, hint: Hint) -> Option<f64> {
    let longest = settings.retry_after_max.as_secs_f64();
    seconds_of(hint).filter(|wait| *wait >= PAUSING_SECONDS).map(|wait| wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(seconds: f64) -> Hint {
        Hint { retry_after: Some(Duration::from_secs_f64(seconds)), ..Hint::default() }
    }

    #[test]
    fn a_429_is_absorbed_as_long_as_there_is_time() {
        let settings = RetrySettings::default();
        let rest = |hint, returns, left| rest(&settings, RetryReason::Throttled, hint, returns, left);
        assert_eq!(rest(told(1.0), 500, 100.0), Rest::Seconds(1.0));
        assert_eq!(rest(told(1.0), 0, 1.0), Rest::TooLong);
        assert_eq!(rest(told(301.0), 0, 1e6), Rest::TooLong);
        assert_eq!(rest(told(300.0), 0, 1e6), Rest::Seconds(300.0));
    }

    #[test]
    fn untold_waits_double_up_to_half_a_minute() {
        let settings = RetrySettings::default();
        for (returns, seconds) in [(0, 0.5), (1, 1.0), (2, 2.0), (6, 30.0), (1_000, 30.0)] {
            for untold in [Hint::default(), told(0.0)] {
                let rest = rest(&settings, RetryReason::Throttled, untold, returns, 1e6);
                assert_eq!(rest, Rest::Seconds(seconds));
            }
        }
    }

    #[test]
    fn an_overload_is_tried_three_times_in_all() {
        let settings = RetrySettings::default();
        let rest = |returns| rest(&settings, RetryReason::Overloaded, told(1.0), returns, 1e6);
        assert_eq!([rest(0), rest(1), rest(2)], [Rest::Seconds(1.0), Rest::Seconds(1.0), Rest::Spent]);
    }
}
