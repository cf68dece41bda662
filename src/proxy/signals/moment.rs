//! Moments as APIs write them: HTTP-dates, RFC 3339, and what JavaScript prints.

use super::fields::since_1970;

/// Seconds from 1970 to the moment that `text` names.
///
/// | form | example |
/// |---|---|
/// | HTTP-date, its three | `Tue, 16 Feb 2021 08:02:42 GMT` |
/// | RFC 3339; a space for the `T`, and no zone for UTC, are common | `2021-02-16T09:02:42.5+01:00` |
/// | JavaScript | `Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)` |
pub(super) fn moment(text: &str) -> Option<f64> {
    let http = || httpdate::parse_http_date(text).ok().map(|moment| since_1970(moment).as_secs_f64());
    rfc3339(text).or_else(|| javascript(text)).or_else(http)
}

fn rfc3339(text: &str) -> Option<f64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = parts(date.split('-'))?;
    let at = time.find(['Z', 'z', '+', '-', ' ']).unwrap_or(time.len());
    let (clock, zone) = time.split_at_checked(at)?;
    Some(days(whole(year)?, whole(month)?, whole(day)?)? + seconds(clock)? - offset(zone.trim_start())?)
}

fn javascript(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let [_, name, day, year, clock, zone] = [(); 6].map(|()| words.next());
    let month = (1..).zip(MONTHS).find(|(_, month)| Some(*month) == name)?.0;
    let zone = zone?.strip_prefix("GMT").or(zone?.strip_prefix("UTC"))?;
    Some(days(whole(year?)?, month, whole(day?)?)? + seconds(clock?)? - offset(zone)?)
}

/// The seconds of a day at `09:02:42.5`. A leap second is the next one's first.
fn seconds(clock: &str) -> Option<f64> {
    let [hour, minute, second] = parts(clock.split(':'))?;
    let (hour, minute) = (whole(hour)?, whole(minute)?);
    let plain = second.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let second: f64 = second.parse().ok().filter(|second| plain && *second < 61.0)?;
    (hour < 24 && minute < 60).then(|| f64::from(hour * 3_600 + minute * 60) + second)
}

/// Seconds east of UTC: `Z`, nothing, `+01:00` or `+0100`.
fn offset(zone: &str) -> Option<f64> {
    let (sign, digits) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        _ if matches!(zone, "" | "Z" | "z" | "UTC") => return Some(0.0),
        (Some(digits), _) => (1.0, digits),
        (_, Some(digits)) => (-1.0, digits),
        (None, None) => return None,
    };
    let (hours, minutes) = digits.split_once(':').or_else(|| digits.split_at_checked(2))?;
    let (hours, minutes) = (whole(hours)?, whole(minutes)?);
    (hours < 24 && minutes < 60).then(|| sign * f64::from(hours * 3_600 + minutes * 60))
}

/// Seconds from 1970 to the day's start, by the proleptic Gregorian calendar; nothing before 1970.
fn days(year: u32, month: u32, day: u32) -> Option<f64> {
    let leap = |year: u32| {
        u32::from(year.is_multiple_of(4)) - u32::from(year.is_multiple_of(100))
            + u32::from(year.is_multiple_of(400))
    };
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if !(1970..=9999).contains(&year) || !(1..=*lengths.get(before)?).contains(&day) {
        return None;
    }
    let years = year - 1;
    let leaps = |years: u32| years / 4 - years / 100 + years / 400;
    let days = 365 * (year - 1970) + leaps(years) - leaps(1969);
    let days = days + lengths.iter().take(before).sum::<u32>() + day - 1;
    Some(f64::from(days) * 86_400.0)
}

/// Four digits at most, and nothing else.
fn whole(digits: &str) -> Option<u32> {
    let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Exactly three.
fn parts<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<[&'a str; 3]> {
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn every_form_names_the_same_moment() {
        for text in [
            "Tue, 16 Feb 2021 08:02:42 GMT",
            "Tuesday, 16-Feb-21 08:02:42 GMT",
            "Tue Feb 16 08:02:42 2021",
            "2021-02-16T08:02:42Z",
            "2021-02-16t08:02:42.000z",
            "2021-02-16 08:02:42",
            "2021-02-16 08:02:42 UTC",
            "2021-02-16T09:02:42+01:00",
            "2021-02-16T03:32:42-0430",
            "Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)",
            "Tue Feb 16 2021 08:02:42 GMT",
        ] {
            assert_eq!(moment(text), Some(1_613_462_562.0), "{text}");
        }
        assert_eq!(moment("1970-01-01T00:00:00.25Z"), Some(0.25));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "soon",
            "T",
            "2021-02-16",
            "2021-02-30T00:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-00-01T00:00:00Z",
            "2021-02-16T24:00:00Z",
            "2021-02-16T08:60:00Z",
            "2021-02-16T08:02:61Z",
            "2021-02-16T08:02Z",
            "2021-02-16T08:02:42+1",
            "2021-02-16T08:02:42+25:00",
            "2021-02-16T08:02:NaNZ",
            "2021-02-16T08:02:1e1Z",
            "1969-12-31T23:59:59Z",
            "12021-02-16T08:02:42Z",
            "2021-02-16T08:02:42é",
            "Tue Feb 16 2021 09:02:42",
            "Tue Feb 16 2021 09:02:42 CET",
            "Tue Feb 29 2021 09:02:42 GMT",
            "2021-02-16T08:02:42Z trailing",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    proptest! {
        /// httpdate has another calendar than this one.
        #[test]
        fn the_calendar_is_the_usual_one(seconds in 0_u64..253_402_300_800) {
            let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            let [weekday, day, month, year, clock, zone] =
                date.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let javascript = format!("{} {month} {day} {year} {clock} {zone}+0000", weekday.trim_end_matches(','));
            prop_assert_eq!(moment(&javascript), Some(f64::from(u32::try_from(seconds / 64).unwrap()) * 64.0 + f64::from(u32::try_from(seconds % 64).unwrap())));
        }

        #[test]
        fn nothing_panics(text in "[-0-9T:.+ ZGMTFebué]{0,40}") {
            prop_assert!(moment(&text).is_none_or(|at| (0.0..3e11).contains(&at)));
        }
    }
}
