//! A limit that other proxies share, unseen: each takes part of it, and none may stand at a number.
//!
//! What gets through here is not the limit but a share of it, so there is nothing to measure: an incumbent that stood at
//! its measure would leave newcomers nothing. Instead, the shares become equal by themselves (Chiu and Jain, 1989) where
//! everyone yields in proportion and grows alike: a tenth less for each episode of refusals; growth that is sublinear,
//! so that the larger share is refused for more of what it takes, and slow enough at small paces that refusals stay few.
//!
//! Measured in virtual time, a window of 40 a second, four proxies that start 5 s apart, from 60 s to 240 s, medians of
//! eight runs: 96.6 % used, 1.7 % refused, Jain's index 0.994 (worst 0.966); without this, 97.9 %, 1.1 % and 0.892
//! (worst 0.725).
//!
//! Growth by the pace's square is not the model's: without it, shares of 1 a second were refused for 22 % of their
//! requests, with it for 5 %. Nor is a pace from what was got of a spent window: whoever went fastest took all of it.

use super::Learnt;
use super::block::Block;

/// Refusals this close together are one episode.
const EPISODE_SECONDS: f64 = 0.8;
/// What an episode leaves of the pace.
const YIELD: f64 = 0.9;
/// Growth in requests/s each second is the least of these times the pace's root, the pace, and its square: a tenth is
/// regained in 3 s at the soonest, and in 20 requests.
const BY_ROOT: f64 = 0.06;
const BY_PACE: f64 = 0.03;
const BY_SQUARE: f64 = 0.005;
/// A newcomer whose first request is refused goes on at this share of the pace it started with.
const NEWCOMER: f64 = 0.5;
/// So long without anything let through is the rest of a window, in seconds.
const BLOCK_SECONDS: f64 = 10.0;
/// So many spent windows, one after the other within so many seconds, are no accident.
const WINDOWS: u32 = 2;
const LONGEST_SECONDS: f64 = 300.0;
/// A window that is spent by others leaves as much as this share of it.
const LEFT_OUT: f64 = 0.25;

/// What is remembered of windows that were spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contended {
    /// When the last one ended, and how many followed on one another.
    freed_at: f64,
    spent_windows: u32,
}

impl Contended {
    pub(super) fn new(now: f64) -> Self {
        Self { freed_at: now, spent_windows: 0 }
    }
}

impl Learnt {
    /// The pace grows by `elapsed` seconds in which something waited.
    pub(super) fn grow_contended(&mut self, elapsed: f64) {
        let pace = self.rate;
        let by_root = BY_ROOT * pace.sqrt();
        // Where a window is spent there is one episode a window, however fast the pace grows within.
        let a_second = if self.contended.is_some_and(|contended| contended.spent_windows >= WINDOWS) {
            by_root
        } else {
            by_root.min(BY_PACE * pace).min(BY_SQUARE * pace * pace)
        };
        self.rate += a_second * elapsed;
        // No probes: nothing is known that one would go beyond.
        self.base = self.rate;
    }

    /// The least pace, in requests/s, that the start can end at: the others' requests are refused as often.
    pub(super) fn least_contended(&self) -> f64 {
        NEWCOMER * self.start_rate
    }

    /// A long time without anything let through ended: a window was spent, and the pace is what was got of it.
    pub(super) fn block_ended_contended(&mut self, block: Block) {
        if block.until - block.from < BLOCK_SECONDS {
            return;
        }
        let Some(contended) = &mut self.contended else { return };
        let from = std::mem::replace(&mut contended.freed_at, block.until);
        let seconds = block.until - from;
        contended.spent_windows = if seconds < LONGEST_SECONDS { contended.spent_windows + 1 } else { 1 };
        let got = self.history.accepted_in(from, block.until) as f64 / seconds.max(1.0);
        self.rate = self.rate.min(got.max(LEFT_OUT * self.start_rate));
        self.base = self.rate;
        self.peak = self.rate;
        self.starting = false;
    }

    /// A refusal of a request that was sent at `at`.
    pub(super) fn episode_contended(&mut self, at: f64) {
        if at - self.episode_at >= EPISODE_SECONDS {
            self.rate *= YIELD;
            self.base = self.rate;
            self.peak = self.rate;
            self.episode_at = at;
            self.episodes = self.episodes.saturating_add(1);
        }
        self.refused_at = at;
    }
}

#[cfg(test)]
mod tests {
    use crate::control::law::Answer;
    use crate::control::learnt::Learnt;
    use crate::control::settings::LawSettings;

    const REFUSED: Answer = Answer::Refused { retry_after: Some(1.0) };

    fn settings() -> LawSettings {
        LawSettings { shared: true, ..LawSettings::default() }
    }

    /// One departure at `now`, answered at once.
    fn exchange(law: &mut Learnt, now: f64, answer: Answer) {
        law.rate(now, 5);
        let stamp = law.sent(now);
        law.settle(now, stamp, answer);
    }

    /// Something waits and gets through for so many seconds, ten times a second.
    fn passes(law: &mut Learnt, from: f64, seconds: u32) -> f64 {
        (1..=10 * seconds).fold(from, |_, tick| {
            let now = from + f64::from(tick) * 0.1;
            exchange(law, now, Answer::Accepted);
            now
        })
    }

    #[test]
    fn an_episode_of_refusals_yields_a_tenth_once() {
        let mut law = Learnt::new(&settings(), None, 0.0);
        exchange(&mut law, 0.0, REFUSED);
        let now = passes(&mut law, 0.0, 30);
        let before = law.current_rate();
        for n in 0..5 {
            exchange(&mut law, now + 0.1 * f64::from(n), REFUSED);
        }
        let after = law.current_rate();
        assert!((after / before - 0.9).abs() < 0.01, "{before} {after}");
    }

    #[test]
    fn the_larger_share_grows_by_less_of_itself_and_nothing_is_probed() {
        let growth = |pace: f64| {
            let mut law = Learnt::new(&settings(), None, 0.0);
            exchange(&mut law, 0.0, REFUSED);
            law.rate = pace;
            let now = passes(&mut law, 0.0, 1);
            let from = law.current_rate();
            passes(&mut law, now, 10);
            assert!(!law.probes() && !law.tries());
            law.current_rate() / from
        };
        assert!(growth(9.0) > growth(20.0) && growth(20.0) > growth(100.0));
        assert!(growth(1.0) < growth(9.0), "a small pace is refused for more of its requests");
    }

    #[test]
    fn no_number_is_stood_at_whoever_says_it() {
        let mut law = Learnt::new(&settings(), None, 0.0);
        exchange(&mut law, 0.0, REFUSED);
        let before = law.believes();
        law.told(1.0, 40, 1.0, crate::control::LimitSource::Body);
        law.told(1.0, 300, 60.0, crate::control::LimitSource::Body);
        assert_eq!(law.believes(), before);
    }

    #[test]
    fn a_newcomer_is_not_kept_out_by_its_first_refusal() {
        let mut law = Learnt::new(&settings(), None, 0.0);
        exchange(&mut law, 0.0, REFUSED);
        assert!((law.current_rate() - 2.0).abs() < 1e-9);
    }
}
