//! What others spend of an announced budget, seen in the counts; and a fair share of what is left.
//!
//! What a counter grew by beyond our own requests is somebody else's. Simply leaving that to them would freeze
//! whatever split there is; so the pace follows `x' = 0.3 (R - x - others) - 0.06 x`, where `R` is the even pace of
//! what remains. Every sharer that does so settles at the same `x`; what the leak gives away comes back as `R` grows
//! towards the window's end (the split of efficiency from fairness is XCP's, Katabi et al. 2002).

use std::collections::VecDeque;

/// How quickly the pace follows what is left, and how much of itself it gives away, each a second.
const FOLLOW: f64 = 0.3;
const LEAK: f64 = 0.06;
/// Counts may be seen out of order by so much: no sign of anybody.
const NOISE: f64 = 1.0;
/// A rate is measured over at least this long, in seconds.
const SPAN_MIN: f64 = 0.5;
/// A window that lasted this long says something of the next; it counts as so many seconds of it.
const SPAN_KNOWN: f64 = 5.0;
const REMEMBERED: f64 = 20.0;
/// In the first window, a rate that is to be relied on is measured over at least this share of it, if that is less.
const SETTLED_SHARE: f64 = 0.3;
const OWN_MAX: usize = 20_000;

/// The others' part of one ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Others {
    /// The first count of this window, and when its request was sent.
    base: Option<(f64, u32)>,
    /// Our accepted requests since, by send time.
    own: VecDeque<f64>,
    /// What others spend, in requests/s; and as it was known before this window.
    rate: f64,
    before: Option<f64>,
    /// What they spend as far as clients may be told of it.
    settled: f64,
    /// The fair pace, and when it was brought forward.
    share: Option<f64>,
    shared_at: f64,
    /// Requests that may leave at once: counts may be seen out of order by so many more.
    at_once: f64,
}

impl Others {
    /// Nobody is known; of ours, `at_once` may leave together.
    pub(super) fn beside(at_once: u32) -> Self {
        Self { at_once: f64::from(at_once), ..Self::default() }
    }

    /// One of ours, sent at `sent_at`, was counted.
    pub(super) fn counted(&mut self, sent_at: f64) {
        while self.own.len() >= OWN_MAX {
            self.own.pop_front();
        }
        let at = self.own.partition_point(|earlier| *earlier <= sent_at);
        self.own.insert(at, sent_at);
    }

    /// The counter of a new window was first seen, as `used`, by a request sent at `sent_at`.
    pub(super) fn window(&mut self, sent_at: f64, used: u32) {
        let lasted = self.base.map_or(0.0, |(from, _)| sent_at - from);
        if lasted >= SPAN_KNOWN {
            self.before = Some(self.rate);
        }
        self.base = Some((sent_at, used));
    }

    /// The counter of a window of `seconds` said `used` to a request sent at `sent_at`; `flying` requests sent before it
    /// are not answered yet.
    pub(super) fn read(&mut self, sent_at: f64, used: u32, flying: usize, seconds: f64) {
        let Some((from, first)) = self.base else { return self.window(sent_at, used) };
        let span = sent_at - from;
        if span < SPAN_MIN {
            return;
        }
        let own = (self.own_in(from, sent_at) + flying) as f64;
        let foreign = (f64::from(used) - f64::from(first) - own - NOISE.max(self.at_once)).max(0.0);
        // This window's average, in which what was known before it counts like so many seconds more.
        self.rate = match self.before {
            Some(before) => (before * REMEMBERED + foreign) / (REMEMBERED + span),
            None => foreign / span,
        };
        // A burst is no rate: what is known for a moment only is spread over what a rate has to be known for.
        self.settled = match self.before {
            Some(_) => self.rate,
            None => foreign / span.max(REMEMBERED.min(SETTLED_SHARE * seconds)),
        };
    }

    /// The counter of the last `seconds` said `used` to a request sent at `sent_at`.
    pub(super) fn read_sliding(&mut self, sent_at: f64, used: u32, flying: usize, seconds: f64) {
        let own = (self.own_in(sent_at - seconds, sent_at) + flying) as f64;
        let foreign = (f64::from(used) - own - NOISE.max(self.at_once)).max(0.0);
        self.rate += 0.05 * (foreign / seconds - self.rate);
        self.settled = self.rate;
    }

    /// How many of ours were let in that left in `(after, until]`.
    pub(super) fn let_in(&self, after: f64, until: f64) -> usize {
        self.own_in(after, until)
    }

    fn own_in(&self, after: f64, until: f64) -> usize {
        let upto = |limit: f64| self.own.partition_point(|sent| *sent <= limit);
        upto(until).saturating_sub(upto(after))
    }

    /// What others spend, in requests/s.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// As [`Others::rate`], of more than a burst: what waits can be foretold by.
    pub(super) fn settled(&self) -> f64 {
        self.settled
    }

    /// Our share as it was last brought forward.
    pub(super) fn last_share(&self) -> Option<f64> {
        self.share
    }

    /// What we got through in the `seconds` up to our last, a whole window as a rule, in requests/s.
    pub(super) fn own_rate(&self, seconds: f64) -> f64 {
        let Some(last) = self.own.back() else { return 0.0 };
        self.own_in(last - seconds, *last) as f64 / seconds
    }

    /// Our share at `now` of `even`, the even pace of all that is left.
    pub(super) fn share(&mut self, now: f64, even: f64) -> f64 {
        let elapsed = (now - self.shared_at).clamp(0.0, 1.0);
        self.shared_at = now;
        let left = (even - self.rate).max(0.0);
        let share = self.share.unwrap_or(0.8 * left);
        let share = share + elapsed * (FOLLOW * (left - share) - LEAK * share);
        let share = share.clamp(0.02 * even, even);
        self.share = Some(share);
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute in which we send `ours` a second and others `theirs`, read at each of our answers.
    fn minute(others: &mut Others, ours: f64, theirs: f64) {
        let mut theirs_counted = 0;
        for own in 1.. {
            let at = f64::from(own - 1) / ours;
            if at > 60.0 {
                break;
            }
            while f64::from(theirs_counted + 1) <= theirs * at {
                theirs_counted += 1;
            }
            let used = own + theirs_counted;
            if own == 1 {
                others.window(at, used);
            } else {
                others.read(at, used, 0, 60.0);
            }
            others.counted(at);
        }
    }

    #[test]
    fn what_a_counter_grew_by_beyond_our_own_is_somebody_else_s() {
        let mut others = Others::default();
        minute(&mut others, 3.5, 1.5);
        assert!((others.rate() - 1.5).abs() < 0.1, "{}", others.rate());
        let mut nobody = Others::default();
        minute(&mut nobody, 5.0, 0.0);
        assert!(nobody.rate() < 1e-9);
    }

    #[test]
    fn two_who_share_settle_at_the_same_pace() {
        // Each sees the other; one starts with nearly everything.
        let (mut first, mut second) = (4.5, 0.2);
        let mut sides = [Others::default(), Others::default()];
        sides[0].share = Some(first);
        sides[1].share = Some(second);
        for step in 1..1_000_u32 {
            let now = 0.1 * f64::from(step);
            sides[0].rate = second;
            sides[1].rate = first;
            first = sides[0].share(now, 5.0);
            second = sides[1].share(now, 5.0);
        }
        assert!((first - second).abs() < 0.15 * first, "{first} {second}");
        assert!(first + second > 4.0, "{first} {second}");
    }
}
