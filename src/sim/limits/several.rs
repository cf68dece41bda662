//! Several limits over the same requests: who says no, who else spends of them, and how they move.

use super::announced::Announced;
use super::limiter::Limiter;
use super::others::{Others, OthersCount};
use crate::control::{Quota, Rate};
use std::collections::VecDeque;

/// Several limits over the same requests: all must admit, and a request is counted by all or by none.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    limiters: Vec<Limiter>,
    others: Option<Others>,
    /// Those that are still to come, the next one first.
    changes: VecDeque<Change>,
}

/// A limit that moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// When, in seconds.
    pub at_seconds: f64,
    /// What the first limit allows from then on.
    pub quota: Quota,
}

/// Which limit said no.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refused {
    /// Its place in the list of limits. If several said no, the one that will do so longest.
    pub index: usize,
    /// What it says of the time to wait, as [`Limiter::reset_seconds`].
    pub reset_seconds: f64,
    /// What it allows.
    pub quota: Quota,
}

impl Limits {
    /// Limits that all must admit; none at all admits everything.
    pub fn new(limiters: Vec<Limiter>) -> Self {
        Self { limiters, ..Self::default() }
    }

    /// The same, shared with an unseen tenant that asks evenly at `rate`, the first time at 0 seconds. Its requests
    /// are over at once.
    #[must_use]
    pub fn with_others(mut self, rate: Rate) -> Self {
        self.others = Some(Others::new(rate));
        self
    }

    /// The same, with a first limit that moves.
    #[must_use]
    pub fn with_changes(mut self, mut changes: Vec<Change>) -> Self {
        changes.sort_by(|one, other| one.at_seconds.total_cmp(&other.at_seconds));
        self.changes = changes.into();
        self
    }

    /// Counts a request at `now` if every limit admits it.
    ///
    /// # Errors
    /// The limit that refuses; then no limit has counted the request.
    pub fn admit(&mut self, now: f64) -> Result<(), Refused> {
        self.advance(now);
        self.ask(now)
    }

    /// A request that was admitted is over; see [`Limiter::release`].
    pub fn release(&mut self) {
        self.limiters.iter_mut().for_each(Limiter::release);
    }

    /// What the limits would announce at `now`, in their order; asked after [`Limits::admit`], the request counts.
    pub fn announced(&mut self, now: f64) -> Vec<Announced> {
        self.advance(now);
        self.limiters.iter_mut().map(|limiter| limiter.announced(now)).collect()
    }

    /// What the unseen tenant's requests came to until `now`; zeroes without one.
    pub fn others(&mut self, now: f64) -> OthersCount {
        self.advance(now);
        self.others.as_ref().map_or_else(OthersCount::default, |others| others.count)
    }

