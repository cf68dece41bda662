//! The grammar of HTTP/1.1 messages, a line at a time (RFC 9112). No I/O and no state.

use super::error::{ErrorKind, ProxyError};
use std::ops::Range;

/// Why the bytes on a connection are no requests; a sentence for the client comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    pub(super) detail: &'static str,
}

impl From<Fault> for ProxyError {
    fn from(fault: Fault) -> Self {
        Self::new(fault.kind, fault.detail)
    }
}

/// The line at the beginning of `bytes`, without its end; none when it is not complete. `room` is for all of it.
/// `scanned` says how many of the bytes are known to hold no line end, so that a line that comes in many pieces is not
/// searched again with each.
pub(super) fn line<'a>(
    bytes: &'a [u8],
    scanned: &mut usize,
    room: usize,
    too_long: Fault,
) -> Result<Option<&'a [u8]>, Fault> {
    let fresh = bytes.get(*scanned..).unwrap_or_default();
    let end = memchr::memchr(b'\n', fresh).map(|end| *scanned + end);
    if end.unwrap_or(bytes.len()) >= room {
        return Err(too_long);
    }
    let Some(end) = end else {
        *scanned = bytes.len();
        return Ok(None);
    };
    *scanned = 0;
    match bytes.get(..end).unwrap_or_default().split_last() {
        Some((b'\r', line)) => Ok(Some(line)),
        _ => Err(bad("A line ends in a bare line feed.")),
    }
}

/// Can `bytes` be the beginning of a request line? So that what is no HTTP at all is answered at once.
pub(super) fn beginning(bytes: &[u8]) -> Result<(), Fault> {
    let start = bytes.get(..bytes.len().min(METHOD_MAX + 1)).unwrap_or_default();
    let method = start.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method != b"\r" && !is_token(method) {
        return Err(bad("The method is not a token."));
    }
    check_method_length(method)
}

/// Methods that nobody has heard of are relayed, but not what is longer than any.
pub(super) fn check_method_length(method: &[u8]) -> Result<(), Fault> {
    if method.len() > METHOD_MAX { Err(METHOD_LONG) } else { Ok(()) }
}

pub(super) const METHOD_LONG: Fault = bad("The method is longer than any that there is.");

/// Name and value of a field line (RFC 9112 5), as places in it.
pub(super) fn field(line: &[u8]) -> Result<(Range<usize>, Range<usize>), Fault> {
    let colon = line.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(line.len());
    let Some((b':', value)) = line.get(colon..).and_then(<[u8]>::split_first) else {
        return Err(bad(match line.first() {
            Some(b' ' | b'\t') => "A field is folded over several lines.",
            _ if !line.contains(&b':') => "A field has no colon.",
            _ => "A field's name is not a token, or is followed by a space.",
        }));
    };
    if colon == 0 {
        return Err(bad("A field has no name."));
    }
    if has_control(value) {
        return Err(bad("A field has a control character in it."));
    }
    let start = line.len() - value.trim_ascii_start().len();
    Ok((0..colon, start..start + value.trim_ascii().len()))
}

/// Is there a control character that is no tab?
fn has_control(value: &[u8]) -> bool {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    // A word may have a tab in it too, which is seldom there.
    let is_odd = |word: &[u8; 8]| has_low_or_delete(u64::from_ne_bytes(*word)) && word.iter().any(is_control);
    match value.last_chunk::<8>() {
        // What does not fill a word is looked at once more with what is before it.
        Some(last) => value.as_chunks::<8>().0.iter().any(is_odd) || is_odd(last),
        None => value.iter().any(is_control),
    }
}

/// Is `name` this one, which is in small letters? Of a known length, it is compared as a few words.
#[inline]
pub(super) fn is_named<const N: usize>(name: &[u8], wanted: &[u8; N]) -> bool {
    <&[u8; N]>::try_from(name).is_ok_and(|name| name.map(|byte| byte.to_ascii_lowercase()) == *wanted)
}

