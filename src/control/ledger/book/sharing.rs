//! What a budget comes to that others spend too.

use super::Book;

/// With others, shares are uneven for so many windows after the start, and for so long at most.
const SETTLING_WINDOWS: f64 = 1.5;
const SETTLING_SECONDS_MAX: f64 = 180.0;
impl Book {
    /// The pace that it sets over windows to come, in requests/s; beside others it is known by what they leave of the even
    /// one, by the share that was settled on, and by what we got through in a whole window. Each of them is low at times: at
    /// a burst of theirs, in a window that is nearly spent, after a time without demand.
    pub(in crate::control::ledger) fn pace(&self) -> f64 {
        let even = self.even() - self.reserve / self.seconds();
        if self.others() <= 0.0 {
            return even;
        }
        let left = even - self.others.settled();
        let own = self.others.own_rate(self.seconds());
        left.max(own).max(self.others.last_share().unwrap_or(0.0)).min(even)
    }

    /// Beside others, shares come to be even in a window or so: before that, nothing can be foretold from the pace.
    pub(in crate::control::ledger) fn is_settling(&self) -> bool {
        let seen_for = self.told_at - self.first_at;
        self.others() > 0.0 && seen_for < (SETTLING_WINDOWS * self.seconds()).min(SETTLING_SECONDS_MAX)
    }
}
