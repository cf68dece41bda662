//! Which heads of an HTTP/2 client name a pseudo-field or a fragment, as far as HPACK (RFC 7541) shows it without being
//! unpacked.
//!
//! # Why
//! A pseudo-field in trailers makes a request malformed (RFC 9113 8.1), and the h2 crate forgets it instead. So does a
//! fragment in `:path` (8.3.1), which [`http::Uri`] cuts off. So the blocks are walked on their way to it: a few steps for
//! each field, no text is unpacked unless a `#` may be in it. What is no HPACK is left to h2, which refuses it.

use std::collections::VecDeque;

/// What is known of a connection's blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Of the dynamic table, the newest first. Older ones than the table holds do no harm: h2 refuses whoever means them.
    dynamic: VecDeque<Name>,
}

/// What a block has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// A pseudo-field.
    pub(super) pseudo: bool,
    /// A `:path` that is not a path and a query alone.
    pub(super) fragment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Field,
    Path,
    OtherPseudo,
}

impl Blocks {
    /// Takes the connection's next block.
    pub(super) fn take(&mut self, block: &[u8]) -> Found {
        let mut found = Found::default();
        let mut rest = block;
        while self.field(&mut rest, &mut found).is_some() {}
        found
    }

    /// Takes the next field. `None` at the end of what can be read.
    fn field(&mut self, rest: &mut &[u8], found: &mut Found) -> Option<()> {
        let first = *rest.first()?;
        let (prefix, kind) = match first {
            0x80.. => (7, Kind::Indexed),
            0x40.. => (6, Kind::Kept),
            0x20.. => (5, Kind::Resize),
            _ => (4, Kind::Literal),
        };
        let index = integer(rest, prefix)?;
        let name = match (kind, index) {
            (Kind::Resize, _) => return Some(()),
            (Kind::Literal | Kind::Kept, 0) => text(rest)?.name(),
            (_, 4 | 5) => Name::Path,
            (_, 1..=LAST_PSEUDO) => Name::OtherPseudo,
            (_, index) => {
                let kept = index.checked_sub(FIRST_DYNAMIC).and_then(|place| self.dynamic.get(place));
                kept.copied().unwrap_or(Name::Field)
            }
        };
        found.pseudo |= name != Name::Field;
        if matches!(kind, Kind::Literal | Kind::Kept) {
            let value = text(rest)?;
            found.fragment |= name == Name::Path && value.has_hash();
        }
        if matches!(kind, Kind::Kept) {
            self.dynamic.truncate(DYNAMIC_MAX - 1);
            self.dynamic.push_front(name);
        }
        Some(())
    }
}

/// RFC 7541 6.
#[derive(Clone, Copy)]
enum Kind {
    Indexed,
    Literal,
    /// A literal that goes into the dynamic table.
    Kept,
    Resize,
}

/// A number whose first byte gives `prefix` bits to it (RFC 7541 5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut bytes) = rest.split_first()?;
    let most = (1_usize << prefix) - 1;
    let mut number = usize::from(*first) & most;
    if number == most {
        let mut shift = 0;
        loop {
            let (byte, after) = bytes.split_first()?;
            bytes = after;
            let part = usize::from(byte & 0x7f).checked_shl(shift).filter(|_| shift <= SHIFT_MAX)?;
            number = number.checked_add(part)?;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *rest = bytes;
    Some(number)
}

/// A text as it is sent (RFC 7541 5.2).
fn text<'a>(rest: &mut &'a [u8]) -> Option<Text<'a>> {
    let is_packed = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(Text { is_packed, bytes })
}

struct Text<'a> {
    /// By Huffman's code (RFC 7541 appendix B).
    is_packed: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    fn name(&self) -> Name {
        match (self.is_packed, self.bytes) {
            (false, b":path") | (true, b"\xb9\x58\xd3\x3f") => Name::Path,
            (false, [b':', ..]) => Name::OtherPseudo,
            // The code for a colon is 1011100.
            (true, [first, ..]) if first >> 1 == 0b101_1100 => Name::OtherPseudo,
            _ => Name::Field,
        }
    }

    fn has_hash(&self) -> bool {
        if !self.is_packed {
            return self.bytes.contains(&b'#');
        }
        // Its code begins with nine ones, which nothing has that a URL usually consists of.
        let has_nine = |pair: &[u8]| {
            let bits = pair.iter().fold(0_u16, |bits, byte| bits << 8 | u16::from(*byte));
            let two = bits & bits << 1;
            let four = two & two << 2;
            four & four << 4 & bits << 8 != 0
        };
        self.bytes.windows(2).any(has_nine) && unpacks_to_hash(self.bytes)
    }
}

