//! Is a budget that is said to be spent really spent? One request finds out, before anyone waits long for nothing.
//!
//! A header that promises too much is contradicted by a refusal. One that promises too little is contradicted by nobody,
//! unless something is sent all the same: so a lane that would have to wait for long sends one request into the block. If
//! it is let in, the header means something else, and counts no more. If it is refused, the header was right, and the next
//! block is believed for twice as long: an honest API is asked a few times in all.
//!
//! A budget that is spread over its window leaves no block to speak of. So once in eight probe periods (and twice as many
//! after each time that the API was right, up to an hour) it is spent a little before the end, and one more is sent.
//! Measured in virtual time (`tests/scenarios/headers_too_strict.toml`, `headers_hour.toml`): a header that tells half of the
//! limit costs half of it until then, six and a half minutes with the default; an honest one costs three refused calls in an
//! hour. Once every probe period would cost eighty.

/// A block is believed for so long at first, and for so long at most, in seconds.
const BELIEVED_SECONDS: f64 = 10.0;
const BELIEVED_SECONDS_MAX: f64 = 3_600.0;
/// A budget that never leaves a block is believed for so many probe periods at first.
const BELIEVED_PERIODS: f64 = 8.0;

/// What is known of a ledger's word that its budget is spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    believed_seconds: f64,
    /// Since when nothing was left, while that is so.
    blocked_at: Option<f64>,
    /// A refusal has confirmed this block.
    is_confirmed: bool,
    /// This block is doubted at once.
    is_asked: bool,
    trial: Option<u64>,
    is_refuted: bool,
    /// How long the budget is believed beyond asking, and since when it is.
    unasked_seconds: f64,
    asked_at: Option<f64>,
}

impl Doubt {
    /// Nothing is doubted yet; a probe is made every so many seconds.
    pub(super) fn new(probe_period_seconds: f64) -> Self {
        Self {
            unasked_seconds: BELIEVED_PERIODS * probe_period_seconds,
            asked_at: None,
            believed_seconds: BELIEVED_SECONDS,
            blocked_at: None,
            is_confirmed: false,
            is_asked: false,
            trial: None,
            is_refuted: false,
        }
    }

    /// Something was let in that could not have been, if the ledger meant what it says.
    pub(super) fn is_refuted(&self) -> bool {
        self.is_refuted
    }

    /// The budget has been believed for long enough: is there really nothing beyond it? From the first look on.
    pub(super) fn is_due(&mut self, now: f64) -> bool {
        now - *self.asked_at.get_or_insert(now) >= self.unasked_seconds
    }

    /// Is there something left? Notes since when there is not.
    pub(super) fn note(&mut self, now: f64, is_spent: bool) {
        if is_spent {
            self.blocked_at.get_or_insert(now);
        } else {
            (self.blocked_at, self.is_confirmed, self.is_asked) = (None, false, false);
        }
    }

    /// A refusal says that it is spent indeed.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// One may be sent into this block at once.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// When the next one may leave into a block that ends at `end`: one only.
    pub(super) fn until(&self, end: f64) -> f64 {
        if self.trial.is_none() { self.believed_until(end) } else { end }
    }

    /// Until when a block that ends at `end` is certain.
    pub(super) fn believed_until(&self, end: f64) -> f64 {
        match self.blocked_at {
            Some(at) if !self.is_confirmed && self.is_asked => at,
            Some(at) if !self.is_confirmed => end.min(at + self.believed_seconds),
            _ => end,
        }
    }

    /// One departs into a block.
    pub(super) fn sent(&mut self, departure: u64) {
        if self.blocked_at.is_some() && self.trial.is_none() {
            self.trial = Some(departure);
        }
    }

    /// Its answer: let in, refused, or nobody knows.
    pub(super) fn back(&mut self, now: f64, departure: u64, let_in: bool, refused: bool) {
        if self.trial != Some(departure) {
            return;
        }
        self.trial = None;
        self.is_refuted |= let_in;
        if refused {
            self.is_confirmed = true;
            self.asked_at = Some(now);
            self.unasked_seconds =
                (2.0 * self.unasked_seconds).min(BELIEVED_SECONDS_MAX.max(self.unasked_seconds));
            self.believed_seconds = (2.0 * self.believed_seconds).min(BELIEVED_SECONDS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_lets_one_in_was_none() {
        let mut doubt = Doubt::new(45.0);
        doubt.note(5.0, true);
        assert!((doubt.until(100.0) - 15.0).abs() < 1e-9);
        doubt.sent(7);
        assert!((doubt.until(100.0) - 100.0).abs() < 1e-9, "one is enough");
        doubt.back(16.0, 7, true, false);
        assert!(doubt.is_refuted());
    }

    #[test]
    fn an_honest_one_is_believed_for_longer_each_time() {
        let mut doubt = Doubt::new(45.0);
        for (number, seconds) in [(1, 10.0), (2, 20.0), (3, 40.0)] {
            doubt.note(0.0, false);
            doubt.note(1.0, true);
            assert!((doubt.until(1e6) - 1.0 - seconds).abs() < 1e-9);
            doubt.sent(number);
            doubt.back(2.0 + seconds, number, false, true);
            assert!((doubt.until(1e6) - 1e6).abs() < 1e-9, "until this block is over");
        }
        assert!(!doubt.is_refuted());
    }

    #[test]
    fn a_short_block_and_one_that_a_refusal_confirmed_are_waited_out() {
        let mut doubt = Doubt::new(45.0);
        doubt.note(0.0, true);
        assert!((doubt.until(3.0) - 3.0).abs() < 1e-9);
        doubt.confirm();
        assert!((doubt.until(60.0) - 60.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_that_leaves_no_block_is_asked_for_more_less_and_less_often() {
        let mut doubt = Doubt::new(45.0);
        let mut asked = Vec::new();
        for second in 0..7_200_u32 {
            let now = f64::from(second);
            if doubt.is_due(now) {
                doubt.note(now, true);
                assert!(doubt.until(1e6) > now, "only when it is asked for");
                doubt.ask();
                assert!(doubt.until(1e6) <= now);
                doubt.sent(u64::from(second));
                doubt.back(now, u64::from(second), false, true);
                doubt.note(now, false);
                asked.push(second);
            }
        }
        assert_eq!(asked, [360, 1_080, 2_520, 5_400]);
    }
}
