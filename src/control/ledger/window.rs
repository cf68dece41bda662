//! When does an announced window end? An interval that every answer narrows.
//!
//! An answer to a request sent at `u` and received at `now` says that `reset` seconds are left, at some moment between.
//! Whole seconds are rounded, mostly up: then the end lies in `[u + reset - 1, now + reset]`. Rounded down it would be a
//! second later, and no answer within the window can tell the two apart: the first window that should be over and is
//! not does.

/// How an API rounds the seconds that it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Whole seconds so far; up, as far as is known.
    Unknown,
    Up,
    Down,
    /// Not at all: fractions were seen.
    Exact,
}

/// The end of the present window: not before `lo`, not after `hi`, in seconds of the core's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) rounding: Rounding,
}

/// How an answer's interval fits the one that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It may be the same end.
    Same,
    /// It is a later one.
    Later,
}

/// Ends closer than this are one: clocks drift, answers are computed a moment before they are sent.
const SLOP: f64 = 0.1;

impl Window {
    /// Nothing is known: over at any time.
    pub(super) fn unknown() -> Self {
        Self { lo: f64::NEG_INFINITY, hi: f64::NEG_INFINITY, rounding: Rounding::Unknown }
    }

    /// The interval that one answer tells.
    fn told(&mut self, sent_at: f64, now: f64, reset: f64) -> (f64, f64) {
        if self.rounding != Rounding::Exact && (reset - reset.round()).abs() > 1e-6 {
            self.rounding = Rounding::Exact;
        }
        match self.rounding {
            Rounding::Exact => (sent_at + reset, now + reset),
            Rounding::Unknown | Rounding::Up => (sent_at + reset - 1.0, now + reset),
            Rounding::Down => (sent_at + reset, now + reset + 1.0),
        }
    }

    /// Takes what an answer tells: narrows the interval, or moves to a later end.
    pub(super) fn hear(&mut self, sent_at: f64, now: f64, reset: f64) -> Fit {
        let (lo, hi) = self.told(sent_at, now, reset);
        let fit = if lo > self.hi + SLOP { Fit::Later } else { Fit::Same };
        let (narrow_lo, narrow_hi) = (self.lo.max(lo), self.hi.min(hi));
        (self.lo, self.hi) =
            if fit == Fit::Same && narrow_lo <= narrow_hi { (narrow_lo, narrow_hi) } else { (lo, hi) };
        fit
    }

    /// The next window has begun, as an answer to a request sent at `sent_at` shows: where does it end?
    pub(super) fn begin(&mut self, sent_at: f64, now: f64, reset: f64) {
        (self.lo, self.hi) = self.told(sent_at, now, reset);
    }

    /// A request that was sent when the window should have been over found it open: it ends a second later.
    pub(super) fn still_open(&mut self) {
        if matches!(self.rounding, Rounding::Unknown | Rounding::Up) {
            self.rounding = Rounding::Down;
            self.lo += 1.0;
            self.hi += 1.0;
        }
    }

    /// The window was over when it should have been.
    pub(super) fn over_in_time(&mut self) {
        if self.rounding == Rounding::Unknown {
            self.rounding = Rounding::Up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_narrow_the_end_down_to_a_round_trip() {
        // A window that ends at 60, told in whole seconds rounded up, at a pace that does not divide a second.
        let mut window = Window::unknown();
        for n in 0..200 {
            let at = 0.31 * f64::from(n) + 0.05;
            if at < 59.0 {
                window.hear(at - 0.03, at + 0.03, (60.0 - at).ceil());
            }
        }
        assert!(window.lo <= 60.0 && window.hi >= 60.0, "{window:?}");
        assert!(window.hi - window.lo < 0.12, "{window:?}");
    }

    #[test]
    fn fractions_are_believed() {
        let mut window = Window::unknown();
        assert_eq!(window.hear(1.0, 1.06, 28.97), Fit::Later);
        assert_eq!(window.rounding, Rounding::Exact);
        assert!(window.lo >= 29.9 && window.hi <= 30.1, "{window:?}");
        assert_eq!(window.hear(2.0, 2.06, 27.97), Fit::Same);
        assert_eq!(window.hear(31.0, 31.06, 29.0), Fit::Later);
    }

    #[test]
    fn a_window_rounded_down_is_found_out_when_it_should_be_over() {
        let mut window = Window::unknown();
        window.hear(0.0, 0.1, 59.0);
        window.still_open();
        assert!(window.lo <= 60.0 && window.hi >= 60.0, "{window:?}");
        window.hear(10.4, 10.5, 49.0);
        assert!(window.lo <= 60.0 && window.hi >= 60.0, "{window:?}");
    }
}
