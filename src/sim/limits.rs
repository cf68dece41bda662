//! Pure models of what an API enforces: time comes in as seconds, a verdict goes out, and nothing else happens.
//!
//! # Why
//! Tests in virtual time and the simulated API over sockets must disagree about nothing, so there is one model
//! for both. Seconds are `f64` from an origin that the caller chooses; time that stands still or goes back is
//! read as the latest time seen.

use crate::control::Quota;
use std::collections::VecDeque;

/// How an API counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Model {
    /// Windows lie on a grid: multiples of the window's length, shifted by a phase.
    Fixed {
        /// The shift of the grid in seconds; any finite number, taken modulo the window's length.
        phase_seconds: f64,
    },
    /// A window opens with the first request that is taken after the old one ended.
    Anchored,
    /// No span of one window's length, wherever it starts, holds more than the quota: an exact log.
    Sliding,
    /// A bucket that starts full, refills evenly at the quota's rate and gives one token a request.
    Bucket {
        /// The bucket's capacity in requests, at least 1.
        burst: f64,
    },
}

/// One limit and what has been spent of it.
#[derive(Clone, Debug)]
pub struct Limiter {
    quota: Quota,
    account: Account,
    /// The latest time seen.
    latest: f64,
}

#[derive(Clone, Debug)]
enum Account {
    Fixed {
        phase: f64,
        window: Option<Window>,
    },
    Anchored {
        window: Option<Window>,
    },
    /// When each request of the last window was taken, oldest first.
    Sliding {
        log: VecDeque<f64>,
    },
    Bucket {
        burst: f64,
        tokens: f64,
        counted_at: f64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Window {
    end: f64,
    used: u32,
}

/// A bucket's float error after many refills must not cost a request.
const TOKEN_TOLERANCE: f64 = 1e-9;

impl Limiter {
    /// A limit of which nothing is spent.
    pub fn new(quota: Quota, model: Model) -> Self {
        let account = match model {
            Model::Fixed { phase_seconds } => Account::Fixed { phase: phase_seconds, window: None },
            Model::Anchored => Account::Anchored { window: None },
            Model::Sliding => Account::Sliding { log: VecDeque::new() },
            Model::Bucket { burst } => {
                let burst = burst.max(1.0);
                Account::Bucket { burst, tokens: burst, counted_at: f64::NEG_INFINITY }
            }
        };
        Self { quota, account, latest: f64::NEG_INFINITY }
    }

    /// What is allowed now.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Changes what is allowed, from the next question on. What is spent stays spent, except that a window of
    /// another length starts afresh.
    pub fn set_quota(&mut self, quota: Quota) {
        if quota.window != self.quota.window
            && let Account::Fixed { window, .. } | Account::Anchored { window } = &mut self.account
        {
            *window = None;
        }
        self.quota = quota;
    }

    /// Would a request at `now` be let in? Takes nothing.
    pub fn admits(&mut self, now: f64) -> bool {
        self.roll(now);
        let requests = self.quota.requests;
        match &self.account {
            Account::Fixed { window, .. } | Account::Anchored { window } => {
                window.is_none_or(|window| window.used < requests)
            }
            Account::Sliding { log } => log.len() < count(requests),
            Account::Bucket { tokens, .. } => *tokens >= 1.0 - TOKEN_TOLERANCE,
        }
    }

    /// Counts a request at `now`, whether or not the limit admits it.
    pub fn take(&mut self, now: f64) {
        self.roll(now);
        let (now, length) = (self.latest, self.quota.window.as_secs_f64());
        match &mut self.account {
            Account::Fixed { window, .. } => {
                if let Some(window) = window {
                    window.used = window.used.saturating_add(1);
                }
            }
            Account::Anchored { window } => {
                let open = window.get_or_insert(Window { end: now + length, used: 0 });
                open.used = open.used.saturating_add(1);
            }
            Account::Sliding { log } => log.push_back(now),
            Account::Bucket { tokens, .. } => *tokens -= 1.0,
        }
    }

    /// Seconds until the open window ends (fixed and anchored; 0 if none is open), or until the next request
    /// would be let in (sliding and bucket; 0 if it would be now).
    pub fn reset_seconds(&mut self, now: f64) -> f64 {
        self.roll(now);
        let (now, quota) = (self.latest, self.quota);
        let seconds = match &self.account {
            Account::Fixed { window, .. } | Account::Anchored { window } => {
                window.map_or(0.0, |window| window.end - now)
            }
            Account::Sliding { log } => {
                let blocking = log.len().checked_sub(count(quota.requests)).and_then(|index| log.get(index));
                blocking.map_or(0.0, |taken_at| taken_at + quota.window.as_secs_f64() - now)
            }
            Account::Bucket { tokens, .. } if *tokens >= 1.0 - TOKEN_TOLERANCE => 0.0,
            Account::Bucket { tokens, .. } => (1.0 - tokens) / quota.rate().get(),
        };
        seconds.max(0.0)
    }

    /// Brings the account forward to `now`.
    fn roll(&mut self, now: f64) {
        self.latest = self.latest.max(now);
        let (now, length) = (self.latest, self.quota.window.as_secs_f64());
        match &mut self.account {
            Account::Fixed { phase, window } => {
                if window.is_none_or(|window| now >= window.end) {
                    *window = Some(Window { end: end_on_grid(now, length, *phase), used: 0 });
                }
            }
            Account::Anchored { window } => {
                if window.is_some_and(|window| now >= window.end) {
                    *window = None;
                }
            }
            Account::Sliding { log } => {
                while log.front().is_some_and(|taken_at| now >= taken_at + length) {
                    log.pop_front();
                }
            }
            Account::Bucket { burst, tokens, counted_at } => {
                *tokens = (*tokens + (now - *counted_at) * self.quota.rate().get()).min(*burst);
                *counted_at = now;
            }
        }
    }
}

/// The first point of the grid that lies after `now`.
fn end_on_grid(now: f64, length: f64, phase: f64) -> f64 {
    let point = |step: f64| phase + step * length;
    let step = ((now - phase) / length).floor() + 1.0;
    // The division may round across a point of the grid; the points themselves are what counts.
    if now >= point(step) {
        point(step + 1.0)
    } else if now < point(step - 1.0) {
        point(step - 1.0)
    } else {
        point(step)
    }
}

fn count(requests: u32) -> usize {
    usize::try_from(requests).unwrap_or(usize::MAX)
}

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

    /// The limit at `index`, to change what it allows.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Limiter> {
        self.limiters.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    fn limiter(text: &str, model: Model) -> Limiter {
        Limiter::new(quota(text), model)
    }

    fn fixed(text: &str, phase_seconds: f64) -> Limiter {
        limiter(text, Model::Fixed { phase_seconds })
    }

    /// Offers a request at `now`; says whether it was let in.
    fn offer(limiter: &mut Limiter, now: f64) -> bool {
        let admitted = limiter.admits(now);
        if admitted {
            limiter.take(now);
        }
        admitted
    }

    fn admitted(limiter: &mut Limiter, now: f64, offers: usize) -> usize {
        (0..offers).filter(|_| offer(limiter, now)).count()
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_fixed_window_lies_on_its_grid() {
        let mut limiter = fixed("10/s", 0.0);
        assert_eq!(admitted(&mut limiter, 0.9, 15), 10);
        assert!(close(limiter.reset_seconds(0.9), 0.1));
        assert_eq!(admitted(&mut limiter, 0.999, 15), 0);
        assert_eq!(
            admitted(&mut limiter, 1.0, 15),
            10,
            "twenty in a tenth of a second, as such limits allow"
        );
        assert_eq!(admitted(&mut limiter, 1.999, 15), 0);
        assert_eq!(admitted(&mut limiter, 7.5, 15), 10);
    }

    #[test]
    fn a_fixed_windows_phase_shifts_the_grid_either_way() {
        for phase in [0.25, 3.25, -0.75] {
            let mut limiter = fixed("2/s", phase);
            assert!(close(limiter.reset_seconds(10.0), 0.25), "{phase}");
            assert_eq!(admitted(&mut limiter, 10.0, 5), 2);
            assert_eq!(admitted(&mut limiter, 10.2, 5), 0);
            assert_eq!(admitted(&mut limiter, 10.25, 5), 2);
            assert!(close(limiter.reset_seconds(10.25), 1.0));
        }
    }

    #[test]
    fn boundaries_that_floats_cannot_hit_lose_and_gain_no_window() {
        let mut limiter = fixed("1/100ms", 0.0);
        let mut now = 0.0;
        for step in 0..10_000_u32 {
            assert!(offer(&mut limiter, now), "step {step} at {now}");
            assert!(!offer(&mut limiter, now));
            now += limiter.reset_seconds(now);
        }
        assert!((now - 1_000.0).abs() < 1e-6, "{now}");
    }

    #[test]
    fn an_anchored_window_opens_with_the_first_request_taken() {
        let mut limiter = limiter("3/s", Model::Anchored);
        assert!(close(limiter.reset_seconds(0.5), 0.0), "nothing open");
        assert!(limiter.admits(0.6), "asking opens nothing");
        assert_eq!(admitted(&mut limiter, 0.7, 2), 2);
        assert!(close(limiter.reset_seconds(1.0), 0.7));
        assert_eq!(admitted(&mut limiter, 1.69, 5), 1);
        assert_eq!(admitted(&mut limiter, 1.7, 5), 3);
        assert_eq!(admitted(&mut limiter, 2.6, 5), 0);
        assert_eq!(admitted(&mut limiter, 9.0, 5), 3);
        assert!(close(limiter.reset_seconds(9.0), 1.0));
    }

    #[test]
    fn a_sliding_window_never_holds_more_than_its_quota() {
        let mut limiter = limiter("3/s", Model::Sliding);
        assert!(offer(&mut limiter, 0.0));
        assert!(close(limiter.reset_seconds(0.0), 0.0), "room is no wait");
        assert!(offer(&mut limiter, 0.5));
        assert!(offer(&mut limiter, 0.9));
        assert!(!offer(&mut limiter, 0.99));
        assert!(close(limiter.reset_seconds(0.99), 0.01));
        assert!(offer(&mut limiter, 1.0));
        assert!(!offer(&mut limiter, 1.0));
        assert!(close(limiter.reset_seconds(1.0), 0.5), "until the one of 0.5 has left");
        assert!(offer(&mut limiter, 1.5));
    }

    #[test]
    fn a_bucket_starts_full_and_refills_at_the_quotas_rate() {
        let mut limiter = limiter("10/s", Model::Bucket { burst: 4.0 });
        assert_eq!(admitted(&mut limiter, 5.0, 9), 4);
        assert!(close(limiter.reset_seconds(5.0), 0.1));
        assert_eq!(admitted(&mut limiter, 5.05, 9), 0);
        assert!(close(limiter.reset_seconds(5.05), 0.05));
        assert_eq!(admitted(&mut limiter, 5.1, 9), 1);
        assert_eq!(admitted(&mut limiter, 5.4, 9), 3);
        assert_eq!(admitted(&mut limiter, 60.0, 9), 4, "never more than the bucket holds");
    }

    #[test]
    fn a_bucket_paced_at_its_rate_refuses_nothing_for_an_hour() {
        let mut limiter = limiter("10/s", Model::Bucket { burst: 0.0 });
        assert!((0..36_000_u32).all(|step| offer(&mut limiter, f64::from(step) / 10.0)));
    }

    #[test]
    fn a_limit_that_moves_keeps_what_is_spent() {
        for model in [Model::Fixed { phase_seconds: 0.0 }, Model::Anchored, Model::Sliding] {
            let mut limiter = limiter("10/s", model);
            assert_eq!(admitted(&mut limiter, 0.0, 6), 6);
            limiter.set_quota(quota("5/s"));
            assert_eq!(admitted(&mut limiter, 0.1, 9), 0, "{model:?}");
            assert!(close(limiter.reset_seconds(0.1), 0.9), "{model:?}");
            limiter.set_quota(quota("8/s"));
            assert_eq!(admitted(&mut limiter, 0.2, 9), 2, "{model:?}");
            assert_eq!(limiter.quota(), quota("8/s"));
        }
    }

    #[test]
    fn a_window_of_another_length_starts_afresh() {
        let mut limiter = fixed("10/min", 0.0);
        assert_eq!(admitted(&mut limiter, 30.5, 20), 10);
        limiter.set_quota(quota("10/s"));
        assert_eq!(admitted(&mut limiter, 30.5, 20), 10);
        assert!(close(limiter.reset_seconds(30.5), 0.5));
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        for model in [
            Model::Fixed { phase_seconds: 0.0 },
            Model::Anchored,
            Model::Sliding,
            Model::Bucket { burst: 2.0 },
        ] {
            let mut limiter = limiter("2/s", model);
            assert_eq!(admitted(&mut limiter, 10.0, 5), 2, "{model:?}");
            assert_eq!(admitted(&mut limiter, 3.0, 5), 0, "{model:?}");
            assert_eq!(admitted(&mut limiter, f64::NAN, 5), 0, "{model:?}");
            assert_eq!(admitted(&mut limiter, 11.0, 5), 2, "{model:?}");
        }
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
    fn no_limits_admit_everything() {
        let mut limits = Limits::default();
        assert!((0..1_000).all(|_| limits.admit(0.0).is_ok()));
    }

    /// Requests at arbitrary gaps, in ms: many at once, some just apart, some after a long time.
    fn gaps() -> impl proptest::strategy::Strategy<Value = Vec<u32>> {
        use proptest::prelude::*;
        proptest::collection::vec(prop_oneof![4 => Just(0_u32), 4 => 1..300_u32, 1 => 300..5_000_u32], 1..400)
    }

    /// The times of those that a limit lets in, with the latest of all.
    fn let_in(limiter: &mut Limiter, gaps: &[u32]) -> (Vec<f64>, f64) {
        let (mut now, mut times) = (0.0, Vec::new());
        for gap in gaps {
            now += f64::from(*gap) / 1_000.0;
            if offer(limiter, now) {
                times.push(now);
            }
        }
        (times, now)
    }

    /// The most that any span of this length holds, its end not included.
    fn fullest(times: &[f64], span: f64) -> usize {
        let within = |from: f64| times.iter().filter(|time| (from..from + span).contains(*time)).count();
        times.iter().map(|time| within(*time)).max().unwrap_or(0)
    }

    proptest::proptest! {
        #[test]
        fn no_fixed_window_holds_more_than_its_quota(gaps in gaps(), phase in 0.0..1.0_f64) {
            let (times, _) = let_in(&mut fixed("7/s", phase), &gaps);
            let mut windows = std::collections::HashMap::new();
            for time in times {
                *windows.entry((time - phase).floor().to_bits()).or_insert(0_u32) += 1;
            }
            proptest::prop_assert!(windows.values().all(|used| *used <= 7));
        }

        #[test]
        fn no_span_of_a_sliding_limit_holds_more_than_its_quota(gaps in gaps()) {
            let (times, _) = let_in(&mut limiter("7/s", Model::Sliding), &gaps);
            // A hair less than the window: its end is not a part of it, and sums of floats are not exact.
            proptest::prop_assert!(fullest(&times, 1.0 - 1e-9) <= 7);
        }

        #[test]
        fn no_span_of_an_anchored_limit_holds_more_than_two_quotas(gaps in gaps()) {
            let (times, _) = let_in(&mut limiter("7/s", Model::Anchored), &gaps);
            proptest::prop_assert!(fullest(&times, 1.0 - 1e-9) <= 14);
        }

        #[test]
        fn no_span_of_a_bucket_holds_more_than_burst_and_refill(gaps in gaps(), burst in 1.0..9.0_f64) {
            let (times, _) = let_in(&mut limiter("7/s", Model::Bucket { burst }), &gaps);
            for span in [0.5, 1.0, 3.0] {
                proptest::prop_assert!(fullest(&times, span) as f64 <= burst + 7.0 * span + 1e-6);
            }
        }

        #[test]
        fn who_waits_for_the_reset_is_let_in(gaps in gaps(), which in 0..4_usize) {
            let models = [
                Model::Fixed { phase_seconds: 0.3 },
                Model::Anchored,
                Model::Sliding,
                Model::Bucket { burst: 3.0 },
            ];
            let mut limiter = limiter("7/s", models[which]);
            let (_, mut now) = let_in(&mut limiter, &gaps);
            // Twice: the first sum may round to just before the moment.
            for _ in 0..2 {
                if !limiter.admits(now) {
                    let wait = limiter.reset_seconds(now);
                    proptest::prop_assert!(wait > 0.0 && wait <= 1.0 + 1e-9, "{wait}");
                    now += wait;
                }
            }
            proptest::prop_assert!(limiter.admits(now));
        }
    }
}
