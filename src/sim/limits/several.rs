//! Several limits over the same requests, and who says no.

use super::announced::Announced;
use super::limiter::Limiter;
use crate::control::Quota;

/// Several limits over the same requests: all must admit, and a request is counted by all or by none.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    limiters: Vec<Limiter>,
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
        Self { limiters }
    }

    /// Counts a request at `now` if every limit admits it.
    ///
    /// # Errors
    /// The limit that refuses; then no limit has counted the request.
    pub fn admit(&mut self, now: f64) -> Result<(), Refused> {
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

    /// A request that was admitted is over; see [`Limiter::release`].
    pub fn release(&mut self) {
        self.limiters.iter_mut().for_each(Limiter::release);
    }

    /// What the limits would announce at `now`, in their order; asked after [`Limits::admit`], the request counts.
    pub fn announced(&mut self, now: f64) -> Vec<Announced> {
        self.limiters.iter_mut().map(|limiter| limiter.announced(now)).collect()
    }

    /// The limit at `index`, to change what it allows.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Limiter> {
        self.limiters.get_mut(index)
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
    fn no_limits_admit_everything() {
        let mut limits = Limits::default();
        assert!((0..1_000).all(|_| limits.admit(0.0).is_ok()));
    }
}