/// Huffman's code is canonical: codes of one length follow each other, and those that are longer follow them. So where
/// one ends is known from how many there are of each length; and `#` is the first that has 12 bits.
fn unpacks_to_hash(packed: &[u8]) -> bool {
    let bits = packed.iter().flat_map(|byte| (0..8).rev().map(move |place| u32::from(byte >> place & 1)));
    let (mut code, mut first, mut length) = (0, 0, 0);
    for bit in bits {
        code = code << 1 | bit;
        first <<= 1;
        length += 1;
        // Beyond the longest there is nothing: h2 refuses it.
        let Some(count) = CODES.get(length) else { return false };
        if code - first >= *count {
            first += count;
            continue;
        }
        if length == 12 && code == first {
            return true;
        }
        (code, first, length) = (0, 0, 0);
    }
    false
}

/// How many codes there are of each length, from none to 30 bits.
const CODES: [u32; 31] =
    [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];
/// The static table's first fourteen are all of its pseudo-fields (RFC 7541 appendix A).
const LAST_PSEUDO: usize = 14;
const FIRST_DYNAMIC: usize = 62;
/// A dynamic table of 4 KiB, which is what h2 offers, has no more: each field counts 32 bytes beside its text.
const DYNAMIC_MAX: usize = 128;
/// No number that h2 takes is longer.
const SHIFT_MAX: u32 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudo_field_is_seen_however_it_is_said() {
        for (block, expected) in [
            (&b"\x82"[..], true),
            (b"\x8e", true),
            (b"\x8f", false),
            (b"\xbd", false),
            (b"\x44\x02/b", true),
            (b"\x04\x02/b", true),
            (b"\x14\x02/b", true),
            (b"\x00\x05:path\x02/b", true),
            (b"\x40\x04:new\x01x", true),
            (b"\x10\x01:\x00", true),
            // Huffman's code: `:path`, and `a:` packed as five and seven bits and four of padding.
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/b", true),
            (b"\x00\x82\x1d\xcf\x01x", false),
            (b"\x00\x05x:pat\x02/b", false),
            (b"\x0f\x01\x01:", false),
            (b"\x3f\xe1\x1f\x82", true),
            (b"\x20\x00\x01x\x01:\x82", true),
            (b"\x00\x01x\x01:", false),
            (b"\x00\x01x\x05:", false),
            (b"\x00", false),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", false),
            (b"", false),
        ] {
            assert_eq!(Blocks::default().take(block).pseudo, expected, "{block:x?}");
        }
    }

    #[test]
    fn a_fragment_is_seen_however_it_is_said() {
        let codes: u32 = CODES.iter().sum();
        assert_eq!(codes, 257, "a byte each, and the end");
        for (block, expected) in [
            (&b"\x04\x04/a#b"[..], true),
            (b"\x44\x04/a#b", true),
            (b"\x15\x01#", true),
            (b"\x00\x05:path\x02/#", true),
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/#", true),
            (b"\x04\x02/b", false),
            (b"\x01\x02a#", false),
            (b"\x00\x01x\x02/#", false),
            // Huffman's code: `/a#b`, `/#`, `#`, `/zX#`; `/a>b`, which differs by one bit, a backslash, and no code.
            (b"\x04\x84\x60\x7f\xf5\x1f", true),
            (b"\x04\x83\x63\xfe\xbf", true),
            (b"\x04\x82\xff\xaf", true),
            (b"\x44\x85\x63\xdf\xe7\xfd\x7f", true),
            (b"\x04\x84\x60\x7f\xf7\x1f", false),
            (b"\x04\x84\x63\xff\xf8\x7f", false),
            (b"\x04\x84\xff\xff\xff\xff", false),
        ] {
            assert_eq!(Blocks::default().take(block).fragment, expected, "{block:x?}");
        }
        let mut blocks = Blocks::default();
        assert!(!blocks.take(b"\x44\x02/b").fragment);
        assert!(blocks.take(b"\x0f\x2f\x02/#").fragment, "the name is in the table");
    }

    #[test]
    fn what_a_head_left_in_the_table_is_known_in_trailers() {
        let mut blocks = Blocks::default();
        // `:authority: a`, then `x: y`: both are kept, and the later one is the first.
        assert!(blocks.take(b"\x41\x01a\x40\x01x\x01y").pseudo);
        assert!(!blocks.take(b"\xbe").pseudo);
        assert!(blocks.take(b"\xbf").pseudo);
        assert!(blocks.take(b"\x0f\x30\x01z").pseudo, "a literal with that name");
        assert!(!blocks.take(b"\xc0").pseudo, "there is no third");
        for _ in 0..1_000 {
            blocks.take(b"\x40\x01x\x01y");
        }
        assert_eq!(blocks.dynamic.len(), DYNAMIC_MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_much(blocks in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..200), 1..5)) {
            let mut known = Blocks::default();
            for block in blocks {
                known.take(&block);
            }
        }
    }
}
