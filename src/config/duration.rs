//! Durations as people write them: `500ms`, `30s`, `2m`, `1h`.

use std::fmt;
use std::time::Duration;

/// Why a duration could not be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a duration: write a whole number and its unit, such as \"500ms\", \"30s\", \"2m\" or \"1h\" \
             (1d at most)",
            self.0
        )
    }
}

impl std::error::Error for DurationError {}

/// Reads a duration. A bare number is refused: whoever wrote it may have meant seconds or milliseconds.
///
/// # Errors
/// A [`DurationError`] that says what to write.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    parse(text.trim()).ok_or_else(|| DurationError(text.to_owned()))
}

fn parse(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let unit_millis: u64 = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = count.parse::<u64>().ok()?.checked_mul(unit_millis)?;
    (millis <= LONGEST_MILLIS).then(|| Duration::from_millis(millis))
}

/// `duration` in the largest unit that leaves a whole number, to the millisecond.
pub(super) fn shown(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    if millis == 0 {
        return "0s".to_owned();
    }
    let fits = units.iter().find(|(_, unit_millis)| millis.is_multiple_of(*unit_millis));
    let (unit, unit_millis) = fits.unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / unit_millis)
}

/// A day: nothing here takes longer, and clocks can be reckoned with safely.
const LONGEST_MILLIS: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            (" 2m", 120_000),
            ("2 min", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(duration(&shown(Duration::from_millis(millis))), duration(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_advice() {
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "2d",
            "99999999999999999999s",
            "9999999999999999999h",
            "1 fortnight",
        ] {
            let error = duration(text).unwrap_err().to_string();
            assert!(error.contains("30s"), "{text}: {error}");
        }
    }
}