/// Is one of eight bytes below the space, or the last of ASCII? A byte takes from the next one only if it is one itself.
const fn has_low_or_delete(word: u64) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let deletes = word ^ (EACH * 0x7f);
    let low = word.wrapping_sub(EACH * 0x20) & !word;
    let delete = deletes.wrapping_sub(EACH) & !deletes;
    (low | delete) & (EACH * 0x80) != 0
}

/// The forms of RFC 9112 3.2 as far as they matter to framing; what the target means is asked later.
pub(super) fn check_target(target: &[u8], tunnel: bool) -> Result<(), Fault> {
    if target.len() > TARGET_MAX {
        return Err(Fault { kind: ErrorKind::TargetTooLong, detail: "The request target is too long." });
    }
    if target.contains(&b'#') {
        return Err(bad("A request target has no fragment."));
    }
    let path = target.iter().take_while(|byte| **byte != b'?');
    // `http::Uri` takes the others, and so do the APIs that have them in their paths.
    let is_odd = |byte: &u8| matches!(byte, b'<' | b'>' | b'`');
    if !target.iter().all(u8::is_ascii_graphic)
        || path.clone().any(is_odd)
        || target.iter().skip(path.count()).any(|byte| matches!(byte, b'<' | b'>' | b'"'))
    {
        return Err(bad("The request target has a character in it that must be percent-encoded."));
    }
    if !tunnel && matches!(target, [b'/', ..] | b"*") {
        return Ok(());
    }
    let is_authority = |uri: &http::Uri| uri.scheme().is_none() && uri.authority().is_some();
    // A tunnel without a port leads nowhere (RFC 9110 9.3.6), and nobody's name is part of where it leads.
    let is_whole = |uri: &http::Uri| !tunnel || (uri.port_u16().is_some() && !target.contains(&b'@'));
    let valid = http::Uri::try_from(target).is_ok_and(|uri| is_authority(&uri) == tunnel && is_whole(&uri));
    if valid { Ok(()) } else { Err(bad("The request target is not of a form that this method has.")) }
}

/// Is it chunked alone, which is the only transfer coding that is understood? Of others it is told whether they are
/// valid and unknown, or whether nobody can say where their body ends (RFC 9112 6.1, 6.3).
pub(super) fn check_coding(coding: &[u8]) -> Result<(), Fault> {
    let coding = coding.trim_ascii();
    if coding.eq_ignore_ascii_case(CHUNKED) {
        return Ok(());
    }
    let mut codings = coding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_last_chunked = codings.next_back().is_some_and(|last| last.eq_ignore_ascii_case(CHUNKED));
    let is_other = |coding: &[u8]| {
        let name = coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        is_token(name) && !name.eq_ignore_ascii_case(CHUNKED)
    };
    if is_last_chunked && codings.all(is_other) {
        let kind = ErrorKind::NotImplemented;
        return Err(Fault { kind, detail: "The only transfer coding that is understood is chunked, once." });
    }
    Err(CODING_OPEN)
}

/// A body ends nowhere if the last coding is not chunked, and chunked is applied once (RFC 9112 6.3, 7).
pub(super) const CODING_OPEN: Fault =
    bad("The last transfer coding is not chunked, or chunked is there more than once.");
const CHUNKED: &[u8] = b"chunked";

