//! What one lane of a route can start from, learnt by another: in this run, or in an earlier one.

use super::Learnt;
use super::round::{Held, Source};
use crate::control::{LimitModel, LimitSource, Memory, MemoryNumber, Rate};

/// The longest window that a memory may have, in seconds: a month.
const WINDOW_SECONDS_MAX: f64 = 31.0 * 86_400.0;

/// The bits of a double that are not its fraction.
const EXPONENT: u64 = 0xfff0_0000_0000_0000;

/// Where the knowledge of a limit began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// In this run.
    Here,
    /// In an earlier run; no refusal has confirmed it yet.
    Earlier,
    /// In the lanes below: what they got through together.
    Below,
}

/// What is known of a route's limit.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Prior {
    pub(super) rate: f64,
    pub(super) starting: bool,
    pub(super) held: Option<Held>,
    pub(super) window: Option<(u32, f64)>,
    pub(super) beginning: Beginning,
}

impl Prior {
    /// What an earlier run learnt; `None` for numbers that no limit has.
    pub(in crate::control) fn remembered(memory: &Memory) -> Option<Self> {
        let seconds_fit = |seconds: f64| seconds > 0.0 && seconds <= WINDOW_SECONDS_MAX;
        let budget_fits = |(requests, seconds): (u32, f64)| requests >= 1 && seconds_fit(seconds);
        let number_fits = |number: MemoryNumber| {
            let rate = number.requests / number.window_seconds;
            seconds_fit(number.window_seconds) && rate > 0.0 && rate <= Rate::FASTEST.get()
        };
        if !memory.budget.is_none_or(budget_fits) || !memory.number.is_none_or(number_fits) {
            return None;
        }
        let rate = memory.pace.get();
        let held = memory.number.map(Held::remembered);
        Some(Self {
            rate,
            starting: memory.is_unmet,
            held,
            window: memory.budget,
            beginning: Beginning::Earlier,
        })
    }

    /// Of a limit above lanes: what they got through together, in requests/s.
    pub(in crate::control) fn of_parts(rate: f64) -> Self {
        Self { rate, starting: false, held: None, window: None, beginning: Beginning::Below }
    }

    /// Of a lane whose refusals were those of a limit above it: its own, if it has one, was not met at `rate`.
    pub(in crate::control) fn unlimited(rate: f64) -> Self {
        Self { rate, starting: true, held: None, window: None, beginning: Beginning::Here }
    }

    /// Fills `memory`.
    pub(in crate::control) fn remember(&self, memory: Memory) -> Memory {
        let number = self.held.map(|held| held.memory());
        // What is asked changes by the minute, and the file shall not: the power of two below is near enough.
        let pace = if self.starting { f64::from_bits(self.rate.to_bits() & EXPONENT) } else { self.rate };
        Memory { pace: Rate::new(pace), is_unmet: self.starting, number, budget: self.window, ..memory }
    }
}

impl Held {
    fn remembered(number: MemoryNumber) -> Self {
        let source = match (number.source, number.model) {
            (LimitSource::Header | LimitSource::Body, _) => Source::Told(number.source),
            (_, LimitModel::Unknown) => Source::Round,
            _ => Source::Fit,
        };
        Self::new(number.requests, number.window_seconds, source)
    }

    fn memory(&self) -> MemoryNumber {
        let (model, source) = match self.source {
            Source::Fit => (LimitModel::FixedWindow, LimitSource::Learnt),
            Source::Round => (LimitModel::Unknown, LimitSource::Learnt),
            Source::Told(source) => (LimitModel::FixedWindow, source),
        };
        MemoryNumber { requests: self.requests, window_seconds: self.window_seconds, model, source }
    }
}

impl Learnt {
    /// What another credential's lane of the same route can start from; nothing before a first refusal taught something,
    /// but the pace that was really used without one.
    pub(in crate::control) fn prior(&self) -> Option<Prior> {
        if self.starting {
            let used =
                self.history.recent(self.advanced_at, self.advanced_at - 5.0).max(self.history.demand());
            let known =
                Prior { rate: used, starting: true, held: None, window: None, beginning: Beginning::Here };
            return (used > self.start_rate).then_some(known);
        }
        let window = self.window.map(|window| (window.stood, window.seconds));
        let beginning = if self.is_remembered() { Beginning::Earlier } else { Beginning::Here };
        Some(Prior { rate: self.base, starting: false, held: self.rounds.held(), window, beginning })
    }

    /// What it believes comes from an earlier run, and no refusal has confirmed it yet.
    pub(super) fn is_remembered(&self) -> bool {
        self.began == Beginning::Earlier && self.episodes == 0
    }
}
