//! Which heads of an HTTP/2 client name a pseudo-field, as far as HPACK (RFC 7541) shows it without being unpacked.
//!
//! # Why
//! A pseudo-field in trailers makes a request malformed (RFC 9113 8.1), and the h2 crate forgets it instead. So the
//! blocks are walked on their way to it: a few steps for each field, no text is unpacked. What is no HPACK is left to h2,
//! which refuses it.

use std::collections::VecDeque;

/// What is known of a connection's blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Of the dynamic table, the newest first: is it a pseudo-field? Older ones than the table holds do no harm: h2
    /// refuses whoever means them.
    dynamic: VecDeque<bool>,
}

impl Blocks {
    /// Takes the connection's next block. Does it name a pseudo-field?
    pub(super) fn names_pseudo(&mut self, block: &[u8]) -> bool {
        let mut found = false;
        let mut rest = block;
        while let Some(field) = self.field(&mut rest) {
            found |= field;
        }
        found
    }

    /// Is the next field a pseudo-field? `None` at the end of what can be read.
    fn field(&mut self, rest: &mut &[u8]) -> Option<bool> {
        let first = *rest.first()?;
        let (prefix, kind) = match first {
            0x80.. => (7, Kind::Indexed),
            0x40.. => (6, Kind::Kept),
            0x20.. => (5, Kind::Resize),
            _ => (4, Kind::Literal),
        };
        let index = integer(rest, prefix)?;
        let is_pseudo = match (kind, index) {
            (Kind::Resize, _) => return Some(false),
            (Kind::Literal | Kind::Kept, 0) => {
                let (is_packed, name) = text(rest)?;
                begins_with_colon(is_packed, name)
            }
            (_, index) if index < FIRST_DYNAMIC => (1..=LAST_PSEUDO).contains(&index),
            (_, index) => self.dynamic.get(index - FIRST_DYNAMIC).copied().unwrap_or_default(),
        };
        if matches!(kind, Kind::Literal | Kind::Kept) {
            text(rest)?;
        }
        if matches!(kind, Kind::Kept) {
            self.dynamic.truncate(DYNAMIC_MAX - 1);
            self.dynamic.push_front(is_pseudo);
        }
        Some(is_pseudo)
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

/// A text as it is sent, and whether it is packed by Huffman's code (RFC 7541 5.2).
fn text<'a>(rest: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let is_packed = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((is_packed, text))
}

/// Huffman's code for a colon is 1011100 (RFC 7541 appendix B).
fn begins_with_colon(is_packed: bool, name: &[u8]) -> bool {
    name.first().is_some_and(|first| if is_packed { first >> 1 == 0b101_1100 } else { *first == b':' })
}

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
            assert_eq!(Blocks::default().names_pseudo(block), expected, "{block:x?}");
        }
    }

    #[test]
    fn what_a_head_left_in_the_table_is_known_in_trailers() {
        let mut blocks = Blocks::default();
        // `:authority: a`, then `x: y`: both are kept, and the later one is the first.
        assert!(blocks.names_pseudo(b"\x41\x01a\x40\x01x\x01y"));
        assert!(!blocks.names_pseudo(b"\xbe"));
        assert!(blocks.names_pseudo(b"\xbf"));
        assert!(blocks.names_pseudo(b"\x0f\x30\x01z"), "a literal with that name");
        assert!(!blocks.names_pseudo(b"\xc0"), "there is no third");
        for _ in 0..1_000 {
            blocks.names_pseudo(b"\x40\x01x\x01y");
        }
        assert_eq!(blocks.dynamic.len(), DYNAMIC_MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_much(blocks in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..200), 1..5)) {
            let mut known = Blocks::default();
            for block in blocks {
                known.names_pseudo(&block);
            }
        }
    }
}
