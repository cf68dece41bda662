//! Does a window begin on a grid in time, or with its first request? What the time to its end is when it begins.
//!
//! Of a window that begins with its first request, the first that anyone sees of it is all of it. On a grid it is seen so
//! only by chance: of one of a minute, told in whole seconds, once in sixty. Where a new window is opened late, after a time in which
//! nothing was asked, there is no chance in it.

/// A window that was opened so long after the end of the one before, in seconds, shows what it is.
const LATE_SECONDS: f64 = 1.5;
/// What is told of a whole window is at most so much less than it.
const SLOP: f64 = 0.6;
/// Before a second window was seen, a first one this long, in seconds, is taken for a whole one by its number alone.
const LONG_SECONDS: f64 = 30.0;

/// What was seen of windows' beginnings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Anchor {
    /// Told by the answer to the very first request, if that was the first of its window.
    first: Option<f64>,
    /// Windows opened late that were whole, and that were not.
    whole: u32,
    cut: u32,
}

impl Anchor {
    /// The first answer of all: so many are spent, and so many seconds are left.
    pub(super) fn begin(&mut self, used: u32, reset: f64) {
        self.first = (used <= 1).then_some(reset);
    }

    /// A window of `seconds` was opened `late` seconds after the one before; `reset` are left.
    pub(super) fn opened(&mut self, late: f64, reset: f64, seconds: f64) {
        if late < LATE_SECONDS {
            return;
        }
        if reset >= seconds - SLOP {
            self.whole = self.whole.saturating_add(1);
        } else {
            self.cut = self.cut.saturating_add(1);
        }
    }

    /// Do windows begin with their first request? They last `seconds`, and at most `reset_max` was ever told; of so many
    /// windows the beginning was seen.
    pub(super) fn is_with_request(&self, seconds: f64, reset_max: f64, rollovers: u32) -> bool {
        if self.whole + self.cut > 0 {
            return self.whole > self.cut;
        }
        let is_whole = |first: f64| first >= seconds - SLOP && first >= reset_max - SLOP;
        self.first.is_some_and(|first| is_whole(first) && (rollovers > 0 || first >= LONG_SECONDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_whose_first_sight_is_whole_begins_with_its_request() {
        let mut anchor = Anchor::default();
        anchor.begin(1, 61.0);
        assert!(anchor.is_with_request(60.0, 61.0, 0));
        let mut grid = Anchor::default();
        grid.begin(1, 23.0);
        assert!(!grid.is_with_request(60.0, 60.0, 1));
        let mut late = Anchor::default();
        late.begin(40, 60.0);
        assert!(!late.is_with_request(60.0, 60.0, 1), "others opened it");
    }

    #[test]
    fn one_that_is_opened_late_leaves_nothing_to_chance() {
        let mut anchor = Anchor::default();
        anchor.begin(1, 60.0);
        anchor.opened(0.1, 60.0, 60.0);
        assert!(anchor.is_with_request(60.0, 60.0, 1));
        anchor.opened(12.0, 48.0, 60.0);
        assert!(!anchor.is_with_request(60.0, 60.0, 2));
        let mut whole = Anchor::default();
        whole.begin(7, 20.0);
        whole.opened(12.0, 60.0, 60.0);
        assert!(whole.is_with_request(60.0, 60.0, 1));
    }
}