    /// The limit at `index`, to change what it allows.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Limiter> {
        self.limiters.get_mut(index)
    }

    fn ask(&mut self, now: f64) -> Result<(), Refused> {
        let mut refused: Option<Refused> = None;
        for (index, limiter) in self.limiters.iter_mut().enumerate() {
            if limiter.admits(now) {
                continue;
            }
            let reset_seconds = limiter.reset_seconds(now);
            if refused.is_none_or(|other| reset_seconds > other.reset_seconds) {
                refused = Some(Refused { index, reset_seconds, quota: limiter.quota() });
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        for limiter in &mut self.limiters {
            limiter.take(now);
        }
        Ok(())
    }

    /// Lets happen what is due by `now`, in its order; at the same moment the limit moves first.
    fn advance(&mut self, now: f64) {
        loop {
            let asks = self.others.as_ref().map_or(f64::INFINITY, Others::next);
            let change = self.changes.pop_front_if(|change| change.at_seconds <= now.min(asks));
            if let Some(change) = change {
                if let Some(limiter) = self.limiters.first_mut() {
                    limiter.set_quota(change.quota);
                }
            } else if asks <= now {
                self.other_asks(asks);
            } else {
                return;
            }
        }
    }

    fn other_asks(&mut self, now: f64) {
        let accepted = self.ask(now).is_ok();
        if accepted {
            self.release();
        }
        if let Some(Others { count, .. }) = &mut self.others {
            *(if accepted { &mut count.accepted } else { &mut count.refused }) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::limits::Model;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    fn fixed(text: &str, phase_seconds: f64) -> Limiter {
        Limiter::new(quota(text), Model::Fixed { phase_seconds })
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn several_limits_count_a_request_all_or_none() {
        let mut limits = Limits::new(vec![fixed("2/s", 0.0), fixed("3/min", 0.0)]);
        assert_eq!(limits.admit(0.5), Ok(()));
        assert_eq!(limits.admit(0.5), Ok(()));
        let refused = limits.admit(0.5).unwrap_err();
        assert_eq!((refused.index, refused.quota), (0, quota("2/s")));
        assert!(close(refused.reset_seconds, 0.5));
        assert_eq!(limits.admit(1.5), Ok(()), "the refused one was not counted by the minute");
        let refused = limits.admit(1.6).unwrap_err();
        assert_eq!(refused.index, 1);
        assert!(close(refused.reset_seconds, 58.4));
    }

    #[test]
    fn of_several_refusals_the_longest_is_told() {
        let mut limits = Limits::new(vec![fixed("1/s", 0.0), fixed("1/min", 0.0), fixed("9/h", 0.0)]);
        assert_eq!(limits.admit(0.0), Ok(()));
        assert_eq!(limits.admit(0.0).unwrap_err().index, 1);
        limits.get_mut(1).unwrap().set_quota(quota("5/min"));
        assert_eq!(limits.admit(0.0).unwrap_err().index, 0);
    }

    #[test]
    fn each_limit_announces_what_it_counted_and_a_refusal_counts_nowhere() {
        let mut limits = Limits::new(vec![fixed("2/s", 0.0), fixed("300/min", 0.0)]);
        assert!((0..3).map(|_| limits.admit(0.25)).filter(Result::is_err).count() == 1);
        let told: Vec<_> = limits.announced(0.25).iter().map(|told| (told.allowed, told.used)).collect();
        assert_eq!(told, [(2, 2), (300, 2)]);
        assert_eq!(limits.announced(0.25)[1].reset_seconds, Some(59.75));
    }

    #[test]
    fn a_request_that_is_over_makes_room_for_another() {
        let at_once = Limiter::new(quota("2/s"), Model::Concurrency);
        let mut limits = Limits::new(vec![at_once, fixed("3/min", 0.0)]);
        assert_eq!((limits.admit(0.0), limits.admit(1.0)), (Ok(()), Ok(())));
        assert_eq!(limits.admit(9.0).unwrap_err().index, 0, "no time makes room");
        limits.release();
        assert_eq!(limits.admit(9.0), Ok(()));
        limits.release();
        assert_eq!(limits.admit(9.0).unwrap_err().index, 1, "the minute keeps what is over");
    }

    #[test]
    fn others_spend_of_the_same_budget_evenly_and_from_the_start() {
        let mut limits = Limits::new(vec![fixed("10/s", 0.0)]).with_others(Rate::new(4.0));
        // At 0, 0.25 and 0.5 seconds, before we come.
        assert_eq!(limits.announced(0.625)[0].used, 3);
        assert_eq!((0..20).filter(|_| limits.admit(0.625).is_ok()).count(), 7);
        assert_eq!(limits.others(0.625), OthersCount { accepted: 3, refused: 0 });
        assert_eq!(limits.others(0.999), OthersCount { accepted: 3, refused: 1 }, "its turn to be refused");
        // A new window, and the one at its first moment is already there.
        assert_eq!((0..20).filter(|_| limits.admit(1.0).is_ok()).count(), 9);
        assert_eq!(limits.others(1.0), OthersCount { accepted: 4, refused: 1 });
    }

    #[test]
    fn others_of_a_long_time_are_counted_one_by_one_and_to_the_end() {
        let mut limits = Limits::new(vec![fixed("90/min", 0.0)]).with_others(Rate::new(1.75));
        assert_eq!(limits.others(3_600.0), OthersCount { accepted: 5_401, refused: 900 });
        let mut none = Limits::new(vec![fixed("90/min", 0.0)]);
        assert_eq!(none.others(3_600.0), OthersCount::default());
    }

    #[test]
    fn others_leave_nothing_under_way() {
        let mut limits =
            Limits::new(vec![Limiter::new(quota("2/s"), Model::Concurrency)]).with_others(Rate::new(9.0));
        assert_eq!((0..9).filter(|_| limits.admit(100.0).is_ok()).count(), 2);
    }

    #[test]
    fn a_limit_moves_when_its_time_has_come() {
        let change = |at_seconds, text| Change { at_seconds, quota: quota(text) };
        let changes = vec![change(7.0, "20/s"), change(5.5, "4/s")];
        let mut limits = Limits::new(vec![fixed("10/s", 0.0), fixed("9/min", 0.0)]).with_changes(changes);
        let allowed = |limits: &mut Limits, now| {
            limits.announced(now).iter().map(|told| told.allowed).collect::<Vec<_>>()
        };
        assert_eq!(allowed(&mut limits, 5.25), [10, 9]);
        assert_eq!((0..3).filter(|_| limits.admit(5.25).is_ok()).count(), 3);
        assert_eq!(allowed(&mut limits, 5.5), [4, 9]);
        assert_eq!((0..9).filter(|_| limits.admit(5.5).is_ok()).count(), 1, "what is spent stays spent");
        assert_eq!(allowed(&mut limits, 60.0), [20, 9]);
    }

    #[test]
    fn changes_and_others_happen_in_their_order() {
        // The limit falls to 1 between the second and the third request of the others.
        let change = Change { at_seconds: 0.375, quota: quota("1/s") };
        let limits = Limits::new(vec![fixed("10/s", 0.0)]).with_others(Rate::new(4.0));
        let mut limits = limits.with_changes(vec![change]);
        assert_eq!(limits.others(0.9), OthersCount { accepted: 2, refused: 2 });
    }

    #[test]
    fn no_limits_admit_everything() {
        let mut limits = Limits::default();
        assert!((0..1_000).all(|_| limits.admit(0.0).is_ok()));
    }
}
