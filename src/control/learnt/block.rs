//! Blocks: when a limiter refuses everything for seconds, its budget for a window is gone; what they show of the window.
//!
//! **From one end that was seen to the next** is the window; what was accepted in it until the block, its number.
//!
//! **A first block only bounds both.** It may have begun before the lane did, with part of the budget spent unseen (a
//! restart): if the count is no round number, twice as much is tried at once. Its window may be longer than it, which the
//! shortest that people choose finds out at the cost of one more block; one in which less fitted than in the same time
//! before it is too short. Until a second block, both are a guess.
//!
//! **A window that is known goes on** where a block ends when it has to, or shows at least half of its number: others take
//! some, and the limit moves.
//!
//! Measured in virtual time, 20 phases, refused from 60 s to 300 s, and in all: 12/s and 240 a minute at once 0.37 % and
//! 23 (with the larger count and no known ends 0.92 % and 28); used from 120 s on 99.6 %, worst 93.6 %.

use super::measure::History;
use super::window::{Between, LATE_SECONDS, LENGTHS, LongWindow};

/// A block shorter than this shows no window that was not known, in seconds.
const BLOCK_SECONDS: f64 = 4.0;
/// One shorter than this may be chance: nothing is counted from its end.
const CHANCE_SECONDS: f64 = 2.0;
/// An end is known as well as the trials are apart, or the seconds that a Retry-After is rounded to.
const TRIALS_APART_SECONDS: f64 = 5.5;
const TOLD_WITHIN_SECONDS: f64 = 1.5;
/// Do people choose such a number (or one more)? Half of its leading digit's unit, or so many a second for a minute.
fn is_round(requests: u32) -> bool {
    let half = (10_u32.pow(requests.max(1).ilog10()) / 2).max(1);
    [requests, requests.saturating_add(1)]
        .into_iter()
        .any(|number| number.is_multiple_of(half) || number.is_multiple_of(60))
}

/// One block, from its first refusal to the first request that got through again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) from: f64,
    pub(super) until: f64,
    /// The API said how long to wait (two seconds or more): the budget is known to be gone.
    pub(super) informative: bool,
}

impl Block {
    /// Its end, between the last refusal, at `last_refused`, and what got through.
    fn end(&self, last_refused: f64) -> Between {
        let (from, resolution) = if self.informative {
            (self.from, TOLD_WITHIN_SECONDS)
        } else {
            (last_refused, TRIALS_APART_SECONDS)
        };
        (from.max(self.until - resolution), self.until)
    }

    fn seconds(&self) -> f64 {
        self.until - self.from
    }

    /// What was let in from `from` until it began; `None` for nothing.
    fn counted(&self, history: &History, from: f64) -> Option<u32> {
        let count = history.accepted_in(from - 1e-6, self.from);
        u32::try_from(count).ok().filter(|count| *count >= 1)
    }

    /// What is sure to have been let in by the window of `seconds` that ended at `end`, and what may have been; counted
    /// from `since` on.
    fn counted_in(&self, history: &History, end: Between, seconds: f64, since: f64) -> Option<(u32, u32)> {
        let from = |end: f64| self.counted(history, since.max(end - seconds));
        Some((from(end.1)?, from(end.0)?))
    }
}

/// What blocks have taught of a lane.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// When the last block that taught something ended.
    last_end: Option<Between>,
}

