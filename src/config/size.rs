//! Sizes in bytes as people write them: `512B`, `64KiB`, `1MiB`, `2GiB`.

use std::fmt;

/// Reads a size. A bare number is refused, and so are kB and MB, which are 2 and 5 % less than what most mean by them.
///
/// # Errors
/// A [`SizeError`] that says what to write.
pub(super) fn size(text: &str) -> Result<usize, SizeError> {
    parse(text.trim()).ok_or_else(|| SizeError(text.to_owned()))
}

/// Why a size could not be read. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SizeError(String);

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a size: write a whole number and its unit, such as \"512B\", \"64KiB\", \"1MiB\" or \"2GiB\"",
            self.0
        )
    }
}

fn parse(text: &str) -> Option<usize> {
    let (count, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, unit_bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    count.parse::<usize>().ok()?.checked_mul(*unit_bytes)
}

/// `bytes` in the largest unit that leaves a whole number.
pub(super) fn shown(bytes: usize) -> String {
    let fits = |(_, unit_bytes): &&(&str, usize)| bytes != 0 && bytes.is_multiple_of(*unit_bytes);
    let (unit, unit_bytes) = UNITS.iter().rev().find(fits).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / unit_bytes)
}

const UNITS: [(&str, usize); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_write_them() {
        for (text, bytes, again) in [
            ("0B", 0, "0B"),
            ("512B", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            (" 1 MiB", 1_048_576, "1MiB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("1025B", 1_025, "1025B"),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(shown(bytes), again);
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_advice() {
        for text in [
            "",
            "64",
            "KiB",
            "-1KiB",
            "1.5MiB",
            "64kB",
            "1 MB",
            "99999999999999999999B",
            "18014398509481984GiB",
        ] {
            let error = size(text).unwrap_err().to_string();
            assert!(error.contains("64KiB"), "{text}: {error}");
        }
    }
}
