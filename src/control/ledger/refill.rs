//! Is there a bucket behind the numbers? What is told as the end is then the time to be full again.
//!
//! Of a window, the count grows while the time to its end shrinks. Of a bucket both grow together: the time to full is what
//! is gone, by the rate at which it comes back. So every answer bounds that rate from both sides, as closely as whole seconds
//! allow; a window's answers contradict each other after a few. Once the rate is known there is no end to wait for: what is
//! left comes back token by token, and the first overshoot that a bucket is known for need not be.

/// The rate has to be known within this factor, by so many answers that told another time than the one before (a crowd in
/// one second of a window tells one thing only), over a count that doubled, and a time of so many seconds.
const KNOWN_WITHIN: f64 = 1.5;
const ANSWERS_MIN: u32 = 5;
const RESET_MIN: f64 = 3.0;
/// Whole seconds are up to one off, either way; fractions are not.
const WHOLE: f64 = 1.0;
const FRACTION: f64 = 0.05;
/// Contradictions after which a rate that was known is not.
const CONTRADICTIONS_MAX: u32 = 3;

/// How fast a bucket fills, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Refill {
    /// Between these the rate lies, in requests/s.
    lo: f64,
    hi: f64,
    answers: u32,
    last_reset: f64,
    used: (f64, f64),
    reset: (f64, f64),
    known: Option<f64>,
    contradictions: u32,
    fractions: bool,
}

impl Refill {
    /// Nothing was told yet.
    pub(super) fn new() -> Self {
        Self {
            lo: 0.0,
            hi: f64::INFINITY,
            answers: 0,
            last_reset: f64::NEG_INFINITY,
            used: (f64::INFINITY, 0.0),
            reset: (f64::INFINITY, 0.0),
            known: None,
            contradictions: 0,
            fractions: false,
        }
    }

    /// An answer tells that so many are gone, and full again (or an end) in `reset` seconds.
    pub(super) fn hear(&mut self, used: u32, reset: f64) {
        if used == 0 {
            return;
        }
        self.fractions |= (reset - reset.round()).abs() > 1e-6;
        let off = if self.fractions { FRACTION } else { WHOLE };
        let used = f64::from(used);
        // A part of a token counts as gone.
        let lo = (used - 1.0) / (reset + off);
        let hi = if reset > off { used / (reset - off) } else { f64::INFINITY };
        if lo > self.hi || hi < self.lo {
            let contradictions = self.contradictions + 1;
            let known = self.known.filter(|_| contradictions < CONTRADICTIONS_MAX);
            *self = Self { known, contradictions, fractions: self.fractions, ..Self::new() };
        }
        (self.lo, self.hi) = (self.lo.max(lo), self.hi.min(hi));
        self.used = (self.used.0.min(used), self.used.1.max(used));
        self.reset = (self.reset.0.min(reset), self.reset.1.max(reset));
        if (reset - self.last_reset).abs() > 1e-6 {
            self.answers = self.answers.saturating_add(1);
        }
        self.last_reset = reset;
        let grew = self.used.1 >= 2.0 * self.used.0 && self.reset.1 >= 2.0 * self.reset.0.max(off);
        if grew
            && self.reset.1 >= RESET_MIN
            && self.answers >= ANSWERS_MIN
            && self.hi <= KNOWN_WITHIN * self.lo
        {
            self.known = Some((self.lo * self.hi).sqrt());
            self.contradictions = 0;
        }
    }

    /// Tokens that come back in a second, if it is a bucket.
    pub(super) fn rate(&self) -> Option<f64> {
        self.known
    }

    /// The same, by what was let through while it was never full: believed as far as the answers allow, once they bound it.
    pub(super) fn measured(&mut self, rate: f64) {
        if let Some(known) = self.known.as_mut().filter(|_| self.lo > 0.0 && self.hi.is_finite()) {
            *known = rate.clamp(self.lo, self.hi);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_found_long_before_it_is_empty() {
        for rate in [2.0, 5.0, 7.5] {
            let mut refill = Refill::new();
            let mut used = 0_u32;
            while refill.rate().is_none() {
                used += 1;
                refill.hear(used, (f64::from(used) / rate).ceil());
            }
            assert!(used <= 60, "{used} at {rate}");
            let found = refill.rate().unwrap();
            assert!((found / rate - 1.0).abs() < 0.25, "{found} of {rate}");
        }
    }

    #[test]
    fn windows_are_no_buckets() {
        for (requests, seconds, pace) in
            [(300, 60.0, 5.0), (300, 60.0, 40.0), (10, 1.0, 10.0), (1_000, 3_600.0, 3.0)]
        {
            let mut refill = Refill::new();
            let (mut at, mut used) = (0.0_f64, 0_u32);
            while at < 4.0 * seconds {
                let left = seconds - at % seconds;
                used = if at % seconds < 1.0 / pace { 1 } else { (used + 1).min(requests) };
                refill.hear(used, left.ceil());
                assert_eq!(refill.rate(), None, "{requests} in {seconds} s at {at}");
                at += 1.0 / pace;
            }
        }
    }

    #[test]
    fn a_crowd_in_one_second_of_a_window_is_no_bucket() {
        let mut refill = Refill::new();
        for used in 1..10 {
            refill.hear(used, 6.0);
        }
        refill.hear(1, 1.0);
        assert_eq!(refill.rate(), None);
    }

    #[test]
    fn a_measure_is_not_believed_while_no_answer_bounds_it() {
        let mut refill = Refill::new();
        for used in 1..60_u32 {
            refill.hear(used, (f64::from(used) / 5.0).ceil());
        }
        let found = refill.rate();
        // It contradicts the rate, and bounds none itself.
        refill.hear(1, 8.0);
        refill.measured(0.0);
        assert_eq!(refill.rate(), found);
    }

    #[test]
    fn a_log_that_tells_its_oldest_is_no_bucket() {
        let mut refill = Refill::new();
        let mut log = std::collections::VecDeque::new();
        for n in 0..3_000_u32 {
            // Faster and slower by turns.
            let at = 0.2 * f64::from(n) + 8.0 * (0.02 * f64::from(n)).sin();
            while log.front().is_some_and(|oldest| oldest + 60.0 <= at) {
                log.pop_front();
            }
            log.push_back(at);
            let reset: f64 = log[0] + 60.0 - at;
            refill.hear(u32::try_from(log.len()).unwrap(), reset.ceil());
            assert_eq!(refill.rate(), None, "{n}");
        }
    }

    #[test]
    fn a_bucket_that_turns_out_to_be_something_else_is_none() {
        let mut refill = Refill::new();
        for used in 1..60_u32 {
            refill.hear(used, (f64::from(used) / 5.0).ceil());
        }
        assert!(refill.rate().is_some());
        for used in 1..60_u32 {
            refill.hear(used, f64::from(60 - used));
        }
        assert_eq!(refill.rate(), None);
    }
}
