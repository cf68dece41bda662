//! The quota at the door: how often each caller may ask, whatever the API allows. Off unless the operator sets one.
//!
//! It protects callers from each other, before anything is queued; what protects the API is the lanes' business. The
//! arithmetic is governor's GCRA, the clock ours.

use super::clock;
use crate::control::{CredentialHash, Quota};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{Quota as Allowance, RateLimiter};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Whoever has this credential.
    Credential(CredentialHash),
    /// Whoever is at this address, for requests without a credential.
    Address(IpAddr),
}

/// One quota for each caller.
pub struct Quotas {
    limiter: RateLimiter<Caller, Places, Ticks, NoOpMiddleware<Duration>>,
    ticks: Ticks,
    /// When those who are as good as new were last forgotten.
    swept: Mutex<Duration>,
    callers_max: usize,
}

impl Quotas {
    /// `quota` for each caller, of which `burst` (at least 1) may be used at once after a quiet time. Callers beyond
    /// `callers_max` share one place.
    ///
    /// # Panics
    /// Never: the interval between two requests is not zero.
    pub fn new(quota: Quota, burst: u32, callers_max: usize) -> Self {
        let interval = quota.window / quota.requests.max(1);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let allowance = Allowance::with_period(interval.max(SHORTEST))
            .map(|allowance| allowance.allow_burst(burst))
            .expect("the interval is not zero");
        let ticks = Ticks { start: clock::now() };
        let limiter = RateLimiter::new(allowance, Places::new(callers_max), ticks);
        Self { limiter, ticks, swept: Mutex::default(), callers_max }
    }

    /// May `caller` ask now?
    ///
    /// # Errors
    /// How long until it may.
    pub fn admit(&self, caller: Caller) -> Result<(), Duration> {
        if self.limiter.len() >= self.callers_max {
            self.sweep();
        }
        self.limiter.check_key(&caller).map_err(|refused| refused.wait_time_from(self.ticks.now()))
    }

    /// Callers that are told apart now.
    pub fn callers(&self) -> usize {
        self.limiter.retain_recent();
        self.limiter.len()
    }

    /// Forgets who is as good as new, but not at every request: all of them have to be looked at.
    fn sweep(&self) {
        let now = self.ticks.now();
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= *swept + SWEEP_INTERVAL {
            *swept = now;
            drop(swept);
            self.limiter.retain_recent();
        }
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quotas(at most {})", self.callers_max)
    }
}

/// The program's clock, in the terms of governor: its own does not follow paused time.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    start: Instant,
}

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        clock::now().saturating_duration_since(self.start)
    }
}

/// What is known of each caller; `None` stands for those who came when there was no place left.
#[derive(Debug)]
struct Places {
    callers_max: usize,
    states: Mutex<HashMap<Option<Caller>, Nanos>>,
}

impl Places {
    fn new(callers_max: usize) -> Self {
        Self { callers_max, states: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<Caller>, Nanos>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Places {
    type Key = Caller;

    fn measure_and_replace<T, F, E>(&self, caller: &Caller, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut states = self.lock();
        let own = Some(*caller);
        let place = if states.len() < self.callers_max || states.contains_key(&own) { own } else { None };
        let (outcome, state) = measure(states.get(&place).copied())?;
        states.insert(place, state);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<Caller> for Places {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().retain(|_, state| *state > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().len()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// The finest that governor counts in.
const SHORTEST: Duration = Duration::from_nanos(1);

/// How often all callers are looked at while every place is taken.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: u64) -> Caller {
        Caller::Credential(CredentialHash(number))
    }

    fn quotas(quota: &str, burst: u32, callers_max: usize) -> Quotas {
        Quotas::new(quota.parse().unwrap(), burst, callers_max)
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_its_burst_and_then_its_pace() {
        let quotas = quotas("10/s", 3, 10);
        let address = Caller::Address(IpAddr::from([127, 0, 0, 1]));
        for who in [caller(1), address] {
            assert_eq!([0; 3].map(|_| quotas.admit(who)), [Ok(()); 3], "{who:?}");
            assert_eq!(quotas.admit(who), Err(Duration::from_millis(100)), "{who:?}");
        }
        pass(Duration::from_millis(99)).await;
        assert_eq!(quotas.admit(address), Err(Duration::from_millis(1)));
        pass(Duration::from_millis(1)).await;
        assert_eq!(quotas.admit(address), Ok(()));
        pass(Duration::from_mins(1)).await;
        assert_eq!([0; 4].map(|_| quotas.admit(address).is_ok()), [true, true, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_beyond_the_bound_share_a_place_until_others_are_forgotten() {
        let quotas = quotas("1/s", 1, 2);
        assert_eq!([1, 2, 3].map(|number| quotas.admit(caller(number)).is_ok()), [true; 3]);
        assert_eq!(quotas.admit(caller(4)), Err(Duration::from_secs(1)), "3 was there just now");
        assert_eq!(quotas.callers(), 3, "two of their own and the place of all others");
        pass(Duration::from_millis(3_100)).await;
        assert_eq!([3, 4].map(|number| quotas.admit(caller(number)).is_ok()), [true; 2]);
        pass(Duration::from_secs(10)).await;
        assert_eq!(quotas.callers(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fastest_quota_that_can_be_written_admits() {
        let quotas = quotas("10000000/1ms", 1, 1);
        for _ in 0..10 {
            assert_eq!(quotas.admit(caller(1)), Ok(()));
            pass(Duration::from_nanos(1)).await;
        }
    }
}
