//! The lines of a head, and its fields: places in it until all of it is there, then one copy of it (RFC 9112 5). No I/O.

use super::super::fields::{self, Place};
use super::super::grammar::{self, Fault};
use super::Limits;

/// How far the lines of a head have been read.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where the line begins that is not complete.
    at: usize,
    /// Bytes of it that hold no line end.
    scanned: usize,
}

impl Lines {
    /// The next line of `bytes`, which begin where the head does, and where it begins; `None` when it is not complete.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        limits: &Limits,
        too_long: Fault,
    ) -> Result<Option<(&'a [u8], usize)>, Fault> {
        let room = limits.head_bytes.saturating_sub(self.at);
        let line = grammar::line(self.rest(bytes), &mut self.scanned, room, too_long)?;
        let from = self.at;
        self.at += line.map_or(0, |line| line.len() + 2);
        Ok(line.map(|line| (line, from)))
    }

    /// What of `bytes` belongs to no complete line yet.
    pub(super) fn rest<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.at..).unwrap_or_default()
    }

    /// Bytes of complete lines.
    pub(super) fn read(&self) -> usize {
        self.at
    }
}

/// Names and values, as places in the head.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Place>);

/// What to say of a head that has too much of something.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMuch {
    pub(super) bytes: Fault,
    pub(super) fields: Fault,
}

impl Fields {
    /// Takes the field that `line` is, which begins at `from` in the head: its name and its value.
    pub(super) fn push<'a>(
        &mut self,
        line: &'a [u8],
        from: usize,
        most: usize,
        too_much: &TooMuch,
    ) -> Result<(&'a [u8], &'a [u8]), Fault> {
        if self.0.len() >= most {
            return Err(too_much.fields);
        }
        let (name, value) = grammar::field(line)?;
        if name.len() > NAME_MAX {
            return Err(too_much.bytes);
        }
        if self.0.is_empty() {
            self.0.reserve(USUAL);
        }
        let said = (line.get(name.clone()).unwrap_or_default(), line.get(value.clone()).unwrap_or_default());
        self.0.push(Place {
            name: from + name.start..from + name.end,
            value: from + value.start..from + value.end,
        });
        Ok(said)
    }

    /// Forgets the field that came last.
    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// All of them, which stand in `head`.
    pub(super) fn take(&mut self, head: &[u8]) -> fields::Fields {
        fields::Fields::of_lines(head, std::mem::take(&mut self.0))
    }
}

/// Is `token` in a comma-separated list?
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Room for so many fields is made at once.
const USUAL: usize = 16;
/// As long as [`http::HeaderName`] takes.
const NAME_MAX: usize = 65_535;
