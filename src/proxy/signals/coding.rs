//! A refusal's body as it was before it was compressed: APIs compress even short ones for clients that say they can read
//! it, and what the body tells would be missed.

use crate::proxy::fields::{Fields, text};
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header::CONTENT_ENCODING;
use std::borrow::Cow;
use std::io::Read;

/// `body` without its content coding, up to [`PLAIN_BYTES_MAX`]: what comes after is left out, as is what is broken.
/// `None` for a coding that is not known here (RFC 9110 8.4.1), or several.
pub(super) fn plain<'a>(fields: &Fields, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut lines = fields.all(&CONTENT_ENCODING);
    let Some(coding) = lines.next() else { return Some(Cow::Borrowed(body)) };
    if lines.next().is_some() {
        return None;
    }
    let coding = text(coding).unwrap_or_default().trim();
    let is = |name: &str| coding.eq_ignore_ascii_case(name);
    if is("identity") {
        Some(Cow::Borrowed(body))
    } else if is("gzip") || is("x-gzip") {
        Some(Cow::Owned(beginning(GzDecoder::new(body))))
    } else if is("deflate") {
        Some(Cow::Owned(beginning(ZlibDecoder::new(body))))
    } else {
        None
    }
}

fn beginning(coded: impl Read) -> Vec<u8> {
    let mut plain = Vec::new();
    // An error ends it: what came before is there.
    coded.take(PLAIN_BYTES_MAX).read_to_end(&mut plain).ok();
    plain
}

/// A short body may claim to be a very long one.
const PLAIN_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(codings: &[&str], body: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields::default();
        for coding in codings {
            fields.append(&CONTENT_ENCODING, coding.as_bytes());
        }
        plain(&fields, body).map(Cow::into_owned)
    }

    #[test]
    fn known_codings_are_taken_off() {
        let text = b"Rate limit exceeded".as_slice();
        for (codings, body) in [
            (&[][..], text.to_vec()),
            (&["identity"], text.to_vec()),
            (&["gzip"], gzip(text)),
            (&[" X-GZip"], gzip(text)),
            (&["deflate"], deflate(text)),
        ] {
            assert_eq!(read(codings, &body).unwrap(), text, "{codings:?}");
        }
        for codings in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &[""]] {
            assert_eq!(read(codings, &gzip(text)), None, "{codings:?}");
        }
    }

    #[test]
    fn what_is_broken_or_huge_is_read_as_far_as_it_goes() {
        assert_eq!(read(&["gzip"], b"not gzip").unwrap(), b"");
        let bomb = gzip(&vec![b'a'; 10_000_000]);
        assert!(bomb.len() < 64 * 1024);
        assert_eq!(read(&["gzip"], &bomb).unwrap().len(), 64 * 1024);
        let whole = gzip(&b"a limit ".repeat(2_000));
        let cut = read(&["gzip"], whole.get(..whole.len() - 10).unwrap()).unwrap();
        assert!(cut.starts_with(b"a limit "));
    }
}
