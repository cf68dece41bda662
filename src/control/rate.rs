//! A speed that is never zero, negative or NaN, and the quota (so many in such a window) people write it as.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A speed in requests per second. Always finite and at least [`Rate::SLOWEST`].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// One request an hour: the slowest pace that a lane can have.
    pub const SLOWEST: Self = Self(1.0 / 3600.0);
    /// Ten million a second: beyond it, pacing means nothing.
    pub const FASTEST: Self = Self(1e7);

    /// A speed of `requests_per_second`, clamped to [`Rate::SLOWEST`]..[`Rate::FASTEST`]; NaN is the slowest.
    pub fn new(requests_per_second: f64) -> Self {
        if requests_per_second > Self::SLOWEST.0 {
            Self(requests_per_second.min(Self::FASTEST.0))
        } else {
            Self::SLOWEST
        }
    }

    /// Requests per second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Seconds from one departure to the next.
    pub fn interval_seconds(self) -> f64 {
        1.0 / self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            if self.0 >= 100.0 { (self.0 * 10.0).round() / 10.0 } else { (self.0 * 100.0).round() / 100.0 };
        write!(f, "{shown}/s")
    }
}

/// So many requests in such a window, as people and APIs write it: `10/s`, `300/min`, `5000/h`, `100/30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests per window, at least 1.
    pub requests: u32,
    /// The window's length, from 1 ms to 1 day.
    pub window: Duration,
}

impl Quota {
    /// The even pace that spends this quota exactly.
    pub fn rate(self) -> Rate {
        Rate::new(f64::from(self.requests) / self.window.as_secs_f64())
    }
}

/// Why a quota could not be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaError(String);

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a rate: write requests/window such as \"10/s\", \"300/min\", \"5000/h\" or \"100/30s\" \
             (whole requests from 1 to 10000000, windows from 1ms to 1d)",
            self.0
        )
    }
}

impl std::error::Error for QuotaError {}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        let bad = || QuotaError(text.to_owned());
        let (requests, window) = text.split_once('/').ok_or_else(bad)?;
        let requests: u32 = requests.trim().parse().map_err(|_| bad())?;
        let window = window_from(window.trim()).ok_or_else(bad)?;
        if requests == 0 || requests > 10_000_000 {
            return Err(bad());
        }
        Ok(Self { requests, window })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.window.as_millis();
        match millis {
            1_000 => write!(f, "{}/s", self.requests),
            60_000 => write!(f, "{}/min", self.requests),
            3_600_000 => write!(f, "{}/h", self.requests),
            86_400_000 => write!(f, "{}/d", self.requests),
            _ if millis.is_multiple_of(1_000) => write!(f, "{}/{}s", self.requests, millis / 1_000),
            _ => write!(f, "{}/{millis}ms", self.requests),
        }
    }
}

fn window_from(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(unit_at)?;
    let count: u64 = if count.is_empty() { 1 } else { count.parse().ok()? };
    let unit_millis = match unit.trim() {
        "ms" => 1,
        "s" | "sec" | "second" => 1_000,
        "m" | "min" | "minute" => 60_000,
        "h" | "hour" => 3_600_000,
        "d" | "day" => 86_400_000,
        _ => return None,
    };
    let millis = count.checked_mul(unit_millis)?;
    (1..=86_400_000).contains(&millis).then(|| Duration::from_millis(millis))
}

/// `rate` doubled `times` times, for `times` in 0 to some tens, without powers: halves by repeated square roots.
pub(super) fn doubled(rate: f64, times: f64) -> f64 {
    let (mut left, mut factor) = (times.clamp(0.0, 64.0), 1.0);
    while left >= 1.0 {
        factor *= 2.0;
        left -= 1.0;
    }
    // 2^left as the product of 2^(1/2), 2^(1/4), … for the binary digits of `left`.
    let (mut digit, mut root) = (0.5, std::f64::consts::SQRT_2);
    while digit > 1e-9 {
        if left >= digit {
            factor *= root;
            left -= digit;
        }
        digit *= 0.5;
        root = root.sqrt();
    }
    rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_is_exact_enough() {
        for times in [0.0, 0.1, 0.5, 1.0, 1.7, 5.25] {
            let exact = 4.0 * 2.0_f64.powf(times);
            assert!((doubled(4.0, times) - exact).abs() < 1e-6 * exact, "{times}");
        }
    }

    #[test]
    fn a_rate_is_never_zero_negative_or_nan() {
        for bad in [0.0, -3.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Rate::new(bad), Rate::SLOWEST);
        }
        assert_eq!(Rate::new(f64::INFINITY), Rate::FASTEST);
    }

    #[test]
    fn quotas_are_read_and_written_as_people_write_them() {
        for (text, requests, millis, shown) in [
            ("10/s", 10, 1_000, "10/s"),
            ("300/min", 300, 60_000, "300/min"),
            ("300/60s", 300, 60_000, "300/min"),
            ("5000/h", 5_000, 3_600_000, "5000/h"),
            ("100/30s", 100, 30_000, "100/30s"),
            ("5/250ms", 5, 250, "5/250ms"),
            (" 7 / s ", 7, 1_000, "7/s"),
        ] {
            let quota: Quota = text.parse().unwrap();
            assert_eq!(quota, Quota { requests, window: Duration::from_millis(millis) }, "{text}");
            assert_eq!(quota.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_quota_is_refused_with_advice() {
        for text in [
            "",
            "10",
            "/s",
            "0/s",
            "-1/s",
            "1.5/s",
            "10/x",
            "10/0s",
            "10/2d",
            "99999999999/s",
            "10/99999999999999999999s",
        ] {
            let error = text.parse::<Quota>().unwrap_err().to_string();
            assert!(error.contains("10/s"), "{text}: {error}");
        }
    }
}
