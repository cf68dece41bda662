//! Does a client take its answers, and how fast? One rule for what waits in our memory and in the kernel's. No I/O.
//!
//! # The rule
//! Of what waits at one moment, all has been taken `write_stall` later, or as much as `write_rate_min` makes in that time;
//! else the client has stalled. So whoever has taken everything in time is never measured, however little there was to
//! take, and whoever has megabytes waiting is not cut as long as they go away fast enough.
//!
//! It is looked at six times in a `write_stall`, and the time begins anew when enough has been taken: so a client that
//! stops is cut a sixth later at most.
//!
//! # Why not `TCP_USER_TIMEOUT`
//! The kernel can end such connections too, but it forgets that a client goes on as long as its window stays smaller than
//! what waits: with 10 s, 20 of 20 clients that read 4 kB/s of 100 kB were cut after 12 s. It serves where the kernel does
//! not tell what it holds.

mod untaken;

pub(super) use untaken::{Ends, is_known};

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
    /// When it was last looked at.
    looked: Instant,
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
            self.mark = Some(Mark::new(now(), given, self.taken));
        }
    }

    /// When to look at it.
    pub(super) fn due(&self, least: Least) -> Option<Instant> {
        self.mark.as_ref().map(|mark| mark.looked + least.time / LOOKS)
    }

    /// Looks: of `given` bytes, so many are `untaken`.
    pub(super) fn look(&mut self, now: Instant, given: u64, untaken: u64, least: Least) -> Takes {
        let taken = given.saturating_sub(untaken);
        if untaken == 0 {
            (self.mark, self.taken) = (None, given);
            return Takes::All;
        }
        match &mut self.mark {
            Some(mark) if taken < mark.given && taken.saturating_sub(mark.taken) < least.bytes => {
                if now >= mark.since + least.time {
                    return Takes::TooLittle;
                }
                mark.looked = now;
            }
            mark => {
                self.taken = taken;
                *mark = Some(Mark::new(now, given, taken));
            }
        }
        Takes::Some
    }
}

impl Mark {
    fn new(now: Instant, given: u64, taken: u64) -> Self {
        Self { since: now, looked: now, given, taken }
    }
}

/// In the time in which a client has to take enough.
const LOOKS: u32 = 6;

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
            (10, 10, 9, Some(315)),
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
        taking.gives(|| at(4), 200);
        assert_eq!(taking.due(LEAST), Some(at(5)));
        assert_eq!(
            taking.look(at(5), 200, 101, LEAST),
            Takes::Some,
            "one of the first hundred is still there"
        );
        assert_eq!(taking.look(at(10), 200, 100, LEAST), Takes::Some, "and has gone");
        assert_eq!(taking.due(LEAST), Some(at(15)));
        assert_eq!(taking.look(at(39), 200, 1, LEAST), Takes::Some);
        assert_eq!(taking.look(at(40), 200, 1, LEAST), Takes::TooLittle);
        assert_eq!(taking.look(at(40), 200, 0, LEAST), Takes::All);
        assert_eq!(taking.due(LEAST), None);
        taking.gives(|| at(70), 200);
        assert_eq!(taking.due(LEAST), None, "nothing new was given");
    }

    #[test]
    fn what_its_buffer_takes_at_once_does_not_count_for_long() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut taking = Taking::default();
        taking.gives(|| at(0), 1_000_000);
        for seconds in [5, 10, 30, 34] {
            assert_eq!(taking.look(at(seconds), 1_000_000, 900_000, LEAST), Takes::Some);
        }
        assert_eq!(taking.look(at(35), 1_000_000, 900_000, LEAST), Takes::TooLittle);
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