impl Blocks {
    /// A block ended. `refused` are the send times of recent refusals, ascending. Gives the window, if it shows one.
    pub(super) fn ended(
        &mut self,
        block: Block,
        known: Option<LongWindow>,
        history: &History,
        refused: impl DoubleEndedIterator<Item = f64> + Clone,
    ) -> Option<LongWindow> {
        let last_refused = refused.clone().rev().find(|at| *at < block.until).unwrap_or(block.from);
        let end = block.end(last_refused);
        // At its end, a window that is known needs no long block.
        if let Some(old) = known.filter(|old| old.is_exact)
            && let Some(opened) = old.reopened(end)
            && let Some(counts) = block.counted_in(history, opened, old.seconds, f64::NEG_INFINITY)
            && counts.0 >= old.stood / 2
        {
            self.last_end = Some(opened);
            return Some(old.counted(counts, opened));
        }
        if block.seconds() < CHANCE_SECONDS {
            return None;
        }
        let last_end = self.last_end.replace(end);
        let since = last_end.map_or(f64::NEG_INFINITY, |(_, latest)| latest - 1e-6);
        let first = history.first_accepted_from(since).filter(|at| *at <= block.from).unwrap_or(block.from);
        let is_dirty = |at: &f64| *at > first + 0.3 * (block.from - first) && *at < block.from - 0.2;
        let dirty = refused.filter(is_dirty).count();
        let clean = dirty as f64 <= 2.0 + 0.02 * f64::from(block.counted(history, first).unwrap_or(0));
        if !block.informative && (block.seconds() < BLOCK_SECONDS || !clean) {
            return None;
        }
        found(block, end, last_end, first, known, history)
    }
}

/// The window that a block shows which ended at `end`; the one before ended at `last_end`, and `first` was let in since.
fn found(
    block: Block,
    end: Between,
    last_end: Option<Between>,
    first: f64,
    known: Option<LongWindow>,
    history: &History,
) -> Option<LongWindow> {
    let lasted = end.0 - block.from;
    let between = last_end.and_then(|(earliest, latest)| {
        let fits = |length: &f64| *length > end.0 - latest && *length < end.1 - earliest + LATE_SECONDS;
        LENGTHS.into_iter().find(fits)
    });
    let counted = |from: f64| block.counted(history, from);
    let goes_on = known.filter(|old| lasted <= old.seconds);
    let is_plausible = |old: &LongWindow| counted(end.0 - old.seconds) >= Some(old.stood / 2);
    let seconds = goes_on.filter(is_plausible).map(|old| old.seconds).or(between);
    if let (None, Some(old)) = (seconds, goes_on) {
        return Some(old.opened_at(end));
    }
    if let Some(old) = known.filter(|old| seconds.is_some_and(|seconds| (old.seconds - seconds).abs() < 1e-9))
    {
        return Some(old.counted(block.counted_in(history, end, old.seconds, first)?, end));
    }
    let (seconds, from) = seconds.map_or_else(|| shortest(block, end, history), |seconds| (seconds, end.0));
    let requests = counted(first.max(from - seconds))?;
    let window = LongWindow::new(requests, seconds, end.1).opened_at(end);
    // Begun before the lane was, some of its budget may have been spent unseen.
    let is_part = first > block.until - seconds && !is_round(requests);
    Some(if between.is_some() { window } else { window.bounded(end.1, is_part) })
}

