//! Is this text a host with or without a port, as Host fields and :authority may have it (RFC 9110 7.2, RFC 3986 3.2.2)?

use std::net::Ipv6Addr;

/// A name, an IPv4 address or a bracketed IPv6 address, and perhaps a port. Neither user information nor a comma: several
/// hosts in one field are what a proxy before us may have made of several fields.
pub(super) fn is_host(text: &[u8]) -> bool {
    let Some(literal) = text.strip_prefix(b"[") else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let (name, port) = text.split_at_checked(end).unwrap_or_default();
        return is_name(name) && is_port(port);
    };
    let end = literal.iter().position(|byte| *byte == b']');
    let Some((address, rest)) = end.and_then(|end| literal.split_at_checked(end)) else { return false };
    let address = std::str::from_utf8(address).unwrap_or_default();
    address.parse::<Ipv6Addr>().is_ok() && rest.strip_prefix(b"]").is_some_and(is_port)
}

fn is_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    let is_plain = |byte: &u8| IN_NAMES.get(usize::from(*byte)).copied().unwrap_or(false);
    while let Some(end) = name.iter().position(|byte| !is_plain(byte)) {
        name = match name.get(end..) {
            Some([b'%', high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            _ => return false,
        };
    }
    true
}

/// The bytes that a name may have as they are: unreserved ones and sub-delimiters of RFC 3986, but for the comma.
#[expect(clippy::indexing_slicing, reason = "in a constant: an index that is out of bounds does not compile")]
static IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        let mark = matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        );
        table[byte as usize] = mark || byte.is_ascii_alphanumeric();
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Nothing, or a colon with a number; the number may be left out.
fn is_port(text: &[u8]) -> bool {
    match text.strip_prefix(b":") {
        None => text.is_empty(),
        Some(digits) => {
            let number = std::str::from_utf8(digits).unwrap_or_default();
            digits.is_empty() || (digits.iter().all(u8::is_ascii_digit) && number.parse::<u16>().is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Authority;
    use proptest::prelude::*;

    proptest! {
        /// So it need not be parsed as one to be believed.
        #[test]
        fn a_host_without_a_percent_sign_is_an_authority(text in "[a-zA-Z0-9:.~!$&'()*+;=_%,@/-]{0,12}|\\[[0-9a-f:]{0,8}\\](:[0-9]{0,6})?") {
            let is_one = is_host(text.as_bytes()) && !text.contains('%');
            prop_assert!(!is_one || Authority::try_from(text.as_str()).is_ok(), "{text}");
            prop_assert!(!is_one || text.parse::<Authority>().unwrap().as_str() == text);
        }
    }

    #[test]
    fn hosts_are_told_from_everything_else() {
        for good in [
            "a",
            "a:",
            "a:80",
            "A.b-c_d.",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:8080",
            "[::ffff:1.2.3.4]",
            "a%20b",
            "1.2.3.999",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "a:x",
            "a:65536",
            "a:+1",
            "a:80:80",
            "a b",
            "a,b",
            "u@a",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%2",
            "a%zz",
            "::1",
            "[::1",
            "[::1]x",
            "[]",
            "[a]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[::1]:80:80",
            "\u{e9}",
            "a\tb",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
