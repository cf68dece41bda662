//! One limit: how it counts, what has been spent of it, and what it would announce.

use super::announced::Announced;
use crate::control::Quota;
use std::collections::VecDeque;
use std::time::Duration;

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
        /// The bucket's capacity in requests, at least 1. It stays when the quota changes.
        burst: f64,
    },
    /// No more requests than the quota's are under way at once; the quota's window means nothing.
    Concurrency,
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
    Concurrency {
        under_way: u32,
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
            Model::Concurrency => Account::Concurrency { under_way: 0 },
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
            Account::Concurrency { under_way } => *under_way < requests,
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
            Account::Concurrency { under_way } => *under_way = under_way.saturating_add(1),
        }
    }

    /// A request that was taken is over. Only a limit of requests under way takes note.
    pub fn release(&mut self) {
        if let Account::Concurrency { under_way } = &mut self.account {
            *under_way = under_way.saturating_sub(1);
        }
    }

    /// Seconds until the open window ends (fixed and anchored; 0 if none is open), or until the next request
    /// would be let in (sliding and bucket; 0 if it would be now). With concurrency nobody knows: 0.
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
            Account::Concurrency { .. } => 0.0,
        };
        seconds.max(0.0)
    }

    /// What the limit would announce at `now`, with what it has counted so far.
    pub fn announced(&mut self, now: f64) -> Announced {
        self.roll(now);
        let (now, length) = (self.latest, self.quota.window.as_secs_f64());
        let of_window = |used: u32, reset_seconds: f64| Announced {
            allowed: self.quota.requests,
            used,
            reset_seconds: Some(reset_seconds.max(0.0)),
            window_seconds: Some(length),
        };
        match &self.account {
            Account::Fixed { window, .. } | Account::Anchored { window } => {
                window.map_or(of_window(0, 0.0), |window| of_window(window.used, window.end - now))
            }
            Account::Sliding { log } => {
                let used = u32::try_from(log.len()).unwrap_or(u32::MAX);
                of_window(used, log.front().map_or(0.0, |oldest| oldest + length - now))
            }
            Account::Bucket { burst, tokens, .. } => {
                let (allowed, rate) = (whole(*burst), self.quota.rate().get());
                Announced {
                    allowed,
                    used: allowed - whole(tokens + TOKEN_TOLERANCE).min(allowed),
                    reset_seconds: Some((burst - tokens) / rate),
                    window_seconds: Some(burst / rate),
                }
            }
            Account::Concurrency { under_way } => Announced {
                allowed: self.quota.requests,
                used: *under_way,
                reset_seconds: None,
                window_seconds: None,
            },
        }
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
            Account::Concurrency { .. } => (),
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

/// The whole requests in this many tokens; none when they are owed.
fn whole(tokens: f64) -> u32 {
    let whole = Duration::try_from_secs_f64(tokens).map_or(0, |whole| whole.as_secs());
    u32::try_from(whole).unwrap_or(u32::MAX)
}

fn count(requests: u32) -> usize {
    usize::try_from(requests).unwrap_or(usize::MAX)
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
    fn requests_under_way_are_bounded_and_time_ends_none() {
        let mut limiter = limiter("3/s", Model::Concurrency);
        assert_eq!(admitted(&mut limiter, 0.0, 9), 3);
        assert_eq!(admitted(&mut limiter, 1e6, 9), 0);
        limiter.release();
        assert_eq!(admitted(&mut limiter, 1e6, 9), 1);
        (0..9).for_each(|_| limiter.release());
        assert_eq!(admitted(&mut limiter, 1e6, 9), 3, "nobody ends what is not under way");
        limiter.set_quota(quota("5/s"));
        assert_eq!(admitted(&mut limiter, 1e6, 9), 2);
    }

    /// Allowed, used, and the seconds until the reset and of the window, in ms.
    fn told(limiter: &mut Limiter, now: f64) -> (u32, u32, Option<i64>, Option<i64>) {
        let Announced { allowed, used, reset_seconds, window_seconds } = limiter.announced(now);
        let millis = |seconds: f64| format!("{:.0}", seconds * 1e3).parse().unwrap();
        (allowed, used, reset_seconds.map(millis), window_seconds.map(millis))
    }

    #[test]
    fn a_window_announces_its_count_and_its_end() {
        let mut fixed = fixed("3/s", 0.0);
        assert_eq!(told(&mut fixed, 0.25), (3, 0, Some(750), Some(1_000)));
        assert_eq!(admitted(&mut fixed, 0.25, 9), 3);
        assert_eq!(told(&mut fixed, 0.5), (3, 3, Some(500), Some(1_000)), "refused ones are not counted");
        assert_eq!(told(&mut fixed, 1.0), (3, 0, Some(1_000), Some(1_000)));
        let mut anchored = limiter("3/s", Model::Anchored);
        assert_eq!(told(&mut anchored, 0.25), (3, 0, Some(0), Some(1_000)), "none is open");
        assert_eq!(admitted(&mut anchored, 0.25, 1), 1);
        assert_eq!(told(&mut anchored, 0.5), (3, 1, Some(750), Some(1_000)));
        anchored.set_quota(quota("300/s"));
        assert_eq!(told(&mut anchored, 0.5), (300, 1, Some(750), Some(1_000)));
    }

    #[test]
    fn a_sliding_limit_announces_when_its_oldest_leaves() {
        let mut limiter = limiter("3/s", Model::Sliding);
        assert_eq!(told(&mut limiter, 0.0), (3, 0, Some(0), Some(1_000)));
        assert_eq!((offer(&mut limiter, 0.0), offer(&mut limiter, 0.5)), (true, true));
        assert_eq!(told(&mut limiter, 0.75), (3, 2, Some(250), Some(1_000)));
        assert_eq!(told(&mut limiter, 1.0), (3, 1, Some(500), Some(1_000)));
    }

    #[test]
    fn a_bucket_announces_when_it_is_full() {
        let mut limiter = limiter("10/s", Model::Bucket { burst: 4.0 });
        assert_eq!(told(&mut limiter, 0.0), (4, 0, Some(0), Some(400)));
        assert_eq!(admitted(&mut limiter, 0.0, 9), 4);
        assert_eq!(told(&mut limiter, 0.0), (4, 4, Some(400), Some(400)));
        assert_eq!(told(&mut limiter, 0.15), (4, 3, Some(250), Some(400)), "half a token is none");
        limiter.take(0.15);
        limiter.take(0.15);
        assert_eq!(told(&mut limiter, 0.15), (4, 4, Some(450), Some(400)), "what is owed");
    }

    #[test]
    fn requests_under_way_are_announced_without_a_time() {
        let mut limiter = limiter("3/s", Model::Concurrency);
        assert_eq!(admitted(&mut limiter, 0.0, 2), 2);
        assert_eq!(told(&mut limiter, 5.0), (3, 2, None, None));
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

    /// A second of the naive models in ticks: floats hold sums of them exactly.
    const SECOND: u64 = 1_024;
    /// What they allow in a second, and what their bucket holds.
    const ALLOWED: u32 = 8;

    /// What a limit of 8/s has counted at `now`, and the ticks until its reset, told from all that it let in so far.
    type Naive = fn(taken: &[u64], now: u64) -> (u32, u64);

    fn of(taken: &[u64], counts: impl Fn(u64) -> bool) -> u32 {
        u32::try_from(taken.iter().filter(|at| counts(**at)).count()).unwrap()
    }

    /// Windows start at 256 ticks, 1280 ticks and so on.
    fn naive_fixed(taken: &[u64], now: u64) -> (u32, u64) {
        let window = |at: u64| (at + SECOND - 256) / SECOND;
        (of(taken, |at| window(at) == window(now)), window(now) * SECOND + 256 - now)
    }

    fn naive_anchored(taken: &[u64], now: u64) -> (u32, u64) {
        let opened = taken.iter().fold(None, |opened, at| match opened {
            Some(start) if *at < start + SECOND => Some(start),
            _ => Some(*at),
        });
        match opened {
            Some(start) if now < start + SECOND => (of(taken, |at| at >= start), start + SECOND - now),
            _ => (0, 0),
        }
    }

    fn naive_sliding(taken: &[u64], now: u64) -> (u32, u64) {
        let inside = |at: u64| at + SECOND > now;
        let oldest = taken.iter().find(|at| inside(**at));
        (of(taken, inside), oldest.map_or(0, |at| at + SECOND - now))
    }

    /// A token comes in 128 ticks, so what is missing in 128ths of tokens are the ticks until it is full.
    fn naive_bucket(taken: &[u64], now: u64) -> (u32, u64) {
        let (mut missing, mut last) = (0_u64, 0);
        for at in taken {
            missing = missing.saturating_sub(at - last) + 128;
            last = *at;
        }
        missing = missing.saturating_sub(now - last);
        (u32::try_from(missing.div_ceil(128)).unwrap(), missing)
    }

    proptest::proptest! {
        #[test]
        fn every_model_does_as_its_naive_twin(gaps in gaps(), which in 0..4_usize) {
            let twins: [(Model, Naive); 4] = [
                (Model::Fixed { phase_seconds: 0.25 }, naive_fixed),
                (Model::Anchored, naive_anchored),
                (Model::Sliding, naive_sliding),
                (Model::Bucket { burst: f64::from(ALLOWED) }, naive_bucket),
            ];
            let (model, naive) = twins[which];
            let mut limiter = limiter("8/s", model);
            let (mut now, mut taken) = (0, Vec::new());
            for gap in gaps {
                now += u64::from(gap);
                let seconds = now as f64 / SECOND as f64;
                let (used, reset) = naive(&taken, now);
                let told = limiter.announced(seconds);
                proptest::prop_assert_eq!((told.allowed, told.used), (ALLOWED, used), "{:?} at {}", model, now);
                proptest::prop_assert_eq!(told.reset_seconds, Some(reset as f64 / SECOND as f64));
                proptest::prop_assert_eq!(offer(&mut limiter, seconds), used < ALLOWED);
                if used < ALLOWED {
                    taken.push(now);
                }
            }
        }

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
