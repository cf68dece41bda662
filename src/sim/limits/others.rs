//! Whoever else spends the same budget: unseen by the client, felt in counts and refusals.

use crate::control::Rate;

/// A tenant whose requests come evenly, the first at 0 seconds.
#[derive(Clone, Debug)]
pub(super) struct Others {
    rate: Rate,
    /// What has come of its requests so far.
    pub(super) count: OthersCount,
}

/// What came of the unseen tenant's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OthersCount {
    /// Let in: they are spent of the budget.
    pub accepted: u64,
    /// Refused.
    pub refused: u64,
}

impl Others {
    /// A tenant that asks so often.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, count: OthersCount::default() }
    }

    /// When it asks next. A product, not a sum: no error grows.
    pub(super) fn next(&self) -> f64 {
        (self.count.accepted + self.count.refused) as f64 / self.rate.get()
    }
}
