//! What an HTTP/2 peer says first: how many streams it allows at once.
//!
//! # Why
//! hyper knows it only once it has sent a request, and counts on a hundred until then. A burst would be refused by a peer
//! that allows fewer, and each refused request may be sent again only once.

use tokio::sync::oneshot;

/// Looks at the first frame, which has to be the peer's settings (RFC 9113 3.4).
#[derive(Debug)]
pub(in crate::proxy) struct Greeting {
    seen: Vec<u8>,
    tell: Option<oneshot::Sender<Option<u32>>>,
}

impl Greeting {
    /// What looks at the bytes that come, and who is told how many streams the peer allows; `None` if it sets no bound.
    pub(in crate::proxy) fn new() -> (Self, oneshot::Receiver<Option<u32>>) {
        let (tell, told) = oneshot::channel();
        (Self { seen: Vec::new(), tell: Some(tell) }, told)
    }

    /// Looks at the next bytes; true when there is no more to look for.
    pub(super) fn look(&mut self, bytes: &[u8]) -> bool {
        self.seen.extend_from_slice(bytes);
        let Some((head, rest)) = self.seen.split_at_checked(HEAD_BYTES) else { return false };
        let &[high, middle, low, kind, ..] = head else { return true };
        let length = u32::from_be_bytes([0, high, middle, low]);
        // What is no setting is an error, which hyper will tell of.
        if kind != SETTINGS || length > BYTES_MAX {
            return true;
        }
        let Some(settings) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
            return false;
        };
        let mut told = settings.chunks_exact(6).filter_map(|setting| match *setting {
            [0, MAX_CONCURRENT_STREAMS, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        });
        // The last of a kind counts. Nobody listens any more when the request is given up.
        self.tell.take().and_then(|tell| tell.send(told.next_back()).ok());
        true
    }
}

const HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const MAX_CONCURRENT_STREAMS: u8 = 3;

/// Far beyond all settings that there are.
const BYTES_MAX: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `kind` with these settings.
    fn frame(kind: u8, settings: &[(u8, u32)]) -> Vec<u8> {
        let length = u8::try_from(settings.len() * 6).unwrap();
        let mut bytes = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        for (id, value) in settings {
            bytes.extend([0, *id]);
            bytes.extend(value.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_peer_s_bound_is_found_however_the_bytes_come() {
        for (settings, bound) in [
            (&[(3, 7)][..], Some(7)),
            (&[(4, 65_535), (3, 100), (6, 3)], Some(100)),
            (&[(3, 1), (3, 2)], Some(2)),
            (&[(3, 0)], Some(0)),
            (&[(1, 4_096)], None),
            (&[], None),
        ] {
            let mut bytes = frame(4, settings);
            let length = bytes.len();
            bytes.extend(frame(4, &[(3, 9)]));
            for size in [1, 5, 1_000] {
                let (mut greeting, mut told) = Greeting::new();
                let mut parts = bytes.chunks(size);
                let looked: usize =
                    parts.by_ref().map_while(|part| (!greeting.look(part)).then_some(part.len())).sum();
                assert!(looked < length, "it ends with the frame");
                assert_eq!(told.try_recv().unwrap(), bound, "{settings:?} in parts of {size}");
            }
        }
    }

    #[test]
    fn what_is_no_greeting_is_not_looked_at_for_long() {
        for bytes in [&frame(0, &[])[..], b"HTTP/1.1 400 Bad Request", &[0, 255, 255, 4, 0, 0, 0, 0, 0]] {
            let (mut greeting, mut told) = Greeting::new();
            assert!(greeting.look(bytes));
            drop(greeting);
            assert!(told.try_recv().is_err());
        }
    }
}