/// The shortest window that may have had the block, and the moment from whose distance its requests are counted.
fn shortest(block: Block, end: Between, history: &History) -> (f64, f64) {
    let lasted = end.0 - block.from;
    let counted = |from: f64| block.counted(history, from).unwrap_or(0);
    // It has room for half of what fitted in any other time as long.
    let has_room = |length: f64| counted(end.0 - length).saturating_mul(2) >= counted(block.from - length);
    let fits = |length: &f64| *length >= lasted && has_room(*length);
    let seconds = LENGTHS.into_iter().find(fits).unwrap_or(3600.0);
    // A block that is not most of its window may be that of a longer one: no less than what fitted before it.
    (seconds, if lasted < 0.5 * seconds { block.from } else { end.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::law::Answer;

    /// `count` accepted requests, evenly in `[from, until)`.
    fn accepted(history: &mut History, count: u32, from: f64, until: f64) {
        for n in 0..count {
            let at = from + (until - from) * f64::from(n) / f64::from(count);
            let stamp = history.sent(at);
            history.answered(at, stamp, Answer::Accepted);
            assert!(history.commit(at).is_some());
        }
    }

    #[test]
    fn a_block_from_the_first_request_on_shows_the_window() {
        let mut history = History::default();
        accepted(&mut history, 300, 0.0, 6.0);
        let block = Block { from: 6.0, until: 60.2, informative: true };
        let found = Blocks::default().ended(block, None, &history, std::iter::empty()).unwrap();
        assert_eq!((found.requests, found.seconds), (300, 60.0));
    }

    #[test]
    fn a_second_block_corrects_what_the_first_guessed_in_mid_window() {
        let mut history = History::default();
        let mut blocks = Blocks::default();
        accepted(&mut history, 300, 0.0, 12.0);
        // The window had begun before: its end comes after 8 s.
        let block = Block { from: 12.0, until: 20.0, informative: false };
        let guess = blocks.ended(block, None, &history, std::iter::empty());
        assert!(guess.is_some_and(|guess| guess.seconds < 60.0));
        accepted(&mut history, 300, 20.0, 40.0);
        let block = Block { from: 40.0, until: 81.0, informative: false };
        let found = blocks.ended(block, guess, &history, std::iter::empty()).unwrap();
        assert_eq!((found.requests, found.seconds), (300, 60.0));
    }

    fn block(from: f64, until: f64) -> Block {
        Block { from, until, informative: false }
    }

    #[test]
    fn of_two_windows_the_one_that_was_spent_is_counted() {
        let (mut history, mut blocks) = (History::default(), Blocks::default());
        // A window ends at 30 s; the lane meets the end of the next one's budget only.
        accepted(&mut history, 500, 0.0, 50.0);
        let first = blocks.ended(block(50.0, 90.0), None, &history, std::iter::empty());
        assert_eq!(first.map(|window| window.requests), Some(255), "what may have been let in by 60 s");
        accepted(&mut history, 300, 90.0, 120.0);
        let second = blocks.ended(block(120.0, 150.0), first, &history, std::iter::empty());
        assert_eq!(second.map(|window| (window.requests, window.seconds)), Some((300, 60.0)));
    }

    #[test]
    fn a_short_block_shows_nothing() {
        let mut history = History::default();
        accepted(&mut history, 10, 0.0, 1.0);
        let block = Block { from: 1.0, until: 3.9, informative: false };
        assert_eq!(Blocks::default().ended(block, None, &history, std::iter::empty()), None);
    }

    #[test]
    fn of_a_window_that_others_had_begun_twice_as_much_is_tried_at_once() {
        let part = |count| {
            let mut history = History::default();
            accepted(&mut history, count, 0.0, 4.0);
            let found =
                Blocks::default().ended(block(4.0, 29.0), None, &history, std::iter::once(25.0)).unwrap();
            assert!((found.seconds - 30.0).abs() < 1e-9);
            found.requests
        };
        assert_eq!(part(211), 422);
        assert_eq!(part(300), 300, "a number that people choose is no part");
    }

    #[test]
    fn a_known_window_is_counted_at_its_end_however_short_the_block() {
        let (mut history, mut blocks) = (History::default(), Blocks::default());
        let known = LongWindow::new(300, 60.0, 10.0).opened_at((9.5, 10.0));
        accepted(&mut history, 280, 10.0, 69.0);
        let found = blocks.ended(block(69.0, 70.1), Some(known), &history, std::iter::once(69.8));
        assert_eq!(found.map(|window| (window.requests, window.opened)), Some((300, Some((69.8, 70.0)))));
    }

    #[test]
    fn a_window_that_held_less_than_the_time_before_is_too_short() {
        let (mut history, mut blocks) = (History::default(), Blocks::default());
        // 12 a second and 240 a minute, whose window began at 12 s.
        accepted(&mut history, 384, 0.0, 32.0);
        let found = blocks.ended(block(32.0, 72.0), None, &history, std::iter::once(69.0)).unwrap();
        assert_eq!(
            (found.requests, found.seconds),
            (276, 60.0),
            "three seconds too many, for the next to count"
        );
    }
}
