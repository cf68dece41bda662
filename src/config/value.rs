//! How each kind of value is read: what it may be, and what to write when it is something else.

use super::duration::{self, duration};
use super::size::{self, size};
use super::tree::Value;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A text, such as `example`.
pub(super) fn text<'a>(value: &'a Value, example: &str) -> Result<&'a str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("is {}: write a text, such as \"{example}\"", other.kind())),
    }
}

/// What a type reads from text, such as `example`.
pub(super) fn parsed<T: FromStr<Err: Display>>(example: &str) -> impl Fn(&Value) -> Result<T, String> {
    move |value| text(value, example)?.parse().map_err(|error: T::Err| error.to_string())
}

/// One of `words`.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let known = format!("write {}", all.join(" or "));
        let Value::Text(text) = value else { return Err(format!("is {}: {known}", value.kind())) };
        let found = words.iter().find(|(word, _)| word == text);
        found.map(|(_, meant)| *meant).ok_or_else(|| format!("{text:?} means nothing here: {known}"))
    }
}

/// `true` or `false`.
pub(super) fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Truth(truth) => Ok(*truth),
        other => Err(format!("is {}: write true or false, without quotes", other.kind())),
    }
}

/// A whole number in `range`.
pub(super) fn count<T>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + Display,
{
    move |value| {
        let wanted = || format!("write a whole number from {} to {}", range.start(), range.end());
        let Value::Whole(number) = value else {
            return Err(format!("is {}: {}, without quotes", value.kind(), wanted()));
        };
        let fits = T::try_from(*number).ok().filter(|number| range.contains(number));
        fits.ok_or_else(|| format!("{number} is out of range: {}", wanted()))
    }
}

/// A duration in `range`.
pub(super) fn time(range: RangeInclusive<Duration>) -> impl Fn(&Value) -> Result<Duration, String> {
    let (least, most) = (duration::shown(*range.start()), duration::shown(*range.end()));
    move |value| {
        let written = text(value, "30s")?;
        let time = duration(written).map_err(|error| error.to_string())?;
        in_range(&range, time, || format!("{written:?} is out of range: write from {least} to {most}"))
    }
}

/// A size in bytes in `range`.
pub(super) fn bytes<T>(range: RangeInclusive<usize>) -> impl Fn(&Value) -> Result<T, String>
where
    T: TryFrom<usize>,
{
    let (least, most) = (size::shown(*range.start()), size::shown(*range.end()));
    move |value| {
        let written = text(value, "64KiB")?;
        let size = size(written).map_err(|error| error.to_string())?;
        let beyond = || format!("{written:?} is out of range: write from {least} to {most}");
        in_range(&range, size, beyond).and_then(|size| T::try_from(size).map_err(|_| beyond()))
    }
}

fn in_range<T: PartialOrd>(
    range: &RangeInclusive<T>,
    value: T,
    otherwise: impl FnOnce() -> String,
) -> Result<T, String> {
    if range.contains(&value) { Ok(value) } else { Err(otherwise()) }
}

/// An IP address and a port.
///
/// # Errors
/// A sentence that says how one looks.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not an address: write an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or \
             [::1]:0"
        )
    })
}

/// A share of a whole, over 0 to 1: `"20%"` or `0.2`.
pub(super) fn share(value: &Value) -> Result<f64, String> {
    let share = match value {
        Value::Fraction(share) => Some(*share),
        Value::Whole(1) => Some(1.0),
        Value::Text(text) => {
            text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok()).map(percent)
        }
        _ => None,
    };
    let advice = || format!("{value} is not a share: write over 0% to 100%, such as \"20%\" or 0.2");
    share.filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(advice)
}

/// A share of what is left unused, 0 to 0.5: `"2%"` or `0.02`.
pub(super) fn headroom(value: &Value) -> Result<f64, String> {
    let share = match value {
        Value::Fraction(share) => Some(*share),
        Value::Whole(0) => Some(0.0),
        Value::Text(text) => {
            text.strip_suffix('%').and_then(|percent| percent.trim().parse().ok()).map(percent)
        }
        _ => None,
    };
    let advice = || format!("{value} is not such a share: write from 0% to 50%, such as \"2%\" or 0.02");
    share.filter(|share| (0.0..=0.5).contains(share)).ok_or_else(advice)
}

fn percent(percent: f64) -> f64 {
    percent / 100.0
}

/// What a thing is called. Names are parts of lane names and labels: `messages@3f9a`.
pub(super) fn name(value: &Value) -> Result<String, String> {
    let name = text(value, "messages")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(1..=NAME_MAX).contains(&name.len()) || !name.chars().all(fits) {
        return Err(format!(
            "{name:?} is not a name: write 1 to {NAME_MAX} letters, digits, dots, dashes and underscores"
        ));
    }
    if name == "other" {
        return Err("\"other\" is what is told apart no further: choose another name".to_owned());
    }
    Ok(name.to_owned())
}

const NAME_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn text_value(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (value, expected) in [
            (text_value("20%"), 0.2),
            (text_value("12.5 %"), 0.125),
            (Value::Fraction(0.2), 0.2),
            (Value::Whole(1), 1.0),
            (text_value("100%"), 1.0),
        ] {
            let found = share(&value).unwrap();
            assert!((found - expected).abs() < 1e-12, "{value}");
        }
        for value in ["0%", "-1%", "101%", "20", "NaN%", "inf%", "%"].map(text_value) {
            assert!(share(&value).unwrap_err().contains("\"20%\" or 0.2"), "{value}");
        }
        for value in [Value::Fraction(0.0), Value::Fraction(f64::NAN), Value::Fraction(1.1), Value::Whole(20)]
        {
            assert!(share(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn numbers_out_of_range_hear_the_range() {
        let read = count(1..=65_535_u16);
        assert_eq!(read(&Value::Whole(1)), Ok(1));
        for number in [0, -1, 65_536, i64::MAX, i64::MIN] {
            let error = read(&Value::Whole(number)).unwrap_err();
            assert_eq!(error, format!("{number} is out of range: write a whole number from 1 to 65535"));
        }
        assert!(read(&text_value("1")).unwrap_err().contains("without quotes"));
        let read = time(Duration::from_millis(1_500)..=Duration::from_hours(1));
        assert!(
            read(&text_value("1s")).unwrap_err().ends_with("\"1s\" is out of range: write from 1500ms to 1h")
        );
        let read = bytes(8_192..=1_048_576);
        assert!(read(&text_value("2MiB")).unwrap_err().ends_with("write from 8KiB to 1MiB"));
        assert_eq!(read(&text_value("8KiB")), Ok(8_192));
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["messages", "api.mypurecloud.com", "a_b-1"] {
            assert_eq!(name(&text_value(good)).unwrap(), good);
        }
        for bad in ["", "a b", "a/b", "a@b", "ü", "other", &"x".repeat(65)] {
            assert!(name(&text_value(bad)).is_err(), "{bad}");
        }
    }
}
