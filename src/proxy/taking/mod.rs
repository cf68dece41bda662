//! Does a client take its answers, and how fast? One rule for what waits in our memory and in the kernel's. No I/O.
//!
//! # The rule
//! Of what waits at one moment, all has been taken `write_stall` later, or as much as `write_rate_min` makes in that time;
//! else the client has stalled. So whoever has taken everything in time is never measured, however little there was to
//! take, and whoever has megabytes waiting is not cut as long as they go away fast enough.
//!
//! Looked at once in a `write_stall`, a client that stops is found out within two of them. On Linux the kernel itself
//! ends after one what takes nothing at all (`TCP_USER_TIMEOUT`). Sixty clients of `slowhttptest -X -k 10` (ten small
//! answers each, 5 bytes/s read) are gone after one `write_stall`; before, the kernel held their answers for as long as
//! they liked, and their connections for `keep_alive_idle`.

mod untaken;

pub(super) use untaken::Ends;

use crate::config::ProxySettings;
use std::time::{Duration, Instant};

/// What a client has been given and what it took of it, in bytes since its connection began.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// None while all that was there when it was last looked has been taken.
    mark: Option<Mark>,
    /// It took at least so much.
    taken: u64,
}

/// What waited at a moment.
#[derive(Debug)]
struct Mark {
    since: Instant,
    /// It ended there.
    given: u64,
    /// It began there.
    taken: u64,
}

/// What [`Taking::look`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// There is nothing to take.
    All,
    /// Something waits, and not for too long.
    Some,
    /// It does not take what there is.
    TooLittle,
}

/// What a client takes at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    time: Duration,
    bytes: u64,
}

impl Least {
    pub(super) fn new(settings: &ProxySettings) -> Self {
        let time = settings.write_stall;
        let bytes = time.as_secs_f64() * f64::from(settings.write_rate_min);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a day's bytes at most")]
        Self { time, bytes: (bytes as u64).max(1) }
    }
}

impl Taking {
    /// So many bytes have been given by now.
    pub(super) fn gives(&mut self, now: impl FnOnce() -> Instant, given: u64) {
        if self.mark.is_none() && given > self.taken {
            self.mark = Some(Mark { since: now(), given, taken: self.taken });
        }
    }

    /// When to look at it.
    pub(super) fn due(&self, least: Least) -> Option<Instant> {
        self.mark.as_ref().map(|mark| mark.since + least.time)
    }

    /// Looks: of `given` bytes, so many are `untaken`.
    pub(super) fn look(&mut self, now: Instant, given: u64, untaken: u64, least: Least) -> Takes {
        let taken = given.saturating_sub(untaken);
        if untaken == 0 {
            (self.mark, self.taken) = (None, given);
            return Takes::All;
        }
        match &self.mark {
            Some(mark) if now < mark.since + least.time => return Takes::Some,
            Some(mark) if taken < mark.given && taken.saturating_sub(mark.taken) < least.bytes => {
                return Takes::TooLittle;
            }
            _ => (),
        }
        self.taken = taken;
        self.mark = Some(Mark { since: now, given, taken });
        Takes::Some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::clock;

    const LEAST: Least = Least { time: Duration::from_secs(30), bytes: 15_000 };

    /// When a client that takes so many bytes each second, of `given` at once and then `more` each second, is cut.
    fn cut(given: u64, more: u64, takes: u64) -> Option<u64> {
        let start = clock::now();
        let (mut taking, mut given, mut gone) = (Taking::default(), given, 0);
        taking.gives(|| start, given);
        for second in 1..=600 {
            let now = start + Duration::from_secs(second);
            given += more;
            gone = given.min(gone + takes);
            taking.gives(|| now, given);
            if taking.due(LEAST).is_some_and(|due| due <= now)
                && taking.look(now, given, given - gone, LEAST) == Takes::TooLittle
            {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn who_takes_nothing_or_a_trickle_is_cut_and_nobody_else() {
        for (given, more, takes, expected) in [
            (1, 0, 0, Some(30)),
            (1_000_000, 0, 499, Some(30)),
            (1_000_000, 0, 500, None),
            (4_000, 0, 200, None),
            (4_000, 0, 100, Some(30)),
            // A stream of a few bytes a second is taken as it comes, or it is not.
            (10, 10, 10, None),
            (10, 10, 9, Some(300)),
            (1_000, 10, 10, Some(30)),
        ] {
            assert_eq!(cut(given, more, takes), expected, "{given} + {more}/s, {takes}/s taken");
        }
    }

    #[test]
    fn what_comes_after_a_mark_has_its_own_time() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut taking = Taking::default();
        taking.gives(|| at(0), 100);
        assert_eq!(taking.due(LEAST), Some(at(30)));
        taking.gives(|| at(29), 200);
        assert_eq!(taking.look(at(30), 200, 100, LEAST), Takes::Some, "the first hundred were taken");
        assert_eq!(taking.due(LEAST), Some(at(60)));
        assert_eq!(taking.look(at(40), 200, 100, LEAST), Takes::Some);
        assert_eq!(taking.look(at(60), 200, 99, LEAST), Takes::TooLittle);
        assert_eq!(taking.look(at(60), 200, 0, LEAST), Takes::All);
        assert_eq!(taking.due(LEAST), None);
        taking.gives(|| at(70), 200);
        assert_eq!(taking.due(LEAST), None, "nothing new was given");
    }

    #[test]
    fn without_a_rate_one_byte_is_enough() {
        let settings = ProxySettings { write_rate_min: 0, ..ProxySettings::default() };
        let least = Least::new(&settings);
        let start = clock::now();
        let mut taking = Taking::default();
        taking.gives(|| start, 100);
        assert_eq!(taking.look(start + least.time, 100, 99, least), Takes::Some);
        assert_eq!(taking.look(start + least.time * 2, 100, 99, least), Takes::TooLittle);
    }
}