/// The size in a chunk's first line, whose extensions are checked and forgotten (RFC 9112 7.1).
pub(super) fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(digits).unwrap_or_default();
    // Zeros before a number are part of it, however many: they say nothing.
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let told = digits.get(zeros..).unwrap_or_default();
    if digits.is_empty() || told.len() > 16 {
        return Err(bad("A chunk's size is not a number."));
    }
    let size = told
        .iter()
        .fold(0, |size: u64, digit| (size << 4) | char::from(*digit).to_digit(16).map_or(0, u64::from));
    if size > LENGTH_MAX {
        return Err(bad("A chunk's size is not a number that can be."));
    }
    if are_extensions(extensions) {
        Ok(size)
    } else {
        Err(bad("A chunk's size is followed by what is no extension."))
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )`, with blanks around the marks, which have to be taken (RFC 9110
/// 5.6.3). Behind a size or an extension that is the last there may be none.
fn are_extensions(mut text: &[u8]) -> bool {
    while let Some(after) = without_mark(text, b";") {
        let Some(after) = without_token(after) else { return false };
        text = match without_mark(after, b"=") {
            None => after,
            Some(value) => {
                let Some(after) = without_token(value).or_else(|| without_quoted(value)) else {
                    return false;
                };
                after
            }
        };
    }
    text.is_empty()
}

/// `text` behind a mark that it begins with, and behind the blanks around that.
fn without_mark<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    without_blanks(text).strip_prefix(mark).map(without_blanks)
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', after @ ..] = text {
        text = after;
    }
    text
}

fn without_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(text.len());
    if end == 0 { None } else { text.get(end..) }
}

fn without_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut bytes = text.strip_prefix(b"\"")?.iter();
    loop {
        let byte = match bytes.next()? {
            b'"' => return Some(bytes.as_slice()),
            b'\\' => bytes.next()?,
            byte => byte,
        };
        if !(byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t') || *byte >= 0x80) {
            return None;
        }
    }
}

/// A Content-Length (RFC 9110 8.6).
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= LENGTH_MAX).then_some(number)
}

/// What is wrong with a head that has several of what there is one of (RFC 9110 5.3).
pub(super) const TOKENS_MANY: &str = "There is more than one Authorization field.";
pub(super) const TYPES_MANY: &str = "There is more than one Content-Type field.";
/// What reads names as CGI does takes these for framing.
pub(super) const DISGUISE: &str = "A field's name looks like Content-Length or Transfer-Encoding and is not.";

/// Is it `Content_Length` or `Transfer_Encoding`, or with a hyphen more? For names as long as those.
pub(super) fn is_framing_in_disguise(name: &[u8]) -> bool {
    let is = |like: &[u8]| {
        name.iter()
            .zip(like)
            .all(|(byte, like)| byte.eq_ignore_ascii_case(like) || (*byte == b'_' && *like == b'-'))
    };
    name.contains(&b'_') && if name.len() == 14 { is(b"content-length") } else { is(b"transfer-encoding") }
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

fn is_token_byte(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).is_some_and(|is| *is)
}

/// A fault that is a 400.
pub(super) const fn bad(detail: &'static str) -> Fault {
    Fault { kind: ErrorKind::BadRequest, detail }
}

/// RFC 9110 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mark = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        #[expect(clippy::indexing_slicing, reason = "checked by the compiler: this runs there")]
        {
            table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        }
        byte += 1;
    }
    table
};

/// As long as [`http::Uri`] takes.
const TARGET_MAX: usize = 65_533;
/// Larger is nothing that could ever be sent.
const LENGTH_MAX: u64 = i64::MAX as u64;
/// The longest that is registered has 17 bytes. So many of an unfinished request line are looked at each time that some
/// come.
pub(super) const METHOD_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_found_wherever_they_are() {
        for byte in 0..=u8::MAX {
            let is_control = (byte < 0x20 && byte != b'\t') || byte == 0x7f;
            for at in 0..19 {
                for around in [b' ', b'~', 0x80, 0xff, b'\t'] {
                    let mut value = [around; 19];
                    value[at] = byte;
                    assert_eq!(has_control(&value), is_control, "{byte} at {at} among {around}");
                }
            }
        }
    }

    #[test]
    fn targets_that_pass_are_uris() {
        for byte in 0..=u8::MAX {
            for before in ["/", "/a", "/a?", "/?a="] {
                let target = [before.as_bytes(), &[byte]].concat();
                if check_target(&target, false).is_ok() {
                    assert!(
                        http::Uri::try_from(&target[..]).is_ok(),
                        "{:?}",
                        target.escape_ascii().to_string()
                    );
                }
            }
        }
    }
}
